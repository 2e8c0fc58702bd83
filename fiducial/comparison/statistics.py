"""What a difference between methods is worth: spread over seeds, a paired bootstrap over instances, the Pareto front.

Numpy only. Errors are [s, n]: s seeds of one method on n instances, the same instances in the same order for all
methods; smaller is better."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fiducial.evaluation.bootstrap import RESAMPLES, interval, resampled_means
from fiducial.evaluation.metrics import mean

# Of NME: less than this is arithmetic in another order, as runtimes have it; on every instance alike, so that no resample
# would call it noise.
ROUNDING = 1e-5


@dataclass(frozen=True, kw_only=True)
class Spread:
    """One figure of several seeds."""

    mean: float
    low: float
    high: float
    standard_deviation: float  # of the sample (n - 1); NaN for one seed
    seeds: tuple[float, ...]

    @classmethod
    def of(cls, errors: np.ndarray) -> Spread:
        """Takes the mean error of each seed, of errors [s, n]; NaN = not measured."""
        means = np.array([mean(of_seed) for of_seed in errors], np.float64)
        return cls(
            mean=float(means.mean()),
            low=float(means.min()),
            high=float(means.max()),
            standard_deviation=float(means.std(ddof=1)) if len(means) > 1 else math.nan,
            seeds=tuple(means.tolist()),
        )


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Mean error of one method less that of another, on the same instances: negative = the first is better."""

    mean: float
    low: float  # ends of the interval that holds the difference with a probability of 95 % (`bootstrap.LEVEL`)
    high: float
    seeds: int  # the fewer of the two
    share_better: float  # of the resamples in which the first is better; an equal result counts half
    # Other instances could turn it round, or another seed could (one seed can't tell of the latter), or it is rounding.
    within_noise: bool


def paired_bootstrap(
    first: np.ndarray,
    second: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """Measures the difference between two methods, first [s, n] and second [t, n]: instances are drawn anew with
    replacement, each with the mean over the seeds of its errors (`evaluation/bootstrap.py`). Where they belong
    together, `groups` [n] numbers whole groups that are drawn: frames of one video tell less than so many images.

    Instances that either could not be measured on (NaN) do not count. Where nothing is left all figures are NaN."""
    apart = first.mean(0) - second.mean(0)
    measured = ~np.isnan(apart)
    apart, groups = apart[measured], None if groups is None else groups[measured]
    seeds = min(len(first), len(second))
    if not len(apart):
        nan = math.nan
        return Difference(mean=nan, low=nan, high=nan, seeds=seeds, share_better=nan, within_noise=False)
    means = resampled_means(apart, resamples, seed, groups)
    low, high = interval(means)
    one, other = Spread.of(first), Spread.of(second)
    seeds_touch = one.low <= other.high and other.low <= one.high
    return Difference(
        mean=float(apart.mean()),
        low=low,
        high=high,
        seeds=seeds,
        share_better=float((means < 0).mean() + (means == 0).mean() / 2),
        within_noise=(low <= ROUNDING and high >= -ROUNDING) or (seeds > 1 and seeds_touch),
    )


def pareto_front(error: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """[m] bool: nothing else is as good in both and better in one. Entries with a NaN are never in it."""
    usable = ~(np.isnan(error) | np.isnan(cost))
    no_worse = (error[:, None] <= error) & (cost[:, None] <= cost)  # [i, j]: i is no worse than j
    better = (error[:, None] < error) | (cost[:, None] < cost)
    beaten = (no_worse & better & usable[:, None]).any(0)
    return usable & ~beaten
