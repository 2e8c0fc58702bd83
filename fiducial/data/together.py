"""Several labelled sets, or several categories of one, as one: all their points, of which each instance has its own set's.
Where their skeletons' names differ, these are the kinds of instances that a finder tells apart."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fiducial.data.images import SomeImages
from fiducial.errors import UserError
from fiducial.types import Images, Instances, Normalizer, Pairs, Skeleton


@dataclass(frozen=True)
class JoinedImages:
    """The images of several sets, one after the other; implements `Images`."""

    parts: Sequence[Images]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def name(self, row: int) -> str:
        part, own = self.inner(row)
        return part.name(own)

    def read(self, row: int, reduce: int = 1) -> np.ndarray:
        part, own = self.inner(row)
        return part.read(own, reduce)

    def inner(self, row: int) -> tuple[Images, int]:
        for part in self.parts:
            if row < len(part):
                return part, row
            row -= len(part)
        raise IndexError(row)


def together(parts: Sequence[Instances], *, one_set: bool = False) -> Instances:
    """Joins sets into one that has the points of all: points of one name are one point, and what a set does not have is
    not labelled in its instances.

    one_set: they are categories of one, so that images of one name are one image. Images and annotations are numbered anew
    where an id is met twice. Flip pairs are known where all sets know theirs; NME is relative to the box where the sets' normalisers differ."""
    if len(parts) == 1:
        return parts[0]
    sources = [part.source for part in parts]
    skeleton = union([part.skeleton for part in parts], sources if len(set(sources)) == len(sources) else None)
    parts = [part.with_points(skeleton) for part in parts]
    images, new_row, kept = (_images if one_set else _apart)(parts)
    columns = ("xy", "visibility", "box_xywh", "area", "crowd", "ignored")
    return Instances(
        skeleton=skeleton,
        images=images,
        image_id=_ids([part.image_id[rows] for part, rows in zip(parts, kept, strict=True)]),
        image_size=np.concatenate([part.image_size[rows] for part, rows in zip(parts, kept, strict=True)]),
        image_row=np.concatenate([rows[part.image_row] for part, rows in zip(parts, new_row, strict=True)]),
        annotation_id=_ids([part.annotation_id for part in parts]),
        source=" + ".join(dict.fromkeys(part.source for part in parts)),
        licences=tuple(dict.fromkeys(licence for part in parts for licence in part.licences)),
        track=_tracks(parts),
        kind=np.concatenate([part.kind for part in parts if part.kind is not None]) if skeleton.kinds else None,
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in columns},
    )


def _images(parts: Sequence[Instances]) -> tuple[Images, list[np.ndarray], list[np.ndarray]]:
    """Joins the images: all of them, the new row of each of a part's, and which of a part's are in no earlier one."""
    place: dict[str, int] = {}
    new_row, kept, images, count = [], [], [], 0
    for part in parts:
        names = [part.images.name(row) for row in range(len(part.images))]
        rows = np.array([place.get(name, -1) for name in names], np.int64)
        kept.append(np.flatnonzero(rows < 0))
        rows[kept[-1]] = count + np.arange(len(kept[-1]))
        count += len(kept[-1])
        place = {**dict(zip(names, rows.tolist(), strict=True)), **place}
        new_row.append(rows)
        images.append(SomeImages(part.images, kept[-1].tolist()) if len(kept[-1]) < len(rows) else part.images)
    return JoinedImages(images), new_row, kept


def _apart(parts: Sequence[Instances]) -> tuple[Images, list[np.ndarray], list[np.ndarray]]:
    """The same of parts that have no image in common."""
    rows = [np.arange(len(part.images)) for part in parts]
    first = np.cumsum([0, *map(len, rows)])
    images = JoinedImages([part.images for part in parts])
    kept = [np.arange(len(part.image_id)) for part in parts]
    return images, [own + start for own, start in zip(rows, first, strict=False)], kept


def notes_of(skeletons: Sequence[Skeleton], sets: Sequence[str]) -> list[str]:
    """Says how the points of sets are joined where they are not all the same: how many are of which sets, which names are
    nearly the same, and whose flip pairs are not known."""
    said = []
    owners = _owners(skeletons)
    counts = Counter(owners.values())
    everyone = tuple(range(len(sets)))
    if set(counts) != {everyone}:
        words = [f"{counts[everyone]} of {'both sets' if len(sets) == 2 else 'all sets'}"] if counts[everyone] else []
        for own in sorted(counts.keys() - {everyone}):
            names = " and ".join(sets[number] for number in own)
            words.append(f"{counts[own]} of {names}{' alone' if len(own) == 1 else ''}")
        alone = (
            "; no point is common to the sets, whose images teach nothing of each other's points"
            if all(map(_is_one, counts))
            else ""
        )
        said.append(f"points: {', '.join(words)} (never labelled elsewhere){alone}")
    pairs = [
        f"{one!r} and {other!r}"
        for (one, of_one), (other, of_other) in itertools.combinations(owners.items(), 2)
        if _plain(one) == _plain(other) and not set(of_one) & set(of_other)
    ]
    if pairs:
        each = " each" if len(pairs) > 1 else ""
        said.append(f"{', '.join(pairs)} are two points{each}; rename one if they are the same")
    unknown = [name for name, skeleton in zip(sets, skeletons, strict=True) if skeleton.flip_pairs is None]
    if 0 < len(unknown) < len(sets):
        said.append(
            f"flip pairs are unknown, since {' and '.join(unknown)} does not say its own, so that no image is mirrored"
        )
    return said


def _owners(skeletons: Sequence[Skeleton]) -> dict[str, tuple[int, ...]]:
    """Each point -> the numbers of the skeletons that have it."""
    names = dict.fromkeys(name for skeleton in skeletons for name in skeleton.points)
    return {name: tuple(i for i, skeleton in enumerate(skeletons) if name in skeleton.points) for name in names}


def _is_one(own: tuple[int, ...]) -> bool:
    return len(own) == 1


def _plain(name: str) -> str:
    """A name without what is often written in another way: capitals, blanks, dashes."""
    return re.sub(r"[\s_-]", "", name).casefold()


def _refuse_contradiction(skeletons: Sequence[Skeleton], sets: Sequence[str]) -> None:
    """Raises UserError that names the sets and the point where a mirror makes one point of two others, in sets that have both."""
    partners = []
    for skeleton, name in zip(skeletons, sets, strict=True):
        if skeleton.flip_pairs is not None:
            own = dict(zip(skeleton.points, skeleton.points, strict=True))
            for a, b in skeleton.flip_pairs:
                own[skeleton.points[a]], own[skeleton.points[b]] = skeleton.points[b], skeleton.points[a]
            partners.append((name, own))
    for (one, of_one), (other, of_other) in itertools.combinations(partners, 2):
        for point in [point for point in of_one if point in of_other]:
            a, b = of_one[point], of_other[point]
            is_told = (a != point and a in of_other) or (b != point and b in of_one) or point not in (a, b)
            if a != b and is_told:
                raise UserError(
                    f"sets that are learnt together disagree about flip pairs: {point!r} is exchanged with {_partner(point, a)} in "
                    f"{one}, and with {_partner(point, b)} in {other}; mend the pairs of one of them, or rename its points"
                )


def _partner(point: str, partner: str) -> str:
    return "none" if point == partner else repr(partner)


def union(skeletons: Sequence[Skeleton], sets: Sequence[str] | None = None) -> Skeleton:
    """Makes the skeleton of all points of some. UserError where two disagree about what a mirror does to a point; it calls
    them by the names of `sets` [the skeletons' own]."""
    _refuse_contradiction(skeletons, [skeleton.name for skeleton in skeletons] if sets is None else sets)
    points = tuple(dict.fromkeys(name for skeleton in skeletons for name in skeleton.points))
    number = {name: i for i, name in enumerate(points)}

    def renumbered(skeleton: Skeleton, pairs: Pairs) -> Pairs:
        return tuple((number[skeleton.points[a]], number[skeleton.points[b]]) for a, b in pairs)

    def joined(pairs: Sequence[Pairs]) -> Pairs:
        return tuple(dict.fromkeys((min(pair), max(pair)) for some in pairs for pair in some))

    known = [renumbered(skeleton, skeleton.flip_pairs) for skeleton in skeletons if skeleton.flip_pairs is not None]
    flip_pairs = joined(known) if len(known) == len(skeletons) else None
    normalizers = {_named(skeleton) for skeleton in skeletons}
    first = skeletons[0].normalizer
    ends = None if first.points is None else renumbered(skeletons[0], (first.points,))[0]
    sigmas = {
        name: sigma
        for skeleton in reversed(skeletons)
        for name, sigma in zip(skeleton.points, skeleton.sigmas or (), strict=False)
    }
    kinds: dict[str, set[int]] = {}
    for skeleton in skeletons:
        for name, own in (skeleton.kinds or {skeleton.name: range(len(skeleton.points))}).items():
            kinds.setdefault(name, set()).update(number[skeleton.points[i]] for i in own)
    try:
        return Skeleton(
            "+".join(dict.fromkeys(skeleton.name for skeleton in skeletons)),
            points,
            joined([renumbered(skeleton, skeleton.edges) for skeleton in skeletons]),
            flip_pairs,
            tuple(sigmas[name] for name in points) if len(sigmas) == len(points) else None,
            normalizer=replace(first, points=ends) if len(normalizers) == 1 else Normalizer(),
            kinds={name: tuple(sorted(own)) for name, own in kinds.items()} if len(kinds) > 1 else {},
        )
    except UserError as error:
        raise UserError(f"sets that are learnt together disagree: {error}") from None


def _named(skeleton: Skeleton) -> tuple[str, ...]:
    """A normaliser that can be compared with another skeleton's."""
    return (skeleton.normalizer.kind, *(skeleton.points[i] for i in skeleton.normalizer.points or ()))


def _ids(columns: Sequence[np.ndarray]) -> np.ndarray:
    """The ids of all where each is met once, else numbers."""
    ids = np.concatenate(columns) if len({column.dtype for column in columns}) == 1 else np.empty(0)
    total = sum(map(len, columns))
    return ids if len(set(ids.tolist())) == total else np.arange(1, total + 1)


def _tracks(parts: Sequence[Instances]) -> np.ndarray | None:
    """The identities of all, those of each set behind the ones before: nobody is in two sets."""
    if all(part.track is None for part in parts):
        return None
    columns, first = [], 0
    for part in parts:
        own = np.full(len(part), -1) if part.track is None else part.track
        columns.append(np.where(own < 0, -1, own + first))
        first = max(first, int(columns[-1].max(initial=-1)) + 1)
    return np.concatenate(columns)
