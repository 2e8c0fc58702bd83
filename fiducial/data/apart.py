"""Decoding in a process with limits: pictures that would take this process's memory or time, and those that say so."""

from __future__ import annotations

import os
import threading
from functools import cache
from typing import Any

import numpy as np

from fiducial.data import decoding
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.limited import Limited, TooMuch

MEGABYTES = 900  # for a picture; a JPEG of 100 million pixels takes 600
CPU_SECONDS, WALL_SECONDS = 4.0, 7.0
MOST_PIXELS = 2**28
_lock = threading.Lock()


def decode(data: bytes, name: str, reduce: int = 1, declared: Size | None = None) -> np.ndarray:
    """Decodes a picture as `images.decode_image` does. UserError where that takes too much memory or time."""
    question = {"name": name, "reduce": reduce, "declared": declared}
    with _lock:
        try:
            shape, pixels = _process(os.getpid())(question, data)
        except TooMuch as error:
            raise UserError(name, f"decoding it {error}; shrink the picture or save it anew") from error
    return np.frombuffer(pixels, np.uint8).reshape(shape)


@cache
def _process(owner: int) -> Limited:
    """One a process: a fork has one of its own."""
    return Limited(
        f"{__name__}:obey",
        megabytes=MEGABYTES,
        cpu_seconds=CPU_SECONDS,
        wall_seconds=WALL_SECONDS,
        environment={decoding.LIMIT: str(MOST_PIXELS)},
    )


def obey(question: dict[str, Any], data: bytes) -> tuple[list[int], np.ndarray]:
    """Decodes in that process: the image's shape, and its pixels."""
    import cv2

    cv2.setNumThreads(1)
    declared = question["declared"] and Size(*question["declared"])
    image = decoding.decode(data, question["name"], question["reduce"], declared)
    return list(image.shape), np.ascontiguousarray(image)
