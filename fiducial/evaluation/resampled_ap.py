"""COCO's AP and AR of images that are drawn again and again: matched once, accumulated for each draw.

Which detection finds which instance is decided image by image, so that a draw changes only how often each counts. Drawn
once each, the numbers are those of `coco.average_precision` (tests/evaluation/test_intervals.py). Of instances of all
sizes. Numpy only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from fiducial.evaluation import coco
from fiducial.evaluation.coco import ALL, NUMBERS, RECALLS, THRESHOLDS, Detections
from fiducial.types import Instances


@dataclass(frozen=True)
class Outcomes:
    """What became of the d detections that count, the best score first, at each threshold of OKS."""

    image_row: np.ndarray  # [d]
    right: np.ndarray  # [thresholds, d] bool
    wrong: np.ndarray  # [thresholds, d] bool; neither: it counts for nothing
    wanted: np.ndarray  # [m] instances to find on each image


def outcomes(truth: Instances, detections: Detections, sigmas: np.ndarray) -> Outcomes:
    """Matches by COCO's rules."""
    order, _ = coco.best_of_each_image(truth, detections)
    match = coco.matching(truth, detections, order, coco.similarities(truth, detections, sigmas, order))
    first = np.argsort(-detections.score[order], kind="stable")
    taken = np.array([coco.matched_at(match, len(order), threshold)[first] for threshold in THRESHOLDS])
    ignored = np.append(truth.ignored, False)[taken]  # -1, of none, is the last
    wanted = np.bincount(truth.image_row[~truth.ignored], minlength=len(truth.image_id))
    return Outcomes(detections.image_row[order][first], (taken >= 0) & ~ignored, taken < 0, wanted)


def average_precision(found: Outcomes, drawn: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """The numbers [r] of `coco.average_precision`, but those of single sizes, for each of r draws, given as blocks [b, m] of
    how often each image is drawn; NaN where a draw has no instance to find."""
    blocks = [_curves(found, times) for times in drawn]
    precision, recall = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return {
        kind + name: table[:, threshold].mean(1) if threshold == ALL else table[:, threshold]
        for kind, table in (("ap", precision), ("ar", recall))
        for name, (threshold, area) in NUMBERS.items()
        if area == 0
    }


def _curves(found: Outcomes, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean precision over the recalls, and the recall reached: [b, thresholds] each."""
    shape = (len(drawn), len(THRESHOLDS))
    precision, recall = np.full(shape, np.nan), np.full(shape, np.nan)
    wanted = drawn @ found.wanted  # [b]
    for place, (right, wrong) in enumerate(zip(found.right, found.wrong, strict=True)):
        hits, misses = np.flatnonzero(right), np.flatnonzero(wrong)
        misses_before = np.searchsorted(misses, hits)  # of each hit
        image_of_hit, image_of_miss = found.image_row[hits], found.image_row[misses]
        for row in np.flatnonzero(wanted):
            # Precision is highest at the last of those found right before the next that is wrong, so hits alone decide.
            true = np.cumsum(drawn[row, image_of_hit])
            false = np.concatenate([[0], np.cumsum(drawn[row, image_of_miss])])[misses_before]
            best = np.maximum.accumulate((true / np.maximum(true + false, 1))[::-1])[::-1]
            at = np.searchsorted(true / wanted[row], RECALLS, side="left")
            precision[row, place] = np.append(best, 0.0)[np.minimum(at, len(best))].mean()
            recall[row, place] = true[-1] / wanted[row] if len(true) else 0.0
    return precision, recall
