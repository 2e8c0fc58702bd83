"""Points of models that have not seen what they look at: a set in three parts, a quick model of each, and what it finds in
the other two.

Two models that have no image in common look at each instance, so that what they disagree in is theirs, not the label's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import config, files, text_files
from fiducial.api.fit import fit
from fiducial.checks import copies
from fiducial.checks.finding import Labelled
from fiducial.data.groups import groups_of
from fiducial.data.together import together
from fiducial.errors import UserError
from fiducial.evaluation import evaluate as evaluating
from fiducial.evaluation import floor, metrics
from fiducial.log import logger
from fiducial.runtime import runtime
from fiducial.training.folds import fold_of
from fiducial.types import Instances, Keypoints

PARTS = 3
VALIDATED = 10  # one image of so many of a part chooses its model's epoch
FEWEST = 30  # images, with which a part's model has ten
WORTH = 0.6  # of the mean shape's error: models that are no better say nothing
MINUTES = 15.0  # that all models together may take


@dataclass(frozen=True, kw_only=True)
class Unseen:
    """Holds labelled instances with what two models that learnt from neither them nor each other's images find there."""

    row: np.ndarray  # [n] of the instances of all splits, one after the other
    instances: Instances  # [n] these
    part: np.ndarray  # [n] 0 to 2
    xy: np.ndarray  # [2, n, k, 2] px of the images
    spread_px: (
        np.ndarray | None
    )  # [n, k] what the models say of their own error, root mean square; None where they do not

    @property
    def error(self) -> float:
        """Gives the NME of the two models together."""
        points = Keypoints(self.mean, np.ones(self.xy.shape[1:3]))
        return metrics.score(self.instances, points).nme

    @property
    def doubt(self) -> str:
        """Says that the models are hardly better than the mean shape, so that they know little; "" where they are."""
        error, ground = self.error, self.floor
        if error <= WORTH * ground:
            return ""
        return (
            f"the models that should judge the labels err by NME {error:.3f}, the mean shape by {ground:.3f}: they know too "
            "little; give them more time (--minutes) or more images"
        )

    @property
    def floor(self) -> float:
        """Gives the NME of the mean shape of the instances."""
        return floor.floor_of(self.instances, self.instances).nme

    @property
    def mean(self) -> np.ndarray:
        """Gives [n, k, 2] px: where the two models together see the points."""
        return self.xy.mean(0)


def look(
    labelled: Labelled,
    folder: Path,
    *,
    label_files: Sequence[Path] = (),
    minutes: float = MINUTES,
    seed: int = 0,
    progress: bool = False,
    **choices: Any,
) -> Unseen:
    """Trains the models, one after the other, and lets each look at what it has not seen; those in `folder` that were
    trained on the same labels with the same choices are taken as they are.

    Images that belong together (`data/groups.py`, by fields of `label_files` too) and copies are in one part. choices: further
    arguments of `fiducial.fit`. UserError for fewer than 30 images."""
    choices = {name: value for name, value in choices.items() if value is not None}
    joined = together([part for _, part in labelled.instances])
    rows = np.flatnonzero(joined.labelled.any(1) & ~joined.crowd)
    instances = joined.select(rows)
    count = len(np.unique(instances.image_row))
    if count < FEWEST:
        raise UserError(instances.source, f"{count} images with labels; models of thirds of them need {FEWEST} or more")
    part = _parts(labelled, instances, label_files, seed)
    _keep(
        folder,
        {
            "labels": files.digest([*instances.label_bytes(), part]),
            "minutes": minutes,
            "seed": seed,
            "choices": {name: str(value) for name, value in sorted(choices.items())},
        },
    )
    found = np.full((PARTS, len(instances), len(instances.skeleton.points), 2), np.nan)
    spread = np.full(found.shape[:-1], np.nan)
    for number in range(PARTS):
        run = folder / f"part_{number}"
        if not (run / "metrics.json").exists():
            logger.info(f"model {number + 1} of {PARTS}, of {(part == number).sum()} instances: {run}")
            train, val = apart_for_epochs(instances.select(part == number))
            fit(
                train,
                run,
                val=val,
                minutes=minutes / PARTS,
                seed=seed,
                preflight=False,
                resume=run.exists(),
                progress=progress,
                **{"check": False, "finder": "no", **choices},  # what is wrong is what is asked; boxes are the labels'
            )
        others = np.flatnonzero(part != number)
        looked = evaluating.evaluate_network(runtime.load(run).network, instances.select(others))
        found[number, others[looked.row]] = looked.keypoints.xy
        if looked.keypoints.sigma is not None:
            spread[number, others[looked.row]] = np.sqrt(np.square(looked.keypoints.sigma).mean(-1))
    pairs = np.array([[1, 2], [0, 2], [0, 1]])[part].T  # [2, n] which models have not seen an instance
    everyone = np.arange(len(instances))
    xy, spread = found[pairs, everyone], spread[pairs, everyone]
    whole = np.flatnonzero(np.isfinite(xy).all((0, 2, 3)))
    return Unseen(
        row=rows[whole],
        instances=instances.select(whole),
        part=part[whole],
        xy=xy[:, whole],
        spread_px=None if np.isnan(spread).any() else np.sqrt(np.square(spread[:, whole]).mean(0)),
    )


def _parts(labelled: Labelled, instances: Instances, label_files: Sequence[Path], seed: int) -> np.ndarray:
    """[n] which part an instance belongs to: all to one whose images belong together or are copies of each other."""
    groups = groups_of(instances, label_files)
    group = _with_copies(labelled, groups.of_image)
    part = fold_of(group[instances.image_row], instances.image_row, PARTS, seed)
    if part is None:
        raise UserError(
            instances.source, f"fewer than {PARTS} of its {groups.what} differ, so that no model could judge"
        )
    return part


def _with_copies(labelled: Labelled, group: np.ndarray) -> np.ndarray:
    """Joins groups [m] of the images of all splits, one split after the other, that share an image."""
    first = dict(
        zip(labelled.splits, np.cumsum([0, *(len(part.images) for _, part in labelled.instances)]), strict=False)
    )
    pictures = copies.pictures_of(labelled)
    for copy in copies.all_copies(labelled, pictures, copies.thumbnails(pictures, labelled)):
        one, other = (group[first[picture.split] + picture.row] for picture in (copy.one, copy.other))
        if one >= 0 and other >= 0:
            group = np.where(group == other, one, group)
    return group


def apart_for_epochs(part: Instances) -> tuple[Instances, Instances]:
    """Sets one image of ten apart for choosing the epoch, so that no model sees anything of another part."""
    images = np.unique(part.image_row)
    chooses = np.isin(part.image_row, images[:: min(VALIDATED, len(images) // 2)])
    return part.select(~chooses), part.select(chooses)


def _keep(folder: Path, wanted: dict[str, Any]) -> None:
    """Writes what the models of a folder are made of; UserError where it holds others."""
    file = folder / "parts.json"
    there = text_files.read_json(file) if file.exists() else None
    if there is not None and there != wanted:
        differing = [name for name in wanted if there.get(name) != wanted[name]]
        raise UserError(
            folder, f"holds models of other {' and '.join(differing)}; give a new folder, or the same again"
        )
    if there is None:
        folder.mkdir(parents=True, exist_ok=True)
        config.write_json(file, wanted)
