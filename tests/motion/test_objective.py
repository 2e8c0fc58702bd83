"""What teaches points without labels: every weight learns, stills too, and a collapse is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch

from fiducial.data.augment import AugmentSpec
from fiducial.data.source import Source
from fiducial.motion import fit as fitting
from fiducial.motion import pairs
from fiducial.motion.clips import Clips
from fiducial.motion.discriminator import DiscriminatorSpec
from fiducial.motion.objective import Motion, separation
from fiducial.motion.pairs import FramePairs
from fiducial.motion.scoring import ReconstructionErrors, Spread
from fiducial.motion.watch import SpreadWatch
from fiducial.training._lightning import L
from fiducial.training.recipe import Recipe


@pytest.fixture
def clips(discs: Path, recipe: Recipe, tmp_path: Path) -> Clips:
    return fitting.clips_for(Source(discs), tmp_path, recipe)


def batch_of(clips: Clips, count: int = 4) -> FramePairs:
    return next(iter(pairs.train_loader(clips, count, count, AugmentSpec.none())))


def stills(batch: FramePairs) -> FramePairs:
    return FramePairs(batch.source, batch.source.clone(), torch.ones(len(batch.row), dtype=torch.bool), batch.row)


def built(recipe: Recipe) -> Motion:
    return fitting.build(recipe)[0].train()


def total(objective: Motion, batch: FramePairs) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.stack(list(objective(batch).values())).sum()


@pytest.mark.parametrize("adversary", [False, True])
def test_a_step_s_gradient_reaches_every_parameter(recipe: Recipe, clips: Clips, adversary: bool) -> None:
    spec = DiscriminatorSpec(width=4, widest=8, blocks=2) if adversary else None
    objective = built(replace(recipe, motion=replace(recipe.motion, discriminator=spec)))
    batch = batch_of(clips)
    total(objective, batch).backward()
    with torch.no_grad():  # the first step of the Jacobians' convolution, without which nothing behind it could learn
        for parameter in objective.parameters():
            assert parameter.grad is not None
            parameter.sub_(1e-3 * parameter.grad)
    objective.zero_grad()
    total(objective, batch).backward()
    for name, parameter in objective.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # A bias in front of a norm changes nothing; of a convolution that has one behind it, it is the mean that goes.
        before_norm = name.endswith("conv.bias") or (name.endswith(".bias") and "conv" in name)
        assert parameter.grad.any() or before_norm, name


def test_the_fixed_features_are_neither_trained_nor_kept(recipe: Recipe) -> None:
    objective = built(recipe)
    assert not any("features" in name for name in objective.state_dict())
    assert not any(parameter.requires_grad for parameter in objective.features.parameters())


def test_losses_are_named_and_depend_on_the_dice_alone(recipe: Recipe, clips: Clips) -> None:
    objective, batch = built(recipe), batch_of(clips)
    assert set(objective(batch)) == {"perceptual", "pixels", "value", "jacobian"}
    assert torch.equal(total(objective, batch), total(objective, batch))
    objective.eval()
    assert objective.each(batch).shape == (4,)


def test_stills_are_made_of_warped_copies(recipe: Recipe, clips: Clips) -> None:
    objective, batch = built(recipe), stills(batch_of(clips))
    found = objective.reconstruct(batch, torch.Generator().manual_seed(1))
    source = batch.source.permute(0, 3, 1, 2) / 255
    moved = (found.driving - source).abs().flatten(1).mean(1)
    assert (moved > 0.003).all()
    loss = torch.stack(list(objective(batch).values())).sum()
    loss.backward()
    gradient = objective.generator.dense_motion.mask.weight.grad
    assert gradient is not None
    assert gradient.any()
    mixed = FramePairs(*(torch.cat(both) for both in zip(batch, batch_of(clips), strict=True)))
    driving = objective.reconstruct(mixed, torch.Generator().manual_seed(1)).driving
    torch.testing.assert_close(driving[4:], mixed.driving[4:].permute(0, 3, 1, 2) / 255)


def test_a_frozen_backbone_learns_nothing(recipe: Recipe, clips: Clips) -> None:
    objective = built(recipe)
    objective.frozen = True
    total(objective.train(), batch_of(clips)).backward()
    assert all(parameter.grad is None for parameter in objective.detector.backbone.parameters())
    assert objective.detector.head.get_submodule("heatmap").weight.grad is not None


def test_a_bad_sample_is_found_among_others(recipe: Recipe, clips: Clips) -> None:
    """`each` gives every sample its own loss."""
    objective, batch = built(recipe).eval(), batch_of(clips)
    copies = FramePairs(*(column[[0, 0, 1]] for column in batch))
    losses = objective.each(copies)
    assert losses[0] != losses[2]


def test_separation_is_a_closed_form() -> None:
    """Of three points two are close: 0.1 - 0.2^2 from each to the other, and nothing from the third, far away."""
    xy = torch.tensor([[[0.0, 0.0], [0.2, 0.0], [0.9, 0.9]], [[-0.5, 0.0], [0.0, 0.5], [0.5, 0.0]]])
    assert float(separation(xy)) == pytest.approx(2 * (0.1 - 0.04) / 2, rel=1e-5)


# ---------------------------------------------------------------------------------------------------------- scores


def test_scores_of_a_system_that_copies(recipe: Recipe, clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    """A generator that gives back its source: the error is that of the copy, the gain nothing."""
    objective = built(recipe).eval()
    generator = objective.generator
    monkeypatch.setattr(generator, "forward", lambda source, *frames: SimpleNamespace(prediction=source))
    errors, expected = ReconstructionErrors(recipe.size), []
    for batch in pairs.scored_loader(clips, 5):
        errors.observe(objective, batch)
        expected += (batch.source.float() - batch.driving.float()).abs().mean((1, 2, 3)).div(255).tolist()
    scores = errors.scores()
    assert len(expected) == 11
    assert scores["copy"] == pytest.approx(sum(expected) / len(expected), rel=1e-5)
    assert scores["reconstruction"] == pytest.approx(scores["copy"])
    assert scores["gain"] == pytest.approx(0, abs=1e-6)


def ended_epoch(watch: SpreadWatch, epoch: int, **spread: float) -> None:
    usual = {"spread": 0.3, "nearest": 0.1, "occupancy": 0.9, "moving": 1.0}
    metrics = {f"val/{name}": value for name, value in {**usual, **spread}.items()}
    trainer = Mock(spec=L.Trainer, current_epoch=epoch - 1, callback_metrics=metrics, is_global_zero=True)
    watch.on_train_epoch_end(trainer, Mock(spec=L.LightningModule))


def test_points_that_collapse_are_told_once_and_not_at_the_start(said: list[str]) -> None:
    watch = SpreadWatch(points=4)
    assert Spread._fields == ("spread", "nearest", "occupancy", "moving")
    ended_epoch(watch, 1, spread=0.01)
    ended_epoch(watch, 3)
    assert said == []
    ended_epoch(watch, 4, spread=0.01)
    ended_epoch(watch, 5, spread=0.02)
    assert len(said) == 1
    assert said[0].startswith("after epoch 4: the points sit together in one place (spread 0.010 of the side)")
    ended_epoch(watch, 6, occupancy=0.2, moving=0.1)
    assert [line.partition(": ")[2].partition(" (")[0] for line in said[1:]] == [
        "points lie on each other",
        "only 10 % of the points move from frame to frame; more epochs, or a higher --set motion.value_weight or another "
        "--seed may help",
    ]
    ended_epoch(watch, 7, spread=0.03, occupancy=0.3, moving=0.3)
    assert len(said) == 3


def test_one_point_can_not_collapse(said: list[str]) -> None:
    ended_epoch(SpreadWatch(points=1), 4, spread=0.0, nearest=0.0)
    assert said == []
