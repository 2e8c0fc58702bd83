"""How well held-out clips are made from their first frames, how the points keep to what they mark, and where they lie."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fiducial import geometry
from fiducial.geometry import Size
from fiducial.motion.objective import Motion
from fiducial.motion.pairs import FramePairs
from fiducial.training.objective import Objective

MEANINGS = {
    "reconstruction": "mean absolute error of the generated frames, of a range of 1",
    "copy": "the same of the source frame itself, taken for the driving one",
    "gain": "the share of that which the motion saves; 0 = no better than copying, 1 = perfect",
    "equivariance_px": "how far points of a warped frame, warped back, are from the frame's own, px of the input",
    "spread": "standard deviation of a frame's points around their middle, as a share of the side",
    "nearest": "mean distance of a point to the nearest other, as a share of the side",
    "occupancy": "cells of 8x8 with a point in them, of as many as there could be",
    "moving": "share of the points that move by more than 1 % of the side between frames",
}
CELLS = 8  # a side, of the grid on which occupancy is counted


class Spread(NamedTuple):
    """Says where points lie. Lengths are shares of the image's sides."""

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
        wrong.append(f"only {100 * spread.moving:.0f} % of the points move from frame to frame")
    return wrong


class ReconstructionErrors:
    """Scores a system on pairs of frames, by the names in `MEANINGS`. Implements `training.work.Scoring`."""

    metric = "reconstruction"

    def __init__(self, size: Size) -> None:
        self.size = size
        self.rows: list[dict[str, Tensor]] = []
        self.xy: list[np.ndarray] = []

    @torch.no_grad()
    def observe(self, objective: Objective, batch: FramePairs) -> None:
        assert isinstance(objective, Motion)
        made = objective.reconstruct(batch, torch.Generator().manual_seed(0))
        source = batch.source.permute(0, 3, 1, 2) / 255
        warped_back = made.warp.points(made.of_warped.xy_corner)
        back_px, xy = (geometry.corner_to_px(points, self.size) for points in (warped_back, made.of_driving.xy_corner))
        errors = {
            "reconstruction": (made.generated.prediction.float() - made.driving).abs().mean((1, 2, 3)),
            "copy": (source - made.driving).abs().mean((1, 2, 3)),
            "equivariance_px": (back_px - xy).norm(dim=-1).mean(-1),
        }
        self.rows.append(errors)
        self.xy.append(xy.cpu().numpy())

    def scores(self) -> dict[str, float]:
        means = {name: float(torch.cat([row[name] for row in self.rows]).mean()) for name in self.rows[0]}
        spread = spread_of(np.concatenate(self.xy), self.size)
        self.rows.clear()
        self.xy.clear()
        return means | {"gain": 1 - means["reconstruction"] / max(means["copy"], 1e-9)} | spread._asdict()
