"""What is drawn on a face, as shapes in the frontal layout: eyes, brows, lips, nose, folds, beard. Every drawn edge
runs through the points that mark it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fiducial.drawnfaces.curves import circle, even, smooth_curve, stroke
from fiducial.drawnfaces.head import Expression
from fiducial.drawnfaces.looks import Colour, Looks


class Shape(NamedTuple):
    """Describes a filled polygon to be blended in."""

    xy: np.ndarray  # [n, 2] frontal
    colour: Colour
    alpha: float = 1.0
    soft: float = 0.0  # blur of its edge, standard deviation
    inside: np.ndarray | None = None  # [m, 2] only what lies in this polygon is drawn


def _line(curve: np.ndarray, width: float | np.ndarray) -> np.ndarray:
    """A line as a polygon; `width` is half of what one sees."""
    return stroke(curve, width, width)


def _furrow(row: int) -> np.ndarray:
    """A wrinkle across the forehead."""
    x = np.linspace(-0.35, 0.35, 9)
    return _line(np.stack([x, -0.42 - 0.09 * row + 0.02 * np.cos(11 * x)], -1), 0.007)


CHEEKS = {side: circle(np.array([side * 0.48, 0.36]), 0.14, 0.12, 12) for side in (-1, 1)}
FURROWS = [_furrow(row) for row in range(3)]


def face_shapes(points: np.ndarray, expression: Expression, looks: Looks, random: np.random.Generator) -> list[Shape]:
    """Lists everything on the skin but hair, from the bottom up; points [68, 2] frontal."""
    shapes = _folds(points, looks, random) + _beard(points, looks, random) + _nose(points, looks)
    shapes += _mouth(points, expression, looks, random)
    for side in (0, 1):
        shapes += _eye(points, expression, looks, side) + _brow(points, looks, side)
    return [shape for shape in shapes if shape.alpha > 0.05]


def _folds(points: np.ndarray, looks: Looks, random: np.random.Generator) -> list[Shape]:
    """Large soft areas and wrinkles: cheeks, eye sockets, forehead, beside the mouth."""
    red, dark = looks.skin * [1.0, 0.8, 0.8], looks.skin * [0.62, 0.52, 0.5]
    flush, socket = random.uniform(0, 0.6), 0.25 + looks.eye_shadow
    shapes = []
    for side, eye, brow in ((-1, points[36:42], points[17:22]), (1, points[42:48], points[22:27])):
        centre = eye.mean(0)
        bag = smooth_curve(eye[[0, 5, 4, 3]] + (0.0, 0.07), 4)
        nose, corner = points[35 if side > 0 else 31], points[54 if side > 0 else 48]
        beside = (nose + corner) / 2 + (side * 0.07, 0)
        fold = smooth_curve(
            np.array([nose + np.array([side * 0.04, -0.06]), beside, corner + np.array([side * 0.07, 0.05])]), 5
        )
        shapes += [
            Shape(CHEEKS[side], red, flush, 0.08),
            Shape(circle(centre, 0.2, 0.085, 14), dark, 0.7 * socket, 0.04),
            Shape(circle(centre + np.array([-side * 0.16, 0.0]), 0.05, 0.08, 12), dark, 0.6 * socket, 0.03),
            Shape(circle((centre + brow.mean(0)) / 2, 0.17, 0.045, 12), dark, 0.5 * socket, 0.03),
            Shape(_line(bag, 0.012), dark, 0.7 * looks.wrinkles, 0.012),
            Shape(_line(fold, even(0.02, 0.008, len(fold))), dark, 0.15 + 0.65 * looks.wrinkles, 0.014),
        ]
    shapes.append(Shape(circle(points[57] + (0.0, 0.075), 0.11, 0.014, 12), dark, 0.4, 0.02))
    return shapes + [Shape(furrow, dark, 0.5 * looks.wrinkles, 0.008) for furrow in FURROWS]


def _beard(points: np.ndarray, looks: Looks, random: np.random.Generator) -> list[Shape]:
    shapes = []
    low = random.uniform(0.0, 1.0)  # how far the beard stays below the cheeks
    chin_only = random.random() < 0.35
    if looks.beard > 0.05:
        beside, under_nose = np.array([0.16 + 0.1 * (1 - low), -0.05 + 0.1 * low]), points[33, 1] + 0.05
        right = np.array([points[2], points[4] * 0.9, points[48] + beside * [-1, 1], [points[31, 0], under_nose]])
        left = np.array([[points[35, 0], under_nose], points[54] + beside, points[12] * 0.9, points[14]])
        area = np.concatenate([right, left, points[14:1:-1] * [1.0, 1.04]])
        if chin_only:
            area = circle(np.array([0.0, (points[8, 1] + points[57, 1]) / 2 + 0.05]), 0.3, 0.26)
        alpha = 0.25 + 0.65 * looks.beard if looks.beard > 0.3 else looks.beard
        shaven = circle((points[48] + points[54]) / 2 + (0, 0.03), 1.15 * points[54, 0], 0.13, 16)
        shapes.append(Shape(area, looks.beard_colour, alpha, 0.035))
        shapes.append(Shape(shaven, looks.skin, 0.5 * (1 - looks.moustache), 0.03))
    if looks.moustache > 0.05:
        middle = np.array([0, (points[33, 1] + points[51, 1]) / 2 + 0.02])
        droop = np.array([(-0.02, 0.05), (0, -0.02), (0, 0), (0, -0.02), (0.02, 0.05)])
        line = np.stack([points[48], points[49], middle, points[53], points[54]]) + droop
        line = smooth_curve(line, 4)
        width = 0.012 + 0.04 * np.sin(even(0, np.pi, len(line)))
        shapes.append(Shape(stroke(line, width, 0.6 * width), looks.beard_colour, looks.moustache, 0.012))
    return shapes


def _nose(points: np.ndarray, looks: Looks) -> list[Shape]:
    dark, deep = looks.skin * [0.55, 0.42, 0.4], looks.skin * [0.25, 0.16, 0.15]
    base = points[33]
    under = smooth_curve(points[31:36] + np.array([(0, 0), (0, 0.012), (0, 0.015), (0, 0.012), (0, 0)]), 4)
    shade = np.concatenate([under, [[0.07, base[1] - 0.035], [-0.07, base[1] - 0.035]]])
    shapes = [Shape(shade, dark, 0.55, 0.012)]
    for side, wing, hole in ((-1, points[31], points[32]), (1, points[35], points[34])):
        nostril = circle(hole + np.array([side * 0.008, -0.014]), 0.036 * abs(wing[0]) / 0.138, 0.014, 12)
        crease = np.array(
            [
                wing + np.array([-side * 0.01, 0.005]),
                wing + np.array([side * 0.022, -0.03]),
                wing + np.array([side * 0.008, -0.085]),
            ]
        )
        crease = smooth_curve(crease, 5)
        shapes.append(Shape(nostril, deep, 0.85, 0.006))
        shapes.append(Shape(_line(crease, even(0.012, 0.004, len(crease))), dark, 0.75, 0.006))
    return shapes


def _mouth(points: np.ndarray, expression: Expression, looks: Looks, random: np.random.Generator) -> list[Shape]:
    top = smooth_curve(points[48:55], 4)
    bottom = smooth_curve(points[[54, 55, 56, 57, 58, 59, 48]], 4)
    inner_top = smooth_curve(points[[48, 60, 61, 62, 63, 64, 54]], 4)
    inner_bottom = smooth_curve(points[[54, 64, 65, 66, 67, 60, 48]], 4)
    inside = np.concatenate([inner_top, inner_bottom])
    gap = points[66, 1] - points[62, 1]
    opened = gap > 0.012
    dark = np.array([48.0, 18, 18]) * random.uniform(0.5, 1.3)
    teeth, tongue = random.random() < 0.75 or expression.smile > 0.6, random.random() < 0.7
    shine = circle((points[57] + points[66]) / 2 - [0, 0.01], 0.09, 0.018, 12)
    shapes = [
        Shape(np.concatenate([top, inner_top[::-1]]), looks.lips * 0.86, 0.9, 0.006),
        Shape(np.concatenate([bottom, inner_bottom[::-1]]), looks.lips, 0.85, 0.006),
        Shape(shine, looks.lips * 1.3, 0.35, 0.012),
    ]
    if opened:
        shapes.append(Shape(inside, dark))
    if opened and teeth:
        colour = np.array([226.0, 214, 196]) * random.uniform(0.7, 1.08)
        height = 0.05 + 0.05 * max(expression.smile, 0.0)
        middle = inner_top[np.abs(inner_top[:, 0]) < 0.85 * np.abs(inner_top[:, 0]).max()]
        row = np.concatenate([middle - [0, 0.02], middle[::-1] + np.array([0, height])])
        shapes.append(Shape(row, colour, 0.95, 0.004, inside))
    if gap > 0.12 and tongue:
        tip = circle(points[66] - [0, 0.18 * gap], 0.12, 0.2 * gap, 14)
        shapes.append(Shape(tip, np.array([170.0, 84, 84]), 0.75, 0.01, inside))
    edge = np.concatenate([inner_top, inner_bottom]) if opened else inner_top
    shapes.append(Shape(_line(edge, 0.008), dark, 0.4 if opened else 0.75, 0.005))
    return shapes + [Shape(circle(corner, 0.02, 0.014, 8), dark, 0.45, 0.01) for corner in points[[48, 54]]]


def _eye(points: np.ndarray, expression: Expression, looks: Looks, side: int) -> list[Shape]:
    eye = points[36 + 6 * side : 42 + 6 * side]
    upper, lower = smooth_curve(eye[:4], 5), smooth_curve(eye[[3, 4, 5, 0]], 5)
    opening = np.concatenate([upper, lower])
    white = np.array([106.0, 102, 99]) + looks.skin * 0.4
    iris = (eye[0] + eye[3]) / 2 + np.array(expression.gaze) * [0.14, 0.05] + (0.0, -0.012)
    dark = looks.skin * 0.16
    taper = np.sin(even(0.15, np.pi - 0.15, len(upper)))
    lash, rim = 0.007 + 0.012 * looks.lid_line * taper, 0.004 + 0.005 * looks.lid_line * taper
    return [
        Shape(opening, white),
        Shape(circle(iris, 0.068, 0.068), looks.iris * 0.6, 1.0, 0.0, opening),
        Shape(circle(iris, 0.056, 0.056), looks.iris, 0.8, 0.0, opening),
        Shape(circle(iris, 0.026, 0.026, 12), np.array([12.0, 10, 10]), 1.0, 0.0, opening),
        Shape(circle(iris + np.array([0.018, -0.02]), 0.014, 0.014, 8), np.full(3, 250.0), 0.8, 0.0, opening),
        Shape(
            np.concatenate([upper, upper[::-1] + np.array([0, 0.022])]), np.array([30.0, 20, 18]), 0.4, 0.008, opening
        ),
        Shape(stroke(upper, lash, 0.5 * lash), dark, 0.45 + 0.5 * looks.lid_line, 0.003),
        Shape(_line(lower, rim), dark, 0.2 + 0.5 * looks.lid_line, 0.004),
        Shape(_line(upper + np.array([0.0, -0.035]), 0.006), looks.skin * 0.45, 0.55, 0.006),
    ]


def _brow(points: np.ndarray, looks: Looks, side: int) -> list[Shape]:
    """Its points lie on the upper edge, so that the brow hangs below them."""
    brow = points[17:22] if side == 0 else points[26:21:-1]  # outer end first
    curve = smooth_curve(brow, 5)
    along = even(0, 1, len(curve))
    width = looks.brow_thickness * (0.25 + 0.9 * np.minimum(along * 2.2, 1.0) * (1 - 0.25 * along))
    # The way from the outer end inwards has the forehead on its left for one brow, on its right for the other.
    left, right = (0.0 * width, 1.8 * width) if side == 0 else (1.8 * width, 0.0 * width)
    return [
        Shape(stroke(curve, left, right), looks.brow_colour, looks.brow_strength, 0.008),
        Shape(stroke(curve, 0.6 * left, 0.6 * right), looks.brow_colour, 0.5, 0.006),
    ]
