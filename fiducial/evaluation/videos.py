"""Identities of a results file against those of the truth: figures of `identities.py`, and how calm and late the points of
each instance are over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeVar

import numpy as np

from fiducial import files, geometry
from fiducial.data.checking import BOX_MARGIN
from fiducial.data.series import numbered
from fiducial.errors import UserError
from fiducial.evaluation import coco, identities, steadiness
from fiducial.evaluation.identities import MATCHED, Sight
from fiducial.types import Findings, Instances

SHIFTS = np.arange(-100, 101) * 0.05  # lags that are tried, frames; from below 0, so that noise alone is no lag


def figures_of(
    truth: Instances, detections: coco.Detections, sigmas: np.ndarray | None, findings: Findings
) -> dict[str, Any] | None:
    """Measures identities, ready for JSON; None where truth or results have none.

    Images belong to a video by their names (`data/series.py`), in the order of the numbers in them. Instances are alike by
    OKS, without sigmas by the IoU of boxes: those that results have, else around their points. Detections without an identity
    count as not found; those on a crowd or on an instance without an identity count for nothing."""
    if truth.track is None or detections.track is None:
        return None
    videos, order = _videos([truth.images.name(row) for row in range(len(truth.images))])
    found = detections.select(detections.track >= 0)
    if lone := len(detections.score) - len(found.score):
        findings.note(f"{lone} detections have no track_id: they count as not found where identities are measured")
    counts = (truth.track >= 0) & ~truth.ignored
    found = found.select(~_on_others(truth, counts, found, sigmas))
    truth = truth.select(counts)
    truth = _each_once(replace(truth, track=_by_video(videos, truth)), findings)
    found = _each_once(replace(found, track=_by_video(videos, found)), findings)
    if truth.track is None or len(set(truth.track.tolist())) == len(truth):
        findings.note("identities are not measured: none of the truth's is in two images")
        return None
    pairs = _alike(truth, found, sigmas)
    try:
        measured = asdict(identities.measure(_sights(truth, found, pairs, order)))
    except UserError as error:  # scipy, which nothing else here needs
        findings.note(f"identities are not measured: {error}")
        return None
    values = {name: files.finite(value) if isinstance(value, float) else value for name, value in measured.items()}
    likeness = "box IoU" if sigmas is None else "OKS"
    return {**values, "similarity": likeness, **_over_time(truth, found, pairs, order)}


def line(figures: Mapping[str, Any]) -> str:
    """Says the figures in a sentence."""
    shown = {name: "-" if figures[name] is None else f"{figures[name]:.4f}" for name in ("hota", "idf1", "mota")}
    return (
        f"identities: HOTA {shown['hota']}, IDF1 {shown['idf1']}, MOTA {shown['mota']}, switches {figures['id_switches']}; "
        f"tracks {figures['tracks']} of {figures['truth_tracks']} instances in {figures['frames']} frames, alike by "
        f"{figures['similarity']}"
    )


def _alike(truth: Instances, found: coco.Detections, sigmas: np.ndarray | None) -> coco.Pairs:
    """Every detection with every truth of its image, and how alike they are."""
    if sigmas is not None:
        return coco.similarities(truth, found, sigmas)
    boxes = np.full((len(found.score), 4), np.nan) if found.box_xywh is None else found.box_xywh.copy()
    every = np.ones(found.xy.shape[1], bool)
    for row in np.flatnonzero(np.isnan(boxes).any(1)):
        boxes[row] = geometry.box_of_points(found.xy[row], every, BOX_MARGIN)
    detection, other = coco.of_same_image(found.image_row, truth.image_row, len(truth.image_id))
    return coco.Pairs(detection, other, geometry.box_iou(boxes[detection], truth.box_xywh[other]))


def _on_others(truth: Instances, counts: np.ndarray, found: coco.Detections, sigmas: np.ndarray | None) -> np.ndarray:
    """[d] bool: most alike to a truth that does not count."""
    best = np.zeros((2, len(found.score)))
    if not counts.all():
        pairs = _alike(truth, found, sigmas)
        np.maximum.at(best, (counts[pairs.truth].astype(np.int64), pairs.detection), pairs.oks)
    return (best[0] >= MATCHED) & (best[0] > best[1])


def _videos(names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The video of each image [m], and the images' rows by videos and by the frames in them."""
    parts = [numbered(name) for name in names]
    keys = [part.series or name.rpartition("/")[0] for part, name in zip(parts, names, strict=True)]
    first = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    video = np.array([first[key] for key in keys], np.int64)
    number = np.array([-1 if part.number is None else part.number for part in parts], np.float64)
    return video, np.lexsort((np.arange(len(names)), number, video))


T = TypeVar("T", Instances, coco.Detections)  # what has columns image_row and track


def _by_video(videos: np.ndarray, seen: Instances | coco.Detections) -> np.ndarray:
    """Identities numbered from 0 without gaps, nobody's of two videos."""
    assert seen.track is not None
    pairs = np.stack([videos[seen.image_row], seen.track], 1)
    return np.unique(pairs, axis=0, return_inverse=True)[1].ravel().astype(np.int64)


def _each_once(seen: T, findings: Findings) -> T:
    """Without those whose identity their image has already."""
    assert seen.track is not None
    first = np.unique(np.stack([seen.image_row, seen.track], 1), axis=0, return_index=True)[1]
    if more := len(seen.image_row) - len(first):
        findings.note(f"{more} instances have the identity of another one of their image: the first ones count")
    return seen.select(np.sort(first))


def _rows_of_images(image_row: np.ndarray, images: int) -> list[np.ndarray]:
    """The rows on each of the images, ascending."""
    order = np.argsort(image_row, kind="stable")
    return np.split(order, np.searchsorted(image_row[order], np.arange(1, images)))


def _sights(truth: Instances, found: coco.Detections, pairs: coco.Pairs, order: np.ndarray) -> list[Sight]:
    """The frames, in order."""
    assert truth.track is not None
    assert found.track is not None
    images = len(truth.image_id)
    place = [np.zeros(len(seen.image_row), np.int64) for seen in (truth, found)]
    rows = [_rows_of_images(seen.image_row, images) for seen in (truth, found)]
    for own, groups in zip(place, rows, strict=True):
        for group in groups:
            own[group] = np.arange(len(group))
    of_image = _rows_of_images(truth.image_row[pairs.truth], images)
    sights = []
    for image in order.tolist():
        there, seen, own = rows[0][image], rows[1][image], of_image[image]
        table = np.zeros((len(there), len(seen)))
        table[place[0][pairs.truth[own]], place[1][pairs.detection[own]]] = pairs.oks[own]
        sights.append(Sight(truth.track[there], found.track[seen], table))
    return sights


def _over_time(truth: Instances, found: coco.Detections, pairs: coco.Pairs, order: np.ndarray) -> dict[str, Any]:
    """Jitter of the errors of points, per cent of the box's side, and by how many frames they are late: medians over the
    instances of the truth, each from its first frame to its last, whatever identity was found for it."""
    assert truth.track is not None
    detection = np.full(len(truth), -1)
    taken, rows = coco.pair_up(pairs, MATCHED)
    detection[rows] = taken
    frame = np.argsort(order)[truth.image_row]
    jitters, lags = [], []
    for who in range(int(truth.track.max()) + 1):
        own = np.flatnonzero(truth.track == who)
        at = frame[own] - frame[own].min()
        true, seen = np.full((2, int(at.max()) + 1, *truth.xy.shape[1:]), np.nan)
        true[at] = np.where(truth.labelled[own, :, None], truth.xy[own], np.nan)
        paired = detection[own] >= 0
        seen[at[paired]] = found.xy[detection[own[paired]]]
        sides = np.sqrt(truth.box_xywh[own, 2:].prod(1))
        jitters.append(list(steadiness.jitter(seen - true, sides).values()))
        flat, late = true.reshape(len(true), -1), seen.reshape(len(seen), -1)
        lags.append(steadiness.lag(flat, late, np.arange(len(true)), np.ones(len(true), bool), SHIFTS))
    calm = [_median(column) for column in np.array(jitters).T]
    return {
        "jitter": dict(zip(("frame_to_frame", "second_difference"), calm, strict=True)),
        "lag_frames": _median(lags),
    }


def _median(values: Sequence[float] | np.ndarray) -> float | None:
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    return float(np.median(known)) if len(known) else None
