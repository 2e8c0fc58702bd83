"""What is looked at: the crops of a labelled set, whose labels only score, or the frames of videos and pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from torch.utils.data import DataLoader

from fiducial.data import annotations, loading, video
from fiducial.distill.teacher import Teacher
from fiducial.errors import UserError
from fiducial.evaluation import evaluate
from fiducial.geometry import Size
from fiducial.motion import clip_sources, clips, frames
from fiducial.training import engine
from fiducial.training import fit as fitting
from fiducial.training.recipe import Recipe
from fiducial.types import Instances, Problem


class Material(Protocol):
    """Crops to learn from, and others to score on."""

    @property
    def fingerprint(self) -> str:
        """Changes with the data, and not with the size in which they are cut."""
        ...

    @property
    def said(self) -> str:
        """A line for people."""
        ...

    @property
    def truth(self) -> Instances | None:
        """Labels of what is scored, of the teacher's points; None where there are none."""
        ...

    @property
    def problems(self) -> list[Problem]: ...

    def where(self, row: int, scored: bool = False) -> str: ...

    @property
    def split(self) -> str:
        """What is scored, in words."""
        ...

    def groups(self) -> list[tuple[str, np.ndarray]]:
        """Name and scored rows of each clip, of all still pictures together; nothing where crops are of no clips."""
        ...

    def rows(self, scored: bool) -> np.ndarray:
        """Which `batch.row` there are, rising."""
        ...

    def train_loader(self, recipe: Recipe, rank: int, world: int) -> DataLoader: ...

    def plain_loader(self, scored: bool, size: Size, batch_size: int, workers: int = 0) -> DataLoader:
        """All crops once, in order, not augmented, cut in any size."""
        ...


def material_of(
    path: Path, out: Path, recipe: Recipe, teacher: Teacher, *,
    images: Path | None = None, category: str | None = None, anew: bool = False,
) -> Material:  # fmt: skip
    """DATA as labelled crops where it has labels, else as frames, which are kept in RUN/frames (`anew`: also where those
    of other videos are there). Where there are videos beside labels of other points than the teacher's, all are frames."""
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if annotations.is_labelled(path):
        data = fitting.load_data(path, recipe, images=images, category=category)
        matched = _with_points_of(data, teacher)
        if matched is not None or not _videos_in(path):
            return Labelled(matched or data, matched is not None, recipe.padding, teacher.offer.points, path)
    return Unlabelled(path, out, recipe, teacher.offer.points, images, category, anew)


@dataclass(frozen=True)
class Labelled:
    """Instances cut out by their boxes."""

    split = "val"

    data: fitting.Data
    matches: bool  # labels are of the teacher's points
    padding: float
    points: int  # of the teacher
    path: Path

    @property
    def truth(self) -> Instances | None:
        return self.data.validation if self.matches else None

    @property
    def fingerprint(self) -> str:
        return self.data.fingerprint

    @property
    def problems(self) -> list[Problem]:
        return self.data.problems

    @property
    def said(self) -> str:
        own = len(self.data.validation.skeleton.points)
        labels = (
            "whose labels score student and teacher"
            if self.matches
            else f"whose {own} points are others than the teacher's {self.points}: labels are not used"
        )
        videos = len(_videos_in(self.path))
        left = f"; {videos} videos in it are not used: give their folder alone to learn from them" if videos else ""
        return f"{self.path}: {len(self.data.train)} labelled crops of train, {len(self.data.validation)} of val, {labels}{left}"

    def where(self, row: int, scored: bool = False) -> str:
        return self._part(scored).where(row)

    def groups(self) -> list[tuple[str, np.ndarray]]:
        return []

    def rows(self, scored: bool) -> np.ndarray:
        return np.arange(len(self._part(scored)))

    def train_loader(self, recipe: Recipe, rank: int, world: int) -> DataLoader:
        return loading.loader(
            self.data.train, recipe.size, recipe.batch_size, recipe.augment, seed=recipe.seed, rank=rank, world=world,
            strict=recipe.strict, padding=self.padding, workers=engine.worker_count(recipe),
        )  # fmt: skip

    def plain_loader(self, scored: bool, size: Size, batch_size: int, workers: int = 0) -> DataLoader:
        return loading.loader(self._part(scored), size, batch_size, None, padding=self.padding, workers=workers)

    def _part(self, scored: bool) -> Instances:
        return self.data.validation if scored else self.data.train


class Unlabelled:
    """Frames of clips, whole, and pictures; of a clip that is scored 60, evenly over it."""

    truth = None

    def __init__(
        self, path: Path, out: Path, recipe: Recipe, points: int, images: Path | None, category: str | None, anew: bool
    ) -> None:
        self.path, self.out, self.points = path, out, points
        self.recipe, self.images, self.category, self.anew = recipe, images, category, anew
        self.clips = self._prepared(recipe.size)

    @property
    def fingerprint(self) -> str:
        return self.clips.index.digest

    @property
    def problems(self) -> list[Problem]:
        return self.clips.problems

    @property
    def said(self) -> str:
        counts = len(self.rows(False)), len(self.rows(True))
        return f"{self.path}: {counts[0]} frames to learn from, {counts[1]} to score on ({self.clips.index.used})"

    @property
    def split(self) -> str:
        return self.clips.split

    def where(self, row: int, scored: bool = False) -> str:
        return self.clips.where(row)

    def groups(self) -> list[tuple[str, np.ndarray]]:
        rows = self.rows(True)
        clips = np.array([self.clips.clip_of(row) for row in rows.tolist()])
        found = self.clips.grouped(np.unique(clips).tolist())
        return [(name, rows[np.isin(clips, some)]) for name, some in found]

    def rows(self, scored: bool) -> np.ndarray:
        return frames.scored_rows(self.clips) if scored else frames.train_rows(self.clips)

    def train_loader(self, recipe: Recipe, rank: int, world: int) -> DataLoader:
        return frames.loader(
            self.clips, self.rows(False), self.points, recipe.batch_size, recipe.augment, seed=recipe.seed,
            workers=engine.worker_count(recipe), rank=rank, world=world,
        )  # fmt: skip

    def plain_loader(self, scored: bool, size: Size, batch_size: int, workers: int = 0) -> DataLoader:
        own = self.clips if size == self.recipe.size else self._prepared(size)
        return frames.loader(own, self.rows(scored), self.points, batch_size, None, workers=workers)

    def _prepared(self, size: Size) -> clips.Clips:
        """Frames of the run's own size in RUN/frames, of the teacher's beside them."""
        folder = self.out / ("frames" if size == self.recipe.size else f"frames_{size}")
        spec = self.recipe.motion.clips
        return clips.prepare(
            self.path, size, self.recipe.padding, spec, folder,
            images=self.images, category=self.category, anew=self.anew,
        )  # fmt: skip


def _videos_in(path: Path) -> list[Path]:
    return [file for file in clip_sources.files_of(path) if file.suffix.lower() in video.SUFFIXES]


def _with_points_of(data: fitting.Data, teacher: Teacher) -> fitting.Data | None:
    """The data with the teacher's points, where they have them: by name, or as many of a labelled teacher's."""
    own, wanted = data.validation.skeleton.points, teacher.detector.spec.skeleton.points
    named = set(wanted) <= set(own)
    in_order = (
        len(own) == len(wanted) and not set(own) & set(wanted) and not teacher.detector.head.learns_without_labels
    )
    if not named and not in_order:
        return None
    train, validation = (evaluate.match_points(part, wanted, part.source) for part in (data.train, data.validation))
    some = [part.select(np.flatnonzero(part.labelled.any(1))) for part in (train, validation)]
    return replace(data, train=some[0], validation=some[1]) if all(map(len, some)) else None
