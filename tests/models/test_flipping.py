"""What is drawn for the mirrored picture, flipped back, is what is drawn for the picture."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fiducial import geometry
from fiducial.geometry import Size
from fiducial.models import flipping, heatmaps

SIZE, GRID = Size(48, 40), Size(12, 10)
ORDER = torch.tensor([1, 0, 2])
XY = torch.tensor([[[10.2, 9.0], [30.7, 20.1], [23.0, 31.0]], [[15.0, 12.0], [33.3, 8.4], [20.9, 25.5]]])


def mirrored() -> Tensor:
    """XY in the mirror, under the names that they have there."""
    return geometry.transform(torch.tensor(geometry.flip(SIZE), dtype=torch.float32), XY)[:, ORDER]


def drawn(xy: Tensor, align: geometry.Align, grid: Size = GRID) -> Tensor:
    return heatmaps.draw_gaussians(geometry.px_to_grid(xy, SIZE, grid, align), grid, 1.0)


@pytest.mark.parametrize("align", ["edge", "corner"])
def test_maps_whose_cells_commute_with_the_mirror(align):
    torch.testing.assert_close(flipping.unflip_maps(drawn(mirrored(), align), ORDER), drawn(XY, align))


@pytest.mark.parametrize(("shift_cells", "off"), [(0, -0.75), (1, 0.25)])
def test_maps_of_stride_cells_need_the_shift(shift_cells, off):
    """Cells of 4 px: reversed alone they are 3/4 of a cell too far left, with the shift of a whole cell 1/4 too far
    right."""
    maps = flipping.unflip_maps(drawn(mirrored(), "stride"), ORDER, shift_cells)
    truth = geometry.px_to_grid(XY, SIZE, GRID, "stride")
    found = heatmaps.windowed_mean(maps, heatmaps.argmax(maps)[0], 1.0)
    expected = torch.tensor([off, 0.0]).expand_as(truth)
    torch.testing.assert_close(found - truth, expected, atol=0.02, rtol=0)


def test_columns_left_empty_repeat_their_neighbour():
    maps = torch.arange(4.0).view(1, 1, 1, 4)
    order = torch.tensor([0])
    assert flipping.unflip_maps(maps, order, 1).flatten().tolist() == [3, 3, 2, 1]
    assert flipping.unflip_maps(maps, order, -1).flatten().tolist() == [2, 1, 0, 0]


def test_coordinates():
    found = flipping.unflip_coordinates(geometry.px_to_unit(mirrored(), SIZE), ORDER, SIZE, "unit")
    torch.testing.assert_close(found, geometry.px_to_unit(XY, SIZE))
    found = flipping.unflip_coordinates(geometry.px_to_share(mirrored(), SIZE), ORDER, SIZE, "share")
    torch.testing.assert_close(found, geometry.px_to_share(XY, SIZE))


@pytest.mark.parametrize(("align", "bins_a_px"), [("edge", 2), ("stride", 2), ("stride", 3), ("stride", 1)])
def test_vectors(align, bins_a_px):
    bins = Size(SIZE.w * bins_a_px, SIZE.h * bins_a_px)

    def vectors(xy: Tensor) -> tuple[Tensor, Tensor]:
        maps = drawn(xy, align, bins)
        return maps.amax(-2), maps.amax(-1)

    shift_bins = 1 - bins_a_px if align == "stride" else 0
    found = flipping.unflip_vectors(*vectors(mirrored()), ORDER, shift_bins)
    for own, expected in zip(found, vectors(XY), strict=True):
        torch.testing.assert_close(own, expected, atol=1e-4, rtol=0)
