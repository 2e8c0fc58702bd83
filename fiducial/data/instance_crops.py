"""Reads the crops of labelled instances as evaluation, linear maps, calibration and studies look at them: every image is
decoded in full and once, by several threads, and `crops.cut` cuts it as `Runtime` does. Needs no torch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from fiducial import files, geometry
from fiducial.card import DetectorSpec
from fiducial.data import augment, crops
from fiducial.errors import Interrupted, UserError
from fiducial.geometry import Size
from fiducial.types import Instances, Problem

BATCH = 64  # crops that go through a network together


@dataclass(frozen=True)
class CropBatch:
    """Crops of some instances."""

    row: np.ndarray  # [b] of Instances
    image: np.ndarray  # [b, h, w, 3] uint8 RGB
    image_to_crop: np.ndarray  # [b, 3, 3] float64

    def __len__(self) -> int:
        return len(self.row)

    def select(self, places: slice | np.ndarray) -> CropBatch:
        """Picks some of the crops by their places in the batch."""
        return CropBatch(self.row[places], self.image[places], self.image_to_crop[places])


@dataclass(frozen=True, kw_only=True)
class InstanceCrops:
    """Iterates over the crops of all instances, in batches, those of one image after each other.

    Instances whose image can't be read or is not of the declared size, and those whose box has no area, are left out and
    listed in `problems`, an image once. Boxes are disturbed by up to `box_jitter` of their sides, each by its row and
    `draw` alone, so that all models see the same boxes.

    >>> for batch in InstanceCrops(instances=instances, spec=network.card.spec):
    ...     keypoints = network.predict(batch.image).mapped(geometry.invert(batch.image_to_crop))
    """

    instances: Instances
    spec: DetectorSpec  # its size and padding
    box_jitter: float = 0.0
    draw: int = 0
    batch_size: int = BATCH
    problems: list[Problem] = field(default_factory=list)  # grows while crops are read

    def __iter__(self) -> Iterator[CropBatch]:
        self.problems.clear()
        return _rebatched(self._images(), self.batch_size)

    def _images(self) -> Iterator[CropBatch]:
        """The crops of one image after the other, read ahead."""
        rows_of_images = iter(self._rows_of_images())
        threads = max(1, files.cores())
        pool = ThreadPoolExecutor(threads, thread_name_prefix="fiducial-crops")
        ahead: deque[Future[CropBatch | Problem]] = deque()
        try:
            while True:
                while (
                    len(ahead) < max(2 * threads, self.batch_size) and (rows := next(rows_of_images, None)) is not None
                ):
                    ahead.append(pool.submit(self._crops_of_image, rows))
                if not ahead:
                    return
                answer = ahead.popleft().result()
                if isinstance(answer, Problem):
                    self.problems.append(answer)
                else:
                    yield answer
        finally:
            pool.shutdown(cancel_futures=True)

    def _rows_of_images(self) -> list[np.ndarray]:
        """Rows of instances for each image that has some, without boxes of no area, which are listed."""
        boxes = self.instances.box_xywh
        usable = np.isfinite(boxes).all(1) & (boxes[:, 2:] > 0).all(1)
        for row in np.flatnonzero(~usable).tolist():
            what = f"its box {boxes[row].tolist()} has no area; left out"
            where = f"annotation {self.instances.annotation_id[row]}"
            self.problems.append(Problem(self.instances.source, where, what))
        rows = np.flatnonzero(usable)
        rows = rows[np.argsort(self.instances.image_row[rows], kind="stable")]
        image_row = self.instances.image_row[rows]
        return np.split(rows, np.flatnonzero(np.diff(image_row)) + 1) if len(rows) else []

    def _crops_of_image(self, rows: np.ndarray) -> CropBatch | Problem:
        instances, image_row = self.instances, int(self.instances.image_row[rows[0]])
        try:
            image = _read(instances, image_row)
        except Interrupted:
            raise
        except UserError as error:
            name = instances.images.name(image_row)
            return Problem(name, f"image {instances.image_id[image_row]}", error.about(name))
        boxes = instances.box_xywh[rows]
        if self.box_jitter:
            boxes = np.array(
                [
                    geometry.jitter_box(box, self.box_jitter, augment.generator_of(self.draw, 0, row))
                    for box, row in zip(boxes, rows.tolist(), strict=True)
                ]
            )
        return CropBatch(rows, *crops.cut(image, boxes, self.spec.size, self.spec.padding))


def all_crops(instances: Instances, spec: DetectorSpec) -> CropBatch:
    """Reads the crops of a few instances at once, in the order of the instances. UserError where no image can be read."""
    batches = list(InstanceCrops(instances=instances, spec=spec))
    if not batches:
        raise UserError(f"{instances.source}: none of its pictures can be read")
    whole = _joined(batches)
    return whole.select(np.argsort(whole.row))


def _read(instances: Instances, image_row: int) -> np.ndarray:
    """An image in full; UserError where it can't be read or is of another size than declared."""
    image = instances.images.read(image_row)
    height, width = image.shape[:2]
    declared = instances.image_size[image_row]
    if declared.all() and tuple(declared) != (width, height):
        raise UserError(f"the picture is {width}x{height}, but the annotations say {Size(*declared.tolist())}")
    return image


def _rebatched(parts: Iterable[CropBatch], size: int) -> Iterator[CropBatch]:
    """Joins and cuts batches of any lengths into batches of `size`, the last one perhaps shorter."""
    waiting: list[CropBatch] = []
    count = 0
    for part in parts:
        waiting.append(part)
        count += len(part)
        if count >= size:
            whole, stop = _joined(waiting), count - count % size
            for start in range(0, stop, size):
                yield whole.select(slice(start, start + size))
            waiting, count = [whole.select(slice(stop, count))], count - stop
    if count:
        yield _joined(waiting)


def _joined(parts: list[CropBatch]) -> CropBatch:
    columns = zip(*((part.row, part.image, part.image_to_crop) for part in parts), strict=True)
    return CropBatch(*(np.concatenate(column) for column in columns))
