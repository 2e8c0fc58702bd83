"""`fiducial compare` and `fiducial distill --study`: trains what is missing, judges everything on the same instances,
writes the page and its figures. The two differ in their plan and in how runs are judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fiducial import folders
from fiducial.card import DetectorSpec
from fiducial.comparison import by_labels, by_teacher, cells, costs, page, runs, scores, students, train
from fiducial.comparison.cells import Cell, Plan
from fiducial.comparison.places import Places
from fiducial.comparison.runs import Run, Variant
from fiducial.comparison.students import CONTROL, Study, kind_of
from fiducial.comparison.train import is_finished
from fiducial.data import annotations, loading
from fiducial.distillation import DISTANCE, TAUGHT, Teacher, load_teacher, look_at_labels, share, student_of
from fiducial.errors import UserError, did_you_mean
from fiducial.evaluation import evaluate
from fiducial.log import logger, muted
from fiducial.models import detector as detectors
from fiducial.training import fit as fitting
from fiducial.training import label_check
from fiducial.training.recipe import Recipe
from fiducial.types import Instances


def compare(
    plan: Plan,
    out: Path,
    *,
    others: Sequence[Path] = (),
    split: str = "val",
    baseline: str | None = None,
    places: Places = Places(),  # noqa: B008
    progress: bool = False,
) -> dict[str, Any]:
    """Trains the plan's cells that are not finished, compares them and `others` on `split`, writes OUT/report.html,
    results.csv and results.json; returns what results.json holds, and `files`.

    others: finished run folders and exported files. split: val or test. baseline: the method that differences are to,
    instead of the best. places: where runs are trained, and how many at a time."""
    if not plan.cells and not others:
        raise UserError("nothing to compare: give --methods, or finished runs with --runs")
    beside = runs.other_runs(others, plan.cells, out)
    runs.refuse_unlike(beside, None, str(plan.data))
    data = _data(plan, beside)
    instances, problems = _split(plan, data, split)
    _refuse_other_points(beside, data)
    finished = _finished(plan.cells, out)
    runs.refuse_unlike([*finished.values(), *beside], data.fingerprint, str(plan.data))
    _refuse_unbuildable(plan, data)
    checking = [cell.recipe for cell in plan.cells if cell.recipe.check and cell.name not in finished]
    if checking:  # once for all, before each of their runs does
        label_check.look({"train": data.train, "val": data.validation}, checking[0], plan.data)
    _refuse_unknown_baseline(plan, beside, baseline)
    with folders.alone(out):
        cells.keep(out, plan)
        failures = train.train(plan.cells, out, _outcome, places=places, progress=progress)
        finished |= _finished([cell for cell in plan.cells if cell.name not in finished], out)
        if not finished and not beside:
            raise train.all_failed(failures)
        runs.refuse_unlike([*finished.values(), *beside], data.fingerprint, str(plan.data))
        planned = runs.of_cells(plan.cells, finished)
        variants = runs.named([*planned, *runs.of_others(beside, planned)])
        count = sum(len(variant.runs) for variant in variants.values())
        logger.info(f"scoring {count} runs on the {loading.trainable(instances).sum()} instances of {split}")
        predictions = scores.predict_all(variants, instances, out / "predictions", split)
        read = scores.read_by_all(predictions)
        problems += [line for of_seeds in predictions.values() for one in of_seeds for line in one.problems]
        instances = instances.select(read)
        measured = costs.measure(variants, out / "costs.json")
        rows = [
            scores.row_of(name, variant, predictions[name], instances, measured[name])
            for name, variant in variants.items()
        ]
        if baseline is not None and not rows_of(baseline, variants):
            logger.warning(f"--baseline {baseline}: all of its runs failed; the best takes its place")
            baseline = None
        reference = None if baseline is None else row_named(baseline, variants)
        instances = instances.select(loading.trainable(instances))
        scored = by_labels.scored(rows, reference, instances, data.train, split)
        comparison = by_labels.comparison_of(scored, str(plan.data), failures, list(dict.fromkeys(problems)))
        return page.write(comparison, out, plan.cells)


def study(asked: Study, out: Path, *, places: Places = Places(), progress: bool = False) -> dict[str, Any]:  # noqa: B008
    """Trains the runs that are not finished, writes OUT/report.html, results.json and results.csv; returns what
    results.json holds, and `files`."""
    teacher = load_teacher(asked.teacher)
    recipe = students.recipe_of(asked, teacher, "L1")
    with muted():
        offer, why_not = student_of(recipe, teacher, out)
    losses = _possible(asked.losses, why_not)
    students.refuse_useless_weights(asked)
    with folders.alone(out):
        plan = students.plan_of(asked, teacher, losses, out, with_control=True)
        if not (out / students.FILE).exists():
            look_at_labels(asked.data, recipe, teacher)
        students.keep(out, asked, teacher, plan)
        shared = share(
            teacher,
            offer,
            asked.data,
            out,
            recipe,
            losses,
            progress=progress,
        )
        has_control = shared.material.truth is not None or teacher.detector.head.learns_without_labels
        planned = [cell for cell in plan.cells if has_control or cell.label != CONTROL]
        notes = _left_out(asked, teacher, has_control)
        for note in notes:
            logger.warning(note)
        failures = _train_students(asked, teacher, planned, out, places, progress)
        finished = _finished(planned, out)
        if not finished:
            raise train.all_failed(failures)
        variants = runs.of_cells(planned, finished)
        comparison = by_teacher.comparison_of(asked, teacher, shared, recipe.size, variants, failures, notes)
        return page.write(comparison, out, planned)


def _finished(planned: Sequence[Cell], out: Path) -> dict[str, Run]:
    """The finished runs, by their cells' names."""
    folders = {cell.name: out / cell.folder for cell in planned}
    return {name: runs.read(folder, name) for name, folder in folders.items() if is_finished(folder)}


def _outcome(val: Mapping[str, float]) -> str:
    if DISTANCE in val:
        return f"{val[DISTANCE]:.2f} px from the teacher"
    return f"val NME {100 * val['nme']:.2f} %" if "nme" in val else "learnt points of its own"


# --------------------------------------------------------------------------------------------------------- methods


def row_named(baseline: str, variants: Mapping[str, Variant]) -> str:
    """Gives the name of the row that `--baseline` means."""
    names = rows_of(baseline, variants)
    if len(names) != 1:
        what = "no such method." if not names else f"{len(names)} rows are of this method; name one."
        raise UserError(f"--baseline {baseline!r}: {what}{did_you_mean(baseline, variants)}")
    return names[0]


def rows_of(baseline: str, variants: Mapping[str, Variant]) -> list[str]:
    """Gives the row of this name, else all rows of the method."""
    return [baseline] if baseline in variants else [n for n, variant in variants.items() if baseline == variant.label]


def _data(plan: Plan, beside: Sequence[Run]) -> fitting.Data:
    """As the runs learn from it; where there are exported files alone, with the points that these find."""
    known = [cell.recipe for cell in plan.cells] + [run.recipe for run in beside if run.recipe is not None]
    data = fitting.load_data(plan.data, (known or [Recipe()])[0])
    if known:
        return data
    points = beside[0].card.spec.skeleton.points
    train, validation = (evaluate.match_points(part, points, str(plan.data)) for part in (data.train, data.validation))
    return replace(data, train=train, validation=validation)


def _split(plan: Plan, data: fitting.Data, split: str) -> tuple[Instances, list[str]]:
    """The instances of the split, with those that AP ignores: crowds and what has no labelled point; what was wrong."""
    if split == "train":
        raise UserError("--split train: the methods have learnt from it; expected val or test")
    part, problems = data.validation if data.whole_validation is None else data.whole_validation, data.problems
    if split != "val":
        part, more = annotations.load(plan.data, split, ignored=True)
        problems = [*problems, *more]
    part = evaluate.match_points(part, data.validation.skeleton.points, str(plan.data))
    return part, [str(problem) for problem in problems]


def _refuse_other_points(beside: Sequence[Run], data: fitting.Data) -> None:
    """In words: the fingerprints of the labels would differ too, but not say why."""
    wanted = data.train.skeleton.points
    for run in beside:
        points = run.card.spec.skeleton.points
        if points != wanted:
            raise UserError(
                f"{run.path}: finds {len(points)} points ({', '.join(points[:3])}, ..), the methods here are to find "
                f"{len(wanted)} ({', '.join(wanted[:3])}, ..). Give --points, or leave the run out"
            )


def _refuse_unbuildable(plan: Plan, data: fitting.Data) -> None:
    """A misspelt backbone, or a head that does not fit a size, is said before hours are spent on the others."""
    for recipe in {(c.label, c.recipe.backbone, c.recipe.size): c.recipe for c in plan.cells}.values():
        spec = (recipe.backbone, recipe.method, recipe.head, recipe.size, data.train.skeleton)
        detectors.build(DetectorSpec(*spec, padding=recipe.padding))


def _refuse_unknown_baseline(plan: Plan, beside: Sequence[Run], baseline: str | None) -> None:
    """Before training, too."""
    if baseline is not None:
        kinds = dict.fromkeys((cell.label, cell.recipe.backbone, cell.recipe.size) for cell in plan.cells)
        planned = [Variant(*kind, ()) for kind in kinds]
        row_named(baseline, runs.named([*planned, *runs.of_others(beside, planned)]))


# -------------------------------------------------------------------------------------------------------- students


def _possible(asked: tuple[str, ...] | None, why_not: dict[str, str]) -> tuple[str, ...]:
    possible = tuple(loss for loss, reason in why_not.items() if not reason)
    impossible = [loss for loss in asked or TAUGHT if loss not in possible]
    if impossible and (asked is not None or not possible):
        raise UserError(
            f"--losses: {impossible[0]}: {why_not[impossible[0]]}. Possible for this pair: {', '.join(possible) or 'none'}"
        )
    for loss in impossible:
        logger.warning(f"{loss} is left out: {why_not[loss]}")
    return tuple(loss for loss in asked or TAUGHT if loss in possible)


def _left_out(asked: Study, teacher: Teacher, has_control: bool) -> list[str]:
    """What could be compared and is not."""
    lines = []
    if not asked.transfers:
        lines.append("initialisations are not compared: give --transfer WEIGHTS, or --pretrain-on a labelled set")
    if not has_control:
        lines.append(
            "what the student learns without the teacher is not there: the data have no labels of its points, and method "
            f"{teacher.detector.spec.method!r} needs some"
        )
    return lines


def _train_students(
    asked: Study, teacher: Teacher, planned: Sequence[Cell], out: Path, places: Places, progress: bool
) -> dict[str, str]:
    """Cell's name -> why it failed. First the run that others take their weights from, where there is one."""
    failures: dict[str, str] = {}
    waiting = [cell for cell in planned if not is_finished(out / cell.folder)]
    transferred = [cell for cell in waiting if kind_of(cell.label)["start"] == "transfer"]
    if transferred and asked.transfer is None and not is_finished(out / "pretrained"):
        logger.info(f"pre-training {asked.student} on {asked.pretrain_on}")
        failures = train.train(
            [students.pretraining_of(asked, teacher)], out, _outcome, places=places, progress=progress
        )
        if failures:
            reason = f"there are no weights to start from: {failures['pretrained']}"
            failures |= {cell.name: reason for cell in transferred}
    begun = [cell for cell in planned if cell.name not in failures]
    for cell in begun:
        if cell in waiting:
            students.link(out, out / cell.folder)
    return failures | train.train(begun, out, _outcome, places=places, progress=progress)
