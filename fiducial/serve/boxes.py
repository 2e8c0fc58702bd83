"""Boxes from JSON, of strangers."""

from __future__ import annotations

from typing import TypeVar

import msgspec
import numpy as np

from fiducial.serve.limits import Limits, Refused

Box = tuple[float, float, float, float]
T = TypeVar("T")
FARTHEST_PX = 1e6
SMALLEST_PX = 1e-3


def boxes_of(text: str | None, limits: Limits) -> np.ndarray | None:
    """[n, 4] from "[[x, y, width, height], ..]"; None where there is no text: the whole picture."""
    if text is None or not text.strip():
        return None
    return _checked(_parsed(text, list[Box], "expected [[x, y, width, height], ..] in px"), limits)


def boxes_of_each(text: str | None, count: int, limits: Limits) -> list[np.ndarray | None]:
    """The same for `count` pictures: a list with the boxes, or null, of each."""
    if text is None or not text.strip():
        return [None] * count
    values = _parsed(text, list[list[Box] | None], "expected a list with the boxes, or null, of each image")
    if len(values) != count:
        raise Refused(422, f"boxes: a list with the boxes, or null, of {len(values)} images; there are {count} images")
    found = [None if value is None else _checked(value, limits) for value in values]
    if sum(1 if boxes is None else len(boxes) for boxes in found) > limits.max_boxes:
        raise Refused(422, f"boxes: the limit is {limits.max_boxes} in one request")
    return found


def _parsed(text: str, kind: type[T], expected: str) -> T:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Refused(422, f"boxes: {expected}. {error}") from error


def _checked(value: list[Box], limits: Limits) -> np.ndarray:
    if len(value) > limits.max_boxes:
        raise Refused(422, f"boxes: there are {len(value)}; the limit is {limits.max_boxes} in one request")
    boxes = np.array(value, np.float64).reshape(-1, 4)
    wrong = ~(np.abs(boxes) <= FARTHEST_PX).all(1) | ~(boxes[:, 2:] >= SMALLEST_PX).all(1)
    if wrong.any():
        expected = f"expected x, y, positive width and height, numbers up to {FARTHEST_PX:,.0f} px"
        raise Refused(422, f"boxes: {boxes[wrong][0].tolist()}: {expected}")
    return boxes
