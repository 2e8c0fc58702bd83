"""How far points may be off: against errors of a known law, by hand, and against resampling."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fiducial.errors import UserError
from fiducial.evaluation import evaluate, spread
from fiducial.prediction import outputs
from fiducial.types import Instances, Keypoints, Skeleton, Spread

SCALE = np.array([0.5, 2.0])


def errors_of(told: np.ndarray, power: float, draw: np.random.Generator) -> np.ndarray:
    """Lengths of errors that are Gaussian in the plane, of sigma scale x told ^ power."""
    sigma = SCALE * told[..., 0] ** power
    return np.linalg.norm(draw.normal(size=(*sigma.shape, 2)) * sigma[..., None], axis=-1)


@pytest.mark.parametrize("power", [0.0, 0.6, 1.0])
def test_a_known_law_is_found(power: float) -> None:
    draw = np.random.default_rng(0)
    told = np.repeat(np.exp(draw.normal(1, 0.7, (3000, 2)))[..., None], 2, axis=-1)
    found = spread.measured(errors_of(told, power, draw), told, np.arange(3000))
    assert found is not None
    assert found.power == pytest.approx(power, abs=0.04)
    # The middle of what is told is e; a scale goes with its power.
    np.testing.assert_allclose(np.array(found.scale) * math.e**found.power, SCALE * math.e**power, rtol=0.08)
    # Radii of a Gaussian in the plane: Rayleigh's quantiles.
    np.testing.assert_allclose(found.factors, np.sqrt(-2 * np.log(1 - np.array(found.shares))), rtol=0.06)
    new = np.repeat(np.exp(draw.normal(1, 0.7, (3000, 2)))[..., None], 2, axis=-1)
    off = errors_of(new, power, draw) / (np.array(found.scale) * new[..., 0] ** found.power)
    for share, factor in zip(found.shares, found.factors, strict=True):
        assert (off <= factor).mean() == pytest.approx(share, abs=0.02)


def test_what_is_told_of_nothing_is_no_hint() -> None:
    draw = np.random.default_rng(1)
    found = spread.measured(errors_of(np.ones((500, 2, 2)), 0, draw), np.ones((500, 2, 2)), np.arange(500))
    assert found is not None
    assert found.power == 0
    np.testing.assert_allclose(found.scale, SCALE, rtol=0.12)


def test_a_next_image_may_be_the_worst() -> None:
    """4 images of 10 points: a fifth's points, all worse, are 10 of 50, so 80 % of all are the 40 that are there."""
    errors = np.arange(1.0, 41).reshape(4, 10)
    found = spread.measured(errors, np.ones((4, 10, 2)), np.arange(4))
    assert found is not None
    assert found.shares[-1] == 0.8
    assert found.factors[-1] * np.mean(found.scale) == pytest.approx(40, rel=0.2)
    assert found.factors[-1] == pytest.approx((errors / np.array(found.scale)).max(), rel=1e-4)


def test_the_rank_is_that_of_one_more_and_shares_that_need_more_are_left_out() -> None:
    """25 errors 1 .. 25: of 26 the 0.5 (n + 1) = 13th holds half; 0.95 x 26 is the 25th, 0.9 x 26 the 24th."""
    errors = np.arange(1.0, 26)[:, None]
    found = spread.measured(errors, np.ones((25, 1, 2)), np.arange(25))
    assert found is not None
    radii = dict(zip(found.shares, np.array(found.factors) * found.scale[0], strict=True))
    assert {share: round(value, 3) for share, value in radii.items() if share >= 0.5} == {
        0.5: 13, 0.6: 16, 0.7: 19, 0.8: 21, 0.9: 24, 0.95: 25,
    }  # fmt: skip
    assert spread.measured(errors[:19], np.ones((19, 1, 2)), np.arange(19)) is None
    few = spread.measured(errors, np.where(errors < 20, np.ones((25, 1)), 1)[..., None].repeat(2, -1), np.arange(25))
    assert few == found
    unlabelled = np.where(errors <= 20, errors, np.nan)
    without = spread.measured(unlabelled, np.ones((25, 1, 2)), np.arange(25))
    assert without is not None
    assert (without.points, without.instances) == (20, 20)
    assert 0.95 in without.shares, "0.95 x 21 is the 20th of 20"


def test_the_range_is_that_of_drawing_whole_images_anew() -> None:
    draw = np.random.default_rng(2)
    of_image = draw.normal(0, 0.8, 60)
    errors = np.exp(draw.normal(size=(60, 30)) * 0.5 + of_image[:, None])
    found = spread.measured(errors, np.ones((60, 30, 2)), np.arange(60))
    assert found is not None
    held = errors <= found.factors[found.shares.index(0.9)] * np.array(found.scale)
    again = [held[draw.integers(0, 60, 60)].mean() for _ in range(2000)]
    assert found.margins[found.shares.index(0.9)] == pytest.approx(1.96 * np.std(again), rel=0.1)
    naive = 1.96 * math.sqrt(0.9 * 0.1 / errors.size)
    assert found.margins[found.shares.index(0.9)] > 2 * naive, "points of one image miss together"


def calibrated(sigma: np.ndarray, xy: np.ndarray) -> Keypoints:
    measured = Spread(scale=(1.0, 1.0), shares=(0.5, 0.9), factors=(1.0, 2.0), margins=(0.1, 0.1))
    return Keypoints(xy, np.ones(xy.shape[:2]), sigma, skeleton=Skeleton("two", ("a", "b")), spread=measured)


def test_coverage_by_hand() -> None:
    """Radii of 3 and 6 px: errors of 2, 5 and 10 px; the fourth point is not labelled."""
    images = np.zeros((2, 50, 50, 3), np.uint8)
    truth = Instances.of(images, [[[10, 10], [30, 10]], [[10, 30], [np.nan, np.nan]]], boxes=[[0, 0, 50, 50]] * 2)
    xy = truth.xy + np.array([[[2, 0], [3, 4]], [[0, -10], [99, 99]]])
    found = calibrated(np.full((2, 2, 2), 3.0), xy)
    half, most = spread.coverage(found, truth)
    assert (half.share, half.covered, half.median_radius_px) == (0.5, pytest.approx(1 / 3), 3)
    assert (most.share, most.covered, most.median_radius_px) == (0.9, pytest.approx(2 / 3), 6)
    assert most.low < most.covered < most.high <= 1
    told = spread.as_json(found, truth)
    assert told["spread"]["coverage"][1]["covered"] == most.covered
    assert spread.lines(told) == [
        f"radii of 50/90 % held 33/67 % of the points; that of 90 % ± {50 * (most.high - most.low):.3g}, "
        "with a median of 6 px"
    ]
    assert spread.as_json(replace(found, spread=None), truth) == {}


def test_a_radius_goes_with_the_image_and_is_refused_where_nothing_was_measured() -> None:
    found = calibrated(np.full((1, 2, 2), 3.0), np.zeros((1, 2, 2)))
    larger = found.mapped(np.diag([2.0, 2.0, 1.0]))
    np.testing.assert_allclose(found.radius(0.9), 6)
    np.testing.assert_allclose(larger.radius(0.9), 12)
    np.testing.assert_allclose(larger[0].radius(0.5), 6)
    with pytest.raises(UserError, match=r"radius of 0\.95: the model was measured for 0\.5, 0\.9"):
        found.radius(0.95)
    with pytest.raises(UserError, match="was not measured for this model"):
        replace(found, spread=None).radius()


def test_results_have_radii(tmp_path: Path) -> None:
    found = calibrated(np.array([[[3.0, 4.0], [1.0, 1.0]]]), np.array([[[1.0, 2.0], [3.0, 4.0]]]))
    (entry,) = found.to_coco()
    assert entry["keypoint_radii_90"] == [round(2 * math.sqrt(12.5), 3), 2.0]
    assert "keypoint_radii_90" not in replace(found, spread=None).to_coco()[0]
    assert found.skeleton is not None
    with outputs.writing_csv(tmp_path / "table.csv", found.skeleton, found.spread) as write:
        write([entry])
    (row,) = csv.DictReader((tmp_path / "table.csv").open())
    assert (row["a_x"], row["b_score"], row["a_radius_90"], row["b_radius_90"]) == ("1.0", "1.0", "7.071", "2.0")


def test_a_run_is_calibrated_and_keeps_it(blob_model: Path, blobs: Path, tmp_path: Path) -> None:
    from fiducial.card import Card
    from fiducial.data import annotations
    from fiducial.models import detector as detectors
    from fiducial.training import fit

    detector, card = detectors.load(blob_model)
    instances, _ = annotations.load(blobs, "val")
    plain = evaluate.evaluate_detector(detector, instances)
    assert plain.keypoints.sigma is None
    fit.calibrate(detector, instances)
    detectors.save(detector, tmp_path, replace(card, spec=detector.spec))
    loaded, again = detectors.load(tmp_path)
    assert isinstance(again, Card)
    assert again.spec.spread == detector.spec.spread is not None
    assert json.loads((tmp_path / "model.json").read_text())["spec"]["spread"]["points"] == 48
    assert again.spec.spread is not None
    assert not again.spec.spread.knows(0.95), "16 images are too few"
    found = evaluate.evaluate_detector(loaded, instances)
    np.testing.assert_array_equal(found.keypoints.xy, plain.keypoints.xy)
    for each in spread.coverage(found.keypoints, found.instances):
        assert each.covered == pytest.approx(math.ceil(48 * each.share * 17 / 16) / 48, abs=1.5 / 48), (
            "on its own labels"
        )
