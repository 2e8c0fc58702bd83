"""What is behind a face: gradients, smooth noise, clutter."""

from __future__ import annotations

import cv2
import numpy as np

from fiducial.drawnfaces.curves import even
from fiducial.drawnfaces.skin import noise
from fiducial.geometry import Size


def draw_background(size: Size, random: np.random.Generator) -> np.ndarray:
    """Draws a background, [h, w, 3] uint8."""
    # Drawn on a fixed coarse grid and enlarged, so that things look alike at every size.
    height, width = 64, max(int(64 * size.w / size.h), 8)
    small = Size(width, height)
    ends = random.uniform(0, 255, (2, 3)) * random.uniform(0.2, 1, (2, 1))
    grey = random.uniform(0, 1)  # walls are rarely colourful
    ends = ends * (1 - grey) + ends.mean(1, keepdims=True) * grey
    angle = random.uniform(0, 2 * np.pi)
    x, y = (even(-1, 1, count).astype(np.float32) for count in (width, height))
    ramp = 0.5 + 0.35 * (x * np.float32(np.cos(angle)) + y[:, None] * np.float32(np.sin(angle)))
    patterns = [noise(random, (cells, cells), small) for cells in (4, 12, 40)]
    strength = random.uniform(0, 45) * random.uniform(0.3, 1, (3, 3))
    channels = []
    for channel, weights in enumerate(strength.tolist()):
        plane = ramp * np.float32(ends[1, channel] - ends[0, channel]) + np.float32(ends[0, channel])
        for weight, pattern in zip(weights, patterns, strict=True):
            plane = cv2.scaleAdd(pattern, weight, plane)
        channels.append(plane)
    image = np.clip(cv2.merge(channels), 0, 255).astype(np.uint8)
    _clutter(image, random, int(random.integers(0, 16)) if random.random() < 0.75 else 0)
    if random.random() < 0.6:
        image = cv2.GaussianBlur(image, (0, 0), random.uniform(0.5, 3))
    return cv2.resize(image, (size.w, size.h), interpolation=cv2.INTER_LINEAR)


def _clutter(image: np.ndarray, random: np.random.Generator, count: int) -> None:
    """Boxes, discs, lines and letters in any colour."""
    height, width = image.shape[:2]
    for _ in range(count):
        x, y = (random.uniform(-0.1, 1.1, 2) * [width, height]).astype(int).tolist()
        w, h = (random.uniform(0.05, 0.6, 2) * [width, height]).astype(int).tolist()
        colour = random.integers(0, 256, 3).tolist()
        kind = int(random.integers(4))
        if kind == 0:
            cv2.rectangle(image, (x, y), (x + w, y + h), colour, -1)
        elif kind == 1:
            cv2.ellipse(
                image, (x, y), (w // 2 + 1, h // 2 + 1), random.uniform(0, 180), 0, 360, colour, -1, cv2.LINE_AA
            )
        elif kind == 2:
            cv2.line(image, (x, y), (x + w, y + 2 * h), colour, int(random.integers(1, 6)), cv2.LINE_AA)
        else:
            text = "".join(chr(int(code)) for code in random.integers(65, 91, 3))
            cv2.putText(image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, random.uniform(0.2, 0.9), colour, 1, cv2.LINE_AA)
