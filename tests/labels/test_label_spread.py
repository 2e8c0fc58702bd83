"""OKS's constants come back from labels whose spread is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fiducial.labels import label_spread
from fiducial.labels.unseen import Unseen
from fiducial.types import Instances

TRUE = np.array([0.01, 0.02, 0.04, 0.08])  # of each point: the rms distance of two labels, over the root of the area
SIDE_PX = 100.0


def truth(count: int, images: int, seed: int) -> Instances:
    """Instances of 100 px a side, four points each, at random places of large images."""
    generator = np.random.default_rng(seed)
    corner = generator.uniform(0, 900, (count, 1, 2))
    xy = corner + generator.uniform(10, 90, (count, 4, 2))
    return Instances.of(
        [np.zeros((1000, 1000, 3), np.uint8)] * images,
        xy,
        boxes=np.concatenate([corner[:, 0], np.full((count, 2), SIDE_PX)], 1),
        image_row=np.arange(count) % images,
        names=list("abcd"),
    )


def labelled(instances: Instances, seed: int) -> Instances:
    """The same with labels that spread as `TRUE`, 3 % of them gross mistakes."""
    generator = np.random.default_rng(seed)
    offset = generator.normal(size=instances.xy.shape) * (TRUE / 2)[:, None] * SIDE_PX
    gross = generator.random(instances.xy.shape[:2]) < 0.03
    offset[gross] += generator.uniform(-40, 40, (gross.sum(), 2))
    return replace(instances, xy=(instances.xy + offset).astype(np.float32))


def test_of_labels_given_twice() -> None:
    true = truth(400, 400, 0)
    twice = Instances.of(
        [np.zeros((1000, 1000, 3), np.uint8)] * 400,
        np.concatenate([labelled(true, 1).xy, labelled(true, 2).xy]),
        boxes=np.tile(true.box_xywh, (2, 1)),
        image_row=np.tile(true.image_row, 2),
        names=list("abcd"),
    )
    found = label_spread.of_repeated(twice)
    assert found is not None
    assert found.labels.min() > 380
    np.testing.assert_allclose(found.sigma, TRUE, rtol=0.15)
    assert ((found.low < TRUE) & (found.high > TRUE)).sum() >= 3


def test_instances_that_only_share_an_image_are_not_repeats() -> None:
    assert label_spread.of_repeated(truth(300, 50, 0)) is None


@pytest.mark.parametrize("shared", [0.0, 1.0])
def test_of_models_with_errors_of_their_own_and_in_common(shared: float) -> None:
    """Models err by 0.02 of the root of the area in the mean, some instances being harder, and `shared` times as much in
    the same direction."""
    true = truth(800, 400, 0)
    generator = np.random.default_rng(3)
    hard = 0.02 * np.exp(generator.normal(size=(len(true), 1, 1)) * 0.7) * SIDE_PX / np.sqrt(2)
    together = shared * hard * generator.normal(size=true.xy.shape)
    models = np.stack([true.xy + together + hard * generator.normal(size=true.xy.shape) for _ in range(2)])
    unseen = Unseen(
        row=np.arange(len(true)),
        instances=labelled(true, 1),
        part=np.zeros(len(true), int),
        xy=models,
        spread_px=None,
    )
    found = label_spread.of_models(unseen)
    if shared:  # what both get wrong alike can hide a spread that is smaller than it
        np.testing.assert_allclose(found.sigma[1:], TRUE[1:], rtol=0.4)
        np.testing.assert_allclose(found.sigma[2:], TRUE[2:], rtol=0.2)
    else:
        np.testing.assert_allclose(found.sigma, TRUE, rtol=0.2)
        assert ((found.low < TRUE) & (found.high > TRUE)).sum() >= 3
    assert (np.diff(found.sigma) > 0).all()


def test_spearman() -> None:
    """By hand: ranks 1 2 3 4 and 1 2 4 3 differ by 0 0 1 1, so 1 - 6 * 2 / (4 * 15)."""
    assert label_spread.rank_correlation(np.array([1.0, 2, 3, 4]), np.array([5.0, 6, 9, 8])) == pytest.approx(0.8)
