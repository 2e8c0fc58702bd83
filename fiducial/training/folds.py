"""`fiducial fit --folds K`: K runs, each judged on what it has not seen, and one model of all labels.

    OUT/fold_1 .. fold_K   usual runs, each of what is not in its fold; a tenth of that chooses the epoch
    OUT                    a usual run of all labels, of as many steps as the folds kept; its figures are the folds'
    OUT/folds.json         what they are made of

Images that belong together (`data/groups.py`) are in one fold. What the model in OUT says of its own error is measured on
what the folds' models found of labels that they had not seen."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import config, files, folders
from fiducial.data.groups import Groups, groups_of
from fiducial.data.series import FEWEST_SERIES
from fiducial.data.source import Source
from fiducial.data.together import together
from fiducial.errors import UserError
from fiducial.evaluation import evaluate, floor, metrics, spread
from fiducial.evaluation.evaluate import Evaluation
from fiducial.log import logger
from fiducial.models import detector as detectors
from fiducial.report import detector_report
from fiducial.report.run_page import files_of
from fiducial.training import fit as fitting
from fiducial.training import label_check, left_out, plan, recipes, run
from fiducial.training.fit import Data
from fiducial.training.recipe import Recipe
from fiducial.training.work import Outcome, Work
from fiducial.types import Instances, Keypoints, Spread

VALIDATED = 10  # one of so many of what a fold's model may see chooses its epoch
UNEQUAL = 0.5  # of all images: a fold that holds more leaves its model little to learn from
LEAST_MINUTES = 0.1  # of a run
FILE = "folds.json"


def fit(
    data: Data,
    out: Path,
    recipe: Recipe,
    folds: int,
    *,
    given: Collection[str] | None,
    asked: Collection[str] = (),
    source: Source | str,
    label_files: Sequence[Path] = (),
    group: str | None = None,
    resume: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Trains all and gives the figures, as metrics.json of OUT has them, and `files`.

    given: settings that are not to be planned; None = all. asked: those that must not differ where it is resumed.
    source: what the data were read from, or only what it is called. label_files, group: see `groups.told`. Minutes of
    the recipe are for all runs together. What was finished is kept where it is resumed. Raises UserError for fewer
    groups than folds."""
    began, minutes = time.perf_counter(), recipe.minutes
    labels = together([part for part in (data.train, data.validation) if len(part)])
    groups = groups_of(labels, label_files, group, fewest=folds)
    fold = fold_of(groups.of(labels), labels.image_row, folds, recipe.seed)
    if fold is None:
        raise UserError(
            f"{source}: {groups.count} {groups.what} can't be in {folds} folds; give --folds {max(2, groups.count)} or less, "
            "or --group FIELD for what else belongs together"
        )
    with folders.alone(out):
        recipe, choices = _recipe(out, data, labels, fold, groups, recipe, folds, given, asked, source, resume)
        source = str(source)
        images = len(np.unique(labels.image_row))
        logger.info(
            f"{folds} folds of {images} images: of {groups.count} {groups.what} none is in two; test stays apart"
        )
        for number in range(folds):
            seen = fold != number
            if minutes is not None:
                left = minutes - (time.perf_counter() - began) / 60
                recipe = replace(recipe, minutes=round(max(LEAST_MINUTES, left / (folds + 1 - number)), 3))
            logger.info(f"fold {number + 1} of {folds}: {len(np.unique(labels.image_row[~seen]))} images are left out")
            recipe = _train(labels, seen, groups, recipe, folder_of(out, number), source, progress)
        evaluation, rows = _unseen(labels, fold, out)
        measured = spread.measured_on(evaluation.keypoints, evaluation.instances, evaluation.image_to_crop)
        ground = floor.floor_of(evaluation.instances, labels)
        warning = ground.verdict(evaluation.metrics.nme)
        summary = {
            **({"warning": warning} if warning else {}),
            **evaluate.summary_of(
                evaluation,
                model=str(out),
                data=source,
                split="folds",
                ground=ground,
                groups=groups,
            ),
            "folds": rows,
        }
        known = left_out.lists(data.problems)
        summary |= {"notes": known["notes"], "problems": [*known["problems"], *summary["problems"]]}
        whole = Data(
            labels, labels.select(~_apart(np.ones(len(labels), bool), labels, groups, recipe.seed)), data.problems
        )
        final = _of_all(recipe, rows, len(labels))
        steps = plan.steps_of(final, len(labels))
        summary["notes"] += [
            f"figures are of the {folds} folds' models, each on what it has not seen; the model in {out} learnt from all "
            f"{len(labels)} instances in {steps} steps, as the folds kept; its val is part of what it learnt from"
        ]

        def prepare(recipe: Recipe, out: Path, begins: bool) -> Work:
            work = fitting.work_of(whole, recipe, out, begins, source=source)
            return replace(
                work,
                beside={"plan": choices, "folds": folds} if choices else {"folds": folds},
                said=(*work.said, f"the model of all labels: {steps} steps; its val is part of what it learns from"),
                calibrate=partial(_calibrate, work.objective.detector, measured),
                card_metrics={
                    **work.card_metrics,
                    "val": {name: getattr(evaluation.metrics, name) for name in ("nme", "epe")},
                    "folds": folds,
                },
                report=partial(_report, evaluation=evaluation, summary=summary, data=whole, source=source),
            )

        again = resume and (out / "recipe.json").exists()
        return run.run(prepare, out, final, resume=again, progress=progress) or {}


def folder_of(out: Path, number: int) -> Path:
    """Names the run folder of a fold, counted from 0."""
    return out / f"fold_{number + 1}"


def fold_of(group: np.ndarray, image: np.ndarray, folds: int, seed: int) -> np.ndarray | None:
    """Gives the fold [n] of each instance, 0 to folds - 1, by its group [n] and image [n]: whole groups, the largest first, each
    to the fold that has the fewest images, equal ones by the seed. None for fewer groups than folds."""
    _, first = np.unique(image, return_index=True)
    sizes = np.bincount(group[first])
    if np.count_nonzero(sizes) < folds:
        return None
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    fold_of_group, held = np.empty(len(sizes), np.int64), np.zeros(folds, np.int64)
    for one in order:
        fold_of_group[one] = held.argmin()
        held[held.argmin()] += sizes[one]
    if held.max() > UNEQUAL * held.sum() and folds > 2:
        logger.warning(f"folds: one holds {held.max()} of {held.sum()} images, since its group is so large (--group)")
    return fold_of_group[group]


def _apart(seen: np.ndarray, labels: Instances, groups: Groups, seed: int) -> np.ndarray:
    """Which instances [n] of those that are `seen` [n] are learnt from: all but a tenth of their groups, or of their images
    where the groups are few."""
    unit = groups.of(labels)
    if len(np.unique(unit[seen])) < FEWEST_SERIES:
        unit = labels.image_row
    units = np.random.default_rng(seed).permutation(np.unique(unit[seen]))
    chooses = units[: max(1, len(units) // VALIDATED)]
    return seen & ~np.isin(unit, chooses)


def _recipe(
    out: Path,
    data: Data,
    labels: Instances,
    fold: np.ndarray,
    groups: Groups,
    recipe: Recipe,
    folds: int,
    given: Collection[str] | None,
    asked: Collection[str],
    source: Source | str,
    resume: bool,
) -> tuple[Recipe, list[Any]]:
    """The recipe of all folds, planned once and kept; UserError where OUT holds folds of something else."""
    made_of = {"folds": folds, "seed": recipe.seed, "labels": files.digest([*labels.label_bytes(), fold])}
    file = out / FILE
    if file.exists():
        if not resume:
            raise UserError(out, "holds folds already. Give another --out, or --resume to continue them")
        there = files.read_object(file, "recipe", *made_of)
        differing = [name for name, value in made_of.items() if there[name] != value]
        if differing:
            raise UserError(out, f"its folds are of other {' and '.join(differing)}; resume with the same")
        kept = recipes.of_values(there["recipe"], str(file))
        now, then = (config.flat(config.to_dict(each)) for each in (recipe, kept))
        for name in sorted(set(asked) & set(then) - {"minutes", *run.ANYTIME}):
            if now[name] != then[name]:
                raise UserError(
                    out, f"folds are resumed as they began, but {name} was {then[name]} and is now {now[name]}"
                )
        return kept, [config.from_dict(plan.Choice, entry, str(file)) for entry in there.get("plan", [])]
    run.refuse_other_run(out)
    label_check.look({label_check.LEARNT: labels}, recipe, source)
    choices: list[plan.Choice] = []
    first = _data(labels, fold != 0, groups, recipe)
    if recipe.minutes is not None:
        recipe = replace(recipe, minutes=recipe.minutes / (folds + 1))
    if given is not None:
        recipe, choices, facts = fitting.planned(first, recipe, given)
        plan.tell(facts, recipe, choices)
    config.write_json(file, {**made_of, "groups": groups.what, "recipe": recipe, "plan": choices})
    left_out.write(out, data.problems)
    return recipe, choices


def _data(labels: Instances, seen: np.ndarray, groups: Groups, recipe: Recipe) -> Data:
    learns = _apart(seen, labels, groups, recipe.seed)
    return Data(labels.select(learns), labels.select(seen & ~learns), [])


def _train(
    labels: Instances, seen: np.ndarray, groups: Groups, recipe: Recipe, folder: Path, source: str, progress: bool
) -> Recipe:
    """Trains the model of a fold where it is not finished; what it found of this machine is in the recipe of the next."""
    data = _data(labels, seen, groups, recipe)
    if not (folder / "metrics.json").exists():
        prepare = partial(fitting.planned_work, data, source=source, given=None)
        begun = (folder / "recipe.json").exists()
        recipe = replace(recipe, minutes=recipes.of_run(folder, Recipe).minutes) if begun else recipe
        run.run(prepare, folder, replace(recipe, check=False), resume=begun, progress=progress)
    found = recipes.of_run(folder, Recipe)
    settled = replace(recipe.optimizer, lr=found.optimizer.lr)
    return replace(
        recipe, precision=found.precision, memory_format=found.memory_format, optimizer=settled, preflight=False
    )


def _unseen(labels: Instances, fold: np.ndarray, out: Path) -> tuple[Evaluation, list[dict[str, Any]]]:
    """What each fold's model finds of the fold, all together, sigma being what the method tells; and a row for each fold."""
    parts, rows, size = [], [], None
    for number in range(fold.max() + 1):
        folder, left_out = folder_of(out, number), np.flatnonzero(fold == number)
        detector, _ = detectors.load(folder, evaluate.device_name())
        size = detector.spec.size
        detector.spec = replace(detector.spec, spread=spread.uncalibrated(len(detector.spec.skeleton.points)))
        found = evaluate.evaluate_detector(detector, labels.select(left_out))
        told = files.read_object(folder / "metrics.json", "best_epoch", "epochs")
        parts.append((left_out[found.row], found))
        rows.append(
            {
                "folder": str(folder),
                "instances": found.metrics.count,
                "images": len(np.unique(found.instances.image_row)),
                "nme": files.finite(found.metrics.nme),
                "best_epoch": told["best_epoch"],
                "epochs": told["epochs"],
                "steps_kept": _steps_kept(folder, told["best_epoch"]),
            }
        )
    row = np.concatenate([rows for rows, _ in parts])
    order = np.argsort(row)
    keypoints = Keypoints.joined([found.keypoints for _, found in parts]).select(order)
    crops = np.concatenate([found.image_to_crop for _, found in parts])[order]
    instances = labels.select(row[order])
    scored = metrics.score(instances, keypoints, crops, size)
    problems = tuple(problem for _, found in parts for problem in found.problems)
    return Evaluation(row[order], instances, keypoints, crops, scored, problems), rows


def _steps_kept(folder: Path, best_epoch: int) -> int:
    """Counts the steps after which a run's weights were kept."""
    recipe, card = recipes.of_run(folder, Recipe), detectors.load_card(folder)
    return round(plan.steps_of(recipe, card.metrics["train_instances"]) * best_epoch / recipe.epochs)


def _of_all(recipe: Recipe, rows: Sequence[dict[str, Any]], instances: int) -> Recipe:
    """The recipe of all labels: the folds', of as many steps as their median kept."""
    steps = float(np.median([row["steps_kept"] for row in rows]))
    an_epoch = plan.steps_of(replace(recipe, epochs=1), instances)
    return replace(
        recipe, epochs=max(1, round(steps / an_epoch)), minutes=None, patience=None, check=False, preflight=False
    )


def _calibrate(detector: detectors.Detector, measured: Spread | None) -> None:
    detector.spec = replace(detector.spec, spread=measured)
    logger.info(spread.line(measured, "the folds"))


def _report(
    outcome: Outcome, *, evaluation: Evaluation, summary: dict[str, Any], data: Data, source: str
) -> dict[str, Any]:
    """Writes the page of all: the folds' figures and pictures, the run of the model in OUT; the figures, and "files"."""
    out = outcome.out
    detector, card = detectors.load(out, evaluate.device_name())
    detector_report.write(
        out / "report.html",
        evaluation,
        detector_report.about_detector(detector, card, evaluation),
        folder=out,
        title=f"{detector.spec.method} on {detector.spec.backbone}, {len(summary['folds'])} folds: {out.name}",
        data=source,
        split="the folds",
        problems=summary["problems"],
        notes=summary["notes"],
        ground=floor.floor_of(evaluation.instances, data.train),
        drawn=summary,
    )
    return {**summary, "files": files_of(out)}
