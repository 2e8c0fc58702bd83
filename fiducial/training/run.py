"""The life of a run, whatever it learns: refused or resumed, seeded, settled, trained, kept, reported.

    RUN/recipe.json        everything that was chosen, "auto" resolved; what the data were
    RUN/problems.txt       what of the data can't be used
    RUN/history.csv        one row an epoch; RUN/tensorboard for TensorBoard
    RUN/checkpoints/       last.ckpt to resume from, best.ckpt by the val metric
    RUN/model.safetensors, RUN/model.json      the best weights (averaged) and their card
    RUN/metrics.json, RUN/report.html, RUN/pictures/

Everything random is a function of the seed, the epoch and the sample, so a run that was ended at any moment and resumed
ends with the weights, bit by bit, of one that was not."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fiducial import config, files, folders
from fiducial.card import NOT_STATED, Card
from fiducial.data.loading import lost_processes
from fiducial.errors import UserError, one_line
from fiducial.log import logger, muted
from fiducial.models import catalog
from fiducial.training import history, left_out, preflight, recipes
from fiducial.training.device import pick_device
from fiducial.training.failure import TrainingFailure
from fiducial.training.nodes import Devices, is_main
from fiducial.training.objective import Objective
from fiducial.training.recipe import Recipe
from fiducial.training.work import Outcome, Prepare, Work
from fiducial.types import Problem

ANYTIME = ("workers", "check", "preflight", "licence")  # settings that may be others when a run is resumed


def run(
    prepare: Prepare,
    out: Path,
    recipe: Recipe,
    *,
    resume: bool = False,
    devices: Devices = Devices(),  # noqa: B008
    progress: bool = False,
    beside: Callable[[Path], Mapping[str, Any]] | None = None,
) -> dict[str, Any] | None:
    """Trains, keeps the best epoch and reports on it: the figures, as metrics.json has them, and `files`.

    `progress` shows a bar on the terminal in place of a line an epoch. `beside` takes the folder once the model is in
    it, makes what belongs beside it, and gives figures that the report has, too. Torch's random numbers are left as
    they were. None in the helper processes of a run on several devices. Raises TrainingFailure where training would be
    worth nothing, UserError for a user's mistake."""
    with lost_processes(), alone(out):
        outcome, work = train(prepare, out, recipe, resume=resume, devices=devices, progress=progress)
        if outcome is None:
            return None
        if beside is not None:
            outcome = replace(outcome, beside=partial(beside, out))
        with seeded(outcome.recipe.seed):
            figures = work.report(outcome)
        figures = {**outcome.told(), **figures}
        config.write_json(out / "metrics.json", {name: value for name, value in figures.items() if name != "files"})
        return figures


def train(
    prepare: Prepare,
    out: Path,
    recipe: Recipe,
    *,
    resume: bool = False,
    devices: Devices = Devices(),  # noqa: B008
    progress: bool = False,
) -> tuple[Outcome | None, Work]:
    """Does what `run` does up to the model's files, without scoring what was kept once more."""
    with muted(not is_main()), lost_processes(), alone(out):
        return _train(prepare, out, recipe, resume=resume, devices=devices, progress=progress)


def alone(out: Path) -> AbstractContextManager[None]:
    """Keeps other commands out of a run's folder; the helper processes of a run on several devices come in with it."""
    return folders.alone(out) if is_main() else nullcontext()


def _train(
    prepare: Prepare, out: Path, recipe: Recipe, *, resume: bool, devices: Devices, progress: bool
) -> tuple[Outcome | None, Work]:
    begins, began = is_main() and not resume, time.perf_counter()
    if begins:
        refuse_other_run(out)
    else:
        recipe = _resumed(out, recipe) if is_main() else recipes.of_run(out, type(recipe))
    catalog.check(recipe.backbone, recipe.method, recipe.head)
    with seeded(recipe.seed):
        work = prepare(recipe, out, begins)
        for line in work.said:
            logger.info(line)
        left_out.tell(work.problems, out)
        if begins:
            recipe = settled(work)
            _write(out, recipe, work)
        else:
            recipe = _continued(out, work, is_main())
        from fiducial.training import engine, labels_alone

        used = time.perf_counter() - began
        best = engine.run(work, recipe, out, resume=resume, devices=devices, progress=progress, used_seconds=used)
    if best.is_main_process and best.epochs != recipe.epochs:
        recipe = replace(recipe, epochs=best.epochs)
        _write(out, recipe, work, unread=best.problems)
    if work.rival is not None:
        with seeded(recipe.seed):
            best = labels_alone.better(best, work.rival, recipe, out, devices=devices, progress=progress)
    if not best.is_main_process:
        return None, work
    metric = f"val/{work.scoring.metric}"
    if not np.isfinite(best.metrics[work.scoring.metric]):
        raise TrainingFailure(
            f"val {work.scoring.metric} is not finite in any epoch: the weights have diverged. Lower the learning rate "
            f"(peak {recipe.optimizer.lr:.2g}: --lr), or train in full precision (--set precision=fp32)"
        )
    warning = history.warning_of(best.rows, metric, work.floor(best.metrics))
    work.objective.load_state_dict(best.weights)
    work.objective.eval()
    work.calibrate()
    metrics = {"val": best.metrics, "epoch": best.epoch, "seed": recipe.seed, **work.card_metrics}
    card = _card(recipe, work, metrics)
    work.save(out, card)
    kept = f"kept: epoch {best.epoch + 1} of {len(best.rows)}, val {work.scoring.metric}"
    logger.info(f"{kept} {best.metrics[work.scoring.metric]:.4g}")
    return Outcome(
        out=out, recipe=recipe, card=card, epochs=len(best.rows), warning=warning, unread=best.problems
    ), work


def _card(recipe: Recipe, work: Work, metrics: dict[str, Any]) -> Card:
    """Makes the card of what was learnt. Its licence is the recipe's, else the data's, where they state a single one."""
    of_data, stated = work.data_licences, recipe.licence
    if stated is None and len(of_data) == 1:
        stated = of_data[0]
        logger.info(f"licence of the weights: {stated}, which the data state; --licence TEXT states another")
    return Card(
        work.objective.detector.spec,
        NOT_STATED if stated is None else one_line(stated),
        work.initialization,
        metrics,
        derived_from={**work.derived_from, **({"data": "; ".join(of_data)} if of_data else {})},
    )


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds torch's random numbers, and gives the caller's back at the end; so those of Python and NumPy, which libraries
    draw from."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)


def settled(work: Work) -> Recipe:
    """Checks that the network can learn the data, and replaces every "auto" by what is fastest or best here."""
    recipe, device = work.recipe, pick_device()
    if recipe.preflight and work.preflight is not None:
        rate = 1e-3 if recipe.optimizer.lr == "auto" else min(float(recipe.optimizer.lr), 3e-3)
        logger.info(work.preflight(rate, device))
    if "auto" in (recipe.precision, recipe.memory_format):
        recipe = with_fastest_step(recipe, work.objective, next(iter(work.train_loader(0, 1))), device)
    if recipe.optimizer.lr == "auto":
        from fiducial.training import engine

        rate = engine.find_lr(work, recipe)
        logger.info(f"learning rate found: {rate:.2g}")
        recipe = replace(recipe, optimizer=replace(recipe.optimizer, lr=rate))
    return recipe


def with_fastest_step(recipe: Recipe, objective: Objective, probe: Any, device: torch.device) -> Recipe:
    """Times precisions and memory formats where they are "auto", and takes the fastest; `probe` is a batch."""
    variants = preflight.variants_of(recipe)
    (precision, layout), seconds = preflight.fastest_variant(objective, probe, device, variants)
    table = ", ".join(f"{p} {f} {value * 1e3:.0f}" for (p, f), value in seconds.items())
    logger.info(f"fastest step: {precision} {layout} (ms a step: {table})")
    return replace(recipe, precision=precision, memory_format=layout)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------- refused and resumed


def refuse_other_run(out: Path) -> None:
    """Raises UserError where a folder holds a run already."""
    if (out / "model.json").exists() or (out / "checkpoints").exists():
        raise UserError(out, "holds a run already. Give another --out, or --resume to continue it")


def _resumed(out: Path, asked: Recipe) -> Recipe:
    """The recipe that the run began with, or went on with; UserError where another is asked for now. More epochs may
    be."""
    begun = recipes.of_run(out, type(asked))
    if asked.epochs > begun.epochs:
        logger.warning(
            f"{out}: goes on to epoch {asked.epochs}, where it was to end after {begun.epochs}. Its learning rate is from "
            f"now on that of a run of {asked.epochs} epochs, so it rises once more; a run that is begun with --epochs "
            f"{asked.epochs} ends with other weights"
        )
        # Minutes that it was begun with were for its first end; others are for this one.
        minutes = None if asked.minutes == begun.minutes else asked.minutes
        begun, asked = (replace(recipe, epochs=asked.epochs, minutes=minutes) for recipe in (begun, asked))
    if asked.licence is not None:
        begun = replace(begun, licence=asked.licence)
    now, then = (config.flat(config.to_dict(recipe)) for recipe in (asked, begun))
    differing = [
        f"{name} was {then.get(name)} and is now {now.get(name)}"
        for name in {**then, **now}
        if now.get(name) != then.get(name) and now.get(name) != "auto" and name not in ANYTIME
    ]
    if differing:
        hint = " (more epochs are possible, fewer are not)" if differing[0].startswith("epochs was") else ""
        raise UserError(out, f"a run is resumed as it began, but {'; '.join(differing)}{hint}")
    return begun


def _continued(out: Path, work: Work, writes: bool) -> Recipe:
    """The recipe of a run that is resumed, kept where it has more epochs than before; UserError for other data."""
    values = files.read_object(out / "recipe.json", "data", "recipe")
    if values["data"] != work.fingerprint:
        raise UserError(out, "the data differ from those that the run began with; resume with the same files")
    asked = work.recipe
    recipe = replace(
        recipes.of_run(out, type(asked)), epochs=asked.epochs, minutes=asked.minutes, licence=asked.licence
    )
    before = values["recipe"].get("epochs")
    if writes and recipe.epochs != before:
        with files.ours(out / "recipe.json"):
            _write(out, recipe, work, [*values.get("epochs_before", []), before])
    return recipe


def _write(
    out: Path, recipe: Recipe, work: Work, epochs_before: Sequence[int] = (), unread: Sequence[Problem] = ()
) -> None:
    """Writes recipe.json, with which a run begins, and problems.txt. unread: pictures that broke in mid-training."""
    before = {"epochs_before": list(epochs_before)} if epochs_before else {}
    config.write_json(out / "recipe.json", {"recipe": recipe, "data": work.fingerprint, **work.beside, **before})
    left_out.write(out, [*work.problems, *unread])
