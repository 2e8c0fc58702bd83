"""How far a figure may be off by the choice of what it was measured on: the bootstrap, of whole groups.

Groups are drawn anew with replacement, as many as there are (Efron and Tibshirani, 1993, ch. 13: percentile intervals).
Numpy only."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

RESAMPLES = 4000
LEVEL = 0.95
AT_ONCE = 4_000_000  # bounds the memory of the draws


def draws(groups: int, resamples: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Gives blocks [b, groups] of how often each group is in each resample. They depend on their number and the seed alone, so
    that whatever is measured on the same groups is judged by the same draws."""
    generator = np.random.default_rng(seed)
    at_once = max(1, AT_ONCE // groups)
    for start in range(0, resamples, at_once):
        rows = generator.integers(0, groups, (min(at_once, resamples - start), groups))
        places = rows + groups * np.arange(len(rows))[:, None]
        yield np.bincount(places.ravel(), minlength=rows.size).reshape(rows.shape)


def resampled_means(values: np.ndarray, resamples: int, seed: int = 0, groups: np.ndarray | None = None) -> np.ndarray:
    """Means of `resamples` draws of n out of values [n] with replacement, or of all their groups, which `groups` [n] numbers."""
    members = np.arange(len(values)) if groups is None else np.unique(groups, return_inverse=True)[1]
    sizes, sums = np.bincount(members), np.bincount(members, values)
    return np.concatenate([drawn @ sums / (drawn @ sizes) for drawn in draws(len(sizes), resamples, seed)])


def interval(values: np.ndarray) -> tuple[float, float]:
    """Gives the ends of what holds a figure with a probability of `LEVEL`, by its values in the resamples [r]."""
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return low, high
