"""Pairs of frames of one clip, from which motion is learnt: the source is to become the driving frame."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from fiducial.data import augment, sampling
from fiducial.data.augment import AugmentSpec
from fiducial.motion.clips import Clips
from fiducial.types import Problem

SCORED_A_CLIP = 12  # frames of a held-out clip that are made from its first one


class Pairs(NamedTuple):
    """A batch."""

    source: UInt8[Tensor, "b h w 3"]
    driving: UInt8[Tensor, "b h w 3"]
    still: Bool[Tensor, " b"]  # both are the same picture: nothing moves in it but what a warp moves
    row: Int64[Tensor, " b"]  # of the driving frame


class PairDraw(NamedTuple):
    """One batch to be made."""

    epoch: int
    first: int  # number of its first pair in the epoch
    rows: np.ndarray  # [b, 2] frames: source and driving


class PairSampler(Sampler[PairDraw]):
    """Draws clips evenly, however long they are, and two different frames of each, by (seed, epoch, number of the pair).
    Where there are stills too, every second pair is one of them."""

    def __init__(
        self, clips: Clips, pairs: int, batch_size: int, *, seed: int = 0, rank: int = 0, world: int = 1
    ) -> None:  # fmt: skip
        self.clips, self.pairs, self.seed, self.rank, self.world = clips, pairs, seed, rank, world
        chosen = clips.chosen(held_out=False)
        moving = [clip for clip in chosen if len(clips.rows(clip)) > 1]
        stills = [clip for clip in chosen if len(clips.rows(clip)) == 1]
        self.kinds = [kind for kind in (moving, stills) if kind]
        self.batch_size = max(1, min(batch_size, pairs // world))
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return max(1, self.pairs // (self.batch_size * self.world))

    def __iter__(self) -> Iterator[PairDraw]:
        for index in range(len(self)):
            first = (index * self.world + self.rank) * self.batch_size
            numbers = range(first, first + self.batch_size)
            yield PairDraw(self.epoch, first, np.array([self._pair(number) for number in numbers]))

    def _pair(self, number: int) -> list[int]:
        generator = augment.generator_of(self.seed, self.epoch, number)
        chosen = self.kinds[number % len(self.kinds)]
        rows = self.clips.rows(chosen[int(generator.integers(len(chosen)))])
        if len(rows) == 1:
            return [rows[0], rows[0]]
        return [rows[int(place)] for place in generator.choice(len(rows), 2, replace=False)]


class ScoredPairs(Sampler[PairDraw]):
    """The first frame of each of some clips with frames evenly over it, in order."""

    def __init__(self, clips: Clips, batch_size: int, chosen: Sequence[int]) -> None:
        pairs: list[tuple[int, int]] = []
        for clip in chosen:
            rows = clips.rows(clip)
            places = sampling.places(len(rows), SCORED_A_CLIP + 1)
            pairs += [(rows[0], rows[int(place)]) for place in (places[1:] if len(places) > 1 else places)]
        self.rows, self.batch_size = np.array(pairs), batch_size

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.batch_size)

    def __iter__(self) -> Iterator[PairDraw]:
        for start in range(0, len(self.rows), self.batch_size):
            yield PairDraw(0, start, self.rows[start : start + self.batch_size])


class PairDataset(Dataset[Pairs]):
    """Makes the batches. With a `spec`, both frames of a pair get the same mirroring, light and colours."""

    def __init__(self, clips: Clips, spec: AugmentSpec | None, seed: int = 0) -> None:
        self.clips, self.spec, self.seed = clips, spec, seed

    def __len__(self) -> int:
        return len(self.clips.frames)

    def __getitem__(self, draw: PairDraw) -> Pairs:
        frames = self.clips.frames[draw.rows]  # [b, 2, h, w, 3]
        if self.spec is not None:
            for place, pair in enumerate(frames):
                self._vary(self.spec, pair, draw.epoch, draw.first + place)
        source, driving = (torch.from_numpy(np.ascontiguousarray(frames[:, i])) for i in (0, 1))
        rows = torch.from_numpy(draw.rows.astype(np.int64))
        return Pairs(source, driving, rows[:, 0] == rows[:, 1], rows[:, 1])

    def problems(self) -> list[Problem]:
        """What could not be read was left out when the clips were prepared."""
        return []

    def _vary(self, spec: AugmentSpec, pair: np.ndarray, epoch: int, number: int) -> None:
        # A point of no name has no other side: mirroring needs no flip pairs here.
        mirrors = augment.generator_of(self.seed + 1, epoch, number).random() < (
            0.5 if spec.flip is None else spec.flip
        )
        for frame in pair:
            same = augment.generator_of(self.seed + 2, epoch, number)
            varied = augment.recolour(spec, frame[:, ::-1].copy() if mirrors else frame.copy(), same)
            frame[:] = varied


def train_loader(
    clips: Clips, pairs: int, batch_size: int, spec: AugmentSpec, *,
    seed: int = 0, workers: int = 0, rank: int = 0, world: int = 1,
) -> DataLoader:  # fmt: skip
    """`pairs` of the clips to learn from, an epoch."""
    sampler = PairSampler(clips, pairs, batch_size, seed=seed, rank=rank, world=world)
    return _loader(PairDataset(clips, spec, seed), sampler, workers)


def scored(clips: Clips) -> list[int]:
    """The clips that a run is scored on: those held out, or all where there is none."""
    return clips.chosen(held_out=True) or clips.chosen(held_out=False)


def scored_loader(clips: Clips, batch_size: int, workers: int = 0, chosen: Sequence[int] | None = None) -> DataLoader:
    """Pairs of the clips that are scored, or of those `chosen`; plain pictures."""
    rows = ScoredPairs(clips, batch_size, scored(clips) if chosen is None else chosen)
    return _loader(PairDataset(clips, None), rows, workers)


def _loader(dataset: PairDataset, sampler: Sampler[PairDraw], workers: int) -> DataLoader:
    return DataLoader(
        dataset, batch_size=None, sampler=sampler, num_workers=workers, persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )  # fmt: skip
