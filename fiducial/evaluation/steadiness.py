"""How calm and how late points are over time: jitter and lag of a series of frames."""

from __future__ import annotations

import numpy as np


def jitter(xy: np.ndarray, sides: np.ndarray) -> dict[str, float]:
    """Measures the standard deviation of coordinates xy [t, k, 2] px from frame to frame, and of their second difference, in
    per cent of the box's side (median of sides [t] px): medians over coordinates, NaN where there are too few frames.

    NaN where a point is not known. Of points that nothing moves, or of errors, this is what trembles."""
    found = {}
    for name, order in (("frame_to_frame", 1), ("second_difference", 2)):
        steps = np.diff(xy, order, axis=0).reshape(-1, xy[0].size)
        steps = steps[:, np.isfinite(steps).sum(0) >= 2]
        found[name] = 100 * float(np.median(np.nanstd(steps, axis=0)) / np.median(sides)) if steps.size else np.nan
    return found


def lag(raw: np.ndarray, late: np.ndarray, times: np.ndarray, moving: np.ndarray, shifts: np.ndarray) -> float:
    """Measures by how much `late` [t, c] must be moved ahead to match `raw` [t, c] best, where that is `moving` [t]: one of
    `shifts`, in the unit of `times` [t]; median over the c coordinates. NaN where a coordinate is not known; then it counts
    in the other frames alone."""
    found = []
    for place in range(raw.shape[1]):
        known = np.isfinite(raw[:, place])
        used = moving & known & np.isfinite(late[:, place])
        if used.any() and np.ptp(raw[known, place]) > 0:  # one that rests says nothing
            track, own = raw[known, place], late[used, place]
            errors = [np.square(np.interp(times[used] - shift, times[known], track) - own).mean() for shift in shifts]
            found.append(shifts[int(np.argmin(errors))])
    return float(np.median(found)) if found else np.nan
