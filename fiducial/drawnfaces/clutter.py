"""What is behind several faces and between them: surfaces, things and crowds of shapes that are no faces."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from fiducial.drawnfaces.background import draw_background
from fiducial.drawnfaces.curves import circle
from fiducial.drawnfaces.looks import HAIR, SKIN
from fiducial.drawnfaces.skin import noise
from fiducial.geometry import Size

SHOWN = 0.6  # share of the images behind which a photograph stands, where some are given
LEAST_SHARE = 0.3  # of a photograph's shorter side that is cut out of it at least


def draw_backdrop(size: Size, random: np.random.Generator, photographs: Sequence[np.ndarray] = ()) -> np.ndarray:
    """Draws what is behind, [h, w, 3] uint8: plain, a surface, or full of things; where `photographs`, which show no face, are
    given, mostly a part of one of them."""
    if len(photographs) > 0 and random.random() < SHOWN:
        image = _part_of(photographs[int(random.integers(len(photographs)))], size, random)
    elif random.random() < 0.5:
        image = draw_background(size, random)
    else:
        image = surface(size, random)
    for _ in range(int(random.integers(0, 14)) if random.random() < 0.6 else 0):
        _thing(image, random)
    return image


def surface(size: Size, random: np.random.Generator) -> np.ndarray:
    """Draws a surface, [h, w, 3] uint8: noise of several sizes, as of stone, leaves or cloth, or stripes, in two colours."""
    ends = _colour(random), _colour(random)
    if random.random() < 0.3:
        angle, period = random.uniform(0, np.pi), max(random.uniform(0.01, 0.2) * max(size), 3.0)
        x, y = np.arange(size.w, dtype=np.float32), np.arange(size.h, dtype=np.float32)[:, None]
        wave = np.sin((x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))) * np.float32(2 * np.pi / period))
        level = np.clip(0.5 + random.uniform(0.5, 4) * wave, 0, 1)
    else:
        fall, level = random.uniform(0.3, 1.1), np.zeros((size.h, size.w), np.float32)
        for octave in range(1, 8):
            cells = (2**octave, max(2, 2**octave * size.h // size.w))
            level += np.float32(0.5 ** (fall * octave)) * noise(random, cells, size)
        level = np.clip(0.5 + level * np.float32(random.uniform(0.3, 1.2)), 0, 1)
    share = level[..., None].astype(np.float32)
    return (ends[0] * (1 - share) + ends[1] * share).astype(np.uint8)


def _part_of(photograph: np.ndarray, size: Size, random: np.random.Generator) -> np.ndarray:
    """A part of a photograph, mirrored or not, at some scale."""
    height, width = photograph.shape[:2]
    largest = min(height / size.h, width / size.w)
    share = random.uniform(LEAST_SHARE, 1)
    w, h = max(8, int(share * largest * size.w)), max(8, int(share * largest * size.h))
    left, top = int(random.integers(0, width - w + 1)), int(random.integers(0, height - h + 1))
    part = photograph[top : top + h, left : left + w]
    part = part[:, ::-1] if random.random() < 0.5 else part
    how = cv2.INTER_AREA if w > size.w else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(part), (size.w, size.h), interpolation=how)


def _thing(image: np.ndarray, random: np.random.Generator) -> None:
    """Something with an outline and a surface of its own; often of the colours and shapes that heads and hands have."""
    height, width = image.shape[:2]
    side = max(6, int(max(height, width) * np.exp(random.uniform(np.log(0.03), np.log(0.5)))))
    w, h = max(4, int(side * random.uniform(0.4, 1))), max(4, int(side * random.uniform(0.4, 1)))
    left, top = int(random.integers(-w // 2, width - w // 2)), int(random.integers(-h // 2, height - h // 2))
    mask = np.zeros((h, w), np.uint8)
    kind = random.random()
    if kind < 0.45:
        outline = circle(np.array([w / 2, h / 2]), w / 2 - 1, h / 2 - 1)
    elif kind < 0.75:
        outline = random.uniform(0, 1, (int(random.integers(3, 9)), 2)) * [w, h]
    else:
        outline = np.array([[0, 0], [w, 0], [w, h], [0, h]], float)
    cv2.fillPoly(mask, [outline.astype(np.int32)], 255.0, cv2.LINE_AA)
    filling = surface(Size(w, h), random)
    if random.random() < 0.5:  # rounded by the light
        ramp = np.linspace(random.uniform(0.3, 1), random.uniform(0.5, 1.3), w, dtype=np.float32)[:, None]
        filling = np.clip(filling * ramp, 0, 255).astype(np.uint8)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + w, width), min(top + h, height)
    if x1 <= x0 or y1 <= y0:
        return
    inside = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
    share = mask[inside][..., None].astype(np.float32) / 255
    region = image[y0:y1, x0:x1]
    region[:] = np.rint(region + share * (filling[inside].astype(np.float32) - region)).astype(np.uint8)


def _colour(random: np.random.Generator) -> np.ndarray:
    """Any colour, or one of skin or hair."""
    kind = random.random()
    if kind < 0.6:
        colour = random.uniform(0, 255, 3)
        grey = random.uniform(0, 1)
        return colour * (1 - grey) + colour.mean() * grey
    table = SKIN if kind < 0.85 else HAIR
    return np.clip(table[int(random.integers(len(table)))] * random.uniform(0.6, 1.15), 0, 255)
