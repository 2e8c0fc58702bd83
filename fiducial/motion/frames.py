"""Single frames of clips as batches of crops without labels: what a teacher is asked about."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from fiducial import geometry
from fiducial.data import augment, crops, loading, sampling
from fiducial.data.augment import AugmentSpec
from fiducial.data.loading import Draw, ImageGroupedSampler
from fiducial.motion.clips import Clips
from fiducial.types import Batch, Problem

SCORED_A_CLIP = 60  # frames of a held-out clip, evenly over it


def scored_rows(clips: Clips) -> np.ndarray:
    """Lists the frames [n] to score on: at most 60 of each scored clip, evenly over it."""
    rows = [np.array(clips.rows(clip)) for clip in clips.scored]
    return np.concatenate([of_clip[sampling.places(len(of_clip), SCORED_A_CLIP)] for of_clip in rows])


def train_rows(clips: Clips) -> np.ndarray:
    """Lists all frames [n] to learn from."""
    return np.concatenate([np.array(clips.rows(clip)) for clip in clips.chosen(held_out=False)])


def loader(
    clips: Clips,
    rows: np.ndarray,
    points: int,
    batch_size: int,
    spec: AugmentSpec | None,
    *,
    seed: int = 0,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
) -> DataLoader:
    """Loads batches of the frames `rows`, none of whose `points` are labelled.

    With a `spec`: for training, shuffled by (seed, epoch), augmented by (seed, epoch, row), whole batches only. With
    None: as they are, in order, each once."""
    # Each frame is an image of its own.
    sampler = ImageGroupedSampler(
        rows, np.arange(len(clips.frames)), batch_size, seed=seed, training=spec is not None, rank=rank, world=world
    )
    return loading.loader_of(FrameBatches(clips, points, spec, seed), sampler, workers)


class FrameBatches(Dataset[Batch]):
    """Makes the batches; `row` counts all frames of the clips."""

    def __init__(self, clips: Clips, points: int, spec: AugmentSpec | None, seed: int = 0) -> None:
        self.clips, self.points, self.spec, self.seed = clips, points, spec, seed

    def __len__(self) -> int:
        return len(self.clips.frames)

    def __getitem__(self, draw: Draw) -> Batch:
        count, size = len(draw.rows), self.clips.index.size
        images = np.empty((count, size.h, size.w, 3), np.uint8)
        matrices = np.empty((count, 3, 3), np.float32)
        for place, row in enumerate(draw.rows.tolist()):
            images[place], matrices[place] = self._frame(row, draw.epoch)
        xy, labelled = np.zeros((count, self.points, 2), np.float32), np.zeros((count, self.points), np.float32)
        return Batch(*(torch.from_numpy(part) for part in (images, xy, labelled, matrices, draw.rows.astype(np.int64))))

    def problems(self) -> list[Problem]:
        """Lists nothing: what can't be read is left out when the clips are prepared."""
        return []

    def _frame(self, row: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Gives the frame, with a `spec` moved and recoloured, and the matrix by which it was moved."""
        frame, size = self.clips.frames[row], self.clips.index.size
        if self.spec is None:
            return frame, geometry.identity()
        generator = augment.generator_of(self.seed, epoch, row)
        # Points without names: a mirrored image has them where the teacher finds them.
        flip = 0.5 if self.spec.flip is None else self.spec.flip
        matrix, _ = augment.sample_map(
            self.spec, geometry.whole_image_box(size), size, padding=1.0, flip=flip, generator=generator
        )
        if not np.array_equal(matrix, geometry.identity()):
            frame = crops.crop_of(frame, None, matrix, size)
        return augment.recolour(self.spec, frame.copy(), generator), matrix
