"""Points that were found without labels: where they lie, whether they spread over the image, and whether they move."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from fiducial import geometry
from fiducial.geometry import Size

CELLS = 8  # a side, of the grid on which occupancy is counted


class Spread(NamedTuple):
    """Where points lie. Lengths are shares of the image's sides."""

    spread: float  # standard deviation of a frame's points around their middle: 0 where all sit in one place
    nearest: float  # mean distance of a point to the nearest other
    occupancy: float  # cells of 8x8 with a point in them, of as many as there could be
    moving: float  # share of the points whose places differ by more than 1 % between frames (standard deviation)


def spread_of(xy: Float[np.ndarray, "n k 2"], size: Size) -> Spread:
    """Measures the spread of points in px of images of `size`."""
    unit = geometry.px_to_unit(xy.astype(np.float64), size)
    count = unit.shape[1]
    distance = np.linalg.norm(unit[:, :, None] - unit[:, None], axis=-1) + np.where(np.eye(count), np.inf, 0)
    cells = np.clip(np.floor(unit * CELLS), 0, CELLS - 1)
    taken = [len(np.unique(frame, axis=0)) for frame in cells]
    around = unit - unit.mean(1, keepdims=True)
    moves = np.sqrt(unit.var(0).sum(-1))
    return Spread(
        spread=float(np.sqrt((around**2).sum(-1).mean(1)).mean()),
        nearest=float(distance.min(-1).mean()) if count > 1 else 0.0,
        occupancy=float(np.mean(taken) / min(count, CELLS**2)),
        moving=float((moves > 0.01).mean()),
    )


def warnings_of(spread: Spread, points: int) -> list[str]:
    """Says in words what is wrong with where points lie. A single point can't be anywhere but in one place."""
    wrong = []
    if points > 1 and spread.spread < 0.06:
        wrong.append(f"the points sit together in one place (spread {spread.spread:.3f} of the side)")
    if spread.occupancy < 0.5:
        wrong.append(f"points lie on each other (they take {spread.occupancy:.0%} of the cells that they could)")
    if spread.moving < 0.5:
        wrong.append(f"only {spread.moving:.0%} of the points move from frame to frame")
    return wrong
