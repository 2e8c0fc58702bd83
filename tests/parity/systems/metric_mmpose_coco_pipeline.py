"""Scoring, suppression and COCO AP in a row, as MMPose evaluates top-down predictions."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from parity.golden import Case, Config, Tolerance
from torch import Tensor

from fiducial.data.skeletons import COCO17
from fiducial.evaluation import coco, suppression
from fiducial.evaluation.coco_files import read_truth
from fiducial.reference import suppression as others

TOLERANCE = {"*.kept": Tolerance(), "*": Tolerance(absolute=1e-6)}
SIGMAS = np.array(COCO17.sigmas)
FIRST = 12  # detections whose scores the golden lists


def expected(case: Case) -> dict[str, Tensor]:
    """Each number of `expected.json`, as `SCORING|SUPPRESSION.figure`."""
    found = {}
    for mode, numbers in json.loads((case.folder / "expected.json").read_text()).items():
        values = {**numbers, "metrics": list(numbers["metrics"].values())}
        found |= {f"{mode}.{name}": torch.tensor(value, dtype=torch.float64) for name, value in values.items()}
    return found


def run(case: Case) -> dict[str, Tensor]:
    truth = read_truth(case.folder / "gt.json").instances
    images = predictions(case.folder / "preds.json")
    found = {}
    for mode in {name.rpartition(".")[0] for name in expected(case)}:
        scoring, _, suppressing = mode.partition("|")
        kept = [entry for entries in images for entry in best(entries, scoring, suppressing, case.config)]
        scores = np.array([score for _, _, score in kept])
        image_id = np.array([image for image, _, _ in kept])
        detections = coco.Detections(
            np.searchsorted(truth.image_id, image_id), np.array([xy for _, xy, _ in kept]), scores
        )
        figures = {
            "metrics": list(coco.average_precision(truth, detections, SIGMAS).values()),
            "kept": len(kept),
            "first_scores": [[image, score] for image, _, score in kept[:FIRST]],
            "score_sum": scores.sum(),
        }
        found |= {f"{mode}.{name}": torch.tensor(value, dtype=torch.float64) for name, value in figures.items()}
    return found


def predictions(path: Path) -> list[list[dict[str, Any]]]:
    """Entries by image, each id once: of an image's entries with one id the first stays."""
    entries = sorted(json.loads(path.read_text()), key=lambda entry: (entry["image_id"], entry["id"]))
    by_id = [next(same) for _, same in groupby(entries, key=lambda entry: (entry["image_id"], entry["id"]))]
    return [list(group) for _, group in groupby(by_id, key=lambda entry: entry["image_id"])]


def best(
    entries: list[dict[str, Any]], scoring: Any, suppressing: str, config: Config
) -> list[tuple[int, np.ndarray, float]]:
    """(image id, xy, score) of those of one image that are kept, in their order."""
    xy, point_score, box_score, sides = (
        np.array([entry[name] for entry in entries])
        for name in ("keypoints", "keypoint_scores", "bbox_score", "bbox_scale")
    )
    score = others.instance_scores(
        box_score, point_score, scoring, config.first("keypoint_score_thr", "vis_thr", "vis", default=0.2)
    )
    suppress = {
        "none": lambda *_: np.arange(len(xy)),
        "oks_nms": suppression.oks_nms,
        "soft_oks_nms": others.soft_oks_nms,
    }[suppressing]
    kept = suppress(xy, score, sides.prod(1), SIGMAS, config.first("nms_thr", "thr", default=0.9))
    return [(entries[row]["image_id"], xy[row], float(score[row])) for row in kept]
