"""Flip tests of offsets and averages of maps: what is drawn for the mirrored image, flipped back, is what is drawn."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from torch import Tensor  # noqa: E402

from fiducial import geometry  # noqa: E402
from fiducial.geometry import Size  # noqa: E402
from fiducial.models import heatmaps  # noqa: E402
from fiducial.reference import flipping  # noqa: E402

SIZE, GRID = Size(48, 40), Size(12, 10)
ORDER = torch.tensor([1, 0, 2])
XY = torch.tensor([[[10.2, 9.0], [30.7, 20.1], [23.0, 31.0]], [[15.0, 12.0], [33.3, 8.4], [20.9, 25.5]]])


def mirrored() -> Tensor:
    """XY in the mirror, under the names that they have there."""
    return geometry.transform(torch.tensor(geometry.flip(SIZE), dtype=torch.float32), XY)[:, ORDER]


def drawn(xy: Tensor, align: geometry.Align, grid: Size = GRID) -> Tensor:
    return heatmaps.draw_gaussians(geometry.px_to_grid(xy, SIZE, grid, align), grid, 1.0)


def test_offsets_turn_round():
    """Each cell holds the way from itself to the point: so do those that are flipped back."""

    def offsets(xy: Tensor) -> Tensor:
        point = geometry.px_to_grid(xy, SIZE, GRID)[..., None, None]
        rows, columns = torch.meshgrid(torch.arange(GRID.h), torch.arange(GRID.w), indexing="ij")
        return point - torch.stack([columns, rows])

    def combined(xy: Tensor) -> Tensor:
        return torch.cat([drawn(xy, "edge")[:, :, None], offsets(xy)], 2)

    torch.testing.assert_close(flipping.unflip_offsets(offsets(mirrored()), ORDER), offsets(XY))
    torch.testing.assert_close(flipping.unflip_combined(combined(mirrored()), ORDER), combined(XY))


def test_average_of_sizes_keeps_what_is_linear_in_its_frame():
    """A ramp over the picture is the same ramp at any size: in corner everywhere, in edge away from the border."""

    def ramp(grid: Size, align: geometry.Align) -> Tensor:
        rows, columns = torch.meshgrid(torch.arange(grid.h), torch.arange(grid.w), indexing="ij")
        cells = torch.stack([columns, rows], -1).float()
        xy = geometry.grid_to_px(cells, SIZE, grid, align)
        return (2 * xy[..., 0] - xy[..., 1])[None, None]

    small = Size(6, 5)
    found = flipping.average([ramp(GRID, "corner"), ramp(small, "corner")], GRID, "corner")
    torch.testing.assert_close(found, ramp(GRID, "corner"), atol=1e-4, rtol=0)
    found = flipping.average([ramp(GRID, "edge"), ramp(small, "edge")], GRID)
    torch.testing.assert_close(found[..., 1:-1, 1:-1], ramp(GRID, "edge")[..., 1:-1, 1:-1], atol=1e-4, rtol=0)


def test_average_counts_each_map_once():
    maps = [torch.full((1, 2, h, w), value) for h, w, value in ((3, 4, 1.0), (6, 8, 2.0), (12, 16, 6.0))]
    torch.testing.assert_close(flipping.average(maps, Size(8, 6)), torch.full((1, 2, 6, 8), 3.0))
