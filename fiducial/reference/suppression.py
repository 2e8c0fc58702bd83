"""Scores of instances and ways to suppress repeats that other projects have; ours is `evaluation/suppression.oks_nms`.

Each function takes the n detections of one image and returns the rows that are kept, best first; of equal scores the
earlier row comes first. Numpy only."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from fiducial.errors import UserError
from fiducial.evaluation import coco
from fiducial.evaluation.suppression import by_score, check, oks_with

Scoring = Literal["bbox", "keypoint", "bbox_keypoint", "bbox_rle"]


def instance_scores(
    box_score: np.ndarray, point_score: np.ndarray, scoring: Scoring = "bbox_keypoint", least_point_score: float = 0.2
) -> np.ndarray:
    """Scores instances, from its box's [n] and its points' [n, k] -> [n].

    `bbox`: the box's; `keypoint`: mean of the points'; `bbox_keypoint`: box times the mean of the points' scores above
    `least_point_score`, 0 where there are none (SimpleBaseline); `bbox_rle`: box plus mean plus highest of the points',
    no share (residual log-likelihood)."""
    if scoring == "bbox":
        return box_score
    if scoring == "keypoint":
        return point_score.mean(1)
    if scoring == "bbox_rle":
        return box_score + point_score.mean(1) + point_score.max(1)
    if scoring != "bbox_keypoint":
        raise UserError(f"scoring {scoring!r}: expected one of {', '.join(get_args(Scoring))}")
    sure = point_score > least_point_score
    return box_score * np.where(sure, point_score, 0.0).sum(1) / np.maximum(sure.sum(1), 1)


def soft_oks_nms(
    xy: np.ndarray,
    score: np.ndarray,
    area: np.ndarray,
    sigmas: np.ndarray,
    width: float = 0.9,
    most: int = coco.MAX_DETECTIONS,
    counted: np.ndarray | None = None,
) -> np.ndarray:
    """Orders detections so that those alike come later, and drops none: after each pick the scores of the rest are
    multiplied by exp(-OKS^2 / width) (Soft-NMS: Bodla et al., ICCV 2017, eq. 5). At most `most` are kept. Scores are
    not returned: an order is what this gives."""
    check(sigmas, xy, width)
    left = by_score(score)
    weight = np.asarray(score, dtype=np.float64)[left]
    kept = []
    while len(left) and len(kept) < most:
        best, left = left[0], left[1:]
        kept.append(best)
        weight = weight[1:] * np.exp(-(oks_with(best, left, xy, area, sigmas, counted) ** 2) / width)
        order = by_score(weight)
        left, weight = left[order], weight[order]
    return np.array(kept, dtype=np.int64)


def nearby_points_nms(
    xy: np.ndarray, score: np.ndarray, share: float = 0.05, least_points: int | None = None
) -> np.ndarray:
    """Suppresses without sigmas: two detections are near where more than `least_points` (default: half, rounded down)
    of their points are closer than `share` of the diagonal of the first one's points. In order of score, the best of
    each such group stays and the group goes; where that one is gone already, nothing happens."""
    points = xy.shape[1]
    least_points = points // 2 if least_points is None else least_points
    score = np.asarray(score, dtype=np.float64)
    gone, kept = np.zeros(len(xy), dtype=bool), []
    for row in by_score(score):
        if gone[row]:
            continue
        reach = share * np.linalg.norm(np.ptp(xy[row], axis=0))
        near = (np.linalg.norm(xy[row] - xy, axis=-1) < reach).sum(1) > least_points
        group = np.flatnonzero(near)
        best = group[np.argmax(score[group])] if len(group) else row
        if not gone[best]:
            kept.append(best)
            gone |= near
    return np.array(kept, dtype=np.int64)


def box_nms(corners: np.ndarray, score: np.ndarray, limit: float = 0.5, whole_px: bool = False) -> np.ndarray:
    """Suppresses boxes whose intersection over union with a better one is above `limit`.

    corners [n, 4]: x_min, y_min, x_max, y_max. With `whole_px` these are the first and the last px of a box, so that
    its sides are one longer than their difference, as old detection code has it."""
    low, high = np.split(np.asarray(corners, dtype=np.float64), 2, axis=1)
    more = 1.0 if whole_px else 0.0
    area = (high - low + more).prod(1)
    left = by_score(score)
    kept = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        sides = np.minimum(high[best], high[left]) - np.maximum(low[best], low[left]) + more
        common = np.maximum(sides, 0).prod(1)
        # Compared without a division: boxes of no area at all have no ratio.
        left = left[common <= limit * (area[best] + area[left] - common)]
    return np.array(kept, dtype=np.int64)
