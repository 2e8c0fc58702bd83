"""Several detections of one instance: scoring them and keeping the best (non-maximum suppression, NMS).

A detector of boxes often finds a person twice, and so do the points. Each function takes the n detections of one image
and returns the rows that are kept, best first; of equal scores the earlier row comes first. Numpy only."""

from __future__ import annotations

from typing import Literal

import numpy as np

from fiducial.errors import UserError
from fiducial.evaluation import coco

Scoring = Literal["bbox", "keypoint", "bbox_keypoint", "bbox_rle"]


def oks_with(
    row: int,
    others: np.ndarray,
    xy: np.ndarray,
    area: np.ndarray,
    sigmas: np.ndarray,
    counted: np.ndarray | None = None,
) -> np.ndarray:
    """OKS of one detection with others: `coco.oks` by the mean of both areas, over the points that count in both.

    xy [n, k, 2] px, area [n] px^2, sigmas [k], counted [n, k] bool (None: all do), others [m] rows -> [m]."""
    both = np.ones((len(others), xy.shape[1]), dtype=bool) if counted is None else counted[row] & counted[others]
    return coco.oks(xy[row] - xy[others], (area[row] + area[others]) / 2, sigmas, both)


def oks_nms(
    xy: np.ndarray,
    score: np.ndarray,
    area: np.ndarray,
    sigmas: np.ndarray,
    limit: float = 0.9,
    counted: np.ndarray | None = None,
) -> np.ndarray:
    """The best stays, all whose OKS with it is above `limit` go, and so on with those left. Shapes as in `oks_with`."""
    check(sigmas, xy, limit)
    left = by_score(score)
    kept = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        left = left[oks_with(best, left, xy, area, sigmas, counted) <= limit]
    return np.array(kept, dtype=np.int64)


def oks_nms_of_images(
    image_row: np.ndarray, xy: np.ndarray, score: np.ndarray, area: np.ndarray, sigmas: np.ndarray, limit: float = 0.9
) -> np.ndarray:
    """`oks_nms` of the detections of many images, image_row [n] -> rows that are kept, ascending."""
    order = np.argsort(image_row, kind="stable")
    starts = np.flatnonzero(np.diff(image_row[order], prepend=-1))
    kept = [
        rows[oks_nms(xy[rows], score[rows], area[rows], sigmas, limit)] for rows in np.split(order, starts) if len(rows)
    ]
    return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *kept]))


def by_score(score: np.ndarray) -> np.ndarray:
    return np.argsort(-np.asarray(score, dtype=np.float64), kind="stable")


def check(sigmas: np.ndarray, xy: np.ndarray, limit: float) -> None:
    if np.shape(sigmas) != xy.shape[1:2]:
        raise UserError(f"{np.size(sigmas)} sigmas for {xy.shape[1]} points: expected one sigma a point")
    if not 0 < limit <= 1:
        raise UserError(f"OKS limit {limit}: expected a share above 0 and up to 1")
