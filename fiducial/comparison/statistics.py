"""What a difference between methods is worth: spread over seeds, a paired bootstrap over instances, the Pareto front.

Numpy only. Errors are [s, n]: s seeds of one method on n instances, the same instances in the same order for all
methods; smaller is better."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fiducial.evaluation.metrics import mean

RESAMPLES = 4000
LEVEL = 0.95
# Of NME: less than this is arithmetic in another order, as runtimes have it; on every instance alike, so that no resample
# would call it noise.
ROUNDING = 1e-5


@dataclass(frozen=True)
class Spread:
    """One figure of several seeds."""

    values: tuple[float, ...]
    mean: float
    low: float
    high: float
    deviation: float  # sample standard deviation (n - 1); NaN for one seed

    @classmethod
    def of(cls, values: np.ndarray) -> Spread:
        values = np.asarray(values, np.float64)
        deviation = float(values.std(ddof=1)) if len(values) > 1 else math.nan
        return cls(tuple(values.tolist()), float(values.mean()), float(values.min()), float(values.max()), deviation)


@dataclass(frozen=True)
class Difference:
    """Mean error of one method less that of another, on the same instances: negative = the first is better."""

    mean: float
    low: float  # ends of the interval that holds the difference with a probability of `LEVEL`
    high: float
    share_better: float  # of the resamples in which the first is better; an equal result counts half
    seeds_overlap: bool  # the ranges of the two methods over their seeds touch; with one seed each this says nothing
    seeds: int  # the fewer of the two

    @property
    def within_noise(self) -> bool:
        """Other instances could turn it round, or another seed could (one seed can't tell of the latter), or it is
        rounding."""
        return (self.low <= ROUNDING and self.high >= -ROUNDING) or (self.seeds > 1 and self.seeds_overlap)


def paired_bootstrap(first: np.ndarray, second: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0) -> Difference:
    """The difference between two methods, first [s, n] and second [t, n]: instances are drawn anew with replacement,
    each with the mean over the seeds of its errors (Efron and Tibshirani, 1993, ch. 13: percentile intervals).

    Instances that either could not be measured on (NaN) do not count. Where nothing is left all figures are NaN."""
    apart = first.mean(0) - second.mean(0)
    apart = apart[~np.isnan(apart)]
    one, other = (np.array([mean(row) for row in errors]) for errors in (first, second))
    overlap = bool(one.min() <= other.max() and other.min() <= one.max())
    seeds = min(len(first), len(second))
    if not len(apart):
        return Difference(math.nan, math.nan, math.nan, math.nan, overlap, seeds)
    means = resampled_means(apart, resamples, seed)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    better = float((means < 0).mean() + (means == 0).mean() / 2)
    return Difference(float(apart.mean()), float(low), float(high), better, overlap, seeds)


def resampled_means(values: np.ndarray, resamples: int, seed: int = 0) -> np.ndarray:
    """Means of `resamples` draws of n out of values [n] with replacement. The draws depend on n and the seed alone, so
    that all pairs of methods are judged by the same ones."""
    generator = np.random.default_rng(seed)
    count = len(values)
    at_once = max(1, 4_000_000 // count)  # bounds the memory of the draws
    parts = []
    for start in range(0, resamples, at_once):
        rows = generator.integers(0, count, (min(at_once, resamples - start), count))
        parts.append(values[rows].mean(1))
    return np.concatenate(parts)


def pareto_front(error: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """[m] bool: nothing else is as good in both and better in one. Entries with a NaN are never in it."""
    usable = ~(np.isnan(error) | np.isnan(cost))
    no_worse = (error[:, None] <= error) & (cost[:, None] <= cost)  # [i, j]: i is no worse than j
    better = (error[:, None] < error) | (cost[:, None] < cost)
    beaten = (no_worse & better & usable[:, None]).any(0)
    return usable & ~beaten
