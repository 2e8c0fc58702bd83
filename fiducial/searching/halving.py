"""Successive halving (Jamieson and Talwalkar, AISTATS 2016) in seconds: many candidates get a few epochs, the best third
of them three times as many, until one is left. Those that go on are continued, so that no epoch is trained twice.

What an epoch takes is known for each candidate; all of a rung get equally many epochs, so that their figures can be
compared. Arithmetic alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

ETA = 3
FINEST = 100  # parts of 1 in which ratios of epochs are tried
WORTH_WHILE = 1.25  # times as many epochs as before: fewer would not change who is best


@dataclass(frozen=True)
class Rung:
    """So many runs, each trained to so many epochs in all."""

    runs: int
    epochs: int


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What rungs must keep."""

    seconds: float
    least: int = 1  # epochs of a run, below which its figure says nothing
    most: int  # epochs that are of use to a run
    beside_s: float = 0.0  # of each run of a rung, for its start and its end
    jobs: int = 1  # runs at a time


def survivors(count: int) -> list[int]:
    """Lists how many runs each rung has: 12, 4, 1."""
    counts = [max(1, count)]
    while counts[-1] > 1:
        counts.append(max(1, counts[-1] // ETA))
    return counts


def seconds_of(rungs: Sequence[Rung], pace_s: float, limits: Limits, begun: int = 0) -> float:
    """Adds up what rungs take: each run goes on from the epochs of the rung before it, `begun` before the first."""
    total, before = 0.0, begun
    for rung in rungs:
        if rung.epochs > before:
            total += math.ceil(rung.runs / limits.jobs) * ((rung.epochs - before) * pace_s + limits.beside_s)
        before = rung.epochs
    return total


def plan(paces_s: Sequence[float], limits: Limits) -> list[Rung]:
    """Plans the rungs of as many of the candidates, from the first of them on, as can have the least number of epochs each.

    paces_s: what an epoch of each takes, in the order in which they are wanted. Those that go on are taken to be like the
    mean. Where not even one can have the least, one gets what fits, but one epoch."""
    for count in range(len(paces_s), 0, -1):
        pace = sum(paces_s[:count]) / count
        first = _most(lambda epochs, count=count: _rungs(count, epochs, limits.most), pace, limits)
        if first >= min(limits.least, limits.most):
            return _rungs(count, first, limits.most)
    first = _most(lambda epochs: _rungs(1, epochs, limits.most), paces_s[0], limits)
    return _rungs(1, max(1, first), limits.most)


def further(paces_s: Sequence[float], begun: int, limits: Limits) -> list[Rung]:
    """Plans what comes after a rung of the runs whose epochs take `paces_s`, best first, each trained for `begun` epochs.

    Epochs rise in equal ratios, as far as fits. Where that is hardly more than there was, one alone goes on; [] after the
    last rung, where no epoch fits, and where more are of no use."""
    counts = survivors(len(paces_s))[1:]
    for left in [counts, [1]] if len(counts) > 1 else [counts]:
        if not left:
            return []
        pace = sum(paces_s[: left[0]]) / left[0]
        best: list[Rung] = []
        for part in range(FINEST + 1, FINEST * (limits.most // max(begun, 1) + 2)):
            rungs = _ladder(left, begun, part / FINEST, limits.most)
            if seconds_of(rungs, pace, limits, begun) > limits.seconds:
                break
            best = rungs
        grown = [rung for rung in best if rung.epochs > begun]
        if grown and (left == [1] or grown[0].epochs >= min(limits.most, math.ceil(WORTH_WHILE * begun))):
            return grown
    return []


def _ladder(counts: Sequence[int], begun: int, ratio: float, most: int) -> list[Rung]:
    return [Rung(count, min(most, int(begun * ratio ** (i + 1) + 1e-9))) for i, count in enumerate(counts)]


def _rungs(count: int, first: int, most: int) -> list[Rung]:
    return [Rung(runs, min(most, first * ETA**i)) for i, runs in enumerate(survivors(count))]


def _most(rungs_of: Callable[[int], list[Rung]], pace_s: float, limits: Limits) -> int:
    """The most epochs of the first rung with which all rungs fit; 0 where one is too much."""
    fits = 0
    for epochs in range(1, limits.most + 1):
        if seconds_of(rungs_of(epochs), pace_s, limits) > limits.seconds:
            break
        fits = epochs
    return fits
