"""Corner grids of maps, Gaussians on them, images sampled at them, and 2x2 matrices: what the networks of motion share.

All places are in `xy_corner`: first and last pixel centres at -1 and +1, x first. A flow is *backward*: it holds, for
each cell of the result, the place in the source where its colour comes from."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from fiducial import geometry
from fiducial.geometry import Size
from fiducial.models import axes

Padding = Literal["zeros", "border", "reflection"]  # what is outside of an image

# A matrix whose determinant is smaller is taken for one of this determinant.
LEAST_DETERMINANT = 1e-6


def size_of(maps: Float[Tensor, "*any h w"]) -> Size:
    """Reads the grid of maps."""
    return Size(maps.shape[-1], maps.shape[-2])


def corner_grid(size: Size, like: Tensor) -> Float[Tensor, "h w 2"]:
    """Computes the places of the cells' centres, with the dtype and device of `like`: the flow that moves nothing."""
    rows, columns = torch.meshgrid(axes.positions(size.h, like), axes.positions(size.w, like), indexing="ij")
    return geometry.px_to_corner(torch.stack([columns, rows], -1), size)


def gaussians(xy_corner: Float[Tensor, "b k 2"], size: Size, variance: float) -> Float[Tensor, "b k h w"]:
    """Draws un-normalised Gaussians exp(-d^2 / (2 variance)) around the points.

    The distance d is measured in `xy_corner`: on an image that is wider than high they are wider than high in px. They are
    separable, so a point costs two vectors of exponentials."""
    grid = corner_grid(size, xy_corner)
    along_x = torch.exp(-((grid[0, :, 0] - xy_corner[..., 0:1]) ** 2) / (2 * variance))
    along_y = torch.exp(-((grid[:, 0, 1] - xy_corner[..., 1:2]) ** 2) / (2 * variance))
    return along_y[..., :, None] * along_x[..., None, :]


def sample(
    image: Float[Tensor, "b c h w"], xy_corner: Float[Tensor, "b rows columns 2"], padding: Padding = "zeros"
) -> Float[Tensor, "b c rows columns"]:
    """Reads an image's colours at places between its pixels, bilinear."""
    return F.grid_sample(image, xy_corner, mode="bilinear", padding_mode=padding, align_corners=True)


def resized(maps: Float[Tensor, "b c _ _"], size: Size, *, align_corners: bool = False) -> Float[Tensor, "b c _ _"]:
    """Resizes maps to another grid, bilinear; maps that have the size are returned as they are.

    The outer edges of both grids coincide, or with `align_corners` their first and last centres.

    The published model resizes its flows by edges, though their numbers are of centres: a flow that moves nothing,
    doubled, then moves the border's pixels by up to half a pixel of the result, at four times by 1.5."""
    if size_of(maps) == size:
        return maps
    return F.interpolate(maps, size=(size.h, size.w), mode="bilinear", align_corners=align_corners)


def inverse(matrices: Float[Tensor, "*any 2 2"]) -> Float[Tensor, "*any 2 2"]:
    """Inverts 2x2 matrices in closed form.

    A determinant closer to zero than `LEAST_DETERMINANT` is replaced by it with its sign, and gives no gradient there:
    a network in training may come to a singular Jacobian, whose inverse would make all weights NaN at one stroke."""
    a, b, c, d = matrices.flatten(-2).unbind(-1)
    determinant = a * d - b * c
    least = torch.full_like(determinant, LEAST_DETERMINANT).copysign(determinant)
    determinant = torch.where(determinant.abs() < LEAST_DETERMINANT, least, determinant)
    return torch.stack([d, -b, -c, a], -1).unflatten(-1, (2, 2)) / determinant[..., None, None]
