"""Keypoint accuracy with true and false positives and negatives, from FastEstimator's HRNet tutorial.

On 64x64 heatmaps: where the truth has a point, a peak >= 0.5 within 3 cells of it is a true positive, a peak further
away a false positive, no peak a false negative; where it has none, a peak is a false positive and no peak a true
negative. Accuracy is (TP + TN) / all. Two forms: on heatmaps, exactly as published, and on points with a score, which
any method has."""

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
    """True and false positives and negatives among points."""

    tp: int
    tn: int
    fp: int
    fn: int

    @classmethod
    def of(cls, rows: np.ndarray) -> Counts:
        """The sum of [n, 4] rows (TP, TN, FP, FN)."""
        return cls(*(int(value) for value in rows.sum(0)))

    @property
    def accuracy(self) -> float:
        """(TP + TN) / all; many unlabelled points inflate it. NaN where there are no points."""
        total = self.tp + self.tn + self.fp + self.fn
        return (self.tp + self.tn) / total if total else math.nan


def of_points(
    predicted: np.ndarray, score: np.ndarray, truth: np.ndarray, labelled: np.ndarray, size: Size
) -> np.ndarray:
    """Counts of points: predicted and truth [n, k, 2] in px of a crop of `size`, score and labelled [n, k] -> [n, 4].

    Positions are compared as they are; the heatmap form cuts the truth to whole cells first."""
    apart = geometry.px_to_grid(predicted, size, GRID) - geometry.px_to_grid(truth, size, GRID)
    return _count(labelled, score >= PEAK, np.linalg.norm(apart, axis=-1) <= RADIUS)


def of_heatmaps(maps: np.ndarray, xy_grid: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Counts of heatmaps: maps [n, k, h, w], truth xy_grid [n, k, 2] in cells, labelled [n, k] -> [n, 4].

    A prediction lies at the median row and column of all cells that hold the maximum; a truth at the centre of
    mass of its mask (`mask`), which a border pushes inwards; a truth outside the map is none."""
    target = mask(xy_grid, labelled, Size(maps.shape[3], maps.shape[2]))
    down, across = (np.arange(cells, dtype=np.float64) for cells in maps.shape[2:])
    there = target.max((2, 3)) == 1
    peak = maps.max((2, 3)) >= PEAK
    near = np.zeros(there.shape, dtype=bool)
    for i, j in np.argwhere(there & peak):
        rows, columns = np.nonzero(maps[i, j] == maps[i, j].max())
        # Single precision, as the reference: peaks at exactly 3 cells are common, and fall on its side by rounding.
        total = target[i, j].sum()
        dy = np.median(rows) - (target[i, j] * down[:, None]).sum() / total
        dx = np.median(columns) - (target[i, j] * across).sum() / total
        near[i, j] = math.hypot(dx, dy) <= RADIUS
    return _count(there, peak, near)


def mask(xy_grid: np.ndarray, labelled: np.ndarray, size: Size) -> np.ndarray:
    """The target: exp(-d^2 / 2) on the 5x5 cells around the position cut to whole cells, else 0. xy_grid [n, k, 2],
    labelled [n, k] -> [n, k, h, w] float32; zero for points that are not labelled."""
    across, down = _profile(xy_grid[..., 0], size.w), _profile(xy_grid[..., 1], size.h)
    product = down[..., :, None] * across[..., None, :] * labelled[..., None, None]
    return product.astype(np.float32)


def _profile(position: np.ndarray, cells: int) -> np.ndarray:
    """One axis of the mask, which is a product of two: [n, k] -> [n, k, cells]."""
    away = np.arange(cells) - np.trunc(position)[..., None]
    return np.where(np.abs(away) <= 2, np.exp(-(away**2) / 2), 0.0)


def _count(there: np.ndarray, peak: np.ndarray, near: np.ndarray) -> np.ndarray:
    """[n, k] bool each -> [n, 4]: TP, TN, FP, FN."""
    right = there & peak & near
    return np.stack([right.sum(1), (~there & ~peak).sum(1), (peak & ~right).sum(1), (there & ~peak).sum(1)], axis=1)
