"""The plan: bounds of what it decides, what is said explicitly wins, and a planned run keeps its plan."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from heard import heard
from safetensors.torch import load_file

import fiducial
from fiducial import config
from fiducial.data.augment import AugmentSpec
from fiducial.data.facts import Facts
from fiducial.data.loading import ImageGroupedSampler, batches_an_epoch
from fiducial.geometry import Size
from fiducial.models import packaged_weights
from fiducial.training import plan
from fiducial.training.deadline import Deadline
from fiducial.training.pace import Pace
from fiducial.training.recipe import Recipe

FACES = Facts(
    instances=1062,
    images=1062,
    points=68,
    side_px=(148, 162, 191),
    aspect=0.93,
    turn_degrees=16,
    scale_spread=1.15,
    flip_pairs_known=True,
    mirrored=0.03,
)
PACE = Pace(step=0.1, validation=0.5, precision="fp32", memory_format="contiguous")


USUAL = Recipe()


def planned(recipe: Recipe = USUAL, given: tuple[str, ...] = (), pace: Pace = PACE, **facts: Any) -> Recipe:
    with heard():
        return plan.plan_of(replace(FACES, **facts), recipe, given, lambda recipe: pace)[0]


@pytest.mark.parametrize("instances", [1, 3, 10, 81, 700, 1062, 5000, 150_000])
def test_steps_are_within_bounds_and_epochs_are_few(instances: int) -> None:
    recipe = planned(instances=instances)
    steps = plan.steps_of(recipe, instances)
    uses = steps * min(recipe.batch_size, instances) / instances
    assert 10 <= uses <= 1600
    assert steps >= 290
    assert 10 <= recipe.epochs <= 130
    if instances >= 5:
        assert steps >= 1400


@pytest.mark.parametrize("minutes", [0.5, 3, 20, 300])
@pytest.mark.parametrize("instances", [3, 81, 1062, 150_000])
def test_minutes_are_kept_or_not_needed(minutes: float, instances: int) -> None:
    recipe = planned(Recipe(minutes=minutes), instances=instances)
    steps = plan.steps_of(recipe, instances)
    seconds = steps * PACE.step + recipe.epochs * PACE.validation + plan.AFTER_TRAINING_SECONDS
    most = plan.most_steps(instances, recipe.batch_size)
    assert steps <= 1.05 * most
    assert seconds < 60 * minutes * 1.1
    assert seconds > 60 * minutes * 0.85 or steps > 0.95 * most


@pytest.mark.parametrize(("aspect", "size"), [(0.93, (128, 128)), (0.46, (96, 192)), (2.0, (192, 96)), (30, (192, 96))])
def test_the_input_has_the_boxes_shape(aspect: float, size: tuple[int, int]) -> None:
    assert planned(aspect=aspect).size == Size(*size)
    assert planned(aspect=aspect, turn_degrees=170).size == Size(128, 128)


def test_turns_follow_the_sets() -> None:
    ranges = [planned(turn_degrees=turn).augment.rotation_degrees for turn in (0, 5, 16, 76, 170)]
    assert ranges == sorted(ranges)
    assert (ranges[0], ranges[-1]) == (15, 180)
    assert planned(turn_degrees=170).augment.rotation_probability == 1
    assert planned(turn_degrees=np.nan).augment.rotation_degrees == AugmentSpec().rotation_degrees


def test_mirrored_only_where_that_may_be_met() -> None:
    assert planned().augment.flip == 0.5
    assert planned(flip_pairs_known=False, mirrored=np.nan).augment.flip == 0
    assert planned(mirrored=1.0).augment.flip == 0


def test_what_is_given_stays() -> None:
    """Each setting that a plan decides, one at a time, and all together."""
    everything = plan.plan_of(FACES, Recipe(minutes=3), (), lambda recipe: PACE)[1]
    names = {choice.setting for choice in everything}
    assert {"size", "batch_size", "epochs", "augment.rotation_degrees"} <= names
    for name in names:
        _, choices = plan.plan_of(FACES, Recipe(minutes=3), {name}, lambda recipe: PACE)
        assert name not in {choice.setting for choice in choices}
    untouched, choices = plan.plan_of(FACES, Recipe(minutes=3), names, lambda recipe: PACE)
    assert (untouched, choices) == (Recipe(minutes=3), [])
    assert planned(given=("augment",)).augment == AugmentSpec()


def test_a_backbone_whose_weights_are_here_is_taken_where_nobody_chose_one() -> None:
    def backbone(
        recipe: Recipe = USUAL, given: tuple[str, ...] = (), weights: tuple[str, ...] = (plan.PRETRAINED,)
    ) -> str:
        return plan.plan_of(FACES, recipe, given, weights=weights)[0].backbone

    assert plan.PRETRAINED in {package.network for package in packaged_weights.PACKAGES}
    assert backbone() == plan.TUNED_BACKBONE
    assert backbone(weights=()) == backbone(given=("backbone",)) == USUAL.backbone
    assert backbone(Recipe(pretrained="no")) == backbone(Recipe(init="run")) == USUAL.backbone


def test_transformers_with_weights_keep_what_they_know() -> None:
    def share(backbone: str, given: tuple[str, ...] = ("backbone",), **chosen: Any) -> float:
        return planned(Recipe(backbone=backbone, **chosen), given).optimizer.layer_decay

    assert share("vit_tiny_patch16_224", init="weights.pth") == plan.LAYER_DECAY < 1
    assert share("vitpose_base", pretrained="yes") == plan.LAYER_DECAY
    assert share("vit_tiny_patch16_224") == 1, "from random weights"
    assert share("resnet18", init="weights.pth") == 1
    assert share("vit_tiny_patch16_224", ("backbone", "optimizer.layer_decay"), init="weights.pth") == 1


@pytest.mark.parametrize("passes", [0.13, 1.0, 4.0])
def test_steps_are_counted_as_they_are_loaded(passes: float) -> None:
    recipe = Recipe(epochs=7, batch_size=8, passes=passes)
    assert plan.steps_of(recipe, 50) == 7 * batches_an_epoch(50, 8, 1, passes)


def test_words_of_a_command_are_given() -> None:
    assert plan.given_by({"lr": "1e-3", "size": "96x96"}, ["augment.flip=0", "head.sigma_cells = 2"]) == {
        "optimizer.lr",
        "size",
        "augment.flip",
        "head.sigma_cells",
    }


def test_epochs_that_are_few_are_warned_of() -> None:
    with heard() as lines:
        plan.tell(replace(FACES, instances=81), Recipe(epochs=60, batch_size=64), [])
    assert any("60 steps" in line and "mean shape" in line for line in lines)


def test_an_epoch_of_several_passes_has_the_batches_of_as_many_epochs() -> None:
    """And one of a share of a pass, of as many parts: the crops are the same in the same order."""

    def drawn(passes: float, epochs: int) -> list[tuple[int, list[int]]]:
        sampler = ImageGroupedSampler(np.arange(37), np.arange(37) // 3, 4, seed=1, passes=passes)
        found = []
        for epoch in range(epochs):
            sampler.set_epoch(epoch)
            found += [(draw.epoch, draw.rows.tolist()) for draw in sampler]
            assert len(sampler) * (epoch + 1) == len(found)
        return found

    whole = drawn(1, 6)
    assert drawn(3, 2) == whole
    assert drawn(1 / 3, 18) == whole
    assert len(whole) == 6 * 9


def test_a_plan_travels_as_json() -> None:
    _, choices = plan.plan_of(FACES, Recipe(minutes=3), (), lambda recipe: PACE)
    again = [config.from_dict(plan.Choice, entry) for entry in json.loads(json.dumps(config.to_dict(choices)))]
    assert again == choices


QUICK: dict[str, Any] = {
    "method": "deeppose",
    "backbone": "test_efficientnet",
    "size": (64, 48),
    "pretrained": "no",
    "workers": 0,
    "precision": "fp32",
    "memory_format": "contiguous",
    "preflight": False,
}


def test_a_planned_run_is_the_run_of_its_settings_and_keeps_its_plan(blobs: Path, tmp_path: Path) -> None:
    first = fiducial.fit(blobs, tmp_path / "planned", epochs=2, **QUICK)
    written = json.loads((tmp_path / "planned" / "recipe.json").read_text())
    assert {entry["setting"] for entry in written["plan"]} >= {"batch_size", "augment.rotation_degrees"}
    recipe = config.from_dict(Recipe, written["recipe"])
    assert recipe.size == Size(64, 48)
    assert recipe.batch_size == 16
    second = fiducial.fit(blobs, tmp_path / "same", recipe=recipe)
    assert first.metrics == second.metrics
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("planned", "same"))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    page = (tmp_path / "planned" / "report.html").read_text()
    assert all(entry["reason"] in page for entry in written["plan"])
    assert "plan" not in json.loads((tmp_path / "same" / "recipe.json").read_text())
    fiducial.fit(blobs, tmp_path / "planned", resume=True, epochs=3)
    assert json.loads((tmp_path / "planned" / "recipe.json").read_text())["plan"] == written["plan"]


def test_a_plan_alone_writes_nothing(blobs: Path, tmp_path: Path, run: Any) -> None:
    before = sorted(blobs.rglob("*"))
    result = run("fit", blobs, "--plan-only", "--json", "-", "--epochs", 7)
    assert result[0] == 0, result
    told = json.loads(result[1])
    assert told["facts"]["instances"] == 48
    assert told["recipe"]["epochs"] == 7
    assert "epochs" not in {choice["setting"] for choice in told["plan"]}
    assert sorted(blobs.rglob("*")) == before
    assert list(tmp_path.iterdir()) == []


def test_minutes_end_a_run(blobs: Path, tmp_path: Path) -> None:
    """A tenth of a minute, which what comes before and after needs: one epoch is made, at least, and the recipe names what
    was made."""
    done = fiducial.fit(blobs, tmp_path / "run", minutes=0.1, **QUICK)
    written = json.loads((tmp_path / "run" / "recipe.json").read_text())["recipe"]
    assert written["epochs"] == done.figures["epochs"] >= 1


def test_what_was_decided_holds_for_the_epochs_that_were_foreseen() -> None:
    """A run that ended after 8 of 4 foreseen, and goes on to 16, is not at its end; one that was stopped keeps its 8."""
    kept = {"epochs": 8, "foreseen": 4, "seconds": 100.0}
    for asked, epochs in ((16, 16), (4, 8)):
        watch = Deadline(10, steps_an_epoch=5, most_epochs=100, used_seconds=0)
        watch.load_state_dict(kept)
        trainer = Trainer(7, asked)
        watch.on_fit_start(trainer, SimpleNamespace(total_steps=0))  # type: ignore[arg-type]
        assert trainer.max_epochs == epochs
        assert watch.state_dict()["foreseen"] == asked


@pytest.mark.parametrize("count", [1, 3, 10])
def test_few_instances_are_said_and_decide_no_turns(count: int) -> None:
    few = replace(FACES, instances=count, images=count, turn_degrees=11, mirrored=1.0)
    recipe, choices = plan.plan_of(few, Recipe(), ())
    assert recipe.augment.rotation_degrees == AugmentSpec().rotation_degrees
    assert recipe.augment.flip == 0.5
    with heard() as lines:
        plan.tell(few, recipe, choices)
    assert any("more labels help more" in line for line in lines)


class Trainer:
    """What a deadline sees and changes of Lightning's."""

    def __init__(self, epoch: int, epochs: int) -> None:
        self.current_epoch, self.should_stop = epoch, False
        self.fit_loop = SimpleNamespace(max_epochs=epochs)
        self.strategy = SimpleNamespace(broadcast=lambda value: value)

    @property
    def max_epochs(self) -> int:
        return self.fit_loop.max_epochs


def after_epoch(watch: Deadline, epoch: int, epochs: int, took_s: float) -> tuple[int, bool]:
    """The number of epochs that a run has after one of them has ended `took_s` after it began, and whether it stops."""
    trainer, module = Trainer(epoch, epochs), SimpleNamespace(total_steps=0)
    watch.began = time.perf_counter() - took_s
    with heard():
        watch.on_train_epoch_end(trainer, module)  # type: ignore[arg-type]
    return trainer.fit_loop.max_epochs, trainer.should_stop


def test_epochs_follow_the_pace() -> None:
    """Of 10 minutes less 15 s are 585 s; an epoch was foreseen to take about 10 s."""
    watch = Deadline(10, steps_an_epoch=5, most_epochs=100, used_seconds=0)
    assert after_epoch(watch, 0, 58, 60) == (58, False)  # the first epoch of many tells nothing
    assert after_epoch(watch, 1, 58, 80)[0] == 2 + round((585 - 80) / 20)  # twice as slow
    assert after_epoch(watch, 1, 5, 80)[0] == 2 + round((585 - 80) / 20)
    assert after_epoch(watch, 1, 5, 61)[0] == 100  # no more than there may be
    assert after_epoch(watch, 20, 30, 600) == (21, True)  # late: this was the last


def test_time_that_is_used_up_travels_in_the_checkpoint() -> None:
    before = Deadline(10, steps_an_epoch=5, most_epochs=100, used_seconds=30)
    assert after_epoch(before, 9, 20, 270)[0] in (19, 20)
    kept = before.state_dict()
    assert kept["seconds"] == pytest.approx(300, abs=5)
    resumed = Deadline(10, steps_an_epoch=5, most_epochs=100, used_seconds=10)
    resumed.load_state_dict(kept)
    resumed.first_epoch = 10
    resumed.first_took = 20
    epochs, stops = after_epoch(resumed, 11, 40, 40)  # 20 s an epoch; 585 - 310 - 40 s are left
    assert epochs == 12 + round((585 - 310 - 40) / 20)
    assert not stops
