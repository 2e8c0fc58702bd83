"""Images with bright discs on noise, some with none: instances that a small finder learns in seconds."""

from __future__ import annotations

import cv2
import numpy as np

from fiducial.types import Instances

SIDE = 96


def scene(generator: np.random.Generator, count: int) -> tuple[np.ndarray, list[list[float]]]:
    """An image, and the discs on it: x, y, radius, px."""
    image = generator.integers(0, 90, (SIDE, SIDE, 3), dtype=np.uint8)
    discs: list[list[float]] = []
    while len(discs) < count:
        radius = float(generator.uniform(7, 14))
        x, y = generator.uniform(radius + 1, SIDE - radius - 1, 2)
        if all(np.hypot(x - a, y - b) > radius + other + 2 for a, b, other in discs):
            discs.append([float(x), float(y), radius])
            cv2.circle(image, (round(x * 16), round(y * 16)), round(radius * 16), (250, 220, 60), -1, cv2.LINE_AA, 4)
    return image, discs


def discs(count: int, seed: int, fewest: int = 0, most: int = 3) -> Instances:
    """`count` images with `fewest` to `most` discs, whose points are the middle and the top."""
    generator = np.random.default_rng(seed)
    images, rows, xy, boxes = [], [], [], []
    for row in range(count):
        image, found = scene(generator, int(generator.integers(fewest, most + 1)))
        images.append(image)
        for x, y, radius in found:
            rows.append(row)
            xy.append([[x, y], [x, y - radius]])
            boxes.append([x - radius + 0.5, y - radius + 0.5, 2 * radius, 2 * radius])
    return Instances.of(
        images, np.array(xy), boxes=np.array(boxes), image_row=np.array(rows), names=("middle", "top"), flip_pairs=()
    )
