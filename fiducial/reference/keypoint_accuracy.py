"""Keypoint accuracy on heatmaps, exactly as FastEstimator's HRNet tutorial publishes it; ours, on points with a score,
is `evaluation/keypoint_accuracy.of_points`."""

from __future__ import annotations

import math

import numpy as np

from fiducial.evaluation.keypoint_accuracy import PEAK, RADIUS, count
from fiducial.geometry import Size


def of_heatmaps(
    maps: np.ndarray,
    xy_grid: np.ndarray,
    labelled: np.ndarray,
    least_peak: float = PEAK,
    radius_cells: float = RADIUS,
    sigma_cells: float = 1.0,
    reach_cells: int = 2,
) -> np.ndarray:
    """Counts right and wrong peaks of heatmaps: maps [n, k, h, w], truth xy_grid [n, k, 2] in cells, labelled [n, k] ->
    [n, 4].

    A prediction lies at the median row and column of all cells that hold the maximum; a truth at the centre of
    mass of its mask (`mask`), which a border pushes inwards; a truth outside the map is none."""
    target = mask(xy_grid, labelled, Size(maps.shape[3], maps.shape[2]), sigma_cells, reach_cells)
    down, across = (np.arange(cells, dtype=np.float64) for cells in maps.shape[2:])
    there = target.max((2, 3)) == 1
    peak = maps.max((2, 3)) >= least_peak
    near = np.zeros(there.shape, dtype=bool)
    for i, j in np.argwhere(there & peak):
        rows, columns = np.nonzero(maps[i, j] == maps[i, j].max())
        # Single precision, as the reference: peaks at exactly 3 cells are common, and fall on its side by rounding.
        total = target[i, j].sum()
        dy = np.median(rows) - (target[i, j] * down[:, None]).sum() / total
        dx = np.median(columns) - (target[i, j] * across).sum() / total
        near[i, j] = math.hypot(dx, dy) <= radius_cells
    return count(there, peak, near)


def mask(
    xy_grid: np.ndarray, labelled: np.ndarray, size: Size, sigma_cells: float = 1.0, reach_cells: int = 2
) -> np.ndarray:
    """Draws the target: exp(-d^2 / (2 sigma^2)) on the cells that are up to `reach_cells` from the position cut to
    whole cells, else 0. xy_grid [n, k, 2], labelled [n, k] -> [n, k, h, w] float32; zero for points that are not
    labelled."""
    across, down = (_profile(xy_grid[..., axis], size[axis], sigma_cells, reach_cells) for axis in (0, 1))
    product = down[..., :, None] * across[..., None, :] * labelled[..., None, None]
    return product.astype(np.float32)


def _profile(position: np.ndarray, cells: int, sigma_cells: float, reach_cells: int) -> np.ndarray:
    """Computes one axis of the mask, which is a product of two: [n, k] -> [n, k, cells]."""
    away = np.arange(cells) - np.trunc(position)[..., None]
    return np.where(np.abs(away) <= reach_cells, np.exp(-(away**2) / (2 * sigma_cells**2)), 0.0)
