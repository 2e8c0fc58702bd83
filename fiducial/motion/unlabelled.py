"""Images whose labels nobody has, or uses, as instances to learn from: what a folder of images and videos holds, each
frame whole, or the boxes of a labelled set."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fiducial.data import annotations
from fiducial.data.source import Source
from fiducial.errors import UserError
from fiducial.log import logger
from fiducial.motion import clips, frames
from fiducial.motion.clips import ClipSpec
from fiducial.types import Instances, Skeleton

if TYPE_CHECKING:
    from fiducial.training.fit import Pool
    from fiducial.training.recipe import Recipe


def pool_of(source: Source) -> Pool:
    """Gives what reads a source as unlabelled instances, its frames kept in RUN/frames."""
    return partial(_read, source)


def without_labels(instances: Instances, skeleton: Skeleton) -> Instances:
    """Gives instances with nothing but their boxes, as those of a skeleton; UserError where there are none."""
    if len(instances) == 0:
        raise UserError(instances.source or "unlabelled", "no instance in it; expected one or more")
    shape = len(instances), len(skeleton.points)
    return replace(
        instances,
        skeleton=skeleton,
        xy=np.zeros((*shape, 2), np.float32),
        visibility=np.zeros(shape, np.uint8),
        ignored=np.zeros(len(instances), bool),
    )


def _read(source: Source, skeleton: Skeleton, recipe: Recipe, out: Path, begins: bool) -> Instances:
    path = source.path
    if annotations.is_labelled(path):
        splits = annotations.find(path)[1]
        split = "all" if len(splits) == 1 else "train"
        labelled, problems = annotations.load(source, split, ignored=True)
        for problem in problems[:10]:
            logger.warning(str(problem))
        pool = without_labels(labelled.select(~labelled.crowd), skeleton)
        which = "" if split == "all" else " of train"
        logger.info(f"{path}: {len(pool)} boxes{which} are learnt from, and no label of theirs")
        return pool
    frame_clips = clips.prepare(source, recipe.size, recipe.padding, ClipSpec(), out / "frames", anew=begins)
    for problem in frame_clips.problems[:10]:
        logger.warning(str(problem))
    pool = without_labels(frames.instances_of(frame_clips, len(skeleton.points)), skeleton)
    logger.warning(
        f"{path}: {len(pool)} frames without boxes are learnt from: the whole of each is taken for one instance's box. Where "
        "instances are smaller, give a file with their boxes"
    )
    return pool
