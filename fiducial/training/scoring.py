"""How an epoch is scored where points are labelled."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from fiducial import geometry
from fiducial.evaluation import metrics
from fiducial.training.objective import Objective
from fiducial.types import Batch, Instances


class PointErrors:
    """Scores labelled points: NME, by which the best epoch is chosen, and EPE."""

    metric = "nme"

    def __init__(self, truth: Instances) -> None:
        self.truth = truth
        self._predicted: list[tuple[Tensor, Tensor, Tensor]] = []

    def observe(self, objective: Objective, batch: Batch) -> None:
        keypoints = objective.detector.predict(batch.image)
        self._predicted.append((batch.row, keypoints.xy, batch.image_to_crop))

    def scores(self) -> dict[str, float]:
        rows, xy, matrix = (torch.cat(column) for column in zip(*self._predicted, strict=True))
        self._predicted.clear()
        return validation_scores(self.truth, rows.cpu().numpy(), xy, matrix)


def validation_scores(
    truth: Instances, rows: Int[np.ndarray, " b"], xy: Float[Tensor, "b k 2"], image_to_crop: Float[Tensor, "b 3 3"]
) -> dict[str, float]:
    """NME and EPE of crops' points `xy`, px of the crops, mapped back to their images."""
    back = geometry.transform(geometry.invert(image_to_crop.double()), xy.double()).cpu().numpy()
    some = truth.select(rows)
    size = some.image_size[some.image_row]
    found = metrics.measure(
        back, some.xy, some.labelled, box_xywh=some.box_xywh, image_size=size, skeleton=some.skeleton
    )
    return {"nme": found.nme, "epe": found.epe}
