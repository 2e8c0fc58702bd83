"""What is looked at: the crops of a labelled set, whose labels only score, or the frames of videos and images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from fiducial.data import annotations, loading, media
from fiducial.data.augment import AugmentSpec
from fiducial.data.source import Source
from fiducial.distillation.spec import DistillationRecipe
from fiducial.distillation.teacher import Teacher
from fiducial.errors import UserError
from fiducial.evaluation import evaluate
from fiducial.geometry import Size
from fiducial.motion import clip_sources, clips, frames
from fiducial.motion.clips import Clips
from fiducial.training import fit as fitting
from fiducial.training import label_check
from fiducial.training.device import worker_count
from fiducial.types import Instances, Problem


@dataclass(frozen=True, kw_only=True)
class CropSet:
    """Loads the crops to learn from, or those to score on. `batch.row` counts all instances, those of the other set too."""

    instances: Callable[[Size], Instances]  # for crops of a size: frames of clips are kept in that size
    rows: np.ndarray  # [n] of the instances, rising: those of this set
    where: Callable[[int], str]  # names a row for messages
    name: Callable[[int], str]  # names a row below a picture
    padding: float  # of the boxes
    cache_bytes: int = loading.CACHE_BYTES  # decoded images that may be kept in memory

    def __len__(self) -> int:
        return len(self.rows)

    def train_loader(self, recipe: DistillationRecipe, rank: int, world: int) -> DataLoader:
        """Loads whole batches, shuffled and augmented by the recipe's seed and the epoch."""
        return self._loader(
            recipe.size,
            recipe.batch_size,
            recipe.augment,
            seed=recipe.seed,
            passes=recipe.passes,
            workers=worker_count(recipe),
            strict=recipe.strict,
            rank=rank,
            world=world,
        )

    def loader(self, size: Size, batch_size: int, workers: int = 0) -> DataLoader:
        """Loads all crops once, in order, not augmented, cut in any size."""
        return self._loader(size, batch_size, None, workers=workers)

    def _loader(self, size: Size, batch_size: int, spec: AugmentSpec | None, **options: Any) -> DataLoader:
        options |= {"rows": self.rows, "padding": self.padding, "cache_bytes": self.cache_bytes}
        return loading.loader(self.instances(size), size, batch_size, spec, **options)


@dataclass(frozen=True, kw_only=True)
class Material:
    """Holds what teacher and student look at."""

    said: str  # a line for people
    fingerprint: str  # changes with the data, and not with the size in which they are cut
    learnt: CropSet
    scored: CropSet
    truth: Instances | None  # labels of what is scored, of the teacher's points; None where there are none
    split: str  # what is scored, in words
    clips: tuple[tuple[str, np.ndarray], ...] = ()  # name and scored rows of each, of all still images together
    problems: list[Problem]
    licences: tuple[str, ...] = ()  # that the data state


def material_of(
    source: Source,
    out: Path,
    recipe: DistillationRecipe,
    teacher: Teacher,
    *,
    anew: bool = False,
    looks: bool = False,
) -> Material:
    """Reads DATA as labelled crops where it has labels, else as frames, which are kept in RUN/frames.

    Where there are videos beside labels of other points than the teacher's, all are frames. `anew` replaces frames of
    other videos that lie in RUN/frames; `looks`: see `look_at_labels`."""
    path = source.path
    if not path.exists():
        raise UserError(path, "no such file or folder")
    if annotations.is_labelled(path):
        data = fitting.load_data(source, recipe)
        matched = _with_points_of(data, teacher)
        if matched is not None or not _videos_in(path):
            if looks:
                _look(source, recipe, data, matched)
            return _labelled(matched or data, matched is not None, recipe.padding, teacher.offer.points, path)

    def prepared(size: Size) -> Clips:
        """Frames of the run's size in RUN/frames, of the teacher's beside them."""
        folder, spec = out / ("frames" if size == recipe.size else f"frames_{size}"), recipe.motion.clips
        return clips.prepare(source, size, recipe.padding, spec, folder, anew=anew)

    return _unlabelled(path, prepared(recipe.size), prepared, teacher.offer.points)


def look_at_labels(source: Source, recipe: DistillationRecipe, teacher: Teacher) -> None:
    """Looks at labels as `fit` does; where they are not the teacher's points, and not used, at whether images of train are in
    test alone."""
    if recipe.check and annotations.is_labelled(source.path):
        data = fitting.load_data(source, recipe)
        _look(source, recipe, data, _with_points_of(data, teacher))


def _look(source: Source, recipe: DistillationRecipe, data: fitting.Data, matched: fitting.Data | None) -> None:
    if matched is not None:
        label_check.look({"train": matched.train, "val": matched.validation}, recipe, source)
    elif recipe.check:
        label_check.check_test({"train": data.train, "val": data.validation}, source)


def _labelled(data: fitting.Data, matches: bool, padding: float, teacher_points: int, path: Path) -> Material:
    """Instances cut out by their boxes; `matches`: their labels are of the teacher's points."""
    train, validation = data.train, data.validation
    labels = (
        "whose labels score student and teacher"
        if matches
        else f"whose {len(validation.skeleton.points)} points are others than the teacher's {teacher_points}: labels are not "
        "used"
    )
    videos = len(_videos_in(path))
    left = f"; {videos} videos in it are not used: give their folder alone to learn from them" if videos else ""

    def crop_set(part: Instances) -> CropSet:
        return CropSet(
            instances=lambda size: part,
            rows=np.arange(len(part)),
            where=part.where,
            name=lambda row: PurePath(part.images.name(int(part.image_row[row]))).name,
            padding=padding,
        )

    return Material(
        said=f"{path}: {len(train)} labelled crops of train, {len(validation)} of val, {labels}{left}",
        fingerprint=data.fingerprint,
        learnt=crop_set(train),
        scored=crop_set(validation),
        truth=validation if matches else None,
        split="val",
        problems=data.problems,
        licences=data.licences,
    )


def _unlabelled(path: Path, whole: Clips, prepared: Callable[[Size], Clips], points: int) -> Material:
    """Frames of clips, and images, each whole; of a clip that is scored 60 frames, evenly over it."""

    def instances(size: Size) -> Instances:
        return frames.instances_of(whole if size == whole.index.size else prepared(size), points)

    # The frames are decoded already: nothing is gained by keeping them in memory once more.
    learnt, scored = (
        CropSet(instances=instances, rows=rows, where=whole.where, name=whole.where, padding=1.0, cache_bytes=0)
        for rows in (frames.train_rows(whole), frames.scored_rows(whole))
    )
    clip_of_row = np.array([whole.clip_of(row) for row in scored.rows.tolist()])
    groups = whole.grouped(np.unique(clip_of_row).tolist())
    return Material(
        said=f"{path}: {len(learnt)} frames to learn from, {len(scored)} to score on ({whole.index.used})",
        fingerprint=whole.index.digest,
        learnt=learnt,
        scored=scored,
        truth=None,
        split=whole.split,
        clips=tuple((name, scored.rows[np.isin(clip_of_row, members)]) for name, members in groups),
        problems=whole.problems,
    )


def _videos_in(path: Path) -> list[Path]:
    return [file for file in clip_sources.files_of(path) if media.kind_by_name(file) == "video"]


def _with_points_of(data: fitting.Data, teacher: Teacher) -> fitting.Data | None:
    """The data with the teacher's points, found by name or, of a teacher that was taught by labels, by their number; None
    where the data do not have them."""
    names, wanted = data.validation.skeleton.points, teacher.detector.spec.skeleton.points
    by_name = set(wanted) <= set(names)
    by_number = (
        len(names) == len(wanted) and not set(names) & set(wanted) and not teacher.detector.head.learns_without_labels
    )
    if not by_name and not by_number:
        return None
    train, validation = (
        part.select(np.flatnonzero(part.labelled.any(1)))
        for part in (evaluate.match_points(part, wanted, part.source) for part in (data.train, data.validation))
    )
    return replace(data, train=train, validation=validation) if len(train) and len(validation) else None
