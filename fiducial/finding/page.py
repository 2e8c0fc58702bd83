"""The page of a finder: figures, curves, and images with what was found, missed and found where nothing is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import geometry
from fiducial.errors import UserError
from fiducial.evaluation.coco import Boxes
from fiducial.evaluation.found import MEANINGS, matched, truth_of
from fiducial.geometry import Size
from fiducial.report import pictures
from fiducial.report.page import Gallery, Picture, metric_table, torch_device, write_page
from fiducial.report.run_page import page_of_run, read_run
from fiducial.types import Instances

SHOWN, WIDTH = 8, 480
FOUND, FALSE, MISSED = (70, 200, 90), (230, 70, 60), (250, 180, 40)


def write(
    out: Path,
    summary: Mapping[str, Any],
    instances: Instances,
    boxes: Boxes,
    problems: Sequence[str],
    notes: Sequence[str],
) -> None:
    """Writes OUT/report.html."""
    figures, run = summary["metrics"], read_run(out)
    rows = [(name, figures[name], text) for name, text in MEANINGS.items() if name in figures]
    page = page_of_run(
        run,
        title=f"finder of {instances.skeleton.name}: {out.parent.name}",
        metrics=metric_table(rows, "val", f"{summary['images']} images"),
        drawn=run.charts(("Box error on val", ["val/box_error"], "1 - AP of the boxes, IoU .50 to .95")),
        shown=[_gallery(instances, boxes, figures["threshold"])],
        data={"data": summary["data"], "split": "val", "images": summary["images"]},
        device=torch_device(),
        notes=notes,
        problems=problems,
    )
    write_page(out / "report.html", page)


def _gallery(instances: Instances, boxes: Boxes, threshold: float) -> Gallery:
    """The images with most faults first."""
    sure = boxes.score >= threshold
    found = boxes.select(sure)
    truth = truth_of(instances)
    _, taken = matched(truth, found)
    missed = ~truth.ignored & ~np.isin(np.arange(len(truth)), taken)
    count = len(truth.image_id)
    faults = np.bincount(found.image_row[taken < 0], minlength=count) + np.bincount(
        truth.image_row[missed], minlength=count
    )
    shown = []
    for row in np.argsort(-faults, kind="stable")[: 2 * SHOWN].tolist():
        try:
            image = instances.images.read(row)
        except UserError:
            continue
        marks = [(found.xywh[i], FALSE if taken[i] < 0 else FOUND) for i in np.flatnonzero(found.image_row == row)]
        marks += [(truth.box_xywh[i], MISSED) for i in np.flatnonzero(missed & (truth.image_row == row))]
        shown.append(Picture(drawn(image, marks), f"{Path(instances.images.name(row)).name}: {faults[row]} faults"))
        if len(shown) == SHOWN:
            break
    return Gallery(
        "Found",
        shown,
        "Most faults first.",
        {"found": FOUND, "nothing labelled there": FALSE, "labelled, not found": MISSED},
    )


def drawn(image: np.ndarray, marks: Sequence[tuple[np.ndarray, pictures.Colour]]) -> np.ndarray:
    """Draws boxes with their colours on a copy of the image, which is made small enough for a page."""
    size = Size(image.shape[1], image.shape[0])
    share = min(1.0, WIDTH / max(size))
    small = Size(max(1, round(size.w * share)), max(1, round(size.h * share)))
    matrix = geometry.resize(size, small)
    canvas = pictures.cut_out(image, matrix, small)
    for box, colour in marks:
        corners = geometry.transform(matrix, geometry.box_corners(box))
        canvas = pictures.draw_outline(canvas, corners, colour)
    return canvas
