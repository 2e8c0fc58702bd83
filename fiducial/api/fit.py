"""`fiducial.fit`: what `fiducial fit` does, of data on a disk or in a program's arrays."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fiducial.api.arguments import options_of, path_of, refuse, settings_of, source_of
from fiducial.api.results import Run, say
from fiducial.data.arrays import SOURCE
from fiducial.data.images import on_images
from fiducial.data.source import Source
from fiducial.errors import UserError
from fiducial.log import logger
from fiducial.training import recipes
from fiducial.training.finder_words import SHARE, split_settings
from fiducial.training.nodes import Devices
from fiducial.training.plan import begun_with_plan, given_by
from fiducial.training.recipe import CONTROL, Recipe, UnlabelledSpec
from fiducial.types import Instances

if TYPE_CHECKING:
    from fiducial.finding import Beside
    from fiducial.training.fit import Data, Pool
    from fiducial.training.work import Prepare

VALIDATED = 10  # one image of so many is for choosing the epoch, where nobody says which


def fit(
    data: Any,
    out: Any = None,
    *,
    val: Instances | None = None,
    unlabelled: Any = None,
    teacher: Any = None,
    method: str | None = None,
    backbone: str | None = None,
    size: Any = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | str | None = None,
    seed: int | None = None,
    points: Sequence[int] | str | None = None,
    init: Any = None,
    pretrained: str | None = None,
    licence: str | None = None,
    patience: int | None = None,
    check: bool = True,
    preflight: bool = True,
    strict: bool = False,
    recipe: Recipe | str | None = None,
    minutes: float | None = None,
    folds: int | None = None,
    finder: Any = None,
    plan: bool = True,
    plan_only: bool = False,
    resume: bool = False,
    devices: int = 1,
    node: str | None = None,
    images: Any = None,
    category: str | None = None,
    also: Sequence[Any] = (),
    group: str | None = None,
    progress: bool = False,
    settings: Sequence[str] = (),
    **more: Any,
) -> Run:
    """Trains a detector and writes its folder; returns the figures of the best epoch on val.

    Args:
        data: a path that `fiducial fit` takes, or Instances (`Instances.of`, `Instances.read`).
        out: the folder of the run, new unless `resume`.
        val: what the epoch is chosen by, with Instances [a tenth of their images, by the seed; said].
        unlabelled: images to learn from too, without labels: a path that `--unlabelled` takes, or Instances, whose boxes
            alone are used.
        teacher: labels the unlabelled images, and those instances of train that have a box and no labels: a file of a
            network, or of results (docs/teachers.md).
        size: px, a number or (width, height); lr: the peak, or "auto"; points: a subset of them, by numbers.
        pretrained: "here" [weights on this disk], "auto", fetched where they can be, "yes", or an error, "no", random;
            licence: of the weights, in words.
        recipe: what the other choices change: a Recipe, or "FILE.py:FUNCTION". It is taken as it is; without one
            what is not chosen is planned by the data and the machine, unless `plan` is False. `plan_only` makes the
            plan and nothing else, without `out`: the figures are then `facts`, `plan` and `recipe`.
        minutes: that all may take. check: first look for labels that would waste the run (docs/check.md).
        folds: so many runs, each judged on the part that it has not seen, and one model of all labels in `out`, whose figures
            are the folds'. Images that belong together (`group`) are in one fold.
        finder: "auto" [where runs are planned]: where several instances are in an image, or they fill little of theirs, a
            finder of instances is made beside the detector; "no"; or a run whose finder is taken (docs/finding.md).
            Its settings begin with `finder.`: settings=["finder.size=320x320"].
        devices: GPUs, or processes on a machine without. node: "K/N@HOST:PORT", which of N machines that train together this
            is, and where the first one is; each runs the same call, on a folder that they share (docs/training.md).
        images, category, group: of a path, as the command has them. also: paths of further sets, learnt together. progress: a bar on the terminal.
        more: any setting, as `--set` has it: `workers=0`, `head={"sigma_cells": 1.5}`; settings: such as "augment.flip=0".

    Raises UserError for what is wrong with the arguments, TrainingFailure where training would be worth nothing."""
    folder = Path() if plan_only else path_of(out, "out")
    if plan_only and (resume or recipe is not None or not plan):
        raise UserError("plan_only", "is for runs that are planned; not with a recipe, resume or plan=False")
    named = recipes.load(recipe) if isinstance(recipe, str) else recipe
    base = named or recipes.default(method, resume_from=folder if resume else None)
    options = options_of(
        method=method,
        backbone=backbone,
        size=size,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        seed=seed,
        points=points,
        init=init,
        pretrained=pretrained,
        licence=licence,
        patience=patience,
        check=None if check else False,
        preflight=None if preflight else False,
        strict=strict or None,
        minutes=minutes,
    )
    words, of_finder = split_settings(settings_of(more, settings))
    if unlabelled is not None and teacher is None and base.unlabelled is None:
        base = replace(base, unlabelled=UnlabelledSpec())
    chosen = recipes.changed(base, options, words)
    given = given_by(options, words) if plan and recipe is None and not resume else None
    prepare: Prepare
    from fiducial.training import fit as fitting  # torch, after all words were read
    from fiducial.training import run

    teaching = recipes.taught_by(chosen.method)
    by_labels = teaching is fitting
    finding: Beside | None = None
    finder_words = (
        finder,
        of_finder,
        frozenset(given or options),
        given is not None or (resume and begun_with_plan(folder)),
    )
    if teacher is not None and (isinstance(data, Instances) or not by_labels):
        raise UserError("teacher", "is for labelled sets on a disk and methods that learn from labels; leave it out")
    if folds is not None:
        others = {
            "plan_only": plan_only,
            "a method that learns without labels": not by_labels,
            "unlabelled": unlabelled is not None or chosen.unlabelled is not None,
            "teacher": teacher is not None,
            "devices": devices > 1,
            "node": node is not None,
            "finder": (finder is not None and str(finder) != "no") or bool(of_finder),
        }
        refuse("folds", others)
        source = None if isinstance(data, Instances) else source_of(data, images, category, also, group)
        own = _pool_for_folds(data, val, chosen) if source is None else fitting.load_data(source, chosen)
        asked, at = given_by(options, words), {"resume": resume, "progress": progress}
        return _in_folds(own, source, folder, chosen, folds, given=given, asked=asked, **at)
    pool = _pool_of(unlabelled, chosen, by_labels, has_teacher=teacher is not None)
    if isinstance(data, Instances):
        _need_labels(by_labels, chosen.method)
        whole = splits_of(data, val, chosen.seed)
        own = data_of(*whole, chosen)
        if plan_only:
            return _plan_of(own, chosen, given or ())
        finding, chosen = _finding(fitting.Data(*whole, []), chosen, options, *finder_words)
        prepare = partial(fitting.planned_work, own, source=data.source or SOURCE, given=given, pool=pool)
    elif val is not None:
        raise UserError("val", "is for Instances; data on a disk have their own, or a tenth of train is taken")
    else:
        source = source_of(data, images, category, also, group)
        if not by_labels:
            _refuse_for_labels(chosen.method, also, plan_only, finder is not None or bool(of_finder))
            prepare = teaching.preparation(source)
        else:
            read, prepare = _of_labels(source, given, pool, teacher, progress)
            if plan_only:
                return _plan_of(read(chosen), chosen, given or ())
            finding, chosen = _finding(source, chosen, options, *finder_words)
    places = Devices.of(devices, node)
    with places.joined(), run.alone(folder):
        beside = None if finding is None else partial(finding.run, progress=progress)
        figures = run.run(prepare, folder, chosen, resume=resume, devices=places, progress=progress, beside=beside)
    return Run(figures=figures or {}, folder=folder)


def _pool_for_folds(data: Instances, val: Instances | None, recipe: Recipe) -> Data:
    """Gives instances in memory as what folds are made of, all in `train`."""
    own = data_of(data, data if val is None else val, recipe)
    return own if val is not None else replace(own, validation=own.validation.select(np.zeros(0, np.int64)))


def _in_folds(
    data: Data, source: Source | None, out: Path, recipe: Recipe, folds: int, *, resume: bool, **options: Any
) -> Run:
    """Trains the runs of `folds`."""
    from fiducial.data import annotations
    from fiducial.evaluation import intervals
    from fiducial.training import folds as in_folds

    label_files = []
    if source is not None:
        label_files = [file for split in ("train", "val") for file in annotations.files_of(source, split)]
    group = None if source is None else source.group
    figures = in_folds.fit(
        data,
        out,
        recipe,
        folds,
        source=source or data.train.source or SOURCE,
        label_files=label_files,
        group=group,
        resume=resume,
        **options,
    )
    lines = [intervals.line(figures), *figures["notes"][-1:]]
    return Run(figures=figures, folder=out, lines=[line for line in lines if line])


def _finding(
    data: Source | Data,
    recipe: Recipe,
    options: Mapping[str, Any],
    asked: Any,
    settings: Sequence[str],
    given: frozenset[str],
    planned: bool,
) -> tuple[Beside | None, Recipe]:
    """Decides about a finder, and leaves it, and what comes after a run on unlabelled images, their shares of the minutes."""
    from fiducial.finding import beside

    finding = beside(asked, data, recipe, given, settings, planned=planned)
    if "minutes" not in options or recipe.minutes is None:
        return finding, recipe
    left = 1.0 if finding is None or finding.copied is not None else 1 - SHARE
    if recipe.unlabelled is not None and recipe.unlabelled.control:
        left *= 1 - CONTROL
    return finding, replace(recipe, minutes=left * recipe.minutes)


def _refuse_for_labels(method: str, also: Sequence[Any], plan_only: bool, finder: bool) -> None:
    """Refuses what is for methods that learn from labels alone."""
    if finder:
        raise UserError("finder", f"method {method!r} learns without labels, and a finder from them; leave it out")
    if also:
        raise UserError("also", f"method {method!r} learns without labels; give it all videos in one folder")
    if plan_only:
        raise UserError("plan_only", f"method {method!r} learns without labels and has no plan")


def _pool_of(unlabelled: Any, recipe: Recipe, by_labels: bool, *, has_teacher: bool) -> Pool | None:
    """Gives what reads the unlabelled images; UserError where they and the recipe do not go together."""
    if unlabelled is None:
        if by_labels and recipe.unlabelled is not None:
            raise UserError(
                "unlabelled", "the run learns from images without labels too; give them again (--unlabelled PATH)"
            )
        return None
    if not by_labels:
        raise UserError("unlabelled", f"method {recipe.method!r} needs no labels; give all as the data")
    if recipe.unlabelled is not None and has_teacher:
        raise UserError(
            "teacher", "labels the unlabelled images, so that none are learnt from without: unlabelled=null"
        )
    if recipe.unlabelled is None and not has_teacher:
        raise UserError("unlabelled", "--set unlabelled=null says that none are learnt from; leave one of the two out")
    from fiducial import motion

    if isinstance(unlabelled, Instances):
        return lambda skeleton, *others: motion.without_labels(unlabelled, skeleton)
    return motion.pool_of(Source(path_of(unlabelled, "unlabelled")).here())


def _of_labels(
    source: Source, given: Collection[str] | None, pool: Pool | None, teacher: Any, progress: bool
) -> tuple[Callable[[Recipe], Data], Prepare]:
    """Gives what reads the labels, a teacher's among them where there is one, and what makes the work of a run on them."""
    from fiducial.training import fit as fitting

    if teacher is None:
        return partial(fitting.load_data, source), fitting.preparation(source, given, pool)
    from fiducial import distillation

    known = distillation.load_point_teacher(path_of(teacher, "teacher"))
    prepare = distillation.preparation_from_points(known, source, given, keep_labels=True, pool=pool, bar=progress)
    if pool is not None:  # what is in it is found when the run begins
        return partial(fitting.load_data, source), prepare
    return lambda recipe: distillation.lesson_of(known, source, recipe, keep_labels=True).data, prepare


def _plan_of(data: Data, recipe: Recipe, given: Collection[str]) -> Run:
    """Plans a run and makes nothing."""
    from fiducial.training import fit as fitting

    say([str(problem) for problem in data.problems])
    figures = fitting.told_plan(data, recipe, given)
    table = [{name: str(value) for name, value in choice.items()} for choice in figures["plan"]]
    return Run(figures=figures, table=table, folder=Path())


def data_of(train: Instances, whole: Instances, recipe: Recipe) -> Data:
    """Gives the data of a run on instances in memory."""
    from fiducial.training.fit import Data, bare_points_of

    if train.skeleton.points != whole.skeleton.points:
        raise UserError("val", f"has other points than the data: {_few(whole)}; expected {_few(train)}")
    if recipe.points is not None:
        train, whole = (part.pick_points(recipe.points) for part in (train, whole))
    parts = [part.select(part.labelled.any(1) & ~part.crowd) for part in (train, whole)]
    for name, part in zip(("data", "val"), parts, strict=True):
        if len(part) == 0:
            raise UserError(name, "has no instance with a labelled point")
    return Data(parts[0], parts[1], bare_points_of(*parts), whole)


def _need_labels(by_labels: bool, method: str) -> None:
    if not by_labels:
        raise UserError("method", f"{method!r} learns from videos, not from labelled instances; give it their path")


def splits_of(data: Instances, val: Instances | None, seed: int) -> tuple[Instances, Instances]:
    """Gives train and val of instances in memory."""
    return _split(data, seed) if val is None else (data, val)


def _split(instances: Instances, seed: int) -> tuple[Instances, Instances]:
    """Takes a tenth of the images, at least one, for val."""
    rows = np.unique(instances.image_row)
    if len(rows) < 2:
        raise UserError("data", "are on one image; expected two or more, or val= on others")
    count = max(1, len(rows) // VALIDATED)
    chosen = np.random.default_rng(seed).permutation(rows)[:count]
    logger.warning(f"val: {count} of {len(rows)} images, chosen by the seed {seed}; give val= for others")
    of_val = np.isin(np.arange(len(instances.image_id)), chosen)
    return on_images(instances, np.flatnonzero(~of_val)), on_images(instances, np.flatnonzero(of_val))


def _few(instances: Instances) -> str:
    names = instances.skeleton.points
    return f"{len(names)}, {', '.join(names[:3])}{', ..' * (len(names) > 3)}"
