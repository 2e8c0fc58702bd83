"""A constant-velocity Kalman filter of many numbers side by side (Kalman 1960), and the smoother of both ways (Rauch, Tung
and Striebel 1965).

Each number has a value and a speed, its change a step, which wanders by a random acceleration. All functions take arrays of
any shape, to which state and covariance have the axes [.., 2] and [.., 2, 2] behind; numbers don't know of each other. A
measurement that is NaN was not made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# Share of a speed that is left a step: a motion that is not seen for long is no longer believed in.
KEPT = 0.95
Variance = np.ndarray | float  # of each number, or of all alike


class State(NamedTuple):
    """What is known at a moment."""

    mean: np.ndarray  # [.., 2] value and speed
    cov: np.ndarray  # [.., 2, 2]

    @property
    def value(self) -> np.ndarray:
        """Gives the values, [..]."""
        return self.mean[..., 0]

    @property
    def variance(self) -> np.ndarray:
        """Gives the variances of the values, [..]."""
        return self.cov[..., 0, 0]


def started(value: np.ndarray, variance: Variance, speed_variance: Variance) -> State:
    """Begins with a measurement, at rest. A value that is NaN stays so until it is measured."""
    zero = np.zeros_like(value)
    cov = np.stack([np.stack([zero + variance, zero], -1), np.stack([zero, zero + speed_variance], -1)], -2)
    return State(np.stack([value, zero], -1), cov)


def predicted(state: State, steps: float, acceleration: Variance, kept: float = KEPT) -> State:
    """Says where the numbers are `steps` later; `acceleration` is its variance, a step of one, `kept` the share of a speed
    that is left a step."""
    turn, noise = _motion(steps, kept)
    return State(
        _applied(turn, state.mean), turn @ state.cov @ turn.T + noise * np.asarray(acceleration)[..., None, None]
    )


def updated(state: State, value: np.ndarray, variance: Variance) -> State:
    """Takes a measurement in. A number that was NaN begins with it, with the speed's variance that it has."""
    measured, known = np.isfinite(value), np.isfinite(state.value)
    gain = state.cov[..., 0] / (state.variance + variance)[..., None]  # [.., 2]
    mean = state.mean + gain * (value - state.value)[..., None]
    cov = state.cov - gain[..., :, None] * state.cov[..., 0, :][..., None, :]
    begun = started(value, variance, state.cov[..., 1, 1])
    both, first = (measured & known)[..., None], (measured & ~known)[..., None]
    return State(
        np.where(both, mean, np.where(first, begun.mean, state.mean)),
        np.where(both[..., None], cov, np.where(first[..., None], begun.cov, state.cov)),
    )


def smoothed(
    filtered: Sequence[State], forecast: Sequence[State], steps: Sequence[float], kept: float = KEPT
) -> list[State]:
    """Goes back through a series with what came later in mind.

    `filtered[t]` knows the measurements up to t, `forecast[t]` is `predicted` of the one before, `steps[t]` away from it (the
    first of both is not used). A number stays NaN where it was not measured before."""
    result = [filtered[-1]]
    for now, ahead, step in zip(filtered[-2::-1], forecast[:0:-1], steps[:0:-1], strict=True):
        turn, _ = _motion(step, kept)
        later = result[-1]
        gain = now.cov @ turn.T @ np.linalg.inv(ahead.cov)
        mean = now.mean + _applied(gain, later.mean - ahead.mean)
        cov = now.cov + gain @ (later.cov - ahead.cov) @ np.swapaxes(gain, -1, -2)
        result.append(State(mean, cov))
    return result[::-1]


def _motion(steps: float, kept: float) -> tuple[np.ndarray, np.ndarray]:
    """What `steps` do to value and speed [2, 2], and the covariance that an acceleration of variance one adds."""
    way = steps if kept == 1 else (1 - kept**steps) / (1 - kept)
    noise = np.array([[steps**3 / 3, steps**2 / 2], [steps**2 / 2, steps]])
    return np.array([[1.0, way], [0.0, kept**steps]]), noise


def _applied(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    return (matrix @ vector[..., None])[..., 0]
