"""Puts the proposals of findings into effect on the labels of a set, in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fiducial import geometry
from fiducial.checks.finding import Finding, Labelled
from fiducial.data.placing import size_of
from fiducial.errors import UserError
from fiducial.types import Instances

LARGEST_SHARE = 2  # of an image; boxes of larger numbers are px


def mended(labelled: Labelled, findings: Sequence[Finding]) -> tuple[Labelled, list[str]]:
    """Gives the set with what is proposed, and a line on each change; findings without a proposal change nothing.

    Points are mended before instances are left out. UserError for a proposal that is none, or about what is not there."""
    splits, said = dict(labelled.splits), []
    images = {split: _images(part) for split, part in labelled.instances}
    for finding in sorted(findings, key=_is_removal):
        if finding.proposal is None:
            continue
        for what, value in finding.proposal.items():
            if what not in _WAYS:
                raise UserError(_where(finding), f"proposal {what!r}: expected {', '.join(_WAYS)}")
            for split in [finding.split] if finding.split in splits else list(splits):
                part = splits[split]
                rows = _rows(part, finding, images[split])
                try:
                    splits[split] = _WAYS[what](part, rows, value)
                except (KeyError, ValueError, TypeError, IndexError) as error:
                    raise UserError(
                        _where(finding), f"its proposal {what!r} does not fit the labels: {error}"
                    ) from error
        said.append(f"{_where(finding)}: {finding.what}; mended by {dict(finding.proposal)}")
    return Labelled(splits), said


def _is_removal(finding: Finding) -> bool:
    return "leave_out" in (finding.proposal or ())


def _where(finding: Finding) -> str:
    about = "" if finding.annotation_id is None else f", annotation {finding.annotation_id}"
    return f"{finding.split}{': ' if finding.image else ''}{finding.image}{about}"


def _images(part: Instances) -> dict[str, list[int]]:
    """The rows of images by their names."""
    images: dict[str, list[int]] = {}
    for row in range(len(part.images)):
        images.setdefault(part.images.name(row), []).append(row)
    return images


def _rows(part: Instances, finding: Finding, images: Mapping[str, Sequence[int]]) -> np.ndarray:
    """The instances that a finding is about: one, those of an image, or all."""
    about = np.ones(len(part), bool)
    if finding.image:
        about &= np.isin(part.image_row, images.get(finding.image, []))
    if finding.annotation_id is not None:
        about &= part.annotation_id == finding.annotation_id
    return np.flatnonzero(about)


def _numbers(part: Instances, names: Sequence[str]) -> list[int]:
    return [part.skeleton.points.index(name) for name in names]


def _in_order(part: Instances, rows: np.ndarray, order: Sequence[int]) -> Instances:
    """Point i of the rows becomes what was point order[i]."""
    if sorted(order) != list(range(len(part.skeleton.points))):
        raise ValueError("an order names each point once")
    xy, visibility = part.xy.copy(), part.visibility.copy()
    xy[rows], visibility[rows] = xy[rows][:, order], visibility[rows][:, order]
    return replace(part, xy=xy, visibility=visibility)


def _swap(part: Instances, rows: np.ndarray, pairs: Sequence[Sequence[str]]) -> Instances:
    order = list(range(len(part.skeleton.points)))
    for pair in pairs:
        first, second = _numbers(part, pair)
        order[first], order[second] = order[second], order[first]
    return _in_order(part, rows, order)


def _order(part: Instances, rows: np.ndarray, names: Sequence[str]) -> Instances:
    return _in_order(part, rows, _numbers(part, names))


def _xy(part: Instances, rows: np.ndarray, places: Mapping[str, Sequence[float]]) -> Instances:
    xy, visibility = part.xy.copy(), part.visibility.copy()
    for name, place in places.items():
        [number] = _numbers(part, [name])
        xy[rows, number] = np.asarray(place, np.float32).reshape(2)
        visibility[rows, number] = np.maximum(visibility[rows, number], 1)
    return replace(part, xy=xy, visibility=visibility)


def _missing(part: Instances, rows: np.ndarray, names: Sequence[str]) -> Instances:
    xy, visibility = part.xy.copy(), part.visibility.copy()
    for number in _numbers(part, names):
        xy[rows, number], visibility[rows, number] = 0, 0
    return replace(part, xy=xy, visibility=visibility)


def _box(part: Instances, rows: np.ndarray, box: Sequence[float] | str) -> Instances:
    boxes = part.box_xywh.copy()
    boxes[rows] = geometry.box_from_corners(boxes[rows]) if box == "corners" else np.asarray(box, np.float32).reshape(4)
    return replace(part, box_xywh=boxes)


def _scale(part: Instances, rows: np.ndarray, factors: Sequence[float]) -> Instances:
    wide, high = map(float, factors)
    return _enlarged(part, rows, np.tile([wide, high], (len(rows), 1)), np.ones(len(rows), bool))


def _times(part: Instances, rows: np.ndarray, what: str) -> Instances:
    """Coordinates that were divided by the image's size; boxes too, where they look it."""
    if what != "image_size":
        raise ValueError(f"{what!r} is not image_size")
    known = {row: size_of(part, row) for row in set(part.image_row[rows].tolist())}
    sizes = np.array([known[row] for row in part.image_row[rows].tolist()], np.float64).reshape(-1, 2)
    return _enlarged(part, rows, sizes, np.abs(part.box_xywh[rows]).max(1) <= LARGEST_SHARE)


def _enlarged(part: Instances, rows: np.ndarray, factors: np.ndarray, with_box: np.ndarray) -> Instances:
    """By factors [m, 2] of the rows; boxes count from the image's edge, as their sides do."""
    xy, boxes = part.xy.copy(), part.box_xywh.copy()
    for row, (wide, high), has_box in zip(rows, factors, with_box, strict=True):
        xy[row] = geometry.transform(geometry.scaling(wide, high), xy[row])
        boxes[row] *= (wide, high, wide, high) if has_box else 1
    return replace(part, xy=xy, box_xywh=boxes)


def _transpose(part: Instances, rows: np.ndarray, wanted: bool) -> Instances:
    """x and y were written the other way round."""
    if not wanted:
        return part
    xy = part.xy.copy()
    xy[rows] = xy[rows][..., ::-1]
    return replace(part, xy=xy)


def _flip_indices(part: Instances, rows: np.ndarray, order: Sequence[int]) -> Instances:
    pairs = tuple((first, second) for first, second in enumerate(map(int, order)) if first < second)
    return replace(part, skeleton=replace(part.skeleton, flip_pairs=pairs))


def _leave_out(part: Instances, rows: np.ndarray, wanted: bool) -> Instances:
    return part.select(np.setdiff1d(np.arange(len(part)), rows)) if wanted else part


_WAYS: dict[str, Callable[[Instances, np.ndarray, Any], Instances]] = {
    "swap": _swap,
    "order": _order,
    "xy": _xy,
    "missing": _missing,
    "box": _box,
    "scale": _scale,
    "times": _times,
    "transpose": _transpose,
    "flip_indices": _flip_indices,
    "leave_out": _leave_out,
}
