"""`fiducial evaluate --predictions RESULTS.json TRUTH.json`: any tool's COCO results against the truth, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fiducial.data import checking
from fiducial.data.groups import Groups, groups_of
from fiducial.errors import UserError
from fiducial.evaluation import coco, floor, intervals, metrics, mistakes, suppression, videos
from fiducial.evaluation.coco_files import read_detections, read_truth
from fiducial.types import Findings, Instances

EXPLAINED_FROM = 0.1  # OKS of a detection and a truth whose points are held against each other, as in that work


def evaluate_results(
    results: Path,
    truth: Path,
    *,
    sigmas: Sequence[float] | None = None,
    category: str | None = None,
    use_area: bool = True,
    strict: bool = False,
    oks_nms: float | None = None,
    explain: bool = False,
    group: str | None = None,
) -> dict[str, Any]:
    """Measures AP and AR of a results file, and NME and its kin of those instances that can be paired; ready for JSON.

    Sigmas are those given, else the truth's (its field `sigmas`, or those of a skeleton that its points are known as);
    without any there is no AP. A detection is paired with the truth whose annotation its box was, where it says so; else
    where each is the only one of its image, or by OKS, best first, at 0.5 or more. Entries that can't be used are left
    out and listed in `problems`; they are errors where `strict`. What was assumed is in `notes`. `oks_nms` first leaves
    out detections whose OKS with a better one of their image is above it. `explain` says what kind of error each point is
    (`mistakes.py`). Where both files say who is who, `tracking` has figures of identities (`videos.py`)."""
    truth_findings, findings = Findings(str(truth)), Findings(str(results))
    labels = read_truth(truth, truth_findings, category, use_area)
    instances = labels.instances
    detections = read_detections(results, labels, findings)
    checking.refuse_if_strict(truth_findings, "the truth", strict)
    checking.refuse_if_strict(findings, "the results", strict)
    weights = _sigmas(sigmas, instances, truth_findings)
    if oks_nms is not None:
        detections = _without_repeats(detections, weights, oks_nms, findings)

    together = groups_of(instances, [truth], group)
    figures = figures_of(instances, detections, weights, labels.crowd_index, groups=together)
    if explain:
        if weights is not None:  # those of the user may be others than the truth's own
            instances = replace(instances, skeleton=instances.skeleton.with_sigmas(weights.tolist()))
        figures |= _explained(instances, detections, weights)
        truth_findings.note(*mistakes.notes(instances, crops=False, radius=False))
    if (told_apart := videos.figures_of(instances, detections, weights, findings)) is not None:
        figures["tracking"] = told_apart
    said = [*truth_findings.problems, *findings.problems]
    problems = [str(problem) for problem in said if not problem.is_note]
    return {
        "model": str(results),
        "data": str(truth),
        "split": truth.stem,
        **figures,
        "skipped": len(problems),
        "problems": problems,
        "notes": [str(problem) for problem in said if problem.is_note],
    }


def figures_of(
    instances: Instances,
    detections: coco.Detections,
    weights: np.ndarray | None,
    crowd_index: np.ndarray | None = None,
    *,
    groups: Groups,
) -> dict[str, Any]:
    """Measures AP and AR of detections by OKS sigmas, where there are some, and the distances of those that can be paired
    with the truth; ready for JSON. groups: by which they have intervals."""
    numbers: dict[str, float | None] = {}
    if weights is not None:
        numbers |= coco.average_precision(instances, detections, weights)
        numbers |= _crowding(crowd_index, instances, detections, weights)
    found, rows = _paired(instances, detections, weights)
    paired, xy = instances.select(rows), detections.xy[found]
    distances = metrics.measure_instances(xy, paired)
    if weights is None:
        drawn = intervals.as_json(paired, xy, groups)
    else:
        drawn = intervals.as_json(paired, xy, groups, whole=instances, detections=detections, sigmas=weights)
    return {
        "count": len(instances),
        "detections": len(detections.score),
        "paired": distances.count,
        "normalizer": distances.normalizer,
        "metrics": numbers | distances.numbers(),
        **drawn,
        "floor": floor.floor_of(paired).as_json(),
        "per_point": distances.per_point_rows(),
    }


def _explained(truth: Instances, detections: coco.Detections, weights: np.ndarray | None) -> dict[str, Any]:
    """Says what kinds of errors the points of paired detections are, and what they and whole instances that are too many
    or too few cost; ready for JSON."""
    found, rows = _paired(truth, detections, weights, EXPLAINED_FROM)

    def with_points(xy: np.ndarray) -> coco.Detections:
        moved = detections.xy.copy()
        moved[found] = xy
        return replace(detections, xy=moved)

    def measured(xy: np.ndarray) -> dict[str, float | None]:
        points = metrics.measure_instances(xy, truth.select(rows)).numbers()
        return points if weights is None else points | coco.average_precision(truth, with_points(xy), weights)

    xy = detections.xy[found]
    judged = mistakes.classified(xy, rows, truth)
    errors = mistakes.as_json(judged, truth, xy, measured)
    lone = np.setdiff1d(np.flatnonzero(~truth.ignored), rows)
    whole: dict[str, Any] = {
        "paired": len(found),
        "extra_detections": len(detections.score) - len(found),
        "not_found": len(lone),
    }
    if weights is not None:
        before = measured(xy)["ap"]
        fewer = replace(truth, ignored=truth.ignored | np.isin(np.arange(len(truth)), lone))
        for name, after in (
            ("extra_detections", coco.average_precision(truth, detections.select(np.sort(found)), weights)),
            ("not_found", coco.average_precision(fewer, detections, weights)),
        ):
            whole[f"{name}_ap_worth"] = after["ap"] - before if before is not None else None
    return {"errors": {**errors, "instances": whole}}


def _sigmas(given: Sequence[float] | None, truth: Instances, findings: Findings) -> np.ndarray | None:
    skeleton = truth.skeleton if given is None else truth.skeleton.with_sigmas(given)
    if skeleton.sigmas is None:
        findings.note(metrics.no_sigmas(skeleton))
        return None
    return np.array(skeleton.sigmas, dtype=np.float64)


def _without_repeats(
    detections: coco.Detections, sigmas: np.ndarray | None, limit: float, findings: Findings
) -> coco.Detections:
    """The detections that OKS-NMS keeps, in the order in which they were given."""
    if sigmas is None:
        raise UserError(f"--oks-nms needs sigmas, and there are none for these points. {metrics.HOW_TO_GIVE_SIGMAS}")
    area = coco.extent(detections.xy)  # a results file has no areas
    rows = suppression.oks_nms_of_images(detections.image_row, detections.xy, detections.score, area, sigmas, limit)
    findings.note(
        f"{len(detections.score) - len(rows)} of {len(detections.score)} detections left out by OKS-NMS at {limit:g}"
    )
    return detections.select(rows)


def _crowding(
    crowd_index: np.ndarray | None, truth: Instances, detections: coco.Detections, sigmas: np.ndarray
) -> dict[str, float]:
    """CrowdPose's AP of easy, medium and hard images, where each image has a `crowdIndex`."""
    if crowd_index is None:
        return {}
    hard = crowd_index >= 0.8
    levels = {"easy": crowd_index < 0.2, "medium": (crowd_index >= 0.2) & ~hard, "hard": hard}
    return {
        f"ap_crowd_{name}": coco.average_precision(*coco.of_images(truth, detections, kept), sigmas)["ap"]
        for name, kept in levels.items()
    }


def _paired(
    truth: Instances, detections: coco.Detections, sigmas: np.ndarray | None, least_oks: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of detections and of truths that belong together, without crowds and instances without points."""
    images = len(truth.image_id)
    told = np.full(len(detections.score), -1) if detections.truth_row is None else detections.truth_row
    first = np.unique(told, return_index=True)[1]  # of repeats of one annotation the first
    found = first[told[first] >= 0]
    usable = ~truth.crowd & truth.labelled.any(1)
    open_truth, open_detection = usable.copy(), told < 0
    open_truth[told[found]] = False
    found = found[usable[told[found]]]
    rows = told[found]

    alone = (np.bincount(truth.image_row, minlength=images) == 1) & (
        np.bincount(detections.image_row, minlength=images) == 1
    )
    detection_of = np.zeros(images, dtype=np.int64)
    detection_of[detections.image_row] = np.arange(len(detections.score))
    more = np.flatnonzero(open_truth & alone[truth.image_row])
    more = more[open_detection[detection_of[truth.image_row[more]]]]
    found, rows = np.concatenate([found, detection_of[truth.image_row[more]]]), np.concatenate([rows, more])
    if sigmas is not None:
        pairs = coco.similarities(truth, detections, sigmas)
        apart = open_truth[pairs.truth] & open_detection[pairs.detection] & ~alone[truth.image_row[pairs.truth]]
        more_found, more_rows = coco.pair_up(coco.Pairs(*(column[apart] for column in pairs)), least_oks=least_oks)
        found, rows = np.concatenate([found, more_found]), np.concatenate([rows, more_rows])
    return found, rows
