"""Distributions of heads, and what is left of them on another grid."""

from __future__ import annotations

import pytest
import torch

from fiducial import config, geometry
from fiducial.geometry import Align, Size
from fiducial.models import catalog, heatmaps
from fiducial.models.contracts import Level
from fiducial.models.resizing import Cells, resized, resized_axis
from fiducial.types import Batch

SIZE = Size(96, 64)
CASES = [
    ("motion", {}),
    ("motion", {"kernel": 3, "padding": 1, "temperature": 0.3}),
    ("integral", {}),
    ("integral", {"debias": "background"}),
    ("heatmap", {}),
    ("heatmap", {"loss": "mse", "align": "stride"}),
    ("simcc", {}),
    ("simcc", {"align": "stride"}),
    ("simcc", {"beta": 10.0, "split": 3.0}),
    ("rounding", {}),
    ("rounding", {"decoder": "softmax"}),
    ("rounding", {"two_class": True, "align": "stride"}),
]


def head_of(method, head):
    torch.manual_seed(0)
    module = catalog.head_module(method)
    return module.Head(config.from_dict(module.Spec, head), Level(12, 16), 2, SIZE).eval()


@pytest.mark.parametrize(("method", "head"), CASES)
def test_a_perfect_networks_distribution_has_its_mean_on_the_point(method, head):
    network = head_of(method, head)
    xy = torch.tensor([[[37.3, 21.8], [60.9, 40.2]]])
    batch = Batch(
        torch.zeros(1, SIZE.h, SIZE.w, 3, dtype=torch.uint8),
        xy,
        torch.ones(1, 2),
        torch.eye(3)[None],
        torch.zeros(1).long(),
    )
    maps = network.distribution(network.encode(batch))
    assert maps is not None
    torch.testing.assert_close(maps.sum((-2, -1)), torch.ones(1, 2))
    grid = Size(maps.shape[-1], maps.shape[-2])
    mean = geometry.grid_to_px(heatmaps.expectation(maps), SIZE, grid, network.align)
    torch.testing.assert_close(mean, xy, atol=5e-3, rtol=0)  # a Gaussian is cut off at the border


@pytest.mark.parametrize("method", ["deeppose", "rle"])
def test_regression_has_none(method):
    network = head_of(method, {})
    assert network.distribution(network(torch.randn(1, 12, 4, 6))) is None


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_it_is_a_distribution_whatever_the_network_says_and_gives_a_gradient(loss):
    network = head_of("heatmap", {"loss": loss})
    raw = torch.randn(2, 2, 16, 24).requires_grad_()
    maps = network.distribution(raw)
    torch.testing.assert_close(maps.sum((-2, -1)), torch.ones(2, 2))
    (maps[..., 3, 5] - maps[..., 7, 9]).sum().backward()
    assert raw.grad.abs().sum() > 0
    nothing = network.distribution(torch.full((1, 2, 16, 24), -3.0))
    torch.testing.assert_close(nothing, torch.full_like(nothing, 1 / (16 * 24)))


# ------------------------------------------------------------------------------------------------ another grid


def ramp(cells: Cells) -> torch.Tensor:
    """A density that is linear over the crop, at the centres of the cells, as maps that sum to one."""
    rows, columns = torch.meshgrid(
        torch.arange(cells.grid.h, dtype=torch.float64), torch.arange(cells.grid.w, dtype=torch.float64), indexing="ij"
    )
    px = geometry.grid_to_px(torch.stack([columns, rows], -1), cells.crop, cells.grid, cells.align)
    x, y = geometry.px_to_unit(px, cells.crop).unbind(-1)
    return heatmaps.normalised((1 + 2 * x + 0.7 * (1 - y))[None, None])


GRIDS = [
    (Cells(Size(96, 64), Size(24, 16), "corner"), Cells(Size(96, 64), Size(18, 10), "corner")),
    (Cells(Size(96, 64), Size(18, 10), "corner"), Cells(Size(96, 64), Size(24, 16), "corner")),
    (Cells(Size(96, 64), Size(24, 16), "edge"), Cells(Size(96, 64), Size(17, 11), "edge")),
    (Cells(Size(96, 64), Size(24, 16), "edge"), Cells(Size(192, 128), Size(24, 16), "edge")),
]


@pytest.mark.parametrize(("own", "other"), GRIDS)
def test_a_ramp_on_two_grids_is_one_distribution(own: Cells, other: Cells):
    torch.testing.assert_close(resized(ramp(own), own, other), ramp(other), atol=1e-12, rtol=1e-9)


def peak(cells: Cells, xy_unit: tuple[float, float], sigma_unit: float) -> torch.Tensor:
    at = geometry.px_to_grid(
        geometry.unit_to_px(torch.tensor([[xy_unit]], dtype=torch.float64), cells.crop),
        cells.crop,
        cells.grid,
        cells.align,
    )
    return heatmaps.normalised(heatmaps.draw_gaussians(at, cells.grid, sigma_unit * cells.grid.w))


def mean_unit(maps: torch.Tensor, cells: Cells) -> torch.Tensor:
    mean = geometry.grid_to_px(heatmaps.expectation(maps), cells.crop, cells.grid, cells.align)
    return geometry.px_to_unit(mean, cells.crop)[0, 0]


@pytest.mark.parametrize("align", ["edge", "corner", "stride"])
@pytest.mark.parametrize("to", [Size(9, 9), Size(16, 16), Size(40, 40), Size(100, 100)])
def test_a_peak_stays_where_it_is(align: Align, to: Size):
    own = Cells(Size(128, 128), Size(32, 32), align)
    other = Cells(Size(64, 64), to, "edge")
    found = resized(peak(own, (0.53, 0.44), 0.06), own, other)
    torch.testing.assert_close(found.sum(), torch.tensor(1.0, dtype=torch.float64))
    expected = torch.tensor([0.53, 0.44], dtype=torch.float64)
    torch.testing.assert_close(mean_unit(found, other), expected, atol=2e-4, rtol=0)


def test_on_a_quarter_of_the_cells_even_one_cell_keeps_its_place():
    own, other = Cells(Size(128, 128), Size(128, 128), "edge"), Cells(Size(128, 128), Size(32, 32), "edge")
    for column in range(40, 48):
        maps = torch.zeros(1, 1, 128, 128, dtype=torch.float64)
        maps[..., 60, column] = 1
        torch.testing.assert_close(mean_unit(resized(maps, own, other), other), mean_unit(maps, own), atol=1e-9, rtol=0)


def test_equal_grids_are_left_alone_and_axes_are_as_maps():
    own, other = Cells(Size(96, 64), Size(24, 16), "edge"), Cells(Size(96, 64), Size(9, 7), "corner")
    maps = ramp(own)
    assert resized(maps, own, own) is maps
    x, y = torch.rand(1, 1, 24).softmax(-1), torch.rand(1, 1, 16).softmax(-1)
    whole = resized(y[..., :, None] * x[..., None, :], own, other)
    along = resized_axis(y, own, other, 1)[..., :, None] * resized_axis(x, own, other, 0)[..., None, :]
    torch.testing.assert_close(whole, along)


@pytest.mark.parametrize("to", [Size(50, 41), Size(24, 16), Size(12, 8)])
def test_an_even_map_stays_even_to_its_border(to: Size):
    own, other = Cells(Size(96, 64), Size(24, 16), "edge"), Cells(Size(96, 64), to, "edge")
    even = torch.full((1, 1, 16, 24), 1 / (16 * 24), dtype=torch.float64)
    torch.testing.assert_close(
        resized(even, own, other), torch.full((1, 1, to.h, to.w), 1 / (to.w * to.h), dtype=torch.float64)
    )
