"""`fiducial fit VIDEOS --method motion` from clips to a run folder with its report."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from command_line import Run
from heard import heard
from motion.discs import disc_frames, write_pictures, write_video
from quick import ALONE, options
from training.killing import in_processes
from training.test_resume import Runs, assert_ended_as_told, assert_the_same_run, both_runs, ended_at

from fiducial.data.source import Source
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.motion import fit as fitting
from fiducial.motion import pairs, report, system
from fiducial.motion import recipes as motion_recipes
from fiducial.motion.clips import ClipSpec
from fiducial.report import pictures
from fiducial.training import history, recipes
from fiducial.training.recipe import OptimizerSpec, Recipe
from fiducial.training.run import run as train

SMALL = options(
    (
        *ALONE,
        *("motion.points=4", "motion.pairs=16", "motion.scales=[1, 0.5]", "motion.generator.width=8"),
        *("motion.generator.widest=16", "motion.generator.residuals=1", "motion.generator.dense_motion.width=8"),
        *("motion.generator.dense_motion.widest=32", "motion.generator.dense_motion.blocks=3"),
    ),
    method="motion",
    backbone="hourglass_w8_b3_m32_s2",
    size=64,
    batch_size=4,
    lr="2e-3",
)


def fitted(discs: Path, out: Path, recipe: Recipe) -> tuple[dict[str, Any], list[str]]:
    with heard() as lines:
        summary = train(fitting.preparation(Source(discs)), out, recipe)
    assert summary is not None
    return summary, lines


# ------------------------------------------------------------------------------------------------------ it learns


def test_loss_falls_and_points_follow_what_moves(discs: Path, tmp_path: Path, recipe: Recipe) -> None:
    longer = replace(recipe, epochs=8, motion=replace(recipe.motion, pairs=32))
    summary, lines = fitted(discs, tmp_path / "run", longer)
    assert lines[1] == "3 clips of 36 frames, cut to 64x64; held out for scoring: c.mp4"
    rows = history.read(tmp_path / "run" / "history.csv")
    assert len(rows) == 8
    assert rows[-1]["train/loss"] < 0.7 * rows[0]["train/loss"]
    assert min(row["val/reconstruction"] for row in rows) == pytest.approx(
        summary["metrics"]["reconstruction"], rel=1e-4
    )
    assert summary["metrics"]["moving"] > rows[0]["val/moving"] - 1e-6
    files = {path.relative_to(tmp_path / "run").as_posix() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert files >= {
        "model.safetensors",
        "model.json",
        "generator.safetensors",
        "generator.json",
        "recipe.json",
        "history.csv",
        "metrics.json",
        "report.html",
        "pictures/points.png",
        "pictures/reconstruction.png",
        "checkpoints/last.ckpt",
        "checkpoints/best.ckpt",
    }
    assert not [name for name in files if "partial" in name]


def test_what_is_saved_is_what_was_scored(discs: Path, tmp_path: Path, recipe: Recipe) -> None:
    out = tmp_path / "run"
    summary, _ = fitted(discs, out, recipe)
    detector, generator, card = system.load(out)
    assert card.metrics["val"]["reconstruction"] == pytest.approx(summary["metrics"]["reconstruction"], rel=1e-5)
    clips = fitting.clips_for(Source(discs), out, recipe)
    errors = []
    with torch.no_grad():
        for batch in pairs.scored_loader(clips, 4):
            source = batch.source.permute(0, 3, 1, 2) / 255
            frames = [detector.head.frames(detector(picture)) for picture in (batch.source, batch.driving)]
            made = generator(source, *frames).prediction
            errors += (made - batch.driving.permute(0, 3, 1, 2) / 255).abs().mean((1, 2, 3)).tolist()
    assert np.mean(errors) == pytest.approx(summary["metrics"]["reconstruction"], rel=1e-4)


def test_collapsed_points_are_told(discs: Path, tmp_path: Path, recipe: Recipe) -> None:
    """At a rate of nearly nothing all stay where they begin: in the middle. So it is said while training and on the page."""
    still = replace(
        recipe, epochs=3, optimizer=OptimizerSpec(lr=1e-9, ema_decay=0.0), motion=replace(recipe.motion, pairs=4)
    )
    summary, lines = fitted(discs, tmp_path / "run", still)
    assert any(line.startswith("after epoch 3: the points sit together in one place") for line in lines)
    assert summary["metrics"]["spread"] < 0.06
    page = (tmp_path / "run" / "report.html").read_text()
    assert "The points sit together in one place" in page
    assert "the motion has not been learnt" in page


def test_stills_alone(tmp_path: Path, recipe: Recipe) -> None:
    """A folder of pictures is learnt from by warping them."""
    frames = {f"{seed}.png": disc_frames(1, seed)[0] for seed in range(6)}
    write_pictures(tmp_path / "in", frames)
    summary, lines = fitted(tmp_path / "in", tmp_path / "run", recipe)
    assert "6 still images" in lines[1]
    [row] = summary["clips"]
    assert (row["clip"], row["pairs"]) == ("1 stills", 1)
    assert summary["metrics"]["copy"] > 0


def test_rate_from_the_finder(discs: Path, tmp_path: Path, recipe: Recipe) -> None:
    recipe = replace(recipe, optimizer=replace(recipe.optimizer, lr="auto"), epochs=1, batch_size=1)
    _, lines = fitted(discs, tmp_path / "run", recipe)
    assert any(line.startswith("learning rate found: ") for line in lines)
    assert isinstance(recipes.of_run(tmp_path / "run").optimizer.lr, float)


# --------------------------------------------------------------------------------------------------------- report


def test_report_of_clips(discs: Path, tmp_path: Path, recipe: Recipe) -> None:
    data = tmp_path / "in"
    shutil.copytree(discs, data)
    (data / "bad.mp4").write_bytes(b"no video" * 20)
    out = tmp_path / "run"
    spec = ClipSpec(held_out=("a.mp4", "c.mp4"))
    summary, lines = fitted(data, out, replace(recipe, motion=replace(recipe.motion, clips=spec)))
    assert json.loads((out / "metrics.json").read_text()) == {k: v for k, v in summary.items() if k != "files"}
    assert [row["clip"] for row in summary["clips"]] == ["a.mp4", "c.mp4"]
    parts = [row["reconstruction"] for row in summary["clips"]]
    assert summary["metrics"]["reconstruction"] == pytest.approx(np.mean(parts))
    assert parts[0] != parts[1]
    assert (summary["count"], summary["split"]) == (22, "held-out clips")
    assert len(summary["left_out"]) == 1
    assert any("bad.mp4: ends after 0 frames" in line for line in lines)
    assert "bad.mp4" in (out / "problems.txt").read_text()
    page = (out / "report.html").read_text()
    for words in (
        "1 problem met in the data",
        "bad.mp4",
        "Reconstruction",
        "val/",
        "motion.points",
        "Clip by clip",
        "held out for scoring: a.mp4, c.mp4",
        "equivariance_px",
        "Learning rate",
    ):
        assert (words in page) == (words != "val/"), words
    points = cv2.imread(str(out / "pictures" / "points.png"))
    made = cv2.imread(str(out / "pictures" / "reconstruction.png"))
    assert points is not None
    assert made is not None
    assert points.shape[1] > 6 * 160
    assert made.shape[0] < points.shape[0], "two clips are scored, three are shown"


def test_points_have_one_colour_on_all_pictures(discs: Path, tmp_path: Path, recipe: Recipe) -> None:
    clips = fitting.clips_for(Source(discs), tmp_path, recipe)
    rows = report._rows_shown(clips)
    assert [clips.where(frames[0]) for frames in rows] == ["c.mp4, frame 0", "a.mp4, frame 0", "b.mp4, frame 0"]
    assert all(len(frames) == 6 and clips.where(frames[-1]).endswith(", frame 11") for frames in rows)
    objective = fitting.build(recipe)[0].eval()
    sheet = report.points_sheet(objective, clips)
    edges = (sheet == pictures.ERROR).all(-1)
    assert edges[:160].any(), "the clip that was held out"
    assert not edges[200:].any()


# ------------------------------------------------------------------------------------------------------ the command


def test_the_command(run: Run, discs: Path, tmp_path: Path) -> None:
    code, out, err = run("fit", discs, "--out", tmp_path / "run", *SMALL, "--epochs", 1, "--json", tmp_path / "f.json")
    assert code == 0, err
    first = [line.split()[0] for line in out.splitlines()[:6]]
    assert first == ["warning:", "best", "reconstruction", "copy", "equivariance_px", "gain"], "one epoch is no better"
    assert f"report: {tmp_path / 'run' / 'report.html'}" in out
    assert "metrics" in json.loads((tmp_path / "f.json").read_text())
    code, _, err = run("fit", discs, "--out", tmp_path / "run", *SMALL, "--epochs", 1)
    assert (code, "holds a run already" in err) == (2, True)
    code, _, err = run("export", tmp_path / "run", "--to", "onnx", "--out", tmp_path / "shipped")
    assert code == 0, err
    assert json.loads((tmp_path / "shipped" / "model.certificate.json").read_text())["data"] == "drawn faces"


def test_a_system_taught_by_another(run: Run, discs: Path, tmp_path: Path) -> None:
    """Its points and pictures are two more losses; it is no part of what is saved."""
    assert run("fit", discs, "--out", tmp_path / "teacher", *SMALL, "--epochs", 1)[0] == 0
    taught = (*SMALL, "--epochs", 2, "--set", f"motion.teacher={tmp_path / 'teacher'}")
    code, _, err = run("fit", discs, "--out", tmp_path / "taught", *taught, "--set", "motion.generator.width=4")
    assert code == 0, err
    rows = history.read(tmp_path / "taught" / "history.csv")
    assert all(row["train/points"] > 0 and row["train/taught"] > 0 for row in rows)
    saved = torch.load(tmp_path / "taught" / "checkpoints" / "last.ckpt", weights_only=False)["state_dict"]
    assert {name.split(".")[1] for name in saved} <= {"detector", "generator"}
    for setting, words in (
        ("motion.points=5", "motion.teacher has 4 points and the student 5"),
        ("motion.teacher=none", "none: "),
    ):
        code, _, err = run("fit", discs, "--out", tmp_path / "x", *taught, "--set", setting)
        assert (code, words in err.splitlines()[-1]) == (2, True), err
    code, _, err = run("fit", discs, "--out", tmp_path / "x", *taught, "--size", "32")
    assert (code, "looks at 64x64 and the student at 32x32" in err.splitlines()[-1]) == (2, True), err


def test_the_method_brings_its_own_recipe() -> None:
    assert recipes.default("motion") == motion_recipes.small()
    assert recipes.default("heatmap") == recipes.default() == Recipe()
    chosen = recipes.changed(recipes.default("motion"), {"method": "motion", "epochs": 3}, ["motion.points=5"])
    assert (chosen.backbone, chosen.epochs, chosen.motion.points) == ("hourglass_b4_m256_s2", 3, 5)
    assert chosen.motion.generator == motion_recipes.small().motion.generator
    from_file = Path(__file__).parents[2] / "recipes" / "motion.py"
    assert recipes.load(f"{from_file}:small") == motion_recipes.small()
    assert recipes.load(f"{from_file}:full") == motion_recipes.full()
    with pytest.raises(UserError, match=r"method 'moton': no such name\. Did you mean 'motion'\?"):
        recipes.default("moton")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--points", "1,2"], "how many is --set motion.points=N"),
        (["--images", "x"], "--images: is about annotations"),
        (["--category", "x"], "--category: is about annotations"),
        (["--size", "67"], "size 67x67: heatmaps on this backbone need multiples of 2, such as 68x68"),
        (["--set", 'motion.clips.held_out=["d.mp4"]'], "has no clip 'd.mp4'"),
        (["--set", "motion.features=none.pth"], "none.pth"),
        (["--resume"], "no run to resume"),
    ],
)
def test_what_is_refused(run: Run, discs: Path, tmp_path: Path, options: list[str], words: str) -> None:
    code, _, err = run("fit", discs, "--out", tmp_path / "run", *SMALL, *options)
    assert code == 2
    last = err.splitlines()[-1]
    assert words in last
    assert last.startswith("fiducial: ")
    assert not (tmp_path / "run").exists(), "nothing was made"


def test_the_folder_of_the_videos_is_none_for_a_run(run: Run, discs: Path) -> None:
    before = sorted(discs.iterdir())
    code, _, err = run("fit", discs, "--out", discs, *SMALL)
    assert (code, "is the folder of the videos" in err) == (2, True)
    assert sorted(discs.iterdir()) == before


def test_strict(run: Run, discs: Path, tmp_path: Path) -> None:
    shutil.copytree(discs, tmp_path / "in")
    (tmp_path / "in" / "bad.mp4").write_bytes(b"no video" * 20)
    code, _, err = run("fit", tmp_path / "in", "--out", tmp_path / "run", *SMALL, "--strict")
    assert code == 2
    assert "1 things in it can't be used, first" in err
    assert "bad.mp4" in err


def test_other_settings_after_a_start_that_did_not_get_far(discs: Path, tmp_path: Path, recipe: Recipe) -> None:
    """Frames without a run are made again, not refused."""
    fitting.clips_for(Source(discs), tmp_path / "run", recipe)
    other = replace(recipe, size=Size(64, 32), epochs=1)
    train(fitting.preparation(Source(discs)), tmp_path / "run", other)
    index = json.loads((tmp_path / "run" / "frames" / "clips.json").read_text())
    assert index["size"] == [64, 32]


# --------------------------------------------------------------------------------------------------------- resumed


@pytest.fixture(scope="module")
def runs(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return both_runs(lambda out, *more: fit_arguments(discs, out, *more), SOME, tmp_path_factory.mktemp("resume"))


@pytest.fixture(scope="module")
def whole(runs: Runs) -> Path:
    """A run that nothing happened to."""
    return runs.whole


def fit_arguments(data: Path, out: Path, *more: str) -> list[str]:
    """As users type it, light and colours varied, with the default's loader processes."""
    return ["fit", str(data), "--out", str(out), *SMALL, "--set", "workers=null", "--epochs", "4", *more]


# Four steps an epoch.
SOME = [("step", 2, "SIGKILL"), ("step", 6, "SIGINT"), ("writing", 2, "SIGKILL")]
MORE = [
    ("begun", 1, "SIGKILL"),
    ("writing", 1, "SIGKILL"),
    ("step", 5, "SIGTERM"),
    ("between", 2, "SIGKILL"),
    ("step", 9, "SIGKILL"),
    ("validation", 1, "SIGINT"),
    ("between", 3, "SIGKILL"),
    ("trained", 1, "SIGKILL"),
]


def test_ended_and_resumed_a_run_ends_with_the_same_bits(runs: Runs) -> None:
    assert_ended_as_told(runs.told, SOME)
    assert_the_same_run(runs.whole, runs.ended)


@pytest.mark.long
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_ended_anywhere(discs: Path, whole: Path, tmp_path: Path, workers: int) -> None:
    setting = ["--set", f"workers={workers}"]
    stages = ended_at(MORE, lambda *more: fit_arguments(discs, tmp_path / "ended", *setting, *more))
    assert_ended_as_told(in_processes(stages, tmp_path / "said"), MORE)
    assert_the_same_run(whole, tmp_path / "ended")


def test_resume_refuses_other_settings_and_other_videos(discs: Path, whole: Path, tmp_path: Path) -> None:
    data, recipe = tmp_path / "in", recipes.of_run(whole)
    shutil.copytree(discs, data)
    with pytest.raises(UserError, match="seed was 0 and is now 5"):
        train(fitting.preparation(Source(discs)), whole, replace(recipe, seed=5), resume=True)
    write_video(data / "b.mp4", disc_frames(12, 9))
    with pytest.raises(UserError, match="was made from other videos"):
        train(fitting.preparation(Source(data)), whole, recipe, resume=True)
    moved = tmp_path / "moved"
    shutil.copytree(whole, moved, ignore=shutil.ignore_patterns("frames"))
    with pytest.raises(UserError, match="the data differ"):
        train(fitting.preparation(Source(data)), moved, recipe, resume=True)
