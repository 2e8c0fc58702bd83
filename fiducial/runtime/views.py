"""A network that is asked about several views of each crop: its errors in them differ, and their mean is better."""

from __future__ import annotations

from typing import Any

import numpy as np

from fiducial import geometry
from fiducial.data import crops as cutting
from fiducial.runtime.foreign.network import METHOD as FOREIGN
from fiducial.types import Keypoints

BESIDE = 0.05  # of a crop's sides, that views of it differ from it by at most
TINY = 1e-12  # where nothing was found


class Views:
    """A network that gives the mean over `count` views of each crop, the crop itself and what lies a little beside it,
    and of its scores. The views are the same for every crop.

    Points are weighed by the scores of networks with a card of another project: of those it is known what they say."""

    def __init__(self, network: Any, count: int) -> None:
        self.network, self.count, self.card = network, count, network.card
        random, size = np.random.default_rng(0), self.card.spec.size
        whole = geometry.box_from_unit(np.array([0.5, 0.5, 1, 1]), size)
        self._boxes = np.array([whole, *(geometry.jitter_box(whole, BESIDE, random) for _ in range(count - 1))])

    def predict(self, crops: np.ndarray) -> Keypoints:
        """Finds the points in crops [n, h, w, 3] of the card's size."""
        if self.count == 1 or len(crops) == 0:
            found = self.network.predict(crops)
            return Keypoints(found.xy, found.score.clip(0))
        found = [self._of(crop) for crop in crops]
        xy, score = zip(*found, strict=True)
        return Keypoints(np.array(xy, np.float32), np.array(score, np.float32))

    def _of(self, crop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """xy [k, 2] px of the crop and score [k]."""
        cut, crop_to_view = cutting.cut(crop, self._boxes, self.card.spec.size, 1.0)
        points = self.network.predict(cut).mapped(geometry.invert(crop_to_view))
        score = points.score.clip(0)
        weight = score if self.card.spec.method == FOREIGN else np.ones_like(score)
        return (weight[..., None] * points.xy).sum(0) / np.maximum(weight.sum(0), TINY)[..., None], score.mean(0)
