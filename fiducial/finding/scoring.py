"""How well instances are found: boxes against the labelled ones, by COCO's rules."""

from __future__ import annotations

import numpy as np

from fiducial.evaluation.coco import Boxes
from fiducial.evaluation.found import boxes_of, matched, truth_of
from fiducial.geometry import Size
from fiducial.runtime.finder import placed
from fiducial.training.objective import Objective
from fiducial.types import Found, Instances, Scenes

SILENT = 0.01  # score below which a box is not looked at


class BoxErrors:
    """Scores an epoch: 1 - box AP, by which the best epoch is chosen, and the recall at IoU .5."""

    metric = "box_error"

    def __init__(self, truth: Instances, frames: Instances) -> None:
        self.truth, self.frames = truth_of(truth), frames
        self._found: list[tuple[np.ndarray, np.ndarray, Found]] = []

    def observe(self, objective: Objective, batch: Scenes) -> None:
        found = objective.detector.find(batch.image)
        host = Found(*(part.cpu().numpy() for part in (found.box_xywh, found.score, found.kind)))
        self._found.append((batch.row.cpu().numpy(), batch.image_to_crop.double().cpu().numpy(), host))

    def scores(self) -> dict[str, float]:
        boxes = self.boxes()
        self._found.clear()
        figures, _ = matched(self.truth, boxes)
        return {"box_error": 1 - figures["ap"], "box_ap": figures["ap"], "recall": figures["recall@0.5"]}

    def boxes(self) -> Boxes:
        """Gives all boxes that were observed."""
        parts = []
        for rows, maps, found in self._found:
            for i, row in enumerate(rows.tolist()):
                image_row = int(self.frames.image_row[row])
                size = Size(*self.frames.image_size[image_row].tolist())
                own = Found(found.box_xywh[i], found.score[i], found.kind[i])
                parts.append((image_row, placed(own, maps[i], size, SILENT)))
        return boxes_of(parts)


def best_threshold(truth: Instances, boxes: Boxes) -> tuple[float, float]:
    """Chooses the score from which on boxes count: where the harmonic mean of precision and recall at IoU .5 is highest,
    in the middle between the last box that counts and the next one. Gives it with that mean."""
    _, taken = matched(truth, boxes)
    judged = taken < 0
    real = ~judged & ~truth.ignored[np.maximum(taken, 0)]
    ignored = ~judged & ~real
    order = np.argsort(-boxes.score[~ignored], kind="stable")
    score, right = boxes.score[~ignored][order], real[~ignored][order]
    wantedness = int((~truth.ignored).sum())
    if len(score) == 0 or wantedness == 0:
        return 0.5, 0.0
    hits = np.cumsum(right)
    mean = 2 * hits / (np.arange(1, len(score) + 1) + wantedness)
    best = int(np.flatnonzero(mean == mean.max())[-1])
    below = float(score[best + 1]) if best + 1 < len(score) else 0.0
    return float(np.sqrt(score[best] * max(below, score[best] / 4))), float(mean[best])
