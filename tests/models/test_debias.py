"""The pull of a map's background: how large it is, and that it is taken out."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from fiducial.geometry import Size  # noqa: E402
from fiducial.models import heatmaps, integral  # noqa: E402

GRID = Size(64, 64)
PEAKS = [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]


def near_the_border(count: int = 60, seed: int = 0):
    """[1, 8 count, 2] cells: within 3 cells of each side and each corner, between the outermost cells' centres."""
    generator = torch.Generator().manual_seed(seed)
    last = torch.tensor([GRID.w - 1.0, GRID.h - 1.0])
    places = []
    for side_x in (0, 1, 2):
        for side_y in (0, 1, 2):
            if (side_x, side_y) == (1, 1):
                continue
            depth = 3 * torch.rand(count, 2, generator=generator)
            middle = 3 + (last - 6) * torch.rand(count, 2, generator=generator)
            side = torch.tensor([side_x, side_y])
            places.append(torch.where(side == 0, depth, torch.where(side == 1, middle, last - depth)))
    return torch.cat(places)[None]


def logits_of(xy_grid, peak: float):
    """Zero but for a Gaussian of two cells."""
    return peak * heatmaps.draw_gaussians(xy_grid, GRID, 2.0)


def plain_mean(logits):
    return heatmaps.expectation(heatmaps.spatial_softmax(logits))


def mean_error(found, xy_grid) -> float:
    return float((found - xy_grid).norm(dim=-1).mean())


@pytest.mark.parametrize("peak", PEAKS)
def test_ten_times_nearer_than_the_plain_mean_at_borders_and_corners(peak):
    xy_grid = near_the_border()
    logits = logits_of(xy_grid, peak)
    plain = mean_error(plain_mean(logits), xy_grid)
    ours = mean_error(integral.background_free_expectation(logits), xy_grid)
    assert plain > 5, "cells: half of the map and more where the peak is low"
    assert ours <= plain / 10, f"{ours:.3f} of {plain:.3f} cells"


@pytest.mark.parametrize("peak", PEAKS)
def test_exact_away_from_the_border(peak):
    """Where the peak is not cut off, what is left is the Gaussian's tail and rounding."""
    xy_grid = 12 + 40 * torch.rand(1, 50, 2, generator=torch.Generator().manual_seed(1))
    found = integral.background_free_expectation(logits_of(xy_grid, peak))
    torch.testing.assert_close(found, xy_grid, atol=1e-3, rtol=0)
    assert mean_error(plain_mean(logits_of(xy_grid, peak)), xy_grid) > 0.5


@pytest.mark.parametrize("peak", [90.0, 500.0, 1e4])
def test_nothing_overflows(peak):
    """exp(89) is beyond float32. A peak this high is one cell; gradients stay finite."""
    logits = torch.zeros(1, 2, 12, 16)
    logits[0, 0, 3, 5] = logits[0, 1, 3, 5] = logits[0, 1, 3, 6] = peak
    logits.requires_grad_()
    found = integral.background_free_expectation(logits)
    torch.testing.assert_close(found.detach(), torch.tensor([[[5.0, 3.0], [5.5, 3.0]]]))
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    assert gradient.isfinite().all()


def test_a_map_of_zeros_has_its_mean_at_its_centre_and_faint_peaks_count():
    logits = torch.zeros(1, 2, 12, 16)
    logits[0, 1, 3, 5] = 1e-3
    found = integral.background_free_expectation(logits)
    torch.testing.assert_close(found, torch.tensor([[[7.5, 5.5], [5.0, 3.0]]]), atol=1e-4, rtol=0)


def test_gradients_are_those_of_the_formula():
    logits = 2 * torch.rand(1, 2, 4, 5, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    logits[0, 0, 1, 1] = -0.3
    assert torch.autograd.gradcheck(integral.background_free_expectation, logits.requires_grad_())
