"""Random rounding: points between the cells kept by maps of one cell (H3R: Yu & Tao, TPAMI 2021, arXiv 2009.00225).

A point at cell 7.3 is drawn at cell 8 in three of ten drawings and at cell 7 in the others, so the mean of the targets
is the bilinear splat, and the mean position under the few highest cells of what a network learns from them is the
point. Everything is in `xy_grid`; heads turn it into px (H3R's own cells lie on px by `align="stride"`)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fiducial.geometry import Size
from fiducial.models import axes


def splat(xy_grid: Float[Tensor, "b k 2"], grid: Size) -> Float[Tensor, "b k h w"]:
    """Computes the mean over all drawings of `one_hot(rounded(..))`: bilinear weights of the four cells around each
    point.

    They sum to one; the weights of cells outside the map are dropped, so that a map near the border sums to less and
    that of a point a whole cell outside is empty."""
    along_x = _tent(xy_grid[..., 0:1], grid.w)
    along_y = _tent(xy_grid[..., 1:2], grid.h)
    return along_y[..., :, None] * along_x[..., None, :]


def rounded(xy_grid: Float[Tensor, "b k 2"], uniform: Float[Tensor, "b k 2"]) -> Int[Tensor, "b k 2"]:
    """Makes one drawing: x goes up to the next cell where `uniform` (in 0..1, one number an axis) is less than x's
    fraction.

    Cells are not clamped to the map: a point outside may be rounded to a cell outside."""
    lower = xy_grid.floor()
    return lower.long() + (uniform < xy_grid - lower)


def one_hot(cells: Int[Tensor, "b k 2"], grid: Size) -> Float[Tensor, "b k h w"]:
    """Draws maps of zeros with a one at (column, row) `cells`, float32; empty where the cell is not on the map."""
    column = torch.arange(grid.w, device=cells.device) == cells[..., 0:1]
    row = torch.arange(grid.h, device=cells.device) == cells[..., 1:2]
    return (row[..., :, None] & column[..., None, :]).float()


def top_k_mean(
    logits: Float[Tensor, "b k h w"], count: int, positive_weight: float | None = None
) -> Float[Tensor, "b k 2"]:
    """Computes the mean position of the `count` highest cells, as xy_grid, weighted by the softmax over these alone;
    or, where the logits answer a binary loss with this `positive_weight` w, by the chance t that the target is there:
    such a loss makes the odds w t / (1 - t) of it, so t is sigmoid(logit - ln w).

    All cells where the map has fewer than `count`. Among cells as high as the last one that counts, which are taken
    is left to torch.topk; the four of a splat are enough for exactness, 9 is H3R's choice for networks."""
    height, width = logits.shape[-2:]
    highest, index = logits.flatten(2).topk(min(count, height * width))
    if positive_weight is None:
        weight = highest.softmax(-1)
    else:
        chance = (highest - math.log(positive_weight)).sigmoid()
        weight = chance / chance.sum(-1, keepdim=True).clamp_min(1e-30)
    x = (index % width).to(weight.dtype)
    y = torch.div(index, width, rounding_mode="floor").to(weight.dtype)
    return torch.stack([(weight * x).sum(-1), (weight * y).sum(-1)], -1)


def _tent(position: Float[Tensor, "b k 1"], cells: int) -> Float[Tensor, "b k cells"]:
    """Computes 1 - distance for cells less than one away, else 0."""
    return (1 - (axes.positions(cells, position) - position).abs()).clamp_min(0)
