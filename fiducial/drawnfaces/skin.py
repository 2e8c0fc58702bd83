"""Paints the unrolled skin of a head.

The image is a texture for the meshes. Beside the skin lie three patches: hair, plain skin (ears, neck), cloth."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np

from fiducial import geometry
from fiducial.drawnfaces.curves import smooth_curve
from fiducial.drawnfaces.features import Shape, face_shapes
from fiducial.drawnfaces.head import MIRROR, Expression, Head
from fiducial.drawnfaces.looks import Colour, Hair, Looks
from fiducial.geometry import Matrix, Size

LOW, HIGH = np.array([-1.3, -1.3]), np.array([1.3, 1.6])  # the part of the unrolled skin that is painted
PATCH = 0.5  # width of the patches' column; each takes a third of the height
SHARP = 0.6  # px: less blur than that is not worth its time
SHIFT = 5  # OpenCV draws polygons in 1/32 px


class Polygon(NamedTuple):
    """Holds a polygon in px of a canvas."""

    px: np.ndarray  # [n, 2]
    corners: np.ndarray  # [n, 2] int32, `px` in OpenCV's fixed-point numbers
    low: list[float]  # smallest x and y, px
    high: list[float]

    def mask(self, left: int, top: int, area: Size, drawn: Size) -> np.ndarray:
        """Fills it in an area of a canvas, which is shown in `drawn` px: [h, w] uint8."""
        empty = np.zeros((drawn.h, drawn.w), np.uint8)
        if drawn == area:
            offset = (-left << SHIFT, -top << SHIFT)
            return cv2.fillPoly(empty, [self.corners], (255.0,), cv2.LINE_AA, SHIFT, offset)
        local = geometry.crop(np.array([left, top, *area]), drawn)
        return cv2.fillPoly(empty, [fixed(geometry.transform(local, self.px))], (255.0,), cv2.LINE_AA, SHIFT)


@dataclass
class Canvas:
    """Is an image that is painted on in units of the unrolled skin."""

    image: np.ndarray  # [h, w, 3] uint8
    placed: Matrix  # unrolled skin -> px

    def polygons(self, xy: np.ndarray, lengths: list[int]) -> list[Polygon]:
        """Places polygons of so many corners each, xy [sum, 2] on the unrolled skin: a call costs more than a corner."""
        px = geometry.transform(self.placed, xy)
        ends = list(itertools.accumulate(lengths, initial=0))
        corners, low, high = fixed(px), np.minimum.reduceat(px, ends[:-1]), np.maximum.reduceat(px, ends[:-1])
        parts = zip(itertools.pairwise(ends), low.tolist(), high.tolist(), strict=True)
        return [Polygon(px[start:end], corners[start:end], *bounds) for (start, end), *bounds in parts]

    def draw(self, polygon: Polygon, shape: Shape, inside: Polygon | None) -> None:
        """Blends a shape that has this polygon, within that of `inside`."""
        blur = shape.soft * float(self.placed[0, 0])
        height, width = self.image.shape[:2]
        reach = 2.5 * blur + 2
        (low_x, low_y), (high_x, high_y) = polygon.low, polygon.high
        left, top = max(int(low_x - reach), 0), max(int(low_y - reach), 0)
        area = Size(min(int(high_x + reach) + 2, width) - left, min(int(high_y + reach) + 2, height) - top)
        if min(area) <= 0:
            return
        if blur < SHARP and inside is None:
            region = self.image[top : top + area.h, left : left + area.w]
            offset, colour = (-left << SHIFT, -top << SHIFT), shape.colour.tolist()
            filled = cv2.fillPoly(region.copy(), [polygon.corners], colour, cv2.LINE_AA, SHIFT, offset)
            cv2.addWeighted(filled, shape.alpha, region, 1 - shape.alpha, 0, region)
            return
        # Very soft shapes need few pixels.
        fewer = max(int(blur / 1.5), 1)
        drawn = Size(max(area.w // fewer, 1), max(area.h // fewer, 1))
        mask = polygon.mask(left, top, area, drawn)
        if blur >= SHARP:
            mask = cv2.GaussianBlur(mask, (0, 0), blur / fewer)
        if inside is not None:
            mask = cv2.min(mask, inside.mask(left, top, area, drawn))
        if fewer > 1:
            mask = cv2.resize(mask, (area.w, area.h), interpolation=cv2.INTER_LINEAR)
        self.blend(mask, shape.colour, shape.alpha, left, top)

    def blend(self, mask: np.ndarray, colour: Colour, alpha: float, left: int = 0, top: int = 0) -> None:
        """Blends a colour where `mask` [h, w] uint8 says so, at (left, top) of the image."""
        region = self.image[top : top + mask.shape[0], left : left + mask.shape[1]]
        weight = cv2.cvtColor(cv2.convertScaleAbs(mask, alpha=alpha), cv2.COLOR_GRAY2RGB)
        shares: Any = (*(min(value, 255.0) / 255 for value in colour.tolist()), 0.0)  # OpenCV's types leave scalars out
        rest = cv2.multiply(region, cv2.bitwise_not(weight), scale=1 / 255)
        cv2.add(rest, cv2.multiply(weight, shares), region)


def paint(
    head: Head, expression: Expression, looks: Looks, scale: float, random: np.random.Generator
) -> tuple[Canvas, np.ndarray]:
    """Paints the texture at `scale` px a unit, and where it is hair, [h, w] uint8."""
    extent = HIGH - LOW + [PATCH, 0.0]
    size = Size(*np.ceil(extent * scale).astype(int).tolist())
    placed = geometry.compose(geometry.translation(-LOW[0], -LOW[1]), geometry.scaling(scale, scale))
    canvas = Canvas(_lively(looks.skin, looks.mottling, (40, 40), size, random), placed)
    _draw_all(canvas, head, face_shapes(head.points, expression, looks, random))
    hair_mask = np.zeros(canvas.image.shape[:2], np.uint8)
    if looks.hair is not None:
        _paint_hair(canvas, head, looks.hair, hair_mask, random)
    _paint_patches(canvas, looks, random)
    return canvas, hair_mask


def _draw_all(canvas: Canvas, head: Head, shapes: list[Shape]) -> None:
    """Draws shapes of the frontal layout onto the unrolled skin."""
    clips = {id(shape.inside): shape.inside for shape in shapes if shape.inside is not None}
    outlines = [*(shape.xy for shape in shapes), *clips.values()]
    polygons = canvas.polygons(head.unroll(np.concatenate(outlines)), [len(outline) for outline in outlines])
    insides = dict(zip(clips, polygons[len(shapes) :], strict=True))
    for polygon, shape in zip(polygons, shapes, strict=False):
        canvas.draw(polygon, shape, insides.get(id(shape.inside)))


def fixed(px: np.ndarray) -> np.ndarray:
    """Turns corners into OpenCV's fixed-point numbers."""
    return np.round(px * 2**SHIFT).astype(np.int32)


def patch_place(number: int, part: np.ndarray) -> np.ndarray:
    """Finds the place in the texture, on the unrolled skin, of `part` [..., 2] (0..1 each way) of patch 0 hair, 1 skin,
    2 cloth."""
    third = (HIGH[1] - LOW[1]) / 3
    inset = 0.04 + 0.92 * part
    return np.array([HIGH[0], LOW[1] + number * third]) + inset * [PATCH, third]


def noise(random: np.random.Generator, cells: tuple[int, int], size: Size) -> np.ndarray:
    """Makes smooth noise [h, w] float32, about -1..1: `cells` (across, down) random values, enlarged."""
    coarse = random.standard_normal((max(cells[1], 1), max(cells[0], 1)), np.float32) * 0.6
    return cv2.resize(coarse, (size.w, size.h), interpolation=cv2.INTER_LINEAR)


def _lively(
    colour: Colour, strength: float, cells: tuple[int, int], size: Size, random: np.random.Generator
) -> np.ndarray:
    """A colour that is lighter here and darker there, [h, w, 3] uint8."""
    gain = 1 + strength * noise(random, cells, size)
    return cv2.merge([cv2.convertScaleAbs(gain, alpha=float(value)) for value in colour])


def _paint_hair(canvas: Canvas, head: Head, hair: Hair, mask: np.ndarray, random: np.random.Generator) -> None:
    wide = head.points[16, 0] / 0.85
    t = hair.temple * wide
    right = np.array([(-0.9 * wide, 0.2), (-t - 0.06, 0.05), (-t - 0.02, -0.2), (-t + 0.08, -0.42), (-0.3, 0.0)])
    edge = np.concatenate([right, [(0.0, 0.0)], (right * MIRROR)[::-1]])
    edge[4:7, 1] = hair.line + np.array([0.03, 0, 0.03]) + hair.parting * np.array([-1, 0, 1])
    edge[[3, 7], 1] = np.minimum(edge[[3, 7], 1], hair.line + 0.3)
    curve = smooth_curve(edge, 8)
    curve[:, 1] += hair.ragged * random.standard_normal(len(curve)) * (curve[:, 1] < -0.15)
    around = np.array([(4.0, 0.1), (4.0, -4.0), (-4.0, -4.0), (-4.0, 0.1)])
    area = np.concatenate([head.unroll(curve), around])
    px = geometry.transform(canvas.placed, area)
    cv2.fillPoly(mask, [fixed(px)], (255.0,), cv2.LINE_AA, SHIFT)
    height, width = mask.shape
    reach = max(round(0.06 * canvas.placed[0, 0]), 1)
    rows = int(px[:, 1].max()) + 4 * reach  # below them there is none
    mask, image = mask[:rows], canvas.image[:rows]
    canvas.blend(cv2.blur(cv2.blur(mask, (2 * reach, 2 * reach)), (reach, reach)), image[0, 0] * 0.4, 0.35)
    cells, contrast = ((width // 5, height // 5), 0.45) if hair.curly else ((width // 3, 6), 0.28)
    strands = _lively(hair.colour, contrast, cells, Size(width, height), random)[:rows]
    edge = cv2.blur(mask, (reach // 2 * 2 + 1, reach // 2 * 2 + 1))
    over = cv2.cvtColor(edge, cv2.COLOR_GRAY2RGB)
    under = cv2.multiply(image, cv2.bitwise_not(over), scale=1 / 255)
    cv2.add(under, cv2.multiply(strands, over, scale=1 / 255), image)


def _paint_patches(canvas: Canvas, looks: Looks, random: np.random.Generator) -> None:
    """Hair, skin and cloth beside the unrolled skin."""
    height, width = canvas.image.shape[:2]
    left, third = int((HIGH[0] - LOW[0]) * canvas.placed[0, 0]), height // 3
    cell = Size(width - left, third)
    colour = looks.hair.colour if looks.hair is not None else looks.skin
    canvas.image[:third, left:] = _lively(colour, 0.28, (24, 4), cell, random)
    canvas.image[third : 2 * third, left:] = looks.skin.astype(np.uint8)
    cloth = _lively(looks.cloth, 0.15, (5, 3), cell, random)
    if random.random() < 0.5:  # an open jacket with a shirt
        opening = np.array([[0.38, 0], [0.62, 0], [0.5, random.uniform(0.4, 1.2)]]) * [cell.w, cell.h]
        cv2.fillPoly(cloth, [opening.astype(np.int32)], np.clip(looks.shirt, 0, 255).tolist(), cv2.LINE_AA)
    canvas.image[2 * third : 3 * third, left:] = cloth
