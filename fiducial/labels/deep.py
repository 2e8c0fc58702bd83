"""Labels that models which have not seen them contradict: exchanged sides and moved points, the surest first.

A label's distance from where two models see its point (`unseen`) is taken less what the instance's other points tell of it,
in the spread that is usual for the point in instances that are as hard (`label_spread`). Most labels are sound, so that their
distances tell how many sound ones would be as far off as the farthest; what is more than that are faults (the share of false
discoveries, Benjamini and Hochberg 1995)."""

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
WHOLE = 0.8  # of the pairs: where so many are exchanged, all are
FARTHEST = 6.0  # spreads; a point that is farther weighs no more, so that one of them can't speak for an instance
EXCHANGED = 1e-3  # share of instances that are taken to be exchanged before anything is seen
NEAREST = 0.9  # of labels that are taken for sound
PLAUSIBLE = 3.0  # spreads: as far off may an exchanged point be from where the models see it


@dataclass(frozen=True)
class Distances:
    """Holds how far labels are from where models see the points."""

    own: np.ndarray  # [n, k] less what the other points tell, in usual spreads; NaN where nothing is labelled
    spread_px: np.ndarray  # [n, k] usual distance along one axis, with what the others tell


def deep_findings(labelled: Labelled, unseen: Unseen) -> list[Finding]:
    """Finds them among the instances that the models looked at: `unseen.row` counts those of all splits, one after the
    other. Raises TrainingFailure where the models know too little to contradict anybody."""
    if unseen.doubt:
        raise TrainingFailure(unseen.doubt)
    distances = distances_of(unseen)
    exchanged = {row: (sure, finding) for row, sure, finding in _exchanged(labelled, unseen, distances.spread_px)}
    others = np.flatnonzero(~np.isin(unseen.row, list(exchanged)))
    moved = {row: (sure, finding) for row, sure, finding in _moved(labelled, unseen, distances.own, others)}
    found = sorted([*exchanged.values(), *moved.values()], key=lambda pair: (-pair[1].confidence, -pair[0]))
    return [finding for _, finding in found]


def distances_of(unseen: Unseen) -> Distances:
    """Measures the distances of labels that models have not seen."""
    instances = unseen.instances
    scale_px = label_spread.scale_px(instances)
    away = (instances.xy - unseen.mean) / scale_px[:, None, None]
    apart = (unseen.xy[0] - unseen.xy[1]) / scale_px[:, None, None]
    away[~instances.labelled] = apart[~instances.labelled] = np.nan
    hardness = _hardness_by_others(apart)
    by_itself = label_spread.of_their_own(away, instances.image_row)
    own, spread_px = np.full(hardness.shape, np.nan), np.full(hardness.shape, np.nan)
    for point in range(hardness.shape[1]):
        for rows in label_spread.equally_hard(hardness[:, point]):
            own[rows, point], _ = _in_spreads(by_itself[rows, point])
            spread_px[rows, point] = _in_spreads(away[rows, point])[1] * scale_px[rows]
    return Distances(own, spread_px)


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


def _moved(
    labelled: Labelled, unseen: Unseen, distance: np.ndarray, rows: np.ndarray
) -> Iterator[tuple[int, float, Finding]]:
    """Points that are farther off than sound labels would be, among some rows."""
    farthest = np.nan_to_num(np.nanmax(distance[rows], 1, initial=0))
    fault = _share_of_faults(farthest, distance[rows][np.isfinite(distance[rows])])
    limit = farthest[fault >= LEAST].min(initial=np.inf)
    for place in np.flatnonzero(fault >= LEAST):
        number = int(rows[place])
        points = np.flatnonzero(distance[number] >= limit)
        points = points[np.argsort(-distance[number, points])]
        names = [labelled.first.skeleton.points[point] for point in points]
        xy = {name: _rounded(unseen.mean[number, point]) for name, point in zip(names, points, strict=True)}
        several = f" and {len(points) - 1} more" if len(points) > 1 else ""
        far = f"{farthest[place]:.1f} times as far as usual from where models that have not seen it see it"
        row = int(unseen.row[number])
        finding = labelled.finding(
            row,
            "moved_point",
            points.tolist(),
            confidence=float(fault[place]),
            what=f"{names[0]}{several}: {far}",
            proposal={"xy": xy},
        )
        yield row, float(farthest[place]), finding


def _share_of_faults(farthest: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """[n] of instances whose farthest label is as far off as an instance's or farther, the share that is too many: sound labels
    are expected to go on as the end of the nearest nine tenths of all `distances`, with the slow tail of an exponential."""
    end = max(float(np.quantile(distances, NEAREST)), 1e-9) if len(distances) else 1.0
    order = np.argsort(-farthest)
    expected = len(distances) * (1 - NEAREST) ** (farthest[order] / end)
    share = np.clip(1 - expected / np.arange(1, len(order) + 1), 0, SUREST)
    result = np.empty(len(order))
    result[order] = np.maximum.accumulate(share[::-1])[::-1]  # a label that is farther off is no less likely a fault
    return result


def _exchanged(labelled: Labelled, unseen: Unseen, spread_px: np.ndarray) -> Iterator[tuple[int, float, Finding]]:
    """Instances whose points the models see where the others of their pairs are labelled: one pair, or all."""
    instances = unseen.instances
    pairs = instances.skeleton.flip_pairs
    if not pairs:
        return
    gains = _gains(unseen, pairs, spread_px)
    for number, gain in enumerate(gains):
        known = np.isfinite(gain)
        chosen = np.flatnonzero(gain > -np.log(EXCHANGED))
        if not len(chosen):
            continue
        if (gain > 0).sum() > WHOLE * known.sum():
            chosen = np.flatnonzero(known)  # all of it, those in the middle too
        points = [point for pair in chosen for point in pairs[pair]]
        names = [
            [instances.skeleton.points[a], instances.skeleton.points[b]] for a, b in (pairs[pair] for pair in chosen)
        ]
        odds = min(float(gain[chosen].sum()) + np.log(EXCHANGED), 50.0)
        few = ", ".join(f"{a} and {b}" for a, b in names[:2]) + (
            f" and {len(names) - 2} more pairs" if len(names) > 2 else ""
        )
        row = int(unseen.row[number])
        finding = labelled.finding(
            row,
            "left_right",
            points,
            confidence=min(float(1 / (1 + np.exp(-odds))), SUREST),
            what=f"{few}: models that have not seen the labels see them exchanged",
            proposal={"swap": names},
        )
        yield row, odds, finding


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
        is_plausible = (exchanged <= PLAUSIBLE).all(1) | (far[0] <= far[1])
        gains[:, number] = 0.5 * np.where(is_plausible, far[0] - far[1], 0.0 * far[0])
    return gains


def _rounded(xy: np.ndarray) -> list[float]:
    return [round(float(value), 2) for value in xy]
