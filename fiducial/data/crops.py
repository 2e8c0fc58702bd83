"""Cutting instances out of pictures: the one formula that training, evaluation, the runtimes and exported graphs share.

A picture that shrinks by a factor of two or more is first averaged over blocks of 2, 4 or 8 px a side, whose grid starts
at the picture's own corner; a block that sticks out at the right or below counts what is missing as black. The means,
rounded as OpenCV does, are then warped once, bilinear, with black outside. Upright crops, all of them outside training,
come out alike to the byte wherever they are cut (`geometry.warp_upright`). Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import cv2
import numpy as np

from fiducial import geometry
from fiducial.errors import UserError
from fiducial.geometry import Matrix, Size

BLOCKS = (8, 4, 2)
# Shrinking by two, up to rounding, counts as two: float32 and float64 must choose alike.
TOLERANCE = 1e-6


def reduction(matrix: Matrix) -> int:
    """By how much a picture may be reduced before a map that shrinks it: 1, 2, 4 or 8."""
    scale = float(geometry.scale_of(matrix))
    return next((factor for factor in BLOCKS if scale * factor <= 1 + TOLERANCE), 1)


def crop_of(picture: np.ndarray, size: Size | None, matrix: Matrix, crop_size: Size) -> np.ndarray:
    """The RGB crop [h, w, 3] uint8 from an RGB or RGBA picture that may come reduced from `size` (None: it is not reduced);
    `matrix` maps px of the unreduced one to px of the crop.

    Only the part under the crop is looked at, so that a small box in a large picture costs little."""
    own = Size(picture.shape[1], picture.shape[0])
    if size is not None and size != own:
        matrix = geometry.compose(geometry.resize(own, size), matrix)
    factor = reduction(matrix)
    left, top, right, bottom = geometry.source_region(matrix, own, crop_size, factor)
    part = picture[top:bottom, left:right]
    if part.size == 0:
        return np.zeros((crop_size.h, crop_size.w, 3), np.uint8)
    blocks = Size(math.ceil(part.shape[1] / factor), math.ceil(part.shape[0] / factor))
    if factor > 1:
        missing = blocks.h * factor - part.shape[0], blocks.w * factor - part.shape[1]
        if any(missing):
            part = cv2.copyMakeBorder(part, 0, missing[0], 0, missing[1], cv2.BORDER_CONSTANT, value=(0, 0, 0, 0))
        part = cv2.resize(part, (blocks.w, blocks.h), interpolation=cv2.INTER_AREA)
    from_blocks = geometry.resize(blocks, Size(blocks.w * factor, blocks.h * factor))
    matrix = geometry.compose(from_blocks, geometry.translation(left, top), matrix)
    if geometry.is_upright(matrix):
        crop = geometry.warp_upright(part, matrix, crop_size)
        return crop if crop.shape[2] == 3 else cv2.cvtColor(crop, cv2.COLOR_RGBA2RGB)
    if part.shape[2] == 3:  # OpenCV turns four channels twice as fast as three, the conversion included
        part = cv2.cvtColor(part, cv2.COLOR_RGB2RGBA)
    return cv2.cvtColor(geometry.warp(part, matrix, crop_size), cv2.COLOR_RGBA2RGB)


def cut(
    image: np.ndarray,
    boxes_xywh: np.ndarray | None,
    size: Size,
    padding: float,
    each: Callable[..., Iterable[Any]] = map,
) -> tuple[np.ndarray, np.ndarray]:
    """One crop a box, the very crops of evaluation: [n, h, w, 3] uint8, maps [n, 3, 3] float64, image -> crop.

    image is uint8 RGB [h, w, 3]; boxes [n, 4] in the edge frame. None = the whole image, which is not enlarged by
    `padding`, only brought to the aspect of `size`. `each` asks for all crops in order, as `map` does; that of a pool
    of threads, side by side. UserError for another kind of picture and for boxes that are none."""
    maps = maps_of(image, boxes_xywh, size, padding)
    crops = np.empty((len(maps), size.h, size.w, 3), np.uint8)

    def fill(i: int) -> None:
        crops[i] = crop_of(image, None, maps[i], size)

    for _ in each(fill, range(len(maps))):
        pass
    return crops, maps


def maps_of(image: np.ndarray, boxes_xywh: np.ndarray | None, size: Size, padding: float) -> np.ndarray:
    """The maps from an image to its crops, [n, 3, 3] float64, of boxes as `cut` takes them."""
    boxes, padding = checked_boxes(image, boxes_xywh, padding)
    return np.array([geometry.crop(geometry.fit_aspect(box, size, padding), size) for box in boxes]).reshape(-1, 3, 3)


def checked_boxes(image: np.ndarray, boxes_xywh: np.ndarray | None, padding: float) -> tuple[np.ndarray, float]:
    """Boxes [n, 4] float64 and by how much they are enlarged; for None the box of the whole image, by nothing."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise UserError(f"image: expected a numpy array of uint8 RGB [height, width, 3], got {found}")
    if image.size == 0:
        raise UserError(f"image: has no pixels, its shape is {list(image.shape)}")
    if boxes_xywh is None:
        return geometry.whole_image_box(Size(image.shape[1], image.shape[0]))[None], 1.0
    # In single precision, as `Instances` and exported graphs hold them: a box gives one crop, wherever it comes from.
    boxes = np.asarray(boxes_xywh, np.float32).astype(np.float64)
    if boxes.size == 0:
        return np.empty((0, 4)), padding
    if boxes.shape[-1] != 4 or boxes.ndim > 2:
        raise UserError(f"boxes: expected [n, 4] with x, y, width, height in px, got the shape {list(boxes.shape)}")
    boxes = boxes.reshape(-1, 4)
    wrong = ~np.isfinite(boxes).all(1) | (boxes[:, 2:] <= 0).any(1)
    if wrong.any():
        raise UserError(f"box {boxes[wrong][0].tolist()}: expected finite x, y and positive width and height, px")
    return boxes, padding
