"""Images of one series in several splits: frames of one video, images of one person or one folder.

By the set's own fields where it has them (`video`, `person` ..), else by names that are numbered; and what names alone
suggest is believed where images of neighbouring numbers are more alike than others."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from fiducial.checks.copies import Picture
from fiducial.checks.finding import Finding
from fiducial.data.series import numbered

BETWEEN = 0.2  # of a split's numbered images must lie between those of another, or the split was made by time
MORE_ALIKE = 0.1  # in correlation, that neighbours must be than any two
FEWEST = 5


def check_leaks(
    pictures: Sequence[Picture], groups: Mapping[str, Sequence[str]], vectors: np.ndarray | None
) -> list[Finding]:
    """Tells of series that are in more than one split. `groups`: field -> the value of each picture, "" for none;
    `vectors` [n, d]: unit vectors of their thumbnails, None where they were not looked at."""
    numbers = [numbered(picture.name) for picture in pictures]
    findings, told = [], set()
    for field, values in groups.items():
        for value, splits in _splits_of(pictures, values).items():
            if len(splits) > 1 and not _by_time(splits, numbers):
                told |= {row for rows in splits.values() for row in rows}
                findings.append(_finding(pictures, splits, f"{field} {value!r}", 0.9))
    series = [number.series or ("" if number.number is None else "*") for number in numbers]
    for value, splits in _splits_of(pictures, ["" if row in told else name for row, name in enumerate(series)]).items():
        if len(splits) < 2 or _by_time(splits, numbers) or sum(map(len, splits.values())) < FEWEST:
            continue
        rows = [row for rows in splits.values() for row in rows]
        is_video = any(numbers[row].is_video for row in rows)
        alike = _neighbours_alike(splits, numbers, vectors)
        if alike or (is_video and vectors is None):
            name = "numbered images" if value == "*" else f"the series {value.lstrip('/')!r}"
            findings.append(_finding(pictures, splits, name, 0.8 if is_video else 0.6))
    return findings


def _splits_of(pictures: Sequence[Picture], values: Sequence[str]) -> dict[str, dict[str, list[int]]]:
    """value -> split -> rows."""
    found: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row, (picture, value) in enumerate(zip(pictures, values, strict=True)):
        if value:
            found[value][picture.split].append(row)
    return found


def _by_time(splits: Mapping[str, list[int]], numbers: Sequence) -> bool:
    """Whether no split's images lie between those of another by their numbers."""
    ranges = {}
    for split, rows in splits.items():
        known = [numbers[row].number for row in rows if numbers[row].number is not None]
        if len(known) < len(rows):
            return False
        ranges[split] = np.array(known)
    for one, own in ranges.items():
        for other, theirs in ranges.items():
            if one != other and ((own > theirs.min()) & (own < theirs.max())).mean() > BETWEEN:
                return False
    return True


def _neighbours_alike(splits: Mapping[str, list[int]], numbers: Sequence, vectors: np.ndarray | None) -> bool:
    """Whether images of neighbouring numbers in different splits look more alike than any two of the series."""
    if vectors is None:
        return False
    rows = sorted((row for rows in splits.values() for row in rows), key=lambda row: numbers[row].number or 0)
    of = {row: split for split, rows_of in splits.items() for row in rows_of}
    pairs = np.array([(a, b) for a, b in itertools.pairwise(rows) if of[a] != of[b]])
    if len(pairs) < FEWEST:
        return False
    draws = np.random.default_rng(0).choice(rows, (200, 2))
    near = (vectors[pairs[:, 0]] * vectors[pairs[:, 1]]).sum(1)
    any_two = (vectors[draws[:, 0]] * vectors[draws[:, 1]]).sum(1)[draws[:, 0] != draws[:, 1]]
    return bool(np.median(near) > np.median(any_two) + MORE_ALIKE)


def _finding(pictures: Sequence[Picture], splits: Mapping[str, list[int]], name: str, confidence: float) -> Finding:
    counts = ", ".join(f"{len(rows)} in {split}" for split, rows in splits.items())
    _first, *others = splits
    return Finding(
        kind="leak",
        split=", ".join(splits),
        image=pictures[splits[others[0]][0]].name,
        confidence=confidence,
        what=f"{name}: {counts} of its images; figures of {' and '.join(others)} are better than they would be on new ones",
        proposal=None,
    )
