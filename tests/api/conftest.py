"""Arrays as a program holds them: discs on grey noise, images of different sizes."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import pytest

COLOURS = ((255, 60, 40), (40, 255, 60), (60, 40, 255))


class Arrays(NamedTuple):
    """Labelled images of a program."""

    images: list[np.ndarray]  # uint8 RGB [h, w, 3]
    xy: np.ndarray  # [n, 3, 2] px


@pytest.fixture(scope="session")
def discs() -> Arrays:
    generator = np.random.default_rng(5)
    images, points = [], []
    for i in range(40):
        width, height = (64, 56) if i % 2 else (80, 48)
        image = generator.integers(60, 120, (height, width, 3), dtype=np.uint8)
        xy = generator.uniform((12, 12), (width - 12, height - 12), (3, 2))
        for point, colour in zip(xy, COLOURS, strict=True):
            centre = tuple(round(float(value) * 16) for value in point)
            cv2.circle(image, centre, 5 * 16, colour, -1, cv2.LINE_AA, shift=4)
        images.append(image)
        points.append(xy)
    return Arrays(images, np.array(points))
