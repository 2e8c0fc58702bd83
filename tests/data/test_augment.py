"""What augmentation draws: closed forms, limits, and that it depends on (seed, epoch, row) alone."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from fiducial import geometry
from fiducial.data import augment
from fiducial.data.augment import AugmentSpec
from fiducial.data.skeletons import COCO17
from fiducial.errors import UserError
from fiducial.geometry import Size

SIZE = Size(48, 64)
BOX = np.array([20.0, 31.0, 17.0, 50.0])
PLAIN = AugmentSpec.none()


def drawn(spec: AugmentSpec, row: int = 0, flip: float = 0.0):
    generator = augment.generator_of(3, 1, row)
    return augment.sample_map(spec, BOX, SIZE, padding=1.25, flip=flip, generator=generator)


def test_no_augmentation_is_the_plain_crop() -> None:
    matrix, mirrors = drawn(PLAIN)
    assert not mirrors
    assert np.allclose(matrix, geometry.crop(geometry.fit_aspect(BOX, SIZE, 1.25), SIZE))
    image = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    assert np.array_equal(augment.recolour(PLAIN, image.copy(), augment.generator_of(0, 0, 0)), image)


def test_mirroring_is_the_flip_of_the_crop() -> None:
    matrix, mirrors = drawn(PLAIN, flip=1.0)
    assert mirrors
    assert np.allclose(matrix, geometry.compose(augment.crop_map(BOX, SIZE, 1.25), geometry.flip(SIZE)))


def test_amounts_stay_in_their_ranges_and_fill_them() -> None:
    spec = replace(PLAIN, shift=0.1, scale=(0.5, 1.6), rotation_degrees=40, rotation_probability=0.5)
    back = geometry.invert(augment.crop_map(BOX, SIZE, 1.25))
    turns, factors, shifts = [], [], []
    for row in range(800):
        change = drawn(spec, row)[0] @ back  # crop -> augmented crop
        turns.append(math.degrees(math.atan2(change[1, 0], change[0, 0])))
        factors.append(float(geometry.scale_of(change)))
        centre = geometry.unit_to_px(np.array([[0.5, 0.5]]), SIZE)
        shifts.append((geometry.transform(change, centre) - centre)[0] / SIZE)
    assert np.mean(np.abs(turns) < 1e-9) == pytest.approx(0.5, abs=0.06)
    for values, low, high in ((turns, -40, 40), (factors, 0.5, 1.6), (shifts, -0.1, 0.1)):
        assert low - 1e-9 <= np.min(values) < low + 0.1 * (high - low)
        assert high + 1e-9 >= np.max(values) > high - 0.1 * (high - low)
    assert np.mean(np.log(factors)) == pytest.approx(np.log(0.5 * 1.6) / 2, abs=0.05)


def test_draws_depend_on_seed_epoch_and_row_alone() -> None:
    first = augment.generator_of(5, 2, 9).random(4)
    augment.generator_of(5, 2, 8).random(100)
    assert np.array_equal(first, augment.generator_of(5, 2, 9).random(4))
    others = [augment.generator_of(*key).random(4) for key in ((6, 2, 9), (5, 3, 9), (5, 2, 10), (2, 5, 9))]
    assert all(not np.isclose(first, other).any() for other in others)


def test_flip_probability() -> None:
    unknown, none = replace(COCO17, flip_pairs=None), replace(COCO17, flip_pairs=())
    assert [augment.flip_probability(AugmentSpec(), item) for item in (COCO17, unknown, none)] == [0.5, 0, 0.5]
    assert augment.flip_probability(AugmentSpec(flip=0.2), COCO17) == 0.2
    assert augment.flip_probability(AugmentSpec(flip=0), unknown) == 0
    with pytest.raises(UserError, match="flip pairs are unknown"):
        augment.flip_probability(AugmentSpec(flip=0.2), unknown)


def test_brightness_and_contrast_in_closed_form() -> None:
    grey = np.full((64, 48, 3), 90, np.uint8)
    for row in range(40):
        image = augment.recolour(replace(PLAIN, brightness=0.2), grey.copy(), augment.generator_of(0, 0, row))
        expected = 90 + 255 * 0.2 * (2 * augment.generator_of(0, 0, row).random(14)[2] - 1)
        assert abs(image.astype(float) - expected).max() <= 0.51
        image = augment.recolour(replace(PLAIN, contrast=0.5), grey.copy(), augment.generator_of(0, 0, row))
        assert abs(float(image[0, 0, 0]) - 128) == pytest.approx(38, abs=19.6)
        # Saturation leaves grey grey.
        image = augment.recolour(replace(PLAIN, saturation=1.0), grey.copy(), augment.generator_of(0, 0, row))
        assert abs(image.astype(int) - 90).max() <= 1


def test_noise_and_patches() -> None:
    grey = np.full((64, 48, 3), 128, np.uint8)
    spec = replace(PLAIN, noise=1.0, noise_sigma=20.0)
    spreads = [augment.recolour(spec, grey.copy(), augment.generator_of(0, 0, row)).std() for row in range(60)]
    assert 0 < np.min(spreads) < 4
    assert 16 < np.max(spreads) <= 21
    spec = replace(PLAIN, occlusion=1.0, occlusion_side=0.5)
    for row in range(60):
        covered = (augment.recolour(spec, grey.copy(), augment.generator_of(0, 0, row)) != 128).any(-1)
        assert covered.any(1).sum() <= 33
        assert covered.any(0).sum() <= 25
        assert 1 <= covered.sum() == covered.any(1).sum() * covered.any(0).sum()


@pytest.mark.parametrize("bad", [{"flip": 1.5}, {"blur": -0.1}, {"scale": (0.0, 1.0)}, {"scale": (1.2, 0.8)}])
def test_impossible_settings(bad) -> None:
    with pytest.raises(UserError, match=r"augment\.\w+ is .*expected"):
        AugmentSpec(**bad)
