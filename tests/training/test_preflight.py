"""The check before the run: it passes what can be learnt, names the label that can't, and leaves no trace."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fiducial.data import loading
from fiducial.data.augment import AugmentSpec
from fiducial.geometry import Size
from fiducial.models import catalog
from fiducial.training import fit as fitting
from fiducial.training import preflight
from fiducial.training.failure import TrainingFailure
from fiducial.training.objective import Supervised
from fiducial.training.recipe import Recipe
from fiducial.types import Batch

LR = 3e-3


@pytest.mark.parametrize(
    ("method", "head"),
    [
        *((method, {}) for method in catalog.methods()),
        ("heatmap", {"loss": "mse"}),
        ("heatmap", {"loss": "foreground"}),
        ("integral", {"loss": "rle", "dsnt": "js", "debias": "background"}),
    ],
)
def test_what_can_be_learnt_passes(recipe: Recipe, data: fitting.Data, method: str, head: dict):
    size = Size(96, 64)  # heatmaps need multiples of 32
    torch.manual_seed(0)
    detector, _ = fitting.build_detector(replace(recipe, method=method, head=head, size=size), data)
    batch = next(iter(loading.loader(data.train, size, 8, AugmentSpec.none())))
    line = preflight.overfit(Supervised(detector), batch, data.train, lr=LR)
    assert "pre-flight: one batch of 8 learnt in" in line


@pytest.mark.parametrize(("method", "head"), [*((m, {}) for m in catalog.methods()), ("integral", {"loss": "rle"})])
def test_a_network_that_does_not_move_fails(recipe: Recipe, data: fitting.Data, method: str, head: dict):
    """Whatever the method: the floor that its loss is measured from is no easy one."""
    size = Size(96, 64)
    detector, _ = fitting.build_detector(replace(recipe, method=method, head=head, size=size), data)
    batch = next(iter(loading.loader(data.train, size, 8, AugmentSpec.none())))
    with pytest.raises(TrainingFailure, match="it should fall to a third"):
        preflight.overfit(Supervised(detector), batch, data.train, lr=0.0, max_steps=10)


def test_one_picture_with_two_labels_is_named(objective: Supervised, data: fitting.Data, batch: Batch):
    image, xy = batch.image.clone(), batch.xy.clone()
    image[5] = image[2]
    xy[2], xy[5] = torch.tensor([2.0, 3.0]), torch.tensor([61.0, 44.0])
    with pytest.raises(TrainingFailure) as failure:
        preflight.overfit(objective, batch._replace(image=image, xy=xy), data.train, lr=LR)
    first, second = (f"annotation {data.train.annotation_id[int(batch.row[i])]} " for i in (2, 5))
    assert first in str(failure.value) or second in str(failure.value)
    assert "resists" in str(failure.value)


def test_a_label_far_outside_is_named(objective: Supervised, data: fitting.Data, batch: Batch):
    xy = batch.xy.clone()
    xy[6, 1] = torch.tensor([9e5, -7e5])
    with pytest.raises(TrainingFailure, match=r"One sample resists, look at its labels: ") as failure:
        preflight.overfit(objective, batch._replace(xy=xy), data.train, lr=LR)
    assert data.train.where(int(batch.row[6])) in str(failure.value)


def test_without_a_learning_rate_nothing_is_learnt(objective: Supervised, data: fitting.Data, batch: Batch):
    with pytest.raises(TrainingFailure, match=r"20 steps on one batch of 8 .* No sample stands out .*--lr \(now 0\)"):
        preflight.overfit(objective, batch, data.train, lr=0.0, max_steps=20)


def test_a_loss_that_is_not_finite_is_a_failure(objective: Supervised, data: fitting.Data, batch: Batch):
    xy = batch.xy.clone()
    xy[3, 0, 1] = torch.nan
    with pytest.raises(TrainingFailure, match="not finite at step 0") as failure:
        preflight.overfit(objective, batch._replace(xy=xy), data.train, lr=LR)
    assert data.train.where(int(batch.row[3])) in str(failure.value), "the one whose loss it is, not the first"


def test_no_verdict_when_time_runs_out(objective: Supervised, data: fitting.Data, batch: Batch):
    line = preflight.overfit(objective, batch, data.train, lr=1e-9, max_seconds=0.0)
    assert line.startswith("pre-flight: no verdict in 0 s (1 steps")


def test_nothing_is_touched(recipe: Recipe, data: fitting.Data, batch: Batch):
    """Neither weights nor norm statistics nor mode nor gradients nor the random numbers to come."""
    torch.manual_seed(0)
    detector, _ = fitting.build_detector(replace(recipe, head={"dropout": 0.3}), data)
    objective = Supervised(detector).eval()
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    numbers = torch.get_rng_state()
    preflight.overfit(objective, batch, data.train, lr=LR)
    preflight.fastest_variant(
        objective, batch, torch.device("cpu"), [("fp32", "contiguous"), ("bf16", "channels_last")]
    )
    assert all(torch.equal(before[name], value) for name, value in objective.state_dict().items())
    assert not any(module.training for module in objective.modules())
    assert all(parameter.grad is None for parameter in objective.parameters())
    assert torch.equal(torch.get_rng_state(), numbers)


def test_the_first_variant_wins_unless_another_is_clearly_faster(
    objective: Supervised, batch: Batch, monkeypatch: pytest.MonkeyPatch
):
    variants = [("fp32", "contiguous"), ("fp32", "channels_last"), ("bf16", "contiguous")]
    for seconds, expected in (([10.0, 9.7, 9.1], 0), ([10.0, 8.9, 9.2], 1), ([10.0, 8.9, 8.0], 2)):
        times = iter(seconds * 4)  # in turns
        monkeypatch.setattr(preflight, "_timed", lambda step, device, times=times: next(times))
        best, table = preflight.fastest_variant(objective, batch, torch.device("cpu"), variants)
        assert best == variants[expected]
        assert list(table.values()) == seconds
