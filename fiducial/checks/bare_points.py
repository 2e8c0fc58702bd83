"""Points that no instance of a split labels: nothing is learnt of them, or nothing is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fiducial.checks.finding import Finding
from fiducial.types import Instances

LEARNT = "train"
SHOWN = 5


def bare_points(instances: Instances) -> tuple[str, ...]:
    """Names the points that no instance labels."""
    bare = np.flatnonzero(~instances.labelled.any(0))
    return tuple(instances.skeleton.points[point] for point in bare.tolist())


def told(split: str, names: Sequence[str]) -> str:
    """Says of points, by their names, that they have no label in a split, and what follows.

    >>> told("val", ["tail"])
    "point 'tail' has no label in val: it is not scored"
    """
    listed = ", ".join(map(repr, names[:SHOWN])) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    one = len(names) == 1
    subject = f"point {listed} has" if one else f"{len(names)} points, {listed}, have"
    if split == LEARNT:
        follows = f"nothing is learnt of {'it' if one else 'them'}; --points leaves {'it' if one else 'them'} out"
    else:
        follows = "it is not scored" if one else "they are not scored"
    return f"{subject} no label in {split}: {follows}"


def check_bare(splits: Mapping[str, Instances]) -> list[Finding]:
    """Tells of points that no instance of a split labels."""
    return [
        Finding(kind="unlabelled_point", split=split, points=names, confidence=0.6, what=told(split, names))
        for split, part in splits.items()
        if (names := bare_points(part))
    ]
