"""The references' encodings: closed forms, what their readers give back, borders, and what weights say. Equality with
the references themselves is tested in tests/parity."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
import cv2  # noqa: E402

from fiducial import geometry  # noqa: E402
from fiducial.geometry import Size  # noqa: E402
from fiducial.models import heatmaps  # noqa: E402
from fiducial.reference import codecs, vector_codecs  # noqa: E402

SIZE, GRID, SIGMA = Size(96, 64), Size(24, 16), 1.0
MAPS = {
    "msra": lambda xy, visible: codecs.msra_encode(xy, visible, SIZE, GRID, SIGMA),
    "msra_unbiased": lambda xy, visible: codecs.msra_unbiased_encode(xy, visible, SIZE, GRID, SIGMA),
    "udp": lambda xy, visible: codecs.udp_encode(xy, visible, SIZE, GRID, SIGMA),
    "megvii": lambda xy, visible: codecs.megvii_encode(xy, visible, SIZE, GRID, 5),
}


def points(count: int = 40, margin: float = 16.0, seed: int = 0):
    """[2, count / 2, 2] px at least `margin` inside."""
    reach = torch.tensor([SIZE.w - 1 - 2 * margin, SIZE.h - 1 - 2 * margin])
    return margin + reach * torch.rand(2, count // 2, 2, generator=torch.Generator().manual_seed(seed))


def seen(xy):
    return torch.ones(xy.shape[:2])


def worst(found, xy) -> float:
    """Largest error of x or y, px."""
    return float((found.xy - xy).abs().max())


def test_unbiased_maps_and_udp_give_their_points_back():
    xy = points()
    assert worst(codecs.msra_unbiased_decode(MAPS["msra_unbiased"](xy, seen(xy)).maps, SIZE, 1), xy) < 0.01
    assert worst(codecs.udp_decode(MAPS["udp"](xy, seen(xy)).maps, SIZE, 1), xy) < 0.01
    combined = codecs.udp_combined_encode(xy, seen(xy), SIZE, GRID, 0.1)
    assert worst(codecs.udp_combined_decode(combined.maps, SIZE, 0.1, 3), xy) < 1e-3


def test_udp_as_mmpose_is_too_long_by_one_px_at_the_far_corner():
    xy = points()
    maps = MAPS["udp"](xy, seen(xy)).maps
    right, wrong = (codecs.udp_decode(maps, SIZE, 1, as_mmpose=flag).xy for flag in (False, True))
    factor = torch.tensor([SIZE.w / (SIZE.w - 1), SIZE.h / (SIZE.h - 1)])
    torch.testing.assert_close(wrong, right * factor)


def test_biased_maps_lose_what_rounding_loses():
    """Half of a cell of 4 px, on both sides; a quarter towards nowhere, since the map is symmetric."""
    xy = points(400)
    found = codecs.msra_decode(MAPS["msra"](xy, seen(xy)).maps, SIZE)
    assert 1.9 < worst(found, xy) <= 2.001
    assert abs(float((found.xy - xy).mean())) < 0.1
    nearest = (xy / 4 + 0.5).floor()
    torch.testing.assert_close(found.xy, nearest * 4)


def test_megvii_undoes_its_cutting_off_by_half_a_cell():
    """Uniform in 0..4 px read as 2 px, and a quarter of a cell to either side, since which neighbour of a symmetric
    peak is higher is left to rounding."""
    xy = points(400)
    found = codecs.megvii_decode(MAPS["megvii"](xy, seen(xy)).maps, SIZE, 5)
    assert 1.9 < worst(found, xy) <= 3.001
    torch.testing.assert_close(((found.xy - 2) / 4).round() * 4, (xy / 4).floor() * 4)
    torch.testing.assert_close(found.score, torch.full_like(found.score, 1.5))


@pytest.mark.parametrize("sigma", [1.0, 2.0, 5 / 3])
def test_windows_are_the_whole_gaussian_cut_at_three_sigma(sigma):
    xy = points()
    whole = codecs.msra_unbiased_encode((xy / 4 + 0.5).floor() * 4, seen(xy), SIZE, GRID, sigma).maps
    cut = codecs.msra_encode(xy, seen(xy), SIZE, GRID, sigma).maps
    assert (cut[cut > 0] == whole[cut > 0]).all()
    assert float(whole[cut == 0].max()) < math.exp(-9 / 2), "beyond three sigma on one axis at least"
    rows, columns = (cut.amax(axis) > 0 for axis in (-1, -2))
    # 2 x 3 sigma + 1 cells where they are all on the map.
    assert int(columns.sum(-1).max()) == int(rows.sum(-1).max()) == round(6 * sigma) + 1


def test_peaks_are_one_and_at_the_point():
    xy = torch.tensor([[[40.0, 24.0], [41.9, 22.1], [42.0, 26.0]]])
    maps = MAPS["msra"](xy, seen(xy)).maps
    cells, peak = heatmaps.argmax(maps)
    assert cells.tolist() == [[[10, 6], [10, 6], [11, 7]]], "halves go up"
    assert torch.equal(peak, torch.ones(1, 3))


@pytest.mark.parametrize("name", MAPS)
def test_weights_follow_visibility_and_the_picture(name):
    """Less than half visible: zeros, weight kept. Wholly outside: zeros, weight 0. NaN is nobody's business there."""
    xy = torch.tensor([[[40.0, 30.0], [40.0, 30.0], [float("nan"), 30.0], [-80.0, 30.0], [40.0, 400.0], [40.0, 30.0]]])
    visible = torch.tensor([[1.0, 0.4, 0.0, 1.0, 0.7, 0.6]])
    target = MAPS[name](xy, visible)
    torch.testing.assert_close(target.weight, torch.tensor([[1.0, 0.4, 0.0, 0.0, 0.0, 0.6]]))
    assert (target.maps.amax((-2, -1)) > 0).tolist() == [[True, False, False, False, False, True]]


def test_a_tail_from_outside_counts_unless_it_ends_before_the_map():
    """Three sigma are three cells, of 4 px. Cells at -4.5 are rounded to -4, whose window ends just before the map:
    that counts, though nothing is drawn."""
    xy = torch.tensor([[[-16.0, 30.0], [-20.0, 30.0], [-24.0, 30.0], [104.0, 30.0], [108.0, 30.0]]])
    target = MAPS["msra"](xy, seen(xy))
    assert target.weight.tolist() == [[1, 1, 0, 1, 0]]
    assert (target.maps.amax((-2, -1)) > 0).tolist() == [[True, False, False, True, False]]


def test_maps_without_a_positive_cell_are_read_as_nothing():
    maps = torch.full((1, 2, GRID.h, GRID.w), -0.5)
    maps[0, 1, 4, 6] = 0.2
    for decode in (codecs.msra_decode, codecs.msra_unbiased_decode, codecs.udp_decode):
        found = decode(maps, SIZE)
        assert (found.xy[0, 0] < 0).all()
        assert found.score[0].tolist() == pytest.approx([-0.5, 0.2])
    combined = codecs.udp_combined_decode(torch.zeros(1, 6, GRID.h, GRID.w), SIZE, 0.1, 3)
    assert (combined.xy < 0).all()
    assert (codecs.megvii_decode(torch.zeros_like(maps), SIZE, 5).xy < 0).all()


def test_offsets_point_home_from_every_cell():
    xy = points(4)
    maps = codecs.udp_combined_encode(xy, seen(xy), SIZE, GRID, 0.1).maps.unflatten(1, (-1, 3))
    at = geometry.px_to_grid(xy, SIZE, GRID, "corner")
    radius = 0.1 * GRID.w
    for row, column in ((0, 0), (3, 20), (15, 7)):
        home = torch.tensor([column, row]) + maps[:, :, 1:, row, column] * radius
        torch.testing.assert_close(home, at, atol=1e-4, rtol=0)
    assert (maps[:, :, 0].sum((-2, -1)) - math.pi * radius**2).abs().max() < 6, "a disc"


@pytest.mark.parametrize("kernel", [3, 5, 11, 23])
def test_reflected_blur_is_opencvs(kernel):
    maps = torch.rand(1, 2, GRID.h, GRID.w, generator=torch.Generator().manual_seed(kernel))
    found = codecs.blur_reflected(maps, kernel)
    for picture, blurred in zip(maps[0], found[0], strict=True):
        expected = cv2.GaussianBlur(picture.numpy(), (kernel, kernel), 0)
        np.testing.assert_allclose(blurred.numpy(), expected, atol=1e-5)


def test_integral_maps_are_distributions():
    xy = torch.tensor([[[40.0, 30.0], [-80.0, 30.0], [0.0, 0.0]]])
    sums = codecs.integral_maps(MAPS["msra"](xy, seen(xy)).maps).sum((-2, -1))
    torch.testing.assert_close(sums, torch.tensor([[1.0, 0.0, 1.0]]))


def test_regression_is_a_share_of_the_sides():
    xy = torch.tensor([[[0.0, 0.0], [95.0, 63.0], [95.5, 10.0], [48.0, 32.0], [48.0, 32.0]]])
    shares = vector_codecs.regression_encode(xy, torch.tensor([[1.0, 1.0, 1.0, 0.5, 0.6]]), SIZE)
    assert shares.weight.tolist() == [[1, 1, 0, 0, 1]]
    torch.testing.assert_close(shares.xy_share[0, 1], torch.tensor([95 / 96, 63 / 64]))
    found = vector_codecs.regression_decode(torch.cat([shares.xy_share, torch.full((1, 5, 2), 0.1)], -1), SIZE)
    torch.testing.assert_close(found.xy, xy)
    torch.testing.assert_close(found.score, torch.full((1, 5), 0.9))


@pytest.mark.parametrize("bins_per_px", [1.5, 2.0, 3.0])
def test_simcc_loses_half_a_bin_at_most(bins_per_px):
    xy = points(200, margin=10)
    target = vector_codecs.simcc_encode(xy, seen(xy), SIZE, bins_per_px, (3.0, 4.0))  # y is lower
    assert target.x.shape[-1] == SIZE.w * bins_per_px
    torch.testing.assert_close(target.x.sum(-1), seen(xy), atol=1e-3, rtol=0)
    found = vector_codecs.simcc_decode(target.x, target.y, bins_per_px)
    assert 0.4 / bins_per_px < worst(found, xy) <= 0.5 / bins_per_px + 1e-4
    torch.testing.assert_close(found.score, torch.full_like(found.score, 1 / (4 * math.sqrt(2 * math.pi))))
    hard = vector_codecs.simcc_one_hot_encode(xy, seen(xy), SIZE, bins_per_px, 0.1)
    torch.testing.assert_close(hard.x.sum(-1), seen(xy))
    torch.testing.assert_close(vector_codecs.simcc_decode(hard.x, hard.y, bins_per_px).xy, found.xy)


def test_simcc_dark_finds_what_lies_between_the_bins():
    """Centres of no whole bin, drawn here: encoding itself rounds."""
    bins = torch.arange(192.0)
    at = torch.tensor([[[60.3, 80.45], [101.5, 33.7]]])
    x, y = (torch.exp(-((bins - at[..., axis : axis + 1]) ** 2) / (2 * 4.0**2)) for axis in (0, 1))
    plain = vector_codecs.simcc_decode(x, y, 2.0).xy
    found = vector_codecs.simcc_dark_decode(x, y, 2.0, (4.0, 4.0)).xy
    assert float((plain - at / 2).abs().max()) > 0.2
    torch.testing.assert_close(found, at / 2, atol=0.02, rtol=0)


def test_simcc_weights():
    """A point outside keeps its tail as a Gaussian; as one bin it has none."""
    xy = torch.tensor([[[-3.0, 30.0], [-30.0, 30.0], [40.0, 63.7], [40.0, 30.0], [float("nan"), 30.0]]])
    visible = torch.tensor([[1.0, 1.0, 1.0, 0.3, 0.0]])
    soft = vector_codecs.simcc_encode(xy, visible, SIZE, 2.0, (4.0, 3.0))
    torch.testing.assert_close(soft.weight, torch.tensor([[1, 0, 1, 0.3, 0]]))
    assert (soft.x.amax(-1) > 0).tolist() == [[True, False, True, False, False]]
    hard = vector_codecs.simcc_one_hot_encode(xy, visible, SIZE, 2.0, 0.1)
    torch.testing.assert_close(hard.weight, torch.tensor([[0, 0, 1, 0.3, 0]]))
    assert (hard.y.amax(-1) > 0).tolist() == [[False, False, True, False, False]]


def test_simcc_visibility_and_normalising():
    flat = torch.zeros(1, 1, 10)
    peaked = flat.clone()
    peaked[..., 3] = 1
    assert float(vector_codecs.simcc_visibility(peaked, peaked, (4.0, 3.0))) == pytest.approx(1)
    assert float(vector_codecs.simcc_visibility(flat, peaked, (4.0, 3.0))) == pytest.approx(0.1)
    vectors = torch.tensor([[[-1.0, 0.25, 0.5], [-1.0, 1.0, 4.0]]])
    expected = torch.tensor([[[0.0, 0.25, 0.5], [0.0, 0.25, 1.0]]])
    torch.testing.assert_close(vector_codecs.simcc_normalised(vectors), expected)
