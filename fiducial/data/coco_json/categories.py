"""Which category is meant, what belongs to it, and the skeleton that it describes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from fiducial.data import skeletons
from fiducial.data.coco_json.content import Content
from fiducial.data.coco_json.entries import Annotation, Category
from fiducial.data.coco_json.ids import Id, Rows, plain
from fiducial.data.coco_json.numbers import length
from fiducial.errors import UserError, did_you_mean
from fiducial.types import Findings, Skeleton


def choose_category(
    content: Content, wanted: str | None, file: Path, findings: Findings, alike: bool = False
) -> Category:
    """Chooses the category whose points are read: the one named or numbered `wanted`, else the only one with points.

    Of several with one name that is the one that has points; `alike`: several with the same points are one. Annotations
    of categories that the file doesn't define are listed, and an error where none is left."""
    categories = content.categories or []
    if not categories:
        if wanted is not None:
            raise UserError(f"{file}: no category {wanted!r}: it has no list `categories`; leave --category out")
        numbers = sorted({plain(item.category_id) for item in content.annotations if item.category_id is not None})
        if len(numbers) > 1:
            findings.note(f"no list `categories`: all its annotations are taken as one (ids {', '.join(numbers[:9])})")
        return Category()
    list_unknown(content, categories, file, findings)
    pointed = _pointed(content, categories)
    if wanted is not None:
        named = [category for category in categories if category.name == wanted]
        named = named or [category for category in categories if plain(category.id) == plain(wanted)]
        if not named:
            known = did_you_mean(wanted, (category.name for category in categories))
            raise UserError(f"{file}: no category {wanted!r}.{known}")
        return _only(named, pointed, file)
    if len(categories) == 1:
        return categories[0]
    same = _same(categories, pointed, findings) if alike else None
    return same or _only(categories, pointed, file)


def _same(categories: Sequence[Category], pointed: set[Id], findings: Findings) -> Category | None:
    """All categories with points as one, where several have the same points, as sets of many species do."""
    own = [category for category in categories if category.id in pointed]
    if len(own) < 2 or not own[0].keypoints or any(category.keypoints != own[0].keypoints for category in own):
        return None
    names = list(dict.fromkeys(category.name for category in own))
    if len(names) == 1:  # which one is meant is asked
        return None
    listed = ", ".join(names[:5]) + (", .." if len(names) > 5 else "")
    findings.note(
        f"its {len(own)} categories ({listed}) have the same points: read as one; --category NAME chooses one"
    )
    merged = msgspec.structs.replace(own[0], name="+".join(names) if len(names) < 4 else f"{len(names)} kinds")
    merged.members = tuple(category.id for category in own)
    return merged


def _only(candidates: Sequence[Category], pointed: set[Id], file: Path) -> Category:
    """The one that has annotations with points, or at least names for points."""
    if len(candidates) == 1:
        return candidates[0]
    choice = [category for category in candidates if category.id in pointed]
    choice = choice or [category for category in candidates if category.keypoints]
    if len(choice) > 1:
        same = len({category.name for category in choice}) == 1
        names = ", ".join(str(category) if same else repr(category.name) for category in choice)
        raise UserError(
            f"{file}: several categories have keypoints: {names}; choose one with --category {'ID' if same else 'NAME'}"
        )
    if not choice:
        raise UserError(
            f"{file}: no annotation has keypoints; expected COCO's keypoints annotations, not its boxes alone"
        )
    return choice[0]


def _pointed(content: Content, categories: Sequence[Category]) -> set[Id]:
    """Ids of the categories that annotations with points are of."""
    rows = Rows(category.id for category in categories)
    used = {item.category_id for item in content.annotations if length(item.keypoints)}
    return {categories[row].id for number in used if (row := rows.of(number)) >= 0}


def list_unknown(content: Content, categories: Sequence[Category], file: Path, findings: Findings) -> None:
    """Lists the annotations of categories that the file doesn't define. Raises UserError where all are."""
    if [category.id for category in categories] == [None]:
        return
    rows = Rows(category.id for category in categories)
    counts = Counter(item.category_id for item in content.annotations)
    unknown = {number: count for number, count in counts.items() if number is not None and rows.of(number) < 0}
    if not unknown:
        return
    known = ", ".join(str(category) for category in categories[:9])
    lost = sum(unknown.values())
    numbers = ", ".join(f"category_id {number!r}" for number in list(unknown)[:9])
    what = f"{lost} annotation{'s have' if lost > 1 else ' has'} {numbers}; the file's categories are {known}"
    if lost == len(content.annotations):
        raise UserError(f"{file}: all its {what}; correct the ids on one side")
    findings.add("categories", f"{what}; left out")


def of_category(content: Content, category: Category) -> list[Annotation]:
    """Gives the annotations of one category, and those that name none."""
    if not content.categories or [other.id for other in content.categories] == [None]:
        return content.annotations
    rows = Rows(other.id for other in content.categories)
    numbers = {rows.of(member) for member in category.members or (category.id,)}
    ids = {item.category_id for item in content.annotations}
    own = {other for other in ids if other is None or rows.of(other) in numbers}
    return content.annotations if own == ids else [item for item in content.annotations if item.category_id in own]


def skeleton_of(category: Category, count: int, file: Path, findings: Findings) -> Skeleton:
    """Makes the skeleton that a category describes; what it leaves out comes from its points' names or number."""
    names = list(category.keypoints or ())
    if not names:
        person = skeletons.COCO17 if (count, category.name) == (17, "person") else None
        face = skeletons.match_count(count) if skeletons.may_be_face(category.name) else None
        known = face or person
        names = list(known.points) if known else list(skeletons.numbered(count))
        guess = f"taken for those of {known.name}, by their number" if known else "named by their place"
        findings.note(f"its {count} points have no names: {guess}")
    where = f"{file}: category {category.name!r}"
    edges = [tuple(edge) for edge in category.skeleton or ()]
    if any(len(edge) != 2 for edge in edges):
        raise UserError(f"{where}: skeleton: expected pairs of point numbers")
    base = min([1, *(end for edge in edges for end in edge)])
    if base == 0:
        findings.note("the skeleton's point numbers begin at 0, COCO's at 1; they were read as they are")
    drawn = [(a - base, b - base) for a, b in edges]
    for (a, b), edge in zip(drawn, edges, strict=True):
        if not (0 <= a < count and 0 <= b < count):
            findings.add(f"category {category.name!r}", f"edge {list(edge)} of a skeleton of {count} points; left out")
    skeleton, notes = skeletons.complete(
        category.name,
        names,
        where=where,
        edges=tuple((a, b) for a, b in drawn if 0 <= a < count and 0 <= b < count),
        flip_indices=category.flip_indices or None,
        sigmas=category.sigmas,
        groups={name: tuple(group) for name, group in (category.groups or {}).items()},
    )
    findings.note(*notes)
    return skeleton
