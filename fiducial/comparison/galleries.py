"""Images of a comparison: each method's worst, those on which methods disagree most, students beside their teacher."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fiducial.comparison.results import NME, Comparison, Labelled, Row, Taught, percent
from fiducial.distill import DISTANCE
from fiducial.report import pictures
from fiducial.report.galleries import LEGEND, descending, instance_name, instance_tile
from fiducial.report.page import Gallery, Picture
from fiducial.types import Instances

WORST = 4  # images of each method
DISAGREEMENTS = 6
COLUMNS = 4  # methods side by side
MOST_METHODS = 8


def of(comparison: Comparison) -> list[Gallery]:
    """Makes the galleries of what was measured."""
    if comparison.labelled is not None:
        rows = comparison.rows[:MOST_METHODS]
        return [worst_of_each(rows, comparison.labelled), disagreements(rows, comparison.labelled)]
    return [] if comparison.taught is None else [beside_the_teacher(comparison.rows, comparison.taught)]


def worst_of_each(rows: Sequence[Row], labelled: Labelled) -> Gallery:
    """Shows the instances with the largest mean errors over the seeds of each method; drawn is what the first seed
    found."""
    shown = []
    for row in rows:
        errors = row.scores.errors[NME.name].mean(0)
        for i in descending(errors)[:WORST].tolist():
            figure = percent(errors[i]).replace(" ", "\u00a0")  # the sign stays beside its number
            caption = f"{row.name}: {instance_name(labelled.instances, i)}, NME {figure}"
            shown.append(Picture(_tile(labelled.instances, row, i), caption, f"Truth and prediction: {caption}"))
    return Gallery("Worst of each method", shown, "The instances with the largest errors, method by method.", LEGEND)


def disagreements(rows: Sequence[Row], labelled: Labelled) -> Gallery:
    """Shows the instances whose errors differ most between the methods, all predictions side by side."""
    if len(rows) < 2:
        return Gallery("Where methods disagree", [])
    errors = np.array([row.scores.errors[NME.name].mean(0) for row in rows])  # [m, n]
    shown = []
    for i in descending(errors.max(0) - errors.min(0))[:DISAGREEMENTS].tolist():
        tiles = [_tile(labelled.instances, row, i) for row in rows]
        captions = [f"{row.name}: {percent(error)}" for row, error in zip(rows, errors[:, i], strict=True)]
        sheet = pictures.contact_sheet(tiles, captions, min(len(rows), COLUMNS))
        caption = f"{instance_name(labelled.instances, i)}: NME {', '.join(captions)}"
        shown.append(Picture(sheet, caption, f"Truth and each method's prediction: {caption}"))
    note = "The instances on which the methods' errors differ most. What the first seed of each found is drawn."
    return Gallery("Where methods disagree", shown, note, LEGEND, wide=True)


def beside_the_teacher(rows: Sequence[Row], taught: Taught) -> Gallery:
    """Shows held-out crops: the teacher's points and those of the first seed of each row."""
    sheets = []
    for i, crop_row in enumerate(taught.shown_rows.tolist()):
        tiles, captions = [], []
        for row in [taught.teacher, *rows]:
            tiles.append(pictures.crop_with_points(taught.shown[i], row.scores.predicted[0, i], taught.skeleton))
            px = row.scores.errors.get(DISTANCE)
            captions.append(row.name if px is None else f"{row.name} {px[0, crop_row]:.2f}")
        sheet = pictures.contact_sheet(tiles, captions, min(COLUMNS, len(tiles)))
        sheets.append(Picture(sheet, f"Held-out crop {crop_row + 1} of {taught.count}"))
    note = "The same point has the same colour; numbers are the distance to the teacher's points, px. Of each row the first seed."
    return Gallery("Points side by side", sheets, note, wide=True)


def _tile(instances: Instances, row: Row, i: int) -> np.ndarray:
    return instance_tile(instances, i, row.scores.predicted[0, i])
