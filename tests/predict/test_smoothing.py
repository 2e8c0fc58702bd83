"""The One-Euro filter against closed forms of first-order low-passes: lag at a steady speed, what is left of noise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fiducial.prediction.smoothing import OneEuro, Smoother


def through(choices: OneEuro, xy: np.ndarray, times: np.ndarray, side_px: float = 100.0) -> np.ndarray:
    """One instance: xy [frames, k, 2] -> the same, smoothed."""
    smoother = Smoother(choices)
    steps = zip(xy, times, strict=True)
    return np.stack([smoother([1], points[None], np.array([side_px]), float(time))[0] for points, time in steps])


@pytest.mark.parametrize("rate", [15, 30, 120])
@pytest.mark.parametrize(("sides_a_second", "side_px"), [(0.05, 100.0), (0.4, 100.0), (0.4, 317.0), (2.0, 50.0)])
def test_at_a_steady_speed_it_lags_by_one_over_two_pi_cutoff(rate: int, sides_a_second: float, side_px: float) -> None:
    """In seconds, whatever the frame rate and the size of the box; a point at rest beside it stays where it is."""
    choices = OneEuro(rest_hz=0.8, hz_per_speed=5.0, speed_hz=1.3)
    times = np.arange(8 * rate) / rate
    xy = np.zeros((len(times), 2, 2))
    xy[:, 0, 0] = sides_a_second * side_px * times + 7
    xy[:, 1] = [3.0, -4.0]
    smooth = through(choices, xy, times, side_px)
    late_seconds = (xy[-1, 0, 0] - smooth[-1, 0, 0]) / (sides_a_second * side_px)
    expected = 1 / (2 * math.pi * (0.8 + 5.0 * sides_a_second))
    assert late_seconds == pytest.approx(expected, rel=1e-3)
    assert choices.lag_seconds(sides_a_second) == pytest.approx(expected)
    assert smooth[:, 1] == pytest.approx(xy[:, 1])


@pytest.mark.parametrize("cutoff", [0.5, 1.0, 3.0])
def test_what_is_left_of_white_noise(cutoff: float) -> None:
    """Variance alpha / (2 - alpha), and of the second difference alpha^2 (2 + alpha) / (2 - alpha) / 3 of the noise's own:
    autocovariances of a first-order autoregressive process."""
    rate = 30
    noise = np.random.default_rng(0).normal(0, 2.5, (20_000, 1, 2))
    smooth = through(OneEuro(cutoff, 0.0), noise, np.arange(len(noise)) / rate)[rate:]
    alpha = 1 / (1 + rate / (2 * math.pi * cutoff))
    assert smooth.var() / noise.var() == pytest.approx(alpha / (2 - alpha), rel=0.06)
    second = np.diff(smooth, 2, axis=0).var() / np.diff(noise, 2, axis=0).var()
    assert second == pytest.approx(alpha**2 * (2 + alpha) / (2 - alpha) / 3, rel=0.06)


def test_the_faster_the_less_late() -> None:
    choices = OneEuro()
    lags = [choices.lag_seconds(speed) for speed in (0.0, 0.1, 1.0)]
    assert lags == sorted(lags, reverse=True)
    assert choices.lag_seconds(0.5) < 0.02  # half a side a second: less than a frame


def test_twice_the_resolution_is_twice_the_points() -> None:
    xy = np.random.default_rng(1).normal(0, 9, (40, 3, 2)).cumsum(0)
    times = np.arange(40) / 25
    small, large = through(OneEuro(), xy, times, 80), through(OneEuro(), 2 * xy, times, 160)
    assert large == pytest.approx(2 * small)


def test_instances_are_told_apart_by_their_numbers() -> None:
    """In whatever order they come; one that was away starts afresh."""
    generator = np.random.default_rng(2)
    a, b = generator.normal(0, 5, (2, 12, 4, 2))
    times = np.arange(12) / 30
    alone = through(OneEuro(), a, times)
    smoother, sides = Smoother(OneEuro()), np.array([100.0, 100.0])
    for number in range(12):
        ids, xy = (
            ([7, 3], np.stack([a[number], b[number]])) if number % 2 else ([3, 7], np.stack([b[number], a[number]]))
        )
        assert smoother(ids, xy, sides, times[number])[ids.index(7)] == pytest.approx(alone[number])
    assert smoother([3], b[:1], sides[:1], 1.0).shape == (1, 4, 2)
    assert smoother([7, 3], np.stack([a[5], b[5]]), sides, 1.1)[0] == pytest.approx(a[5])
    assert smoother([], np.zeros((0, 4, 2)), np.zeros(0), 1.2).shape == (0, 4, 2)


def test_odd_values_pass_without_spreading() -> None:
    """A NaN is a NaN in its frame only, and of its coordinate only; a clock that stands still changes nothing."""
    xy = np.tile(np.array([[10.0, 20.0], [30.0, 40.0]]), (6, 1, 1))
    xy[2, 0, 1] = np.nan
    times = np.array([0, 0.1, 0.2, 0.3, 0.3, 0.2])
    smooth = through(OneEuro(), xy, times)
    assert np.argwhere(np.isnan(smooth)).tolist() == [[2, 0, 1]]
    assert smooth[[0, 1, 3, 4, 5]] == pytest.approx(xy[[0, 1, 3, 4, 5]])
