"""Runs with instruments and without take turns, so that whatever else the machine does meets both alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

import numpy as np

Found = TypeVar("Found")
Clock = Callable[[], float]
TURN, WARM_UP = 5, 2  # runs of one kind before the other has its turn; before those, runs that do not count
MOST = 4.0


def clock_for(threads: int, in_caller: bool = True) -> Clock:
    """Seconds: with one thread the CPU's, which leave out what other programs took; with more, by the clock. `in_caller`:
    the one thread is the caller's, which is quicker to ask for than all of the process."""
    if threads > 1:
        return time.perf_counter
    return time.thread_time if in_caller else time.process_time


def in_turns(
    plain: Callable[[], object],
    parts: Callable[[], Found],
    seconds: float,
    *,
    clock: Clock,
    instruments: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> tuple[float, list[Found]]:
    """For about so many seconds: ms of `plain` by the clock, and what each run of `parts` found. `instruments` are around
    the runs of a turn of `parts`."""
    whole: list[float] = []
    found: list[Found] = []
    deadline = time.perf_counter() + seconds
    with no_garbage_collection():
        while len(whole) < 2 * TURN or time.perf_counter() < deadline:
            for i in range(-WARM_UP, TURN):
                start = clock()
                plain()
                if i >= 0:
                    whole.append(1e3 * (clock() - start))
            with instruments():
                found += [parts() for _ in range(WARM_UP + TURN)][WARM_UP:]
    return midmean(whole), found


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """What instruments keep would make Python look for garbage more often than it does without them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def midmean(values: Sequence[float] | np.ndarray) -> float:
    """The mean of the middle half: as robust as a median, and finer where a clock counts whole microseconds."""
    ordered = np.sort(np.asarray(values, float))
    quarter = len(ordered) // 4
    return float(ordered[quarter : len(ordered) - quarter].mean())


def runs_made(found: Sequence[object]) -> int:
    """How many runs of `parts` `in_turns` made to find so much, those included that do not count."""
    return len(found) * (WARM_UP + TURN) // TURN


def without_instruments(times: Sequence[float], costs: Sequence[float], whole: float) -> tuple[list[float], float]:
    """Times of parts less what timing each of them costs, none below zero; and the factor that `costs` were taken by.

    `costs` were measured on operators that do nothing, in a row. Between real ones, whose code and data push the
    instruments' out of the caches, they are higher: as much as the parts together take longer than the whole without
    instruments, but at least once and at most `MOST` times what they are in a row. All in one unit."""

    def taken_off(factor: float) -> np.ndarray:
        return np.maximum(0.0, np.asarray(times) - factor * np.asarray(costs))

    low, high = 1.0, MOST
    for _ in range(20):  # the sum falls as the factor grows
        middle = (low + high) / 2
        low, high = (middle, high) if taken_off(middle).sum() > whole else (low, middle)
    return taken_off(low).tolist(), low
