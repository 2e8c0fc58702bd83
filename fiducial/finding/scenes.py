"""Whole images with the boxes of all that is in them, as a finder sees them: `data/loading.py` reads, warps and recolours
them as it does crops, an image being one whose box is the whole of it."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from fiducial import geometry
from fiducial.data import augment, crops, loading
from fiducial.data.augment import AugmentSpec
from fiducial.data.loading import Crops, ImageGroupedSampler, Sample
from fiducial.drawnfaces.background import draw_background
from fiducial.errors import UserError
from fiducial.evaluation.found import boxed, wanted
from fiducial.geometry import Size
from fiducial.types import Instances, Problem, Scenes, Skeleton

PADDING = 1.0  # of whole images: none
# Share of the scenes of training that show nothing: half of them parts of the images beside all instances, half drawn. In
# sets whose images all hold some, a finder would never learn that there may be none.
NOTHING = 0.1
WINDOW, TRIALS = (0.2, 0.6), 8  # sides of such parts, of the image's; how often one is looked for
SHOWS = 0.3  # share of a box that must lie in a scene to be found there; less is ignored
LEAST_PX = 3.0  # of the scene: what is smaller there is ignored


def frames_of(instances: Instances) -> tuple[Instances, list[Problem]]:
    """Makes one instance of each image, whole; and what is wrong with those that can't be read to learn their size."""
    size, problems = instances.image_size.astype(np.int64), []
    for row in np.flatnonzero((size <= 0).any(1)).tolist():
        try:
            picture = instances.images.read(row)
        except UserError as error:
            name = instances.images.name(row)
            problems.append(Problem(name, f"image {instances.image_id[row]}", error.about(name)))
            continue
        size[row] = picture.shape[1], picture.shape[0]
    rows = np.flatnonzero((size > 0).all(1))
    boxes = np.array([geometry.whole_image_box(Size(*size[row].tolist())) for row in rows]).reshape(-1, 4)
    frames = Instances(
        skeleton=Skeleton("scenes", ("middle",), flip_pairs=()),
        images=instances.images,
        image_id=instances.image_id,
        image_size=size.astype(np.int32),
        image_row=rows,
        annotation_id=rows,
        xy=np.array([geometry.box_middle(box) for box in boxes], np.float32).reshape(-1, 1, 2),
        visibility=np.full((len(rows), 1), 2, np.uint8),
        box_xywh=boxes.astype(np.float32),
        area=boxes[:, 2:].prod(1).astype(np.float32),
        crowd=np.zeros(len(rows), bool),
        source=instances.source,
        licences=instances.licences,
    )
    return frames, problems


def loader(
    instances: Instances,
    size: Size,
    batch_size: int,
    spec: AugmentSpec | None,
    *,
    seed: int = 0,
    passes: float = 1,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
    strict: bool = False,
    quarter_turns: bool = False,
) -> DataLoader:
    """Loads batches of `Scenes` of `size`, as `loading.loader` does of crops: with a `spec` for training, shuffled and
    varied; with None every image once, in order. `quarter_turns`: images are turned by right angles, too."""
    frames, _ = frames_of(instances)
    if len(frames) == 0:
        raise UserError(f"{instances.source}: none of its pictures can be read")
    rows = np.arange(len(frames))
    scenes = SceneSet(instances, frames, size, spec, seed=seed, strict=strict, quarter_turns=quarter_turns)
    draws = ImageGroupedSampler(
        rows, frames.image_row, batch_size, seed=seed, training=spec is not None, passes=passes, rank=rank, world=world
    )
    return loading.loader_of(scenes, draws, workers)


class SceneSet(Crops):
    """Makes the batches of `loader`."""

    def __init__(
        self,
        labelled: Instances,
        frames: Instances,
        size: Size,
        spec: AugmentSpec | None,
        *,
        seed: int,
        strict: bool,
        quarter_turns: bool,
    ) -> None:
        super().__init__(frames, size, spec, seed=seed, padding=PADDING, strict=strict)
        self.labelled, self.quarter_turns = labelled, quarter_turns
        self.wanted = wanted(labelled)
        used = np.flatnonzero(boxed(labelled))
        used = used[np.argsort(labelled.image_row[used], kind="stable")]
        ends = np.searchsorted(labelled.image_row[used], np.arange(len(labelled.image_id) + 1))
        self.rows_of = [used[a:b] for a, b in itertools.pairwise(ends)]
        self.places = max(1, max((len(rows) for rows in self.rows_of), default=1))

    def _sample(self, row: int, epoch: int) -> Sample:
        sample = super()._sample(row, epoch)
        if self.spec is None:
            return sample
        if sample.generator.random() < NOTHING:
            beside = self._beside(row, sample.generator) if sample.generator.random() < 0.5 else None
            return sample._replace(matrix=_DRAWN if beside is None else beside)
        if not self.quarter_turns:
            return sample
        quarters = (90 if self.size.w == self.size.h else 180) * int(sample.generator.integers(4))
        x, y = geometry.box_middle(geometry.whole_image_box(self.size)).tolist()
        turn = geometry.rotation(math.radians(quarters), (x, y))
        return sample._replace(matrix=geometry.compose(sample.matrix, turn))

    def _beside(self, row: int, generator: np.random.Generator) -> np.ndarray | None:
        """The map of a part of the image that none of its boxes reaches into; None where none was found."""
        image_row = int(self.instances.image_row[row])
        size = self._size(image_row)
        boxes = self.labelled.box_xywh[self.rows_of[image_row]].astype(np.float64)
        if size is None:
            return None
        for _ in range(TRIALS):
            sides = generator.uniform(*WINDOW) * np.array(size, np.float64)
            corner = generator.random(2) * (size - sides)
            window = geometry.fit_aspect(np.concatenate([corner, sides]), self.size)
            if not geometry.boxes_meet(window, boxes).any():
                return geometry.crop(window, self.size)
        return None

    def _arrays(self, count: int) -> Any:
        return _Arrays(count, self.size, self.places)

    def _fill(self, batch: Any, place: int, sample: Sample, picture: np.ndarray | None) -> None:
        batch.row[place], batch.image_to_crop[place] = sample.row, sample.matrix
        if picture is None:
            return
        if sample.matrix is _DRAWN:
            batch.image_to_crop[place] = np.eye(3)
            nothing = draw_background(self.size, sample.generator)
            batch.image[place] = augment.recolour(self.spec, nothing, sample.generator) if self.spec else nothing
            return
        image_row = int(self.instances.image_row[sample.row])
        scene = crops.crop_of(picture, self._size(image_row), sample.matrix, self.size)
        batch.image[place] = scene if self.spec is None else augment.recolour(self.spec, scene, sample.generator)
        rows = self.rows_of[image_row]
        if len(rows) == 0:
            return
        mapped = geometry.map_boxes(sample.matrix, self.labelled.box_xywh[rows].astype(np.float64))
        seen = geometry.clip_boxes(mapped, self.size)
        shows = seen[:, 2:].prod(1) >= SHOWS * mapped[:, 2:].prod(1)
        counts = shows & self.wanted[rows] & (seen[:, 2:].min(1) >= LEAST_PX)
        # Evaluation sees boxes as they are, also where they reach beyond the image.
        batch.box_xywh[place, : len(rows)] = mapped if self.spec is None else seen
        batch.present[place, : len(rows)] = counts
        if self.labelled.kind is not None:
            batch.kind[place, : len(rows)] = self.labelled.kind[rows]
        batch.ignored[place, : len(rows)] = ~counts


_DRAWN = np.eye(3)  # the map of scenes that are drawn


class _Arrays:
    """A batch being filled."""

    def __init__(self, count: int, size: Size, places: int) -> None:
        self.image = np.zeros((count, size.h, size.w, 3), np.uint8)
        self.box_xywh = np.zeros((count, places, 4), np.float32)
        self.kind = np.zeros((count, places), np.int64)
        self.present = np.zeros((count, places), np.float32)
        self.ignored = np.zeros((count, places), np.float32)
        self.image_to_crop = np.zeros((count, 3, 3), np.float32)
        self.row = np.zeros(count, np.int64)

    def tensors(self) -> Scenes:
        parts = (
            self.image,
            self.box_xywh,
            self.kind,
            self.present,
            self.ignored,
            self.image_to_crop,
            self.row,
        )
        return Scenes(*(torch.from_numpy(part) for part in parts))
