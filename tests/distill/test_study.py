"""Article B's experiment on a toy: what is tried, what fails, what is said."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distill.small import SETTINGS

from fiducial.comparison import processes
from fiducial.comparison.distillation import arms as plans
from fiducial.comparison.distillation import results
from fiducial.comparison.distillation import study as studies
from fiducial.comparison.distillation.arms import Arm, Study
from fiducial.comparison.distillation.measures import Measured
from fiducial.comparison.processes import Task
from fiducial.distill.scoring import DISTANCE
from fiducial.distill.teacher import Teacher
from fiducial.errors import UserError
from fiducial.geometry import Size

TINY_GENERATOR = (
    "motion.generator.width=4", "motion.generator.widest=8", "motion.generator.residuals=1", "motion.scales=[1]",
    "motion.generator.dense_motion.width=4", "motion.generator.dense_motion.widest=8",
    "motion.generator.dense_motion.blocks=2",
)  # fmt: skip


def plan(teacher: Path, data: Path, **more: Any) -> Study:
    own: dict[str, Any] = {
        "losses": ("L1", "L2"), "seeds": 1, "options": (("epochs", "1"), ("batch-size", "8")),
        "settings": (*SETTINGS, *TINY_GENERATOR), **more,
    }  # fmt: skip
    return Study(teacher, data, "hourglass_w8_b2_m8_s2", **own)


# ---------------------------------------------------------------------------------------------------- a whole one


def test_a_study_runs_and_a_failing_arm_does_not_stop_it(motion_teacher: Teacher, clips: Path, tmp_path: Path):
    out, lines = tmp_path / "study", []
    broken = out / "runs" / "L2-random-s0"
    broken.mkdir(parents=True)
    (broken / "recipe.json").write_text("{}")
    mine = plan(motion_teacher.path, clips)
    figures = studies.study(mine, out, losses=("L1", "L2"), echo=lines.append)
    assert list(figures["failures"]) == ["L2-random-s0"]
    assert {row["name"] for row in figures["rows"]} == {"L1, random", "without the teacher"}
    assert any("initialisations are not compared" in line for line in lines)
    shutil.rmtree(broken)

    again: list[str] = []
    figures = studies.study(mine, out, losses=("L1", "L2"), echo=again.append)
    assert "2 of 3 runs are finished already" in again
    assert figures["failures"] == {}
    assert json.loads((out / "results.json").read_text())["rows"] == figures["rows"]
    rows = list(csv.DictReader((out / "results.csv").open()))
    assert {row["arm"] for row in rows} == {"L1-random-s0", "L2-random-s0", "without_teacher-s0"}
    control = next(row for row in figures["rows"] if row["loss"] == "none")
    assert DISTANCE not in control["metrics"], "its points are its own"
    assert control["alone"]["equivariance_px"] > 0
    page = (out / "report.html").read_text()
    for text in ("the AKD published with the First-Order-Motion model is another measure", "found points of its own",
                 "L2, random against L1, random", "Points side by side", "fiducial distill --teacher"):  # fmt: skip
        assert text in page, text
    assert (out / "runs" / "L1-random-s0" / "teacher").is_symlink(), "the teacher is asked once for all"
    with pytest.raises(UserError, match="holds another study: options was"):
        studies.study(replace(mine, options=(("epochs", "2"),)), out, losses=("L1",))


# -------------------------------------------------------------------------------------------------- what is tried


def test_arms_are_losses_times_starts_times_seeds_and_the_control(tmp_path: Path):
    own = plan(tmp_path, tmp_path, losses=("L1", "L3"), seeds=2, transfer=tmp_path / "weights", first_seed=5)
    arms = own.arms(with_control=True)
    assert [arm.name for arm in arms[:5]] == [
        "L1-random-s5", "L1-transfer-s5", "L3-random-s5", "L3-transfer-s5", "without_teacher-s5",
    ]  # fmt: skip
    assert len(arms) == len({arm.name for arm in arms}) == 10
    assert [arm.kind for arm in arms[:2]] == ["L1, random", "L1, transferred"]
    assert len(own.arms(with_control=False)) == 8
    assert len(replace(own, transfer=None).arms(with_control=False)) == 4


def test_an_arm_is_a_command(tmp_path: Path):
    own = plan(
        tmp_path / "t", tmp_path / "d", transfer=tmp_path / "w", settings=("head.kernel=5",), images=tmp_path / "i"
    )
    task = plans.task_of(own, tmp_path / "out", Arm("L3", "transfer", 2))
    text = task.command
    for part in ("fiducial distill --teacher", "--student hourglass_w8_b2_m8_s2", "--loss L3", f"--init {tmp_path / 'w'}",
                 "--seed 2", "--epochs 1", "--set head.kernel=5", "--set precision=fp32", "--set pretrained=no", "--images"):  # fmt: skip
        assert part in text, part
    assert "--resume" not in text
    assert "--init" not in plans.task_of(own, tmp_path / "out", Arm("L3", "random", 2)).command
    task.folder.mkdir(parents=True)
    (task.folder / "recipe.json").write_text("{}")
    assert plans.task_of(own, tmp_path / "out", Arm("L3", "transfer", 2)).arguments[-1] == "--resume"
    fitted = plans.pretraining_of(own, tmp_path / "out", "64x48", "heatmap").command
    assert "--method heatmap" in fitted
    assert "head.kernel" not in fitted, "another method's"


def test_a_study_grows_but_does_not_change(tmp_path: Path):
    own = plan(tmp_path, tmp_path)
    plans.keep(tmp_path / "out", own, "print")
    plans.keep(tmp_path / "out", replace(own, seeds=5, losses=("L3",), transfer=tmp_path), "print")
    for changed, words in ((replace(own, student="squeeze_unet"), "student"), (replace(own, settings=()), "settings")):
        with pytest.raises(UserError, match=f"holds another study: {words}"):
            plans.keep(tmp_path / "out", changed, "print")
    with pytest.raises(UserError, match="teacher was print and is now other"):
        plans.keep(tmp_path / "out", own, "other")


def test_losses_and_weights_are_looked_at_before_anything_is_trained(
    blob_model: Path, motion_teacher: Teacher, clips: Path, tmp_path: Path
):
    assert plans.losses_of("L1, L3,L1") == ("L1", "L3")
    assert plans.losses_of(None) is None
    with pytest.raises(UserError, match="--losses 'L4'"):
        plans.losses_of("L4")
    own = plan(motion_teacher.path, clips, transfer=blob_model)
    with pytest.raises(UserError, match=r"is of backbone 'mobilenetv3_small_050'; expected the student's"):
        studies.study(own, tmp_path / "out", losses=("L1",))
    with pytest.raises(UserError, match=r"--losses: L2: .*Possible for this pair: L1"):
        studies.study(replace(own, transfer=None, method="deeppose"), tmp_path / "out", losses=("L1", "L2"))
    assert not (tmp_path / "out").exists() or not (tmp_path / "out" / "runs").exists()


# -------------------------------------------------------------------------------------------------- what is said


def measured(loss: str, start: Any, seed: int, px: np.ndarray | None, nme: np.ndarray | None = None) -> Measured:
    errors = {name: value for name, value in ((DISTANCE, px), ("nme", nme)) if value is not None}
    history = [{"epoch": i, "seconds": 2.0, f"val/{DISTANCE}": 3.0 + (-1) ** i * 0.1 * seed} for i in range(4)]
    alone = {"equivariance_px": 1.0, "spread": 0.2, "nearest": 0.1, "occupancy": 0.9, "moving": 1.0}
    return Measured(Arm(loss, start, seed), errors, alone, np.zeros((1, 3, 2)), 1000, history, 3, Size(100, 50))


def test_verdicts_are_differences_in_words():
    base = np.random.default_rng(0).uniform(0.5, 1.5, 200)
    runs = [
        *(measured("L1", "random", seed, base + 0.01 * seed) for seed in range(3)),
        *(measured("L2", "random", seed, base + 0.005 + 0.01 * (seed - 1)) for seed in range(3)),
        *(measured("L3", "random", seed, base + 0.5 + 0.01 * seed) for seed in range(3)),
        *(measured("L1", "transfer", seed, base - 0.2 + 0.01 * seed) for seed in range(3)),
        *(measured("none", "random", seed, None) for seed in range(3)),
    ]
    rows = results.rows_of(runs)
    assert [row.name for row in rows] == [
        "L1, transferred", "L2, random", "L1, random", "L3, random", "without the teacher",
    ]  # fmt: skip
    said = {f"{each.name}|{each.other}": each.words for each in results.verdicts(rows)}
    assert said["L2, random|L1, random"].startswith("L2, random against L1, random: -0.01 px (")
    assert said["L2, random|L1, random"].endswith("no difference beyond noise with 3 seeds")
    assert said["L3, random|L1, random"].endswith("farther from the teacher beyond noise with 3 seeds")
    assert said["L1, transferred|L1, random"].startswith(
        "L1, transferred against L1, random: -0.20 px (-0.20 to -0.20)"
    )
    assert said["L1, transferred|L1, random"].endswith("nearer to the teacher beyond noise with 3 seeds")
    assert set(said) == {"L2, random|L1, random", "L3, random|L1, random", "L1, transferred|L1, random"}
    words = results.answer(rows, results.verdicts(rows))
    assert (
        words[0]
        == f"Nearest to its teacher: L1, transferred weights, {base.mean() - 0.19:.2f} px ({base.mean() - 0.19:.2f} % of the side)."
    )
    assert rows[2].unsteadiness_px == pytest.approx(0.2)


def test_each_loss_is_held_against_l1_from_the_same_start():
    base = np.random.default_rng(0).uniform(0.5, 1.5, 50)
    kinds = [("L1", "random"), ("L1", "transfer"), ("L3", "random"), ("L3", "transfer")]
    runs = [measured(loss, start, 0, base + 0.1 * i) for i, (loss, start) in enumerate(kinds)]
    found = results.verdicts(results.rows_of(runs))
    assert {(each.name, each.other) for each in found} == {
        ("L3, random", "L1, random"), ("L3, transferred", "L1, transferred"), ("L1, transferred", "L1, random"),
        ("L3, transferred", "L3, random"),
    }  # fmt: skip


def test_against_no_teacher_where_there_are_labels():
    base = np.random.default_rng(0).uniform(0.5, 1.5, 100)
    rows = results.rows_of(
        [measured("L1", "random", 0, base, base / 50), measured("none", "random", 0, base + 1, base / 50 + 0.01)]
    )
    said = [each.words for each in results.verdicts(rows)]
    assert [text.partition(":")[0] for text in said] == ["L1, random against without the teacher"] * 2
    assert "-1.00 px" in said[0]
    assert "-1.00 % NME" in said[1]
    assert "with one seed each another seed may turn it round" in said[1]


# ------------------------------------------------------------------------------------------------------ processes


def test_commands_run_on_whatever_becomes_of_others(tmp_path: Path):
    lines: list[str] = []
    tasks = [Task("bad", tmp_path / "bad", ("nonsense",)), Task("good", tmp_path / "good", ("--version",))]
    board = processes.Lines(2, lambda task: "done" if task.name == "good" else "", jobs=2, echo=lines.append)
    processes.run_all(tasks, board, jobs=2)
    assert list(board.failures) == ["bad"]
    assert "nonsense" in board.failures["bad"]
    assert any(line.endswith("] good: done, 0 s") or "good: done" in line for line in lines)
    assert "$ fiducial --version" in (tmp_path / "good" / "log.txt").read_text()
    with (
        processes.alone(tmp_path),
        pytest.raises(UserError, match="another command is at work"),
        processes.alone(tmp_path),
    ):
        pass
