"""Who is who from frame to frame, of instances that were found in each: by points, boxes and motion.

Where everyone of the frames before should be now is foretold by a Kalman filter of points and box (`kalman.py`); the found are
given to them so that all are most alike (Kuhn 1955). Alike is, to equal parts, the OKS of the points and the IoU of the boxes,
times how certain the foretold place is: who was seen a moment ago comes before who was not seen for long, and of two who
cross, who goes on comes before who would have to turn."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fiducial import geometry
from fiducial.evaluation import coco
from fiducial.evaluation.assignment import best_pairs, solver
from fiducial.prediction import kalman
from fiducial.prediction.kalman import State
from fiducial.prediction.tracking import UNKNOWN, confident
from fiducial.types import Keypoints

# Standard deviations, in sides of the instance's box (the root of its area) and a frame.
POINT_NOISE, BOX_NOISE = 0.03, 0.05  # of a measured point, and of a side of a measured box
SPEED, ACCELERATION = 0.1, 0.02  # of the speed of someone new; of its change from a frame to the next
DOUBT = 0.25  # of a foretold place, as far as it makes someone far off alike
SIGMA = 0.15  # mean of the sigmas by which points are alike; those of a skeleton are scaled to it


@dataclass(frozen=True, kw_only=True)
class Rules:
    """When two sightings are of the same instance."""

    points: float = 0.5  # share of the points in being alike; the rest is the box's
    least: float = 0.1  # how alike they must be
    gap: int = 30  # frames for which someone who is not seen is remembered
    sure: float = 0.5  # score of a box from which one sighting is enough to be someone
    sightings: int = 3  # frames in a row that it takes with lower scores


@dataclass(frozen=True)
class Known:
    """Everyone who is remembered: t instances, as columns."""

    number: np.ndarray  # [t] int64, UNKNOWN until it was seen enough
    kind: np.ndarray  # [t] int64: instances of other kinds are others
    seen: np.ndarray  # [t] in how many frames it was seen
    unseen: np.ndarray  # [t] frames since it was seen last
    side: np.ndarray  # [t] px, root of its box's area, then
    mean: np.ndarray  # [t, k + 2, 2, 2] of `State`: x and y, px, of the points and of the box's two corners
    cov: np.ndarray  # [t, k + 2, 2, 2, 2]

    @property
    def state(self) -> State:
        """Gives mean and covariance."""
        return State(self.mean, self.cov)

    def select(self, rows: np.ndarray) -> Known:
        """Gives some of them (indices or mask)."""
        return Known(**{name: column[rows] for name, column in vars(self).items()})

    def joined(self, other: Known) -> Known:
        """Gives them and others behind."""
        return Known(**{name: np.concatenate([column, vars(other)[name]]) for name, column in vars(self).items()})

    def ahead(self, steps: float) -> Known:
        """Foretells them, so many frames later."""
        state = kalman.predicted(self.state, steps, _px2(ACCELERATION, self.side))
        return Known(**{**vars(self), **state._asdict(), "unseen": self.unseen + steps})

    def met(self, found: Known) -> Known:
        """Takes in where they were found, row by row."""
        state = kalman.updated(self.state, found.mean[..., 0], _noise(found))
        return Known(self.number, self.kind, self.seen + found.seen, found.unseen, found.side, *state)


class Identities:
    """Numbers the instances of a video, frame by frame: 1, 2, .. in the order in which they are someone.

    Someone begins with a box that no one known is alike to. It has no number before it was seen in three frames in a row,
    or with a score of a half at once, so that false alarms get none; and it is forgotten 30 frames after it was last seen.
    Who comes back later has a new number, as nobody knows whether it is the same."""

    def __init__(
        self, sigmas: tuple[float, ...] | None = None, rules: Rules | None = None, numbers: Iterator[int] | None = None
    ) -> None:
        """sigmas [k] of the skeleton, None = all points alike; `numbers` to give, default 1, 2, .."""
        solver()  # said before anything is done where it is missing
        self.rules, self.numbers = rules or Rules(), numbers or itertools.count(1)
        self._sigmas = scaled(sigmas)
        self._known: Known | None = None

    def forget(self) -> None:
        """Ends all instances, as at a cut of the video: whoever is found next is someone new."""
        self._known = None

    def __call__(
        self,
        boxes_xywh: np.ndarray,
        box_score: np.ndarray | None,
        points: Keypoints,
        *,
        kinds: np.ndarray | None = None,
        numbers: np.ndarray | None = None,
        steps: float = 1,
    ) -> np.ndarray:
        """Gives the number of each instance of the next frame, [n] int64; -1 = not someone yet.

        Boxes [n, 4] of areas above 0, their scores [n] in 0..1 (None: all sure), points of n instances, k each (0: by boxes
        alone). kinds [n]: only equal ones are the same instance. numbers [n]: who they are, where that is known, as of
        those who are followed and not found anew; UNKNOWN elsewhere. Nobody is someone new then. `steps`: frames since the last call."""
        score = np.ones(len(boxes_xywh)) if box_score is None else np.asarray(box_score, np.float64)
        found = begun(boxes_xywh, points, kinds)
        found.seen[:] = numbers is None  # who is followed was not found again
        known = (found.select(np.zeros(0, np.int64)) if self._known is None else self._known).ahead(steps)
        rows, columns = self._pairs(known, found, score, numbers)
        met = known.select(rows).met(found.select(columns))
        alone = np.setdiff1d(np.arange(len(score)), columns)
        met, order = met.joined(found.select(alone)), np.concatenate([columns, alone])
        self._name(met, score[order], None if numbers is None else numbers[order])
        left = known.select(np.setdiff1d(np.arange(len(known.number)), rows))
        self._known = met.joined(left.select((left.unseen <= self.rules.gap) & (left.number != UNKNOWN)))
        result = np.full(len(score), UNKNOWN)
        result[order] = met.number
        return result

    def _name(self, met: Known, score: np.ndarray, numbers: np.ndarray | None) -> None:
        """Gives numbers to those who are someone now."""
        if numbers is not None:
            met.number[:] = np.where(numbers != UNKNOWN, numbers, met.number)
            return
        is_one = (met.number == UNKNOWN) & ((score >= self.rules.sure) | (met.seen >= self.rules.sightings))
        for row in np.flatnonzero(is_one).tolist():
            met.number[row] = next(self.numbers)

    def _pairs(
        self, known: Known, found: Known, score: np.ndarray, numbers: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the known and of the found that are the same instance. `known` is foretold for this frame."""
        told = np.zeros((len(known.number), len(found.number)), bool)
        if numbers is not None:
            told = (known.number[:, None] == numbers) & (numbers != UNKNOWN)
        is_open = np.ones(len(found.number), bool) if numbers is None else numbers == UNKNOWN
        open_pairs = np.logical_and(~told.any(1, keepdims=True), is_open)
        rows, columns = np.nonzero(_near(known, found) & (known.kind[:, None] == found.kind) & open_pairs)
        likeness, value = alike(known.select(rows), found.select(columns), self._sigmas, self.rules.points)
        worth = np.where(told, 10.0, 0.0)
        worth[rows, columns] = np.where(likeness >= self.rules.least, value * np.maximum(score[columns], 1e-3), 0)
        return best_pairs(worth)


def alike(known: Known, found: Known, sigmas: np.ndarray | None, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Says how alike p pairs are, 0..1, by the points that both have, and how much that is worth, by how certain the foretold
    places are and how many of the points both have, [p]. sigmas [k] (`scaled`); `share` of the points in it."""
    count = known.mean.shape[1] - 2
    area = (known.side**2 + found.side**2) / 2
    own = np.full(count + 2, SIGMA)
    if sigmas is not None:
        own[:count] = sigmas
    doubt = known.state.variance.mean(-1) / (4 * area[:, None])  # of a place, in the unit of a sigma's square
    apart = known.state.value - found.state.value
    counted = np.asarray(np.isfinite(apart).all(-1))
    apart = np.where(counted[..., None], apart, 0)[:, :count]
    wide = np.sqrt(own**2 + np.minimum(doubt, DOUBT**2 / 4))
    oks = coco.oks(apart, area, wide[:, :count], counted[:, :count])
    iou = geometry.box_iou(_boxes(known), _boxes(found))
    # The fewer of the points both have, the more the box decides: else a wrong box of two points would be as good as any.
    either = np.asarray(np.isfinite(known.state.value).all(-1) | np.isfinite(found.state.value).all(-1))
    both = counted[:, :count].sum(1) / np.maximum(either[:, :count].sum(1), 1)
    certain = np.where(counted, own**2 / (own**2 + doubt), 0).sum(1) / counted.sum(1)
    shares = share * (both > 0), share * both
    likeness, sure = (of_points * oks + (1 - of_points) * iou for of_points in shares)
    return likeness, certain * sure


def scaled(sigmas: tuple[float, ...] | None) -> np.ndarray | None:
    """Scales a skeleton's sigmas for telling instances apart, [k]; None stays."""
    return None if sigmas is None else np.array(sigmas) * SIGMA / np.mean(sigmas)


def begun(boxes_xywh: np.ndarray, points: Keypoints, kinds: np.ndarray | None) -> Known:
    """Takes all who were found as seen for the first time."""
    boxes, xy = np.asarray(boxes_xywh, np.float64).reshape(-1, 4), np.asarray(points.xy, np.float64)
    count = len(boxes)
    sure = confident(xy, np.asarray(points.score))
    corners = geometry.box_to_corners(boxes).reshape(count, 2, 2)
    value = np.concatenate([np.where(sure[..., None], xy, np.nan), corners], 1)
    kind = np.zeros(count, np.int64) if kinds is None else kinds
    side = np.sqrt(boxes[:, 2:].prod(1))
    empty = Known(np.full(count, UNKNOWN), kind, np.ones(count), np.zeros(count), side, value, value)
    state = kalman.started(value, _noise(empty), _px2(SPEED, side))
    return Known(**{**vars(empty), **state._asdict()})


def _px2(sides: float, side: np.ndarray) -> np.ndarray:
    """The variance, px^2, of a standard deviation in sides: [t] -> [t, 1, 1], for each coordinate."""
    return np.square(sides * side)[:, None, None]


def _noise(found: Known) -> np.ndarray:
    """Variances of what was measured, px^2: [t, k + 2, 1]."""
    noise = np.full(found.mean.shape[1], POINT_NOISE)
    noise[-2:] = BOX_NOISE
    return np.square(noise * found.side[:, None])[..., None]


def _boxes(known: Known) -> np.ndarray:
    """The boxes [t, 4]; of an area above 0, whatever was foretold of their corners."""
    boxes = geometry.box_from_corners(known.state.value[:, -2:].reshape(-1, 4))
    return np.concatenate([boxes[:, :2], np.maximum(boxes[:, 2:], 1e-3)], 1)


def _near(known: Known, found: Known) -> np.ndarray:
    """[t, n] bool: whose boxes are less than their sides apart, or than is doubted. Of others nothing is asked."""
    one, other = (each.state.value[:, -2:].mean(1) for each in (known, found))
    doubt = 2 * np.sqrt(known.state.variance[:, -1].mean(-1))
    reach = known.side[:, None] + found.side + doubt[:, None]
    return (np.abs(one[:, :1] - other[:, 0]) <= reach) & (np.abs(one[:, 1:] - other[:, 1]) <= reach)
