"""`fiducial.fit`: what `fiducial fit` does, of data on a disk or in a program's arrays."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fiducial.api.arguments import options_of, path_of, settings_of, source_of
from fiducial.api.results import Run
from fiducial.data.arrays import SOURCE
from fiducial.errors import UserError
from fiducial.log import logger
from fiducial.training import recipes
from fiducial.training.recipe import Recipe
from fiducial.types import Instances

if TYPE_CHECKING:
    from fiducial.training.work import Prepare

VALIDATED = 10  # one image of so many is for choosing the epoch, where nobody says which


def fit(
    data: Any,
    out: Any,
    *,
    val: Instances | None = None,
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
    preflight: bool = True,
    strict: bool = False,
    recipe: Recipe | str | None = None,
    resume: bool = False,
    devices: int = 1,
    images: Any = None,
    category: str | None = None,
    progress: bool = False,
    settings: Sequence[str] = (),
    **more: Any,
) -> Run:
    """Trains a detector and writes its folder; returns the figures of the best epoch on val.

    Args:
        data: a path that `fiducial fit` takes, or Instances (`Instances.of`, `Instances.read`).
        out: the folder of the run, new unless `resume`.
        val: what the epoch is chosen by, with Instances [a tenth of their images, by the seed; said].
        size: px, a number or (width, height); lr: the peak, or "auto"; points: a subset of them, by numbers.
        pretrained: "auto", weights on this disk, "yes", fetched, or "no"; licence: of the weights, in words.
        recipe: what the other choices change: a Recipe, or "FILE.py:FUNCTION".
        images, category: of a path, as the command has them. progress: a bar on the terminal.
        more: any setting, as `--set` has it: `workers=0`, `head={"sigma_cells": 1.5}`; settings: such as "augment.flip=0".

    Raises UserError for what is wrong with the arguments, TrainingFailure where training would be worth nothing."""
    folder = path_of(out, "out")
    if isinstance(recipe, str):
        base = recipes.load(recipe)
    else:
        base = recipe or recipes.default(method, resume_from=folder if resume else None)
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
        preflight=None if preflight else False,
        strict=strict or None,
    )
    chosen = recipes.changed(base, options, settings_of(more, settings))
    from fiducial.training import run  # torch, after all words were read

    teaching = recipes.taught_by(chosen.method)
    if isinstance(data, Instances):
        prepare = _preparation(data, val, chosen)
    elif val is not None:
        raise UserError("val", "is for Instances; data on a disk have their own, or a tenth of train is taken")
    else:
        prepare = teaching.preparation(source_of(data, images, category))
    figures = run.run(prepare, folder, chosen, resume=resume, devices=devices, progress=progress)
    return Run(figures=figures or {}, folder=folder)


def _preparation(train: Instances, val: Instances | None, recipe: Recipe) -> Prepare:
    """Gives what makes the work of a run on instances in memory."""
    from fiducial.training import fit as fitting

    if recipes.taught_by(recipe.method) is not fitting:
        raise UserError(
            "method", f"{recipe.method!r} learns from videos, not from labelled instances; give it their path"
        )
    train, whole = _split(train, recipe.seed) if val is None else (train, val)
    if train.skeleton.points != whole.skeleton.points:
        raise UserError("val", f"has other points than the data: {_few(whole)}; expected {_few(train)}")
    if recipe.points is not None:
        train, whole = (part.pick_points(recipe.points) for part in (train, whole))
    parts = [part.select(part.labelled.any(1) & ~part.crowd) for part in (train, whole)]
    for name, part in zip(("data", "val"), parts, strict=True):
        if len(part) == 0:
            raise UserError(name, "has no instance with a labelled point")
    return partial(fitting.work_of, fitting.Data(parts[0], parts[1], [], whole), source=train.source or SOURCE)


def _split(instances: Instances, seed: int) -> tuple[Instances, Instances]:
    """Takes a tenth of the images, at least one, for val."""
    rows = np.unique(instances.image_row)
    if len(rows) < 2:
        raise UserError("data", "are on one image; expected two or more, or val= on others")
    count = max(1, len(rows) // VALIDATED)
    chosen = np.random.default_rng(seed).permutation(rows)[:count]
    logger.warning(f"val: {count} of {len(rows)} images, chosen by the seed {seed}; give val= for others")
    is_val = np.isin(instances.image_row, chosen)
    return instances.select(~is_val), instances.select(is_val)


def _few(instances: Instances) -> str:
    names = instances.skeleton.points
    return f"{len(names)}, {', '.join(names[:3])}{', ..' * (len(names) > 3)}"
