"""COCO's AP and AR for keypoints, of any number of points, on columns instead of lists of dicts.

The rules are pycocotools' `COCOeval(iouType="keypoints")`, to the last digit (tests/evaluation/test_coco_ap.py), with
one difference: pycocotools takes an annotation whose id is 0 for "not matched" and so never counts it as found; here
matching goes by position, and ids don't matter.

Why this is not a call of faster-coco-eval: its evaluator wants one dict an annotation and nested lists of OKS, and
making those, with its own import, took longer than all of the work below (benchmarks/coco_eval.py). Detections are
visited rank by rank instead: the best of every image at once, then the second, and so on; within a rank all areas
and thresholds are matched in one go."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fiducial.errors import UserError
from fiducial.types import Instances, Keypoints

MAX_DETECTIONS = 20  # per image, the best by score
THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of OKS
RECALLS = np.linspace(0.0, 1.0, 101)
AREAS = np.array([[0, 1e5**2], [32**2, 96**2], [96**2, 1e5**2]])  # px^2, both ends belong: all, medium, large
BOX_TO_AREA = 0.53  # CrowdPose: an instance's area as a share of its box, where the data has no areas


@dataclass(frozen=True)
class Truth:
    """n labelled instances on m images, k points each, as columns. Double precision: AP is a matter of thresholds."""

    image_id: np.ndarray  # [m] int64, ascending: equal scores are ranked in this order
    image_row: np.ndarray  # [n] int64: row of image_id
    xy: np.ndarray  # [n, k, 2], px
    labelled: np.ndarray  # [n, k] bool
    box_xywh: np.ndarray  # [n, 4]
    area: np.ndarray  # [n], px^2
    crowd: np.ndarray  # [n] bool: many detections may be matched to it, none counts
    ignored: np.ndarray  # [n] bool: crowds and instances without points, which are neither found nor missed

    @classmethod
    def of(cls, instances: Instances) -> Truth:
        """The truth that `Instances` hold."""
        order = np.argsort(instances.image_id, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        return cls(
            image_id=instances.image_id[order],
            image_row=place[instances.image_row],
            xy=instances.xy.astype(np.float64),
            labelled=instances.labelled,
            box_xywh=instances.box_xywh.astype(np.float64),
            area=instances.area.astype(np.float64),
            crowd=instances.crowd,
            ignored=instances.crowd | ~instances.labelled.any(1),
        )


@dataclass(frozen=True)
class Detections:
    """d detected instances, in the order in which they were given: it decides between equal scores."""

    image_row: np.ndarray  # [d] int64: row of Truth.image_id
    xy: np.ndarray  # [d, k, 2], px
    score: np.ndarray  # [d]

    @classmethod
    def of(cls, keypoints: Keypoints, truth: Truth) -> Detections:
        """One detection for each instance of the truth, row by row; its score is the mean of its points' scores."""
        xy, score = keypoints.xy.astype(np.float64), keypoints.score.astype(np.float64).mean(1)
        return cls(truth.image_row, xy, score)


class Pairs(NamedTuple):
    """Every detection with every truth of its image: p of them, detections in the order given."""

    detection: np.ndarray  # [p] int64
    truth: np.ndarray  # [p] int64, ascending within a detection
    oks: np.ndarray  # [p]


def average_precision(truth: Truth, detections: Detections, sigmas: np.ndarray) -> dict[str, float]:
    """The ten numbers of a COCO keypoint evaluation, in 0..1, or -1 where there is no truth to find.

    AP: mean precision at 101 recalls and OKS 0.50 to 0.95; AR: mean recall at those OKS; per area also (medium is
    32^2..96^2 px). sigmas [k]: COCO's constant of each point."""
    order, rank = _best_of_each_image(detections)
    pairs = similarities(truth, detections, sigmas, order)
    ignored = truth.ignored | (truth.area < AREAS[:, :1]) | (truth.area > AREAS[:, 1:])  # [areas, n]
    found, void = _matches(truth, pairs, rank, ignored)

    xy = detections.xy[order]
    extent = (xy.max(1) - xy.min(1)).prod(1) if len(order) else np.zeros(0)
    outside = (extent < AREAS[:, :1]) | (extent > AREAS[:, 1:])
    void |= ~found & outside[:, None]  # a detection of another size that found nothing is not a mistake either

    by_score = np.lexsort((rank, detections.image_row[order], -detections.score[order]))
    precision = np.full((len(AREAS), len(THRESHOLDS), len(RECALLS)), -1.0)
    recall = np.full((len(AREAS), len(THRESHOLDS)), -1.0)
    for area, total in enumerate((~ignored).sum(1)):
        for threshold in range(len(THRESHOLDS) if total else 0):
            hits = found[area, threshold, by_score][~void[area, threshold, by_score]]
            precision[area, threshold], recall[area, threshold] = _precision_recall(hits, total)
    return {
        "ap": _mean(precision[0]),
        "ap50": _mean(precision[0, 0]),
        "ap75": _mean(precision[0, 5]),
        "ap_medium": _mean(precision[1]),
        "ap_large": _mean(precision[2]),
        "ar": _mean(recall[0]),
        "ar50": _mean(recall[0, 0]),
        "ar75": _mean(recall[0, 5]),
        "ar_medium": _mean(recall[1]),
        "ar_large": _mean(recall[2]),
    }


def of_images(truth: Truth, detections: Detections, kept: np.ndarray) -> tuple[Truth, Detections]:
    """Truth and detections on some of the images only: kept [m] bool."""
    new_row = np.cumsum(kept) - 1
    there, seen = kept[truth.image_row], kept[detections.image_row]
    columns = (truth.xy, truth.labelled, truth.box_xywh, truth.area, truth.crowd, truth.ignored)
    return (
        Truth(truth.image_id[kept], new_row[truth.image_row[there]], *(column[there] for column in columns)),
        Detections(new_row[detections.image_row[seen]], detections.xy[seen], detections.score[seen]),
    )


def similarities(truth: Truth, detections: Detections, sigmas: np.ndarray, order: np.ndarray | None = None) -> Pairs:
    """OKS of every detection with every truth of its image. `order` picks and orders detections; Pairs.detection
    then counts in it.

    OKS = mean over labelled points of exp(-d^2 / (2 area (2 sigma)^2)); where no point of the truth is labelled, all
    points count, and d is their distance to the truth's box grown to three times its size."""
    sigmas = np.asarray(sigmas, dtype=np.float64)
    if sigmas.shape != truth.xy.shape[1:2]:
        raise UserError(f"{sigmas.size} sigmas for {truth.xy.shape[1]} points: expected one sigma a point")
    order = np.arange(len(detections.score)) if order is None else order
    detection, other = _of_same_image(detections.image_row[order], truth.image_row, len(truth.image_id))
    oks = np.empty(len(detection))
    for start in range(0, len(detection), 4096):  # blocks that stay in the cache
        block = slice(start, start + 4096)
        oks[block] = _oks(detections.xy[order[detection[block]]], truth, other[block], (2 * sigmas) ** 2)
    return Pairs(detection, other, oks)


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


def _oks(xy: np.ndarray, truth: Truth, row: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """OKS of p detections xy [p, k, 2] with the truths of these rows [p] -> [p]."""
    counted = truth.labelled[row]
    apart = xy - truth.xy[row]
    (empty,) = np.nonzero(~counted.any(1))
    if len(empty):
        box = truth.box_xywh[row[empty], None]
        low, high = box[..., :2] - box[..., 2:], box[..., :2] + 2 * box[..., 2:]
        apart[empty] = np.maximum(low - xy[empty], 0) + np.maximum(xy[empty] - high, 0)
        counted[empty] = True
    squared = np.einsum("pkc,pkc->pk", apart, apart)
    exponent = squared / variance / (truth.area[row] + np.spacing(1))[:, None] / 2
    return (np.exp(-exponent) * counted).sum(1) / counted.sum(1)


def _best_of_each_image(detections: Detections) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the detections that count, and their rank by score in their image, sorted by rank, then image."""
    order = np.lexsort((-detections.score, detections.image_row))
    image = detections.image_row[order]
    rank = np.arange(len(order)) - np.searchsorted(image, image)
    order, rank = order[rank < MAX_DETECTIONS], rank[rank < MAX_DETECTIONS]
    by_rank = np.argsort(rank, kind="stable")
    return order[by_rank], rank[by_rank]


def _of_same_image(left: np.ndarray, right: np.ndarray, images: int) -> tuple[np.ndarray, np.ndarray]:
    """All pairs (i, j) with left[i] == right[j], both being rows of images: sorted by i, then j."""
    by_image = np.argsort(right, kind="stable")
    first = np.searchsorted(right[by_image], np.arange(images + 1))
    count = np.diff(first)[left]
    i = np.repeat(np.arange(len(left)), count)
    within = np.arange(len(i)) - np.repeat(np.cumsum(count) - count, count)
    return i, by_image[first[left[i]] + within]


def _matches(truth: Truth, pairs: Pairs, rank: np.ndarray, ignored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which detections found something, and which found something that is ignored: two [areas, thresholds, d] bool.

    Better detections choose first. Each takes, of the truths that are free and similar enough, the most similar that
    is not ignored, else the most similar that is; of equals the last in the file. Crowds stay free."""
    count = len(pairs.oks)
    shape = (len(ignored), len(THRESHOLDS), len(rank))
    found, void = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    if not count:
        return found, void
    # A whole number for each pair that says how much it is wanted, so that choosing is a maximum.
    by_wish = np.lexsort((pairs.truth, pairs.oks))
    wish = np.empty(count, dtype=np.int64)
    wish[by_wish] = np.arange(count)
    wishes = wish + count * ~ignored[:, pairs.truth]
    enough = pairs.oks >= np.minimum(THRESHOLDS, 1 - 1e-10)[:, None]

    free = np.ones((*shape[:2], len(truth.area)), dtype=bool)
    limits = np.searchsorted(rank[pairs.detection], np.arange(MAX_DETECTIONS + 1))
    for start, stop in pairwise(limits):
        if start == stop:
            continue
        detection, first = np.unique(pairs.detection[start:stop], return_index=True)
        possible = enough[:, start:stop] & free[:, :, pairs.truth[start:stop]]
        wanted = np.where(possible, wishes[:, None, start:stop], -1)
        best = np.maximum.reduceat(wanted, first, axis=-1)  # [areas, thresholds, detections of this rank]
        found[:, :, detection] = best >= 0
        void[:, :, detection] = (best >= 0) & (best < count)
        area, threshold, taker = np.nonzero(best >= 0)
        taken = pairs.truth[by_wish[best[area, threshold, taker] % count]]
        free[area, threshold, taken] = truth.crowd[taken]
    return found, void


def _precision_recall(hits: np.ndarray, total: int) -> tuple[np.ndarray, float]:
    """hits [d] bool by falling score -> precision at RECALLS, made monotone from the right, and the final recall."""
    if not len(hits):
        return np.zeros(len(RECALLS)), 0.0
    true = np.cumsum(hits)
    recall = true / total
    precision = true / (np.arange(1, len(hits) + 1) + np.spacing(1))
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)  # 0: a recall never reached
    return envelope[np.searchsorted(recall, RECALLS)], float(recall[-1])


def _mean(table: np.ndarray) -> float:
    return float(table[table > -1].mean()) if (table > -1).any() else -1.0
