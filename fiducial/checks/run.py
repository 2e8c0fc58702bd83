"""All checks in their order: the quick ones, which `fit` runs, and the thorough ones, which look at the images too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fiducial.checks import bare_points, copies, images, leaks, looks, moved, order, pairs, places, sides
from fiducial.checks.finding import Finding, Labelled
from fiducial.data import annotations, checking
from fiducial.data.image_fields import grouping, image_fields
from fiducial.data.source import Source
from fiducial.data.together import together
from fiducial.errors import UserError
from fiducial.types import Findings, Instances, Problem

TOLD = 0.5  # confidence from which something is called a fault
QUICK_INSTANCES = 600  # of a split, evenly taken, that the quick checks look at


@dataclass(frozen=True)
class Checked:
    """What was looked at and what was found, the surest first."""

    splits: Labelled  # sound instances, as `fit` learns from them
    findings: list[Finding]
    problems: list[Problem] = field(default_factory=list)  # of the reading: what was left out, and what was assumed

    @property
    def faults(self) -> list[Finding]:
        """Lists what is likelier a fault than not."""
        return [finding for finding in self.findings if finding.confidence >= TOLD]


def check(source: Source) -> Checked:
    """Checks all splits of a set thoroughly."""
    raw, sound, problems = _read(source)
    found: list[Finding] = []
    for split, part in raw.items():
        sizes = images.check_sizes(split, part)
        resized = {finding.image for finding in sizes}
        found += sizes + [
            one for one in places.check_places(split, part) if one.kind != "outside" or one.image not in resized
        ]
        found += images.check_categories(split, problems.get(split, []))
    found += images.check_unlabelled(raw) + bare_points.check_bare(sound)
    labelled = Labelled(sound)
    if sound:
        pictures = copies.pictures_of(labelled)
        thumbs = copies.thumbnails(pictures, labelled)
        found += copies.check_copies(copies.all_copies(labelled, pictures, thumbs))
        fields = grouping(_fields(source), [picture.name for picture in pictures])
        found += leaks.check_leaks(pictures, fields, copies.coarse(thumbs))
        bare = {finding.annotation_id for finding in found if finding.kind == "missing_as_label"}
        found += check_shapes(labelled, with_images=True, told=bare)
    every = [problem for several in problems.values() for problem in several]
    return Checked(labelled, ranked(found), list(dict.fromkeys(every)))


def quick(splits: dict[str, Instances]) -> list[Finding]:
    """Checks what can be checked without decoding an image, of at most `QUICK_INSTANCES` of a split."""
    found: list[Finding] = []
    for split, part in splits.items():
        found += places.check_places(split, part)
    labelled = Labelled({split: _thinned(part) for split, part in splits.items()})
    pictures = copies.pictures_of(Labelled(splits))
    found += copies.check_copies(copies.same_bytes(pictures, Labelled(splits), across=True))
    found += leaks.check_leaks(pictures, {}, None)
    return ranked(found + check_shapes(labelled, with_images=False, told=set()))


def check_shapes(labelled: Labelled, *, with_images: bool, told: set) -> list[Finding]:
    """Checks what the labels' shapes say: order of points, flip pairs, left and right; and where images may be looked at, which
    takes longer anyway, the order of points of single instances and moved points. `told`: annotation ids of which something
    was told already."""
    labelled = Labelled({split: part for split, part in labelled.instances if len(part)})
    if not labelled.splits:
        return []
    found = order.check_splits(labelled)
    turned = {finding.split: finding.proposal for finding in found}
    labelled = Labelled({split: _reordered(part, turned.get(split)) for split, part in labelled.instances})
    joined = joined_of(labelled)
    wrong_pairs = pairs.check_pairs(labelled, joined)
    if wrong_pairs and wrong_pairs[0].proposal:
        mended = pairs.pairs_of(np.array(wrong_pairs[0].proposal["flip_indices"]))
        joined = replace(joined, skeleton=replace(joined.skeleton, flip_pairs=mended))
    found += wrong_pairs
    whole = [exchange.row for exchange in sides.exchanges(joined) if exchange.is_whole] if with_images else []
    behind = looks.seen_from_behind(joined, whole)
    exchanged = sides.check_sides(labelled, joined, behind)
    if not with_images:
        return found + exchanged
    known = {row for row, number in enumerate(joined.annotation_id.tolist()) if number in told}
    turned = _turned(labelled, joined, exchanged)
    in_order = order.check_order(labelled, joined, known, turned)
    reordered = _rows(labelled, in_order)
    exchanged = [one for one in exchanged if not _rows(labelled, [one]) & reordered]
    known |= _rows(labelled, exchanged) | reordered
    found += exchanged + in_order + moved.check_moved(labelled, joined, known)
    return found


def ranked(findings: Sequence[Finding]) -> list[Finding]:
    """Sorts findings: those about whole splits first, then the surest."""
    return sorted(findings, key=lambda finding: (finding.annotation_id is not None, -finding.confidence, finding.kind))


def _turned(labelled: Labelled, joined: Instances, exchanged: Sequence[Finding]) -> dict[int, np.ndarray]:
    """The order that puts the points of each row right whose sides are told to be exchanged."""
    names, found = joined.skeleton.points, {}
    for one in exchanged:
        if one.confidence >= TOLD and one.proposal:
            order_of = np.arange(len(names))
            for a, b in one.proposal["swap"]:
                order_of[[names.index(a), names.index(b)]] = names.index(b), names.index(a)
            [row] = _rows(labelled, [one])
            found[row] = order_of
    return found


def _rows(labelled: Labelled, findings: Sequence[Finding]) -> set[int]:
    """The rows of all splits that findings are about."""
    places_of = {}
    first = 0
    for split, part in labelled.instances:
        places_of |= {(split, number): first + row for row, number in enumerate(part.annotation_id.tolist())}
        first += len(part)
    return {places_of[finding.split, finding.as_json()["annotation_id"]] for finding in findings}


def joined_of(labelled: Labelled) -> Instances:
    """All splits one after the other, each annotation with its own id."""
    parts = list(labelled.splits.values())
    joined = together(parts)
    if len(joined.skeleton.points) != len(parts[0].skeleton.points):
        names = [", ".join(part.skeleton.points[:3]) for part in parts]
        raise UserError(f"the splits have different points ({'; '.join(names)} ..); expected the same in all")
    return replace(joined, annotation_id=np.concatenate([part.annotation_id.astype(object) for part in parts]))


def _reordered(part: Instances, proposal: object) -> Instances:
    if not isinstance(proposal, dict):
        return part
    order_of = [part.skeleton.points.index(name) for name in proposal["order"]]
    return replace(part, xy=part.xy[:, order_of], visibility=part.visibility[:, order_of])


def _thinned(part: Instances) -> Instances:
    if len(part) <= QUICK_INSTANCES:
        return part
    return part.select(np.linspace(0, len(part) - 1, QUICK_INSTANCES).astype(int))


def _read(source: Source) -> tuple[dict[str, Instances], dict[str, Instances], dict[str, list[Problem]]]:
    """The splits as they stand in their files, those that are sound, and the problems of each."""
    raw, sound, problems = {}, {}, {}
    for split in annotations.own_splits(source):
        findings = Findings(str(source.path))
        part = annotations.read(source, split, findings, carve=False)
        if len(part.image_row) == 0:
            continue
        raw[split] = part
        kept = checking.check(part, findings)
        kept = kept.select(kept.labelled.any(1) & ~kept.crowd)
        problems[split] = findings.problems
        if len(kept):
            sound[split] = kept
    return raw, sound, problems


def _fields(source: Source) -> list[dict]:
    _, files = annotations.find(source.path)
    return image_fields([file for several in files.values() for file in several])
