"""What a run is made of: schedule, parameter groups, averaging, choice of the best epoch, freezing, logs, starts."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heard import heard
from quick import FIXED, smallest
from safetensors.torch import load_file
from torch import Tensor, nn

from fiducial import files
from fiducial.card import Card
from fiducial.data.source import Source
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.models import catalog
from fiducial.models import detector as detectors
from fiducial.models.detector import Detector
from fiducial.training import engine, history, scoring, watch
from fiducial.training import fit as fitting
from fiducial.training import module as training_module
from fiducial.training import run as life
from fiducial.training.failure import TrainingFailure
from fiducial.training.objective import Supervised
from fiducial.training.recipe import OptimizerSpec, Recipe
from fiducial.training.watch import CollapseWatch

# -------------------------------------------------------------------------------------- schedule and parameters


def test_one_cycle_is_torchs():
    spec, steps = OptimizerSpec(schedule="one_cycle", warmup=0.2, final_lr=1e-3), 50
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    # torch counts both ends of each phase: `steps` intervals, the peak after 10 of them.
    oracle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        1.0,
        total_steps=steps + 1,
        pct_start=11 / 51,
        div_factor=25,
        final_div_factor=40,
        cycle_momentum=False,
    )
    for step in range(steps + 1):
        assert training_module.schedule(spec, step / steps) == pytest.approx(oracle.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        if step < steps:
            oracle.step()


def test_cosine_rises_in_a_line_and_falls_as_torchs():
    spec = OptimizerSpec(schedule="cosine", warmup=0.25, final_lr=0.02)
    assert [training_module.schedule(spec, p) for p in (0.0, 0.05, 0.125)] == pytest.approx([0.0, 0.2, 0.5])
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    oracle = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=60, eta_min=0.02)
    for step in range(60):
        assert training_module.schedule(spec, 0.25 + 0.75 * step / 60) == pytest.approx(oracle.get_last_lr()[0])
        optimizer.step()
        oracle.step()


@pytest.mark.parametrize("name", ["one_cycle", "cosine"])
def test_ends_of_the_schedule(name: Any):
    spec = OptimizerSpec(schedule=name, warmup=0.1, final_lr=0.003)
    start, peak, end, beyond = (training_module.schedule(spec, progress) for progress in (0.0, 0.1, 1.0, 1.2))
    assert start == (0.04 if name == "one_cycle" else 0.0)
    assert (peak, end, beyond) == pytest.approx((1.0, 0.003, 0.003))
    assert training_module.schedule(spec, 0.55) == pytest.approx((1 + 0.003) / 2)
    assert training_module.schedule(replace(spec, warmup=0.0), 0.0) == 1.0


def test_a_rate_that_is_held():
    spec = OptimizerSpec(warmup=0.0, final_lr=1.0)
    assert {training_module.schedule(spec, step / 7) for step in range(8)} == {1.0}


def test_parameter_groups(objective: Supervised):
    spec = OptimizerSpec(weight_decay=0.07, backbone_lr=0.25)
    groups = training_module.parameter_groups(objective, spec, lr=0.2)
    chosen = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    named = dict(objective.detector.named_parameters())
    assert sorted(chosen) == sorted(map(id, named.values())), "each parameter once"
    norms = {
        id(p)
        for module in objective.detector.modules()
        if isinstance(module, nn.BatchNorm2d)
        for p in module.parameters()
    }
    assert norms
    for name, parameter in named.items():
        lr, decay = chosen[id(parameter)]
        assert lr == (0.05 if name.startswith("backbone.") else 0.2)
        assert decay == (0.0 if name.endswith("bias") or id(parameter) in norms else 0.07), name


@pytest.mark.parametrize(
    ("backbone", "blocks"),
    [("resnet18", 8), ("vit_tiny_patch16_224", 12), ("tf_efficientnet_lite0_stride16", 11), ("convnext_atto", 18)],
)
def test_rates_fall_block_by_block(backbone: str, blocks: int) -> None:
    """From the last block on, each learns at a share of the next one's rate; the stem comes last."""
    network = catalog.build_backbone(backbone, "no")
    names = [training_module.BACKBONE + name for name, _ in network.named_parameters()]
    layers = training_module.layers_of(names)
    assert list(layers.values()) == sorted(layers.values()), "in the order of the network"
    assert max(layers.values()) == blocks
    stem = next(name for name in names if "stem" in name or "patch_embed" in name or ".conv1." in name)
    assert layers[stem] == 0


def test_layer_decay_reaches_the_optimizer(objective: Supervised) -> None:
    spec = OptimizerSpec(backbone_lr=0.5, layer_decay=0.7)
    groups = training_module.parameter_groups(objective, spec, lr=0.2)
    rate = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    named = dict(objective.named_parameters())
    layers = training_module.layers_of([name for name in named if name.startswith(training_module.BACKBONE)])
    assert max(layers.values()) > 1
    for name, parameter in named.items():
        expected = 0.1 * 0.7 ** (max(layers.values()) - layers[name]) if name in layers else 0.2
        assert rate[id(parameter)] == pytest.approx(expected), name


# ---------------------------------------------------------------------------- averaging, best epoch, early stop


class Recorder(CollapseWatch):
    """In the watch's place: the detector's weights after each step and each epoch."""

    steps: list[dict[str, Tensor]]
    epochs: list[dict[str, Tensor]]

    def __init__(self) -> None:
        super().__init__()
        Recorder.steps, Recorder.epochs = [], []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *others: Any) -> None:
        Recorder.steps.append(copy_of(pl_module.detector))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        Recorder.epochs.append(copy_of(pl_module.detector))


def copy_of(detector: Detector) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in detector.state_dict().items()}


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    monkeypatch.setattr(watch, "CollapseWatch", Recorder)
    return Recorder


def script_nme(monkeypatch: pytest.MonkeyPatch, *values: float) -> None:
    """What val NME will be, epoch by epoch."""
    left = iter(values)
    monkeypatch.setattr(scoring, "validation_scores", lambda *others: {"nme": next(left), "epe": 1.5})


def averaged(steps: list[dict[str, Tensor]], decay: float) -> dict[str, Tensor]:
    """Exponential moving average in float64, starting at the first step's weights."""
    mean = {name: value.double() for name, value in steps[0].items()}
    for count, weights in enumerate(steps[1:], start=1):
        keep = min(decay, (1 + count) / (10 + count))
        mean = {name: keep * mean[name] + (1 - keep) * value.double() for name, value in weights.items()}
    return mean


def test_the_best_epoch_by_val_nme_is_kept_with_its_averaged_weights(
    recipe: Recipe, fit: Any, recorded: type[Recorder], monkeypatch: pytest.MonkeyPatch
):
    """48 instances in batches of 8: six steps an epoch; patience 2 ends the run after the fourth of seven epochs."""
    script_nme(monkeypatch, 0.5, 0.3, 0.4, 0.35, 0.1, 0.1, 0.1)
    optimizer = replace(recipe.optimizer, ema_decay=0.55)
    run = fit(replace(recipe, epochs=7, patience=2, optimizer=optimizer))
    assert len(recorded.steps) == 4 * 6
    assert [row["val/nme"] for row in history.read(run.out / "history.csv")] == pytest.approx([0.5, 0.3, 0.4, 0.35])
    assert run.card.metrics["epoch"] == 1
    assert run.card.metrics["val"] == {"nme": pytest.approx(0.3), "epe": 1.5}
    assert run.card.metrics["train_instances"] == 48
    last = torch.load(run.out / "checkpoints" / "last.ckpt", weights_only=False)
    assert last["epoch"] == 3, "what a resumed run starts from is the newest, not the best"
    saved = load_file(run.out / "model.safetensors")
    expected, current = averaged(recorded.steps[:12], 0.55), recorded.steps[11]
    assert saved.keys() == expected.keys()
    for name, value in saved.items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-4, atol=1e-6)
        else:
            assert torch.equal(value, current[name]), "counters are taken as they are"
    assert not torch.equal(saved["head.linear.weight"], current["head.linear.weight"])
    loaded, card = detectors.load(run.out)
    assert card == run.card
    assert all(torch.equal(value, saved[name]) for name, value in loaded.state_dict().items())


def test_without_averaging_the_best_epochs_own_weights_are_kept(
    recipe: Recipe, fit: Any, recorded: type[Recorder], monkeypatch: pytest.MonkeyPatch
):
    script_nme(monkeypatch, 0.2, 0.3)
    run = fit(replace(recipe, optimizer=replace(recipe.optimizer, ema_decay=0.0)))
    saved = load_file(run.out / "model.safetensors")
    assert all(torch.equal(value, recorded.epochs[0][name]) for name, value in saved.items())


def test_a_frozen_backbone_is_bit_identical_until_it_thaws(
    recipe: Recipe, data: fitting.Data, fit: Any, recorded: type[Recorder]
):
    torch.manual_seed(recipe.seed)
    before = copy_of(fitting.build_detector(recipe, data)[0])
    fit(replace(recipe, epochs=2, optimizer=replace(recipe.optimizer, freeze_epochs=1)))
    first, second = recorded.epochs
    backbone = [name for name in before if name.startswith("backbone.")]
    assert any(name.endswith("running_mean") for name in backbone)
    assert all(torch.equal(before[name], first[name]) for name in backbone)
    assert not torch.equal(before["head.linear.weight"], first["head.linear.weight"])
    changed = [name for name in backbone if not torch.equal(first[name], second[name])]
    assert len(changed) > 0.9 * len(backbone)


# ------------------------------------------------------------------------------------- what is written and said


def test_files_of_a_run_in_bf16(recipe: Recipe, fit: Any):
    run = fit(replace(recipe, precision="bf16", memory_format="channels_last"))
    weights = load_file(run.out / "model.safetensors")
    assert all(value.isfinite().all() for value in weights.values())
    assert weights["head.linear.weight"].dtype == torch.float32
    rows = history.read(run.out / "history.csv")
    assert [row["epoch"] for row in rows] == [0, 1]
    assert {"epoch", "lr", "seconds", "train/loss", "train/smooth_l1", "val/nme", "val/epe"} <= rows[0].keys()
    spec = recipe.optimizer
    expected = [float(spec.lr) * training_module.schedule(spec, progress) for progress in (0.5, 1.0)]
    assert [row["lr"] for row in rows] == pytest.approx(expected)
    assert list((run.out / "tensorboard").rglob("events.out.tfevents.*"))
    assert {path.name for path in (run.out / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert not [path for path in run.out.rglob("*") if "partial" in path.name or path.name.startswith(".")]


def test_learning_rate_finder_leaves_no_trace(
    recipe: Recipe,
    data: fitting.Data,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    few = replace(recipe, batch_size=4, optimizer=OptimizerSpec(lr="auto"))
    work = fitting.work_of(data, few, tmp_path, True)
    objective = work.objective
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    rate = engine.find_lr(work, few)
    assert 2e-4 < rate < 5e-2
    assert all(torch.equal(before[name], value) for name, value in objective.state_dict().items())
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err == "", "no progress where nobody watches"


def test_suggested_rate_is_on_the_fall():
    """A loss that is flat, falls by a line in log10(lr) from 1e-4 to 1e-2 and then explodes, with noise on it."""
    rates = np.geomspace(1e-6, 0.1, 100)
    fall = np.clip((np.log10(rates) + 4) / 2, 0, 1)
    losses = 1 - 0.8 * fall + np.where(rates > 1.2e-2, (rates / 1.2e-2) ** 2 - 1, 0)
    noise = np.random.default_rng(5).normal(0, 0.02, 100)
    for values in (losses, losses + noise, np.where(rates > 5e-2, np.nan, losses)):
        assert 2e-4 < engine.suggested_rate(rates, values) < 8e-3
    assert engine.suggested_rate(rates, np.full(100, np.nan)) is None


def test_auto_is_settled_and_written(recipe: Recipe, fit: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine, "find_lr", lambda *others: 0.0123)
    run = fit(replace(recipe, epochs=1, precision="auto", optimizer=OptimizerSpec(lr="auto"), preflight=True))
    told = [line.split(":")[0] for line in run.lines]
    assert told == [
        "pre-flight",
        "fastest step",
        "learning rate found",
        "epoch 1 of 1",
        "how far points may be off",
        "kept",
    ]
    written = files.read_json(run.out / "recipe.json")["recipe"]
    assert written["optimizer"]["lr"] == 0.0123
    assert written["precision"] in ("fp32", "bf16")


def test_a_picture_that_breaks_is_left_out_and_named_once(breaking: fitting.Data, recipe: Recipe, fit: Any):
    run = fit(recipe, breaking)
    told = [line for line in run.lines if "train_7.png" in line]
    assert len(told) == 1
    assert told[0].startswith("left out: ")
    assert "image 8" in told[0]
    [kept] = [line for line in (run.out / "problems.txt").read_text().splitlines() if "train_7.png" in line]
    assert f"left out: {kept}" == told[0]


def test_figures_keep_what_was_left_out_and_assumed(blobs: Path, recipe: Recipe, tmp_path: Path):
    folder = tmp_path / "worse"
    shutil.copytree(blobs, folder)
    for split in ("train", "val"):
        file = folder / "annotations" / f"{split}.json"
        content = files.read_json(file)
        for item in content["annotations"]:
            item["keypoints"][6:9] = [0, 0, 0]
        for item in content["annotations"][: 25 if split == "train" else 0]:
            item["bbox"][2:] = [0, 0]
        file.write_text(json.dumps(content))
    broken: list[str] = []

    def prepare(recipe: Recipe, out: Path, begins: bool):
        work = fitting.preparation(Source(folder))(recipe, out, begins)
        picture = folder / "images" / "train_40.png"
        picture.write_bytes(picture.read_bytes()[:900])
        broken.append(str(picture))
        return work

    with heard() as lines:
        figures = life.run(prepare, tmp_path / "run", replace(recipe, epochs=1, check=False))
    told = [
        "point 'blue' has no label in train: nothing is learnt of it; --points leaves it out",
        "point 'blue' has no label in val: it is not scored",
    ]
    assert figures == files.read_json(tmp_path / "run" / "metrics.json") | {"files": figures["files"]}
    for text in told:
        assert sum(line.endswith(text) for line in figures["notes"]) == 1
        assert sum(line.endswith(text) for line in lines) == 1
    assert len(figures["problems"]) == 21
    assert figures["problems"][-1] == "and 6 more in problems.txt"
    every = (tmp_path / "run" / "problems.txt").read_text().splitlines()
    assert broken[0] in every[-1]
    assert set(figures["notes"] + figures["problems"][:-1]) < set(every)


@pytest.mark.parametrize("workers", [0, 1])
def test_strict_makes_it_one_line_of_an_error(breaking: fitting.Data, recipe: Recipe, fit: Any, workers: int):
    with pytest.raises(UserError, match=r"train_7\.png") as error:
        fit(replace(recipe, strict=True, workers=workers), breaking)
    assert "\n" not in str(error.value)


@pytest.fixture
def breaking(blobs: Path, tmp_path: Path) -> fitting.Data:
    """The set with one picture of train that is cut off after its labels were read."""
    folder = tmp_path / "breaking"
    shutil.copytree(blobs, folder)
    data = fitting.load_data(folder, Recipe())
    picture = folder / "images" / "train_7.png"
    picture.write_bytes(picture.read_bytes()[:900])
    return data


def test_a_start_that_fails_leaves_nothing(recipe: Recipe, fit: Any, tmp_path: Path):
    hopeless = replace(recipe, preflight=True, optimizer=replace(recipe.optimizer, lr=0.0))
    with pytest.raises(TrainingFailure, match="pre-flight"):
        fit(hopeless)
    with pytest.raises(UserError, match="mobilenetv3"):
        fit(replace(recipe, backbone="mobilenetv3_smal_050"))
    with pytest.raises(UserError, match="flip pairs are unknown"):
        fit(replace(recipe, augment=replace(recipe.augment, flip=0.5)))
    with pytest.raises(UserError, match="nowhere"):
        fit(replace(recipe, init=str(tmp_path / "nowhere")))
    assert not (tmp_path / "run").exists()


def test_a_run_that_failed_in_its_first_epoch_can_be_begun_anew(
    recipe: Recipe, fit: Any, monkeypatch: pytest.MonkeyPatch
):
    """With other settings and into the same folder: there is nothing yet that could be lost."""
    with monkeypatch.context() as patch:
        patch.setattr(Supervised, "forward", fail)
        with pytest.raises(TrainingFailure, match="sunk"):
            fit(recipe)
    run = fit(replace(recipe, epochs=1, seed=4))
    assert run.card.metrics["seed"] == 4
    with pytest.raises(UserError, match="holds a run already"):
        fit(recipe)


def fail(*others: Any) -> Any:
    raise TrainingFailure("sunk")


# ----------------------------------------------------------------------------------------------- points and init


def test_a_subset_of_the_points(blobs: Path, recipe: Recipe, fit: Any):
    some = replace(recipe, epochs=1, points=(2, 0))
    run = fit(some, fitting.load_data(blobs, some))
    detector, card = detectors.load(run.out)
    assert card.spec.skeleton.points == ("blue", "red")
    assert detector.predict(torch.zeros(5, 48, 64, 3, dtype=torch.uint8)).xy.shape == (5, 2, 2)
    assert files.read_json(run.out / "recipe.json")["recipe"]["points"] == [2, 0]
    named, numbered = (fitting.load_data(blobs, replace(recipe, points=p)).train for p in (("blue", 0), (2, 0)))
    np.testing.assert_array_equal(named.xy, numbered.xy)
    with pytest.raises(UserError, match=r"no point 'bleu'\. Did you mean 'blue'"):
        fitting.load_data(blobs, replace(recipe, points=("bleu",)))


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (["red", "blue", "green"], "point 2 is 'green' in train and 'blue' in val .the same points in another order."),
        (["red", "green", "bleu"], "point 3 is 'blue' in train and 'bleu' in val; both splits must"),
    ],
)
def test_other_points_in_val_are_named(blobs: Path, recipe: Recipe, tmp_path: Path, names: list[str], line: str):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images").symlink_to(blobs / "images")
    for split in ("train", "val"):
        content = files.read_json(blobs / "annotations" / f"{split}.json")
        if split == "val":
            content["categories"][0]["keypoints"] = names
        (tmp_path / "annotations" / f"{split}.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=line):
        fitting.load_data(tmp_path, recipe)


def test_a_point_that_is_not_there(blobs: Path, recipe: Recipe):
    with pytest.raises(UserError, match="3"):
        fitting.load_data(blobs, replace(recipe, points=(1, 3)))


def test_init_takes_all_tensors_or_the_backbones(
    blobs: Path, blob_model: Path, recipe: Recipe, data: fitting.Data, said: list[str]
):
    theirs = load_file(blob_model / "model.safetensors")
    begun = replace(recipe, init=str(blob_model))
    same, initialization = fitting.build_detector(begun, data)
    assert all(torch.equal(value, theirs[name]) for name, value in same.state_dict().items())
    assert initialization == str(blob_model)
    assert said[-1] == f"--init {blob_model}: {len(theirs)} of {len(theirs)} tensors taken"

    fewer, _ = fitting.build_detector(begun, fitting.load_data(blobs, replace(recipe, points=(1, 2))))
    own = fewer.state_dict()
    assert all(torch.equal(own[name], value) for name, value in theirs.items() if name.startswith("backbone."))
    assert own["head.linear.weight"].shape == (4, 64)
    assert "random as before: head.linear.weight, head.linear.bias" in said[-1]
    assert f"{len(theirs) - 2} of {len(theirs)} tensors taken" in said[-1]


def test_init_takes_no_head_of_another_method_or_of_other_points(
    blobs: Path, recipe: Recipe, data: fitting.Data, tmp_path: Path, said: list[str]
):
    """The tensors of `heatmap` and `rounding` have equal names and shapes, and mean different things."""
    wanted = replace(recipe, method="heatmap", size=Size(64, 64), points=(0, 1))
    two = fitting.load_data(blobs, wanted)
    run, _ = fitting.build_detector(wanted, two)
    detectors.save(run, tmp_path, Card(run.spec))

    def head_differs(changed: Recipe, on: fitting.Data) -> bool:
        torch.manual_seed(9)
        other, _ = fitting.build_detector(replace(changed, init=str(tmp_path)), on)
        theirs = run.state_dict()
        assert all(torch.equal(v, theirs[n]) for n, v in other.state_dict().items() if n.startswith("backbone."))
        return not torch.equal(other.state_dict()["head.final.weight"], theirs["head.final.weight"])

    assert not head_differs(wanted, two)
    assert head_differs(replace(wanted, method="rounding"), two)
    assert "its head is of --method heatmap, so that of rounding starts at random" in said[-1]
    swapped = replace(wanted, points=(2, 1))
    assert head_differs(swapped, fitting.load_data(blobs, swapped))
    assert "its points are others, so the head starts at random" in said[-1]


def test_init_of_another_backbone_is_refused(blob_model: Path, recipe: Recipe, data: fitting.Data):
    for file in (blob_model, blob_model / "model.safetensors"):
        other = replace(recipe, init=str(file), backbone="mobilenetv3_small_075")
        with pytest.raises(UserError, match=r"does not fit backbone 'mobilenetv3_small_075': \d+ of its \d+ tensors"):
            fitting.build_detector(other, data)


def test_history_as_csv_has_all_columns(tmp_path: Path):
    rows = [{"epoch": 0.0, "a": math.pi}, {"epoch": 1.0, "b": 2.5}]
    path = tmp_path / "history.csv"
    path.write_text(files.csv_text(rows))
    assert history.read(path) == rows
    assert history.read(tmp_path / "none.csv") == []


def test_only_our_own_lines_are_said(blobs: Path, tmp_path: Path) -> None:
    """In a process of its own: in this one Lightning's loggers have been set by other tests."""
    options = smallest(["augment.flip=0", *FIXED], size="64x64", epochs=1, batch_size=16)
    words = ["fit", blobs, "--out", tmp_path / "run", *options]
    command = [sys.executable, "-m", "fiducial.cli", *map(str, words)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr.strip().splitlines()
    notes = [line for line in told if ": note: " in line]
    kinds = [line.split(":")[0] for line in told if line not in notes]
    assert "plan" in kinds
    about_steps, *others = [kind for kind in kinds if kind != "plan"]
    assert about_steps.startswith("this run is of 3 steps")
    assert others == ["epoch 1 of 1", "how far points may be off", "kept"]
