"""Folds: groups stay whole, the figures are those of models on what they have not seen, killed runs go on, one model of all."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import quick
from command_line import Run

import fiducial
from fiducial.data.groups import Groups
from fiducial.errors import UserError
from fiducial.models import detector as detectors
from fiducial.training import fit as fitting
from fiducial.training import folds as in_folds
from fiducial.training import recipes
from fiducial.training.fit import Data
from fiducial.types import Instances

FOLDS = 3
CHOICES: dict[str, Any] = {**quick.WORDS, "epochs": 2, "preflight": False, "plan": False, "settings": quick.FIXED}


@pytest.fixture(scope="module")
def folded(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    out = tmp_path_factory.mktemp("folds") / "run"
    return out, fiducial.fit(blobs, out, folds=FOLDS, **CHOICES)


def all_labels(blobs: Path) -> Instances:
    from fiducial.data.together import together

    data = fitting.load_data(blobs, quick.RECIPE)
    return together([data.train, data.validation])


def test_groups_are_whole_and_folds_about_equal() -> None:
    generator = np.random.default_rng(3)
    group_of_image = generator.integers(0, 17, 90)
    image = np.repeat(np.arange(90), generator.integers(1, 4, 90))
    fold = in_folds.fold_of(group_of_image[image], image, 5, seed=0)
    assert fold is not None
    for group in range(17):
        assert len(set(fold[group_of_image[image] == group])) == 1
    images = [len(set(image[fold == number])) for number in range(5)]
    assert sum(images) == 90
    assert max(images) - min(images) <= np.bincount(group_of_image).max()
    other = in_folds.fold_of(np.arange(90), np.arange(90), 5, seed=1)
    assert other is not None
    assert np.bincount(other).tolist() == [18] * 5
    assert in_folds.fold_of(np.zeros(9, int), np.arange(9), 2, seed=0) is None


@pytest.mark.parametrize("count", [4, 32])
def test_nothing_of_a_fold_is_learnt_from_or_chooses_the_epoch(blobs: Path, count: int) -> None:
    labels = all_labels(blobs)
    groups = Groups(labels.image_row % count, count, "persons")  # few: of single images a tenth chooses
    fold = in_folds.fold_of(groups.of(labels), labels.image_row, FOLDS, seed=0)
    assert fold is not None
    for number in range(FOLDS):
        data = in_folds._data(labels, fold != number, groups, quick.RECIPE)
        learnt, chosen = (set(part.annotation_id.tolist()) for part in (data.train, data.validation))
        left_out = set(labels.annotation_id[fold == number].tolist())
        assert learnt
        assert chosen
        assert not learnt & chosen
        assert learnt | chosen == set(labels.annotation_id.tolist()) - left_out
        if count >= 20:
            assert not set(groups.of(data.train)) & set(groups.of(data.validation))


def test_figures_are_those_of_the_folds_models_on_what_they_have_not_seen(
    blobs: Path, folded: tuple[Path, Any]
) -> None:
    out, run = folded
    labels = all_labels(blobs)
    fold = in_folds.fold_of(labels.image_row, labels.image_row, FOLDS, seed=0)
    assert fold is not None
    alone = [
        fiducial.evaluate(fiducial.load(out / f"fold_{number + 1}"), labels.select(fold == number))
        for number in range(FOLDS)
    ]
    count = np.array([result.figures["count"] for result in alone])
    assert count.sum() == len(labels) == run.figures["count"]
    for name in ("nme", "epe", "auc", "pck@0.1"):
        values = np.array([result[name] for result in alone])
        assert run[name] == pytest.approx(float((values * count).sum() / count.sum()), rel=1e-5)
    assert [row["nme"] for row in run.figures["folds"]] == pytest.approx([result["nme"] for result in alone], rel=1e-5)
    low, high = run.figures["intervals"]["nme"]
    assert low < run["nme"] < high
    assert run.figures["resampled"]["groups"] == 64


def test_the_model_in_out_is_of_all_labels_and_of_the_folds_steps(blobs: Path, folded: tuple[Path, Any]) -> None:
    out, run = folded
    card = detectors.load_card(out)
    kept = np.median([row["steps_kept"] for row in run.figures["folds"]])
    recipe = recipes.of_run(out)
    assert card.metrics["train_instances"] == 64
    assert recipe.epochs == max(1, round(kept / (64 // 8)))
    # What the card says is what the folds say, not the error on what was learnt from.
    assert card.metrics["val"]["nme"] == run["nme"]
    assert card.spec.spread is not None
    assert card.spec.spread.instances == 64
    written = json.loads((out / "metrics.json").read_text())
    assert written["metrics"] == run.metrics
    assert len(written["folds"]) == FOLDS
    assert any("its val is part of what it learnt from" in note for note in written["notes"])
    assert (out / "report.html").exists()


def test_a_run_that_was_ended_goes_on_and_ends_the_same(
    blobs: Path, folded: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, train, begun = tmp_path / "run", in_folds.run.run, []

    def ends_early(*arguments: Any, **options: Any) -> Any:
        begun.append(arguments[1].name)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return train(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(in_folds.run, "run", ends_early)
        with pytest.raises(KeyboardInterrupt):
            fiducial.fit(blobs, out, folds=FOLDS, **CHOICES)
    weights = out / "fold_1" / "model.safetensors"
    was = weights.stat().st_mtime_ns
    with pytest.raises(UserError, match="holds folds already"):
        fiducial.fit(blobs, out, folds=FOLDS, **CHOICES)
    with pytest.raises(UserError, match="of other folds"):
        fiducial.fit(blobs, out, folds=FOLDS + 1, resume=True, **CHOICES)
    with pytest.raises(UserError, match="epochs was 2 and is now 5"):
        fiducial.fit(blobs, out, folds=FOLDS, resume=True, **{**CHOICES, "epochs": 5})
    run = fiducial.fit(blobs, out, folds=FOLDS, resume=True, **CHOICES)
    assert weights.stat().st_mtime_ns == was
    assert run.metrics == folded[1].metrics
    one, other = (folder / "model.safetensors" for folder in (out, folded[0]))
    assert one.read_bytes() == other.read_bytes()


def test_instances_in_memory_are_all_in_folds(blobs: Path, tmp_path: Path) -> None:
    labels = fitting.load_data(blobs, quick.RECIPE).train.select(np.arange(20))
    run = fiducial.fit(labels, tmp_path / "run", folds=2, **{**CHOICES, "epochs": 1})
    assert run.figures["count"] == 20


def test_the_plan_is_made_once_and_minutes_are_for_all(blobs: Path, tmp_path: Path) -> None:
    data = fitting.load_data(blobs, quick.RECIPE)
    asked = replace(quick.RECIPE, minutes=8.0)
    labels = all_labels(blobs)
    groups = Groups(labels.image_row, 64, "images")
    fold = in_folds.fold_of(labels.image_row, labels.image_row, FOLDS, seed=0)
    assert fold is not None
    whole = Data(data.train, data.validation, [])
    (tmp_path / "run").mkdir()
    arguments = (tmp_path / "run", whole, labels, fold, groups, asked, FOLDS, None, (), "blobs")
    recipe, choices = in_folds._recipe(*arguments, False)
    assert recipe.minutes == 2.0
    assert choices == []
    assert in_folds._recipe(*arguments, True) == (recipe, choices)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--folds", "65"], "64 images can't be in 65 folds"),
        (["--folds", "1"], "--folds"),
        (["--folds", "2", "--plan-only"], "not with folds"),
        (["--folds", "2", "--devices", "2"], "not with folds"),
        (["--folds", "2", "--group", "camera"], "--group 'camera'"),
    ],
)
def test_what_can_not_be_in_folds_is_told(
    run: Run, blobs: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    code, out, err = run("fit", blobs, "--out", tmp_path / "run", "--backbone", "test_efficientnet", *options)
    assert (code, out) == (2, "")
    assert words in err
    assert "Traceback" not in err
    assert not (tmp_path / "run" / "folds.json").exists()


def test_minutes_are_shared_out_by_what_is_left(blobs: Path, tmp_path: Path) -> None:
    started = time.perf_counter()
    out = tmp_path / "run"
    run = fiducial.fit(blobs, out, folds=2, minutes=1.2, **{**CHOICES, "epochs": 1})
    took = (time.perf_counter() - started) / 60
    shares = [recipes.of_run(out / f"fold_{number}").minutes for number in (1, 2)]
    assert run.figures["count"] == 64
    assert took <= 1.2
    # The first run had a third of what was left, the second a half of what the first had not used.
    assert shares[0] == pytest.approx(0.4, abs=0.1)
    assert shares[1] > shares[0] or took > 1
