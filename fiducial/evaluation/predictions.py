"""`fiducial evaluate --predictions RESULTS.json TRUTH.json`: any tool's COCO results against the truth, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fiducial.errors import UserError
from fiducial.evaluation import coco, metrics, suppression
from fiducial.evaluation.coco_files import Findings, TruthTable, read_detections, read_truth
from fiducial.types import Skeleton

HOW_TO_GIVE_SIGMAS = "Give one a point by --sigmas S,S,.. or in the category's field `sigmas`"


def evaluate_results(
    results: Path,
    truth: Path,
    *,
    sigmas: Sequence[float] | None = None,
    category: str | None = None,
    use_area: bool = True,
    strict: bool = False,
    oks_nms: float | None = None,
) -> dict[str, Any]:
    """AP and AR of a results file, and NME and its kin of those instances that can be paired; ready for JSON.

    Sigmas are those given, else the category's field `sigmas`, else COCO's for its 17 points; without any there is no
    AP. A truth and a detection are a pair where each is the only one of its image, or by OKS, best first, at 0.5 or
    more. Broken entries are skipped and listed in `problems`; they are errors where `strict`. `oks_nms` first leaves out
    detections whose OKS with a better one of their image is above it."""
    truth_findings, findings = Findings(truth, strict), Findings(results, strict)
    table = read_truth(truth_findings, category, use_area)
    detections = read_detections(findings, table)
    skeleton = _skeleton(table)
    weights = _sigmas(sigmas, table, skeleton, truth_findings)
    if oks_nms is not None:
        detections = _without_repeats(detections, weights, oks_nms, findings)

    numbers: dict[str, float | None] = {}
    if weights is not None:
        numbers |= coco.average_precision(table.truth, detections, weights)
        numbers |= _crowding(table, detections, weights)
    found, rows = _paired(table, detections, weights)
    distances = metrics.measure(
        detections.xy[found],
        table.truth.xy[rows],
        table.truth.labelled[rows],
        box_xywh=table.truth.box_xywh[rows],
        image_size=table.image_size[table.truth.image_row[rows]],
        skeleton=skeleton,
    )
    numbers |= distances.numbers()
    return {
        "model": str(results),
        "data": str(truth),
        "split": truth.stem,
        "count": len(table.truth.area),
        "detections": len(detections.score),
        "paired": distances.count,
        "normalizer": distances.normalizer,
        "metrics": numbers,
        "skipped": len(truth_findings.problems) + len(findings.problems),
        "problems": [str(problem) for problem in (*truth_findings.problems, *findings.problems)],
        "notes": [*truth_findings.notes, *findings.notes],
    }


def _skeleton(table: TruthTable) -> Skeleton:
    """A bundled one by the points' names, for its normaliser and sigmas, else one of these names."""
    from fiducial.data import skeletons

    named = None if table.category.keypoints is None else skeletons.match(table.points)
    return named or Skeleton(name=table.category.name or "points", points=table.points)


def _sigmas(
    given: Sequence[float] | None, table: TruthTable, skeleton: Skeleton, findings: Findings
) -> np.ndarray | None:
    from fiducial.data import skeletons

    count = len(table.points)
    values = given if given is not None else table.category.sigmas or skeleton.sigmas
    if values is None and count == 17:
        # COCO's evaluator does so for any 17 points, whatever their names.
        values = skeletons.COCO17.sigmas
        findings.note("its 17 points have other names than COCO's; COCO's sigmas are used all the same")
    if values is None:
        findings.note(f"no AP: no sigmas for its {count} points. {HOW_TO_GIVE_SIGMAS}")
        return None
    if len(values) != count or not all(np.isfinite(value) and value > 0 for value in values):
        source = "--sigmas" if given is not None else f"{findings.file}: category {table.category.name!r}"
        raise UserError(f"{source}: {len(values)} sigmas, expected {count} positive numbers. {HOW_TO_GIVE_SIGMAS}")
    return np.array(values, dtype=np.float64)


def _without_repeats(
    detections: coco.Detections, sigmas: np.ndarray | None, limit: float, findings: Findings
) -> coco.Detections:
    """The detections that OKS-NMS keeps, in the order in which they were given."""
    if sigmas is None:
        raise UserError(f"--oks-nms needs sigmas, and there are none for these points. {HOW_TO_GIVE_SIGMAS}")
    area = suppression.extent(detections.xy)  # a results file has no areas
    rows = suppression.oks_nms_of_images(detections.image_row, detections.xy, detections.score, area, sigmas, limit)
    findings.note(
        f"{len(detections.score) - len(rows)} of {len(detections.score)} detections left out by OKS-NMS at {limit:g}"
    )
    return coco.Detections(detections.image_row[rows], detections.xy[rows], detections.score[rows])


def _crowding(table: TruthTable, detections: coco.Detections, sigmas: np.ndarray) -> dict[str, float]:
    """CrowdPose's AP of easy, medium and hard images, where each image has a `crowdIndex`."""
    index = table.crowd_index
    if index is None:
        return {}
    levels = {"easy": index < 0.2, "medium": (index >= 0.2) & (index < 0.8), "hard": index >= 0.8}
    return {
        f"ap_crowd_{name}": coco.average_precision(*coco.of_images(table.truth, detections, kept), sigmas)["ap"]
        for name, kept in levels.items()
    }


def _paired(table: TruthTable, detections: coco.Detections, sigmas: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Rows of detections and of truths that belong together, without crowds and instances without points."""
    truth, images = table.truth, len(table.truth.image_id)
    usable = ~truth.ignored & truth.labelled.any(1)
    alone = (np.bincount(truth.image_row, minlength=images) == 1) & (
        np.bincount(detections.image_row, minlength=images) == 1
    )
    detection_of = np.zeros(images, dtype=np.int64)
    detection_of[detections.image_row] = np.arange(len(detections.score))
    rows = np.flatnonzero(usable & alone[truth.image_row])
    found = detection_of[truth.image_row[rows]]
    if sigmas is not None:
        pairs = coco.similarities(truth, detections, sigmas)
        apart = usable[pairs.truth] & ~alone[truth.image_row[pairs.truth]]
        more_found, more_rows = coco.pair_up(coco.Pairs(*(column[apart] for column in pairs)), least_oks=0.5)
        found, rows = np.concatenate([found, more_found]), np.concatenate([rows, more_rows])
    return found, rows
