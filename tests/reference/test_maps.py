"""Means and corrections on maps as other projects have them, and what their slips cost."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from models.test_debias import GRID, PEAKS, logits_of, mean_error, near_the_border, plain_mean  # noqa: E402

from fiducial import geometry  # noqa: E402
from fiducial.geometry import Size  # noqa: E402
from fiducial.models import heatmaps, integral  # noqa: E402
from fiducial.reference import maps  # noqa: E402


@pytest.mark.parametrize("peak", PEAKS)
def test_the_form_with_the_sum_changes_nothing(peak):
    """The sum for the mean: the correction is H W times too small. With q = 1 / (H W + S), S the peak's part of the
    sum, it moves x by W/2 S / (H W + S)^2, at most (where S is H W) by 1 / 8H of a cell: 0.002, where 11 to 37 are
    wrong."""
    xy_grid = near_the_border()
    logits = logits_of(xy_grid, peak).double()
    plain = plain_mean(logits)
    share = geometry.px_to_share(plain, GRID)
    by_sum = maps.debiased(share, maps.cell_share(logits), share.new_tensor([0.5, 0.5]))
    found = geometry.share_to_px(by_sum, GRID)
    bound = 1 / (8 * GRID.h)
    assert float((found - plain).abs().max()) <= bound
    assert mean_error(found, xy_grid) == pytest.approx(mean_error(plain, xy_grid), abs=2**0.5 * bound)
    assert float((found - plain).abs().max()) > 0, "it is computed"


@pytest.mark.parametrize("grid", [GRID, Size(24, 17)])
def test_the_two_forms_are_one(grid):
    """sum p expm1(l) / sum expm1(l) = C/(C - 1) (x - g/C), in cells and in shares of the sides, for any logits >= 0."""
    logits = 3 * torch.rand(2, 3, grid.h, grid.w, generator=torch.Generator().manual_seed(2), dtype=torch.float64) ** 4
    ours = integral.background_free_expectation(logits)
    constant = logits.exp().mean((-2, -1))[..., None]
    centre = torch.tensor([(grid.w - 1) / 2, (grid.h - 1) / 2], dtype=torch.float64)
    closed = constant / (constant - 1) * (plain_mean(logits) - centre / constant)
    torch.testing.assert_close(ours, closed, atol=1e-8, rtol=0)

    background = maps.background_share(logits)
    torch.testing.assert_close(background, 1 / constant[..., 0])
    torch.testing.assert_close(maps.debiased(plain_mean(logits), background, centre), ours, atol=1e-8, rtol=0)
    share = maps.expectation_share(heatmaps.spatial_softmax(logits))
    in_shares = maps.debiased(share, background, maps.centre_share(grid, share))
    torch.testing.assert_close(geometry.share_to_px(in_shares, grid), ours, atol=1e-8, rtol=0)


def test_negative_logits_obey_the_identity_too():
    """Cells below the background count for less than nothing; the mean of exp must stay away from 1."""
    logits = torch.randn(2, 3, 12, 16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    logits[..., 5, 4] = 9.0
    background = maps.background_share(logits)
    closed = maps.debiased(plain_mean(logits), background, torch.tensor([7.5, 5.5], dtype=torch.float64))
    torch.testing.assert_close(integral.background_free_expectation(logits), closed, atol=1e-8, rtol=0)


def test_blur_of_vectors_is_that_of_maps_that_change_in_one_direction():
    vectors = torch.rand(2, 3, 37, generator=torch.Generator().manual_seed(5))
    stripes = vectors[..., None, :].expand(2, 3, 29, 37)
    found = maps.blur_vectors(vectors, 11)
    # The middle row is far enough from the zeros outside.
    middle = heatmaps.blur(stripes, 11)[..., 14, :]
    torch.testing.assert_close(found, middle)
    torch.testing.assert_close(found.amax(-1), vectors.amax(-1))


def test_suppression_leaves_local_peaks_only():
    peaks = torch.zeros(1, 1, 9, 11)
    peaks[0, 0, 4, 5], peaks[0, 0, 4, 7], peaks[0, 0, 4, 8], peaks[0, 0, 0, 0] = 0.9, 0.5, 0.8, 0.3
    kept = maps.suppress(peaks)
    assert kept.nonzero()[:, 2:].tolist() == [[0, 0], [4, 5], [4, 8]], "0.5 is within two cells of 0.9 and of 0.8"
    assert maps.suppress(peaks, 3).nonzero()[:, 2:].tolist() == [[0, 0], [4, 5], [4, 8]]
    assert maps.suppress(peaks, 7).nonzero()[:, 2:].tolist() == [[0, 0], [4, 5]]
    assert kept[0, 0, 4, 5] == peaks[0, 0, 4, 5]
