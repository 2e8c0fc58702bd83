"""Boxes from JSON, of strangers: as many as the limits allow."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from fiducial.errors import UserError
from fiducial.prediction import bare_boxes
from fiducial.serve.limits import Limits, Refused

T = TypeVar("T")


def boxes_of(text: str | None, limits: Limits) -> np.ndarray | None:
    """Parses [n, 4] from "[[x, y, width, height], ..]"; None where there is no text: the whole picture."""
    if text is None or not text.strip():
        return None
    boxes = _parsed(bare_boxes.parse, text)
    if len(boxes) > limits.max_boxes:
        raise Refused(422, f"boxes: there are {len(boxes)}; the limit is {limits.max_boxes} in one request")
    return boxes


def boxes_of_each(text: str | None, count: int, limits: Limits) -> list[np.ndarray | None]:
    """Parses the same for `count` pictures: a list with the boxes, or null, of each."""
    if text is None or not text.strip():
        return [None] * count
    found = _parsed(bare_boxes.parse_each, text)
    if len(found) != count:
        raise Refused(422, f"boxes: a list with the boxes, or null, of {len(found)} images; there are {count} images")
    if sum(1 if boxes is None else len(boxes) for boxes in found) > limits.max_boxes:
        raise Refused(422, f"boxes: the limit is {limits.max_boxes} in one request")
    return found


def _parsed(parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except UserError as error:
        raise Refused(422, str(error)) from error
