"""What comes over the wire: bytes of a picture and JSON of boxes, checked before anything is allocated for them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fiducial.data.images import decode_image, parse_header
from fiducial.errors import UserError


@dataclass(frozen=True)
class Limits:
    """What a server accepts."""

    max_bytes: int = 20 * 2**20  # of a request
    max_pixels: int = 50_000_000  # of a picture, by its header
    max_boxes: int = 64  # of a request
    max_images: int = 16  # of a batch request
    max_in_flight: int = 256  # requests at a time; more are sent away with 429
    timeout_s: float = 30.0  # of a request, after which it is answered with 504
    max_batch: int = 32  # crops that go through the network together


class Refused(Exception):
    """Answered with `status` and `detail`."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


def picture_of(data: bytes, limits: Limits, name: str = "image") -> np.ndarray:
    """uint8 RGB, upright. Refused: what is neither JPEG nor PNG, has too many pixels by its header, or is broken."""
    if not data:
        raise Refused(422, f"{name}: is empty; send the bytes of a JPEG or PNG file")
    kind = data[:2] == b"\xff\xd8" or data[:8] == b"\x89PNG\r\n\x1a\n"
    if not kind:
        raise Refused(415, f"{name}: expected the bytes of a JPEG or PNG file")
    header = parse_header(data)
    if header is None or header.size.w == 0 or header.size.h == 0:
        raise Refused(422, f"{name}: its header is broken or cut short")
    if header.size.w * header.size.h > limits.max_pixels:
        raise Refused(413, f"{name}: {header.size} px are more than the limit of {limits.max_pixels} pixels")
    try:
        return decode_image(data, name)
    except UserError as error:
        raise Refused(422, str(error)) from error


def boxes_of(text: str | None, limits: Limits) -> np.ndarray | None:
    """[n, 4] from JSON [[x, y, width, height], ..]; None where there is none: the whole picture."""
    if text is None or not text.strip():
        return None
    return boxes_of_value(_json(text), limits)


def boxes_of_each(text: str | None, count: int, limits: Limits) -> list[np.ndarray | None]:
    """For a batch: a list with boxes, or null, for each picture."""
    if text is None or not text.strip():
        return [None] * count
    values = _json(text)
    if not isinstance(values, list) or len(values) != count:
        raise Refused(422, f"boxes: expected a list with the boxes (or null) of each of the {count} images")
    found = [None if value is None else boxes_of_value(value, limits) for value in values]
    if sum(1 if each is None else len(each) for each in found) > limits.max_boxes:
        raise Refused(422, f"boxes: more than the limit of {limits.max_boxes} in one request")
    return found


def boxes_of_value(value: Any, limits: Limits) -> np.ndarray:
    """Boxes with finite numbers that float32 holds, and an area."""
    shape_is_right = isinstance(value, list) and all(isinstance(box, list) and len(box) == 4 for box in value)
    if not shape_is_right or not all(_is_number(number) for box in value for number in box):
        raise Refused(422, "boxes: expected [[x, y, width, height], ..] in px, finite numbers below 1e9")
    if len(value) > limits.max_boxes:
        raise Refused(422, f"boxes: {len(value)} are more than the limit of {limits.max_boxes}")
    boxes = np.array(value, np.float64).reshape(-1, 4)
    if (boxes[:, 2:] < 1e-3).any():
        raise Refused(422, f"boxes: {boxes[(boxes[:, 2:] < 1e-3).any(1)][0].tolist()} has no area")
    return boxes


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and abs(value) < 1e9


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise Refused(422, f"boxes: no JSON: {error}") from error
