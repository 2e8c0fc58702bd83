"""How a point's errors in x and y go together: of maps of known covariance, under turned crops, and measured on errors of a
known law."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from settled import SPREAD, settled

from fiducial import geometry
from fiducial.errors import UserError
from fiducial.evaluation import spread
from fiducial.exporting import onnx_export
from fiducial.geometry import Size
from fiducial.models import heatmaps
from fiducial.types import Instances, Keypoints

GRID = Size(96, 80)
TURN = np.deg2rad(30)


def covariance(turn: float, along: float = 6.0, across: float = 2.5) -> np.ndarray:
    """[2, 2] of a Gaussian whose longer side is turned, clockwise as seen on the screen."""
    c, s = np.cos(turn), np.sin(turn)
    axes = np.array([[c, -s], [s, c]])
    return axes @ np.diag([along**2, across**2]) @ axes.T


def drawn(*covariances: np.ndarray) -> torch.Tensor:
    """[1, k, h, w] Gaussians around one place, from their density."""
    away = np.stack(np.meshgrid(np.arange(GRID.w) - 50.3, np.arange(GRID.h) - 38.8), -1)
    maps = [np.exp(-0.5 * np.einsum("hwi,ij,hwj->hw", away, np.linalg.inv(each), away)) for each in covariances]
    return heatmaps.normalised(torch.tensor(np.array(maps))[None])


def of_maps(probability: torch.Tensor) -> Keypoints:
    """What maps tell, in cells as px."""
    sigma = geometry.spread_to_px(heatmaps.deviation(probability), GRID)
    return Keypoints(
        heatmaps.expectation(probability),
        torch.ones(probability.shape[:2]),
        sigma,
        correlation=heatmaps.correlation(probability),
    ).numpy()


def test_a_map_tells_the_covariance_of_the_gaussian_it_is() -> None:
    truth = [covariance(TURN), covariance(-TURN), covariance(0), covariance(TURN, 4, 4)]
    found = of_maps(drawn(*truth))
    np.testing.assert_allclose(found.covariance_px2[0], truth, atol=0.02 * 36)
    np.testing.assert_allclose(found.correlation[0, 2:], 0, atol=1e-6)


def test_a_map_without_any_width_leans_nowhere() -> None:
    one = torch.zeros(1, 2, GRID.h, GRID.w)
    one[0, 0, 10, 20] = 1
    one[0, 1, 10, 20:23] = 1 / 3
    assert heatmaps.correlation(one).tolist() == [[0, 0]]


def test_a_turned_crop_turns_the_covariance() -> None:
    """A map of the turned Gaussian tells what the map of the other one tells, moved by the same map; larger, too."""
    upright, turned = of_maps(drawn(covariance(0))), of_maps(drawn(covariance(TURN)))
    moved = upright.mapped(geometry.rotation(TURN, (50.3, 38.8)))
    np.testing.assert_allclose(moved.covariance_px2, turned.covariance_px2, rtol=0.01)
    np.testing.assert_allclose(moved.xy, turned.xy, atol=0.01)
    larger = moved.mapped(geometry.scaling(3, 3))
    np.testing.assert_allclose(larger.covariance_px2, 9 * moved.covariance_px2, rtol=1e-6)
    mirrored = moved.mapped(geometry.flip(GRID))
    np.testing.assert_allclose(mirrored.covariance_px2, of_maps(drawn(covariance(-TURN))).covariance_px2, rtol=0.01)
    as_tensors = Keypoints(
        *map(torch.tensor, (moved.xy, moved.score, moved.sigma)), correlation=torch.tensor(moved.correlation)
    )
    np.testing.assert_allclose(
        as_tensors.mapped(torch.tensor(geometry.rotation(-TURN))).covariance_px2,
        moved.mapped(geometry.rotation(-TURN)).covariance_px2,
        atol=1e-9,
    )


@pytest.mark.parametrize(
    ("method", "leans"), [("heatmap", True), ("integral", True), ("rounding", True), ("simcc", False)]
)
def test_a_detector_tells_it_where_its_method_has_maps_of_the_plane(method: str, leans: bool) -> None:
    detector = settled(method)
    crops = torch.from_numpy(onnx_export.example_crops(detector.spec.size, 3))
    found = detector.predict(crops)
    assert (found.correlation is not None) == leans
    square = found.covariance_px2.numpy()
    np.testing.assert_allclose(square[..., [0, 1], [0, 1]], found.sigma.numpy() ** 2, rtol=1e-5)
    assert (np.linalg.eigvalsh(square) > 0).all()
    with torch.inference_mode():
        told = detector.head.correlation(detector(crops))
    if leans:
        assert told is not None
        np.testing.assert_allclose(found.correlation, told.numpy() * SPREAD.correlation, rtol=1e-5)
        detector.spec = replace(detector.spec, spread=replace(SPREAD, correlation=None))
        assert detector.predict(crops).correlation is None
    detector.spec = replace(detector.spec, spread=None)
    with pytest.raises(UserError, match="was not measured for this model"):
        _ = detector.predict(crops).covariance_px2


@pytest.mark.parametrize("law", [1.0, 0.5, 0.0])
def test_how_much_of_it_holds_is_measured(law: float) -> None:
    """Gaussian errors of 200 images of 40 points whose correlation is a share of what is told, or none of it."""
    draw = np.random.default_rng(4)
    told = draw.uniform(-0.8, 0.8, (200, 40))
    sigma = np.exp(draw.normal(1, 0.5, (200, 40, 2)))
    error = draw.normal(size=(200, 40, 2))
    true = law * told
    error[..., 1] = true * error[..., 0] + np.sqrt(1 - true**2) * error[..., 1]
    truth = Instances.of(
        np.zeros((200, 9, 9, 3), np.uint8), draw.uniform(0, 9, (200, 40, 2)), boxes=[[0, 0, 9, 9]] * 200
    )
    found = Keypoints(
        truth.xy + sigma * error, np.ones((200, 40)), sigma, correlation=told, spread=spread.uncalibrated(40)
    )
    measured = spread.measured_on(found, truth, np.repeat(np.eye(3)[None], 200, 0))
    assert measured is not None
    assert measured.correlation == (None if law == 0 else pytest.approx(law, abs=0.08))
    assert spread.leaning_of(np.ones((5, 2)), np.zeros(5)) is None, "nothing is told"
