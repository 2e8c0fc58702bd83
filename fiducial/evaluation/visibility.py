"""Whether a point is visible, hidden or outside: told from the model's score, measured on labelled instances that it has not
learnt from, and tested on others.

A multinomial logistic regression (Cox, J. R. Statist. Soc. B, 1958) on the logit of the score, with an offset for each kind of
point that its labels earn: of points that are seldom hidden a low score says less. It is part of the model's card, so that it is
the same in every runtime. Numpy only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fiducial.types import Instances, Keypoints, Sight, logit

STATES = ("visible", "hidden", "outside")  # v of 2, 1 and 0
FEWEST = 20  # labels of a state; with fewer it is not told
RIDGE, ROUNDS = 1e-2, 100
BINS = 10


def states_of(instances: Instances) -> np.ndarray:
    """Gives the number in `STATES` that the labels tell of each point, [n, k]; -1 of crowds, and of points that instances of
    this kind, or all instances of the set, do not have. Labels that are all 1 tell no more than that a point is there."""
    visibility, labelled = instances.visibility, np.asarray(instances.labelled)
    told = labelled.any(axis=0, keepdims=True) & labelled.any(axis=1, keepdims=True) & ~instances.crowd[:, None]
    if not (visibility == 2).any():
        visibility = 2 * labelled
    if instances.kind is not None:
        skeleton, points = instances.skeleton, np.arange(visibility.shape[1])
        told = told & np.array([np.isin(points, own) for own in skeleton.kinds.values()])[instances.kind]
    return np.where(told, 2 - visibility.astype(np.int64), -1)


def measured(score: np.ndarray, state: np.ndarray) -> Sight | None:
    """Measures how the states [n, k] of points depend on their scores [n, k]. None where the labels tell no two of them apart:
    labels of one visibility alone say nothing of it."""
    numbers = [number for number in range(len(STATES)) if (state == number).sum() >= FEWEST]
    if len(numbers) < 2:
        return None
    row, point = np.nonzero(np.isin(state, numbers))
    target = np.stack([state[row, point] == number for number in numbers], 1).astype(np.float64)
    slopes, offsets = _fitted(logit(score[row, point]), point, target, score.shape[1])
    return Sight(
        states=tuple(STATES[number] for number in numbers),
        slopes=tuple(round(float(value), 5) for value in slopes),
        offsets=tuple(tuple(round(float(value), 5) for value in own) for own in offsets),
        points=len(row),
    )


def measured_on(keypoints: Keypoints, instances: Instances) -> Sight | None:
    """Measures it of a model's points on labelled instances."""
    return measured(keypoints.score.astype(np.float64), states_of(instances))


def _fitted(hint: np.ndarray, point: np.ndarray, target: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Slopes [states] and offsets [points, states] of the likeliest regression, those of the first state 0, by Newton's method;
    how a point's offset differs from that of all is held near 0 by a Gaussian of sigma 1."""
    features = np.column_stack([hint, np.ones_like(hint)])
    states = target.shape[1]
    weights, own = np.zeros((2, states)), np.zeros((points, states))
    for _ in range(ROUNDS):
        share = _softmax(own[point] + features @ weights)
        gradient = (features.T @ (share - target) + RIDGE * weights)[:, 1:].T.ravel()
        curvature = _curvature(share)
        blocks = np.einsum("nf,nab,ng->afbg", features, curvature, features).reshape(2 * (states - 1), -1)
        step = np.linalg.solve(blocks + RIDGE * np.eye(len(blocks)), gradient).reshape(-1, 2).T
        weights[:, 1:] -= step
        share = _softmax(own[point] + features @ weights)
        slope, curve = own[:, 1:].copy(), np.tile(np.eye(states - 1), (points, 1, 1))
        np.add.at(slope, point, (share - target)[:, 1:])
        np.add.at(curve, point, _curvature(share))
        own_step = np.linalg.solve(curve, slope[..., None])[..., 0]
        own[:, 1:] -= own_step
        if max(np.abs(step).max(), np.abs(own_step).max()) < 1e-7:
            break
    return weights[0], own + weights[1]


def _softmax(logits: np.ndarray) -> np.ndarray:
    share = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(share / share.sum(1, keepdims=True))


def _curvature(share: np.ndarray) -> np.ndarray:
    """[n, states - 1, states - 1] of the log likelihood."""
    some = share[:, 1:]
    return np.asarray(some[:, :, None] * (np.eye(some.shape[1]) - some[:, None]))


def as_json(keypoints: Keypoints, instances: Instances) -> dict[str, Any]:
    """Tests it on labelled instances, for `--json`: of each state how many there are, how often it was said and how often right by
    tenths of its probability, and the area under the ROC curve; log loss beside that of the shares of the states alone."""
    sight, state = None if keypoints.spread is None else keypoints.spread.sight, states_of(instances)
    if sight is None:
        return {}
    numbers = [STATES.index(name) for name in sight.states]
    known = np.isin(state, numbers)
    if not known.any():
        return {}
    told = sight.probabilities(keypoints.score)[known]
    target = np.stack([state[known] == number for number in numbers], 1)
    shares = target.mean(0)
    figures: dict[str, Any] = {
        "points": int(known.sum()),
        "measured_on": sight.points,
        "log_loss": float(-np.log(np.maximum((told * target).sum(1), 1e-12)).mean()),
        "log_loss_of_shares": float(-(shares[shares > 0] * np.log(shares[shares > 0])).sum()),
    }
    for column, name in enumerate(sight.states):
        figures[name] = {
            "points": int(target[:, column].sum()),
            "auc": _auc(told[:, column], target[:, column]),
            "calibration": _tenths(told[:, column], target[:, column]),
        }
    return {"visibility": figures}


def lines(summary: Mapping[str, Any]) -> list[str]:
    """Says it in a sentence; nothing where it was not measured."""
    figures = summary.get("visibility")
    if figures is None:
        return []
    parts = [
        f"{name} {figures[name]['points']} (AUC {figures[name]['auc']:.2f})"
        for name in STATES
        if name in figures and figures[name]["auc"] is not None
    ]
    loss, floor = figures["log_loss"], figures["log_loss_of_shares"]
    verdict = "" if loss < floor else ": no better than their shares"
    return [f"visibility: {', '.join(parts)}; log loss {loss:.3f}, of the shares alone {floor:.3f}{verdict}"]


def _auc(score: np.ndarray, right: np.ndarray) -> float | None:
    """The probability that a right one scores above a wrong one; None where one of the two is missing."""
    count, others = int(right.sum()), int((~right).sum())
    if count == 0 or others == 0:
        return None
    _, place, number = np.unique(score, return_inverse=True, return_counts=True)
    rank = np.cumsum(number) - (number - 1) / 2  # the mean rank of equal ones
    return float((rank[place][right].sum() - count * (count + 1) / 2) / (count * others))


def _tenths(told: np.ndarray, right: np.ndarray) -> list[dict[str, float]]:
    place = np.minimum((told * BINS).astype(int), BINS - 1)
    return [
        {
            "told": float(told[place == i].mean()),
            "found": float(right[place == i].mean()),
            "points": int((place == i).sum()),
        }
        for i in range(BINS)
        if (place == i).any()
    ]
