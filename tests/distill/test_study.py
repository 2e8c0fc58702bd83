"""Losses and initialisations compared on a toy: what is tried, what fails, what is said."""

from __future__ import annotations

import csv
import json
import re
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from distill.small import SETTINGS
from heard import heard

from fiducial import cli
from fiducial.comparison import by_teacher, runs, students, table, train, workflow
from fiducial.comparison.cells import Plan
from fiducial.comparison.costs import VariantCost
from fiducial.comparison.places import Places
from fiducial.comparison.students import Study
from fiducial.comparison.table import Row
from fiducial.data.source import Source
from fiducial.distillation.scoring import DISTANCE
from fiducial.distillation.teacher import Teacher
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.runtime.cost import Cost
from fiducial.training.recipe import Recipe

TINY_GENERATOR = (
    "motion.generator.width=4",
    "motion.generator.widest=8",
    "motion.generator.residuals=1",
    "motion.scales=[1]",
    "motion.generator.dense_motion.width=4",
    "motion.generator.dense_motion.widest=8",
    "motion.generator.dense_motion.blocks=2",
)


def asked(teacher: Path, data: Path | Source, **more: Any) -> Study:
    chosen: dict[str, Any] = {"losses": ("L1", "L2"), "seeds": 1, "options": {"epochs": 1, "batch_size": 8}}
    chosen |= {"settings": (*SETTINGS, *TINY_GENERATOR), **more}
    return Study(teacher=teacher, data=Source.of(data), student="hourglass_w8_b2_m8_s2", **chosen)


def plan_of(study: Study, teacher: Teacher, out: Path = Path("out"), *, with_control: bool = True) -> Plan:
    assert study.losses is not None
    return students.plan_of(study, teacher, study.losses, out, with_control=with_control)


# ---------------------------------------------------------------------------------------------------- a whole one


def test_a_study_runs_and_a_failing_run_does_not_stop_it(motion_teacher: Teacher, clips: Path, tmp_path: Path):
    out = tmp_path / "study"
    broken = out / "runs" / "L2-random-s0"
    broken.mkdir(parents=True)
    (broken / "recipe.json").write_text("{}")
    mine = asked(motion_teacher.path, clips)
    with heard() as lines:
        figures = workflow.study(mine, out, places=Places(2))
    assert list(figures["failures"]) == ["L2-random-s0"]
    assert {row["name"] for row in figures["rows"]} == {"L1, random", "without the teacher"}
    assert any("initialisations are not compared" in line for line in lines)
    assert any(re.match(r"\[\d of 3\] L1-random-s0: .* px from the teacher, ", line) for line in lines)
    shutil.rmtree(broken)

    with heard() as again:
        figures = workflow.study(mine, out)
    assert "2 of 3 runs are finished already" in again
    assert figures["failures"] == {}
    assert json.loads((out / "results.json").read_text())["rows"] == figures["rows"]
    rows = list(csv.DictReader((out / "results.csv").open()))
    assert {row["arm"] for row in rows} == {"L1-random-s0", "L2-random-s0", "without_teacher-s0"}
    by_run = {run["arm"]: run[DISTANCE] for row in figures["rows"] for run in row["runs"] if DISTANCE in run}
    assert {row["arm"]: float(row[DISTANCE]) for row in rows if row[DISTANCE]} == pytest.approx(by_run)
    control = next(row for row in figures["rows"] if row["loss"] == "none")
    assert DISTANCE not in control["metrics"], "its points are its own"
    assert control["alone"]["equivariance_px"] > 0
    assert [row[""] for row in by_teacher.short_table(figures)] == [row["name"] for row in figures["rows"]]
    page = re.sub("</?span>", "", (out / "report.html").read_text())  # where a command's line may not break
    for text in (
        "not the AKD that is published with the First-Order-Motion model",
        "found points of its own",
        "L2, random against L1, random",
        "Points side by side",
        "fiducial distill --teacher",
        "Distance to the teacher",
        "Without comparing",
    ):
        assert text in page, text
    for text in ("Disturbed boxes", "Accuracy against time", "Where methods disagree"):
        assert text not in page, f"{text}: not measured"
    assert (out / "runs" / "L1-random-s0" / "teacher").is_symlink(), "the teacher is asked once for all"
    with pytest.raises(UserError, match="holds another study: epochs was 1 and is now 2"):
        workflow.study(replace(mine, losses=("L1",), options={"epochs": 2, "batch_size": 8}), out)


# -------------------------------------------------------------------------------------------------- what is tried


def test_cells_are_losses_times_starts_times_seeds_and_the_control(motion_teacher: Teacher, tmp_path: Path):
    own = asked(motion_teacher.path, tmp_path, losses=("L1", "L3"), seeds=2, transfer=tmp_path / "w", first_seed=5)
    cells = plan_of(own, motion_teacher).cells
    assert [cell.name for cell in cells[:5]] == [
        "L1-random-s5",
        "L1-transfer-s5",
        "L3-random-s5",
        "L3-transfer-s5",
        "without_teacher-s5",
    ]
    assert len(cells) == len({cell.folder for cell in cells}) == 10
    assert [cell.label for cell in cells[:2]] == ["L1, random", "L1, transferred"]
    assert [students.kind_of(cell.label)["start"] for cell in cells[:2]] == ["random", "transfer"]
    assert {cell.recipe.precision for cell in cells} == {"fp32"}, "none is to have another one's rounding"
    assert len(plan_of(own, motion_teacher, with_control=False).cells) == 8
    assert len(plan_of(replace(own, transfer=None), motion_teacher, with_control=False).cells) == 4


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"options": {"epochs": 7, "lr": "auto", "size": "128x96"}, "settings": ("head.kernel=5", "workers=3")},
        {"settings": ("distillation.cache=false", "augment.shift=0.3", "precision=bf16", "distillation.heatmaps=2")},
        {"method": "deeppose", "settings": ("head.dropout=0.25", "augment.blur=0.5")},
    ],
)
def test_the_command_of_a_cell_gives_its_recipe(
    more: dict[str, Any], motion_teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Typed by a user, or run for the study, it is the same recipe to the last setting."""
    source = Source(tmp_path, tmp_path, "a b")
    own = asked(motion_teacher.path, source, transfer=tmp_path / "w", **more)
    given: list[tuple[Source, Recipe, dict[str, Any]]] = []
    monkeypatch.setattr(
        "fiducial.api.distill.train_student", lambda t, data, out, recipe, **more: given.append((data, recipe, more))
    )
    for cell in plan_of(own, motion_teacher).cells:
        assert cell.command[0] == "distill"
        typer.main.get_command(cli.app).main([*cell.command, "--out", str(tmp_path / "run")], standalone_mode=False)
        data, recipe, options = given[-1]
        assert (data, recipe) == (source, cell.recipe)
        assert options["resume"] is False


def test_a_begun_run_is_resumed_and_pre_training_has_no_setting_of_the_student(motion_teacher: Teacher, tmp_path: Path):
    own = asked(motion_teacher.path, tmp_path, pretrain_on=tmp_path / "faces", settings=("head.kernel=5", "workers=1"))
    cell = plan_of(own, motion_teacher, tmp_path / "out").cells[1]
    assert cell.recipe.init == str(tmp_path / "out" / "pretrained")
    assert f"--init {tmp_path / 'out' / 'pretrained'}" in cell.typed(tmp_path / "out")
    assert "--resume" not in train.arguments_of(cell, tmp_path / "out")
    (tmp_path / "out" / cell.folder).mkdir(parents=True)
    (tmp_path / "out" / cell.folder / "recipe.json").write_text("{}")
    assert train.arguments_of(cell, tmp_path / "out")[-1] == "--resume"
    first = students.pretraining_of(own, motion_teacher)
    assert (first.recipe.method, first.recipe.size, first.recipe.workers) == ("heatmap", (64, 48), 1)
    assert first.recipe.head == {}, "the student's are another method's"
    assert first.command[:2] == ("fit", str(tmp_path / "faces"))


def test_a_study_grows_but_does_not_change(motion_teacher: Teacher, tmp_path: Path):
    own, out = asked(motion_teacher.path, tmp_path), tmp_path / "out"

    def keep(study: Study, teacher: Teacher = motion_teacher) -> None:
        students.keep(out, study, teacher, plan_of(study, teacher, out))

    keep(own)
    larger = replace(own, seeds=5, losses=("L3",), transfer=tmp_path)
    keep(larger)
    kept = (out / "study.json").read_bytes()
    assert {"L1-random-s0", "L3-transfer-s4"} <= json.loads(kept)["cells"].keys(), "what is left out stays"
    for changed, words in (
        (replace(larger, student="squeeze_unet"), "student was hourglass_w8_b2_m8_s2 and is now squeeze_unet"),
        (replace(larger, settings=()), "memory_format was contiguous and is now auto"),
        (replace(larger, options={"epochs": 3, "batch_size": 8}), "epochs was 1 and is now 3"),
        (own, "transfer was "),
    ):
        with pytest.raises(UserError, match=f"holds another study: .*{words}"):
            keep(changed)
    with pytest.raises(UserError, match=r"teacher was .* and is now other"):
        keep(larger, replace(motion_teacher, fingerprint="other"))
    assert (out / "study.json").read_bytes() == kept


def test_a_study_that_was_begun_before_cells_had_recipes_goes_on(motion_teacher: Teacher, tmp_path: Path):
    own, out = asked(motion_teacher.path, tmp_path), tmp_path / "out"
    then = {
        "teacher": motion_teacher.fingerprint,
        "data": str(tmp_path.resolve()),
        "student": own.student,
        "method": None,
        "options": {"epochs": "1", "batch-size": "8"},
        "settings": list(own.settings),
        "category": None,
        "transfer": None,
        "pretrain_on": None,
        "first_seed": 0,
    }
    out.mkdir()
    for study, words in (
        (replace(own, options={"epochs": 2, "batch_size": 8}), "epochs was 1 and is now 2"),
        (own, ""),
    ):
        (out / "study.json").write_text(json.dumps(then))
        with pytest.raises(UserError, match=words) if words else nullcontext():
            students.keep(out, study, motion_teacher, plan_of(study, motion_teacher, out))


def test_losses_and_weights_are_looked_at_before_anything_is_trained(
    blob_model: Path, motion_teacher: Teacher, clips: Path, tmp_path: Path
):
    assert students.losses_of("L1, L3,L1") == ("L1", "L3")
    assert students.losses_of(None) is None
    with pytest.raises(UserError, match="--losses 'L4'"):
        students.losses_of("L4")
    own = asked(motion_teacher.path, clips, transfer=blob_model)
    with pytest.raises(UserError, match=r"is of backbone 'test_efficientnet'; expected the student's"):
        workflow.study(replace(own, losses=("L1",)), tmp_path / "out")
    with pytest.raises(UserError, match=r"--losses: L2: .*Possible for this pair: L1"):
        workflow.study(replace(own, transfer=None, method="deeppose"), tmp_path / "out")
    assert not (tmp_path / "out").exists() or not (tmp_path / "out" / "runs").exists()


# -------------------------------------------------------------------------------------------------- what is said


def row(label: str, px: list[np.ndarray] | None, nme: list[np.ndarray] | None = None, tmp: Path = Path("none")) -> Row:
    """A measured row with a run of each seed."""
    errors = {name: np.stack(value) for name, value in ((DISTANCE, px), ("nme", nme)) if value is not None}
    seeds = max(map(len, errors.values()), default=1)
    found = [runs.Run(f"{label}{seed}", tmp / str(seed), None, None, None) for seed in range(seeds)]  # type: ignore[arg-type]
    return Row(
        name=label,
        variant=runs.Variant(label, "b", Size(100, 50), tuple(found)),
        errors=errors,
        cost=VariantCost(Cost(1000, None, 0), {}),
    )


def test_contrasts_are_differences_in_words():
    base = np.random.default_rng(0).uniform(0.5, 1.5, 200)
    rows = [
        row("L1, random", [base + 0.01 * seed for seed in range(3)]),
        row("L2, random", [base + 0.005 + 0.01 * (seed - 1) for seed in range(3)]),
        row("L3, random", [base + 0.5 + 0.01 * seed for seed in range(3)]),
        row("L1, transferred", [base - 0.2 + 0.01 * seed for seed in range(3)]),
        row("without the teacher", None),
    ]
    rows = table.ranked(rows, by_teacher.PX)
    assert [row.name for row in rows] == [
        "L1, transferred",
        "L2, random",
        "L1, random",
        "L3, random",
        "without the teacher",
    ]
    contrasts = by_teacher.contrasts_of(rows)
    said = {f"{each.name}|{each.other}": each.words for each in contrasts}
    assert said["L2, random|L1, random"].startswith("L2, random against L1, random: -0.01 px (")
    assert said["L2, random|L1, random"].endswith("no difference beyond noise with 3 seeds")
    assert said["L3, random|L1, random"].endswith("farther from the teacher beyond noise with 3 seeds")
    assert said["L1, transferred|L1, random"].startswith(
        "L1, transferred against L1, random: -0.20 px (-0.20 to -0.20)"
    )
    assert said["L1, transferred|L1, random"].endswith("nearer to the teacher beyond noise with 3 seeds")
    assert set(said) == {"L2, random|L1, random", "L3, random|L1, random", "L1, transferred|L1, random"}
    px = f"{base.mean() - 0.19:.2f}"
    words = by_teacher.answer(rows, contrasts)[0]
    assert words == f"Nearest to its teacher: L1, transferred weights, {px} px ({px} % of the side)."


def test_unsteadiness_is_of_the_second_half_of_training(tmp_path: Path):
    for seed in range(3):
        (tmp_path / str(seed)).mkdir()
        lines = [f"{i},2,{3.0 + (-1) ** i * 0.1 * seed}" for i in range(4)]
        (tmp_path / str(seed) / "history.csv").write_text("\n".join([f"epoch,seconds,val/{DISTANCE}", *lines]))
    own = row("L1, random", [np.zeros(2)] * 3, tmp=tmp_path).variant
    without = row("L1, random", [np.zeros(2)], tmp=tmp_path / "none").variant
    assert own is not None
    assert without is not None
    assert by_teacher.unsteadiness_px(own) == pytest.approx(0.2)
    assert own.training_seconds == pytest.approx(8)
    assert by_teacher.unsteadiness_px(without) is None


def test_each_loss_is_held_against_l1_from_the_same_start():
    base = np.random.default_rng(0).uniform(0.5, 1.5, 50)
    kinds = ("L1, random", "L1, transferred", "L3, random", "L3, transferred")
    contrasts = by_teacher.contrasts_of([row(kind, [base + 0.1 * i]) for i, kind in enumerate(kinds)])
    assert {(each.name, each.other) for each in contrasts} == {
        ("L3, random", "L1, random"),
        ("L3, transferred", "L1, transferred"),
        ("L1, transferred", "L1, random"),
        ("L3, transferred", "L3, random"),
    }


def test_against_no_teacher_where_there_are_labels():
    base = np.random.default_rng(0).uniform(0.5, 1.5, 100)
    rows = [row("L1, random", [base], [base / 50]), row("without the teacher", [base + 1], [base / 50 + 0.01])]
    said = [each.words for each in by_teacher.contrasts_of(rows)]
    assert [text.partition(":")[0] for text in said] == ["L1, random against without the teacher"] * 2
    assert "-1.00 px" in said[0]
    assert "-1.00 % NME" in said[1]
    assert "with one seed each another seed may turn it round" in said[1]
