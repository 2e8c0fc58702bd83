"""The finder beside a detector: whether one is needed, its run in the detector's folder, and what the two are worth."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from fiducial import config, files
from fiducial.card import FINDER
from fiducial.data import annotations
from fiducial.data.source import Source
from fiducial.errors import UserError
from fiducial.evaluation import evaluate, found
from fiducial.finding import fit, plan
from fiducial.finding.plan import Need
from fiducial.finding.recipe import FinderRecipe
from fiducial.log import logger
from fiducial.runtime import runtime
from fiducial.training import plan as plans
from fiducial.training import run
from fiducial.training.finder_words import SHARE
from fiducial.training.fit import Data
from fiducial.training.recipe import Recipe

SHARED = ("epochs", "batch_size", "seed", "pretrained", "workers", "strict", "licence", "patience")
AUTO, NONE = "auto", "no"
LEAST_MINUTES = 0.4  # that a finder is given, unless one is asked for: planning it takes most of less
USELESS = (
    "the finder has learnt too little to be of use and is left out: whole images are looked at. Give more --minutes, or "
    "--set finder.epochs=N, or labels of more images"
)


@dataclass(frozen=True)
class Beside:
    """What is to be done about a finder."""

    data: Source | Data  # whole splits, with crowds and what has no points, where they are in memory
    recipe: FinderRecipe
    given: frozenset[str]
    copied: Path | None = None  # a run whose finder is taken

    def run(self, out: Path, *, progress: bool) -> dict[str, Any]:
        """Makes OUT/finder, or goes on with it, and gives its figures and those of both together."""
        folder = out / FINDER
        if self.copied is not None and not (folder / "model.json").exists():
            _copy(self.copied / FINDER, folder)
        if not (folder / "model.json").exists():
            data = self.data
            if isinstance(data, Source):
                prepare = fit.preparation(data, self.given)
            else:
                prepare = partial(fit.planned_work, data, source=data.train.source, given=self.given)
            resume = (folder / "checkpoints" / "last.ckpt").exists()
            run.run(prepare, folder, self.recipe, resume=resume, progress=progress)
        figures_file = folder / "metrics.json"  # not there where it was stopped while its page was made
        own = files.read_object(figures_file) if figures_file.is_file() else {}
        told: dict[str, Any] = {"finder": own.get("metrics", {})}
        if runtime.opened(out).finder is None:
            told["finder"] = {**told["finder"], "warning": USELESS}
            logger.warning(USELESS)
        else:
            told["found"] = self._judged(out)
            for line in found.lines(told["found"]):
                logger.info(line)
        return told

    def _judged(self, out: Path) -> dict[str, Any]:
        """What both are worth together, on val."""
        network = runtime.opened(out)
        assert network.finder is not None
        data = self.data
        whole = annotations.load(data, "val", ignored=True)[0] if isinstance(data, Source) else data.validation
        whole = evaluate.match_points(whole, network.skeleton.points, whole.source)
        looked = evaluate.evaluate_network(network.network, whole)
        return found.evaluate_found(network.network, network.finder, whole, looked.keypoints, looked.row)


def beside(
    asked: str | Path | None,
    data: Source | Data,
    recipe: Recipe,
    given: frozenset[str],
    settings: Sequence[str],
    *,
    planned: bool,
) -> Beside | None:
    """Decides whether a run gets a finder. asked: "auto" [where runs are planned], where the data need one; "no"; or a run whose
    finder is taken. recipe: the detector's; settings: those of the finder, without their prefix. None: no finder."""
    own = config.with_settings(
        replace(FinderRecipe(), **{name: getattr(recipe, name) for name in SHARED if name in given or name == "seed"}),
        list(settings),
    )
    minutes = None if recipe.minutes is None else SHARE * recipe.minutes
    own = own if own.minutes is not None else replace(own, minutes=minutes)
    all_given = (given & frozenset(SHARED)) | frozenset(plans.given_by({}, settings))
    if asked is not None and str(asked) not in (AUTO, NONE):
        taken = Path(asked)
        if not (taken / FINDER / "model.json").is_file():
            raise UserError(
                f"--finder {taken}", "is no run with a finder; expected auto, no, or the folder of such a run"
            )
        return Beside(data, own, all_given, taken)
    if str(asked) == NONE or (asked is None and not planned):
        return None
    need = _need(data)
    if not need.needed:
        if str(asked) == AUTO or settings:
            logger.warning(f"finder: none is made: {need.why}")
        return None
    if asked is None and not settings and own.minutes is not None and own.minutes < LEAST_MINUTES:
        logger.warning(
            f"finder: none is made, though {need.why}: {60 * own.minutes:.0f} s, its share of the minutes, are too few; whole images are "
            "looked at (--finder auto tries it)"
        )
        return None
    fit.check(own)
    logger.info(f"finder: one is made beside the detector: {need.why} (--finder no leaves it out)")
    return Beside(data, own, all_given)


def _copy(finder: Path, folder: Path) -> None:
    """Copies a finder's run without what only training needs, whole or not at all."""
    partial_copy = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial_copy, ignore_errors=True)
    shutil.copytree(finder, partial_copy, ignore=shutil.ignore_patterns("checkpoints", "tensorboard"))
    shutil.rmtree(folder, ignore_errors=True)
    partial_copy.replace(folder)


def _need(data: Source | Data) -> Need:
    if not isinstance(data, Source):
        return plan.need_of(data.train)
    try:
        train = annotations.load(data, "train", verify=False, ignored=True)[0]
        if not (train.image_size > 0).all():  # formats that state no sizes: the images' heads are read
            train = annotations.load(data, "train", ignored=True)[0]
    except UserError:  # the detector's run says it, with all that is wrong
        return Need(False, "the data can't be read")
    return plan.need_of(train)
