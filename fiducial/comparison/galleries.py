"""Pictures of a comparison: each method's worst, and those on which the methods disagree most."""

from __future__ import annotations

import numpy as np

from fiducial.comparison.results import Comparison, Row, percent
from fiducial.report import pictures
from fiducial.report.galleries import LEGEND, descending, instance_name, instance_tile
from fiducial.report.page import Gallery, Picture
from fiducial.types import Instances

WORST = 4  # pictures of each method
DISAGREEMENTS = 6
COLUMNS = 4  # methods side by side
MOST_METHODS = 8


def worst_of_each(comparison: Comparison) -> Gallery:
    """The instances with the largest mean errors over the seeds of each method; drawn is what the first seed found."""
    shown = []
    for row in comparison.rows[:MOST_METHODS]:
        errors = row.scores.instance_nme.mean(0)
        for i in descending(errors)[:WORST].tolist():
            figure = percent(errors[i]).replace(" ", "\u00a0")  # the sign stays beside its number
            caption = f"{row.name}: {instance_name(comparison.instances, i)}, NME {figure}"
            shown.append(Picture(_tile(comparison.instances, row, i), caption, f"Truth and prediction: {caption}"))
    return Gallery("Worst of each method", shown, "The instances with the largest errors, method by method.", LEGEND)


def disagreements(comparison: Comparison) -> Gallery:
    """The instances whose errors differ most between the methods, all predictions side by side."""
    rows = comparison.rows[:MOST_METHODS]
    if len(rows) < 2:
        return Gallery("Where methods disagree", [])
    errors = np.array([row.scores.instance_nme.mean(0) for row in rows])  # [m, n]
    shown = []
    for i in descending(errors.max(0) - errors.min(0))[:DISAGREEMENTS].tolist():
        tiles = [_tile(comparison.instances, row, i) for row in rows]
        captions = [f"{row.name}: {percent(own[i])}" for row, own in zip(rows, errors, strict=True)]
        sheet = pictures.contact_sheet(tiles, captions, min(len(rows), COLUMNS))
        caption = f"{instance_name(comparison.instances, i)}: NME {', '.join(captions)}"
        shown.append(Picture(sheet, caption, f"Truth and each method's prediction: {caption}"))
    note = "The instances on which the methods' errors differ most. What the first seed of each found is drawn."
    return Gallery("Where methods disagree", shown, note, LEGEND, wide=True)


def _tile(instances: Instances, row: Row, i: int) -> np.ndarray:
    return instance_tile(instances, i, row.scores.predicted[0, i])
