"""Heatmaps: drawing them and finding the peak between the cells. Pure functions on tensors, cells in, cells out.

Everything here is in `xy_grid` (cell centres at integers); heads turn it into px by `geometry.grid_to_px`."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fiducial.geometry import Size
from fiducial.models import axes

LEAST_VARIANCE = 1e-9  # product of both axes', cells^4, below which a map has no width that could lean


def draw_gaussians(xy_grid: Float[Tensor, "b k 2"], grid: Size, sigma_cells: float) -> Float[Tensor, "b k h w"]:
    """Draws un-normalised Gaussians, peak 1 at the real-valued centre, never rounded.

    Separable, so two vectors of exponentials a point instead of a map."""
    columns, rows = axes.positions(grid.w, xy_grid), axes.positions(grid.h, xy_grid)
    along_x = torch.exp(-((columns - xy_grid[..., 0:1]) ** 2) / (2 * sigma_cells**2))
    along_y = torch.exp(-((rows - xy_grid[..., 1:2]) ** 2) / (2 * sigma_cells**2))
    return along_y[..., :, None] * along_x[..., None, :]


def margins(xy_grid: Float[Tensor, "b k 2"], grid: Size, round_cells: float) -> Float[Tensor, "b k h w"]:
    """Measures how far each cell is from a real-valued centre, |dx| + |dy| in cells, each by `axes.margin`."""
    along = [axes.positions(cells, xy_grid) - xy_grid[..., axis, None] for axis, cells in enumerate(grid)]
    dx, dy = (axes.margin(distance, round_cells) for distance in along)
    return dy[..., :, None] + dx[..., None, :]


def normalised(maps: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
    """Scales maps so that their cells sum to one; a map of zeros stays zero."""
    return maps / maps.sum((-2, -1), keepdim=True).clamp_min(1e-12)


def squared(maps: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
    """Sharpens maps: the squares of their cells, which sum to one."""
    return normalised(maps * maps)


def spatial_softmax(logits: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
    """Turns logits into the probability of each cell; each map sums to one."""
    return logits.flatten(2).softmax(-1).view_as(logits)


def presence(logits: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k"]:
    """Computes the logit of the point being in a map at all: there is one more cell, for everywhere else, whose own logit
    is 0 (ProbPose: Purkrabek and Matas, CVPR 2025, who give the network an output for it)."""
    peak = logits.amax((-2, -1), keepdim=True)
    return (logits - peak).exp().sum((-2, -1)).log() + peak[..., 0, 0]


def argmax(maps: Float[Tensor, "b k h w"]) -> tuple[Float[Tensor, "b k 2"], Float[Tensor, "b k"]]:
    """Finds the highest cell (the first in row-major order among equals), as xy_grid, and its value."""
    peak, index = maps.flatten(2).max(-1)
    width = maps.shape[-1]
    x = (index % width).to(maps.dtype)
    y = torch.div(index, width, rounding_mode="floor").to(maps.dtype)
    return torch.stack([x, y], -1), peak


def quarter(maps: Float[Tensor, "b k h w"], xy_grid: Float[Tensor, "b k 2"]) -> Float[Tensor, "b k 2"]:
    """Moves a quarter of a cell from the highest cell towards the higher neighbour, per axis (Newell et al., ECCV
    2016).

    As in the common implementations, cells near the border stay where they are: x moves for 1 < x < w - 1 and
    y > 0, y for 1 < y < h - 1 and x > 0."""
    height, width = maps.shape[-2:]
    x, y = xy_grid[..., 0].long(), xy_grid[..., 1].long()
    slope_x = _at(maps, x + 1, y) - _at(maps, x - 1, y)
    slope_y = _at(maps, x, y + 1) - _at(maps, x, y - 1)
    moves_x = (x > 1) & (x < width - 1) & (y > 0)
    moves_y = (y > 1) & (y < height - 1) & (x > 0)
    return xy_grid + 0.25 * torch.stack([slope_x.sign() * moves_x, slope_y.sign() * moves_y], -1)


def dark(
    maps: Float[Tensor, "b k h w"], xy_grid: Float[Tensor, "b k 2"], kernel_cells: int = 11
) -> Float[Tensor, "b k 2"]:
    """Makes one Newton step on the log of the blurred map, from the highest cell (DARK: Zhang et al., CVPR 2020, eq.
    9).

    Second derivatives are taken over two cells; cells within two of the border, and those whose Hessian is
    singular, stay where they are. The blur makes the map look like a Gaussian again; for a map that is one,
    `kernel_cells` 1 (no blur) is exact."""
    height, width = maps.shape[-2:]
    logs = blur(maps, kernel_cells).clamp_min(1e-10).log()
    x, y = xy_grid[..., 0].long(), xy_grid[..., 1].long()

    def value(dx: int, dy: int) -> Float[Tensor, "b k"]:
        return _at(logs, x + dx, y + dy)

    gradient_x = 0.5 * (value(1, 0) - value(-1, 0))
    gradient_y = 0.5 * (value(0, 1) - value(0, -1))
    hessian_xx = 0.25 * (value(2, 0) - 2 * value(0, 0) + value(-2, 0))
    hessian_yy = 0.25 * (value(0, 2) - 2 * value(0, 0) + value(0, -2))
    hessian_xy = 0.25 * (value(1, 1) - value(1, -1) - value(-1, 1) + value(-1, -1))
    moves = (x > 1) & (x < width - 2) & (y > 1) & (y < height - 2)
    step = _newton_step(gradient_x, gradient_y, hessian_xx, hessian_xy, hessian_yy)
    return xy_grid + step * moves[..., None]


def dark_udp(
    maps: Float[Tensor, "b k h w"], xy_grid: Float[Tensor, "b k 2"], kernel_cells: int = 11
) -> Float[Tensor, "b k 2"]:
    """Makes the Newton step of `dark` with neighbouring cells (UDP: Huang et al., CVPR 2020, as in its published code).

    Second derivatives over one cell, the mixed one along the diagonal; the blurred map is clipped to 0.001 .. 50 before
    the log, the border's cells go on outside, and the Hessian's diagonal is made larger by float32's smallest step
    to 1. Every point moves, however far: a flat top may throw its point off the map."""
    logs = blur(maps, kernel_cells).clamp(1e-3, 50.0).log()
    x, y = xy_grid[..., 0].long(), xy_grid[..., 1].long()

    def value(dx: int, dy: int) -> Float[Tensor, "b k"]:
        return _at(logs, x + dx, y + dy)

    middle, left, right, above, below = value(0, 0), value(-1, 0), value(1, 0), value(0, -1), value(0, 1)
    epsilon = torch.finfo(torch.float32).eps
    gradient_x, gradient_y = 0.5 * (right - left), 0.5 * (below - above)
    hessian_xx = right - 2 * middle + left + epsilon
    hessian_yy = below - 2 * middle + above + epsilon
    hessian_xy = 0.5 * (value(1, 1) - right - below + 2 * middle - left - above + value(-1, -1))
    return xy_grid + _newton_step(gradient_x, gradient_y, hessian_xx, hessian_xy, hessian_yy)


def expectation(probability: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k 2"]:
    """Computes the mean position under maps that sum to one (soft-argmax), as xy_grid."""
    return torch.stack([axes.mean(probability.sum(-2)), axes.mean(probability.sum(-1))], -1)


def deviation(probability: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k 2"]:
    """Computes the standard deviation along x and y of maps that sum to one, as shares of the map's sides."""
    along = [probability.sum(-2), probability.sum(-1)]
    return torch.stack([axes.deviation(weight) / weight.shape[-1] for weight in along], -1)


def correlation(probability: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k"]:
    """Computes how x and y go together under maps that sum to one, -1 to 1: 0 where the axes have nothing to do with each other,
    or where a map has no width."""
    along_x, along_y = probability.sum(-2), probability.sum(-1)
    away_x, away_y = (
        axes.positions(along.shape[-1], along) - axes.mean(along)[..., None] for along in (along_x, along_y)
    )
    mixed = ((probability @ away_x[..., None])[..., 0] * away_y).sum(-1)
    widths = (along_x * away_x**2).sum(-1) * (along_y * away_y**2).sum(-1)
    return (mixed / widths.clamp_min(LEAST_VARIANCE).sqrt()).clamp(-1, 1)


def mass_near(
    probability: Float[Tensor, "b k h w"], xy_grid: Float[Tensor, "b k 2"], radius_cells: float
) -> Float[Tensor, "b k"]:
    """Sums the probability in the square that reaches `radius_cells` from the point; cells on its edge count in
    part."""
    along_x = axes.near(xy_grid[..., 0], probability.shape[-1], radius_cells)
    along_y = axes.near(xy_grid[..., 1], probability.shape[-2], radius_cells)
    return ((probability @ along_x[..., None])[..., 0] * along_y).sum(-1)


def windowed_mean(
    maps: Float[Tensor, "b k h w"], xy_grid: Float[Tensor, "b k 2"], sigma_cells: float, rounds: int = 2
) -> Float[Tensor, "b k 2"]:
    """Computes the mean position under a map with one peak of width `sigma_cells`, seen through a Gaussian window of
    the same width that starts at `xy_grid` (the highest cell), so that the rest of the map does not count.

    The product of two equal Gaussians is one that is narrower by sqrt(2) and peaks halfway between them, so the way
    from the window's centre to the mean is doubled; a second round, with the window where the first one ended, takes
    out what the cells' grid left."""
    grid = Size(maps.shape[-1], maps.shape[-2])
    for _ in range(rounds):
        window = draw_gaussians(xy_grid, grid, sigma_cells)
        mean = expectation(normalised(maps.clamp_min(0) * window + 1e-9 * window))
        halfway = axes.untruncated(mean, grid, sigma_cells / 2**0.5)
        xy_grid = xy_grid + 2 * (halfway - xy_grid)
    return xy_grid


def _at(maps: Float[Tensor, "b k h w"], x: Int[Tensor, "b k"], y: Int[Tensor, "b k"]) -> Float[Tensor, "b k"]:
    """Reads the values at cells; cells outside are read at the nearest cell."""
    height, width = maps.shape[-2:]
    index = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    return maps.flatten(2).gather(-1, index[..., None])[..., 0]


def _newton_step(
    gradient_x: Float[Tensor, "b k"],
    gradient_y: Float[Tensor, "b k"],
    hessian_xx: Float[Tensor, "b k"],
    hessian_xy: Float[Tensor, "b k"],
    hessian_yy: Float[Tensor, "b k"],
) -> Float[Tensor, "b k 2"]:
    """Computes -H^-1 g for 2x2 Hessians; zero where one is singular."""
    determinant = hessian_xx * hessian_yy - hessian_xy**2
    moves = determinant != 0
    safe = torch.where(moves, determinant, torch.ones_like(determinant))
    step_x = -(hessian_yy * gradient_x - hessian_xy * gradient_y) / safe
    step_y = -(hessian_xx * gradient_y - hessian_xy * gradient_x) / safe
    return torch.stack([step_x, step_y], -1) * moves[..., None]


def band_matrix(taps: Float[Tensor, " taps"], cells: int) -> Float[Tensor, "cells cells"]:
    """Writes convolution with symmetric `taps` and zeros outside as a matrix: on maps of one channel three times as
    fast as the convolution's own kernels, and exact on GPUs where these round to TF32."""
    positions = torch.arange(cells, device=taps.device)
    distance = (positions[:, None] - positions).abs()
    radius = len(taps) // 2
    return taps[radius:][distance.clamp_max(radius)] * (distance <= radius)


def blur(maps: Float[Tensor, "b k h w"], kernel_cells: int) -> Float[Tensor, "b k h w"]:
    """Blurs maps by `blur_kernel` with zeros outside, then scaled to the old peak (DARK's modulation)."""
    if kernel_cells <= 1:
        return maps
    taps = blur_kernel(kernel_cells).to(maps)
    height, width = maps.shape[-2:]
    blurred = band_matrix(taps, height) @ maps @ band_matrix(taps, width)
    old, new = maps.amax((-2, -1), keepdim=True), blurred.amax((-2, -1), keepdim=True)
    return blurred * (old / new.clamp_min(1e-12))


def blur_kernel(size: int) -> Float[Tensor, " size"]:
    """Makes the Gaussian taps of OpenCV for a kernel of `size` with automatic sigma 0.3 ((size - 1) / 2 - 1) + 0.8.

    OpenCV uses fixed tables for the small sizes, and the published DARK numbers were made with them."""
    tables = {
        3: [1, 2, 1],
        5: [1, 4, 6, 4, 1],
        7: [2, 7, 14, 18, 14, 7, 2],
        9: [4, 13, 30, 51, 60, 51, 30, 13, 4],
    }
    if size in tables:
        taps = torch.tensor(tables[size], dtype=torch.float64)
    else:
        sigma = 0.3 * ((size - 1) * 0.5 - 1) + 0.8
        positions = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
        taps = torch.exp(-(positions**2) / (2 * sigma**2))
    return taps / taps.sum()
