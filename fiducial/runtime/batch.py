"""Many images through a network: they are read and cut out beside it, and what belongs together goes through it together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fiducial import files, geometry
from fiducial.data.images import read_image
from fiducial.errors import UserError
from fiducial.types import Keypoints

CROPS = 16  # that go through the network together: a few for each core, so that none waits long at the end


class Crops(NamedTuple):
    """The crops of one image, and where they were cut out."""

    image: np.ndarray  # [n, h, w, 3] uint8
    image_to_crop: np.ndarray  # [n, 3, 3]
    box_xywh: np.ndarray | None = None  # [n, 4]; None = the whole image
    box_score: np.ndarray | None = None  # [n]; None = the boxes were given
    kind: np.ndarray | None = None  # [n] what the finder says that it is; None = it tells nothing apart

    def on_image(self, points: Keypoints) -> Keypoints:
        """Puts points on the crops on the image."""
        placed = points.mapped(geometry.invert(self.image_to_crop))
        return replace(placed, box_xywh=self.box_xywh, box_score=self.box_score, kind=self.kind)


Cut = Callable[[np.ndarray, Any], Crops]  # image, boxes


def keypoints_of(
    predict: Callable[[np.ndarray], Keypoints], cut: Cut, images: Sequence[Any], boxes: Sequence[Any] | None
) -> list[Keypoints]:
    """Gives the points in each image, px of it, in the order of the images. Raises UserError that names the image by its
    place where one can't be read or cut."""
    if isinstance(images, (str, Path, np.ndarray)) or not isinstance(images, Sequence):
        what = f"an array of shape {list(images.shape)}" if isinstance(images, np.ndarray) else type(images).__name__
        raise UserError(
            "images", f"expected a list of images (arrays or paths), got {what}; of one image use model(image)"
        )
    if boxes is not None and (not hasattr(boxes, "__len__") or len(boxes) != len(images)):
        count = len(boxes) if hasattr(boxes, "__len__") else type(boxes).__name__
        raise UserError("boxes", f"expected one [n, 4] or None for each of the {len(images)} images, got {count}")

    def crops_of(place: int) -> Crops:
        try:
            image = images[place]
            image = read_image(Path(image)) if isinstance(image, (str, Path)) else image
            return cut(image, None if boxes is None else boxes[place])
        except UserError as error:
            raise UserError(f"images[{place}]", str(error)) from error

    found: list[Keypoints] = []
    for parts in _together(_ahead(crops_of, len(images))):
        points = predict(np.concatenate([part.image for part in parts]))
        start = 0
        for part in parts:
            found.append(part.on_image(points.select(slice(start, start + len(part.image)))))
            start += len(part.image)
    return found


def _ahead(crops_of: Callable[[int], Crops], count: int) -> Iterator[Crops]:
    """The crops of each image in order; a few are made before they are asked for."""
    threads = files.cores()
    places, waiting = iter(range(count)), deque[Future[Crops]]()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="fiducial-images")
    try:
        waiting.extend(pool.submit(crops_of, place) for place in islice(places, CROPS + 2 * threads))
        while waiting:
            crops = waiting.popleft().result()
            waiting.extend(pool.submit(crops_of, place) for place in islice(places, 1))
            yield crops
    finally:
        pool.shutdown(cancel_futures=True)


def _together(parts: Iterator[Crops]) -> Iterator[list[Crops]]:
    """Whole images, until they have `CROPS` crops or more."""
    waiting: list[Crops] = []
    for part in parts:
        waiting.append(part)
        if sum(len(crops.image) for crops in waiting) >= CROPS:
            yield waiting
            waiting = []
    if waiting:
        yield waiting
