"""Images of a comparison: each method's worst, those on which methods disagree most, students beside their teacher."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fiducial.comparison.table import NME, Measure, Row
from fiducial.report import pictures
from fiducial.report.galleries import LEGEND, descending, farthest, instance_name, instance_tile
from fiducial.report.page import Gallery, Picture
from fiducial.types import Instances, Skeleton

WORST = 4  # images of each method
DISAGREEMENTS = 6
COLUMNS = 4  # methods side by side
MOST_METHODS = 8


def worst_of_each(rows: Sequence[Row], instances: Instances) -> Gallery:
    """Shows the instances with the largest mean errors over the seeds of each method; drawn is what the first seed
    found."""
    shown = []
    for row in rows[:MOST_METHODS]:
        errors = row.errors[NME.name].mean(0)
        for i in descending(errors)[:WORST].tolist():
            # The sign stays beside its number.
            assert row.predicted is not None
            found = row.predicted[0, i]
            caption = f"{row.name}: {instance_name(instances, i)}, NME {NME.text(errors[i])}\u00a0%"
            caption += farthest(instances, i, found)
            shown.append(Picture(instance_tile(instances, i, found), caption, f"Truth and prediction: {caption}"))
    return Gallery("Worst of each method", shown, "The instances with the largest errors, method by method.", LEGEND)


def disagreements(rows: Sequence[Row], instances: Instances) -> Gallery:
    """Shows the instances whose errors differ most between the methods, all predictions side by side."""
    rows = rows[:MOST_METHODS]
    if len(rows) < 2:
        return Gallery("Where methods disagree", [])
    errors = np.array([row.errors[NME.name].mean(0) for row in rows])  # [m, n]
    shown = []
    for i in descending(errors.max(0) - errors.min(0))[:DISAGREEMENTS].tolist():
        found = [row.predicted[0, i] for row in rows if row.predicted is not None]
        tiles = [instance_tile(instances, i, xy, numbered=False) for xy in found]
        captions = [f"{row.name}: {NME.text(error)} %" for row, error in zip(rows, errors[:, i], strict=True)]
        sheet = pictures.contact_sheet(tiles, captions, min(len(rows), COLUMNS))
        caption = f"{instance_name(instances, i)}: NME {', '.join(captions)}"
        shown.append(Picture(sheet, caption, f"Truth and each method's prediction: {caption}"))
    note = "The instances on which the methods' errors differ most. What the first seed of each found is drawn."
    return Gallery("Where methods disagree", shown, note, LEGEND, wide=True)


def side_by_side(
    rows: Sequence[Row], crops: np.ndarray, crop_rows: np.ndarray, count: int, skeleton: Skeleton, measure: Measure
) -> Gallery:
    """Shows crops [p, h, w, 3], of `crop_rows` [p] of all `count`: the points of the first seed of each row, unit, and
    how far they are off by `measure`."""
    sheets = []
    for i, crop_row in enumerate(crop_rows.tolist()):
        tiles, captions = [], []
        for row in rows:
            assert row.predicted is not None
            tiles.append(pictures.crop_with_points(crops[i], row.predicted[0, i], skeleton))
            px = row.errors.get(measure.name)
            captions.append(row.name if px is None else f"{row.name} {px[0, crop_row]:.2f}")
        sheet = pictures.contact_sheet(tiles, captions, min(COLUMNS, len(tiles)))
        sheets.append(Picture(sheet, f"Held-out crop {crop_row + 1} of {count}"))
    note = "The same point has the same colour; numbers are the distance to the teacher's points, px. Of each row the first seed."
    return Gallery("Points side by side", sheets, note, wide=True)
