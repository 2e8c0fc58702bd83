"""Flip pairs proved or refuted from the shapes: what is a point's place in a mirror.

The set's usual shape is mirrored at every axis and laid back on itself, and its points are assigned to those that they fall
on. That must be an involution, and it must fit: a set that has no such symmetry, as two views side by side, proves
nothing."""

from __future__ import annotations

import numpy as np

from fiducial import geometry
from fiducial.checks import shapes
from fiducial.checks.assignment import assigned
from fiducial.checks.finding import Finding, Labelled
from fiducial.types import Instances, Pairs

AXES = 36
TRIED = 4
SYMMETRIC = 0.17  # of a mirrored shape on itself, root mean square over size, up to which a set is symmetric at all
WRONG = 0.06  # how far a point's named partner lies from where its mirror image falls, over the shape's size, at least
TIMES = 4.0  # and how many times as far as the point that does lie there


def mirror_order(shape: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The point that each point of a shape [k, 2] falls on in its best mirror, [k], and the mirrored shape; None where it
    has no symmetry, or none that gives back every point when it is done twice."""
    size = float(np.linalg.norm(shape - shape.mean(0)))
    weight = np.ones(len(shape))
    centred = shape - shape.mean(0)
    mirrored = geometry.transform(geometry.scaling(-1, 1), centred)
    turns = [geometry.rotation(2 * np.pi * number / AXES) for number in range(AXES)]
    laid = np.stack([geometry.transform(turn, mirrored) for turn in turns])
    apart = np.linalg.norm(laid[:, :, None] - centred, axis=-1)
    near = apart.min(1).sum(1) + apart.min(2).sum(1)
    best, least, lies = None, np.inf, laid[0]
    for number in near.argsort()[:TRIED].tolist():
        points, order = laid[number], None
        for _ in range(4):
            taken = assigned(np.linalg.norm(points[:, None] - centred, axis=-1) ** 2)
            if order is not None and (taken == order).all():
                break
            order = taken
            points = geometry.transform(geometry.similarity(points, centred[order], weight), points)
        assert order is not None
        order = _involution(order, np.linalg.norm(points[:, None] - centred, axis=-1))
        off = float(np.linalg.norm(points - centred[order])) / size
        if off < least:
            best, least, lies = order, off, points
    return None if best is None or least > SYMMETRIC else (best, lies + shape.mean(0))


def _involution(order: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """The order where doing it twice gives back every point; points for which it doesn't are paired anew, the nearest
    first, with each other or with themselves."""
    loose = np.flatnonzero(order[order] != np.arange(len(order))).tolist()
    result = order.copy()
    both = cost + cost.T
    for _, a, b in sorted((both[a, b] * (0.5 if a == b else 1), a, b) for a in loose for b in loose if a <= b):
        if a in loose and b in loose:
            result[a], result[b] = b, a
            loose = [point for point in loose if point not in (a, b)]
    return result


def refuted(instances: Instances) -> tuple[list[int], np.ndarray] | None:
    """The points whose named partner is not where their mirror image falls, and the order that the shapes prove; None where
    they prove nothing, or what is named."""
    skeleton = instances.skeleton
    if not skeleton.flip_pairs or len(instances) < shapes.FEWEST:
        return None
    laid, _ = shapes.aligned(instances.xy, instances.labelled)
    count = len(skeleton.points)
    usual = np.full((count, 2), np.nan)
    for point in range(count):
        known = instances.labelled[:, point] & np.isfinite(laid[:, point]).all(1)
        if known.any():
            usual[point] = np.median(laid[known, point], axis=0)
    if not np.isfinite(usual).all() or count < 3:
        return None
    found = mirror_order(usual)
    if found is None:
        return None
    proved, mirrored = found
    named = skeleton.flip_order
    size = float(np.linalg.norm(usual - usual.mean(0)))
    off_named = np.linalg.norm(mirrored - usual[named], axis=1) / size
    off_proved = np.linalg.norm(mirrored - usual[proved], axis=1) / size
    wrong = np.flatnonzero((off_named > WRONG) & (off_named > TIMES * off_proved) & (named != proved))
    if len(wrong) == 0:
        return None
    order = named.copy()
    touched = set(wrong.tolist()) | {int(proved[i]) for i in wrong} | {int(named[i]) for i in wrong}
    for point in touched:
        order[point] = proved[point]
    if not (order[order] == np.arange(count)).all():
        order = proved
    return sorted(np.flatnonzero(order != named).tolist()), order


def pairs_of(order: np.ndarray) -> Pairs:
    """The pairs of an order that is its own inverse."""
    return tuple((i, int(j)) for i, j in enumerate(order) if i < j)


def check_pairs(labelled: Labelled, joined: Instances) -> list[Finding]:
    """Tells of flip pairs that the shapes refute."""
    found = refuted(joined)
    if found is None:
        return []
    points, order = found
    names = joined.skeleton.points
    named = joined.skeleton.flip_order
    shown = ", ".join(f"{names[i]} with {names[named[i]]}, but {names[order[i]]} lies there" for i in points[:3])
    more = f" and {len(points) - 3} more" if len(points) > 3 else ""
    return [
        Finding(
            kind="flip_pairs",
            split=", ".join(labelled.splits),
            points=tuple(names[i] for i in points),
            confidence=0.95,
            what=f"flip_indices pair {shown}{more}: learning from mirrored images would mix them up",
            proposal={"flip_indices": order.tolist()},
        )
    ]
