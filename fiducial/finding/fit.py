"""Taught by boxes: the run of a finder, in a folder of its own inside of its detector's (`training/run.py`)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from fiducial import config
from fiducial.card import USABLE, Card
from fiducial.data import annotations
from fiducial.data.facts import facts_of
from fiducial.data.images import on_images
from fiducial.data.source import Source
from fiducial.errors import UserError
from fiducial.evaluation.found import scored, wanted
from fiducial.finding import page, plan, scenes
from fiducial.finding.recipe import FinderRecipe
from fiducial.finding.scoring import BoxErrors, best_threshold
from fiducial.log import logger, muted
from fiducial.models import detector as detectors
from fiducial.models import packaged_weights
from fiducial.models.detector import Detector
from fiducial.report.run_page import files_of
from fiducial.training import fit as fitting
from fiducial.training import plan as plans
from fiducial.training.device import pick_device, worker_count
from fiducial.training.fit import Data
from fiducial.training.history import ToBeat
from fiducial.training.objective import Supervised
from fiducial.training.pace import Pace, pace_of
from fiducial.training.work import Outcome, Prepare, Work
from fiducial.types import Instances, Skeleton

LEAST_F1 = 0.3  # on val, below which a finder is not used


def usual_recipe() -> FinderRecipe:
    """Gives what a finder starts from."""
    return FinderRecipe()


def preparation(source: Source, given: Collection[str] | None = None) -> Prepare:
    """Gives what reads the data and makes the work of a finder's run on them; `given` as in `training.fit.preparation`."""

    def prepare(recipe: FinderRecipe, out: Path, begins: bool) -> Work:
        return planned_work(load_data(source, recipe), recipe, out, begins, source=str(source), given=given)

    return prepare


def load_data(source: Source, recipe: FinderRecipe) -> Data:
    """Reads train and val, with crowds and instances without points, which a finder finds or ignores."""
    loaded = [annotations.load(source, split, strict=recipe.strict, ignored=True) for split in ("train", "val")]
    (train, _), (validation, _) = loaded
    return Data(train, validation, [problem for _, problems in loaded for problem in problems])


def planned_work(
    data: Data, recipe: FinderRecipe, out: Path, begins: bool, *, source: str, given: Collection[str] | None
) -> Work:
    """Makes the work of a finder's run, planned where it begins; `given` as in `preparation`."""
    train, validation = _readable(data.train), _readable(data.validation)
    choices = plans.read(out)
    if begins and given is not None:
        pace, weights = partial(_pace, train, validation), packaged_weights.here()
        recipe, choices = plan.plan_of(train, facts_of(train), recipe, given, pace, weights)
        for choice in choices:
            logger.info(f"finder: {choice}")
    work = _work_of(data, train, validation, recipe, source)
    return replace(work, beside={"plan": choices} if choices else {})


def _readable(instances: Instances) -> Instances:
    """Those of the images whose size is known, or could be learnt."""
    frames, problems = scenes.frames_of(instances)
    for problem in problems:
        logger.warning(f"finder: {problem}; left out")
    sized = replace(instances, image_size=frames.image_size)
    return sized if len(frames) == len(instances.image_id) else on_images(sized, frames.image_row)


def _work_of(data: Data, train: Instances, validation: Instances, recipe: FinderRecipe, source: str) -> Work:
    kinds = tuple(train.skeleton.kinds) or (train.skeleton.name,)
    detector, initialization = fitting.detector_of(recipe, Skeleton(train.skeleton.name, kinds, flip_pairs=()))
    frames, _ = scenes.frames_of(validation)
    about: dict[str, Any] = {"train_images": len(train.image_id), "train_instances": int(wanted(train).sum())}
    if not wanted(train).any() or not wanted(validation).any():
        raise UserError(source, "a finder needs instances with boxes or points in train and val")

    def save(out: Path, card: Card) -> None:
        detectors.save(detector, out, card)

    return Work(
        recipe=recipe,
        objective=Supervised(detector),
        samples=len(train.image_id),
        passes=recipe.passes,
        train_loader=partial(_train_loader, train, recipe),
        validation_loader=partial(
            scenes.loader, validation, recipe.size, recipe.batch_size, None, workers=worker_count(recipe)
        ),
        scoring=BoxErrors(validation, frames),
        where=train.images.name,
        fingerprint=data.fingerprint,
        problems=data.problems,
        initialization=initialization,
        data_licences=data.licences,
        derived_from=fitting.origins_of(recipe, detector),
        card_metrics=about,
        floor=lambda metrics: ToBeat(1.0, "finding nothing"),
        calibrate=partial(calibrate, detector, validation, recipe, about),
        save=save,
        report=partial(_report, validation=validation, source=source, problems=data.problems),
    )


def _train_loader(train: Instances, recipe: FinderRecipe, rank: int, world: int) -> DataLoader:
    return scenes.loader(
        train,
        recipe.size,
        recipe.batch_size,
        recipe.augment,
        seed=recipe.seed,
        passes=recipe.passes,
        workers=worker_count(recipe),
        rank=rank,
        world=world,
        strict=recipe.strict,
        quarter_turns=recipe.quarter_turns,
    )


def check(recipe: FinderRecipe) -> None:
    """Raises UserError for settings of which no network can be made, before the detector is trained."""
    _untrained(recipe)


def _untrained(recipe: FinderRecipe) -> Detector:
    with torch.random.fork_rng(), muted():
        detector, _ = fitting.detector_of(replace(recipe, pretrained="no", init=None), Skeleton("scene", ("scene",)))
    return detector


def _pace(train: Instances, validation: Instances, recipe: FinderRecipe) -> Pace:
    objective = Supervised(_untrained(recipe))
    objective.frozen = recipe.optimizer.freeze_epochs > 0
    loader = _train_loader(train, replace(recipe, workers=0), 0, 1)
    return pace_of(objective, loader, len(validation.image_id), recipe)


def observed(detector: Detector, instances: Instances, batch_size: int = 16) -> BoxErrors:
    """Shows the detector all images, and gives what it found there."""
    frames, _ = scenes.frames_of(instances)
    scoring, objective = BoxErrors(instances, frames), Supervised(detector)
    device = detector.get_buffer("mean").device
    for batch in scenes.loader(instances, detector.spec.size, batch_size, None):
        scoring.observe(objective, type(batch)(*(column.to(device) for column in batch)))
    return scoring


def calibrate(detector: Detector, validation: Instances, recipe: FinderRecipe, about: dict[str, Any]) -> None:
    """Chooses on val the score from which on an instance counts, and writes it into the finder's spec, and into what the card
    says whether the finder is of use."""
    scoring = observed(detector, validation, recipe.batch_size)
    threshold, mean = best_threshold(scoring.truth, scoring.boxes())
    detector.spec = replace(detector.spec, head={**detector.spec.head, "threshold": round(threshold, 4)})
    about[USABLE] = mean >= LEAST_F1
    logger.info(f"finder: instances count from a score of {threshold:.2f} on, where F1 on val is {mean:.3f}")


def _report(outcome: Outcome, *, validation: Instances, source: str, problems: Any) -> dict[str, Any]:
    """Scores the finder that was kept, and writes its page."""
    out = outcome.out
    detector, _ = detectors.load(out, str(pick_device()))
    scoring = observed(detector, validation, outcome.recipe.batch_size)
    boxes, threshold = scoring.boxes(), float(detector.spec.head["threshold"])
    figures = scored(scoring.truth, boxes, threshold)
    summary = {
        "model": str(out),
        "data": source,
        "split": "val",
        "images": len(validation.image_id),
        "metrics": figures,
    }
    page.write(out, summary, validation, boxes, [*map(str, problems)], [outcome.warning] if outcome.warning else [])
    config.write_json(out / "metrics.json", summary)
    return {**summary, "files": files_of(out)}
