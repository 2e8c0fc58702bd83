"""Random rounding: drawings average to the splat, the splat gives its point back, and the map's border is respected."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from fiducial import geometry  # noqa: E402
from fiducial.geometry import Size  # noqa: E402
from fiducial.models import heatmaps, rounding  # noqa: E402

GRID = Size(7, 5)


def points(count: int, low: float = 0.0, seed: int = 0):
    """[1, count, 2] cells, from `low` cells inside the first centre to `low` inside the last."""
    generator = torch.Generator().manual_seed(seed)
    reach = torch.tensor([GRID.w - 1 - 2 * low, GRID.h - 1 - 2 * low])
    return low + reach * torch.rand(1, count, 2, generator=generator)


def test_drawings_average_to_the_splat():
    """Four standard deviations of 20,000 drawings of a yes or no are 0.014. Points beyond the border count too."""
    xy = torch.cat([points(6), torch.tensor([[[-0.4, 2.5], [6.7, 4.6], [3.0, -0.9], [2.0, 1.0]]])], 1)
    uniform = torch.rand(20_000, xy.shape[1], 2, generator=torch.Generator().manual_seed(1))
    drawn = rounding.one_hot(rounding.rounded(xy.expand(20_000, -1, -1), uniform), GRID)
    torch.testing.assert_close(drawn.mean(0), rounding.splat(xy, GRID)[0], atol=0.015, rtol=0)


def test_mean_cell_of_drawings_is_the_point_on_both_axes():
    """Exact in the limit: uniforms that fill 0..1 evenly stand for all drawings."""
    xy = points(9, seed=2).double()
    even = (torch.arange(1000, dtype=torch.float64)[:, None, None] + 0.5) / 1000
    cells = rounding.rounded(xy.expand(1000, -1, -1), even.expand(1000, 9, 2))
    torch.testing.assert_close(cells.double().mean(0), xy[0], atol=6e-4, rtol=0)


@pytest.mark.parametrize("count", [4, 9, 35, 1000])
def test_top_k_of_a_log_splat_is_exact_between_the_cells(count):
    xy = points(200, seed=3)
    logits = rounding.splat(xy, GRID).clamp_min(1e-30).log()
    torch.testing.assert_close(rounding.top_k_mean(logits, count), xy, atol=1e-5, rtol=0)


def test_top_1_is_the_argmax_and_all_cells_are_the_soft_argmax():
    logits = torch.randn(2, 3, GRID.h, GRID.w, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(rounding.top_k_mean(logits, 1), heatmaps.argmax(logits)[0])
    whole = heatmaps.expectation(heatmaps.spatial_softmax(logits))
    torch.testing.assert_close(rounding.top_k_mean(logits, GRID.w * GRID.h), whole, atol=1e-5, rtol=0)


def test_what_is_not_among_the_highest_has_no_say():
    """A second peak a little lower than the third highest cell of the first moves nothing."""
    logits = torch.full((1, 1, GRID.h, GRID.w), -9.0)
    logits[0, 0, 2, 2:4] = torch.tensor([3.0, 2.5])
    logits[0, 0, 3, 2] = 2.0
    before = rounding.top_k_mean(logits, 3)
    logits[0, 0, 0, 6] = 1.9
    assert torch.equal(rounding.top_k_mean(logits, 3), before)
    assert not torch.allclose(rounding.top_k_mean(logits, 4), before, atol=0.1)


def test_splat_sums_to_one_inside_and_drops_what_is_outside():
    assert torch.allclose(rounding.splat(points(50, seed=5), GRID).sum((-2, -1)), torch.ones(1, 50))
    maps = rounding.splat(torch.tensor([[[-0.25, 2.0], [6.5, 4.5], [-1.0, 2.0], [3.0, 5.2]]]), GRID)[0]
    torch.testing.assert_close(maps.sum((-2, -1)), torch.tensor([0.75, 0.25, 0.0, 0.0]))
    assert float(maps[0, 2, 0]) == 0.75
    assert float(maps[1, 4, 6]) == 0.25
    on_a_centre = rounding.splat(torch.tensor([[[6.0, 4.0]]]), GRID)
    assert torch.equal(on_a_centre, rounding.one_hot(torch.tensor([[[6, 4]]]), GRID)), "the last cell, whole"


def test_cells_outside_give_empty_maps():
    cells = torch.tensor([[[-1, 2], [7, 0], [3, -1], [3, 5], [0, 4]]])
    maps = rounding.one_hot(cells, GRID)[0]
    assert maps.shape == (5, GRID.h, GRID.w)
    assert maps[:4].sum() == 0, "no cell of the other side is taken for one at -1"
    assert float(maps[4, 4, 0]) == float(maps[4].sum()) == 1


def test_rounding_looks_down_below_zero_too_and_each_axis_has_its_own_number():
    xy = torch.tensor([[[-0.25, 1.25], [2.0, 3.0]]])
    up_first = rounding.rounded(xy, torch.tensor([[[0.7, 0.3], [0.0, 0.0]]]))
    assert up_first.tolist() == [[[0, 1], [2, 3]]], "a fraction of zero never goes up"
    assert rounding.rounded(xy, torch.tensor([[[0.8, 0.2], [0.9, 0.9]]])).tolist() == [[[-1, 2], [2, 3]]]


def test_ties_are_halfway():
    logits = torch.full((1, 1, GRID.h, GRID.w), -50.0)
    logits[0, 0, 1, 2] = logits[0, 0, 3, 5] = 4.0
    torch.testing.assert_close(rounding.top_k_mean(logits, 2), torch.tensor([[[3.5, 2.0]]]))
    flat = rounding.top_k_mean(torch.zeros(1, 1, GRID.h, GRID.w), 9)
    assert geometry.inside(flat, GRID).all()


def test_logits_learn_from_the_mean():
    """Gradients reach the highest cells, and only these."""
    logits = torch.randn(1, 1, GRID.h, GRID.w, generator=torch.Generator().manual_seed(6)).requires_grad_()
    rounding.top_k_mean(logits, 4).sum().backward()
    assert logits.grad is not None
    moved = logits.grad.flatten().nonzero().flatten()
    assert set(moved.tolist()) == set(logits.flatten().topk(4).indices.tolist())
