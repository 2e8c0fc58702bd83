"""Labels that models which have not seen them contradict: exchanged sides and moved points, the surest first.

Each label is as far from where two models see its point (`unseen`) as its own mistake and theirs; how far theirs usually
reach is known from how far they are from each other, instance by instance (`label_spread`). So a distance is judged by the
share of the models' own disagreements that are as large: no normal distribution is assumed of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fiducial.checks.finding import Finding, Labelled
from fiducial.labels import label_spread
from fiducial.labels.unseen import Unseen
from fiducial.training.failure import TrainingFailure
from fiducial.types import Pairs

SUREST = 0.995
LEAST = 0.9  # of what is told: so large a share of it are faults, by the estimate
WORTH = 0.6  # of the mean shape's error: models that are no better say nothing
FARTHEST = 6.0  # spreads; a point that is farther weighs no more, so that one of them can't speak for an instance
EXCHANGED = 1e-3  # share of instances that are taken to be exchanged before anything is seen
TAIL = 50  # of the largest disagreements, from which larger ones are foretold


@dataclass(frozen=True)
class Distances:
    """Holds how far labels and models are from each other, in the spreads that are usual for a point in instances that are
    as hard; NaN where nothing is labelled."""

    label: np.ndarray  # [n, k] of the label from where the two models together see the point
    models: np.ndarray  # [n, k] of the models from each other
    spread_px: np.ndarray  # [n, k] the unit of `label`


def deep_findings(labelled: Labelled, unseen: Unseen) -> list[Finding]:
    """Finds them among the instances that the models looked at: `unseen.row` counts those of all splits, one after the
    other. Raises TrainingFailure where the models know too little to contradict anybody."""
    error, ground = unseen.error, unseen.floor
    if error > WORTH * ground:
        raise TrainingFailure(
            f"the models that should judge the labels err by NME {error:.3f}, the mean shape by {ground:.3f}: they know too "
            "little to contradict a label; give them more time (--minutes) or more images"
        )
    distances = distances_of(unseen)
    exchanged = dict(_exchanged(labelled, unseen, distances.spread_px))
    moved = {row: finding for row, finding in _moved(labelled, unseen, distances) if row not in exchanged}
    return sorted([*exchanged.values(), *moved.values()], key=lambda finding: -finding.confidence)


def distances_of(unseen: Unseen) -> Distances:
    """Measures the distances of labels that models have not seen."""
    instances = unseen.instances
    scale_px = label_spread.scale_px(instances)
    away = (instances.xy - unseen.mean) / scale_px[:, None, None]
    apart = (unseen.xy[0] - unseen.xy[1]) / scale_px[:, None, None]
    away[~instances.labelled] = apart[~instances.labelled] = np.nan
    hardness = _hardness_by_others(apart)
    of_label, of_models, spread_px = (np.full(hardness.shape, np.nan) for _ in range(3))
    for point in range(hardness.shape[1]):
        for rows in label_spread.equally_hard(hardness[:, point]):
            of_label[rows, point], spread = _in_spreads(away[rows, point])
            of_models[rows, point], _ = _in_spreads(apart[rows, point])
            spread_px[rows, point] = spread * scale_px[rows]
    return Distances(of_label, of_models, spread_px)


def _hardness_by_others(apart: np.ndarray) -> np.ndarray:
    """[n, k] how much the models differ in the other points of an instance: what they differ in the point itself is what
    distances of its label are judged by."""
    square = np.square(apart).sum(-1)
    relative = np.minimum(square / np.maximum(np.nanmedian(square, 0), label_spread.SMALLEST**2), 100)
    known = np.isfinite(relative)
    others = np.where(known, relative, 0).sum(1, keepdims=True) - np.where(known, relative, 0)
    return np.where(known, others / np.maximum(known.sum(1, keepdims=True) - 1, 1), np.nan)


def _in_spreads(offsets: np.ndarray) -> tuple[np.ndarray, float]:
    """[m] lengths of offsets [m, 2] in their robust spread, and that spread."""
    spread = np.sqrt(max(label_spread.variance_of(offsets), label_spread.SMALLEST**2))
    return np.linalg.norm(offsets - np.median(offsets, 0), axis=1) / spread, float(spread)


def _moved(labelled: Labelled, unseen: Unseen, distances: Distances) -> Iterator[tuple[int, Finding]]:
    """Points that are farther off than the models are from each other: of all labels that are so far, the share that is
    more than their disagreements foretell."""
    of_label = distances.label
    known = np.isfinite(of_label)
    fault = np.zeros(of_label.shape)
    fault[known] = _share_of_faults(of_label[known], np.sort(distances.models[known]))
    for number in np.flatnonzero((fault >= LEAST).any(1)):
        points = np.flatnonzero(fault[number] >= LEAST)
        points = points[np.argsort(-of_label[number, points])]
        names = [labelled.first.skeleton.points[point] for point in points]
        xy = {name: _rounded(unseen.mean[number, point]) for name, point in zip(names, points, strict=True)}
        most = float(of_label[number, points[0]])
        several = f" and {len(points) - 1} more" if len(points) > 1 else ""
        # Among equally sure ones those with more points far off come first.
        surest = 1 - (1 - fault[number, points]).prod() * (1 - SUREST)
        yield (
            int(unseen.row[number]),
            labelled.finding(
                int(unseen.row[number]),
                "moved_point",
                points.tolist(),
                confidence=float(surest if len(points) > 1 else fault[number, points[0]]),
                what=f"{names[0]}{several}: {most:.1f} times as far as usual from where models that have not seen it see it",
                proposal={"xy": xy},
            ),
        )


def _share_of_faults(of_label: np.ndarray, of_models: np.ndarray) -> np.ndarray:
    """[m] of labels as far off as this one or farther, the share that is too many."""
    order = np.argsort(-of_label)
    distance = of_label[order]
    chance = np.maximum(_chance(distance, of_models), _chance_by_most(distance))
    share = np.clip(1 - len(distance) * chance / np.arange(1, len(order) + 1), 0, 1)
    result = np.empty(len(order))
    result[order] = np.maximum.accumulate(share[::-1])[::-1]  # a label that is farther off is no less likely a fault
    return np.minimum(result, SUREST)


def _chance(distance: np.ndarray, disagreements: np.ndarray) -> np.ndarray:
    """[m] the share of the models' disagreements (rising) that are as large; beyond the largest their tail goes on as a
    power, the slowest that tails of errors fall."""
    count = len(disagreements)
    chance = (count - np.searchsorted(disagreements, distance) + 1) / (count + 1)
    tail = disagreements[-min(TAIL, count // 4 + 1) :]
    power = len(tail) / max(np.log(tail / max(tail[0], 1e-9)).sum(), 1e-9)  # Hill's estimate
    beyond = distance > tail[0]
    chance[beyond] = len(tail) / count * (distance[beyond] / tail[0]) ** -power
    return chance


def _chance_by_most(distance: np.ndarray) -> np.ndarray:
    """[m] the share of labels (falling distances) that would be as far off if all were as the nearest nine tenths: a Weibull
    distribution through their median and their end. What both models get wrong alike is in it."""
    median, end = np.quantile(distance, [0.5, 0.9])
    shape = np.log(np.log(10) / np.log(2)) / max(np.log(end / max(median, 1e-9)), 1e-9)
    return np.exp(-np.log(10) * (distance / max(end, 1e-9)) ** min(shape, 2.0))  # 2: the normal distribution's


def _exchanged(labelled: Labelled, unseen: Unseen, spread_px: np.ndarray) -> Iterator[tuple[int, Finding]]:
    """Instances whose points the models see where the others of their pairs are labelled: one pair, or all."""
    instances = unseen.instances
    pairs = instances.skeleton.flip_pairs
    if not pairs:
        return
    gains = _gains(unseen, pairs, spread_px)
    for number, gain in enumerate(gains):
        chosen = np.flatnonzero(gain > -np.log(EXCHANGED))
        whole = float(np.nansum(gain))
        if not len(chosen) or whole < -np.log(EXCHANGED):
            continue
        if np.nansum(gain > 0) > 0.8 * np.isfinite(gain).sum():
            chosen = np.flatnonzero(np.isfinite(gain))  # all of it, those in the middle too
        points = [point for pair in chosen for point in pairs[pair]]
        names = [
            [instances.skeleton.points[a], instances.skeleton.points[b]] for a, b in (pairs[pair] for pair in chosen)
        ]
        odds = min(float(gain[chosen].sum()) + np.log(EXCHANGED), 50.0)
        few = ", ".join(f"{a} and {b}" for a, b in names[:2]) + (
            f" and {len(names) - 2} more pairs" if len(names) > 2 else ""
        )
        yield (
            int(unseen.row[number]),
            labelled.finding(
                int(unseen.row[number]),
                "left_right",
                points,
                confidence=float(1 / (1 + np.exp(-odds))),
                what=f"{few}: models that have not seen the labels see them exchanged",
                proposal={"swap": names},
            ),
        )


def _gains(unseen: Unseen, pairs: Pairs, spread_px: np.ndarray) -> np.ndarray:
    """[n, p] logarithm of how much likelier the labels are with a pair exchanged; NaN where one of it is not labelled."""
    instances, seen = unseen.instances, unseen.mean
    gains = np.full((len(instances), len(pairs)), np.nan)
    for number, (a, b) in enumerate(pairs):
        as_is, exchanged = (
            np.linalg.norm(instances.xy[:, points] - seen[:, [a, b]], axis=-1) / spread_px[:, [a, b]]
            for points in ([a, b], [b, a])
        )
        far = [np.square(np.minimum(distance, FARTHEST)).sum(1) for distance in (as_is, exchanged)]
        gains[:, number] = 0.5 * (far[0] - far[1])
    return gains


def _rounded(xy: np.ndarray) -> list[float]:
    return [round(float(value), 2) for value in xy]
