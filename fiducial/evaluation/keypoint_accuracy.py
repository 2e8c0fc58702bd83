"""Keypoint accuracy with true and false positives and negatives, from FastEstimator's HRNet tutorial.

On a grid of 64x64: where the truth has a point, a peak >= 0.5 within 3 cells of it is a true positive, a peak further
away a false positive, no peak a false negative; where it has none, a peak is a false positive and no peak a true
negative. Accuracy is (TP + TN) / all. Here it is of points with a score, which any method has; on heatmaps, exactly as
published, it is in `reference/keypoint_accuracy.py`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fiducial import geometry
from fiducial.geometry import Size

GRID = Size(64, 64)
PEAK = 0.5  # least score of a point that is there
RADIUS = 3.0  # cells; a point that far off is still right


@dataclass(frozen=True)
class Counts:
    """Counts true and false positives and negatives among points."""

    tp: int
    tn: int
    fp: int
    fn: int

    @classmethod
    def of(cls, rows: np.ndarray) -> Counts:
        """Sums rows [n, 4] of TP, TN, FP, FN."""
        return cls(*(int(value) for value in rows.sum(0)))

    @property
    def accuracy(self) -> float:
        """Computes (TP + TN) / all; many unlabelled points inflate it. NaN where there are no points."""
        total = self.tp + self.tn + self.fp + self.fn
        return (self.tp + self.tn) / total if total else math.nan


def of_points(
    predicted: np.ndarray, score: np.ndarray, truth: np.ndarray, labelled: np.ndarray, size: Size
) -> np.ndarray:
    """Counts points instance by instance: predicted and truth [n, k, 2] in px of a crop of `size`, score and labelled [n, k]
    -> [n, 4].

    Positions are compared as they are; the heatmap form cuts the truth to whole cells first."""
    apart = geometry.px_to_grid(predicted, size, GRID) - geometry.px_to_grid(truth, size, GRID)
    return count(labelled, score >= PEAK, np.linalg.norm(apart, axis=-1) <= RADIUS)


def count(there: np.ndarray, peak: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Counts TP, TN, FP, FN [n, 4] of points that are there in the truth, have a peak, and lie near: [n, k] bool each."""
    right = there & peak & near
    return np.stack([right.sum(1), (~there & ~peak).sum(1), (peak & ~right).sum(1), (there & ~peak).sum(1)], axis=1)
