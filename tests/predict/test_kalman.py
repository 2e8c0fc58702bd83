"""The filter and its smoother against the solution of all equations at once, by least squares."""

from __future__ import annotations

import numpy as np
import pytest

from fiducial.prediction import kalman
from fiducial.prediction.kalman import State

NOISE, SPEED, ACCELERATION = 0.7**2, 0.4**2, 0.1**2
STEPS = [1, 1, 2, 1, 3, 1, 1]


def run(values: np.ndarray) -> tuple[list[State], list[State]]:
    """The states that know what was measured until then, and those foretold for each moment."""
    filtered = [kalman.started(values[0], NOISE, SPEED)]
    forecast = [filtered[0]]
    for value, step in zip(values[1:], STEPS[1:], strict=True):
        forecast.append(kalman.predicted(filtered[-1], step, ACCELERATION))
        filtered.append(kalman.updated(forecast[-1], value, NOISE))
    return filtered, forecast


def at_once(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [t, 2] and covariance [t, 2, 2] of all values and speeds, of all equations together: measurements, motion, and
    that it begins at rest."""
    count = len(values)
    precision, weighted = np.zeros((2 * count, 2 * count)), np.zeros(2 * count)

    def add(rows: np.ndarray, right: np.ndarray, cov: np.ndarray) -> None:
        inverse = np.linalg.inv(cov)
        precision[...] += rows.T @ inverse @ rows
        weighted[...] += rows.T @ inverse @ right

    unit = np.eye(2 * count)
    add(unit[1:2], np.zeros(1), np.array([[SPEED]]))
    for place, value in enumerate(values):
        if np.isfinite(value):
            add(unit[2 * place : 2 * place + 1], np.array([value]), np.array([[NOISE]]))
        if place:
            turn, noise = kalman._motion(STEPS[place], kalman.KEPT)
            before, now = unit[2 * place - 2 : 2 * place], unit[2 * place : 2 * place + 2]
            add(now - turn @ before, np.zeros(2), noise * ACCELERATION)
    cov = np.linalg.inv(precision)
    places = range(count)
    return (cov @ weighted).reshape(-1, 2), np.array([cov[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] for i in places])


@pytest.mark.parametrize("missing", [(), (3,), (1, 2, 5), (6,)])
def test_smoothing_both_ways_solves_all_equations(missing: tuple[int, ...]) -> None:
    values = np.random.default_rng(4).normal(10, 3, len(STEPS))
    values[list(missing)] = np.nan
    filtered, forecast = run(values)
    mean, cov = at_once(values)
    smooth = kalman.smoothed(filtered, forecast, STEPS)
    assert np.array([state.mean for state in smooth]) == pytest.approx(mean)
    assert np.array([state.cov for state in smooth]) == pytest.approx(cov)
    assert filtered[-1].mean == pytest.approx(mean[-1])


def test_time_backwards_gives_the_same_places() -> None:
    """Where speeds are kept and the start is as free as the end."""
    values = np.cumsum(np.random.default_rng(5).normal(0, 1, (40, 3)), 0)
    ways = []
    for series in (values, values[::-1]):
        filtered = [kalman.started(series[0], NOISE, 1e6)]
        forecast = [filtered[0]]
        for value in series[1:]:
            forecast.append(kalman.predicted(filtered[-1], 1, ACCELERATION, kept=1))
            filtered.append(kalman.updated(forecast[-1], value, NOISE))
        ways.append(np.array([state.value for state in kalman.smoothed(filtered, forecast, [1] * 40, kept=1)]))
    assert ways[0] == pytest.approx(ways[1][::-1], abs=1e-4)


def test_numbers_do_not_know_of_each_other() -> None:
    values = np.random.default_rng(6).normal(0, 1, (len(STEPS), 3, 2))
    values[2, 1] = values[0, 2, 0] = np.nan
    together, _ = run(values)
    alone, _ = run(values[:, 1, 1])
    assert together[-1].mean[1, 1] == pytest.approx(alone[-1].mean)
    assert np.isnan(together[0].value[2, 0])
    assert together[1].value[2, 0] == values[1, 2, 0]  # begins with its first measurement
