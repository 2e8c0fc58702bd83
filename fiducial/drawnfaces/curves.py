"""Smooth curves through points, and strokes that swell and taper."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

LEFT = np.array([1.0, -1.0])  # (y, x) of a way times it is the normal to its left


def smooth_curve(points: np.ndarray, steps: int, closed: bool = False) -> np.ndarray:
    """Draws the Catmull-Rom curve through points [n, d], `steps` a segment: point i is sample i * steps. [samples,
    d]."""
    return _weights(len(points), steps, closed) @ points


@lru_cache(maxsize=64)
def _weights(count: int, steps: int, closed: bool) -> np.ndarray:
    """The curve as a matrix on its points, [samples, count]."""
    t = np.arange(steps)[:, None] / steps
    basis = 0.5 * np.concatenate(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3], 1
    )
    segments = count if closed else count - 1
    weights = np.zeros((segments * steps + (0 if closed else 1), count))
    for segment in range(segments):
        for tap in range(4):
            # An open curve continues straight beyond its ends: p[-1] = 2 p[0] - p[1].
            index = segment + tap - 1
            rows = slice(segment * steps, (segment + 1) * steps)
            if closed or 0 <= index < count:
                weights[rows, index % count] += basis[:, tap]
            else:
                end, inner = (0, 1) if index < 0 else (count - 1, count - 2)
                weights[rows, end] += 2 * basis[:, tap]
                weights[rows, inner] -= basis[:, tap]
    if not closed:
        weights[-1, -1] = 1.0
    return weights


@lru_cache(maxsize=256)
def even(start: float, stop: float, count: int) -> np.ndarray:
    """Gives `count` numbers from `start` to `stop` at equal distances, kept: not to be written to."""
    numbers = np.linspace(start, stop, count)
    numbers.flags.writeable = False
    return numbers


def within(value: float, low: float, high: float) -> float:
    """Brings a number into a range; np.clip takes twenty times as long for one."""
    return min(max(value, low), high)


def evenly_spaced(curve: np.ndarray, count: int) -> np.ndarray:
    """Places `count` points at equal distances along a polyline [n, 2], its ends among them."""
    steps = curve[1:] - curve[:-1]
    places = np.zeros(len(curve))
    np.cumsum(np.hypot(steps[:, 0], steps[:, 1]), out=places[1:])
    wanted = np.linspace(0, places[-1], count)
    return np.stack([np.interp(wanted, places, curve[:, 0]), np.interp(wanted, places, curve[:, 1])], -1)


def ways(curve: np.ndarray) -> np.ndarray:
    """Gives the way onwards at each point of a curve [n, d], of any length: from the point before to the one after."""
    along = np.empty_like(curve)
    along[1:-1] = curve[2:] - curve[:-2]
    along[0], along[-1] = curve[1] - curve[0], curve[-1] - curve[-2]
    return along


def stroke(curve: np.ndarray, above: np.ndarray | float, below: np.ndarray | float) -> np.ndarray:
    """Makes the polygon [2 n, 2] around a curve [n, 2]: `above` and `below` ([n], or one for all) are its half-widths to
    either side."""
    along = ways(curve)
    length = np.hypot(along[:, 0], along[:, 1])[:, None] + 1e-9
    normal = along[:, ::-1] * LEFT / length
    above, below = np.reshape(above, (-1, 1)), np.reshape(below, (-1, 1))
    return np.concatenate([curve + normal * above, (curve - normal * below)[::-1]])


def circle(centre: np.ndarray, radius_x: float, radius_y: float, steps: int = 20) -> np.ndarray:
    """Makes the polygon [steps, 2] of an ellipse."""
    return centre + _unit_circle(steps) * (radius_x, radius_y)


@lru_cache(maxsize=16)
def _unit_circle(steps: int) -> np.ndarray:
    angle = np.arange(steps) * (2 * np.pi / steps)
    return np.stack([np.cos(angle), np.sin(angle)], -1)
