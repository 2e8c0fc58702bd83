"""Boxes written out where they are needed, on a command line or in a request: [[x, y, width, height], ..] in px."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec
import numpy as np

from fiducial.errors import UserError

Box = tuple[float, float, float, float]
T = TypeVar("T")
FARTHEST_PX = 1e6
SMALLEST_PX = 1e-3


def is_bare(text: str) -> bool:
    """Says whether a text means boxes and no file: it begins with a bracket, or has numbers and commas alone."""
    return text.lstrip().startswith("[") or re.fullmatch(r"[\s\d.eE,+-]*,[\s\d.eE,+-]*", text) is not None


def parse(text: str) -> np.ndarray:
    """Parses the boxes [n, 4] of an image: "[[1, 2, 30, 40], ..]", and one also as "[1, 2, 30, 40]" or "1,2,30,40"."""
    bracketed = text if text.lstrip().startswith("[") else f"[{text}]"
    several = re.match(r"\s*\[\s*[\[\]]", bracketed)
    return _checked(_parsed(bracketed if several else f"[{bracketed}]", list[Box], "[[x, y, width, height], ..] in px"))


def parse_each(text: str) -> list[np.ndarray | None]:
    """Parses a list with the boxes, or null, of each of several images."""
    values = _parsed(text, list[list[Box] | None], "a list with the boxes, or null, of each image")
    return [None if value is None else _checked(value) for value in values]


def _parsed(text: str, kind: type[T], expected: str) -> T:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise UserError("boxes", f"expected {expected}. {error}") from error


def _checked(value: list[Box]) -> np.ndarray:
    boxes = np.array(value, np.float64).reshape(-1, 4)
    wrong = ~(np.abs(boxes) <= FARTHEST_PX).all(1) | ~(boxes[:, 2:] >= SMALLEST_PX).all(1)
    if wrong.any():
        expected = f"expected x, y, positive width and height, numbers up to {FARTHEST_PX:,.0f} px"
        raise UserError("boxes", f"{boxes[wrong][0].tolist()}: {expected}")
    return boxes
