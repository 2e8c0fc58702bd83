"""Whole runs: what a folder holds, that it goes on exactly, and what is refused."""

from __future__ import annotations

import html
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from distill.small import clips_in, detector_of, recipe_of, saved
from motion.discs import write_video
from quick import FIXED, options
from safetensors.torch import load_file
from training.test_resume import Runs, assert_ended_as_told, assert_the_same_run, both_runs

from fiducial import config, files
from fiducial.data import annotations
from fiducial.data.source import Source
from fiducial.distillation import recipes, report, scoring, workflow
from fiducial.distillation.data import material_of
from fiducial.distillation.scoring import DISTANCE
from fiducial.distillation.spec import DistillationRecipe
from fiducial.distillation.teacher import Asked, Teacher
from fiducial.errors import UserError
from fiducial.evaluation import evaluate
from fiducial.geometry import Size
from fiducial.models import detector as detectors
from fiducial.report import pictures
from fiducial.report.charts import number_text
from fiducial.training import history, plan


@pytest.fixture(scope="module")
def blob_teacher(blob_model: Path) -> Teacher:
    from fiducial.distillation import teacher as teachers

    return teachers.load(blob_model)


# ---------------------------------------------------------------------------------------------------- what is made


def test_frames_without_labels(distill: Any, motion_teacher: Teacher, clips: Path, tmp_path: Path):
    out = tmp_path / "run"
    summary, lines = distill(motion_teacher, Source(clips), out, loss="L3", epochs=3)
    assert "24 frames to learn from, 12 to score on (3 clips of 36 frames" in " ".join(lines)
    rows = history.read(out / "history.csv")
    names = {f"train/{name}" for name in ("keypoints", "jacobians", "heatmaps", "attention", "loss")}
    assert names <= set(rows[0])
    assert len(rows) == 3
    assert summary["metrics"][DISTANCE] == pytest.approx(min(row[f"val/{DISTANCE}"] for row in rows), rel=1e-5)
    assert set(summary["metrics"]) <= set(scoring.MEANINGS)
    detector, card = detectors.load(out)  # refuses a tensor too many: the matching is not shipped
    assert not any("matching" in name for name in load_file(out / "model.safetensors"))
    assert detector.spec.skeleton == motion_teacher.detector.spec.skeleton
    assert (card.spec.head["kernel"], card.spec.head["padding"]) == (3, 1)
    assert card.metrics["teacher"]["fingerprint"] == motion_teacher.fingerprint
    assert card.metrics["loss"] == "L3"
    written = files.read_json(out / "recipe.json")
    assert config.from_dict(DistillationRecipe, written["recipe"]).distillation is not None
    assert written["teacher"]["path"] == str(motion_teacher.path)


def test_it_learns(distill: Any, clips: Path, tmp_path: Path):
    """Points of a teacher that looks at the picture."""
    teacher = saved(detector_of("integral", seed=2), tmp_path / "teacher")
    _, _ = distill(teacher, clips, tmp_path / "run", epochs=25, loss="L2")
    rows = history.read(tmp_path / "run" / "history.csv")
    assert rows[-1]["train/loss"] < 0.2 * rows[0]["train/loss"]


def test_labelled_crops_and_what_evaluate_says_of_the_student(
    distill: Any, blob_teacher: Teacher, blobs: Path, tmp_path: Path
):
    out = tmp_path / "run"
    summary, lines = distill(blob_teacher, blobs, out, student="test_efficientnet", epochs=2)
    assert "48 labelled crops of train, 16 of val, whose labels score student and teacher" in " ".join(lines)
    assert "student and teacher have no Jacobians: L1 is of points alone" in lines
    assert detectors.load_card(out).derived_from == {blob_teacher.path.name: "not stated"}
    truth, _ = annotations.load(blobs, "val")
    for name, folder in (("nme", out), ("teacher_nme", blob_teacher.path)):
        detector, _ = detectors.load(folder)
        assert summary["metrics"][name] == pytest.approx(
            evaluate.evaluate_detector(detector, truth).metrics.nme, rel=1e-4
        )


def test_labels_of_other_points_are_not_used(distill: Any, motion_teacher: Teacher, blobs: Path, tmp_path: Path):
    """As many points by chance: a teacher that found its own did not mean these."""
    summary, lines = distill(motion_teacher, blobs, tmp_path / "run", epochs=1)
    assert "whose 3 points are others than the teacher's 3: labels are not used" in " ".join(lines)
    assert "nme" not in summary["metrics"]


def test_videos_beside_labels_of_other_points_are_all_looked_at(
    distill: Any, motion_teacher: Teacher, blobs: Path, blob_teacher: Teacher, tmp_path: Path
):
    """Where the labels are the teacher's points they are what is looked at, and it says that the video is not."""
    data = tmp_path / "data"
    shutil.copytree(blobs, data)
    write_video(data / "clip.mp4", [np.full((48, 64, 3), 20 * i, np.uint8) for i in range(8)])
    _, lines = distill(motion_teacher, data, tmp_path / "run", epochs=1)
    assert "56 frames to learn from, 16 to score on" in " ".join(lines)
    _, lines = distill(blob_teacher, data, tmp_path / "other", student="test_efficientnet", epochs=1)
    assert "48 labelled crops of train, 16 of val" in " ".join(lines)
    assert "1 videos in it are not used" in " ".join(lines)


def test_a_smaller_input_and_a_teacher_that_is_asked_every_time(
    distill: Any, motion_teacher: Teacher, clips: Path, tmp_path: Path
):
    """Moved crops can only be asked about anew; sizes differ."""
    out = tmp_path / "run"
    settings = ["distillation.cache=false", "augment.shift=0.1"]
    summary, _ = distill(
        motion_teacher, clips, out, *settings, loss="L3", size="128x96", student="hourglass_w8_b3_m8_s2"
    )
    augment = config.from_dict(DistillationRecipe, files.read_json(out / "recipe.json")["recipe"]).augment
    assert augment == replace(recipes.MOVED, shift=0.1), "what is given, on top of what moves them"
    assert not (out / "teacher" / "train").exists()
    assert detectors.load_card(out).spec.size == Size(128, 96)
    assert summary["metrics"][DISTANCE] == pytest.approx(128 * summary["metrics"]["student_teacher_distance_share"])


# --------------------------------------------------------------------------------------------------------- the page


def page_of(out: Path) -> str:
    return html.unescape((out / "report.html").read_text().replace("<wbr>", ""))


def apart_px(out: Path, teacher: Teacher, crops: np.ndarray) -> np.ndarray:
    """[n] By what both predict; for inputs of one size."""
    student, _ = detectors.load(out)
    image = torch.from_numpy(crops)
    own, theirs = (each.predict(image).numpy().xy for each in (student, teacher.detector))
    return np.linalg.norm(own - theirs, axis=-1).mean(1)


def test_the_page_of_clips(distill: Any, motion_teacher: Teacher, clips: Path, tmp_path: Path):
    data, out = tmp_path / "in", tmp_path / "run"
    shutil.copytree(clips, data)
    for still in range(2):
        shutil.copy(clips / "clip0" / f"{5 * still}.png", data / f"{still}.png")
    (data / "bad.mp4").write_bytes(b"no video" * 20)
    names = '["clip1","clip2","0.png","1.png"]'
    summary, _ = distill(motion_teacher, data, out, f"motion.clips.held_out={names}", loss="L3", epochs=3)
    assert json.loads((out / "metrics.json").read_text()) == {k: v for k, v in summary.items() if k != "files"}
    found = clips_in(out / "frames")
    px = {
        name: apart_px(out, motion_teacher, np.array(found.frames[[row for clip in some for row in found.rows(clip)]]))
        for name, some in found.grouped(found.chosen(held_out=True))
    }
    assert {row["clip"]: row["crops"] for row in summary["clips"]} == {"clip1": 12, "clip2": 12, "2 stills": 2}
    for row in summary["clips"]:
        assert row[DISTANCE] == pytest.approx(px[row["clip"]].mean(), rel=1e-4)
        assert row[f"{DISTANCE}_share"] == pytest.approx(row[DISTANCE] / 64)
    every = np.concatenate(list(px.values()))
    assert summary["metrics"][DISTANCE] == pytest.approx(every.mean(), rel=1e-4)
    assert (summary["count"], summary["split"], len(summary["left_out"])) == (26, "held-out clips", 1)

    page, worst = page_of(out), max(px, key=lambda name: px[name].max())
    where = f"{worst}, frame {px[worst].argmax()}" if worst != "2 stills" else f"{px[worst].argmax()}.png, frame 0"
    for words in (
        f"{every.mean():.2f} px",
        f"{100 * every.mean() / 64:.2f} % of the input's side",
        f"From {every.max():.2f} px ({where}) to ",
        f"to {np.sort(every)[-12]:.2f} px",
        "12 of 26 scored crops",
        "Clip by clip",
        "2 stills",
        "bad.mp4",
        "chose the epoch",
        str(motion_teacher.path),
        motion_teacher.fingerprint,
        "distillation.loss",
        *(scoring.MEANINGS[name] for name in summary["metrics"]),
        "Named losses",
        ">attention<",
        "Distance to the teacher",
        "Loss L1 on scored crops",
        "Learning rate",
    ):
        assert words in page, words
    assert "motion.clips.held_out" in page
    assert "motion.perceptual_weight" not in page, "nothing was learnt without labels here"
    own, theirs = (
        sum(value.numel() for value in each.parameters()) for each in (detectors.load(out)[0], motion_teacher.detector)
    )
    assert f"{own:,}" in page
    assert f"{theirs:,}, {theirs / own:.1f} times as many" in page
    for name in ("points", "worst"):
        picture = cv2.imread(str(out / "pictures" / f"{name}.png"))
        assert picture is not None
        assert picture.shape[1] > 4 * 208
        assert picture.shape[0] > 6 * 156, "twelve pairs, two in a row"
    assert set(summary["files"]) == {"model", "history", "figures", "report", "pictures"}
    assert all(Path(path).exists() for path in summary["files"].values())


def test_a_student_that_is_its_teacher_is_0_px_away(motion_teacher: Teacher, clips: Path, tmp_path: Path):
    """Both halves of each pair show the same then."""
    recipe = recipe_of(motion_teacher)
    own = material_of(Source(clips), tmp_path / "run", recipe, motion_teacher)
    distances = scoring.Distances(Asked(motion_teacher.detector), motion_teacher.offer, motion_teacher.offer, None)
    scored = report.score(motion_teacher.detector, own, distances, own.scored.loader(recipe.size, 5))
    assert scored.figures[DISTANCE] == 0
    assert [crop.row for crop in scored.evenly] == list(range(24, 36))
    skeleton = motion_teacher.detector.spec.skeleton
    one = scored.evenly[6]
    sheet = report.pair(one, skeleton)
    width = sheet.shape[1] // 2
    tile = pictures.crop_with_points(own.scored.instances(recipe.size).images.read(30), one.student_unit, skeleton)
    for left in (0, width):
        np.testing.assert_array_equal(sheet[: len(tile), left : left + tile.shape[1]], tile)


def test_the_page_of_labelled_crops(distill: Any, blob_teacher: Teacher, blobs: Path, tmp_path: Path):
    out = tmp_path / "run"
    summary, _ = distill(blob_teacher, blobs, out, student="test_efficientnet", epochs=1)
    page = page_of(out)
    assert (summary["split"], summary["count"], summary["clips"]) == ("val", 16, [])
    assert "Clip by clip" not in page
    for name in ("nme", "teacher_nme"):
        assert f"{number_text(summary['metrics'][name])}</div>" in page
    truth, _ = annotations.load(blobs, "val")
    names = [Path(truth.images.name(row)).name for row in range(16)]
    assert any(f"px ({name}) to" in page for name in names), "named as val has it"
    distill(blob_teacher, blobs, tmp_path / "alone", loss="none", student="test_efficientnet", epochs=1)
    assert "learnt without the teacher" in page_of(tmp_path / "alone")
    assert "learnt without the teacher" not in page


# ------------------------------------------------------------------------------------------------ without the teacher


def test_by_labels_alone(distill: Any, blob_teacher: Teacher, blobs: Path, tmp_path: Path):
    out = tmp_path / "run"
    summary, _ = distill(blob_teacher, blobs, out, loss="none", student="test_efficientnet")
    rows = history.read(out / "history.csv")
    assert {"train/smooth_l1", "val/nme", f"val/{DISTANCE}"} <= set(rows[0])
    least = min(row["val/nme"] for row in rows)
    assert summary["metrics"]["nme"] == pytest.approx(least, rel=1e-5), "its epoch is chosen by labels"


def test_by_motion_alone_in_as_many_steps(distill: Any, motion_teacher: Teacher, clips: Path, tmp_path: Path):
    settings = [
        "motion.generator.width=4",
        "motion.generator.widest=8",
        "motion.generator.residuals=1",
        "motion.generator.dense_motion.width=4",
        "motion.generator.dense_motion.widest=8",
        "motion.generator.dense_motion.blocks=2",
        "motion.scales=[1,0.5]",
    ]
    summary, _ = distill(motion_teacher, Source(clips), tmp_path / "run", *settings, loss="none", epochs=2)
    assert "equivariance_px" in summary["metrics"]
    assert DISTANCE not in summary["metrics"], "its points are its own"
    steps = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=False)["global_step"]
    assert steps == 2 * (24 // 8)


def test_nothing_to_learn_from(distill: Any, blob_teacher: Teacher, clips: Path, tmp_path: Path):
    with pytest.raises(UserError, match="--loss none: there is nothing to learn from"):
        distill(blob_teacher, clips, tmp_path / "run", loss="none", student="test_efficientnet")


# ------------------------------------------------------------------------------------------------------- resuming


def arguments(teacher: Path, data: Path, out: Path, *more: str) -> list[str]:
    """As users type it, with the default's loader processes."""
    shape = options([*FIXED, "pretrained=no"], student="hourglass_w8_b2_m8_s2", loss="L3", epochs=5, batch_size=8)
    return ["distill", "--teacher", str(teacher), str(data), "--out", str(out), *shape, *more]


@pytest.fixture(scope="module")
def runs(motion_teacher: Teacher, clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("resume")
    return both_runs(lambda out, *more: arguments(motion_teacher.path, clips, out, *more), SOME, folder)


@pytest.fixture(scope="module")
def whole(runs: Runs) -> Path:
    """A run that nothing happened to."""
    return runs.whole


# Three steps an epoch.
SOME = [("begun", 1, "SIGKILL"), ("step", 4, "SIGINT"), ("writing", 2, "SIGKILL")]
MORE = [
    ("writing", 1, "SIGKILL"),
    ("step", 2, "SIGTERM"),
    ("step", 4, "SIGKILL"),
    ("between", 2, "SIGKILL"),
    ("validation", 1, "SIGKILL"),
    ("step", 7, "SIGINT"),
    ("between", 3, "SIGKILL"),
    ("trained", 1, "SIGKILL"),
]


def test_ended_and_resumed_a_run_ends_with_the_same_bits(runs: Runs):
    assert_ended_as_told(runs.told, SOME)
    assert_the_same_run(runs.whole, runs.ended)


@pytest.mark.long
@pytest.mark.parametrize("cache", ["true", "false"])
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_ended_anywhere(motion_teacher: Teacher, clips: Path, tmp_path: Path, workers: int, cache: str):
    setting = ["--set", f"workers={workers}", "--set", f"distillation.cache={cache}"]
    made = both_runs(lambda out, *more: arguments(motion_teacher.path, clips, out, *setting, *more), MORE, tmp_path)
    assert_ended_as_told(made.told, MORE)
    assert_the_same_run(made.whole, made.ended)


def test_what_a_run_is_not_resumed_with(run: Any, motion_teacher: Teacher, clips: Path, whole: Path, tmp_path: Path):
    code, _, err = run(*arguments(motion_teacher.path, clips, whole, "--resume", "--seed", "3"))
    assert (code, "seed was 0 and is now 3" in err) == (2, True), err
    other = saved(detector_of(seed=8), tmp_path / "other")
    code, _, err = run(*arguments(other.path, clips, whole, "--resume"))
    assert (code, "resumed with the teacher that it began with" in err) == (2, True), err


def test_figures_as_json(run: Any, motion_teacher: Teacher, clips: Path, tmp_path: Path):
    code, out, err = run(
        *arguments(motion_teacher.path, clips, tmp_path / "json", "--epochs", "1", "--set", "workers=0", "--json", "-")
    )
    assert code == 0, err
    assert json.loads(out.splitlines()[-1])["loss"] == "L3"


def test_the_answers_of_another_run_are_used(distill: Any, motion_teacher: Teacher, clips: Path, tmp_path: Path):
    """A study's arms share them; what is learnt is the same as with answers of their own."""
    first, _ = distill(motion_teacher, Source(clips), tmp_path / "first", loss="L3")
    second = tmp_path / "second"
    second.mkdir()
    for name in ("teacher", "frames"):
        (second / name).symlink_to(tmp_path / "first" / name)
    stamp = (tmp_path / "first" / "teacher" / "train" / "index.json").stat().st_mtime_ns
    again, _ = distill(motion_teacher, Source(clips), second, loss="L3")
    assert again["metrics"] == first["metrics"]
    assert (tmp_path / "first" / "teacher" / "train" / "index.json").stat().st_mtime_ns == stamp


# ---------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"loss": "L9"}, "--loss 'L9': expected L1, L2, L3, KL, none"),
        ({"student": None}, "--student: missing"),
        ({"student": "squeeze_une"}, "Did you mean 'squeeze_unet'"),
        ({"size": "64x64"}, "the teacher looks at 64x48; expected the same shape"),
        ({"set": "padding=1.3"}, "boxes are enlarged by 1.0; expected the same"),
        ({"set": "points=[0,1]"}, "all of them"),
        ({"set": "augment.rotation_degrees=5"}, None),  # with a probability of 0 nothing turns
        ({"set": "augment.shift=0.1"}, "augment.shift moves the crops.*cache=false"),
        ({"set": "augment.flip=0.5"}, "augment.flip moves the crops"),
        ({"set": "distillation.heatmap=1"}, "Did you mean 'heatmaps'"),
        ({"method": "deeppose", "loss": "L2"}, "Possible for this pair: L1"),
        ({"method": "heatmp"}, "Did you mean 'heatmap'"),
    ],
)
def test_what_can_not_be_is_told_before_anything_is_made(
    motion_teacher: Teacher, clips: Path, tmp_path: Path, changes: dict[str, Any], words: str | None
):
    options = {"loss": "L1", "student": "hourglass_w8_b2_m8_s2", "method": None, **changes}
    setting = options.pop("set", None)

    def run() -> None:
        recipe = recipe_of(motion_teacher, *([setting] if setting else []), epochs=1, **options)
        workflow.distill(motion_teacher, Source(clips), tmp_path / "run", recipe)

    if words is None:
        run()
        return
    with pytest.raises(UserError, match=words):
        run()
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_taken(distill: Any, motion_teacher: Teacher, clips: Path, tmp_path: Path):
    with pytest.raises(UserError, match="is the teacher's folder"):
        distill(motion_teacher, Source(clips), motion_teacher.path)
    distill(motion_teacher, Source(clips), tmp_path / "run", epochs=1)
    with pytest.raises(UserError, match="holds a run already"):
        distill(motion_teacher, Source(clips), tmp_path / "run", epochs=1)
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.json").write_text("{}")
    with pytest.raises(UserError, match="holds a study"):
        distill(motion_teacher, Source(clips), tmp_path / "study", epochs=1)
    with pytest.raises(UserError, match="no run to resume"):
        distill(motion_teacher, Source(clips), tmp_path / "none", resume=True)
    with pytest.raises(UserError, match="no such file or folder"):
        distill(motion_teacher, tmp_path / "nowhere", tmp_path / "other")


def test_what_nobody_chose_is_planned_by_the_number_of_pictures(
    blob_teacher: Teacher, blobs: Path, tmp_path: Path
) -> None:
    """Steps, not epochs: 60 epochs of few pictures are few steps. What is chosen stays."""
    recipe = recipe_of(blob_teacher, student="test_efficientnet", loss="none")
    chosen = workflow.preparation(blob_teacher, Source(blobs), ("epochs", "batch_size"))
    assert chosen(recipe, tmp_path / "chosen", True).recipe == recipe
    work = workflow.preparation(blob_teacher, Source(blobs), ())(recipe, tmp_path / "planned", True)
    assert work.recipe.batch_size == 16
    assert plan.steps_of(work.recipe, work.samples) >= 0.9 * min(plan.LEAST_STEPS, plan.STEPS_EACH * work.samples)
    assert {choice.setting for choice in work.beside["plan"]} == {"batch_size", "epochs", "passes"}
