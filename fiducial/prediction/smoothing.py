"""The One-Euro filter (Casiez, Roussel and Vogel, CHI 2012): calm where a point rests, quick where it moves.

A point's coordinate passes a low-pass of first order whose cutoff grows with its speed. With the cutoff f the result of
a motion of constant speed lags by 1 / (2 pi f) seconds, whatever the frame rate, and of white noise on a point at rest
the share alpha / (2 - alpha) of the variance is left, where alpha = 1 / (1 + rate / (2 pi f)).

Speeds are in box sides a second, and not in px: a face that fills half the picture and the same face at half the
resolution are smoothed alike. They are measured between points as they were found. The paper's pseudo-code measures from the
last smoothed point, which is further away the later it is, so that its lag depends on the frame rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class OneEuro:
    """The filter's choices. Lag and remaining noise of the defaults: `benchmarks/video.py`."""

    rest_hz: float = 1.0  # cutoff of a point at rest (`mincutoff` of the paper): lower is calmer and later
    hz_per_speed: float = 16.0  # by how much the cutoff grows with a speed of one box side a second (`beta`)
    speed_hz: float = 1.0  # cutoff of the speed itself (`dcutoff`)

    def lag_seconds(self, speed: float) -> float:
        """Computes how late the result is at a constant speed, box sides a second."""
        return 1 / (2 * math.pi * (self.rest_hz + self.hz_per_speed * speed))


class Smoother:
    """Smooths the points of the instances of a video, which are told apart by a number: one filter a coordinate."""

    def __init__(self, choices: OneEuro) -> None:
        self.choices = choices
        self._last: dict[int, _State] = {}

    def __call__(self, ids: list[int], xy: np.ndarray, side_px: np.ndarray, seconds: float) -> np.ndarray:
        """Smooths the points of the next frame: xy [n, k, 2] px of the instances `ids`, the sides [n] px of their boxes.

        A number that was not there in the frame before starts afresh, and so does a point that was NaN. Below 0 are those who
        are nobody yet: their points stay as they are."""
        before, self._last = self._last, {}
        smooth = xy.copy()
        for row, number in enumerate(ids):
            if number >= 0:
                state = _step(self.choices, before.get(number), xy[row], float(side_px[row]), seconds)
                self._last[number], smooth[row] = state, state.xy
        return smooth


@dataclass(frozen=True)
class _State:
    """What the filter knows of an instance."""

    found: np.ndarray  # [k, 2] px, as it was found
    xy: np.ndarray  # [k, 2] px, smoothed
    speed: np.ndarray  # [k, 2] box sides a second, smoothed
    seconds: float


def _step(choices: OneEuro, last: _State | None, xy: np.ndarray, side_px: float, seconds: float) -> _State:
    if last is None:
        return _State(xy, xy, np.zeros_like(xy), seconds)
    passed = seconds - last.seconds
    if passed <= 0:  # a clock that stands still or was set back says nothing about speed
        return _State(xy, xy, last.speed, seconds)
    speed = np.nan_to_num((xy - last.found) / (side_px * passed))
    speed = last.speed + _alpha(choices.speed_hz, passed) * (speed - last.speed)
    alpha = _alpha(choices.rest_hz + choices.hz_per_speed * np.abs(speed), passed)
    smooth = last.xy + alpha * (xy - last.xy)
    return _State(xy, np.where(np.isfinite(last.xy), smooth, xy), speed, seconds)


def _alpha(cutoff_hz: float | np.ndarray, passed: float) -> float | np.ndarray:
    """The weight of the newest value (eq. 5 and 6 of the paper)."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff_hz * passed))
