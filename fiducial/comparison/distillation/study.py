"""Trains what is missing, measures everything on the same held-out crops, writes the page and its figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from fiducial import config, files
from fiducial.comparison import processes
from fiducial.comparison.distillation import arms as plans
from fiducial.comparison.distillation import measures, page, results
from fiducial.comparison.distillation.arms import Arm, Study, folder_of
from fiducial.comparison.processes import Lines, Task
from fiducial.comparison.run import is_finished
from fiducial.distill import choices, workflow
from fiducial.distill import teacher as teachers
from fiducial.distill.scoring import DISTANCE
from fiducial.distill.spec import TAUGHT
from fiducial.distill.teacher import Teacher
from fiducial.distill.workflow import Shared
from fiducial.errors import UserError
from fiducial.models import detector as detectors
from fiducial.report.page import write_page
from fiducial.training.recipe import Recipe
from fiducial.training.watch import TrainingFailure

Echo = Callable[[str], None]


def study(
    plan: Study, out: Path, *, losses: tuple[str, ...] | None = None, jobs: int | None = None, progress: bool = False,
    echo: Echo = print,
) -> dict[str, Any]:  # fmt: skip
    """Trains the arms that are not finished, writes OUT/report.html, results.json and results.csv; returns what
    results.json holds, and `files`. losses: None = all that the pair can have."""
    teacher = teachers.load(plan.teacher)
    options = {name.replace("-", "_"): _number(value) for name, value in plan.options}
    recipe = choices.recipe_of(teacher, plan.student, "L1", plan.method, options, ["pretrained=no", *plan.settings])
    offer, why_not = workflow.student_of(recipe, teacher, out, lambda line: None)
    plan = replace(plan, losses=_possible(losses, why_not, echo))
    plans.refuse_useless_weights(plan)
    with processes.alone(out):
        plans.keep(out, plan, teacher.fingerprint)
        shared = workflow.share(
            teacher, offer, plan.data, out, recipe, plan.losses, images=plan.images, category=plan.category,
            progress=progress, echo=echo,
        )  # fmt: skip
        notes = _left_out(plan, shared, teacher)
        for note in notes:
            echo(note)
        arms = plan.arms(with_control=_has_control(shared, teacher))
        failures = _train(plan, out, arms, teacher, recipe, jobs, echo)
        return _write(plan, out, arms, shared, teacher, recipe, failures, notes)


def _possible(asked: tuple[str, ...] | None, why_not: dict[str, str], echo: Echo) -> tuple[str, ...]:
    possible = tuple(loss for loss, reason in why_not.items() if not reason)
    impossible = [loss for loss in asked or TAUGHT if loss not in possible]
    if impossible and (asked is not None or not possible):
        raise UserError(
            f"--losses: {impossible[0]}: {why_not[impossible[0]]}. Possible for this pair: {', '.join(possible) or 'none'}"
        )
    for loss in impossible:
        echo(f"{loss} is left out: {why_not[loss]}")
    return tuple(loss for loss in asked or TAUGHT if loss in possible)


def _has_control(shared: Shared, teacher: Teacher) -> bool:
    return shared.material.truth is not None or teacher.detector.head.learns_without_labels


def _left_out(plan: Study, shared: Shared, teacher: Teacher) -> list[str]:
    """What of the article's experiment is not in this one."""
    lines = []
    if not plan.transfers:
        lines.append("initialisations are not compared: give --transfer WEIGHTS, or --pretrain-on a labelled set")
    if not _has_control(shared, teacher):
        lines.append(
            "what the student learns without the teacher is not there: the data have no labels of its points, and method "
            f"{teacher.detector.spec.method!r} needs some"
        )
    return lines


def _train(
    plan: Study, out: Path, arms: list[Arm], teacher: Teacher, recipe: Recipe, jobs: int | None, echo: Echo
) -> dict[str, str]:
    """Name -> why it failed."""
    waiting, failures = plans.unfinished(out, arms), {}
    if len(waiting) < len(arms):
        echo(f"{len(arms) - len(waiting)} of {len(arms)} runs are finished already")
    needs_weights = plan.transfer is None and any(arm.start == "transfer" for arm in waiting)
    if needs_weights and not is_finished(out / "pretrained"):
        method = "heatmap" if teacher.detector.head.learns_without_labels else recipe.method
        task = plans.pretraining_of(plan, out, str(recipe.size), method)
        echo(f"pre-training {plan.student} on {plan.pretrain_on}")
        failures = _run([task], 1, echo)
        if failures:
            reason = f"there are no weights to start from: {failures['pretrained']}"
            failures |= {arm.name: reason for arm in waiting if arm.start == "transfer"}
            waiting = [arm for arm in waiting if arm.start != "transfer"]
    for arm in waiting:
        plans.link(out, folder_of(out, arm))
    tasks = [plans.task_of(plan, out, arm) for arm in waiting]
    return failures | _run(tasks, processes.jobs_of(jobs, len(tasks)), echo)


def _run(tasks: list[Task], jobs: int, echo: Echo) -> dict[str, str]:
    board = Lines(len(tasks), _outcome, jobs, echo)
    processes.run_all(tasks, board, jobs)
    return board.failures


def _outcome(task: Task) -> str:
    """What a run has come to, "" where it has not finished."""
    if not is_finished(task.folder):
        return ""
    scores = detectors.load_card(task.folder).metrics["val"]
    if DISTANCE in scores:
        return f"{scores[DISTANCE]:.2f} px from the teacher"
    return f"val NME {100 * scores['nme']:.2f} %" if "nme" in scores else "learnt points of its own"


def _write(
    plan: Study, out: Path, arms: list[Arm], shared: Shared, teacher: Teacher, recipe: Recipe, failures: dict[str, str],
    notes: list[str],
) -> dict[str, Any]:  # fmt: skip
    finished = [arm for arm in arms if is_finished(folder_of(out, arm))]
    if not finished:
        first = next(iter(failures.items()))
        raise TrainingFailure(f"all {len(failures)} runs failed; {first[0]}: {first[1]}")
    crops = measures.held_out(shared, recipe.size)
    of_teacher = measures.of_teacher(shared, teacher, crops, recipe.size)
    rows = results.rows_of([measures.of_arm(arm, out, shared, teacher, crops) for arm in finished])
    found = results.verdicts(rows)
    about = {
        "teacher": str(plan.teacher),
        "student": plan.student,
        "data": str(plan.data),
        "held_out_crops": crops.count,
    }
    commands = [plans.task_of(plan, out, arm).command.removesuffix(" --resume") for arm in arms]
    report = page.report_of(
        rows, of_teacher, found, crops, teacher.detector.spec.skeleton,
        title=f"{plan.student} taught by {teacher.detector.spec.backbone}",
        commands=commands, failures=failures, notes=notes, data={**about, "used": shared.material.said},
        recipe=config.to_dict(recipe),
    )  # fmt: skip
    figures = results.as_json(rows, of_teacher, found, **about, failures=failures, notes=notes)
    config.write_json(out / "results.json", figures)
    files.write_text(out / "results.csv", results.as_csv(rows))
    written = {
        "report": write_page(out / "report.html", report), "table": out / "results.csv", "figures": out / "results.json",
    }  # fmt: skip
    return {**figures, "files": {name: str(path) for name, path in written.items()}}


def short_table(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """A few columns of results.json for the terminal."""
    names = {
        DISTANCE: "distance px",
        "jacobian_error": "jacobian error",
        "heatmap_divergence": "heatmap divergence",
        "nme": "NME",
    }
    there = {name: title for name, title in names.items() if any(name in row["metrics"] for row in figures["rows"])}
    return [
        {"": row["name"],
         **{title: "-" if name not in row["metrics"] else f"{row['metrics'][name]['mean']:.3f}" for name, title in there.items()},
         "equivariance px": f"{row['alone']['equivariance_px']:.2f}", "seeds": len(row["runs"])}
        for row in figures["rows"]
    ]  # fmt: skip


def _number(text: str) -> Any:
    return int(text) if text.isdigit() else text
