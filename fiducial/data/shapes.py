"""Points and boxes drawn one by one, as labelling tools keep them, put together to instances.

What has the same group (a number, a parent, a skeleton) is one instance. Points without a group are one if no name is there
twice; else those of each box are, where each point lies in exactly one; else which is whose can't be told, and they are
left out and listed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from fiducial import geometry
from fiducial.data import checking, skeletons
from fiducial.errors import UserError, did_you_mean
from fiducial.types import Findings, Images, Instances, Pairs

FROM_EDGES = geometry.translation(-0.5, -0.5)  # from a canvas, whose origin is the image's outer corner
Xywh = tuple[float, float, float, float]


class Point(NamedTuple):
    """One point."""

    name: str
    x: float
    y: float
    v: int
    group: Hashable = None


class Box(NamedTuple):
    """One box, in the edge frame; its label is the category of its instance."""

    label: str
    xywh: Xywh
    group: Hashable = None


@dataclass
class Drawing:
    """What was drawn on an image."""

    name: str
    size: tuple[int, int] = (0, 0)  # as declared; zeros where it is not
    points: list[Point] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    categories: dict[Hashable, str] = field(default_factory=dict)  # of groups, where a box doesn't tell


class Told(NamedTuple):
    """What a source says of its points besides."""

    points: Sequence[str] = ()  # in the order that is wanted
    edges: Sequence[tuple[str, str]] = ()


def instances_of(
    drawings: Sequence[Drawing],
    images: Images,
    category: str | None,
    source: str,
    findings: Findings,
    *,
    to_px: np.ndarray,
    told: Told | None = None,
) -> Instances:
    """Makes instances of drawings, one a row of `images`; points are mapped by `to_px`."""
    told = told or Told()
    found: list[tuple[int, str, list[Point], Xywh | None]] = []
    for row, drawing in enumerate(drawings):
        found += [(row, *instance) for instance in _instances(drawing, findings)]
    labels = Counter(label for _, label, _, _ in found if label)
    if category is not None:
        if category not in labels:
            raise UserError(source, f"no category {category!r}.{did_you_mean(category, labels)}")
        found = [instance for instance in found if instance[1] == category]
    elif len(labels) > 1:
        named = ", ".join(list(labels)[:9])
        findings.note(f"instances of {len(labels)} labels ({named}) are read as one kind; --category NAME chooses one")
    names = _ordered([[point.name for point in points] for _, _, points, _ in found], told.points)
    if not names:
        raise UserError(source, "no image has a labelled point")
    number = {name: place for place, name in enumerate(names)}
    keypoints = np.zeros((len(found), len(names), 3))
    every = [(place, number[name], x, y, v) for place, one in enumerate(found) for name, x, y, v, _ in one[2]]
    if every:
        columns = np.array(every)
        keypoints[columns[:, 0].astype(int), columns[:, 1].astype(int)] = columns[:, 2:]
    boxes = np.array([(np.nan,) * 4 if box is None else box for *_, box in found]).reshape(-1, 4)
    keypoints[..., :2] = geometry.transform(to_px, keypoints[..., :2])
    edges: Pairs = tuple((number[a], number[b]) for a, b in told.edges if a in number and b in number)
    kind = category or (labels.most_common(1)[0][0] if len(labels) == 1 else "object")
    skeleton, notes = skeletons.complete(kind, names, where=source, edges=edges)
    findings.note(*notes)
    sizes = np.array([drawing.size for drawing in drawings], np.int32).reshape(-1, 2)
    rows = [row for row, *_ in found]
    return checking.in_columns(keypoints, rows, skeleton, images, source, boxes=boxes, image_size=sizes)


def names_of(drawings: Sequence[Drawing]) -> list[str]:
    """Names the points of all drawings, ordered as `instances_of` does."""
    found = [points for drawing in drawings for _, points, _ in _instances(drawing, Findings(""))]
    return _ordered([[point.name for point in points] for points in found], ())


def _instances(drawing: Drawing, findings: Findings) -> list[tuple[str, list[Point], Xywh | None]]:
    """The label, the points and the box of each instance of an image."""
    boxes = {box.group: box for box in drawing.boxes if box.group is not None}
    groups: dict[Hashable, list[Point]] = {group: [] for group in [*boxes, *drawing.categories]}
    loose: list[Point] = []
    for point in drawing.points:
        (loose if point.group is None else groups.setdefault(point.group, [])).append(point)
    instances: list[tuple[str, list[Point], Xywh | None]] = []
    for group, points in groups.items():
        box = boxes.get(group)
        label = drawing.categories.get(group) or ("" if box is None else box.label)
        instances.append((label, _each_once(points, drawing, findings), None if box is None else box.xywh))
    free = [box for box in drawing.boxes if box.group is None]
    twice = [name for name, count in Counter(point.name for point in loose).items() if count > 1]
    if not twice:
        alone = free[0] if len(free) == 1 else None
        if loose or alone:
            instances.append(("" if alone is None else alone.label, loose, None if alone is None else alone.xywh))
        if alone is None:
            instances += [(box.label, [], box.xywh) for box in free]
        return instances
    owners = [[place for place, box in enumerate(free) if _is_in(point, box.xywh)] for point in loose]
    if all(len(places) == 1 for places in owners):
        for place, box in enumerate(free):
            own = [point for point, places in zip(loose, owners, strict=True) if places == [place]]
            instances.append((box.label, _each_once(own, drawing, findings), box.xywh))
        return instances
    findings.add(
        f"image {drawing.name}",
        f"{len(loose)} points of no group, of which {twice[0]!r} is there more than once: whose they are can't be told; left out",
    )
    return instances


def _each_once(points: list[Point], drawing: Drawing, findings: Findings) -> list[Point]:
    """The first point of each name; others are listed."""
    first: dict[str, Point] = {}
    for point in points:
        if point.name in first:
            findings.add(f"image {drawing.name}", f"point {point.name!r} is twice in one instance; the second left out")
        first.setdefault(point.name, point)
    return list(first.values())


def _is_in(point: Point, box: Xywh) -> bool:
    x, y, w, h = box
    return x <= point.x <= x + w and y <= point.y <= y + h


def _ordered(instances: Sequence[Sequence[str]], wanted: Sequence[str]) -> list[str]:
    """All names of points: as wanted; else as a bundled skeleton has them, or by their numbers; else as in the instance
    that has most, others behind."""
    there = dict.fromkeys(max(instances, key=len, default=[]))
    for names in instances:
        if not there.keys() >= set(names):
            there |= dict.fromkeys(name for name in names if name not in there)
    if wanted:
        return [*wanted, *(name for name in there if name not in wanted)]
    if all(name.isdecimal() and len(name) < 10 for name in there):
        return sorted(there, key=int)
    bundled = next((known for known in skeletons.BUNDLED if set(known.points) == there.keys()), None)
    return list(there) if bundled is None else list(bundled.points)
