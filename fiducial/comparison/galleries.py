"""Pictures of a comparison: each method's worst, and those on which the methods disagree most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

import numpy as np

from fiducial.comparison.results import Comparison, Row, percent
from fiducial.geometry import Size
from fiducial.report import pictures
from fiducial.report.page import Gallery, Picture, instance_tile
from fiducial.types import Instances

WORST = 4  # pictures of each method
DISAGREEMENTS = 6
TILE = Size(224, 224)
COLUMNS = 4  # methods side by side
MOST_METHODS = 8
LEGEND = {"truth": pictures.TRUTH, "prediction": pictures.PREDICTION, "error": pictures.ERROR}


def worst_of_each(comparison: Comparison) -> Gallery:
    """The instances with the largest mean errors over the seeds of each method; drawn is what the first seed found."""
    shown = []
    for row in comparison.rows[:MOST_METHODS]:
        errors = row.scores.instance_nme.mean(0)
        for i in descending(errors)[:WORST]:
            figure = percent(errors[i]).replace(" ", "\u00a0")  # the sign stays beside its number
            caption = f"{row.name}: {_caption(comparison.instances, i)}, NME {figure}"
            shown.append(Picture(_tile(comparison.instances, row, i), caption, f"Truth and prediction: {caption}"))
    return Gallery("Worst of each method", shown, "The instances with the largest errors, method by method.", LEGEND)


def disagreements(comparison: Comparison) -> Gallery:
    """The instances whose errors differ most between the methods, all predictions side by side."""
    rows = comparison.rows[:MOST_METHODS]
    if len(rows) < 2:
        return Gallery("Where methods disagree", [])
    errors = np.array([row.scores.instance_nme.mean(0) for row in rows])  # [m, n]
    shown = []
    for i in descending(errors.max(0) - errors.min(0))[:DISAGREEMENTS]:
        tiles = [_tile(comparison.instances, row, i) for row in rows]
        captions = [f"{row.name}: {percent(own[i])}" for row, own in zip(rows, errors, strict=True)]
        sheet = pictures.contact_sheet(tiles, captions, min(len(rows), COLUMNS))
        caption = f"{_caption(comparison.instances, i)}: NME {', '.join(captions)}"
        shown.append(Picture(sheet, caption, f"Truth and each method's prediction: {caption}"))
    note = "The instances on which the methods' errors differ most. What the first seed of each found is drawn."
    return Gallery("Where methods disagree", shown, note, LEGEND, wide=True)


def descending(values: np.ndarray) -> Sequence[int]:
    """Rows of the largest values first; those that are NaN are left out."""
    measured = np.flatnonzero(~np.isnan(values))
    return measured[np.argsort(-values[measured], kind="stable")].tolist()


def _tile(instances: Instances, row: Row, i: int) -> np.ndarray:
    return instance_tile(instances, i, row.scores.predicted[0, i], TILE)


def _caption(instances: Instances, i: int) -> str:
    return (
        f"{PurePath(instances.images.name(int(instances.image_row[i]))).name}, annotation {instances.annotation_id[i]}"
    )
