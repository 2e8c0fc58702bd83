"""Training cannot fail silently: labels, rates and maps that go wrong are named when they do, healthy runs are not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from quick import smallest
from safetensors.torch import load_file

from fiducial import cli
from fiducial.data import loading
from fiducial.geometry import Size
from fiducial.training import fit as fitting
from fiducial.training import history
from fiducial.training.failure import TrainingFailure
from fiducial.training.objective import Supervised
from fiducial.training.recipe import Recipe
from fiducial.training.watch import CollapseWatch, FiniteLoss
from fiducial.types import Batch


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """NaN labels that get past the loader, which takes out those that it is given."""

    def install(*rows: int) -> None:
        fill = loading.Crops._fill

        def with_nan(self: Any, arrays: Any, place: int, sample: Any, picture: Any) -> None:
            fill(self, arrays, place, sample, picture)
            if self.spec is not None and (not rows or sample.row in rows):
                arrays.xy[place, 1, 0] = np.nan

        monkeypatch.setattr(loading.Crops, "_fill", with_nan)

    return install


def test_a_nan_label_is_named_once_and_training_goes_on(recipe: Recipe, data: fitting.Data, fit, poison):
    clean = fit(replace(recipe, epochs=1), name="clean")
    poison(13)
    run = fit(replace(recipe, epochs=3))
    assert [line for line in run.lines if "not finite" in line] == [
        f"{data.train.where(13)}: its loss is not finite; steps with it are left out"
    ]
    assert "annotation 14 " in run.lines[0]
    assert_finite(run.out)
    rows = history.read(run.out / "history.csv")
    assert len(rows) == 3
    assert all(np.isfinite(list(row.values())).all() for row in rows)
    weights, other = (load_file(out / "model.safetensors") for out in (run.out, clean.out))
    assert not torch.equal(weights["head.linear.weight"], other["head.linear.weight"])


@pytest.mark.parametrize("outlier_px", [1e4, 1e13, 1e30])
def test_outlier_labels_do_not_break_a_likelihood(recipe: Recipe, data: fitting.Data, fit, outlier_px: float):
    """RLE's density of an error is squared and scaled: a label that is not finite then is named, others do no harm."""
    xy = data.train.xy.copy()
    xy[13, 1, 0] = outlier_px
    run = fit(replace(recipe, method="rle", epochs=3), on=replace(data, train=replace(data.train, xy=xy)))
    named = [line for line in run.lines if "not finite" in line]
    expected = f"{data.train.where(13)}: its loss is not finite; steps with it are left out"
    assert named == ([expected] if outlier_px > 1e20 else [])
    assert_finite(run.out)


def test_a_nan_label_leaves_a_frozen_backbone_alone(recipe: Recipe, data: fitting.Data, fit, poison):
    """The step without a gradient must not be one of weight decay for what is not being trained."""
    poison(13)
    frozen = replace(recipe, epochs=1, optimizer=replace(recipe.optimizer, freeze_epochs=1, lr=0.01, weight_decay=0.5))
    run = fit(frozen)
    torch.manual_seed(recipe.seed)
    before = fitting.build_detector(recipe, data)[0].backbone.state_dict()
    after = load_file(run.out / "model.safetensors")
    assert all(torch.equal(value, after[f"backbone.{name}"]) for name, value in before.items())


def test_every_label_nan_blames_the_learning_rate(recipe: Recipe, fit, poison):
    poison()
    with pytest.raises(TrainingFailure, match=r"not finite for any sample at step 0: .* \(peak 0.003: --lr\)"):
        fit(recipe)


def test_too_many_nan_labels_are_a_failure(recipe: Recipe, data: fitting.Data, fit, poison):
    poison(*range(0, 48, 2))
    with pytest.raises(TrainingFailure, match="more than 20 samples gave losses that are not finite") as failure:
        fit(replace(recipe, epochs=9))
    assert data.train.where(0) in str(failure.value)


def test_a_head_that_gives_nan_for_one_picture(
    objective: Supervised, data: fitting.Data, batch: Batch, said: list[str]
):
    """Found by the picture's own loss, in eval mode, whatever the rest of the batch; modes and statistics stay."""
    image = batch.image.clone()
    image[3] = 0
    batch = batch._replace(image=image)
    blank_gives_nan(objective)
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    guard = FiniteLoss(data.train.where)
    objective.train()
    for _ in range(2):
        guard.judge(objective, batch, 7, 0.25)
    row = int(batch.row[3])
    assert said == [f"{data.train.where(row)}: its loss is not finite; steps with it are left out"]
    assert guard.blamed == {row}
    assert objective.training
    assert objective.detector.backbone.training
    assert all(torch.equal(before[name], value) for name, value in objective.state_dict().items())


def test_losses_that_no_sample_explains_are_not_passed_over(
    objective: Supervised, data: fitting.Data, batch: Batch, said: list[str]
):
    """Of no sample alone, but of the batch (its statistics, or an overflow in bf16): said once, then a failure."""
    guard = FiniteLoss(data.train.where, limit=3)
    for step in range(3):
        guard.judge(objective, batch, step, 0.25)
    assert len(said) == 1
    assert "of no sample alone" in said[0]
    with pytest.raises(TrainingFailure, match=r"at 4 steps, .* \(peak 0.25: --lr\)"):
        guard.judge(objective, batch, 3, 0.25)


@pytest.mark.parametrize(
    ("epochs", "batch_size", "lr", "words"),
    [
        (8, 8, "1e6", "the loss is not finite for any sample at step "),
        (1, 64, "1e29", "val nme is not finite in any epoch: the weights have diverged"),  # in the last step
    ],
)
def test_an_absurd_learning_rate_is_exit_code_1(
    blobs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    epochs: int,
    batch_size: int,
    lr: str,
    words: str,
) -> None:
    options = smallest(epochs=epochs, batch_size=batch_size, lr=lr)
    monkeypatch.setattr(sys, "argv", ["fiducial", "fit", str(blobs), "--out", str(tmp_path / "run"), *options])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert last.startswith(f"fiducial: {words}")
    assert f"Lower the learning rate (peak {float(lr):.2g}: --lr)" in last
    assert not (tmp_path / "run" / "model.json").exists()


# ----------------------------------------------------------------------------------------------------- collapse


@pytest.fixture
def maps(recipe: Recipe, data: fitting.Data) -> tuple[Recipe, fitting.Data]:
    """Heatmaps under mse, and data for 48 steps an epoch."""
    many = replace(data, train=data.train.select(np.tile(np.arange(48), 4)))
    head = {"loss": "mse", "sigma_cells": 1.5}
    return replace(recipe, method="heatmap", head=head, size=Size(96, 64), batch_size=4), many


@pytest.fixture
def silent_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks whose last layer is held at zero."""
    build = fitting.build_detector

    def with_zeros(*arguments: Any) -> Any:
        detector, initialization = build(*arguments)
        for parameter in detector.head.final.parameters():
            parameter.requires_grad_(False).zero_()
        return detector, initialization

    monkeypatch.setattr(fitting, "build_detector", with_zeros)


@pytest.mark.usefixtures("silent_maps")
@pytest.mark.parametrize("loss", ["mse", "foreground"])
def test_empty_maps_end_the_first_epoch(maps: tuple[Recipe, fitting.Data], fit, loss: str):
    recipe, data = maps
    with pytest.raises(TrainingFailure) as failure:
        fit(replace(recipe, head={**recipe.head, "loss": loss}), data)
    text = str(failure.value)
    assert "collapsed to zero: after epoch 1 the mean peak at labelled points is 0.000" in text
    assert f"head.loss='{loss}'" in text
    assert "head.sigma_cells, now 1.5" in text


def test_a_target_too_narrow_for_the_cells_is_caught(maps: tuple[Recipe, fitting.Data], fit):
    recipe, data = maps
    with pytest.raises(TrainingFailure, match=r"after epoch 1 the mean peak .*head.sigma_cells, now 0.05"):
        fit(replace(recipe, head={**recipe.head, "sigma_cells": 0.05}), data)


@pytest.mark.usefixtures("silent_maps")
def test_distributions_are_not_judged(maps: tuple[Recipe, fitting.Data], fit):
    recipe, data = maps
    run = fit(replace(recipe, epochs=1, head={"loss": "cross_entropy"}), data)
    assert len(history.read(run.out / "history.csv")) == 1, "it was not stopped"


@pytest.mark.parametrize("sigma_cells", [1.5, 0.7])
def test_a_healthy_run_goes_on(maps: tuple[Recipe, fitting.Data], fit, sigma_cells: float):
    """The narrow target's best constant answer is a map of peak 0.04, where every run rests for a while."""
    recipe, data = maps
    run = fit(replace(recipe, head={**recipe.head, "sigma_cells": sigma_cells}), data)
    peaks = [row["train/mean_peak"] for row in history.read(run.out / "history.csv")]
    assert len(peaks) == recipe.epochs, "it was not stopped"
    assert min(peaks) > 0.02


@pytest.mark.parametrize(("peak", "spread", "sunk"), [(0.1, 0.0, True), (0.3, 0.0, False), (0.1, 1.0, False)])
def test_peaks_are_judged_against_the_best_constant_answer(
    maps: tuple[Recipe, fitting.Data], peak: float, spread: float, sunk: bool
):
    """Points that lie still: the mean of the targets has a peak of one, and 0.1 is far below it. Points all over the
    map: their mean has a low peak, and 0.1 is on the way up."""
    recipe, data = maps
    objective = Supervised(fitting.build_detector(recipe, data)[0])
    objective.mean_peak = torch.tensor(peak)
    generator = torch.Generator().manual_seed(4)
    middle = torch.tensor([49.5, 33.5]).expand(64, 3, 2)  # the centre of a cell of 4 px
    xy = middle + spread * (torch.rand(64, 3, 2, generator=generator) - 0.5) * torch.tensor([80.0, 50.0])
    batch = Batch(torch.zeros(64, 64, 96, 3, dtype=torch.uint8), xy, torch.ones(64, 3), torch.eye(3), torch.arange(64))
    module = SimpleNamespace(objective=objective, detector=objective.detector, lr=0.01, log=lambda name, value: None)
    trainer: Any = SimpleNamespace(num_training_batches=50, global_step=50, current_epoch=0)
    watch = CollapseWatch()
    watch.on_train_epoch_start(trainer, module)
    for index in range(50):
        watch.on_train_batch_end(trainer, module, None, batch, index)
    if sunk:
        with pytest.raises(
            TrainingFailure, match=r"is 0\.100, where 1 is wanted and the mean of the targets has 1\.00"
        ):
            watch.on_train_epoch_end(trainer, module)
    else:
        watch.on_train_epoch_end(trainer, module)


# ------------------------------------------------------------------------------------------------------ helpers


def assert_finite(out: Path) -> None:
    """Averaged and current weights, norm statistics among them."""
    saved = torch.load(out / "checkpoints" / "last.ckpt", weights_only=False)
    for state in (saved["state_dict"], saved["current_model_state"], load_file(out / "model.safetensors")):
        assert any(name.endswith("running_var") for name in state)
        assert all(value.isfinite().all() for value in state.values() if value.is_floating_point())


def blank_gives_nan(objective: Supervised) -> None:
    """The head's raw becomes NaN for pictures that are black."""
    detector = objective.detector
    features, blank = detector.features, []

    def remember(image: torch.Tensor) -> Any:
        blank[:] = [(image == 0).flatten(1).all(1)]
        return features(image)

    detector.features = remember  # type: ignore[method-assign]
    detector.head.register_forward_hook(
        lambda module, inputs, raw: torch.where(blank[0].view(-1, 1, 1), torch.nan, raw)
    )
