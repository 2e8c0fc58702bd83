"""A video's instances gone through again when all of it is known: who had no number yet is known from behind, tracks that
are certainly one are joined, points are smoothed both ways, and who is missing for a few frames is filled in.

Smoothing is by the filter and smoother of `kalman.py`. How much each point wanders beside how much it trembles is chosen for
each track by the likelihood of what was measured, so that nothing is to be set: points that were found exactly stay as they
are, whatever moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from fiducial import geometry
from fiducial.prediction import kalman
from fiducial.prediction.boxes import Boxes
from fiducial.prediction.found import InstancesFound
from fiducial.prediction.identities import Identities, Known, Rules, alike, begun, scaled
from fiducial.prediction.tracking import UNKNOWN
from fiducial.types import Keypoints

FILLED = 10  # frames for which someone who is missing is filled in
SEEN = 10  # sightings at the end of a track, by which it is foretold
JOINED = 60  # frames between two tracks that may be one
CERTAIN = 0.3  # how alike the end of the one and the beginning of the other are at least, foretold from both
RIVAL = 0.5  # how alike any other pair of either may be, as a share of it
RATIOS = 10.0 ** np.arange(-5, 2)  # of the variances of a frame's acceleration and of a measurement, that are tried
STEADY = 1.0  # share of a speed that is kept a frame: forwards and backwards are the same
FREE = 1e4  # variance of the speed at first, in that of a measurement
FINEST_PX = 0.02  # standard deviation of a measurement at least: points that never tremble would have none
JUMP = 0.15  # sides: a point that leaves for one frame by more than this, and comes back, was not measured there

Frames = Sequence[InstancesFound | None]  # of one video, in order; None where a frame was not looked at


@dataclass(frozen=True)
class GoneThrough:
    """What came of it."""

    frames: list[InstancesFound | None]
    filled: int  # instances that were filled in
    joined: int  # tracks that became one with another


@dataclass(frozen=True)
class Track:
    """One instance through the video."""

    number: int
    at: np.ndarray  # [s] frames in which it was found, ascending
    row: np.ndarray  # [s] its row there

    def behind(self, other: Track) -> Track:
        """Continues another track."""
        return Track(other.number, np.concatenate([other.at, self.at]), np.concatenate([other.row, self.row]))


def gone_through(frames: Frames, sigmas: tuple[float, ...] | None = None) -> GoneThrough:
    """Goes through the frames of a video; sigmas [k] of the skeleton."""
    named = _named_from_behind(frames, sigmas)
    tracks = _tracks(named)
    joined = _joined(named, tracks, sigmas)
    renamed = _renamed(named, joined)
    points = [frame.points.xy.astype(np.float64) if frame else None for frame in renamed]
    filled: list[list[Filled]] = [[] for _ in frames]
    for track in joined:
        for piece in _pieces(track):
            _smooth(renamed, piece, points, filled)
    result = [
        _with(renamed, frame, xy, own) if frame is not None and xy is not None else None
        for frame, xy, own in zip(renamed, points, filled, strict=True)
    ]
    return GoneThrough(result, sum(map(len, filled)), len(tracks) - len(joined))


def _named_from_behind(frames: Frames, sigmas: tuple[float, ...] | None) -> list[InstancesFound | None]:
    """With numbers for those who had none when they were seen first, by going backwards from where they have one."""
    result = list(frames)
    if not any(frame is not None and UNKNOWN in frame.boxes.track_ids for frame in frames):
        return result
    identities = Identities(sigmas, Rules(sure=np.inf, sightings=len(frames) + 1))
    for place in range(len(frames) - 1, -1, -1):
        frame = frames[place]
        if frame is None or len(frame.boxes.track_ids) != len(frame.boxes.xywh):
            continue
        ids = np.array(frame.boxes.track_ids, np.int64)
        kinds = _kinds(frame.boxes)
        told = identities(frame.boxes.array(), None, frame.points, kinds=kinds, numbers=ids)
        result[place] = replace(frame, boxes=replace(frame.boxes, track_ids=told.tolist()))
        if frame.is_cut:
            identities.forget()
    return result


def _kinds(boxes: Boxes) -> np.ndarray | None:
    """Categories as numbers that are the same in all frames."""
    return np.array([hash(kind) for kind in boxes.category_ids], np.int64) if boxes.category_ids else None


def _tracks(frames: Frames) -> list[Track]:
    """Everyone with a number, in the order of their first frames."""
    places: dict[int, list[tuple[int, int]]] = {}
    for at, frame in enumerate(frames):
        for row, number in enumerate(frame.boxes.track_ids if frame else ()):
            if number != UNKNOWN:
                places.setdefault(number, []).append((at, row))
    return [Track(number, *np.array(own).T) for number, own in places.items()]


# ------------------------------------------------------------------------------------------------------- joining


def _joined(frames: Frames, tracks: list[Track], sigmas: tuple[float, ...] | None) -> list[Track]:
    """The tracks, those put together of which nobody else can be the continuation."""
    cuts = [at for at, frame in enumerate(frames) if frame is not None and frame.is_cut]
    worth = np.zeros((len(tracks), len(tracks)))
    for i, one in enumerate(tracks):
        for j, other in enumerate(tracks):
            gap = other.at[0] - one.at[-1]
            if 0 < gap <= JOINED and not any(one.at[-1] < cut <= other.at[0] for cut in cuts):
                worth[i, j] = _alike(frames, one, other, int(gap), sigmas)
    follower: dict[int, int] = {}
    for i, j in np.argwhere(worth >= CERTAIN).tolist():
        rivals = np.concatenate([np.delete(worth[i], j), np.delete(worth[:, j], i)])
        if rivals.max(initial=0) <= RIVAL * worth[i, j]:
            follower[i] = j
    result = []
    for i in range(len(tracks)):
        if i not in follower.values():
            whole, last = tracks[i], i
            while last in follower:
                last = follower[last]
                whole = tracks[last].behind(whole)
            result.append(whole)
    return result


def _alike(frames: Frames, one: Track, other: Track, gap: int, sigmas: tuple[float, ...] | None) -> float:
    """How alike the one's end is to the other's beginning, foretold from either, 0..1."""
    ends = [_end(frames, track, way) for track, way in ((one, 1), (other, -1))]
    if ends[0].kind[0] != ends[1].kind[0]:
        return 0.0
    seen = [_begun(frames, track, place) for track, place in ((one, -1), (other, 0))]
    likeness = [
        alike(end.ahead(gap), goal, scaled(sigmas), Rules.points)[0][0]
        for end, goal in zip(ends, seen[::-1], strict=True)
    ]
    return float(np.mean(likeness))


def _end(frames: Frames, track: Track, way: int) -> Known:
    """What is known of someone at the last sighting, or at the first when time runs backwards (way -1)."""
    places = np.arange(len(track.at))[::way][-SEEN:].tolist()
    known = _begun(frames, track, places[0])
    for before, place in pairwise(places):
        known = known.ahead(abs(int(track.at[place] - track.at[before]))).met(_begun(frames, track, place))
    return known


def _begun(frames: Frames, track: Track, place: int) -> Known:
    """Someone as found in one frame."""
    frame = frames[track.at[place]]
    assert frame is not None
    rows, kinds = track.row[place : place + 1] if place >= 0 else track.row[place:], _kinds(frame.boxes)
    return begun(frame.boxes.array()[rows], frame.points.select(rows), None if kinds is None else kinds[rows])


def _renamed(frames: Frames, joined: list[Track]) -> list[InstancesFound | None]:
    """With the numbers of the tracks, as they are now."""
    numbers = [list(frame.boxes.track_ids) if frame else [] for frame in frames]
    for track in joined:
        for at, row in zip(track.at.tolist(), track.row.tolist(), strict=True):
            numbers[at][row] = track.number
    return [
        replace(frame, boxes=replace(frame.boxes, track_ids=own)) if frame else None
        for frame, own in zip(frames, numbers, strict=True)
    ]


# ----------------------------------------------------------------------------------------------------- smoothing


class Filled(NamedTuple):
    """Someone who was not found in a frame."""

    number: int
    box_xywh: np.ndarray  # [4]
    xy: np.ndarray  # [k, 2]
    ends: tuple[tuple[int, int], tuple[int, int]]  # frame and row of the sightings before and behind


def _pieces(track: Track) -> list[Track]:
    """The stretches of a track without a gap that is too long to be filled."""
    breaks = np.flatnonzero(np.diff(track.at) > FILLED + 1) + 1
    parts = zip(np.split(track.at, breaks), np.split(track.row, breaks), strict=True)
    return [Track(track.number, at, row) for at, row in parts]


def _smooth(frames: Frames, piece: Track, points: list[np.ndarray | None], filled: list[list[Filled]]) -> None:
    """Smooths the points of one stretch in place, and adds who is missing in it."""
    first, count = int(piece.at[0]), int(piece.at[-1] - piece.at[0]) + 1
    measured = [_begun(frames, piece, place) for place in range(len(piece.at))]
    values = np.full((count, *measured[0].mean.shape[1:3]), np.nan)
    values[piece.at - first] = [one.mean[0, ..., 0] for one in measured]
    side = float(np.median([one.side[0] for one in measured]))
    smooth = smoothed(_without_jumps(values, JUMP * side))
    rows = dict(zip(piece.at.tolist(), piece.row.tolist(), strict=True))
    behind = piece.at[np.searchsorted(piece.at, np.arange(first, first + count))].tolist()
    before = first
    for at, value, later in zip(range(first, first + count), smooth, behind, strict=True):
        xy = points[at]
        if at in rows and xy is not None:
            before = at
            xy[rows[at]] = np.where(np.isfinite(value[:-2]), value[:-2], xy[rows[at]])
        elif xy is not None:
            box = geometry.box_from_corners(value[-2:].reshape(4))
            filled[at].append(Filled(piece.number, box, value[:-2], ((before, rows[before]), (later, rows[later]))))


def _without_jumps(values: np.ndarray, most_px: float) -> np.ndarray:
    """Without those coordinates [t, m, 2] that leave their place for one frame."""
    result = values.copy()
    middle, across = (values[:-2] + values[2:]) / 2, values[2:] - values[:-2]
    off = np.linalg.norm(values[1:-1] - middle, axis=-1)
    jumps = (off > most_px) & (np.linalg.norm(across, axis=-1) < off)
    result[1:-1][jumps] = np.nan
    return result


def smoothed(values: np.ndarray) -> np.ndarray:
    """Smooths coordinates [t, m, 2] both ways, NaN where not measured; also what lies between is told. NaN before the first
    measurement and behind the last stay."""
    acceleration = RATIOS[_likelihood(values).argmax(0), None]
    filtered = [kalman.started(values[0], 1.0, FREE)]
    forecast = list(filtered)
    for value in values[1:]:
        forecast.append(kalman.predicted(filtered[-1], 1, acceleration, STEADY))
        filtered.append(kalman.updated(forecast[-1], value, 1.0))
    result = np.array([state.value for state in kalman.smoothed(filtered, forecast, [1.0] * len(values), STEADY)])
    known = np.isfinite(values)
    inside = np.logical_or.accumulate(known) & np.logical_or.accumulate(known[::-1])[::-1]
    return np.where(inside, result, np.nan)


def _likelihood(values: np.ndarray) -> np.ndarray:
    """Log-likelihood of each of RATIOS for each of m points, up to a constant: [ratios, m]. The variance of a measurement is
    the likeliest for each ratio."""
    acceleration = RATIOS[:, None, None]
    state = kalman.started(np.broadcast_to(values[0], (len(RATIOS), *values.shape[1:])), 1.0, FREE)
    logs, squares, count = np.zeros((3, len(RATIOS), values.shape[1]))
    for value in values[1:]:
        state = kalman.predicted(state, 1, acceleration, STEADY)
        apart, variance = value - state.value, state.variance + 1
        known = np.isfinite(apart)
        logs += np.where(known, np.log(variance), 0).sum(-1)
        squares += np.where(known, apart**2 / variance, 0).sum(-1)
        count += known.sum(-1)
        state = kalman.updated(state, np.broadcast_to(value, apart.shape), 1.0)
    noise = np.maximum(squares / np.maximum(count, 1), FINEST_PX**2)
    return -(count * np.log(noise) + logs + squares / noise) / 2


def _with(frames: Frames, frame: InstancesFound, xy: np.ndarray, filled: Sequence[Filled]) -> InstancesFound:
    """A frame with points as they were smoothed, and those who were filled in behind the others."""
    points = replace(frame.points, xy=xy)
    if not filled:
        return replace(frame, points=points)
    near = [_sure_of(frames, one) for one in filled]
    own, ends = frame.boxes, [boxes for boxes, _ in near]

    def longer(name: str, more: Sequence[Any]) -> list[Any]:
        held = vars(own)[name] or [None] * len(own.xywh)
        return [*held, *more] if any(value is not None for value in (*held, *more)) else []

    def of_ends(name: str) -> list[Any]:
        return [vars(boxes)[name][0] if vars(boxes)[name] else None for boxes in ends]

    boxes = replace(
        own,
        xywh=[*own.xywh, *(one.box_xywh.round(3).tolist() for one in filled)],
        category_ids=longer("category_ids", of_ends("category_ids")),
        track_ids=[*own.track_ids, *(one.number for one in filled)],
        image_ids=[*own.image_ids, *([own.image_id] * len(filled))] if own.image_ids else [],
        annotation_ids=longer("annotation_ids", [None] * len(filled)),
        scores=longer("scores", of_ends("scores")),
        filled=[*([False] * len(own.xywh)), *([True] * len(filled))],
    )
    parts = [points, *(found for _, found in near)] if len(points.xy) else [found for _, found in near]
    return replace(frame, boxes=boxes, points=Keypoints.joined(parts))


def _sure_of(frames: Frames, one: Filled) -> tuple[Boxes, Keypoints]:
    """The box and points of someone who was filled in: no surer than at either end."""
    ends = []
    for at, row in one.ends:
        frame = frames[at]
        assert frame is not None
        ends.append((frame.boxes.picked(np.array([row])), frame.points.select(np.array([row]))))
    (boxes, found), (other_boxes, other) = ends
    scores = [min(pair) for pair in zip(boxes.scores, other_boxes.scores, strict=True)]
    xy = np.where(np.isfinite(one.xy), one.xy, found.xy[0])
    return replace(boxes, scores=scores), replace(found, xy=xy[None], score=np.minimum(found.score, other.score))
