"""COCO's AP and AR for keypoints, of any number of points and any sigmas, on columns instead of lists of dicts.

OKS is computed here; matching and accumulation are faster-coco-eval's C++ (https://github.com/MiXaiLL76/faster_coco_eval).
The rules are pycocotools' `COCOeval(iouType="keypoints")`, to the last digit (tests/evaluation/test_coco_ap.py), with
one difference: pycocotools takes an annotation whose id is 0 for "not matched" and so never counts it as found; here
instances are numbered by their rows, and ids don't matter."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from fiducial import geometry
from fiducial.errors import UserError
from fiducial.types import Instances, Keypoints

MAX_DETECTIONS = 20  # per image, the best by score
MAX_BOXES = 100  # the same of boxes
THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of OKS
RECALLS = np.linspace(0.0, 1.0, 101)
AREAS = np.array([[0, 1e5**2], [32**2, 96**2], [96**2, 1e5**2]])  # px^2, both ends belong: all, medium, large
ALL = slice(None)
NUMBERS = {"": (ALL, 0), "50": (0, 0), "75": (5, 0), "_medium": (ALL, 1), "_large": (ALL, 2)}  # (threshold, area)


@dataclass(frozen=True)
class Detections:
    """d detected instances, in the order in which they were given: it decides between equal scores."""

    image_row: np.ndarray  # [d] int64: row of the truth's image_id
    xy: np.ndarray  # [d, k, 2], px
    score: np.ndarray  # [d]
    truth_row: np.ndarray | None = None  # [d] the instance in whose box it was looked for; -1, None = not known
    track: np.ndarray | None = None  # [d] int64: who it is from frame to frame; -1, None = not known
    box_xywh: np.ndarray | None = None  # [d, 4] in which it was looked for, NaN where not known

    def select(self, rows: np.ndarray) -> Detections:
        """Gives some of the detections (indices or mask)."""
        columns = {name: column[rows] for name, column in vars(self).items() if column is not None}
        return Detections(**columns)

    @classmethod
    def of(cls, keypoints: Keypoints, truth: Instances) -> Detections:
        """Makes a detection of each instance of the truth but crowds, which nobody looks for as one; its score is the
        mean of its points' scores."""
        one = ~truth.crowd
        if truth.kind is not None:
            keypoints = replace(keypoints, kind=truth.kind, skeleton=truth.skeleton)
        xy, score = keypoints.xy.astype(np.float64), keypoints.instance_score
        return cls(truth.image_row[one], xy[one], score[one], np.flatnonzero(one))


Match = Callable[[np.ndarray, np.ndarray], dict[str, Any]]  # see `matching`


@dataclass(frozen=True)
class Boxes:
    """d boxes that were found."""

    image_row: np.ndarray  # [d] int64: row of the truth's image_id
    xywh: np.ndarray  # [d, 4] px, edge frame
    score: np.ndarray  # [d]
    kind: np.ndarray | None = None  # [d] number in the truth's `kinds`; None = all are of one

    def select(self, rows: np.ndarray) -> Boxes:
        """Gives some of the boxes (indices or mask)."""
        return Boxes(**{name: column[rows] for name, column in vars(self).items() if column is not None})


class Pairs(NamedTuple):
    """Every detection with every truth of its image: p of them, detections in the order given."""

    detection: np.ndarray  # [p] int64
    truth: np.ndarray  # [p] int64, ascending within a detection
    oks: np.ndarray  # [p]


def average_precision(truth: Instances, detections: Detections, sigmas: np.ndarray) -> dict[str, float]:
    """The ten numbers of a COCO keypoint evaluation, in 0..1, or -1 where there is no truth to find.

    AP: mean precision at 101 recalls and OKS 0.50 to 0.95; AR: mean recall at those OKS; per area also (medium is
    32^2..96^2 px). sigmas [k]: COCO's constant of each point."""
    precision, recall = curves(truth, detections, sigmas)
    return {
        kind + name: _mean(curve[threshold, ..., area])
        for kind, curve in (("ap", precision), ("ar", recall))
        for name, (threshold, area) in NUMBERS.items()
    }


def curves(truth: Instances, detections: Detections, sigmas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Precision [thresholds, recalls, areas], made monotone, and the recall reached [thresholds, areas]; -1 where there
    is no truth to find."""
    order, _ = best_of_each_image(truth, detections)
    found = matching(truth, detections, order, similarities(truth, detections, sigmas, order))(THRESHOLDS, AREAS)
    return np.asarray(found["precision"])[..., 0, :, 0], np.asarray(found["recall"])[:, 0, :, 0]


def box_matches(
    truth: Instances, found: Boxes, thresholds: np.ndarray = THRESHOLDS
) -> tuple[dict[str, float], np.ndarray]:
    """AP and AR of boxes by their IoU, as COCO has them, and the row of the truth that each box is matched to at the first
    threshold, [d]; -1: none. What a box covers of an ignored instance is measured by the box alone."""
    corners = geometry.box_to_corners(found.xywh.astype(np.float64)).reshape(-1, 2, 2)
    detections = Detections(found.image_row, corners, found.score)
    order, _ = best_of_each_image(truth, detections, MAX_BOXES)
    detection, other = of_same_image(found.image_row[order], truth.image_row, len(truth.image_id))
    one, two = found.xywh[order[detection]].astype(np.float64), truth.box_xywh[other].astype(np.float64)
    iou = geometry.box_iou(one, two)
    inside = iou / (1 + iou) * (one[:, 2:].prod(1) + two[:, 2:].prod(1)) / one[:, 2:].prod(1)
    pairs = Pairs(detection, other, np.where(truth.crowd[other], inside, iou))
    match = matching(truth, detections, order, pairs, MAX_BOXES)
    table = match(thresholds, AREAS[:1])
    precision, recall = np.asarray(table["precision"])[..., 0, 0, 0], np.asarray(table["recall"])[:, 0, 0, 0]
    figures = {"ap": _mean(precision), "ap50": _mean(precision[0]), "ar": _mean(recall), "recall@0.5": _mean(recall[0])}
    taken = np.full(len(found.score), -1)
    taken[order] = matched_at(match, len(order), float(thresholds[0]))
    return figures, taken


def matches(truth: Instances, detections: Detections, sigmas: np.ndarray, least_oks: float = 0.5) -> np.ndarray:
    """Row of the truth that each detection is matched to by COCO's rules, [d]; -1: none, or not among the image's best.

    In order of score each takes the best truth that is left; one that is matched to an ignored truth counts for
    nothing."""
    order, _ = best_of_each_image(truth, detections)
    pairs = similarities(truth, detections, sigmas, order)
    taken = np.full(len(detections.score), -1)
    taken[order] = matched_at(matching(truth, detections, order, pairs), len(order), least_oks)
    return taken


def matched_at(match: Match, count: int, least_oks: float) -> np.ndarray:
    """Row of the truth that each of `count` detections is matched to at one OKS, of any area; -1: none."""
    taken = np.full(count, -1)
    for name in match(np.array([least_oks]), AREAS[:1])["matched"]:
        detection, row = map(int, name.split("_"))
        taken[detection - 1] = row - 1
    return taken


def extent(xy: np.ndarray) -> np.ndarray:
    """Area, px^2, of the smallest upright box around all points: [n, k, 2] -> [n]. What COCO takes for a detection's."""
    return np.ptp(xy, axis=1).prod(1)


def of_images(truth: Instances, detections: Detections, kept: np.ndarray) -> tuple[Instances, Detections]:
    """Truth and detections on some of the images only: kept [m] bool."""
    return truth.select(kept[truth.image_row]), replace(detections.select(kept[detections.image_row]), truth_row=None)


def similarities(
    truth: Instances, detections: Detections, sigmas: np.ndarray, order: np.ndarray | None = None
) -> Pairs:
    """OKS of every detection with every truth of its image. `order` picks and orders detections; Pairs.detection
    then counts in it.

    The labelled points count (`oks`); where no point of the truth is labelled, all do, and d is their distance to the
    truth's box grown to three times its size."""
    sigmas = np.asarray(sigmas, dtype=np.float64)
    if sigmas.shape != truth.xy.shape[1:2]:
        raise UserError(f"{sigmas.size} sigmas for {truth.xy.shape[1]} points: expected one sigma a point")
    order = np.arange(len(detections.score)) if order is None else order
    detection, other = of_same_image(detections.image_row[order], truth.image_row, len(truth.image_id))
    values = np.empty(len(detection))
    for start in range(0, len(detection), 4096):  # blocks that stay in the cache
        block = slice(start, start + 4096)
        values[block] = _oks(detections.xy[order[detection[block]]], truth, other[block], sigmas)
    return Pairs(detection, other, values)


def pair_up(pairs: Pairs, least_oks: float) -> tuple[np.ndarray, np.ndarray]:
    """One detection for one truth, best OKS first: rows of detections and of truths. Pairs below `least_oks` are
    left apart. For figures in px, such as NME; AP goes by score instead."""
    used_detections, used_truths, kept = set(), set(), []
    likely = np.flatnonzero(pairs.oks >= least_oks)
    for row in likely[np.argsort(-pairs.oks[likely], kind="stable")]:
        detection, truth = int(pairs.detection[row]), int(pairs.truth[row])
        if detection not in used_detections and truth not in used_truths:
            used_detections.add(detection)
            used_truths.add(truth)
            kept.append(row)
    rows = np.sort(np.array(kept, dtype=np.int64))
    return pairs.detection[rows], pairs.truth[rows]


def oks(apart: np.ndarray, area: np.ndarray, sigmas: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Object keypoint similarity: mean over the points that count of exp(-d^2 / (2 area (2 sigma)^2)); 0 where none does.

    apart [p, k, 2] px, area [p] px^2, sigmas [k], counted [p, k] bool -> [p]."""
    squared = np.einsum("pkc,pkc->pk", apart, apart)
    exponent = squared / (2 * sigmas) ** 2 / (area + np.spacing(1))[:, None] / 2
    return (np.exp(-exponent) * counted).sum(1) / np.maximum(counted.sum(1), 1)


def _oks(xy: np.ndarray, truth: Instances, row: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """OKS of p detections xy [p, k, 2] with the truths of these rows [p] -> [p]."""
    counted = truth.labelled[row]
    apart = xy - truth.xy[row].astype(np.float64)
    (empty,) = np.nonzero(~counted.any(1))
    if len(empty):
        box = truth.box_xywh[row[empty], None].astype(np.float64)
        low, high = box[..., :2] - box[..., 2:], box[..., :2] + 2 * box[..., 2:]
        apart[empty] = np.maximum(low - xy[empty], 0) + np.maximum(xy[empty] - high, 0)
        counted[empty] = True
    return oks(apart, truth.area[row].astype(np.float64), sigmas, counted)


def best_of_each_image(
    truth: Instances, detections: Detections, most: int = MAX_DETECTIONS
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the detections that count, and their rank by score in their image, sorted by image id, then rank."""
    image_place = _places(truth.image_id)[detections.image_row]
    order = np.lexsort((-detections.score, image_place))
    image = image_place[order]
    rank = np.arange(len(order)) - np.searchsorted(image, image)
    return order[rank < most], rank[rank < most]


def _places(image_id: np.ndarray) -> np.ndarray:
    """[m] the place of each image by its id, numbers before text: equal scores are ranked in this order."""
    ids = image_id.tolist()
    order = sorted(range(len(ids)), key=lambda row: (isinstance(ids[row], str), ids[row]))
    places = np.empty(len(ids), np.int64)
    places[order] = np.arange(len(ids))
    return places


def of_same_image(left: np.ndarray, right: np.ndarray, images: int) -> tuple[np.ndarray, np.ndarray]:
    """All pairs (i, j) with left[i] == right[j], both being rows of images: sorted by i, then j."""
    by_image = np.argsort(right, kind="stable")
    first = np.searchsorted(right[by_image], np.arange(images + 1))
    count = np.diff(first)[left]
    i = np.repeat(np.arange(len(left)), count)
    within = np.arange(len(i)) - np.repeat(np.cumsum(count) - count, count)
    return i, by_image[first[left[i]] + within]


def matching(
    truth: Instances, detections: Detections, order: np.ndarray, pairs: Pairs, most: int = MAX_DETECTIONS
) -> Match:
    """Gives what matches and accumulates at some thresholds [t] and ranges of areas [a, 2]: faster-coco-eval's `precision`
    [thresholds, recalls, 1, areas, 1] and `recall` [thresholds, 1, areas, 1], for one category and one limit of
    detections; -1 where there is no truth to find. `matched` has a key "d_t" for each match at any threshold and area,
    both numbered as in `_dataset`."""
    library = _library()
    images, places = range(len(truth.image_id)), _places(truth.image_id)
    image_row = places[detections.image_row[order]]
    values = pairs.oks.tolist()
    rows = [values[start:stop] for start, stop in _bounds(pairs.detection, len(order))]
    # Of each image its detections' OKS, and none at all where it has no truth.
    tables = [[list(filter(None, rows[start:stop]))] for start, stop in _bounds(image_row, len(images))]
    wanted = _dataset(library, places[truth.image_row], area=truth.area, iscrowd=truth.crowd, ignore=truth.ignored)
    found = _dataset(library, image_row, area=extent(detections.xy[order]), score=detections.score[order])

    def match(thresholds: np.ndarray, areas: np.ndarray) -> dict[str, Any]:
        rules = SimpleNamespace(
            iouThrs=thresholds.tolist(),
            recThrs=RECALLS.tolist(),
            areaRng=areas.tolist(),
            maxDets=[most],
            imgIds=images,
            catIds=[0],
            useCats=True,
        )
        return library.COCOevalEvaluateAccumulate(rules, tables, wanted, found, images, [0], True)

    return match


def _dataset(library: Any, image_row: np.ndarray, **columns: np.ndarray) -> Any:
    """The C++'s table of instances, made of one dict each, numbered from 1: 0 means "not matched" there."""
    dataset = library.Dataset()
    names, numbers = ("id", *columns), range(1, len(image_row) + 1)
    for image, *values in zip(image_row.tolist(), numbers, *(c.tolist() for c in columns.values()), strict=True):
        dataset.append_ref(image, 0, dict(zip(names, values, strict=True)))
    return dataset


def _library() -> Any:
    """faster-coco-eval's C++ by itself: the package around it imports cv2 and much that nothing here needs."""
    name = "faster_coco_eval.faster_eval_api_cpp"
    package = find_spec("faster_coco_eval")
    spec = PathFinder.find_spec(name, package.submodule_search_locations) if package else None
    if name in sys.modules or spec is None or spec.loader is None:
        return import_module(name)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[name] = module  # as an import would
    return module


def _bounds(row: np.ndarray, count: int) -> list[tuple[int, int]]:
    """Where each of `count` rows begins and ends in an ascending column of row numbers."""
    return list(pairwise(np.searchsorted(row, np.arange(count + 1)).tolist()))


def _mean(table: Any) -> float:
    return float(table[table > -1].mean()) if (table > -1).any() else -1.0
