"""Numbers that can't be what they are said to be: coordinates divided by the size, boxes of corners, points that are not
there. Asked of instances as they stand in a file, before what is wrong is left out."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from fiducial import geometry
from fiducial.checks.finding import Finding, Labelled
from fiducial.data.checking import marks_of
from fiducial.types import Instances

FEWEST = 5  # instances from which a whole split is judged
MOST_SHARE = 0.8  # of a split's instances, from which a fault is one of the split
FOLLOW = 0.5  # correlation of boxes' middles with their points', for boxes that somebody drew
BETTER = 1.5  # times as much of their boxes the points must take where these are read as corners
SLACK = 0.25  # of a box's sides, by which points may lie outside of it
FAR = 0.05  # of the image's side, from which a point outside of it is told of
PILED = 5  # instances whose point lies at exactly one place on the image's edge


def check_places(split: str, instances: Instances) -> list[Finding]:
    """Tells of a split's coordinates and boxes; `instances` as a format file read them."""
    if len(instances) == 0:
        return []
    xy = np.where(np.isfinite(instances.xy), instances.xy, np.nan).astype(np.float64)
    known = (instances.visibility > 0) & np.isfinite(xy).all(-1)
    sizes = instances.image_size[instances.image_row].astype(np.float64)
    units, rows = _unit(split, instances, xy, known, sizes)
    if rows.all():
        return units
    findings, missing = _missing(split, instances, xy, known & ~rows[:, None], sizes)
    findings += units
    known = known & ~missing & ~rows[:, None]
    findings += _outside(split, instances, xy, known, sizes)
    return findings + _boxes(split, instances, xy, known, sizes)


def _about(split: str, instances: Instances, row: int, points: np.ndarray, **told: object) -> Finding:
    return Labelled({split: instances}).finding(row, **told, points=points.tolist())  # type: ignore[arg-type]


def _unit(
    split: str, instances: Instances, xy: np.ndarray, known: np.ndarray, sizes: np.ndarray
) -> tuple[list[Finding], np.ndarray]:
    """Coordinates within 0..1, of all or of some; and which instances they are of, [n] bool."""
    large = (sizes.max(1) > 4) | (sizes.max(1) == 0)
    within = (((xy >= -0.05) & (xy <= 1.05)).all(-1) | ~known).all(1)
    told: dict[str, Any] = {"kind": "unit_coordinates", "proposal": {"times": "image_size"}}
    if known.sum() >= FEWEST and large.all() and within.all():
        what = (
            f"all {known.sum()} labelled points lie within 0..1: coordinates divided by the image's size; expected px"
        )
        return [Finding(split=split, confidence=0.99, what=what, **told)], np.ones(len(xy), bool)
    rows = large & within & (known.sum(1) >= 3) & (np.ptp(np.where(known[..., None], xy, 0.5), axis=1).max(-1) > 0)
    what = "all of its points lie within 0..1, and others' do not: coordinates divided by the image's size; expected px"
    found = [
        _about(split, instances, int(row), np.flatnonzero(known[row]), confidence=0.95, what=what, **told)
        for row in np.flatnonzero(rows)
    ]
    return found, rows


def _missing(
    split: str, instances: Instances, xy: np.ndarray, known: np.ndarray, sizes: np.ndarray
) -> tuple[list[Finding], np.ndarray]:
    """Points at (-1, -1), at (0, 0) far from the others, and piled up at one place of the image's edge."""
    negative, zero = (known & marks for marks in marks_of(instances))
    with np.errstate(invalid="ignore"):
        spread = np.nanmax(np.where(known[..., None], xy, np.nan), axis=(1, 2), initial=0) > 0
    missing = negative | (zero & spread.reshape(-1, 1) & (zero.sum() >= 2))
    on_edge = known & ((xy <= 0.5).any(-1) | ((sizes[:, None] > 0) & (xy >= sizes[:, None] - 1.5)).any(-1))
    places: Counter[tuple[int, float, float]] = Counter()
    for row, point in np.argwhere(on_edge).tolist():
        places[(point, *xy[row, point].tolist())] += 1
    for (point, x, y), count in places.items():
        if count >= PILED:
            missing[:, point] |= on_edge[:, point] & (xy[:, point] == (x, y)).all(-1)
    findings = []
    for row in np.flatnonzero(missing.any(1)):
        points = np.flatnonzero(missing[row])
        names = [instances.skeleton.points[i] for i in points]
        at = sorted({(float(x), float(y)) for x, y in xy[row, points]})
        findings.append(
            _about(
                split,
                instances,
                int(row),
                points,
                kind="missing_as_label",
                confidence=0.98 if negative[row].any() else 0.95,
                what=f"labelled at {', '.join(f'({x:g}, {y:g})' for x, y in at[:3])}, as {int(missing.sum())} points of the "
                "split are: what is missing was written as a label",
                proposal={"missing": names},
            )
        )
    return findings, missing


def _outside(split: str, instances: Instances, xy: np.ndarray, known: np.ndarray, sizes: np.ndarray) -> list[Finding]:
    declared = sizes.min(1) > 0
    reach = FAR * sizes.max(1)[:, None, None]

    def off(points: np.ndarray) -> np.ndarray:
        beyond = ((points < -0.5 - reach) | (points > sizes[:, None] - 0.5 + reach)).any(-1)
        return known & declared[:, None] & beyond

    beyond = off(xy)
    odd = declared & (np.abs(sizes[:, 0] - sizes[:, 1]) > 2 * FAR * sizes.max(1)) & known.any(1)
    exchanged = np.asarray(beyond.any(1) & ~off(xy[..., ::-1]).any(1))
    findings = []
    if odd.sum() >= FEWEST and exchanged[odd].mean() > 0.5 * max(beyond[odd].any(1).mean(), 0.5):
        findings.append(
            Finding(
                kind="outside",
                split=split,
                confidence=0.95,
                what=f"points of {int(exchanged.sum())} instances lie outside of their image, and inside with x and y exchanged",
                proposal={"transpose": True},
            )
        )
        return findings
    for row in np.flatnonzero(beyond.any(1)):
        points = np.flatnonzero(beyond[row])
        findings.append(
            _about(
                split,
                instances,
                int(row),
                points,
                kind="outside",
                confidence=0.9,
                what=f"labelled outside of the image of {sizes[row][0]:.0f}x{sizes[row][1]:.0f}",
                proposal={"missing": [instances.skeleton.points[i] for i in points]},
            )
        )
    return findings


def _boxes(split: str, instances: Instances, xy: np.ndarray, known: np.ndarray, sizes: np.ndarray) -> list[Finding]:
    boxes = instances.box_xywh.astype(np.float64)
    given = np.isfinite(boxes).all(1) & (known.sum(1) >= 2) & (boxes[:, 2:] > 0).all(1)
    if not given.any():
        return []
    corners = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    inside, inside_corners = _share_inside(boxes, xy, known), _share_inside(corners, xy, known)
    sticks_out = (sizes.min(1) > 0) & ((boxes[:, :2] + boxes[:, 2:]) > sizes * (1 + FAR)).any(1)
    is_corner = given & (corners[:, 2:] > 0).all(1) & (inside_corners >= 0.99) & (sticks_out | (inside < 0.5))
    could = given & (corners[:, 2:] > 0).all(1) & (inside_corners >= 0.99)
    findings = []
    fits, fits_corners = _fit(boxes, xy, known), _fit(corners, xy, known)
    tighter = np.median(fits_corners[given]) > BETTER * np.median(fits[given])
    better = is_corner.sum() >= 0.3 * given.sum() or (tighter and _follow(corners[given], xy[given], known[given]))
    if given.sum() >= FEWEST and could.sum() >= MOST_SHARE * given.sum() and better:
        findings.append(
            Finding(
                kind="corner_box",
                split=split,
                confidence=0.98,
                what=f"{int(could.sum())} of {int(given.sum())} boxes hold their points as two corners, and fit them worse as x, "
                "y, w, h: written as corners",
                proposal={"box": "corners"},
            )
        )
        return findings
    for row in np.flatnonzero(is_corner):
        findings.append(
            _about(
                split,
                instances,
                int(row),
                np.array([], int),
                kind="corner_box",
                confidence=0.9,
                what="the box leaves the image as x, y, w, h, and holds its points as two corners",
                proposal={"box": [round(float(value), 2) for value in corners[row]]},
            )
        )
    misses = given & ~is_corner & (inside < 0.5)
    for row in np.flatnonzero(misses):
        points = np.flatnonzero(known[row])
        findings.append(
            _about(
                split,
                instances,
                int(row),
                np.array([], int),
                kind="box_misses_points",
                confidence=0.9 if inside[row] < 0.2 else 0.7,
                what=f"{round((1 - inside[row]) * len(points))} of {len(points)} points lie outside of its box",
                proposal=None,
            )
        )
    return findings


def _follow(boxes: np.ndarray, xy: np.ndarray, known: np.ndarray) -> bool:
    """Tells whether the boxes' middles go with their points' from instance to instance: those of one box for all do not."""
    middle = geometry.box_middle(boxes)
    of_points = (xy * known[..., None]).sum(1) / known.sum(1)[:, None]
    if min(middle.std(0).min(), of_points.std(0).min()) == 0:
        return False
    return all(np.corrcoef(middle[:, axis], of_points[:, axis])[0, 1] > FOLLOW for axis in (0, 1))


def _fit(boxes: np.ndarray, xy: np.ndarray, known: np.ndarray) -> np.ndarray:
    """[n] how much of boxes [n, 4] the tight boxes of their points take; 0 where that is more than all."""
    tight = np.stack([geometry.box_of_points(own, there) for own, there in zip(xy, known, strict=True)])
    share = tight[:, 2:].prod(1) / np.maximum(boxes[:, 2:].prod(1), 1e-9)
    return np.where(np.isfinite(share) & (share <= 1.5) & (boxes[:, 2:] > 0).all(1), share, 0)


def _share_inside(boxes: np.ndarray, xy: np.ndarray, known: np.ndarray) -> np.ndarray:
    """[n] the share of the known points in boxes [n, 4], widened by `SLACK`."""
    low = boxes[:, None, :2] - SLACK * boxes[:, None, 2:]
    high = boxes[:, None, :2] + (1 + SLACK) * boxes[:, None, 2:]
    with np.errstate(invalid="ignore"):
        inside = ((xy >= low) & (xy <= high)).all(-1) & known
    return inside.sum(1) / np.maximum(known.sum(1), 1)
