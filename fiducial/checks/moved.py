"""Labels that lie where the other points of their instance say they can't.

Each point is predicted from the others under the distribution of the set's shapes, whatever their pose, and measured in
spreads of that prediction (a conditional t, so that a shape that is unusual as a whole allows more). The farthest is taken
out before the others are asked again, since a wrong point makes its neighbours look wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fiducial import geometry
from fiducial.checks import shapes
from fiducial.checks.finding import Finding, Labelled
from fiducial.types import Instances

LOOKED_AT = 3.0  # spreads off, from which a point is a candidate
# Of what is told, that may be wrong (Benjamini and Hochberg, J. R. Statist. Soc. B 1995), as far as the tails below are
# right, which are too long rather than too short: on planted faults it is less (`benchmarks/planted_faults.py`).
FALSE_SHARE = 0.15
# The tail of a point's sound labels: a t through these shares of how far they lie, with degrees of freedom in this range. Each
# point has its own, since knees go where eyes never do.
HALF, MOST_SOUND, FREEDOMS = 0.5, 0.85, (2.5, 6.0)
MOST_A_SHAPE = 1 / 3  # of the points of an instance: where more are off, the shape is unusual and no point moved
FEWEST_POINTS = 4
# A point that lies off as in so many others, within this share of how far, and so many times as often as elsewhere around
# where it is expected, was not moved.
FEW_ALIKE, NEAR, ALIKE, DIRECTIONS = 3, 0.4, 3.0, 8


@dataclass(frozen=True, kw_only=True)
class Moved:
    """Tells that a label lies far from where its instance's other points expect it."""

    row: int
    point: int
    spreads: float  # how far, in spreads of the expectation
    xy: tuple[float, float]  # px: where it is expected
    chance: float  # that a sound label lies so far


def moved_points(instances: Instances) -> list[Moved]:
    """Finds labels far from where they are expected, at most a share of `FALSE_SHARE` of them wrongly if labels err as most
    of these do."""
    if len(instances) < shapes.FEWEST or len(instances.skeleton.points) < FEWEST_POINTS:
        return []
    laid, maps = shapes.aligned(instances.xy, instances.labelled)
    known = instances.labelled & np.isfinite(laid).all(-1)
    model = shapes.distribution_of(laid.reshape(len(laid), -1), np.repeat(known, 2, axis=1)).with_free_pose()
    candidates: list[tuple[int, int, float, np.ndarray]] = []
    sound = np.full(known.shape, np.nan)  # [n, k] how far, in spreads, what is no candidate lies
    others = np.full(laid.shape, np.nan)  # [n, k, 2] by what the points lie from where they are expected
    for rows, points in shapes.patterns(known):
        if len(points) >= FEWEST_POINTS:
            for row in rows:
                off, left, rest, others[row, points] = _odd_ones(model, laid[row], points)
                candidates += [(int(row), point, away, expected) for point, away, expected in off]
                sound[row, left] = rest
    if not candidates:
        return []
    distance = np.array([away for _, _, away, _ in candidates])
    of_point = np.array([point for _, point, _, _ in candidates])
    chance = np.ones(len(candidates))
    for point in np.unique(of_point):
        own, rest = of_point == point, sound[:, point]
        chance[own] = _chance(distance[own], rest[np.isfinite(rest)])
    limit = _limit(chance, int(np.isfinite(sound).sum()) + len(distance))
    back = geometry.invert(np.where(np.isfinite(maps), maps, np.eye(3)))
    found = []
    for (row, point, away, expected), likely in zip(candidates, chance, strict=True):
        if likely <= limit and not _is_common(laid[row, point] - expected, others[:, point]):
            x, y = geometry.transform(back[row], expected[None])[0]
            xy = (float(x), float(y))
            found.append(Moved(row=row, point=point, spreads=away, xy=xy, chance=float(likely)))
    return found


def _odd_ones(
    model: shapes.Distribution, shape: np.ndarray, points: np.ndarray
) -> tuple[list[tuple[int, float, np.ndarray]], list[int], np.ndarray, np.ndarray]:
    """The points of a shape [k, 2] that are off: number, distance in spreads, where they are expected; the others, and their
    distances; and by how much each point lies from where all others expect it."""
    used = shapes.xy_of(points)
    precision, away = _precision(model, points), shape.ravel()[used] - model.mean[used]
    left = list(points)
    distance, by = shapes.distances_from_expected(precision, away)
    off: list[int] = []
    most = max(1, int((len(points) - 2) * MOST_A_SHAPE))
    while distance.max() >= LOOKED_AT and len(off) < most and len(left) >= FEWEST_POINTS:
        place = int(distance.argmax())
        off.append(int(left.pop(place)))
        gone = slice(2 * place, 2 * place + 2)
        precision = precision - precision[:, gone] @ np.linalg.inv(precision[gone, gone]) @ precision[gone]
        precision = np.delete(np.delete(precision, gone, 0), gone, 1)
        away = np.delete(away, gone)
        distance, _ = shapes.distances_from_expected(precision, away)
    told = []
    for point in off:
        asked = np.array([point, *left])
        numbers = shapes.xy_of(asked)
        spreads, expected = shapes.distances_from_expected(
            model.precision(numbers), shape.ravel()[numbers] - model.mean[numbers]
        )
        if spreads[0] >= LOOKED_AT:
            told.append((point, float(spreads[0]), shape[point] - expected[0]))
    return told, left, distance, by


def _is_common(by: np.ndarray, others: np.ndarray) -> bool:
    """Whether a point lies off [2] as it does in several others [n, 2], and not in any other direction: legs that are lifted,
    and no mistakes, which have no direction."""
    reach = NEAR * float(np.linalg.norm(by))
    others = others[np.isfinite(others).all(1)]
    counts = []
    for number in range(DIRECTIONS):
        turned = geometry.transform_vectors(geometry.rotation(2 * np.pi * number / DIRECTIONS), by[None])[0]
        counts.append(int((np.linalg.norm(others - turned, axis=1) < reach).sum()))
    own = counts[0] - 1  # itself
    return own >= FEW_ALIKE and own > ALIKE * np.mean(counts[1:])


_last: list[tuple[shapes.Distribution, bytes, np.ndarray]] = []


def _precision(model: shapes.Distribution, points: np.ndarray) -> np.ndarray:
    """The precision of a set of points; that of the last one is kept, since instances come by their points."""
    key = points.tobytes()
    if not _last or _last[0][0] is not model or _last[0][1] != key:
        _last[:] = [(model, key, model.precision(shapes.xy_of(points)))]
    return _last[0][2]


def _chance(distance: np.ndarray, sound: np.ndarray) -> np.ndarray:
    """How likely sound labels of a point lie so far: a t in the plane whose scale and tail are those of all of them, the
    `sound` and what is asked about."""
    half, most = np.quantile(np.concatenate([sound, distance]), (HALF, MOST_SOUND))
    freedom = np.linspace(*FREEDOMS, 61)
    # The t's own ratio of these two quantiles falls as its freedom grows.
    lower, upper = ((1 - share) ** (-2 / freedom) - 1 for share in (HALF, MOST_SOUND))
    chosen = int(np.abs(np.sqrt(upper / lower) - max(most / half, 1.0)).argmin())
    scale2 = half**2 / (freedom[chosen] * lower[chosen])
    return (1 + distance**2 / (scale2 * freedom[chosen])) ** (-freedom[chosen] / 2)


def _limit(chance: np.ndarray, tests: int) -> float:
    """The largest chance of those told, so that `FALSE_SHARE` of them are wrong."""
    ordered = np.sort(chance)
    passed = np.flatnonzero(ordered <= FALSE_SHARE * np.arange(1, len(ordered) + 1) / tests)
    return float(ordered[passed[-1]]) if len(passed) else -1.0


def check_moved(labelled: Labelled, joined: Instances, told: set[int]) -> list[Finding]:
    """Tells of labels that were moved, but in rows that are `told` of already."""
    findings = []
    for moved in moved_points(joined):
        if moved.row not in told:
            x, y = moved.xy
            findings.append(
                labelled.finding(
                    moved.row,
                    "moved_point",
                    [moved.point],
                    confidence=1 - min(0.5, moved.chance * 1e3),
                    what=f"lies {moved.spreads:.0f} spreads from where the instance's other points expect it",
                    proposal={"xy": {joined.skeleton.points[moved.point]: [round(x, 2), round(y, 2)]}},
                )
            )
    return findings
