"""Keypoint accuracy of heatmaps, its target and its way of cutting, as in FastEstimator's tutorial."""

from __future__ import annotations

import numpy as np
import torch
from parity.golden import Case, Tolerance
from torch import Tensor

from fiducial.evaluation import keypoint_accuracy
from fiducial.geometry import Size
from fiducial.reference import keypoint_accuracy as on_heatmaps

TOLERANCE = {
    "counts*": Tolerance(),
    "kp_acc": Tolerance(absolute=1e-12),
    "gt": Tolerance(absolute=1e-6),
    "crop_keypoints": Tolerance(absolute=1e-5),
}


def run(case: Case) -> dict[str, Tensor]:
    given = {name: value.numpy() for name, value in case.given.items()}
    labelled = given["kpscore"] >= 1
    config = case.config
    sigma = config.first("sigma", default=1.0)
    reach = config.first("window", "kernel", default=5) // 2
    rows = on_heatmaps.of_heatmaps(
        given["pred"],
        given["gt_xy"],
        labelled,
        least_peak=config.first("threshold", "thr", "peak", default=keypoint_accuracy.PEAK),
        radius_cells=config.first("distance", "radius", "dist", default=keypoint_accuracy.RADIUS),
        sigma_cells=sigma,
        reach_cells=reach,
    )
    counts = keypoint_accuracy.Counts.of(rows)
    few = len(case.expected["gt"])
    target = on_heatmaps.mask(given["gt_xy"][:few], labelled[:few], Size(config["W"], config["H"]), sigma, reach)
    cut = [into_whole_box(points[:, :2], box) for points, box in zip(given["crop_kp"], given["crop_box"], strict=True)]
    return {
        "gt": torch.from_numpy(target),
        "counts": torch.tensor([counts.tp, counts.tn, counts.fp, counts.fn]),
        "counts_per_sample": torch.from_numpy(rows),
        "kp_acc": torch.tensor(counts.accuracy, dtype=torch.float64),
        "crop_keypoints": torch.from_numpy(np.stack(cut)),
    }


def into_whole_box(xy: np.ndarray, box_xywh: np.ndarray) -> np.ndarray:
    """Their crop's points: the box's numbers without fractions, points outside moved onto its border. Ours leaves points
    where they are, and cuts at fractions."""
    box = np.trunc(box_xywh)
    return np.clip(xy - box[:2], 0, box[2:] - 1)
