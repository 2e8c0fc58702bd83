"""Pairs of frames: which are drawn is a function of seed, epoch and number; both frames of a pair are varied alike."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader  # noqa: E402

from fiducial.data import loading  # noqa: E402
from fiducial.data.augment import AugmentSpec  # noqa: E402
from fiducial.geometry import Size  # noqa: E402
from fiducial.motion import frames, pairs  # noqa: E402
from fiducial.motion.clips import ClipIndex, Clips  # noqa: E402
from fiducial.motion.pairs import FramePairs, PairBatches, PairDraw, PairSampler  # noqa: E402

SIZE = Size(12, 10)
COUNTS, HELD_OUT = (3, 40, 1, 20), (False, False, False, True)
ALL = AugmentSpec(flip=0.5, blur=0.5, noise=0.5, occlusion=0.5)


def clips_of(counts: tuple[int, ...] = COUNTS, held_out: tuple[bool, ...] = HELD_OUT, seed: int = 0) -> Clips:
    """Noise; no two frames are alike."""
    names = tuple(f"{i}.mp4" for i in range(len(counts)))
    frames = np.random.default_rng(seed).integers(0, 256, (sum(counts), SIZE.h, SIZE.w, 3), dtype=np.uint8)
    return Clips(ClipIndex(SIZE, names, counts, held_out, "", "", ""), frames, np.concatenate([[0], np.cumsum(counts)]))


def drawn(sampler: PairSampler, epoch: int = 0) -> np.ndarray:
    """[n, 2] rows of an epoch."""
    sampler.set_epoch(epoch)
    return np.concatenate([draw.rows for draw in sampler])


def epoch_of(clips: Clips, spec: AugmentSpec, *, seed: int = 0, epoch: int = 0, batch: int = 4) -> list[FramePairs]:
    loader = pairs.train_loader(clips, 24, batch, spec, seed=seed)
    loader.sampler.set_epoch(epoch)
    return list(loader)


def joined(batches: list[FramePairs]) -> FramePairs:
    return FramePairs(*(torch.cat(column) for column in zip(*batches, strict=True)))


# ---------------------------------------------------------------------------------------------------------- draws


def test_two_different_frames_of_one_clip_that_is_not_held_out() -> None:
    clips = clips_of()
    rows = drawn(PairSampler(clips, 3000, 30))
    assert rows.shape == (3000, 2)
    clip = np.searchsorted(clips.first, rows, side="right") - 1
    assert (clip[:, 0] == clip[:, 1]).all()
    assert set(clip[:, 0]) == {0, 1, 2}
    still = clip[:, 0] == 2
    assert (rows[still] == 43).all(), "a clip of one frame has no other"
    assert (rows[~still, 0] != rows[~still, 1]).all()
    # Every second pair is a still. Evenly over the others, however long they are: 750 each, standard deviation 19; and
    # over a clip's frames.
    np.testing.assert_array_equal(still, np.arange(3000) % 2 == 1)
    assert np.bincount(clip[:, 0]) == pytest.approx([750, 750, 1500], abs=80)
    assert np.bincount(rows[clip[:, 0] == 0].ravel()) == pytest.approx(
        np.full(3, 2 * (clip[:, 0] == 0).sum() / 3), rel=0.1
    )


def test_draws_depend_on_seed_epoch_and_number_alone() -> None:
    clips = clips_of()
    first = drawn(PairSampler(clips, 24, 4))
    np.testing.assert_array_equal(drawn(PairSampler(clips, 24, 4)), first)
    np.testing.assert_array_equal(drawn(PairSampler(clips, 24, 6)), first)
    sampler = PairSampler(clips, 24, 4)
    assert (drawn(sampler, 1) != first).any()
    np.testing.assert_array_equal(drawn(sampler, 0), first)
    assert (drawn(PairSampler(clips, 24, 4, seed=1)) != first).any()


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_the_pairs_of_one(world: int) -> None:
    clips = clips_of()
    samplers = [PairSampler(clips, 25, 4, rank=rank, world=world) for rank in range(world)]
    draws = [draw for sampler in samplers for draw in sampler]
    numbers = [draw.first + place for draw in draws for place in range(4)]
    assert len(set(numbers)) == len(numbers) == world * 4 * (25 // (4 * world))
    assert len({len(sampler) for sampler in samplers}) == 1
    alone = drawn(PairSampler(clips, 24, 4))
    for draw in draws:
        np.testing.assert_array_equal(draw.rows, alone[draw.first : draw.first + 4])


def test_fewer_pairs_than_a_batch() -> None:
    sampler = PairSampler(clips_of(), 3, 8)
    assert len(sampler) == 1
    assert drawn(sampler).shape == (3, 2)


# -------------------------------------------------------------------------------------------------------- batches


def test_plain_pairs_are_the_frames() -> None:
    clips = clips_of()
    batch = joined(epoch_of(clips, AugmentSpec.none()))
    rows = drawn(PairSampler(clips, 24, 4))
    np.testing.assert_array_equal(batch.source.numpy(), clips.frames[rows[:, 0]])
    np.testing.assert_array_equal(batch.driving.numpy(), clips.frames[rows[:, 1]])
    np.testing.assert_array_equal(batch.row.numpy(), rows[:, 1])
    np.testing.assert_array_equal(batch.still.numpy(), rows[:, 0] == rows[:, 1])
    assert 0 < batch.still.sum() < 24


def test_both_frames_of_a_pair_are_varied_alike() -> None:
    """What is alike before is alike after, though other pairs look different."""
    clips = clips_of((1, 1, 1), (False, False, False))
    batch = joined(epoch_of(clips, ALL))
    assert torch.equal(batch.source, batch.driving)
    plain = torch.from_numpy(clips.frames[batch.row.numpy()])
    assert ((batch.source != plain).flatten(1).any(1)).all()
    assert len({sample.numpy().tobytes() for sample in batch.source}) == 24


def test_mirrored_together_half_of_the_time() -> None:
    clips = clips_of((2,), (False,))
    some = AugmentSpec.none()
    found = []
    for flip in (None, 0.0, 1.0):
        spec = AugmentSpec(**{**vars(some), "flip": flip})
        loader = pairs.train_loader(clips, 400, 40, spec)
        batch = joined(list(loader))
        rows = drawn(PairSampler(clips, 400, 40))
        mirrored = [
            [np.array_equal(part[i], clips.frames[rows[i, k]][:, ::-1]) for k, part in enumerate(batch[:2])]
            for i in range(400)
        ]
        assert all(one == other for one, other in mirrored)
        found.append(np.mean(mirrored))
    assert found[0] == pytest.approx(0.5, abs=0.1)
    assert found[1:] == [0, 1]


def test_a_batch_is_the_same_whoever_makes_it() -> None:
    """Not the frames on disk, not the batch it is in, not what was made before."""
    clips = clips_of()
    before = clips.frames.copy()
    whole, again = (joined(epoch_of(clips, ALL, batch=batch)) for batch in (4, 8))
    assert all(torch.equal(one, other) for one, other in zip(whole, again, strict=True))
    np.testing.assert_array_equal(clips.frames, before)
    other = joined(epoch_of(clips, ALL, epoch=1))
    assert not torch.equal(whole.source, other.source)
    rows = np.array([[0, 1]])
    dataset = PairBatches(clips, ALL)
    one, same, third = (dataset[PairDraw(0, number, rows)].source for number in (7, 7, 8))
    assert torch.equal(one, same)
    assert not torch.equal(one, third)


def frames_loader(clips: Clips, workers: int) -> DataLoader:
    """As distillation loads frames."""
    instances, rows = frames.instances_of(clips, 3), frames.train_rows(clips)
    draws = loading.ImageGroupedSampler(rows, instances.image_row, 4, seed=5)
    crops = loading.Crops(instances, SIZE, AugmentSpec(flip=None), seed=5, padding=1.0, cache_bytes=0)
    return loading.loader_of(crops, draws, workers)


LOADERS = {
    "pairs": lambda clips, workers: pairs.train_loader(clips, 24, 4, ALL, seed=5, workers=workers),
    "frames": frames_loader,
}


@pytest.mark.parametrize("kind", LOADERS)
def test_batches_depend_on_seed_and_epoch_alone(kind: str) -> None:
    """Not on the number of processes, nor on whether the epoch before was loaded; and nobody else's dice are moved."""
    clips = clips_of()

    def epochs(workers: int, first: int) -> list[list[bytes]]:
        loader = LOADERS[kind](clips, workers)
        torch.manual_seed(1)
        loaded = []
        for epoch in range(first, 3):
            loader.sampler.set_epoch(epoch)
            loaded.append([column.numpy().tobytes() for batch in loader for column in batch])
        assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(1)))
        return loaded

    expected = epochs(0, 0)
    assert expected[0] != expected[1] != expected[2]
    for workers in (1, 2):
        assert epochs(workers, 0) == expected
        assert epochs(workers, 2) == expected[2:], "as after --resume"
    assert epochs(0, 2) == expected[2:]


# --------------------------------------------------------------------------------------------------------- scored


def test_scored_pairs_lead_from_the_first_frame_evenly_over_held_out_clips() -> None:
    clips = clips_of()
    batch = joined(list(pairs.scored_loader(clips, 5)))
    assert clips.scored == [3]
    places = batch.row.numpy() - 44
    np.testing.assert_array_equal(places, np.linspace(0, 19, 13).round()[1:])
    np.testing.assert_array_equal(batch.source.numpy(), np.repeat(clips.frames[44:45], 12, axis=0))
    np.testing.assert_array_equal(batch.driving.numpy(), clips.frames[batch.row.numpy()])
    assert not batch.still.any()


def test_scored_without_held_out_clips_and_of_some() -> None:
    clips = clips_of(held_out=(False,) * 4)
    assert clips.scored == [0, 1, 2, 3]
    batch = joined(list(pairs.scored_loader(clips, 5)))
    assert len(batch.row) == 2 + 12 + 1 + 12
    assert batch.still.sum() == 1, "a still is its own pair, to be moved by a warp"
    some = joined(list(pairs.scored_loader(clips, 5, chosen=[0])))
    assert some.row.tolist() == [1, 2]


# --------------------------------------------------------------------------------------------------------- frames


def test_frames_are_whole_and_as_they_are_without_augmentation() -> None:
    clips = clips_of()
    instances = frames.instances_of(clips, 3)
    rows = frames.scored_rows(clips)
    np.testing.assert_array_equal(rows, range(44, 64))
    batch = loading.Crops(instances, SIZE, None, padding=1.0, cache_bytes=0)[loading.Draw(0, rows)]
    np.testing.assert_array_equal(batch.image.numpy(), clips.frames[rows])
    assert torch.equal(batch.row, torch.from_numpy(rows))
    assert torch.equal(batch.image_to_crop, torch.eye(3).expand(20, 3, 3))
    assert not batch.labelled.any()
    assert batch.xy.shape == (20, 3, 2)
    assert instances.images.name(44) == "3.mp4, frame 0"
    long = clips_of((200,), (False,))
    np.testing.assert_array_equal(frames.scored_rows(long), np.linspace(0, 199, 60).round())
