"""A model with a finder on whole images: what is found, missed and false, and what AP is left of that in true boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fiducial import geometry
from fiducial.data import crops
from fiducial.errors import Interrupted, UserError
from fiducial.evaluation import coco
from fiducial.evaluation.coco import MAX_DETECTIONS, Boxes, Detections
from fiducial.progress import progress
from fiducial.runtime.finder import Finder, kinds_of
from fiducial.runtime.runtime import Network
from fiducial.types import Found, Instances, Keypoints

UNSURE = 0.05  # score from which on boxes are looked into for AP, which also counts those that nobody would show
USUAL_SIGMA = 0.05  # of points without sigmas: about the mean of COCO's
SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, np.inf)}  # px^2 of the box, COCO's

MEANINGS = {
    "ap": "COCO average precision of the points in found boxes",
    "ap_true_boxes": "the same in the labelled boxes",
    "box_ap": "COCO average precision of the boxes, IoU .50 to .95",
    "box_ap50": "the same at IoU .50",
    "recall@0.5": "share of the instances that are found, IoU .5",
    "precision@0.5": "share of the boxes that are on an instance, IoU .5",
    "false_per_image": "boxes on nothing, an image",
    "false_on_empty": "boxes in images without instances",
    "threshold": "score from which on a box counts, chosen on val",
}


def wanted(instances: Instances) -> np.ndarray:
    """Tells which instances are to be found, [n] bool: all with a box but crowds, labelled points or not."""
    return boxed(instances) & ~instances.crowd


def boxed(instances: Instances) -> np.ndarray:
    """Tells which instances have a box, [n] bool."""
    boxes = instances.box_xywh
    return np.asarray(np.isfinite(boxes).all(1) & (boxes[:, 2:] > 0).all(1))


def truth_of(instances: Instances) -> Instances:
    """Gives the instances as boxes are judged by: crowds alone are ignored, and what has no box."""
    return replace(instances, ignored=~wanted(instances))


def boxes_of(found: list[tuple[int, Found]]) -> Boxes:
    """Joins what was found on images, given with their rows."""
    rows = [np.full(len(each.score), row) for row, each in found]
    return Boxes(
        np.concatenate([np.empty(0, np.int64), *rows]).astype(np.int64),
        np.concatenate([np.empty((0, 4)), *(each.box_xywh for _, each in found)]),
        np.concatenate([np.empty(0), *(each.score for _, each in found)]),
        np.concatenate([np.empty(0, np.int64), *(each.kind for _, each in found)]).astype(np.int64),
    )


def matched(truth: Instances, boxes: Boxes) -> tuple[dict[str, float], np.ndarray]:
    """Matches boxes to the truth as `coco.box_matches` does, and those of a kind to its own alone. The figures are then means
    over the kinds that are there, as COCO's over categories."""
    if truth.kind is None or boxes.kind is None:
        return coco.box_matches(truth, boxes)
    taken, figures = np.full(len(boxes.score), -1), []
    for kind in np.unique(truth.kind):
        own, rows = np.flatnonzero(truth.kind == kind), np.flatnonzero(boxes.kind == kind)
        of_kind, at = coco.box_matches(truth.select(own), boxes.select(rows))
        taken[rows] = np.where(at < 0, -1, own[at])
        figures.append(of_kind)
    return {name: _mean([of_kind[name] for of_kind in figures]) for name in figures[0]}, taken


def _mean(values: Sequence[float]) -> float:
    """The mean of those that could be measured, -1 where none was."""
    known = [value for value in values if value >= 0]
    return float(np.mean(known)) if known else -1.0


def _ap(instances: Instances, detections: Detections, kind: np.ndarray | None, sigmas: np.ndarray) -> float:
    """AP of points; the mean over kinds where there are several."""
    if instances.kind is None or kind is None:
        return float(coco.average_precision(instances, detections, sigmas)["ap"])
    numbers = np.unique(instances.kind)
    each = [
        coco.average_precision(instances.select(instances.kind == k), detections.select(kind == k), sigmas)["ap"]
        for k in numbers
    ]
    return _mean(each)


def evaluate_found(
    network: Network, finder: Finder, instances: Instances, in_true_boxes: Keypoints, rows: np.ndarray
) -> dict[str, Any]:
    """Finds the instances of all images and their points; measures both. Ready for JSON.

    in_true_boxes: the points that the network gives in the labelled boxes of the instances `rows`. Where the skeleton has
    no sigmas, both APs take .05 for each point, which is said."""
    spec, found, points, problems = network.card.spec, [], [], []
    # Kinds are numbered as the data have them, which may name them in another order than the model.
    skeleton = spec.skeleton if instances.kind is None else instances.skeleton
    numbers = kinds_of(finder, skeleton)
    alone = (
        list(spec.skeleton.kinds).index(instances.skeleton.name)
        if instances.kind is None and instances.skeleton.name in spec.skeleton.kinds
        else None
    )
    with progress("find", len(instances.image_id), "images", bar=False) as advance:
        for row in range(len(instances.image_id)):
            try:
                image = instances.images.read(row)
            except Interrupted:
                raise
            except UserError as error:
                problems.append(str(error))
                continue
            seen = finder(image, min(UNSURE, finder.threshold))
            kind = seen.kind if numbers is None else numbers[seen.kind]
            some = np.flatnonzero((kind == alone) if alone is not None and numbers is not None else kind >= 0)[
                :MAX_DETECTIONS
            ]
            seen = Found(seen.box_xywh[some], seen.score[some], kind[some])
            cut, image_to_crop = crops.cut(image, seen.box_xywh, spec.size, spec.padding)
            points.append(network.predict(cut).mapped(geometry.invert(image_to_crop)))
            found.append((row, seen))
            advance(1)
    boxes, truth = boxes_of(found), truth_of(instances)
    if numbers is None:  # the finder's own numbers are not the data's
        boxes = replace(boxes, kind=None)
    sigmas = instances.skeleton.sigmas
    used = np.array(sigmas) if sigmas else np.full(len(instances.skeleton.points), USUAL_SIGMA)
    mine = Keypoints.joined(points) if points else replace(in_true_boxes.select(slice(0, 0)))
    if numbers is not None:
        mine = replace(mine, kind=boxes.kind, skeleton=skeleton)
    sure = boxes.score * mine.instance_score
    detections = Detections(boxes.image_row, mine.xy.astype(np.float64), sure)
    given = Detections.of(in_true_boxes, instances.select(rows))
    given_kind = None if instances.kind is None else instances.kind[rows][given.truth_row]
    ap = _ap(instances, detections, None if numbers is None else boxes.kind, used)
    ap_given = _ap(instances, given, given_kind, used)
    return {
        "ap": None if ap < 0 else ap,
        "ap_true_boxes": None if ap_given < 0 else ap_given,
        **({} if sigmas else {"sigmas": f"{USUAL_SIGMA} taken for all points, which have none"}),
        **scored(truth, boxes, finder.threshold),
        "images": len(found),
        **({"problems": problems} if problems else {}),
    }


def scored(truth: Instances, boxes: Boxes, threshold: float) -> dict[str, Any]:
    """Measures boxes: AP over IoU .5 to .95, and what is found and false at the threshold, IoU .5."""
    figures, _ = matched(truth, boxes)
    sure = boxes.score >= threshold
    some = boxes.select(sure)
    _, taken = matched(truth, some)
    false = taken < 0
    got = np.isin(np.arange(len(truth)), taken[~false])
    to_find = ~truth.ignored
    images = max(1, len(truth.image_id))
    empty = np.bincount(truth.image_row[to_find], minlength=len(truth.image_id)) == 0
    area = truth.box_xywh[:, 2:].astype(np.float64).prod(1)
    area_found = some.xywh[:, 2:].prod(1)
    by_size = {}
    for name, (low, high) in SIZES.items():
        own = to_find & (area >= low) & (area < high)
        missed = int((own & ~got).sum())
        wrong = int((false & (area_found >= low) & (area_found < high)).sum())
        by_size[name] = {"instances": int(own.sum()), "missed": missed, "false": wrong}
    right = int((got & to_find).sum())
    by_kind = {}
    for number, name in enumerate(truth.skeleton.kinds if truth.kind is not None and boxes.kind is not None else ()):
        own = to_find & (truth.kind == number)
        missed, wrong = int((own & ~got).sum()), int((false & (some.kind == number)).sum())
        by_kind[name] = {"instances": int(own.sum()), "missed": missed, "false": wrong}
    return {
        "box_ap": max(figures["ap"], 0.0),
        "box_ap50": max(figures["ap50"], 0.0),
        "recall@0.5": right / max(1, int(to_find.sum())),
        "precision@0.5": right / max(1, right + int(false.sum())),
        "false_per_image": float(false.sum() / images),
        "empty_images": int(empty.sum()),
        "false_on_empty": int((false & empty[some.image_row]).sum()),
        "by_size": by_size,
        **({"by_kind": by_kind} if by_kind else {}),
        "threshold": threshold,
    }


def lines(found: Mapping[str, Any]) -> list[str]:
    """Says it for people."""
    missed = ", ".join(
        f"{name} {size['missed']} of {size['instances']}"
        for name, size in found["by_size"].items()
        if size["instances"]
    )
    ap, given = found["ap"], found["ap_true_boxes"]
    points = (
        "" if ap is None or given is None else f"AP of the points {ap:.3f} in found boxes, {given:.3f} in true ones; "
    )
    return [
        f"found in whole images: {points}box AP {found['box_ap']:.3f}, recall {found['recall@0.5']:.3f} and "
        f"{found['false_per_image']:.3f} false an image at a score of {found['threshold']:.2f} and IoU .5"
        + (
            f", {found['false_on_empty']} false on {found['empty_images']} empty images"
            if found["empty_images"]
            else ""
        ),
        f"missed by size: {missed}",
        *(
            f"{name}: {kind['missed']} of {kind['instances']} missed, {kind['false']} false"
            for name, kind in found.get("by_kind", {}).items()
        ),
    ]
