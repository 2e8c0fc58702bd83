"""The pull of a map's background: how large it is, that the article's correction leaves it, that ours takes it out."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from fiducial import geometry  # noqa: E402
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
def test_the_articles_form_changes_nothing(peak):
    """The sum for the mean: the correction is H W times too small. With q = 1 / (H W + S), S the peak's part of the
    sum, it moves x by W/2 S / (H W + S)^2, at most (where S is H W) by 1 / 8H of a cell: 0.002, where 11 to 37 are
    wrong."""
    xy_grid = near_the_border()
    logits = logits_of(xy_grid, peak).double()
    plain = plain_mean(logits)
    article = integral.article_debiased(plain, logits)
    bound = 1 / (8 * GRID.h)
    assert float((article - plain).abs().max()) <= bound
    assert mean_error(article, xy_grid) == pytest.approx(mean_error(plain, xy_grid), abs=2**0.5 * bound)
    assert float((article - plain).abs().max()) > 0, "it is computed"


@pytest.mark.parametrize("peak", PEAKS)
def test_exact_away_from_the_border(peak):
    """Where the peak is not cut off, what is left is the Gaussian's tail and rounding."""
    xy_grid = 12 + 40 * torch.rand(1, 50, 2, generator=torch.Generator().manual_seed(1))
    found = integral.background_free_expectation(logits_of(xy_grid, peak))
    torch.testing.assert_close(found, xy_grid, atol=1e-3, rtol=0)
    assert mean_error(plain_mean(logits_of(xy_grid, peak)), xy_grid) > 0.5


@pytest.mark.parametrize("grid", [GRID, Size(24, 17)])
def test_the_two_forms_are_one(grid):
    """sum p expm1(l) / sum expm1(l) = C/(C - 1) (x - g/C), in cells and in shares of the sides, for any logits >= 0."""
    logits = 3 * torch.rand(2, 3, grid.h, grid.w, generator=torch.Generator().manual_seed(2), dtype=torch.float64) ** 4
    ours = integral.background_free_expectation(logits)
    constant = logits.exp().mean((-2, -1))[..., None]
    centre = torch.tensor([(grid.w - 1) / 2, (grid.h - 1) / 2], dtype=torch.float64)
    closed = constant / (constant - 1) * (plain_mean(logits) - centre / constant)
    torch.testing.assert_close(ours, closed, atol=1e-8, rtol=0)

    background = integral.background_share(logits)
    torch.testing.assert_close(background, 1 / constant[..., 0])
    torch.testing.assert_close(integral.debiased(plain_mean(logits), background, centre), ours, atol=1e-8, rtol=0)
    share = integral.expectation_share(heatmaps.spatial_softmax(logits))
    in_shares = integral.debiased(share, background, integral.centre_share(grid, share))
    torch.testing.assert_close(geometry.share_to_px(in_shares, grid), ours, atol=1e-8, rtol=0)


def test_negative_logits_obey_the_identity_too():
    """Cells below the background count for less than nothing; the mean of exp must stay away from 1."""
    logits = torch.randn(2, 3, 12, 16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    logits[..., 5, 4] = 9.0
    background = integral.background_share(logits)
    closed = integral.debiased(plain_mean(logits), background, torch.tensor([7.5, 5.5], dtype=torch.float64))
    torch.testing.assert_close(integral.background_free_expectation(logits), closed, atol=1e-8, rtol=0)


@pytest.mark.parametrize("peak", [90.0, 500.0, 1e4])
def test_nothing_overflows(peak):
    """exp(89) is beyond float32. A peak this high is one cell; gradients stay finite."""
    logits = torch.zeros(1, 2, 12, 16)
    logits[0, 0, 3, 5] = logits[0, 1, 3, 5] = logits[0, 1, 3, 6] = peak
    logits.requires_grad_()
    found = integral.background_free_expectation(logits)
    torch.testing.assert_close(found.detach(), torch.tensor([[[5.0, 3.0], [5.5, 3.0]]]))
    article = integral.article_debiased(plain_mean(logits), logits)
    torch.testing.assert_close(article.detach(), found.detach(), atol=1e-4, rtol=0)
    (gradient,) = torch.autograd.grad(found.sum() + article.sum(), logits)
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
