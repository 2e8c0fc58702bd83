"""PCK, NME, EPE and AUC as MMPose has them; NMAE; FOMM's AKD and MKR."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from parity.golden import Case, Config, Tolerance
from torch import Tensor

from fiducial.evaluation import metrics
from fiducial.types import Normalizer

TOLERANCE = {
    "pck_bbox.*": Tolerance(absolute=1e-12),
    "pck_cnt": Tolerance(),
    "metric.*": Tolerance(absolute=1e-12),
    "epe": Tolerance(absolute=1e-5),  # px; its distances are single precision
    "akd*": Tolerance(absolute=1e-5),
    "*": Tolerance(absolute=1e-6),
}
TORSO = (4, 5)  # the points between which tPCK measures, where only the golden's README says it
ASPECT = 0.75  # height of the image to its width in `nmae_wh`, likewise


def run(case: Case) -> dict[str, Tensor]:
    given = {name: value.numpy() for name, value in case.given.items()}
    labelled = given["mask"] > 0
    errors = metrics.point_errors(given["pred"], given["gt"], labelled)
    found = shares(case.config, given, errors) | lengths(case.config, given, errors, labelled)
    found |= motion(given, labelled)
    size = case.config["size"]
    for name, sides in (("size", size), ("wh", np.array([size, case.config.first("aspect", default=ASPECT) * size]))):
        apart = metrics.coordinate_errors(given["pred"], given["gt"], labelled, sides)
        found[f"nmae_{name}"] = metrics.mean(apart)
    found["epe"] = metrics.mean(errors)
    return {name: torch.as_tensor(value, dtype=torch.float64) for name, value in found.items()}


def shares(config: Config, given: dict[str, np.ndarray], errors: np.ndarray) -> dict[str, Any]:
    """PCK by three lengths, and the area under it."""
    by_point = metrics.pck(metrics.normalized(errors, longest_sides(given["bbox"])), config["thr"])
    heads = metrics.pck(metrics.normalized(errors, given["head_size"]), config["pckh_thr"])
    torso = list(config.first("torso", default=TORSO))
    between, predicted = (np.linalg.norm(np.diff(given[of][:, torso], axis=1)[:, 0], axis=-1) for of in ("gt", "pred"))
    torsos = metrics.pck(metrics.normalized(errors, np.where(between < 1, predicted, between)), config["thr"])
    scaled = metrics.normalized(errors, np.full(len(errors), config["auc_norm"]))
    steps = np.arange(config["auc_n"]) / config["auc_n"]
    return {
        "pck_bbox.acc": np.nan_to_num(by_point, nan=-1),
        "pck_bbox.avg": metrics.mean(by_point),
        "pck_cnt": int((~np.isnan(by_point)).sum()),
        "metric.PCK": metrics.mean(by_point),
        "metric.PCKh": metrics.mean(heads),
        "metric.tPCK": metrics.mean(torsos),
        "auc": float(np.mean([metrics.mean(metrics.pck(scaled, step)) for step in steps])),
    }


def lengths(config: Config, given: dict[str, np.ndarray], errors: np.ndarray, labelled: np.ndarray) -> dict[str, Any]:
    """NME by three lengths, mean over points and not over instances."""
    eyes = Normalizer("points", "eyes", tuple(config["eyes"]))
    # The reference takes the eyes' distance whether they are labelled or not.
    between = metrics.normalizer_px(eyes, given["gt"], np.ones_like(labelled), given["bbox"], given["gt"][:, 0])
    by = {"bbox": longest_sides(given["bbox"]), "norm": given["norm"], "interocular": between}
    return {f"nme_{name}": metrics.mean(metrics.normalized(errors, length)) for name, length in by.items()}


def motion(given: dict[str, np.ndarray], labelled: np.ndarray) -> dict[str, Any]:
    """Mean over frames. The published script calls the mean of |dx| and |dy| a distance."""
    present = given["pred_present"] > 0
    by_coordinate = metrics.coordinate_errors(given["pred"], given["gt"], labelled & present)
    by_distance = metrics.point_errors(given["pred"], given["gt"], labelled & present)
    return {
        "akd_script": metrics.mean(metrics.mean_of_instance(by_coordinate)),
        "akd_l2": metrics.mean(metrics.mean_of_instance(by_distance)),
        "mkr": metrics.mean(metrics.mean_of_instance(np.where(labelled, ~present, np.nan))),
    }


def longest_sides(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] - boxes[:, :2]).max(1)
