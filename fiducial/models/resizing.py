"""Distributions over the cells of a map, brought from one grid onto another so that two networks can be compared."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from fiducial import geometry
from fiducial.geometry import Align, Size
from fiducial.models import axes, heatmaps


class Cells(NamedTuple):
    """Says how a map lies on a crop."""

    crop: Size  # px
    grid: Size
    align: Align


def resized(probability: Float[Tensor, "b k _ _"], own: Cells, other: Cells) -> Float[Tensor, "b k _ _"]:
    """Reads maps at the centres of another grid's cells on the same part of a image, which may have been cut out in
    another size; bilinear, then normalised again. The same tensor where both grids are the same.

    Beyond the centres of the outermost cells the map goes on as it is there. On a grid of half as many cells or fewer
    each cell of the finer map is shared out between those that it lies between: none is passed over, and the map's mean
    stays where it is."""
    if own == other:
        return probability
    along_x, along_y = (_weights(own, other, axis, probability) for axis in (0, 1))
    return heatmaps.normalised(along_y @ probability @ along_x.mT)


def resized_axis(probability: Float[Tensor, "b k _"], own: Cells, other: Cells, axis: int) -> Float[Tensor, "b k _"]:
    """Resizes a distribution along one axis, as `resized` does maps."""
    values = probability @ _weights(own, other, axis, probability).mT
    return values / values.sum(-1, keepdim=True).clamp_min(1e-12)


def _weights(own: Cells, other: Cells, axis: int, like: Tensor) -> Float[Tensor, "m n"]:
    """Measures how much of each of the n own cells along an axis each of the m others takes."""
    theirs = axes.positions(other.grid[axis], like)[:, None].expand(-1, 2)
    unit = geometry.px_to_unit(geometry.grid_to_px(theirs, other.crop, other.grid, other.align), other.crop)
    at = geometry.px_to_grid(geometry.unit_to_px(unit, own.crop), own.crop, own.grid, own.align)[:, axis]
    cells = own.grid[axis]
    step = float(at[1] - at[0]) if len(at) > 1 else float(cells)
    distance = (at.clamp(0, cells - 1)[:, None] - axes.positions(cells, like)).abs()
    if step < 2 - 1e-6:
        return (1 - distance).clamp_min(0)
    shares = (1 - distance / step).clamp_min(0)
    return shares / shares.sum(0).clamp_min(1e-12)
