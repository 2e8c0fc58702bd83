"""Learns what makes the points of labels from a teacher's (`runtime.point_map`): by name, or by a linear map from a few labels.

The linear map's offset is free, and a ridge is on the deviations of all the teacher's points from their means. How strong
the ridge is, and whether the names alone are better, is settled by cross-validation on the labels."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from fiducial import geometry
from fiducial.errors import UserError
from fiducial.evaluation import metrics
from fiducial.geometry import Size
from fiducial.motion.linear_map import least_squares
from fiducial.runtime.point_map import Linear, PointMap, corrected, frame_of, start
from fiducial.types import Instances, Keypoints, Skeleton

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, math.inf)  # of the ridge; inf = the offset alone
FOLDS = 5
LEAST = 5  # labelled instances that a map is learnt from
MOST = 2000  # that it is learnt from: more would take minutes and change nothing
UNIT = Size(1, 1)  # the square around the box
PRESENT = 0.5  # score from which a teacher is taken to have found a point


def places_of(skeleton: Skeleton, teacher: Skeleton) -> np.ndarray:
    """Finds which of a teacher's points each point of a skeleton is [m], -1 = none: by name, and where no name is the same,
    of as many points by number."""
    number = {name: i for i, name in enumerate(teacher.points)}
    places = np.array([number.get(name, -1) for name in skeleton.points])
    if (places < 0).all() and len(teacher.points) == len(places):
        return np.arange(len(places))
    return places


def learn(found: Keypoints, truth: Instances, teacher: Skeleton, frame: Size = UNIT) -> PointMap:
    """Learns the map from a teacher's points on labelled instances: found.xy [n, k, 2] px of the images, score 0 where it
    found none. Points are seen in boxes of the aspect of `frame`.

    Raises UserError where the names say nothing and there are too few labels."""
    places = places_of(truth.skeleton, teacher)
    by_number = not set(teacher.points) & set(truth.skeleton.points)  # where they have places at all
    by_name = PointMap(places=places, by_number=by_number, frame=frame)
    rows = np.flatnonzero(truth.labelled.any(1) & ~truth.crowd & (found.score.mean(1) >= PRESENT))
    rows = rows[np.linspace(0, len(rows) - 1, min(MOST, len(rows))).astype(int)]
    truth, found = truth.select(rows), found.select(rows)
    has_names = bool((places >= 0).any())
    if len(rows) < LEAST:
        if has_names:
            return by_name
        raise UserError(
            f"the teacher finds {len(teacher.points)} points, {_few(teacher)}, none of which is a point of the data by its name "
            f"({_few(truth.skeleton)}); a map to them needs {LEAST} labelled instances that the teacher finds, here are {len(rows)}"
        )
    to_frame = frame_of(truth.box_xywh, frame)
    inputs = geometry.transform(to_frame, found.xy.astype(np.float64))
    targets = geometry.transform(to_frame, truth.xy.astype(np.float64))
    fold = np.random.default_rng(0).permutation(len(rows)) % min(FOLDS, len(rows))
    errors = {}
    for strength in STRENGTHS:
        mapped = np.empty(targets.shape)
        for number in range(fold.max() + 1):
            learnt = _fitted(inputs, targets, truth.labelled, places, strength, fold != number)
            mapped[fold == number] = corrected(inputs[fold == number], places, learnt)
        errors[strength] = _nme(geometry.transform(geometry.invert(to_frame), mapped), truth)
    best = min(errors, key=errors.__getitem__)
    if (places >= 0).all() and (of_names := _nme(by_name(found, truth.box_xywh).xy, truth)) <= errors[best]:
        return replace(by_name, cross_validated=of_names)
    linear = _fitted(inputs, targets, truth.labelled, places, best, np.ones(len(rows), bool))
    return replace(by_name, linear=linear, labels=len(rows), cross_validated=errors[best])


def _fitted(
    inputs: np.ndarray, targets: np.ndarray, labelled: np.ndarray, places: np.ndarray, strength: float, rows: np.ndarray
) -> Linear:
    """The correction that instances `rows` [n] bool teach. A point that none of them labels is left where its name has it."""
    flat = inputs[rows].reshape(rows.sum(), -1)
    residual = (targets - start(inputs, places))[rows].reshape(len(flat), -1)
    used = np.repeat(labelled[rows], 2, axis=1)
    count = np.maximum(used.sum(0), 1)
    centre, offset = flat.mean(0), np.where(used, residual, 0).sum(0) / count
    if math.isinf(strength):
        weights = np.zeros((flat.shape[1], residual.shape[1]))
    else:
        weights = least_squares(flat - centre, np.where(used, residual - offset, 0), used, strength)
    return Linear(centre, offset, weights, strength)


def _nme(xy: np.ndarray, truth: Instances) -> float:
    return metrics.measure_instances(xy, truth).nme


def _few(skeleton: Skeleton) -> str:
    return f"{', '.join(skeleton.points[:3])}{', ..' * (len(skeleton.points) > 3)}"
