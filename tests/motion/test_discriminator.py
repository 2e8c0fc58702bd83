"""The adversary: its losses by hand, and that it sees the points but does not teach them."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from fiducial.errors import UserError  # noqa: E402
from fiducial.motion import discriminator as adversary  # noqa: E402
from fiducial.motion.discriminator import Discriminator, DiscriminatorSpec, Judgement  # noqa: E402
from fiducial.motion.perceptual import Pyramid  # noqa: E402

POINTS = 3


def judged(score: float, *features: float) -> Judgement:
    return Judgement(
        tuple(torch.full((2, 4, 5 - i, 6), value) for i, value in enumerate(features)), torch.full((2, 1, 3, 4), score)
    )


def network(**options) -> Discriminator:
    torch.manual_seed(0)
    return Discriminator(DiscriminatorSpec(**{"width": 4, "widest": 16, **options}), POINTS)


def picture(side: int = 64, seed: int = 1):
    return torch.rand(2, 3, side, side + 6, generator=torch.Generator().manual_seed(seed))


def points(seed: int = 2):
    return torch.rand(2, POINTS, 2, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_losses_by_hand():
    real, generated = [judged(0.9), judged(1.5)], [judged(0.3), judged(-1.0)]
    found = adversary.discriminator_loss(real, generated).item()
    assert found == pytest.approx(0.1**2 + 0.3**2 + 0.5**2 + 1)
    assert adversary.adversarial_loss(generated).item() == pytest.approx(0.7**2 + 2**2)
    perfect = adversary.discriminator_loss([judged(1.0)], [judged(0.0)])
    assert perfect == 0
    assert adversary.adversarial_loss([judged(1.0)]) == 0


def test_feature_matching_by_hand_and_who_learns_from_it():
    real = [judged(0.0, 1.0, 2.0), judged(0.0, 0.5, 0.0)]
    generated = [judged(0.0, 1.5, 1.0), judged(0.0, 0.5, 0.25)]
    features = [feature for scale in (*real, *generated) for feature in scale.features]
    for feature in features:
        feature.requires_grad_()
    loss = adversary.feature_matching_loss(real, generated)
    assert loss.item() == pytest.approx(0.5 + 1 + 0 + 0.25)
    loss.backward()
    assert [feature.grad is not None for feature in features] == [False] * 4 + [True] * 4


@pytest.mark.parametrize("spectral", [True, False])
def test_judges_every_scale_by_patches(spectral):
    found = network(scales=2, blocks=3, spectral=spectral)(Pyramid()(picture(96)), points())
    assert [len(scale.features) for scale in found] == [3, 3]
    # 96 -> 93, 46 -> 43, 21 -> 18.
    assert [feature.shape[1:3] for feature in found[0].features] == [(8, 93), (16, 43), (16, 18)]
    assert found[0].score.shape[1:3] == (1, 18)
    assert found[1].score.shape[1:3] == (1, 6)


def test_sees_where_points_are_and_does_not_teach_them():
    levels, xy = [picture().requires_grad_()], points().requires_grad_()
    net = network()
    adversary.adversarial_loss(net(levels, xy)).backward()
    assert xy.grad is None
    assert levels[0].grad is not None
    assert levels[0].grad.any()
    assert not torch.equal(net(levels, xy)[0].score, net(levels, points(3))[0].score)
    blind = network(conditioned=False, spectral=False)
    assert torch.equal(blind(levels, xy)[0].score, blind(levels, points(3))[0].score)


def test_smallest_picture_and_what_is_said_of_a_smaller_one():
    net = network().train()
    assert net([picture(61)], points())[0].score.isfinite().all()
    with pytest.raises(UserError, match=r"an image of 60 px a side: 4 blocks of the discriminator need 61"):
        net([picture(60)], points())
    with pytest.raises(UserError, match=r"discriminator\.scales=2: expected at most 1"):
        network(scales=2)([picture()], points())
    with pytest.raises(UserError, match=r"discriminator\.blocks=0"):
        DiscriminatorSpec(blocks=0)
