"""The shapes of instances: laid on each other, and the distribution that most of them follow.

Faults are few and far off, so everything here bends little to them: shapes are aligned by points that fit, and the
distribution is a multivariate t, fitted by expectation and maximisation with missing points (Liu and Rubin, Statistica
Sinica 1995)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fiducial import geometry

ROUNDS = 6
STRAY = 3.0  # times the usual distance from the median shape, beyond which a point turns its shape less (Huber)
FREEDOM = 4.0  # degrees of freedom of the t: the smaller, the longer its tails
MOST = 1500  # shapes that a distribution is fitted to, evenly taken
FEWEST = 20  # shapes from which one can be fitted
NUGGET = 1e-3  # of the median variance, added to all: labels are never exact


def aligned(xy: np.ndarray, labelled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turns, scales and shifts shapes [n, k, 2] onto their median, whose size is 1: the shapes, and the maps that were used
    [n, 3, 3]; NaN for shapes of fewer than two labelled points in different places."""
    xy, weight = xy.astype(np.float64), labelled.astype(np.float64)
    median = np.array(xy[weight.sum(1).argmax()])
    seen = weight[weight.sum(1).argmax()] > 0
    median = _of_size_1(median, seen)
    maps = np.zeros((len(xy), 3, 3))
    for number in range(ROUNDS + 2):
        if number:  # points that do not fit turn their shape no further
            away = np.where(weight > 0, np.linalg.norm(geometry.transform(maps, xy) - median, axis=-1), np.nan)
            usual = np.maximum(_nanmedian(away), np.nanmedian(away)) * STRAY + 1e-9
            fits = 1 / np.maximum(np.nan_to_num(away) / usual, 1)
        else:
            fits = np.ones_like(weight)
        maps = geometry.similarity(xy, np.broadcast_to(median, xy.shape), weight * seen * fits)
        usable = np.isfinite(maps).all((1, 2)) & (geometry.scale_of(maps) > 0)
        if not usable.any():
            break
        laid = np.where(weight[usable, :, None] > 0, geometry.transform(maps[usable], xy[usable]), np.nan)
        found = _nanmedian(laid)
        median = np.where(np.isfinite(found), found, median)
        seen = seen | (weight[usable] > 0).any(0)
        median = _of_size_1(median, seen)
    return geometry.transform(maps, xy), maps


def _of_size_1(shape: np.ndarray, seen: np.ndarray) -> np.ndarray:
    shape = shape - shape[seen].mean(0)
    return shape / max(float(np.linalg.norm(shape[seen])), 1e-12)


def _nanmedian(values: np.ndarray) -> np.ndarray:
    """The median over the first axis; NaN where all are."""
    ordered = np.sort(values, axis=0)  # NaN last
    count = np.isfinite(values).sum(0)
    low, high = np.maximum(count - 1, 0) // 2, count // 2
    both = [np.take_along_axis(ordered, np.minimum(place, len(values) - 1)[None], 0)[0] for place in (low, high)]
    return np.where(count > 0, (both[0] + both[1]) / 2, np.nan)


@dataclass(frozen=True)
class Distribution:
    """Holds a multivariate t of `FREEDOM`."""

    mean: np.ndarray  # [p]
    covariance: np.ndarray  # [p, p]

    def precision(self, used: np.ndarray) -> np.ndarray:
        """Inverts the covariance of some of the variables (numbers)."""
        return np.linalg.inv(self.covariance[np.ix_(used, used)])

    def with_free_pose(self) -> Distribution:
        """Lets a shape, whose variables are the points' x and y in turn, lie anywhere in any size and direction: how it was
        laid on the others then counts for nothing."""
        shape = self.mean.reshape(-1, 2)
        free = np.zeros((len(self.mean), 4))
        free[0::2, 0] = free[1::2, 1] = 1
        free[:, 2] = shape.ravel()
        free[0::2, 3], free[1::2, 3] = -shape[:, 1], shape[:, 0]
        free /= np.maximum(np.linalg.norm(free, axis=0), 1e-12)
        return Distribution(self.mean, self.covariance + free @ free.T)


def distances_from_expected(precision: np.ndarray, away: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tells how far each point of a shape lies from where the others expect it, in spreads [q], and by what [q, 2], of how the
    shape's q points lie from their mean, `away` [2 q], and the precision of these."""
    count = len(away) // 2
    pulled = precision @ away
    places = np.arange(count)
    own = np.linalg.inv(precision.reshape(count, 2, count, 2)[places, :, places, :])
    pairs = pulled.reshape(count, 2)
    by = np.einsum("kab,kb->ka", own, pairs)
    distance2 = np.einsum("ka,ka->k", by, pairs)
    others = np.maximum(away @ pulled - distance2, 0)
    freedom = max(2 * (count - 1) - 4, 1)  # four are taken by the pose
    return np.sqrt(distance2 / ((FREEDOM + others) / (FREEDOM + freedom))), by


def log_density(distance2: np.ndarray, variables: int) -> np.ndarray:
    """The logarithm of the t's density, up to a constant, of squared Mahalanobis distances."""
    return -(FREEDOM + variables) / 2 * np.log1p(np.maximum(distance2, 0) / FREEDOM)


def distribution_of(values: np.ndarray, known: np.ndarray) -> Distribution:
    """Fits the t to rows [n, p], of which those `known` [n, p] count."""
    if len(values) > MOST:
        chosen = np.linspace(0, len(values) - 1, MOST).astype(int)
        values, known = values[chosen], known[chosen]
    count, size = values.shape
    held = np.where(known, values, np.nan)
    mean = np.nan_to_num(_nanmedian(held))
    spread = np.nan_to_num(1.4826 * _nanmedian(np.abs(held - mean)))
    least = 1e-3 * float(np.median(spread[spread > 0])) if (spread > 0).any() else 1e-6
    covariance = np.diag(np.maximum(spread, least) ** 2)
    shrunk = min(0.9, 0.5 * size / max(count, 1))
    for _ in range(ROUNDS):
        filled, weight, unsure = np.tile(mean, (count, 1)), np.zeros(count), np.zeros((size, size))
        for rows, used in patterns(known):
            other = np.setdiff1d(np.arange(size), used)
            inverse = np.linalg.inv(covariance[np.ix_(used, used)])
            away = values[np.ix_(rows, used)] - mean[used]
            weight[rows] = (FREEDOM + len(used)) / (FREEDOM + ((away @ inverse) * away).sum(1))
            filled[np.ix_(rows, used)] = values[np.ix_(rows, used)]
            if len(other):
                slope = inverse @ covariance[np.ix_(used, other)]
                filled[np.ix_(rows, other)] = mean[other] + away @ slope
                rest = covariance[np.ix_(other, other)] - covariance[np.ix_(other, used)] @ slope
                unsure[np.ix_(other, other)] += len(rows) * rest
        mean = (weight[:, None] * filled).sum(0) / weight.sum()
        away = filled - mean
        covariance = ((weight[:, None] * away).T @ away + unsure) / weight.sum()
        diagonal = np.diag(covariance)
        covariance = (1 - shrunk) * covariance + np.diag(shrunk * diagonal + NUGGET * np.median(diagonal))
    return Distribution(mean, covariance)


def patterns(known: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Groups rows of [n, p] by which variables are known: (rows, numbers of the variables), without those of none."""
    packed = np.ascontiguousarray(np.packbits(known, axis=1))
    _, first, member = np.unique(packed.view(f"V{packed.shape[1]}").ravel(), return_index=True, return_inverse=True)
    order = np.argsort(member, kind="stable")
    ends = np.cumsum(np.bincount(member, minlength=len(first)))
    for row, rows in zip(first, np.split(order, ends[:-1]), strict=True):
        if known[row].any():
            yield rows, np.flatnonzero(known[row])


def xy_of(points: np.ndarray) -> np.ndarray:
    """The numbers of the variables of points, x and y in turn."""
    return (2 * points[:, None] + np.arange(2)).ravel()
