"""Images whose labels nobody has, or uses, as instances to learn from: what a folder of images and videos holds, each
frame whole, or the boxes of a COCO file or a labelled set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fiducial.data import annotations, media
from fiducial.data.formats import coco, located
from fiducial.data.images import FramesOf
from fiducial.data.source import Source
from fiducial.errors import UserError
from fiducial.log import logger
from fiducial.motion import clips, frames
from fiducial.motion.clip_sources import files_of
from fiducial.motion.clips import Clips, ClipSpec
from fiducial.prediction import boxes
from fiducial.types import Findings, Instances, Problem, Skeleton

if TYPE_CHECKING:
    from fiducial.training.fit import Pool
    from fiducial.training.recipe import Recipe

TOLD = 10  # problems; a run's own data tell theirs beside these


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
    if path.suffix.lower() == ".json" and path.is_file():
        return _of_file(path, skeleton)
    if annotations.is_labelled(path):
        return _of_train(path, skeleton)
    frame_clips = clips.prepare(source, recipe.size, recipe.padding, ClipSpec(), out / "frames", anew=begins)
    _tell(frame_clips.problems)
    pool = without_labels(frames.instances_of(frame_clips, len(skeleton.points)), skeleton)
    pool = replace(pool, images=FramesOf(pool.images, _stills(path, frame_clips)))
    logger.warning(
        f"{path}: {len(pool)} frames without boxes are learnt from: the whole of each is taken for one instance's box. Where "
        "instances are smaller, give a COCO file with their boxes"
    )
    return pool


def _stills(path: Path, found: Clips) -> dict[int, Path]:
    """The files of frames that are images: of a folder's where each of them is a frame."""
    files = {}
    for clip, name in enumerate(found.index.names):
        file, rows = path if path.is_file() else path / name, found.rows(clip)
        inside = [file] if file.is_file() else [each for each in files_of(file) if each.parent == file]
        images = [each for each in inside if media.kind_by_name(each) == "image"]
        if len(images) == len(rows):
            files |= dict(zip(rows, images, strict=True))
    return files


def _of_train(path: Path, skeleton: Skeleton) -> Instances:
    """The boxes of a labelled set's train, or of all where it has no splits."""
    splits = annotations.find(path)[1]
    split = "all" if len(splits) == 1 else "train"
    labelled, problems = annotations.load(path, split, ignored=True)
    _tell(problems)
    pool = without_labels(labelled.select(~labelled.crowd), skeleton)
    logger.info(f"{path}: {len(pool)} boxes{'' if split == 'all' else ' of train'} are learnt from, no label of theirs")
    return pool


def _of_file(path: Path, skeleton: Skeleton) -> Instances:
    """The boxes of a COCO file, of whatever category, whether it has points or not."""
    of_images = boxes.read(path)
    findings = Findings(str(path))
    size = np.array([image.declared or (0, 0) for image in of_images.boxes], np.int32).reshape(-1, 2)
    images = located(of_images.names, coco.folders_of(path), path, findings, size)
    box_xywh = np.array([box for image in of_images.boxes for box in image.xywh], np.float32).reshape(-1, 4)
    for line in [*of_images.problems[:TOLD], *of_images.notes, *map(str, findings.notes)]:
        logger.warning(line)
    count = len(box_xywh)
    logger.info(f"{path}: {count} boxes are learnt from, no label of theirs")
    return Instances(
        skeleton=skeleton,
        images=images,
        image_id=np.arange(len(size)),
        image_size=size,
        image_row=np.repeat(np.arange(len(size)), [len(image.xywh) for image in of_images.boxes]),
        annotation_id=np.arange(count),
        xy=np.zeros((count, len(skeleton.points), 2), np.float32),
        visibility=np.zeros((count, len(skeleton.points)), np.uint8),
        box_xywh=box_xywh,
        area=box_xywh[:, 2] * box_xywh[:, 3],
        crowd=np.zeros(count, bool),
        source=str(path),
        ignored=np.zeros(count, bool),
    )


def _tell(problems: Sequence[Problem]) -> None:
    for problem in problems[:TOLD]:
        logger.warning(str(problem))
    if len(problems) > TOLD:
        logger.warning(f".. and {len(problems) - TOLD} more")
