"""Every decoder on perfect maps, whose centres are known exactly: over fractions of a cell, widths and borders."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
from fiducial import config, geometry  # noqa: E402
from fiducial.card import DetectorSpec  # noqa: E402
from fiducial.errors import UserError  # noqa: E402
from fiducial.geometry import Size  # noqa: E402
from fiducial.models import axes, heatmaps  # noqa: E402
from fiducial.models.contracts import Level  # noqa: E402
from fiducial.models.detector import build  # noqa: E402
from fiducial.models.heads import deeppose, heatmap  # noqa: E402
from fiducial.types import Batch, Skeleton  # noqa: E402

GRID = Size(37, 29)
FRACTIONS = torch.arange(0, 1, 0.1)
DECODERS = {
    "argmax": lambda maps, sigma: heatmaps.argmax(maps)[0],
    "quarter": lambda maps, sigma: heatmaps.quarter(maps, heatmaps.argmax(maps)[0]),
    "dark": lambda maps, sigma: heatmaps.dark(maps, heatmaps.argmax(maps)[0]),
    "dark, no blur": lambda maps, sigma: heatmaps.dark(maps, heatmaps.argmax(maps)[0], 1),
    "dark_udp": lambda maps, sigma: heatmaps.dark_udp(maps, heatmaps.argmax(maps)[0]),
    "dark_udp, no blur": lambda maps, sigma: heatmaps.dark_udp(maps, heatmaps.argmax(maps)[0], 1),
    "mean": lambda maps, sigma: axes.untruncated(heatmaps.expectation(heatmaps.normalised(maps)), GRID, sigma),
    "square": lambda maps, sigma: axes.untruncated(heatmaps.expectation(heatmaps.squared(maps)), GRID, sigma, power=2),
    "windowed mean": lambda maps, sigma: heatmaps.windowed_mean(maps, heatmaps.argmax(maps)[0], sigma),
}


def centres(x0: float, y0: float) -> torch.Tensor:
    """[1, 100, 2]: a cell's hundred fractional positions, from (x0, y0) on."""
    x, y = torch.meshgrid(x0 + FRACTIONS, y0 + FRACTIONS, indexing="xy")
    return torch.stack([x.flatten(), y.flatten()], -1)[None]


def worst(name: str, xy: torch.Tensor, sigma: float) -> float:
    """Largest error of x or y, cells."""
    found = DECODERS[name](heatmaps.draw_gaussians(xy, GRID, sigma), sigma)
    return float((found - xy).abs().max())


@pytest.mark.parametrize("sigma", [0.7, 1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize(
    ("name", "bound"),
    # The argmax is half a cell off at worst; a quarter of a cell towards the higher neighbour leaves a quarter.
    [
        ("argmax", 0.5),
        ("quarter", 0.25),
        ("dark", 2e-3),
        ("dark, no blur", 1e-3),
        ("dark_udp", 2e-3),
        ("dark_udp, no blur", 1e-3),
        ("mean", 1e-3),
        ("square", 1e-3),
        ("windowed mean", 1e-3),
    ],
)
def test_error_inside_the_map(name, bound, sigma):
    assert worst(name, centres(17, 12), sigma) <= bound + 1e-3
    if bound > 0.1:
        assert worst(name, centres(17, 12), sigma) > 0.9 * bound, "the bound is reached"


@pytest.mark.parametrize("sigma", [1.0, 1.5, 3.0])
@pytest.mark.parametrize("corner", [(-0.5, 12.0), (17.0, -0.5), (0.5, 27.5), (35.5, 1.0), (-0.5, -0.5)])
@pytest.mark.parametrize("name", ["mean", "square", "windowed mean"])
def test_means_are_right_on_the_border_too(name, corner, sigma):
    """A Gaussian cut off by the border has its mean further in than its centre; this is taken out."""
    xy = centres(*corner)
    assert worst(name, xy, sigma) < 0.005
    plain = heatmaps.expectation(heatmaps.normalised(heatmaps.draw_gaussians(xy, GRID, sigma)))
    assert float((plain - xy).abs().max()) > 0.2 * sigma, "the bias that is taken out"


def test_truncated_mean_is_that_of_the_half_normal():
    """Closed form for many cells: a Gaussian centred on the border has its mean sigma sqrt(2 / pi) further in."""
    grid, sigma = Size(201, 151), 20.0
    inner = sigma * math.sqrt(2 / math.pi) - 0.5
    mean = torch.tensor([[[inner, 75.0], [200 - inner, 75.0], [100.0, 150 - inner]]])
    centre = torch.tensor([[[-0.5, 75.0], [200.5, 75.0], [100.0, 150.5]]])
    found = axes.untruncated(mean, grid, sigma, rounds=8)
    torch.testing.assert_close(found, centre, atol=0.05, rtol=0)


def test_means_stay_on_the_map_whatever_they_are_given():
    ends = torch.tensor([[[0.0, 0.0], [36.0, 28.0], [0.01, 27.9]]])
    found = axes.untruncated(ends, GRID, 1.5)
    assert geometry.inside(found, GRID).all()
    flat = heatmaps.windowed_mean(torch.zeros(2, 3, 29, 37), torch.zeros(2, 3, 2), 1.5)
    assert flat.isfinite().all()


def test_the_rest_of_the_map_does_not_count_in_a_windowed_mean():
    xy = centres(9, 8)
    maps = heatmaps.draw_gaussians(xy, GRID, 1.5) + 0.9 * heatmaps.draw_gaussians(xy + 15, GRID, 1.5)
    found = heatmaps.windowed_mean(maps, heatmaps.argmax(maps)[0], 1.5)
    torch.testing.assert_close(found, xy, atol=1e-3, rtol=0)


@pytest.mark.parametrize("margin", [0.1, 1.0])
@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("corner", [(17.0, 12.0), (-0.5, 27.5)])
def test_peaks_with_a_margin_to_a_power_are_found_again(
    corner: tuple[float, float], power: float, margin: float
) -> None:
    xy, sigma = centres(*corner), 1.5
    away = (torch.arange(37)[None, None] - xy[..., :1]), (torch.arange(29)[None, None] - xy[..., 1:])
    logits = [-(along**2) / (2 * sigma**2) - margin * ((along**2 + sigma**2).sqrt() - sigma) for along in away]
    mean = torch.stack([axes.mean((power * along).softmax(-1)) for along in logits], -1)
    found = axes.untruncated(mean, GRID, sigma, rounds=6, margin_weight=margin, power=power)
    torch.testing.assert_close(found, xy, atol=5e-3, rtol=0)


def test_a_second_peak_weighs_by_its_square() -> None:
    """Far from the borders: of heights 3 and 1 the map's mean is a quarter of the way, the square's a tenth."""
    at, way = torch.tensor([[[10.0, 9.0]]]), torch.tensor([12.0, 10.0])
    grid = Size(41, 37)
    maps = 3 * heatmaps.draw_gaussians(at, grid, 1.5) + heatmaps.draw_gaussians(at + way, grid, 1.5)
    shares = {
        "mean": heatmaps.expectation(heatmaps.normalised(maps)),
        "square": heatmaps.expectation(heatmaps.squared(maps)),
    }
    torch.testing.assert_close(shares["mean"], at + way / 4, atol=1e-3, rtol=0)
    torch.testing.assert_close(shares["square"], at + way / 10, atol=1e-3, rtol=0)


@pytest.mark.parametrize("ratio", [0.8, 1.2, 1.5])
def test_a_windowed_mean_forgives_peaks_of_another_width(ratio):
    """Networks blur: half a cell of the argmax becomes a tenth."""
    xy = centres(17, 12)
    maps = heatmaps.draw_gaussians(xy, GRID, 1.5 * ratio)
    found = heatmaps.windowed_mean(maps, heatmaps.argmax(maps)[0], 1.5)
    assert float((found - xy).abs().max()) < 0.1


def test_quantisation_of_a_large_picture():
    """64x64 maps of a 2500-px picture: a cell is 39 px; the argmax errs by 15 px on average, others by less than one."""
    size, grid = Size(2500, 2500), Size(64, 64)
    xy = 300 + 1900 * torch.rand(1, 400, 2, generator=torch.Generator().manual_seed(2))
    maps = heatmaps.draw_gaussians(geometry.px_to_grid(xy, size, grid), grid, 1.5)
    cell, _ = heatmaps.argmax(maps)
    mean = heatmaps.expectation(heatmaps.normalised(maps))
    found = {
        "argmax": cell,
        "quarter": heatmaps.quarter(maps, cell),
        "dark": heatmaps.dark(maps, cell),
        "mean": axes.untruncated(mean, grid, 1.5),
        "windowed mean": heatmaps.windowed_mean(maps, cell, 1.5),
    }
    error = {name: float((geometry.grid_to_px(p, size, grid) - xy).norm(dim=-1).mean()) for name, p in found.items()}
    # Uniform over a square cell of 2500 / 64 px: the mean distance from its centre is 0.3826 of the side.
    assert error["argmax"] == pytest.approx(0.3826 * 2500 / 64, rel=0.05)
    assert error["quarter"] == pytest.approx(error["argmax"] / 2, rel=0.05)
    assert max(error[name] for name in ("dark", "mean", "windowed mean")) < 1


@pytest.mark.parametrize("kernel", [3, 5, 9, 11, 17])
def test_blur_is_opencvs_with_zeros_outside(kernel):
    maps = torch.rand(2, 3, 29, 37, generator=torch.Generator().manual_seed(kernel))
    taps = heatmaps.blur_kernel(kernel).float()
    found = heatmaps.band_matrix(taps, 29) @ maps @ heatmaps.band_matrix(taps, 37)
    for picture, blurred in zip(maps.flatten(0, 1), found.flatten(0, 1), strict=True):
        radius = kernel // 2
        padded = cv2.copyMakeBorder(picture.numpy(), radius, radius, radius, radius, cv2.BORDER_CONSTANT, value=0)
        expected = cv2.GaussianBlur(padded, (kernel, kernel), 0)[radius:-radius, radius:-radius]
        np.testing.assert_allclose(blurred.numpy(), expected, atol=1e-5)


def test_dark_udp_by_hand_where_the_map_is_nothing_around_its_peak():
    """Logs in units of log(0.001): 0 at the peak, 1 around it, where the map is clipped, and 2/3 to its right."""
    maps = torch.zeros(1, 1, 7, 9)
    maps[0, 0, 3, 4], maps[0, 0, 3, 5] = 1, 0.01
    found = heatmaps.dark_udp(maps, torch.tensor([[[4.0, 3.0]]]), 1)
    # g = (-1/6, 0); H = [[5/3, h], [h, 2]] with h = (1 - 2/3 - 1 - 1 - 1 + 1) / 2 = -5/6; step = -H^-1 g.
    determinant = 5 / 3 * 2 - (5 / 6) ** 2
    expected = torch.tensor([[[4 + 2 / 6 / determinant, 3 + 5 / 36 / determinant]]])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_mass_near_is_a_probability_and_falls_with_doubt():
    xy = torch.tensor([[[9.3, 8.6], [20.0, 15.0]]])
    sure = heatmaps.normalised(heatmaps.draw_gaussians(xy, GRID, 1.5))
    # Per axis, within two widths and half a cell: erf(3.5 / (1.5 sqrt(2))).
    expected = math.erf(3.5 / (1.5 * math.sqrt(2))) ** 2
    torch.testing.assert_close(heatmaps.mass_near(sure, xy, 3.5), torch.full((1, 2), expected), atol=0.01, rtol=0)
    two = (sure + sure.flip(-1)) / 2
    assert (heatmaps.mass_near(two, heatmaps.expectation(two), 3.5)[0, 0] < 0.05).all(), "a mean between two peaks"
    assert (heatmaps.mass_near(two, xy, 3.5)[0, 0] - expected / 2).abs() < 0.01
    assert heatmaps.mass_near(torch.full((1, 2, 29, 37), 1 / (29 * 37)), xy, 3.5).max() < 0.05


SKELETON = Skeleton("five", tuple("abcde"))


@pytest.mark.parametrize("spec", [{}, {"decoder": "dark"}, {"loss": "mse"}, {"loss": "mse", "decoder": "dark"}])
def test_decoding_is_exact_under_the_callers_autocast(spec):
    """Validation in bf16 calls `predict` inside autocast, which would run the decoder's products in bf16."""
    detector = build(DetectorSpec("test_efficientnet", "heatmap", spec, Size(128, 96), SKELETON)).eval()
    xy = torch.rand(3, 5, 2, generator=torch.Generator().manual_seed(4)) * torch.tensor([90.0, 60.0]) + 15
    image = torch.zeros(3, 96, 128, 3, dtype=torch.uint8)
    batch = Batch(image, xy, torch.ones(3, 5), torch.eye(3).expand(3, 3, 3), torch.arange(3))
    perfect = detector.head.encode(batch)
    detector.forward = lambda image: perfect  # type: ignore[method-assign]
    with torch.autocast("cpu", torch.bfloat16):
        found = detector.predict(image)
    torch.testing.assert_close(found.xy, xy, atol=0.05, rtol=0)


def test_coordinates_by_regression_are_not_rounded_to_bf16():
    torch.manual_seed(6)
    head = deeppose.Head(deeppose.Spec(), Level(24, 32), 5, Size(256, 192)).eval()
    torch.nn.init.normal_(head.linear.weight, std=0.1)
    feature = torch.rand(4, 24, 6, 8).bfloat16()
    exact = head.decode(head(feature.float())).xy
    with torch.autocast("cpu", torch.bfloat16):
        raw = head(feature)
    assert raw.dtype == torch.float32
    # What is left is the rounding of the pooled features, not 1 px of the coordinates' own.
    assert float((head.decode(raw).xy - exact).abs().mean().detach()) < 0.1


@pytest.mark.parametrize(
    "wrong", [{"blur_cells": 4}, {"blur_cells": 0}, {"sigma_cells": 0.0}, {"stride": 0}, {"stride": 3}]
)
def test_impossible_settings_are_named(wrong):
    with pytest.raises(UserError, match=f"head.{next(iter(wrong))}="):
        heatmap.Head(config.from_dict(heatmap.Spec, wrong), Level(8, 16), 5, Size(64, 96))


@pytest.mark.parametrize("margin", [0.5, 2.0])
def test_a_loss_with_a_margin_is_no_less_than_the_error_of_the_peak(margin: float) -> None:
    """What max-margin training promises: loss-augmented inference bounds the task's own loss (Tsochantaridis et al.,
    JMLR 2005), here the distance from the highest cell to the truth, along x and y, rounded off within sigma."""
    sigma, size = 0.3, Size(64, 64)
    head = heatmap.Head(heatmap.Spec(sigma_cells=sigma, margin=margin), Level(4, 4), 1, size)
    generator = torch.Generator().manual_seed(5)
    raw = torch.randn(200, 1, 16, 16, generator=generator) * 3
    truth = torch.randint(16, (200, 1, 2), generator=generator).float()
    peak, _ = heatmaps.argmax(raw)
    error = (((peak - truth) ** 2 + sigma**2).sqrt() - sigma).sum(-1)
    xy = geometry.grid_to_px(truth, size, Size(16, 16), "edge")
    for i in range(len(raw)):
        batch = Batch(
            torch.zeros(1, 64, 64, 3, dtype=torch.uint8),
            xy[i, None],
            torch.ones(1, 1),
            torch.eye(3)[None],
            torch.zeros(1),
        )
        assert head.loss(raw[i, None], batch)["cross_entropy"] >= margin * error[i] - 0.3


def test_one_more_cell_is_a_softmax_over_all_cells_and_one_of_logit_0() -> None:
    logits = torch.randn(4, 3, 6, 7, generator=torch.Generator().manual_seed(2)) * 5 + 40
    logits[1] -= 80
    every = torch.cat([logits.double().flatten(2), torch.zeros(4, 3, 1)], -1).softmax(-1)
    torch.testing.assert_close(heatmaps.presence(logits).double().sigmoid(), 1 - every[..., -1], atol=1e-6, rtol=1e-5)


def test_labels_outside_the_crop_teach_the_cell_for_them() -> None:
    """Joint cross-entropy over the cells and the one outside, written out; points that are not labelled teach nothing."""
    size = Size(32, 32)
    head = heatmap.Head(heatmap.Spec(outside=True), Level(4, 4), 3, size)
    raw = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(3), requires_grad=True)
    xy = torch.tensor([[[10.0, 20.0], [40.0, 5.0], [-90.0, 3.0]]])
    batch = Batch(
        torch.zeros(1, 32, 32, 3, dtype=torch.uint8),
        xy,
        torch.tensor([[1.0, 1, 0]]),
        torch.eye(3)[None],
        torch.zeros(1),
    )
    found = head.loss(raw, batch)
    every = torch.cat([raw.flatten(2), torch.zeros(1, 3, 1)], -1).log_softmax(-1)[0]
    drawn = heatmaps.normalised(
        heatmaps.draw_gaussians(geometry.px_to_grid(xy, size, Size(8, 8), "edge"), Size(8, 8), 1.5)
    )
    # Of the first point all the weight is on its cells, of the second on the cell outside.
    own = -(drawn[0, 0].flatten() * every[0, :-1]).sum()
    apart = -(drawn[0, 0].flatten() * raw[0, 0].flatten().log_softmax(-1)).sum()
    torch.testing.assert_close(found["cross_entropy"], apart)
    torch.testing.assert_close(found["outside"], ((own - apart) - every[1, -1]) / 2)
    (gradient,) = torch.autograd.grad(found["cross_entropy"] + found["outside"], raw)
    assert gradient[0, :2].abs().sum((-2, -1)).min() > 0
    assert gradient[0, 2].abs().sum() == 0
    assert head.decode(head.encode(batch)).score[0].tolist() == pytest.approx([1, 0, 0], abs=0.05)
