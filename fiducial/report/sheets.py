"""Draws sheets of images with points that nobody named.

Each point has one colour on all of them, so that the eye can tell whether it marks the same place in every frame and
on every person. Numpy and OpenCV only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from fiducial.report import pictures

SIDE = 160  # px of a tile's longest side, so that points of small images can be told apart


class Tile(NamedTuple):
    """An image of a sheet."""

    image: np.ndarray  # uint8 RGB [h, w, 3]
    caption: str = ""


def legend(points: int) -> dict[str, pictures.Colour]:
    """Gives each point's colour, by its number."""
    return {str(i): (int(r), int(g), int(b)) for i, (r, g, b) in enumerate(pictures.hues(points))}


def framed(image: np.ndarray) -> np.ndarray:
    """Draws a bright edge, which marks the image among others."""
    edge = 3
    inner = image[edge:-edge, edge:-edge]
    return cv2.copyMakeBorder(inner, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=pictures.ERROR)


def tail(name: str, length: int = 20) -> str:
    """Gives the end of a name, by which those of one folder differ."""
    return name if len(name) <= length else f"..{name[2 - length :]}"


def sheet(rows: Sequence[Sequence[Tile]], colours_of: int = 0) -> np.ndarray:
    """Lays out rows of tiles, short ones filled up; below them the colours of so many points."""
    columns = max(1, *(len(row) for row in rows)) if rows else 1
    ground = Tile(np.full((8, 8, 3), pictures.GROUND, np.uint8))
    tiles = [tile for row in rows for tile in (*row, *[ground] * (columns - len(row)))]
    whole = pictures.contact_sheet([tile.image for tile in tiles], [tile.caption for tile in tiles], columns)
    if colours_of == 0:
        return whole
    return np.concatenate([whole, _colours(colours_of, whole.shape[1])])


def _colours(points: int, width: int) -> np.ndarray:
    """Draws a strip of `width` px: a dot and a number a point, in as many lines as it takes."""
    height, step = 20, 44
    across = max(1, width // step)
    strip = np.full((height * math.ceil(points / across), width, 3), pictures.GROUND, np.uint8)
    font = cv2.FontFace("sans")
    for number, colour in enumerate(pictures.hues(points)):
        x, y = step * (number % across) + 9, height * (number // across)
        cv2.circle(strip, (x, y + 10), 6, colour.tolist(), -1, cv2.LINE_AA)
        cv2.putText(strip, str(number), (x + 11, y + 15), pictures.TEXT, font, 13, 450)
    return strip
