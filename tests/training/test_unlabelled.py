"""Unlabelled images: what is taught lies where it is to be seen, by weights that are the average, in runs that resume exactly,
and that go on alone where val says that it hurts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from command_line import Run
from conftest import COLOURS
from heard import heard
from quick import smallest
from safetensors.torch import load_file
from torch import Tensor

import fiducial
from fiducial import UserError, motion
from fiducial.data.augment import AugmentSpec
from fiducial.data.source import Source
from fiducial.training import engine, history, labels_alone, unlabelled
from fiducial.training import fit as fitting
from fiducial.training import run as runs
from fiducial.training._lightning import L
from fiducial.training.engine import Best
from fiducial.training.nodes import Devices
from fiducial.training.recipe import Recipe, UnlabelledSpec
from fiducial.training.unlabelled import Calibration, MixedBatch, SelfTaught, sure_from
from fiducial.training.watch import Teaching
from fiducial.training.work import Rival
from fiducial.types import Instances, Keypoints

GEOMETRY = replace(AugmentSpec.none(), shift=0.05, scale=(0.8, 1.2), rotation_degrees=40, rotation_probability=1.0)
SPEC = UnlabelledSpec()


def places(image: Tensor) -> Tensor:
    """Finds the discs of `blobs` on crops, by their colours: [b, 3, 2] px."""
    xy = []
    for crop in image.double():
        for colour in COLOURS:
            is_disc = ((crop - torch.tensor(colour)).abs().sum(-1) < 120).double()
            rows, columns = torch.meshgrid(*(torch.arange(side).double() for side in crop.shape[:2]), indexing="ij")
            total = is_disc.sum()
            xy.append(torch.stack([(columns * is_disc).sum() / total, (rows * is_disc).sum() / total]))
    return torch.stack(xy).view(-1, 3, 2).float()


class Seer:
    """A teacher that sees; it is sure of red and green alone."""

    def predict(self, image: Tensor, flip_test: bool = False) -> Keypoints:
        xy = places(image)
        return Keypoints(xy, torch.tensor([0.9, 0.8, 0.1]).expand(len(xy), 3))


def mirrored(instances: Instances) -> Instances:
    """The same with red and green as a pair that changes places in a mirror."""
    return replace(instances, skeleton=replace(instances.skeleton, flip_pairs=((0, 1),)))


@pytest.fixture
def pooled(data: fitting.Data) -> fitting.Data:
    """Eight labels, and the crops of all of train without them."""
    few = data.train.select(np.arange(8))
    return replace(data, train=few, unlabelled=motion.without_labels(data.train, data.train.skeleton))


@pytest.fixture
def taught(recipe: Recipe) -> Recipe:
    return replace(recipe, unlabelled=UnlabelledSpec(start=0.0, rise=0.0, control=False), passes=3.0)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_points_are_taught_where_they_are_on_the_strong_crop(recipe: Recipe, pooled: fitting.Data, flip: float) -> None:
    data = replace(pooled, train=mirrored(pooled.train), unlabelled=mirrored(pooled.unlabelled))  # type: ignore[arg-type]
    recipe = replace(recipe, augment=replace(GEOMETRY, flip=flip), unlabelled=SPEC)
    batch: MixedBatch = next(iter(fitting.train_loader(data, recipe, 0, 1)))
    objective = SelfTaught(fitting.build_detector(recipe, data)[0], mirrors=False)
    object.__setattr__(objective, "teacher", Seer())
    objective.weight, objective.sure_from = 1.0, 0.5
    points = objective.taught(batch)
    assert points is not None
    expected, sure = places(batch.strong), torch.tensor([1.0, 1.0, 0.0])
    if flip:
        expected = expected[:, [1, 0, 2]]  # red is called green in a mirror
    assert torch.equal(points.labelled, sure.expand_as(points.labelled))
    # Discs that touch or are cut off have their centres elsewhere: the rest are where they are seen.
    apart = (points.xy - expected).norm(dim=-1)[:, :2].flatten()
    assert apart.median() < 0.5
    assert len(batch.plain) == len(batch.strong) == recipe.batch_size
    assert not torch.equal(batch.plain, batch.strong)


def test_labels_of_the_pool_are_not_looked_at(recipe: Recipe, pooled: fitting.Data, data: fitting.Data) -> None:
    recipe = replace(recipe, unlabelled=SPEC)
    wrong = replace(data.train, xy=data.train.xy[::-1].copy())
    other = replace(pooled, unlabelled=motion.without_labels(wrong, wrong.skeleton))
    first, second = (next(iter(fitting.train_loader(each, recipe, 0, 1))) for each in (pooled, other))
    assert all(torch.equal(one, two) for one, two in zip(first, second, strict=True))


def test_an_epoch_has_the_batches_of_the_labels_and_goes_on_through_the_pool(
    recipe: Recipe, pooled: fitting.Data
) -> None:
    recipe = replace(recipe, batch_size=4, passes=2.0, unlabelled=UnlabelledSpec(share=2.0))
    wanted = True
    loader = fitting.train_loader(pooled, recipe, 0, 1, wanted=lambda: wanted)
    sampler: Any = loader.sampler
    seen = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        draws = list(sampler)
        assert len(draws) == len(sampler) == 4
        seen += [row for draw in draws for row in draw.unlabelled.rows.tolist()]
    assert len(seen) == 3 * 4 * 8
    assert sorted(seen[:48]) == sorted(seen[48:]) == list(range(48))
    wanted = False
    batch = next(iter(loader))
    assert batch.plain.shape == (0, 48, 64, 3)
    assert len(batch.row) == 4


def test_a_broken_image_of_the_pool_is_replaced_in_both_views(recipe: Recipe, pooled: fitting.Data) -> None:
    pool = pooled.unlabelled
    assert pool is not None

    class Missing:
        def __len__(self) -> int:
            return len(pool.images)

        def name(self, row: int) -> str:
            return pool.images.name(row)

        def read(self, row: int, reduce: int = 1) -> np.ndarray:
            if row % 2:
                raise UserError(pool.images.name(row), "gone")
            return pool.images.read(row, reduce)

    size = np.zeros_like(pool.image_size)  # not known, so that nothing is kept in memory
    data = replace(pooled, unlabelled=replace(pool, images=Missing(), image_size=size))
    recipe = replace(recipe, augment=GEOMETRY, unlabelled=SPEC)
    loader = fitting.train_loader(data, recipe, 0, 1)
    batch = next(iter(loader))
    apart = (_moved(batch.plain_to_strong, places(batch.plain)) - places(batch.strong)).norm(dim=-1)
    assert apart.median() < 0.5
    dataset: Any = loader.dataset
    assert {problem.what for problem in dataset.problems()} == {"gone"}


def _moved(matrix: Tensor, xy: Tensor) -> Tensor:
    return torch.stack([xy_of @ of[:2, :2].T + of[:2, 2] for of, xy_of in zip(matrix, xy, strict=True)])


def test_the_lowest_score_from_which_most_are_right() -> None:
    score = np.arange(20, 0, -1) / 20
    error = np.where(np.arange(20) < 10, 0.0, 1.0)  # the ten surest are right
    assert sure_from(error, score, 0.5) == score[10]  # 10 of 11 are 91 %
    assert sure_from(np.zeros(20), score, 0.5) == score[-1]
    assert sure_from(np.ones(20), score, 0.5) is None
    assert sure_from(error[:12], np.ones(12), 0.5) is None  # equal scores tell nothing: 10 of 12 are 83 %
    assert sure_from(error[:11], np.ones(11), 0.5) == 1.0
    assert sure_from(np.arange(20) / 20, score, 0.1) == score[1]  # two are nearer
    assert sure_from(np.arange(40) / 40, np.arange(40, 0, -1) / 40, 0.06) is None  # three of 40 are too few to tell
    assert sure_from(np.empty(0), np.empty(0), 0.5) is None


def test_val_calibrates_in_units_of_its_floor(data: fitting.Data) -> None:
    """A detector that is off by a known part of the box's root of area."""
    floor, length = 0.2, (60 * 48) ** 0.5
    calibration = Calibration(data.validation, floor)
    loader = fitting.loading.loader(data.validation, Recipe().size, 8, None)

    def off_by(share: float) -> float | None:
        for batch in loader:
            scale = batch.image_to_crop[:, 0, 0][:, None]
            xy = batch.xy + torch.stack([share * length * scale, 0 * scale], -1)
            keypoints = Keypoints(xy, torch.full(xy.shape[:2], 0.7))
            detector = SimpleNamespace(predict=lambda image, keypoints=keypoints: keypoints)
            calibration.observe(SimpleNamespace(detector=detector), batch)  # type: ignore[arg-type]
        assert calibration.scores()["nme"] == pytest.approx(share, rel=1e-3)
        np.testing.assert_allclose(calibration.instance_nme, share, rtol=1e-3)
        return calibration.sure_from

    assert off_by(0.99 * unlabelled.NEAR * floor) == pytest.approx(0.7)
    assert off_by(1.01 * unlabelled.NEAR * floor) is None


class Spy(L.Callback):
    """Averages the weights by hand, and looks at the teacher after each step."""

    def __init__(self, decay: float) -> None:
        self.decay, self.average, self.apart, self.kept = decay, {}, [], []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.average = {name: value.clone() for name, value in pl_module.detector.state_dict().items()}

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        made = trainer.global_step - 1
        decay = min(self.decay, (1 + made) / (10 + made)) if made else 0.0
        now, teacher = pl_module.detector.state_dict(), pl_module.objective.teacher
        for name, value in self.average.items():
            whole = not value.is_floating_point()
            value.copy_(now[name] if whole else decay * value + (1 - decay) * now[name])
        self.apart.append(
            max(float((value - self.average[name]).abs().max()) for name, value in teacher.state_dict().items())
        )
        self.kept.append(pl_module.objective.kept)
        assert not teacher.training


def test_the_teacher_is_the_average_of_the_weights(
    taught: Recipe, pooled: fitting.Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unlabelled, "RIGHT", 0.0)  # whatever is found is taught
    spy = Spy(taught.optimizer.ema_decay)

    def prepare(recipe: Recipe, out: Path, begins: bool) -> Any:
        work = fitting.work_of(pooled, recipe, out, begins)
        return replace(work, watches=(*work.watches, spy))

    runs.train(prepare, tmp_path / "run", taught)
    assert len(spy.apart) == 6
    assert max(spy.apart) < 1e-5
    assert spy.kept == [None] * 3 + [1.0] * 3  # from the second epoch on
    rows = history.read(tmp_path / "run" / "history.csv")
    assert [row["unlabelled/kept"] for row in rows] == [0.0, 1.0]
    assert "train/unlabelled" in rows[1]


def test_a_run_in_which_nothing_is_taught_is_that_of_the_labels(taught: Recipe, pooled: fitting.Data, fit: Any) -> None:
    """To the bit: after two epochs no score tells that points are right."""
    runs = [
        fit(taught, on=on, name=name) for name, on in (("pool", pooled), ("none", replace(pooled, unlabelled=None)))
    ]
    first, second = (load_file(each.out / "model.safetensors") for each in runs)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert "nothing was learnt from the 48 unlabelled crops: no epoch was good enough to teach" in runs[0].lines


def test_where_the_images_hurt_the_run_on_labels_alone_is_kept(
    taught: Recipe, pooled: fitting.Data, fit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit: its weights, its epochs, its figures."""
    monkeypatch.setattr(unlabelled, "RIGHT", 0.0)
    right = SelfTaught.taught

    def wrong(self: SelfTaught, batch: Any) -> Any:
        found = right(self, batch)
        return None if found is None else found._replace(xy=found.xy.flip(1))

    monkeypatch.setattr(SelfTaught, "taught", wrong)
    spec = replace(taught.unlabelled or SPEC, weight=30.0, control=True)
    optimizer = replace(taught.optimizer, ema_decay=0.5, lr=3e-3, warmup=0.2)
    recipe = replace(taught, epochs=8, optimizer=optimizer, unlabelled=spec)
    pooled = replace(pooled, validation=pooled.train)  # the error on which falls in these few steps
    alone, both = fit(recipe, on=replace(pooled, unlabelled=None), name="alone"), tmp_path / "both"
    with heard() as lines:
        told = runs.run(partial(fitting.work_of, pooled), both, recipe)["unlabelled"]
    assert json.loads((both / "metrics.json").read_text())["unlabelled"] == told
    assert told["labels_alone_kept"]
    assert told["val"] > told["val_labels_alone"]
    assert any("labels alone are better, and are kept" in line for line in lines)
    first, second = (load_file(each / "model.safetensors") for each in (both, alone.out))
    assert all(torch.equal(first[name], second[name]) for name in first)
    rows, expected, lost = (
        history.read(file) for file in (both / "history.csv", alone.out / "history.csv", both / labels_alone.LOSER)
    )
    assert [row["val/nme"] for row in rows] == [row["val/nme"] for row in expected] != [row["val/nme"] for row in lost]
    assert "labels alone are better" in (both / "report.html").read_text()
    ended, run = tmp_path / "ended", engine.run

    def stopped(work: Any, recipe: Recipe, out: Path, **options: Any) -> Best:
        if out.name != labels_alone.FOLDER:
            return run(work, recipe, out, **options)
        run(replace(work, watches=(*work.watches, Stopper())), recipe, out, **options)
        raise AssertionError("it was not stopped")

    with monkeypatch.context() as patch:
        patch.setattr(engine, "run", stopped)
        with pytest.raises(ZeroDivisionError):
            runs.run(partial(fitting.work_of, pooled), ended, recipe)
    assert runs.run(partial(fitting.work_of, pooled), ended, recipe, resume=True)["unlabelled"] == told
    second = load_file(ended / "model.safetensors")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_what_the_images_taught_is_kept_where_val_likes_it(
    taught: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = (Best({}, {"nme": nme}, 0, [], [], 2, True) for nme in (0.05, 0.06))
    asked: list[Recipe] = []

    def work(recipe: Recipe, out: Path) -> Any:
        asked.append(recipe)
        return SimpleNamespace(scoring=SimpleNamespace(metric="nme"))

    def run(*arguments: Any, **options: Any) -> Best:
        return theirs

    monkeypatch.setattr(labels_alone.engine, "run", run)
    judged: list[tuple[float, float]] = []
    rival = Rival(lambda: True, work, lambda *values: judged.append(values))
    options: dict[str, Any] = {"devices": Devices(), "progress": False}
    recipe = replace(taught, minutes=3.0, epochs=7)
    assert labels_alone.better(ours, rival, recipe, tmp_path, **options) is ours
    assert judged == [(0.05, 0.06)]
    assert asked == [replace(recipe, unlabelled=None, minutes=None)], "as many epochs as were made"
    never = rival._replace(is_due=lambda: False)
    assert labels_alone.better(ours, never, recipe, tmp_path / "none", **options) is ours
    assert not (tmp_path / "none").exists()
    several = Devices(each=2)
    assert labels_alone.better(ours, rival, recipe, tmp_path / "none", devices=several, progress=False) is ours


class Stopper(L.Callback):
    """Ends a process's run as Ctrl-C would, in the middle of an epoch."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 7:
            raise ZeroDivisionError


def test_a_run_resumes_exactly(
    taught: Recipe, pooled: fitting.Data, fit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unlabelled, "RIGHT", 0.0)
    recipe = replace(taught, epochs=4, optimizer=replace(taught.optimizer, ema_decay=0.9))
    whole = fit(recipe, on=pooled, name="whole")

    def prepare(recipe: Recipe, out: Path, begins: bool) -> Any:
        work = fitting.work_of(pooled, recipe, out, begins)
        return replace(work, watches=(*work.watches, Stopper()))

    with pytest.raises(ZeroDivisionError):
        runs.train(prepare, tmp_path / "ended", recipe)
    ended = fit(recipe, on=pooled, name="ended", resume=True)
    for name in ("last.ckpt", "best.ckpt"):
        ours, theirs = (torch.load(each.out / "checkpoints" / name, weights_only=False) for each in (whole, ended))
        for key in ("state_dict", "current_model_state"):
            assert all(torch.equal(ours[key][part], theirs[key][part]) for part in ours[key]), (name, key)
        assert _equal(ours["callbacks"]["Teaching"], theirs["callbacks"]["Teaching"])
    first, second = (load_file(each.out / "model.safetensors") for each in (whole, ended))
    assert all(torch.equal(first[name], second[name]) for name in first)
    with pytest.raises(UserError, match="the data differ"):
        fit(recipe, on=replace(pooled, unlabelled=None), name="ended", resume=True)


def _equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[name], other[name]) if isinstance(one[name], Tensor) else one[name] == other[name]
        for name in one
    )


@pytest.fixture
def teaching() -> Callable[..., Any]:
    """A Teaching, and what tells it of an epoch: errors on val's instances, and whether it taught."""
    objective = SimpleNamespace(kept=None, sure_from=None, weight=0.0)
    calibration = SimpleNamespace(instance_nme=np.empty(0), sure_from=0.5)
    watch = Teaching(objective, calibration, SPEC, 12)  # type: ignore[arg-type]
    epochs = iter(range(100))

    def epoch(errors: Any, kept: float = 0.8) -> Teaching:
        number = next(epochs)
        trainer: Any = SimpleNamespace(current_epoch=number, global_step=10 * number + 10, is_global_zero=True)
        module: Any = SimpleNamespace(log=lambda name, value: None, total_steps=200)
        watch.on_train_epoch_start(trainer, module)
        objective.kept = torch.tensor(kept) if objective.sure_from is not None else None
        watch.on_train_batch_end(trainer, module, None, None, 0)
        calibration.instance_nme = np.asarray(errors, np.float64)
        watch.on_train_epoch_end(trainer, module)
        return watch

    return epoch


def test_harm_ends_it_and_noise_does_not(teaching: Callable[..., Any]) -> None:
    generator = np.random.default_rng(0)
    base = generator.uniform(0.05, 0.15, 50)
    with heard() as lines:
        for _ in range(12):
            watch = teaching(base + generator.normal(0, 0.01, 50))
        assert not watch.ended
        assert watch.teaches
        assert lines == []
        for _ in range(SPEC.patience):
            assert not watch.ended
            watch = teaching(base + 0.02 + generator.normal(0, 0.01, 50))
        assert watch.ended
    assert not watch.teaches
    assert len(lines) == 1
    assert "labels alone" in lines[0]
    assert watch.told() == {"crops": 12, "first_epoch": 9, "last_epoch": 15, "kept": pytest.approx(0.8)}
    assert "epoch 15 was the last" in watch.said()
    watch = teaching(base)
    assert watch.ended == 15
    assert not watch.teaches


def test_its_weight_rises_from_when_there_is_something_to_teach(teaching: Callable[..., Any]) -> None:
    for _ in range(7):
        assert not teaching(np.full(9, 0.1)).teaches
    watch = teaching(np.full(9, 0.1))  # ends with step 80, when 0.4 of 200 are made
    assert watch.teaches
    module: Any = SimpleNamespace(total_steps=200)
    weights = []
    for step in range(80, 200):
        watch.on_train_batch_start(SimpleNamespace(global_step=step), module, None, 0)
        weights.append(watch.objective.weight)
    np.testing.assert_allclose(weights[:40], SPEC.weight * np.arange(1, 41) / 40)
    assert set(weights[40:]) == {SPEC.weight}


def test_what_was_not_taught_does_no_harm(teaching: Callable[..., Any]) -> None:
    for error in np.linspace(0.1, 0.3, 10):
        watch = teaching(np.full(9, error) + np.linspace(0, 0.01, 9), kept=0.0)
    assert not watch.ended
    assert watch.said() == "nothing was learnt from the 12 unlabelled crops: no epoch was good enough to teach"


def test_what_does_not_go_together_is_refused(blobs: Path, data: fitting.Data, tmp_path: Path, recipe: Recipe) -> None:
    options: dict[str, Any] = {"recipe": recipe, "workers": 0}
    with pytest.raises(UserError, match="no such"):
        fiducial.fit(blobs, tmp_path / "a", unlabelled=tmp_path / "nowhere", **options)
    with pytest.raises(UserError, match="averaged weights teach"):
        fiducial.fit(blobs, tmp_path / "b", unlabelled=data.train, **options, optimizer={"ema_decay": 0})
    with pytest.raises(UserError, match="learns from images without labels too; give them"):
        fiducial.fit(blobs, tmp_path / "c", recipe=replace(recipe, unlabelled=SPEC))
    with pytest.raises(UserError, match="no instance in it"):
        fiducial.fit(blobs, tmp_path / "c", unlabelled=data.train.select(np.arange(0)), **options)
    with pytest.raises(UserError, match="needs no labels"):
        fiducial.fit(blobs, tmp_path / "d", unlabelled=blobs, method="motion")
    assert list(tmp_path.iterdir()) == []


def test_the_run_on_labels_alone_has_its_share_of_the_minutes(
    blobs: Path, data: fitting.Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float | None] = []

    def run(prepare: Any, out: Path, recipe: Recipe, **options: Any) -> None:
        asked.append(recipe.minutes)

    monkeypatch.setattr(runs, "run", run)
    options: dict[str, Any] = {"unlabelled": data.train, "minutes": 10, "finder": "no"}
    fiducial.fit(blobs, tmp_path / "a", **options)
    fiducial.fit(blobs, tmp_path / "b", **options, settings=["unlabelled.control=false"])
    assert asked == [pytest.approx(6.5), 10]


def test_a_folder_of_images_from_the_command_line(blobs: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "run"
    code, _, said = run("fit", blobs, "--out", out, "--unlabelled", blobs / "images", *smallest(epochs=1))
    assert code == 0, said
    assert "80 frames without boxes are learnt from" in said
    assert "nothing was learnt from the 80 unlabelled crops" in said
    figures = json.loads((out / "metrics.json").read_text())["unlabelled"]
    assert figures == {"crops": 80, "first_epoch": None, "last_epoch": None, "kept": 0.0}
    assert json.loads((out / "recipe.json").read_text())["recipe"]["unlabelled"]["weight"] == 0.2
    assert "unlabelled crops" in (out / "report.html").read_text()


def test_a_labelled_set_gives_its_boxes(blobs: Path, data: fitting.Data, recipe: Recipe, tmp_path: Path) -> None:
    with heard() as lines:
        pool = motion.pool_of(Source(blobs))(data.train.skeleton, recipe, tmp_path, True)
    assert len(pool) == 48
    assert not pool.labelled.any()
    np.testing.assert_array_equal(pool.box_xywh, data.train.box_xywh)
    assert any("48 boxes of train" in line for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_images_of_val_among_the_unlabelled_ones_are_counted(
    blobs: Path, data: fitting.Data, recipe: Recipe, tmp_path: Path
) -> None:
    """By path, by bytes, of a folder of images and of a labelled set; other images are not."""
    files = [Path(data.validation.images.name(row)) for row in (0, 1, 2)]
    own = Path(data.train.images.name(0))
    (tmp_path / "pictures").mkdir()
    for number, file in enumerate([*files, own]):
        (tmp_path / "pictures" / f"{number}.png").write_bytes(file.read_bytes())
    pool = motion.pool_of(Source(tmp_path / "pictures"))(data.train.skeleton, recipe, tmp_path / "out", True)
    noted = fitting.with_note(data, pool, "blobs")
    assert str(noted.problems[0]).startswith(
        "blobs: note: 3 of the unlabelled images are val's: its figure is not clean"
    )
    same = motion.without_labels(data.validation, data.train.skeleton)
    said = fitting.with_note(data, same, "blobs").problems[0].what
    assert said.startswith(f"{len(np.unique(data.validation.image_row))} of the unlabelled images")
    assert fitting.with_note(data, motion.without_labels(data.train, data.train.skeleton), "blobs") is data


def test_a_file_gives_its_boxes_whatever_is_in_them(
    blobs: Path, data: fitting.Data, recipe: Recipe, tmp_path: Path
) -> None:
    """As a detector's: no points, a category of its own, two boxes in an image, an image that has none."""
    content = json.loads((blobs / "annotations" / "train.json").read_text())
    entries = [{name: entry[name] for name in ("image_id", "category_id", "bbox")} for entry in content["annotations"]]
    entries = [{**entry, "id": number} for number, entry in enumerate([entries[0], *entries[:-1]])]
    content |= {"annotations": entries, "categories": [{"id": 1, "name": "thing"}]}
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    (tmp_path / "images").symlink_to(blobs / "images", target_is_directory=True)
    pool = motion.pool_of(Source(tmp_path / "boxes.json"))(data.train.skeleton, recipe, tmp_path, True)
    assert pool.image_row.tolist() == [0, *range(47)]
    assert pool.skeleton == data.train.skeleton
    batch = next(iter(fitting.train_loader(replace(data, unlabelled=pool), replace(recipe, unlabelled=SPEC), 0, 1)))
    assert places(batch.plain).isfinite().any()


def test_the_plan_counts_what_it_costs(pooled: fitting.Data, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the crops to learn from, and the teacher's look at half of them."""
    asked: list[Any] = []

    def timed(objective: Any, loader: Any, validated: int, recipe: Recipe) -> Any:
        asked.append((objective, next(iter(loader))))

    monkeypatch.setattr(fitting, "pace_of", timed)
    fitting.pace_here(pooled, replace(recipe, unlabelled=SPEC))
    objective, batch = asked[0]
    losses = objective(batch)
    assert set(losses) == {"smooth_l1", "unlabelled"}
    assert len(batch.strong) == recipe.batch_size
