"""Batches of crops for training and evaluation, in an order that depends on (seed, epoch) alone.

Instances of one picture stay together, so that it is decoded once a batch; in training a crop that shrinks its
picture by two or more starts from a JPEG decoded at a fraction of its size. Small sets stay decoded in memory that workers share."""

from __future__ import annotations

import errno
import itertools
import mmap
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from fiducial import geometry
from fiducial.card import PADDING
from fiducial.data import augment, crops
from fiducial.data.augment import AugmentSpec
from fiducial.data.images import ArrayImages, file_of
from fiducial.errors import Failure, Interrupted, UserError
from fiducial.geometry import Matrix, Size
from fiducial.log import logger
from fiducial.types import Batch, Images, Instances, Problem

CACHE_BYTES = 512 * 2**20
OUT_OF_MEMORY = (MemoryError, torch.OutOfMemoryError)
NO_MEMORY = ("can't allocate memory", "could not create a primitive")  # as torch and its kernels say it
_EVALUATION = 0  # the epoch that evaluation draws its jitter for


class Draw(NamedTuple):
    """One batch to be made."""

    epoch: int  # or the pass over all rows, where an epoch has several: what is drawn depends on it
    rows: np.ndarray  # [b] rows of Instances


def loader(
    instances: Instances,
    size: Size,
    batch_size: int,
    spec: AugmentSpec | None,
    *,
    rows: np.ndarray | None = None,
    seed: int = 0,
    passes: float = 1,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
    padding: float = PADDING,
    strict: bool = False,
    cache_bytes: int = CACHE_BYTES,
) -> DataLoader:
    """Loads batches of `size` crops. With a `spec`: training, shuffled, augmented, whole batches only, without crowds
    and instances of no labelled point, an epoch being `passes` over the rest. With None: the crops that evaluation sees
    (`instance_crops`), in order. `rows` picks the instances [those]; `batch.row` counts all.

    `loader.sampler.set_epoch(n)` chooses the epoch; `loader.dataset.problems()` says which pictures could not be
    read."""
    crops, draws = crops_and_draws(
        instances,
        size,
        batch_size,
        spec,
        rows=rows,
        seed=seed,
        passes=passes,
        rank=rank,
        world=world,
        padding=padding,
        strict=strict,
        cache_bytes=cache_bytes,
    )
    return loader_of(crops, draws, workers)


def crops_and_draws(
    instances: Instances,
    size: Size,
    batch_size: int,
    spec: AugmentSpec | None,
    *,
    rows: np.ndarray | None = None,
    seed: int = 0,
    passes: float = 1,
    rank: int = 0,
    world: int = 1,
    padding: float = PADDING,
    strict: bool = False,
    cache_bytes: int = CACHE_BYTES,
) -> tuple[Crops, ImageGroupedSampler]:
    """Makes the parts of what `loader` gives: what makes batches, and the order in which it does."""
    training = spec is not None
    if rows is None:
        rows = np.flatnonzero(trainable(instances)) if training else np.arange(len(instances))
    if len(rows) == 0:
        raise UserError(f"{instances.source}: nothing to load: no instance has a labelled point")
    crops = Crops(instances, size, spec, rows=rows, seed=seed, padding=padding, strict=strict, cache_bytes=cache_bytes)
    draws = ImageGroupedSampler(
        rows,
        instances.image_row,
        batch_size,
        seed=seed,
        training=training,
        passes=passes,
        rank=rank,
        world=world,
    )
    return crops, draws


def loader_of(dataset: Dataset[Any], draws: Sampler[Any] | Sequence[Any], workers: int) -> DataLoader:
    """Makes the loader of a dataset whose items are whole batches: `dataset[draw]` for each of `draws`, in their order.

    Every draw says all that its batch depends on, so that `workers` processes, or none, make the same batches; of more
    processes than batches some would only be started. The loader draws its processes' seeds from a generator of its own:
    how often it is iterated moves no one else's dice."""
    workers = min(workers, len(draws))  # type: ignore[arg-type]  # all our samplers have a length
    return _Loader(
        _Telling(dataset),
        batch_size=None,  # an item is a batch already
        sampler=draws,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(0),
    )


@contextmanager
def lost_processes() -> Iterator[None]:
    """Says in a line what the machine did to the loader processes, or to the memory of all; torch tells it in its own way,
    at any moment, and what it breaks on the way out hides it."""
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        before = list(_causes(error))
        # Loader processes that ended with this one, after Ctrl-C or SIGTERM, are no fault.
        if _is_lost_process(error) and any(isinstance(each, KeyboardInterrupt) for each in before):
            raise KeyboardInterrupt from None
        told = next(filter(None, map(_told_of_machine, before)), None)
        if told is None:
            raise
        raise Interrupted(told) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yields an error and, one after the other, what was being handled when it came."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_lost_process(error: BaseException) -> bool:
    return str(error).startswith("DataLoader worker (pid")


def _told_of_machine(error: BaseException) -> str | None:
    """Says what of the machine an error tells, and what to do; None of any other error."""
    text, number = str(error), getattr(error, "errno", None)
    if _is_lost_process(error):
        what = "a loader process was killed, as the system does where memory runs out"
        return f"{what}: fewer of them (--set workers=1) need less"
    if text.startswith("Too many open files"):
        return "too many open files: allow more (`ulimit -n`), or use fewer loader processes (--set workers=1)"
    if text.startswith("can't start new thread") or number == errno.EAGAIN:
        what = "no more processes or threads could be started"
        return f"{what}: allow more (`ulimit -u`), or use fewer loader processes (--set workers=1)"
    if isinstance(error, OUT_OF_MEMORY) or number == errno.ENOMEM or any(words in text for words in NO_MEMORY):
        where = " of the GPU" if isinstance(error, torch.OutOfMemoryError) else ""
        return f"out of memory{where}: end what else runs there, or start anew with a smaller --batch-size"
    return None


class _Telling(Dataset[Any]):
    """Gives an error out instead of a batch: raised in a loader process, torch would make text of it."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitem__(self, draw: Any) -> Any:
        try:
            batch = self.dataset[draw]
        except Failure as error:
            return error
        return batch if get_worker_info() is None else _handed_over(batch)

    def problems(self) -> list[Problem]:
        return self.dataset.problems()


class _Loader(DataLoader):
    """Raises the errors that `_Telling` gives out, as what they were."""

    def __iter__(self) -> Any:
        with _interrupted_after():
            batches = super().__iter__()

        def raised() -> Iterator[Any]:
            for batch in batches:
                if isinstance(batch, Failure):
                    try:
                        raise batch
                    finally:
                        del batch  # else the error holds itself, and the processes end by the collector: 5 s each
                if not isinstance(batch, _Piped):
                    yield batch
                    continue
                logger.warning(
                    f"no room in shared memory ({batch.why}; containers have 64 MB, `docker run --shm-size` gives more): "
                    "batches go through pipes, which is a little slower"
                )
                yield batch.tensors()

        return raised()


@contextmanager
def _interrupted_after() -> Iterator[None]:
    """Lets Ctrl-C wait until processes are started: what it raises while Python forks is printed and forgotten."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[Any] = []
    before = signal.signal(signal.SIGINT, lambda *told: came.append(told))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came and callable(before):
            before(*came[0])


class _Piped:
    """Holds a batch that goes through the pipe of its loader process, since there is no room in shared memory."""

    def __init__(self, batch: Any, why: str) -> None:
        self.kind, self.why = type(batch), why
        self.columns = [column.numpy() for column in batch]

    def tensors(self) -> Any:
        return self.kind(*map(torch.from_numpy, self.columns))

    def pin_memory(self) -> Any:
        """Does what torch asks of what is no tensor."""
        return self.kind(*(torch.from_numpy(column).pin_memory() for column in self.columns))


def _handed_over(batch: Any) -> Any:
    """Puts a batch, a NamedTuple of tensors, into shared memory. Done here and not left to torch, which waits for ever
    where there is no room or no further file may be open."""
    try:
        for column in batch:
            column.share_memory_()
    except (RuntimeError, OSError) as error:
        return _Piped(batch, str(error).rpartition(": ")[2])
    return batch


def batches_an_epoch(rows: int, batch_size: int, world: int = 1, passes: float = 1) -> int:
    """Counts the batches of an epoch of training, for each of `world` devices: whole ones only, unless there is less than
    one in a pass."""
    return max(1, round(passes * max(1, rows // world // batch_size)))


class ImageGroupedSampler(Sampler[Draw]):
    """Which rows make which batch. In training pictures are shuffled by (seed, pass) and a last partial batch is
    dropped (a set smaller than one batch is one batch); an epoch is `passes` over all rows; of `world` ranks each gets
    other rows and as many batches as the others. In evaluation rows come in order, each once over all ranks, so that the
    last ranks may have a batch less."""

    def __init__(
        self,
        rows: np.ndarray,
        image_row: np.ndarray,
        batch_size: int,
        *,
        seed: int = 0,
        training: bool = True,
        passes: float = 1,
        rank: int = 0,
        world: int = 1,
    ):
        if batch_size < 1 or not 0 <= rank < world:
            raise UserError(
                f"batch size {batch_size}, rank {rank} of {world}: expected a batch of at least 1, rank < world"
            )
        if training and len(rows) < world:
            raise UserError(f"{len(rows)} instances for {world} devices; expected at least one a device")
        self.rows, self.image_row, self.seed = rows, image_row, seed
        self.training, self.rank, self.world = training, rank, world
        self.passes = passes if training else 1
        self.batch_size = min(batch_size, len(rows) // world) if training else batch_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """To be called before each pass, by Lightning or by hand."""
        self.epoch = epoch

    def __len__(self) -> int:
        if self.training:
            return batches_an_epoch(len(self.rows), self.batch_size, self.world, self.passes)
        batches = -(-len(self.rows) // self.batch_size)
        return len(range(self.rank, batches, self.world))

    def __iter__(self) -> Iterator[Draw]:
        # The epoch is the one in which iteration begins, with loader processes, which read ahead, and without.
        return self._draws(self.epoch if self.training else _EVALUATION)

    def _draws(self, epoch: int) -> Iterator[Draw]:
        if not self.training:
            starts = range(self.rank * self.batch_size, len(self.rows), self.world * self.batch_size)
            yield from (Draw(epoch, self.rows[start : start + self.batch_size]) for start in starts)
            return
        count, a_pass = len(self), batches_an_epoch(len(self.rows), self.batch_size, self.world)
        order, ordered = self.rows, -1
        for batch in range(epoch * count, (epoch + 1) * count):
            number, index = divmod(batch, a_pass)
            if number != ordered:
                order, ordered = self.order(number), number
            start = (index * self.world + self.rank) * self.batch_size
            yield Draw(number, order[start : start + self.batch_size])

    def order(self, number: int) -> np.ndarray:
        """All rows for a pass, pictures shuffled, the instances of one picture adjacent."""
        generator = augment.generator_of(self.seed, number, 2**64 - 1)
        place = generator.permutation(int(self.image_row.max()) + 1)
        return self.rows[np.argsort(place[self.image_row[self.rows]], kind="stable")]


class Crops(Dataset[Batch]):
    """Makes the batches. A picture that can't be read is replaced in training by that of the next of `rows` (rising)
    that has one, is left out of evaluation (labelled = 0), and is reported once by `problems`; with `strict` it is an
    error."""

    def __init__(
        self,
        instances: Instances,
        size: Size,
        spec: AugmentSpec | None,
        *,
        rows: np.ndarray | None = None,
        seed: int = 0,
        padding: float = PADDING,
        strict: bool = False,
        cache_bytes: int = CACHE_BYTES,
    ):
        self.instances, self.size, self.spec, self.seed = instances, size, spec, seed
        self.padding, self.strict = padding, strict
        self.flip = augment.flip_probability(spec, instances.skeleton) if spec else 0.0
        self.flip_order = instances.skeleton.flip_order if self.flip else None
        self.rows = np.flatnonzero(trainable(instances)) if rows is None else rows
        self.images = cached(instances, cache_bytes)
        # Shared with the workers, which write into it; anonymous as in `CachedImages`.
        self.broken = torch.frombuffer(mmap.mmap(-1, max(len(instances.images), 1)), dtype=torch.uint8)
        self.reported: set[int] = set()

    def __len__(self) -> int:
        return len(self.instances)

    def __getitem__(self, draw: Draw) -> Batch:
        samples = [self._sample(int(row), draw.epoch) for row in draw.rows]
        image_rows = self.instances.image_row[draw.rows].tolist()
        batch = self._arrays(len(samples))
        start = 0
        for image_row, group in itertools.groupby(image_rows):
            stop = start + len(list(group))
            reduce = min(crops.reduction(sample.matrix) for sample in samples[start:stop])
            picture = self._read(image_row, 1 if self.spec is None else reduce)  # evaluation sees images in full
            for place in range(start, stop):
                sample, own = samples[place], picture
                if own is None and self.spec is not None:
                    sample, own = self._replacement(sample.row, draw.epoch)
                self._fill(batch, place, sample, own)
            start = stop
        return batch.tensors()

    def problems(self) -> list[Problem]:
        """Pictures that could not be read, by any worker, since the last call."""
        found = []
        for row in np.flatnonzero(self.broken.numpy()).tolist():
            if row not in self.reported:
                self.reported.add(row)
                name = self.instances.images.name(row)
                found.append(Problem(name, f"image {self.instances.image_id[row]}", self._reason(row)))
        return found

    def _sample(self, row: int, epoch: int) -> Sample:
        generator = augment.generator_of(self.seed, epoch, row)
        box_xywh = self.instances.box_xywh[row]
        if self.spec is not None:
            matrix, mirrors = augment.sample_map(
                self.spec, box_xywh, self.size, padding=self.padding, flip=self.flip, generator=generator
            )
            return Sample(row, matrix, mirrors, generator)
        return Sample(row, augment.crop_map(box_xywh, self.size, self.padding), False, generator)

    def _arrays(self, count: int) -> Any:
        """A batch to be filled."""
        return _Arrays(count, self.size, len(self.instances.skeleton.points))

    def _fill(self, batch: Any, place: int, sample: Sample, picture: np.ndarray | None) -> None:
        """One sample into the batch. Points outside the crop stay labelled; without a picture none is."""
        row = sample.row
        batch.row[place], batch.image_to_crop[place] = row, sample.matrix
        if picture is None:
            return
        crop = crops.crop_of(picture, self._size(int(self.instances.image_row[row])), sample.matrix, self.size)
        batch.image[place] = crop if self.spec is None else augment.recolour(self.spec, crop, sample.generator)
        xy = self.instances.xy[row]
        labelled = (self.instances.visibility[row] > 0) & np.isfinite(xy).all(-1)  # of this row alone, not of all
        if sample.mirrors and self.flip_order is not None:
            xy, labelled = xy[self.flip_order], labelled[self.flip_order]
        batch.labelled[place] = labelled
        batch.xy[place][labelled] = geometry.transform(sample.matrix, xy[labelled].astype(np.float64))

    def _read(self, image_row: int, reduce: int) -> np.ndarray | None:
        """A picture, None if it can't be read or isn't of the size that the annotations state."""
        if self.broken[image_row] and not self.strict:
            return None
        size = self._size(image_row)
        try:
            picture = self.images.read(image_row, reduce if size is not None else 1)
            if size is not None and not _is_reduced(picture, size):
                height, width = picture.shape[:2]
                name = self.images.name(image_row)
                raise UserError(f"{name}: the picture is {width}x{height}, but the annotations say {size}")
        except UserError as error:
            if self.strict or isinstance(error, Interrupted):
                raise
            self.broken[image_row] = 1
            return None
        return picture

    def _replacement(self, row: int, epoch: int) -> tuple[Sample, np.ndarray]:
        """The next row whose picture can be read."""
        place = int(np.searchsorted(self.rows, row))
        for other in np.concatenate([self.rows[place + 1 :], self.rows[:place]]).tolist():
            sample = self._sample(other, epoch)
            picture = self._read(int(self.instances.image_row[other]), crops.reduction(sample.matrix))
            if picture is not None:
                return sample, picture
        first = int(self.instances.image_row[row])
        file = file_of(self.instances.images, first)
        if file is not None and file.exists():
            raise UserError(
                self.instances.images.name(first),
                f"{self._reason(first)}; nor can any other picture be read that {self.instances.source} names",
            )
        raise Interrupted(
            f"{self.instances.source}: none of its {len(self.images)} pictures can be read any more; put them back"
        )

    def _size(self, image_row: int) -> Size | None:
        width, height = self.instances.image_size[image_row].tolist()
        return Size(width, height) if width and height else None

    def _reason(self, image_row: int) -> str:
        name, size = self.instances.images.name(image_row), self._size(image_row)
        try:
            picture = self.instances.images.read(image_row)
        except UserError as error:
            return error.about(name)
        if size is not None and not _is_reduced(picture, size):
            return f"the picture is {picture.shape[1]}x{picture.shape[0]}, but the annotations say {size}"
        return "the picture could not be read at first, but can be now"


class CachedImages:
    """Pictures kept decoded, in memory that forked workers share: whoever reads one first keeps it for all.

    Anonymous shared memory and not /dev/shm, which is small in containers. Started in another way than by forking, each
    worker fills a cache of its own."""

    def __init__(self, images: Images, size: np.ndarray):
        self.images, self.size = images, size
        ends = np.cumsum(size.prod(1, dtype=np.int64) * 3)
        self.starts = np.concatenate([[0], ends]).tolist()
        self._open()

    def _open(self) -> None:
        total = self.starts[-1]
        self.memory = np.frombuffer(mmap.mmap(-1, max(total, 1)), np.uint8)
        self.ready = np.frombuffer(mmap.mmap(-1, len(self.size)), np.uint8)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("memory", "ready")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __len__(self) -> int:
        return len(self.images)

    def name(self, row: int) -> str:
        return self.images.name(row)

    def read(self, row: int, reduce: int = 1) -> np.ndarray:
        width, height = self.size[row].tolist()
        kept = self.memory[self.starts[row] : self.starts[row + 1]].reshape(height, width, 3)
        if not self.ready[row]:
            picture = self.images.read(row)
            if picture.shape != kept.shape:
                return picture
            # Two workers may do this at once; they write the same.
            kept[:] = picture
            self.ready[row] = 1
        return kept


def cached(instances: Instances, limit: int) -> Images:
    """The pictures of a set, kept decoded (or drawn) if they are all known to fit into `limit` bytes and are not in
    memory."""
    size = instances.image_size
    fits = len(size) > 0 and bool((size > 0).all()) and int(size.prod(1, dtype=np.int64).sum()) * 3 <= limit
    return (
        CachedImages(instances.images, size)
        if fits and not isinstance(instances.images, (ArrayImages, CachedImages))
        else instances.images
    )


def trainable(instances: Instances) -> np.ndarray:
    """[n] bool: what training uses, no crowds and nothing without a labelled point."""
    return instances.labelled.any(1) & ~instances.crowd


class Sample(NamedTuple):
    """How one row is looked at."""

    row: int
    matrix: Matrix
    mirrors: bool
    generator: np.random.Generator


class _Arrays:
    """A batch being filled."""

    def __init__(self, count: int, size: Size, points: int):
        self.image = np.zeros((count, size.h, size.w, 3), np.uint8)
        self.xy = np.zeros((count, points, 2), np.float32)
        self.labelled = np.zeros((count, points), np.float32)
        self.image_to_crop = np.zeros((count, 3, 3), np.float32)
        self.row = np.zeros(count, np.int64)

    def tensors(self) -> Batch:
        parts = (self.image, self.xy, self.labelled, self.image_to_crop, self.row)
        return Batch(*(torch.from_numpy(part) for part in parts))


def _is_reduced(picture: np.ndarray, size: Size) -> bool:
    """Whether a picture is of the full size or a half, a quarter or an eighth of it."""
    height, width = picture.shape[:2]
    return any((width * factor, height * factor) == size for factor in (1, 2, 4, 8))
