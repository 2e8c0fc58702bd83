"""Points as maps and back, the ways other toolkits have it, for weights that were trained with these.

`msra` is SimpleBaseline's (Xiao et al., ECCV 2018), with DARK's unbiased variant (Zhang et al., CVPR 2020); `udp` is
Huang et al., CVPR 2020; `megvii` that of CPN and MSPN. All as MMPose 1.x computes them: where that is a slip rather
than a choice, the docstring says so and names what would be right. Our own heads draw and read by `heatmaps.py`.

xy is px of the input, `visible` 0..1. A point less than half visible gets a map of zeros and keeps its visibility as
weight; one whose peak lies wholly outside gets zeros and weight 0. Decoders return xy and the height of the peak,
which may be anything; a map without a positive cell is read as cell (-1, -1), whatever px that is."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fiducial import geometry
from fiducial.geometry import Size
from fiducial.models import heatmaps

MEGVII_PEAK = 255.0


class Target(NamedTuple):
    """Holds what a network is trained towards."""

    maps: Float[Tensor, "b channels h w"]
    weight: Float[Tensor, "b k"]


class Found(NamedTuple):
    """Holds what is read from maps."""

    xy: Float[Tensor, "b k 2"]  # px of the input
    score: Float[Tensor, "b k"]


# ----------------------------------------------------------------------------------------------------- msra


def msra_encode(
    xy: Float[Tensor, "b k 2"], visible: Float[Tensor, "b k"], size: Size, grid: Size, sigma_cells: float
) -> Target:
    """Draws Gaussians of peak 1 around the nearest cell, zero beyond three sigma. Up to half a cell is lost in
    rounding."""
    cell = _nearest(geometry.px_to_grid(xy, size, grid, "stride"))
    return _windowed_gaussians(cell, torch.zeros_like(cell), visible, grid, sigma_cells)


def msra_unbiased_encode(
    xy: Float[Tensor, "b k 2"], visible: Float[Tensor, "b k"], size: Size, grid: Size, sigma_cells: float
) -> Target:
    """Draws Gaussians of peak 1 around the point itself, over the whole map (DARK, section 3.2)."""
    xy_grid = geometry.px_to_grid(xy, size, grid, "stride")
    inside = _reach(xy_grid - 3 * sigma_cells, xy_grid + 3 * sigma_cells + 1, grid)
    return _target(heatmaps.draw_gaussians(xy_grid, grid, sigma_cells), visible, inside)


def msra_decode(maps: Float[Tensor, "b k h w"], size: Size) -> Found:
    """Reads the highest cell and a quarter of a cell towards its higher neighbours."""
    cells, score = highest(maps)
    return Found(_from_stride(heatmaps.quarter(maps, cells), maps, size), score)


def msra_unbiased_decode(maps: Float[Tensor, "b k h w"], size: Size, kernel_cells: int = 11) -> Found:
    """Reads the highest cell and DARK's Newton step from it; `kernel_cells` is the width of DARK's blur."""
    cells, score = highest(maps)
    return Found(_from_stride(heatmaps.dark(maps, cells, kernel_cells), maps, size), score)


def integral_maps(maps: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
    """Turns maps of `msra_encode` or `msra_unbiased_encode` into distributions: cells sum to one, a map of zeros stays
    zero."""
    return maps / (maps.sum((-2, -1), keepdim=True) + 1e-24)


# ------------------------------------------------------------------------------------------------------ udp


def udp_encode(
    xy: Float[Tensor, "b k 2"], visible: Float[Tensor, "b k"], size: Size, grid: Size, sigma_cells: float
) -> Target:
    """Draws Gaussians of peak 1 around the point itself, in the window of three sigma around the nearest cell."""
    xy_grid = geometry.px_to_grid(xy, size, grid, "corner")
    cell = _nearest(xy_grid)
    return _windowed_gaussians(cell, xy_grid - cell, visible, grid, sigma_cells)


def udp_decode(maps: Float[Tensor, "b k h w"], size: Size, kernel_cells: int = 11, as_mmpose: bool = False) -> Found:
    """Reads the highest cell and the Newton step of `heatmaps.dark_udp` from it.

    `as_mmpose` puts the last cell on px W instead of W - 1, as MMPose 1.x does, so that its numbers come out; what
    undoes `udp_encode` is the default."""
    cells, score = highest(maps)
    refined = torch.where(cells < 0, cells, heatmaps.dark_udp(maps, cells.clamp_min(0), kernel_cells))
    return Found(_from_corner(refined, maps, size, as_mmpose), score)


def udp_combined_encode(
    xy: Float[Tensor, "b k 2"], visible: Float[Tensor, "b k"], size: Size, grid: Size, radius_share: float
) -> Target:
    """Draws three maps a point, one after the other: 1 on a disc of `radius_share` of the map's longer side, and from
    each cell of the map the way to the point along x and along y, in radii. Points outside are drawn as any other."""
    xy_grid = geometry.px_to_grid(xy, size, grid, "corner")
    radius_cells = radius_share * max(grid)
    columns = torch.arange(grid.w, device=xy.device, dtype=xy.dtype)
    rows = torch.arange(grid.h, device=xy.device, dtype=xy.dtype)
    to_x = (xy_grid[..., 0, None, None] - columns).expand(-1, -1, grid.h, -1)
    to_y = (xy_grid[..., 1, None, None] - rows[:, None]).expand(-1, -1, -1, grid.w)
    disc = (to_x**2 + to_y**2 <= radius_cells**2).to(xy.dtype)
    maps = torch.stack([disc, to_x / radius_cells, to_y / radius_cells], 2)
    drawn = (visible >= 0.5)[..., None, None, None]
    return Target(torch.where(drawn, maps, 0.0).flatten(1, 2), visible)


def udp_combined_decode(
    maps: Float[Tensor, "b channels h w"],
    size: Size,
    radius_share: float,
    blur_cells: int = 11,
    as_mmpose: bool = False,
) -> Found:
    """Reads the highest cell of the blurred disc, and the offsets that are written there. Score: the blurred disc's
    height.

    The blur's kernel is 2 `blur_cells` + 1. `as_mmpose` as in `udp_decode`."""
    disc, offsets = maps.unflatten(1, (-1, 3)).split([1, 2], 2)
    cells, score = highest(blur_reflected(disc[:, :, 0], 2 * blur_cells + 1))
    width = maps.shape[-1]
    index = (cells[..., 1] * width + cells[..., 0]).long().clamp_min(0)
    there = offsets.flatten(3).gather(-1, index[..., None, None].expand(-1, -1, 2, 1))[..., 0]
    radius_cells = radius_share * max(maps.shape[-2:])
    refined = torch.where(cells < 0, cells, cells + there * radius_cells)
    return Found(_from_corner(refined, maps, size, as_mmpose), score)


# --------------------------------------------------------------------------------------------------- megvii


def megvii_encode(
    xy: Float[Tensor, "b k 2"], visible: Float[Tensor, "b k"], size: Size, grid: Size, kernel_cells: int
) -> Target:
    """Draws a blurred impulse of peak 255 in the cell below the point: coordinates are cut off, so that points lie half
    a cell further on than their peaks on average; points less than a cell outside at the left and the top count as
    inside. Near a border the blur's part outside is reflected back."""
    cell = geometry.px_to_grid(xy, size, grid, "stride").trunc()
    limit = cell.new_tensor([grid.w, grid.h])
    inside = ((cell >= 0) & (cell < limit)).all(-1)
    known = torch.where(inside[..., None], cell, torch.zeros_like(cell)).long()
    taps = heatmaps.blur_kernel(kernel_cells).to(xy)
    along = []
    for axis in (0, 1):
        matrix = _reflecting_matrix(taps, grid[axis])
        along.append((matrix / matrix.diagonal()).mT[known[..., axis]])
    along_x, along_y = along
    return _target(MEGVII_PEAK * along_y[..., :, None] * along_x[..., None, :], visible, inside)


def megvii_decode(maps: Float[Tensor, "b k h w"], size: Size, kernel_cells: int) -> Found:
    """Reads the highest cell of the blurred map, and a quarter of a cell towards its higher neighbours. Score: the
    peak, of 255, and a half.

    Half a cell is added because encoding cut the fraction off, but as in the published code only to cells that are
    neither of the first two nor the last on either axis; it should be added everywhere."""
    blurred = heatmaps.blur(maps, kernel_cells)
    cells, peak = highest(blurred)
    last = cells.new_tensor([maps.shape[-1] - 1, maps.shape[-2] - 1])
    moves = ((cells > 1) & (cells < last)).all(-1, keepdim=True)
    refined = torch.where(moves, heatmaps.quarter(blurred, cells) + 0.5, cells)
    return Found(_from_stride(refined, maps, size), peak / MEGVII_PEAK + 0.5)


# -------------------------------------------------------------------------------------------------- parts


def highest(maps: Float[Tensor, "b k h w"]) -> tuple[Float[Tensor, "b k 2"], Float[Tensor, "b k"]]:
    """Finds the highest cell as `heatmaps.argmax` does, but says (-1, -1) where no cell is positive."""
    cells, peak = heatmaps.argmax(maps)
    return torch.where(peak[..., None] > 0, cells, -1.0), peak


def blur_reflected(maps: Float[Tensor, "b k h w"], kernel_cells: int) -> Float[Tensor, "b k h w"]:
    """Blurs maps by OpenCV's Gaussian; beyond its first and last cell the map is continued as in a mirror."""
    taps = heatmaps.blur_kernel(kernel_cells).to(maps)
    height, width = maps.shape[-2:]
    return _reflecting_matrix(taps, height) @ maps @ _reflecting_matrix(taps, width).mT


def _nearest(xy_grid: Float[Tensor, "b k 2"]) -> Float[Tensor, "b k 2"]:
    """The nearest cell, halves up; all between -1.5 and 0.5 are taken for 0, as casting to integers does."""
    return (xy_grid + 0.5).trunc()


def _windowed_gaussians(
    cell: Float[Tensor, "b k 2"],
    offset: Float[Tensor, "b k 2"],
    visible: Float[Tensor, "b k"],
    grid: Size,
    sigma_cells: float,
) -> Target:
    """Gaussians around `cell` + `offset`, zero further than three sigma from `cell` on either axis.

    The published code draws the Gaussian on a patch and copies that, the peak in the patch's middle; the patch's ends
    are cut off towards zero. Where three sigma are not whole cells that moves the patch, and the peak with it, by up to
    a cell: a slip, and kept. Choose a sigma whose triple is whole."""
    radius_cells = 3 * sigma_cells
    first, end = (cell - radius_cells).trunc(), (cell + radius_cells + 1).trunc()
    peak = first + (2 * radius_cells + 1) // 2 + offset
    columns = torch.arange(grid.w, device=cell.device)
    rows = torch.arange(grid.h, device=cell.device)
    shown_x = (columns >= first[..., 0:1]) & (columns < end[..., 0:1])
    shown_y = (rows >= first[..., 1:2]) & (rows < end[..., 1:2])
    maps = heatmaps.draw_gaussians(peak, grid, sigma_cells) * (shown_y[..., :, None] & shown_x[..., None, :])
    return _target(maps, visible, _reach(first, end, grid))


def _reach(first: Float[Tensor, "b k 2"], end: Float[Tensor, "b k 2"], grid: Size) -> Bool[Tensor, "b k"]:
    """Whether windows from `first` to `end` reach the map. Those that end just before its first cell count too."""
    return ((first < first.new_tensor([grid.w, grid.h])) & (end >= 0)).all(-1)


def _target(maps: Float[Tensor, "b k h w"], visible: Float[Tensor, "b k"], inside: Bool[Tensor, "b k"]) -> Target:
    seen = visible >= 0.5
    return Target(torch.where((seen & inside)[..., None, None], maps, 0.0), torch.where(seen & ~inside, 0.0, visible))


def _from_stride(xy_grid: Float[Tensor, "b k 2"], maps: Float[Tensor, "b _ h w"], size: Size) -> Float[Tensor, "b k 2"]:
    return geometry.grid_to_px(xy_grid, size, Size(maps.shape[-1], maps.shape[-2]), "stride")


def _from_corner(
    xy_grid: Float[Tensor, "b k 2"], maps: Float[Tensor, "b _ h w"], size: Size, one_too_large: bool
) -> Float[Tensor, "b k 2"]:
    """The last cell on the last px, or on the one that would follow it."""
    reach = Size(size.w + 1, size.h + 1) if one_too_large else size
    return geometry.grid_to_px(xy_grid, reach, Size(maps.shape[-1], maps.shape[-2]), "corner")


def _reflecting_matrix(taps: Float[Tensor, " taps"], cells: int) -> Float[Tensor, "cells cells"]:
    """Convolution with symmetric `taps` as a matrix; cell -1 reads cell 1 (OpenCV's BORDER_REFLECT_101)."""
    radius = len(taps) // 2
    read = torch.arange(cells, device=taps.device)[:, None] + torch.arange(-radius, radius + 1, device=taps.device)
    # There and back again: indices run 0, 1, .., last, .., 1, 0, 1, ..
    last = max(cells - 1, 1)
    read = last - (read % (2 * last) - last).abs()
    return taps.new_zeros(cells, cells).scatter_add(1, read.clamp_max(cells - 1), taps.expand(cells, -1))
