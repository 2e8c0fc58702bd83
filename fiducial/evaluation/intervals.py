"""Intervals of an evaluation's figures: the images are drawn anew in the groups that belong together (`bootstrap.py`).

All figures but AP are means of ratios of sums over instances, so that a draw is a product of matrices. AP and AR of single
sizes have none. Numpy only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fiducial.data.groups import Groups
from fiducial.data.series import FEWEST_SERIES
from fiducial.evaluation import bootstrap, metrics, resampled_ap
from fiducial.evaluation.coco import Detections
from fiducial.types import Instances, Keypoints

RESAMPLES, FEWEST_RESAMPLES = 1000, 200
WORK = 2_000_000  # instances in all resamples of AP, beyond which fewer are drawn

Sums = tuple[np.ndarray, np.ndarray]  # of each instance above and below the line, [n, c]; a figure is the mean over c


def of_instances(truth: Instances, keypoints: Keypoints, counts: np.ndarray | None, groups: Groups) -> dict[str, Any]:
    """Makes it of one prediction an instance, as `metrics.score` measures them."""
    sigmas, detections = truth.skeleton.sigmas, Detections.of(keypoints, truth)
    weights = None if sigmas is None else np.array(sigmas)
    return as_json(truth, keypoints.xy, groups, counts=counts, whole=truth, detections=detections, sigmas=weights)


def as_json(
    truth: Instances,
    xy: np.ndarray,
    groups: Groups,
    *,
    counts: np.ndarray | None = None,
    whole: Instances | None = None,
    detections: Detections | None = None,
    sigmas: np.ndarray | None = None,
) -> dict[str, Any]:
    """Makes what `--json` writes of intervals: `intervals`, figure -> [low, high], and `resampled`, what was drawn.

    truth, xy [n, k, 2]: instances and what was found of them, px of the images. counts [n, 4]: of keypoint accuracy. whole,
    detections, sigmas [k]: what AP is of. Nothing where all is of one group."""
    if groups.count < 2:
        return {}
    found: dict[str, np.ndarray] = {}
    sums = _sums(xy, truth, counts)
    above, below = (
        np.stack([np.bincount(groups.of(truth), column, groups.count) for column in np.hstack(parts).T], 1)
        for parts in zip(*sums.values(), strict=True)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = np.concatenate([drawn @ above / (drawn @ below) for drawn in bootstrap.draws(groups.count, RESAMPLES)])
    edges = np.cumsum([part.shape[1] for part, _ in sums.values()])[:-1]
    found |= {name: metrics.mean_over(own, axis=1) for name, own in zip(sums, np.split(ratios, edges, 1), strict=True)}
    resamples = RESAMPLES
    if whole is not None and detections is not None and sigmas is not None:
        resamples = int(np.clip(WORK / max(len(detections.score), 1), FEWEST_RESAMPLES, RESAMPLES))
        outcomes = resampled_ap.outcomes(whole, detections, sigmas)
        has_group = groups.of_image >= 0
        of_images = (
            np.where(has_group, drawn[:, groups.of_image], 1) for drawn in bootstrap.draws(groups.count, resamples)
        )
        found |= resampled_ap.average_precision(outcomes, of_images)
    intervals = {name: _ends(values) for name, values in found.items()}
    return {
        "intervals": {name: ends for name, ends in intervals.items() if ends is not None},
        "resampled": {
            "what": groups.what,
            "groups": groups.count,
            "resamples": RESAMPLES,
            **({"resamples_of_ap": resamples} if resamples != RESAMPLES else {}),
            "level": bootstrap.LEVEL,
        },
    }


def line(figures: Mapping[str, Any]) -> str:
    """Says what was drawn, in a sentence; "" where there are no intervals."""
    if "resampled" not in figures:
        return ""
    drawn = figures["resampled"]
    fewer = f" ({drawn['resamples_of_ap']} times for AP)" if "resamples_of_ap" in drawn else ""
    few = "; of so few groups they come out too narrow" if drawn["groups"] < FEWEST_SERIES else ""
    return (
        f"intervals of {100 * drawn['level']:.0f} %: {drawn['groups']} {drawn['what']}, drawn anew {drawn['resamples']} "
        f"times{fewer}{few}"
    )


def beside(figures: Mapping[str, Any]) -> dict[str, str]:
    """Words for each figure that has an interval."""
    return {name: f"({low:.4f} to {high:.4f})" for name, (low, high) in figures.get("intervals", {}).items()}


def _ends(values: np.ndarray) -> list[float] | None:
    """The interval of a figure; None where some draw has nothing to measure it on."""
    return [float(f"{end:.6g}") for end in bootstrap.interval(values)] if np.isfinite(values).all() else None


def _sums(xy: np.ndarray, truth: Instances, counts: np.ndarray | None) -> dict[str, Sums]:
    """What each figure of `metrics.measure` is the ratio of, instance by instance."""
    size = truth.image_size[truth.image_row]
    labelled = truth.labelled & ~truth.crowd[:, None]
    length = metrics.normalizer_px(truth.skeleton.normalizer, truth.xy, labelled, truth.box_xywh, size)
    labelled = labelled & (length > 0)[:, None]
    errors = metrics.point_errors(xy, truth.xy, labelled)
    to_box = metrics.normalized(errors, truth.box_xywh[:, 2:].max(1))
    nme = metrics.mean_of_instance(metrics.normalized(errors, length))
    known = ~np.isnan(to_box)
    result = {
        "nme": _of(nme[:, None]),
        "nmae": _of_points(metrics.coordinate_errors(xy, truth.xy, labelled, size)),
        "epe": _of_points(errors),
        "pck@0.05": (np.where(known, to_box < 0.05, 0.0), known.astype(float)),
        "pck@0.1": (np.where(known, to_box < 0.1, 0.0), known.astype(float)),
        "auc": _of(np.maximum(0.0, 1.0 - nme / metrics.LIMIT)[:, None]),
        "fr@0.1": _of(np.where(np.isnan(nme), math.nan, nme > metrics.LIMIT)[:, None]),
    }
    if counts is not None:
        result["kp_acc"] = (
            counts[:, :2].sum(1, keepdims=True).astype(float),
            counts.sum(1, keepdims=True).astype(float),
        )
    return result


def _of(values: np.ndarray) -> Sums:
    """Of values [n, c] whose mean over those that are not NaN is a figure."""
    return np.nan_to_num(values, posinf=math.inf), (~np.isnan(values)).astype(float)


def _of_points(values: np.ndarray) -> Sums:
    """Of values [n, k] whose mean over all that are not NaN is a figure."""
    above, below = _of(values)
    return above.sum(1, keepdims=True), below.sum(1, keepdims=True)
