"""Pairs of frames of one clip, from which motion is learnt: the source is to become the driving frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from fiducial.data import augment, loading, sampling
from fiducial.data.augment import AugmentSpec
from fiducial.motion.clips import Clips
from fiducial.types import Problem

SCORED_A_CLIP = 12  # frames of a held-out clip that are made from its first one


class FramePairs(NamedTuple):
    """Holds a batch of pairs."""

    source: UInt8[Tensor, "b h w 3"]
    driving: UInt8[Tensor, "b h w 3"]
    still: Bool[Tensor, " b"]  # both are the same picture: nothing moves in it but what a warp moves
    row: Int64[Tensor, " b"]  # of the driving frame

    def to(self, device: torch.device) -> FramePairs:
        """Moves the batch to a device."""
        return FramePairs(*(column.to(device) for column in self))


class PairDraw(NamedTuple):
    """Says all that one batch depends on."""

    epoch: int
    first: int  # number of its first pair in the epoch
    rows: np.ndarray  # [b, 2] frames: source and driving


class PairSampler(Sampler[PairDraw]):
    """Draws clips evenly, however long they are, and two different frames of each, by (seed, epoch, number of the pair).
    Where there are stills too, every second pair is one of them."""

    def __init__(
        self, clips: Clips, pairs: int, batch_size: int, *, seed: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        self.clips, self.pairs, self.seed, self.rank, self.world = clips, pairs, seed, rank, world
        self.kinds = [kind for kind in clips.by_kind(clips.chosen(held_out=False)) if kind]
        self.batch_size = max(1, min(batch_size, pairs // world))
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch that the next pass draws for."""
        self.epoch = epoch

    def __len__(self) -> int:
        return max(1, self.pairs // (self.batch_size * self.world))

    def __iter__(self) -> Iterator[PairDraw]:
        # The epoch is the one in which iteration begins, with loader processes, which read ahead, and without.
        return self._draws(self.epoch)

    def _draws(self, epoch: int) -> Iterator[PairDraw]:
        for index in range(len(self)):
            first = (index * self.world + self.rank) * self.batch_size
            numbers = range(first, first + self.batch_size)
            yield PairDraw(epoch, first, np.array([self._pair(epoch, number) for number in numbers]))

    def _pair(self, epoch: int, number: int) -> list[int]:
        generator = augment.generator_of(self.seed, epoch, number)
        clips_of_kind = self.kinds[number % len(self.kinds)]
        rows = self.clips.rows(clips_of_kind[int(generator.integers(len(clips_of_kind)))])
        if len(rows) == 1:
            return [rows[0], rows[0]]
        return [rows[int(place)] for place in generator.choice(len(rows), 2, replace=False)]


class PairBatches(Dataset[FramePairs]):
    """Makes the batches. With a `spec`, both frames of a pair get the same mirroring, light and colours."""

    def __init__(self, clips: Clips, spec: AugmentSpec | None, seed: int = 0) -> None:
        self.clips, self.spec, self.seed = clips, spec, seed

    def __len__(self) -> int:
        return len(self.clips.frames)

    def __getitem__(self, draw: PairDraw) -> FramePairs:
        frames = self.clips.frames[draw.rows]  # [b, 2, h, w, 3]
        if self.spec is not None:
            for place, pair in enumerate(frames):
                self._vary(self.spec, pair, draw.epoch, draw.first + place)
        source, driving = (torch.from_numpy(np.ascontiguousarray(frames[:, i])) for i in (0, 1))
        rows = torch.from_numpy(draw.rows.astype(np.int64))
        return FramePairs(source, driving, rows[:, 0] == rows[:, 1], rows[:, 1])

    def problems(self) -> list[Problem]:
        """Lists nothing: what can't be read is left out when the clips are prepared."""
        return []

    def _vary(self, spec: AugmentSpec, pair: np.ndarray, epoch: int, number: int) -> None:
        # A point of no name has no other side: mirroring needs no flip pairs here.
        flip = 0.5 if spec.flip is None else spec.flip
        mirrors = augment.generator_of(self.seed + 1, epoch, number).random() < flip
        for frame in pair:
            generator = augment.generator_of(self.seed + 2, epoch, number)  # the same for both
            frame[:] = augment.recolour(spec, frame[:, ::-1].copy() if mirrors else frame.copy(), generator)


def train_loader(
    clips: Clips,
    pairs: int,
    batch_size: int,
    spec: AugmentSpec,
    *,
    seed: int = 0,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
) -> DataLoader:
    """Loads `pairs` pairs an epoch of the clips to learn from."""
    sampler = PairSampler(clips, pairs, batch_size, seed=seed, rank=rank, world=world)
    return loading.loader_of(PairBatches(clips, spec, seed), sampler, workers)


def scored_pairs(clips: Clips, chosen: Sequence[int]) -> np.ndarray:
    """Lists the pairs [n, 2] that some clips are scored by: the first frame of each with at most 12 others of it, evenly
    over the clip. A still is paired with itself."""
    pairs: list[tuple[int, int]] = []
    for clip in chosen:
        rows = clips.rows(clip)
        places = sampling.places(len(rows), SCORED_A_CLIP + 1)
        pairs += [(rows[0], rows[int(place)]) for place in (places[1:] if len(places) > 1 else places)]
    return np.array(pairs)


def scored_loader(clips: Clips, batch_size: int, workers: int = 0, chosen: Sequence[int] | None = None) -> DataLoader:
    """Loads the pairs that the scored clips, or those `chosen`, are scored by: in order, as they are."""
    rows = scored_pairs(clips, clips.scored if chosen is None else chosen)
    draws = [PairDraw(0, start, rows[start : start + batch_size]) for start in range(0, len(rows), batch_size)]
    return loading.loader_of(PairBatches(clips, None), draws, workers)
