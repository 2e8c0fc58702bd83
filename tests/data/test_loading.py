"""Image truth through the whole path, determinism, ranks, and pictures that break on the way."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from fiducial.data import annotations, checking, loading
from fiducial.data import crops as cutting
from fiducial.data.augment import AugmentSpec
from fiducial.data.loading import Draw, ImageGroupedSampler
from fiducial.errors import Interrupted, UserError
from fiducial.geometry import Size
from fiducial.types import Batch, Instances

SIZE = Size(96, 128)
GEOMETRY = replace(
    AugmentSpec.none(), shift=0.05, scale=(0.8, 1.2), rotation_degrees=35.0, rotation_probability=1.0, flip=0.5
)
NAMES = ["left_ear", "right_ear", "tail"]
PIXELS = Size(400, 320)


def blobs(size: Size, xy: np.ndarray, sigma: float) -> np.ndarray:
    """Black, with a red, a green and a blue Gaussian around the points."""
    x, y = np.meshgrid(np.arange(size.w), np.arange(size.h))
    planes = [np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2)) for px, py in xy]
    return np.rint(250 * np.stack(planes, -1)).astype(np.uint8)


def write_set(
    folder: Path,
    box: list[float],
    sigma: float,
    *,
    suffix: str = ".jpg",
    orientation: int = 1,
    pictures: int = 6,
    persons: int = 1,
    declared: str = "upright",
    size: Size = PIXELS,
) -> Instances:
    """A COCO set with the blobs of a picture's first person drawn, labelled on the upright picture or (declared =
    "stored") on the stored pixels."""
    (folder / "annotations").mkdir(parents=True)
    (folder / "images").mkdir()
    generator = np.random.default_rng(5)
    content: dict[str, Any] = {"images": [], "annotations": []}
    content["categories"] = [{"id": 1, "name": "mouse", "keypoints": NAMES, "flip_indices": [1, 0, 2]}]
    for i in range(pictures):
        unit = np.array([[0.3, 0.4], [0.7, 0.35], [0.45, 0.6]]) + generator.uniform(-0.05, 0.05, (3, 2))
        xy = box[:2] + unit * box[2:]
        exif = Image.Exif()
        exif[0x0112] = orientation
        drawn = Image.fromarray(blobs(size, xy, sigma))
        if declared == "upright":  # store it so that EXIF turns it into what was drawn
            inverse = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}[orientation]
            before = Image.Exif()
            before[0x0112] = inverse
            drawn.info["exif"] = before.tobytes()
            drawn.getexif()[0x0112] = inverse
            drawn = ImageOps.exif_transpose(drawn)
        drawn.save(folder / "images" / f"{i}{suffix}", exif=exif, quality=98, subsampling=0)
        content["images"].append({"id": i, "file_name": f"{i}{suffix}", "width": size.w, "height": size.h})
        for person in range(persons):
            keypoints = [value for x, y in xy for value in (x + person, y, 2)]
            content["annotations"].append(
                {"id": 10 * i + person, "image_id": i, "category_id": 1, "keypoints": keypoints, "bbox": box}
            )
    for split in ("train", "val"):
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(content))
    instances, problems = annotations.load(folder, "train")
    assert not checking.without_notes(problems)
    return instances


def centre_of_mass(plane: np.ndarray) -> np.ndarray:
    weight = plane.astype(np.float64) ** 2  # squared, so that JPEG's ripples weigh nothing
    y, x = np.mgrid[: plane.shape[0], : plane.shape[1]]
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


def assert_points_lie_on_blobs(batch: Batch, tolerance: float) -> tuple[int, int]:
    mirrored = 0
    for image, xy, matrix in zip(batch.image.numpy(), batch.xy.numpy(), batch.image_to_crop.numpy(), strict=True):
        mirrors = np.linalg.det(matrix) < 0
        mirrored += int(mirrors)
        order = [1, 0, 2] if mirrors else [0, 1, 2]  # in the mirror the red ear, the left one, is a right ear
        for point, channel in enumerate(order):
            assert np.linalg.norm(centre_of_mass(image[..., channel]) - xy[point]) < tolerance
    return mirrored, len(batch.row) - mirrored


BIG, SMALL = [60.0, 40.0, 260.0, 250.0], [150.0, 90.0, 70.0, 110.0]


@pytest.mark.parametrize("cache", [0, 10**9], ids=["read", "cached"])
@pytest.mark.parametrize(
    ("box", "sigma", "suffix", "size"),
    [
        (BIG, 9.0, ".jpg", PIXELS),
        (BIG, 9.0, ".png", PIXELS),
        (BIG, 9.0, ".jpg", Size(401, 319)),
        (SMALL, 3.0, ".jpg", PIXELS),
    ],
    ids=["reduced", "reduced png", "odd", "full"],
)
def test_image_truth(tmp_path: Path, box: list[float], sigma: float, suffix: str, size: Size, cache: int) -> None:
    instances = write_set(tmp_path / "set", box, sigma, suffix=suffix, size=size)
    crops = loading.Crops(instances, SIZE, GEOMETRY, cache_bytes=cache)
    sides = np.zeros(2, int)
    for epoch in range(3):
        batch = crops[Draw(epoch, np.arange(6))]
        sides += assert_points_lie_on_blobs(batch, 0.12)
        factors = {cutting.reduction(matrix) for matrix in batch.image_to_crop.numpy()}
        assert (factors == {1}) == (box is SMALL)
    assert sides.min() > 3
    assert not crops.problems()


@pytest.mark.parametrize(
    ("declared", "orientation"),
    # Turned by half, the size is the stored one: nothing says then that labels were made on stored pixels.
    [*(("upright", turn) for turn in (3, 6, 7, 8)), *(("stored", turn) for turn in (6, 7, 8))],
)
def test_image_truth_of_turned_pictures(tmp_path: Path, orientation: int, declared: str) -> None:
    instances = write_set(tmp_path / "set", BIG, 9.0, orientation=orientation, declared=declared)
    crops = loading.Crops(instances, SIZE, GEOMETRY, cache_bytes=0)
    assert_points_lie_on_blobs(crops[Draw(4, np.arange(6))], 0.12)


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Instances:
    return write_set(tmp_path_factory.mktemp("people") / "set", SMALL, 3.0, pictures=6, persons=3)


def collected(loader) -> dict[int, tuple[np.ndarray, ...]]:
    return {
        int(row): tuple(part[i].numpy() for part in batch)
        for batch in loader
        for i, row in enumerate(batch.row.tolist())
    }


@pytest.mark.parametrize("options", [{"workers": 2}, {"cache_bytes": 0}, {"batch_size": 6}, {"world": 3}], ids=str)
def test_crops_do_not_depend_on_workers_batches_or_ranks(people: Instances, options: dict[str, int]) -> None:
    def epoch_of(**changes: int) -> dict[int, tuple[np.ndarray, ...]]:
        found = {}
        for rank in range(changes.get("world", 1)):
            chosen: dict[str, Any] = {"batch_size": 3, **changes, "rank": rank}
            loader = loading.loader(people, SIZE, spec=AugmentSpec(), seed=7, **chosen)
            loader.sampler.set_epoch(2)  # type: ignore[attr-defined]
            found.update(collected(loader))
        return found

    plain, other = epoch_of(), epoch_of(**options)
    assert plain.keys() == other.keys() == set(range(18))
    for row, parts in plain.items():
        for part, same in zip(parts, other[row], strict=True):
            assert np.array_equal(part, same)


def test_persistent_workers_see_each_epoch(people: Instances) -> None:
    loader = loading.loader(people, SIZE, 4, AugmentSpec(), workers=2)
    epochs = []
    for epoch in (0, 1, 0):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        epochs.append(np.concatenate([batch.image_to_crop.numpy() for batch in loader]))
    assert not np.allclose(epochs[0], epochs[1])
    assert np.array_equal(epochs[0], epochs[2])


def test_control_c_while_processes_start_waits_until_they_have(
    people: Instances, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raised while Python forks it would be printed and forgotten, and training would go on."""
    begin, begun = torch.utils.data.DataLoader.__iter__, []

    def interrupted(self: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        begun.append(begin(self))
        return begun[0]

    monkeypatch.setattr(torch.utils.data.DataLoader, "__iter__", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored in jobs of the background
    try:
        with pytest.raises(KeyboardInterrupt):
            iter(loading.loader(people, SIZE, 4, AugmentSpec(), workers=1))
        assert begun
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("count", "batch", "world"), [(37, 4, 1), (37, 4, 3), (18, 5, 2), (3, 64, 1), (7, 64, 3)])
def test_ranks_get_disjoint_rows_and_equal_counts(count: int, batch: int, world: int) -> None:
    image_row = np.arange(count) // 3
    ranks = [
        ImageGroupedSampler(np.arange(count), image_row, batch, seed=1, rank=rank, world=world) for rank in range(world)
    ]
    draws = [list(sampler) for sampler in ranks]
    assert len({len(items) for items in draws} | {len(ranks[0])}) == 1
    assert len(draws[0]) > 0
    rows = np.concatenate([draw.rows for items in draws for draw in items])
    assert len(set(rows.tolist())) == len(rows) > count - batch * world
    assert {len(draw.rows) for items in draws for draw in items} == {min(batch, count // world)}
    order = ranks[0].order(ranks[0].epoch)
    assert sorted(order.tolist()) == list(range(count))
    # Instances of one picture are neighbours, pictures are not in order.
    assert (np.diff(image_row[order]) != 0).sum() == len(set(image_row.tolist())) - 1
    if count > 7:
        assert order.tolist() != sorted(order.tolist())
        ranks[0].set_epoch(1)
        assert order.tolist() != ranks[0].order(ranks[0].epoch).tolist()


def test_evaluation_keeps_order_and_every_row(people: Instances) -> None:
    whole = people.select(np.arange(17))
    rows = [batch.row.numpy() for batch in loading.loader(whole, SIZE, 4, None)]
    assert [len(part) for part in rows] == [4, 4, 4, 4, 1]
    assert np.concatenate(rows).tolist() == list(range(17))
    ranks = [loading.loader(whole, SIZE, 4, None, rank=rank, world=2) for rank in (0, 1)]
    assert sorted(row for loader in ranks for batch in loader for row in batch.row.tolist()) == list(range(17))


def test_training_leaves_out_crowds_and_unlabelled(people: Instances) -> None:
    visibility, crowd = people.visibility.copy(), people.crowd.copy()
    visibility[4] = 0
    visibility[5, 1] = 0
    crowd[7] = True
    changed = replace(people, visibility=visibility, crowd=crowd)
    found = collected(loading.loader(changed, SIZE, 1, AugmentSpec.none()))
    assert found.keys() == set(range(18)) - {4, 7}
    assert found[5][2].tolist() == [1, 0, 1]
    assert found[5][1][1].tolist() == [0, 0]
    assert collected(loading.loader(changed, SIZE, 1, None))[4][2].tolist() == [0, 0, 0]


def test_points_outside_the_crop_stay_labelled(people: Instances) -> None:
    xy = people.xy.copy()
    xy[2, 1] = 399, 2
    found = collected(loading.loader(replace(people, xy=xy), SIZE, 6, None))
    assert found[2][2].tolist() == [1, 1, 1]
    assert found[2][1][1][0] > SIZE.w


@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_that_breaks_is_replaced_and_reported_once(tmp_path: Path, workers: int) -> None:
    instances = write_set(tmp_path / "set", SMALL, 3.0, pictures=5)
    path = Path(instances.images.name(2))
    path.write_bytes(path.read_bytes()[:900])
    loader = loading.loader(instances, SIZE, 5, AugmentSpec.none(), workers=workers)
    for _ in range(2):
        [batch] = loader
        assert sorted(batch.row.tolist()) == [0, 1, 3, 3, 4]  # the next row stands in
        assert batch.labelled.all()
    problems = loader.dataset.problems()  # type: ignore[attr-defined]
    assert [str(problem) for problem in problems] == [
        f"{path}: image 2: the JPEG is damaged or cut off; fetch or export the picture again"
    ]
    assert not loader.dataset.problems()  # type: ignore[attr-defined]

    loader = loading.loader(instances, SIZE, 2, None, workers=workers)
    labelled = np.concatenate([batch.labelled.numpy() for batch in loader])
    assert labelled.any(1).tolist() == [True, True, False, True, True]
    assert len(loader.dataset.problems()) == 1  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="cut off"):
        list(loading.loader(instances, SIZE, 2, None, workers=workers, strict=True))


def test_a_picture_that_changed_its_size_is_not_used(tmp_path: Path) -> None:
    instances = write_set(tmp_path / "set", SMALL, 3.0, pictures=2)
    Image.new("RGB", (333, 320)).save(instances.images.name(1))
    loader = loading.loader(instances, SIZE, 2, None)
    [batch] = loader
    assert batch.labelled.any(1).tolist() == [True, False]
    assert "the picture is 333x320, but the annotations say 400x320" in str(loader.dataset.problems()[0])  # type: ignore


@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_of_a_drive_that_is_gone_are_not_left_out(tmp_path: Path, workers: int) -> None:
    """Left out, they would be missed in all epochs that follow, though nothing is wrong with them."""
    instances = write_set(tmp_path / "set", SMALL, 3.0, pictures=5)
    Path(instances.images.name(0)).parent.rename(tmp_path / "gone")
    with pytest.raises(Interrupted, match="can't be read any more: No such file or directory; see to its drive"):
        list(loading.loader(instances, SIZE, 5, AugmentSpec.none(), workers=workers, cache_bytes=0))


def test_without_room_in_shared_memory_batches_go_through_pipes(
    people: Instances, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    """The same batches, and a word on it; torch would wait for ever."""
    whole = list(loading.loader(people, SIZE, 4, AugmentSpec(), workers=2))

    def full(tensor: torch.Tensor) -> None:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    piped = list(loading.loader(people, SIZE, 4, AugmentSpec(), workers=2))
    for batch, other in zip(whole, piped, strict=True):
        assert all(torch.equal(*columns) for columns in zip(batch, other, strict=True))
    assert set(said) == {
        "no room in shared memory (No space left on device (28); containers have 64 MB, `docker run --shm-size` gives "
        "more): batches go through pipes, which is a little slower"
    }


def test_no_more_processes_than_batches(people: Instances) -> None:
    batches = len(loading.loader(people, SIZE, 4, AugmentSpec()))
    assert [loading.loader(people, SIZE, 4, AugmentSpec(), workers=n).num_workers for n in (0, 1, 100)] == [
        0,
        1,
        batches,
    ]
    assert batches < 100


def test_a_killed_loader_process_is_told_in_a_line(people: Instances) -> None:
    loader, others = loading.loader(people, SIZE, 1, AugmentSpec(), workers=1), set(multiprocessing.active_children())

    def killed() -> None:
        with loading.lost_processes():
            for _ in loader:
                [process] = set(multiprocessing.active_children()) - others
                os.kill(process.pid or 0, signal.SIGKILL)
                process.join()

    with pytest.raises(
        Interrupted, match=r"^a loader process was killed, .*: fewer of them \(--set workers=1\) need less$"
    ):
        killed()


def test_loader_processes_that_end_with_a_stopped_run_are_not_blamed() -> None:
    """Torch tells of them at any moment: here while the run leaves its folder after Ctrl-C or SIGTERM."""

    @contextmanager
    def folder() -> Iterator[None]:
        try:
            yield
        finally:
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated. ")

    with pytest.raises(KeyboardInterrupt), loading.lost_processes(), folder():
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError("Unable to allocate 3 GiB"), "out of memory: .* smaller --batch-size"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "out of memory of the GPU: "),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory: "),
        (RuntimeError("Too many open files. Communication with"), "too many open files: allow more"),
        (RuntimeError("could not create a primitive"), "out of memory: "),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory: "),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "no more processes or threads"),
        (RuntimeError("can't start new thread"), "no more processes or threads .*`ulimit -u`"),
        (RuntimeError("shapes don't fit"), None),
        (FileNotFoundError(errno.ENOENT, "No such file"), None),
    ],
)
def test_what_torch_says_of_the_machine(error: Exception, told: str | None) -> None:
    with pytest.raises(type(error) if told is None else Interrupted, match=told), loading.lost_processes():
        raise error


def test_what_breaks_on_the_way_out_does_not_hide_what_the_machine_did() -> None:
    """As Lightning breaks where no loader process could be started."""

    def broken() -> None:
        try:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        finally:
            raise RuntimeError("Please call `iter(combined_loader)` first.")

    with pytest.raises(Interrupted, match="out of memory: "), loading.lost_processes():
        broken()


def test_no_picture_at_all(tmp_path: Path) -> None:
    instances = write_set(tmp_path / "set", SMALL, 3.0, pictures=2)
    for row in range(2):
        Path(instances.images.name(row)).unlink()
    with pytest.raises(Interrupted, match="none of its 2 pictures can be read"):
        list(loading.loader(instances, SIZE, 2, AugmentSpec()))


def test_pictures_that_never_could_be_read_are_not_asked_back(tmp_path: Path) -> None:
    instances = write_set(tmp_path / "set", SMALL, 3.0, pictures=2)
    for row in range(2):
        Path(instances.images.name(row)).write_text("hello")
    with pytest.raises(UserError, match=r"\d\.jpg: not a picture.*nor can any other picture be read") as raised:
        list(loading.loader(instances, SIZE, 2, AugmentSpec()))
    assert not isinstance(raised.value, Interrupted)
