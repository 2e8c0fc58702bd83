"""What is in front of a face: glasses, a hand, a microphone, bars and patches. Outlines come first, so that it is
known which points they hide without drawing them."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from fiducial import geometry
from fiducial.drawnfaces.curves import circle, stroke
from fiducial.drawnfaces.head import Head
from fiducial.drawnfaces.looks import Looks
from fiducial.drawnfaces.scene import Scene, View
from fiducial.drawnfaces.skin import SHIFT, fixed
from fiducial.geometry import Matrix


class Cover(NamedTuple):
    """Describes a flat thing in front of the face."""

    polygons: tuple[np.ndarray, ...]  # [n, 2] px each
    colour: np.ndarray  # [3]


def draw_cover(scene: Scene, xy: np.ndarray, skin: np.ndarray, random: np.random.Generator) -> Cover | None:
    """Draws, sometimes, a cover; xy [68, 2] are the points as seen."""
    kind = random.random()
    if kind > 0.16:
        return None
    unit = float(scene.view.placed[0, 0])  # px an eye-corner distance
    any_colour = random.uniform(0, 255, 3)
    if kind < 0.05:
        return Cover(_hand(xy[random.integers(2, 15)], unit, random), skin * random.uniform(0.8, 1.05))
    if kind < 0.10:
        ball = xy[57] + random.normal(0, 0.12, 2) * unit + np.array([0, 0.3 * unit])
        stick = _bar(ball, ball + np.array([random.normal(0, 0.8) * unit, 2.5 * unit]), 0.09 * unit)
        return Cover((stick, circle(ball, 0.17 * unit, 0.2 * unit)), any_colour * 0.25)
    if kind < 0.13:
        at, way = xy[random.integers(68)], random.normal(0, 1, 2)
        way = way / (np.hypot(*way) + 1e-9) * 4 * unit
        return Cover((_bar(at - way, at + way, random.uniform(0.05, 0.2) * unit),), any_colour)
    corner = xy[random.integers(68)] + random.normal(0, 0.2, 2) * unit
    extent = random.uniform(0.2, 0.9, 2) * unit
    box = np.concatenate([corner - extent / 2, extent])
    return Cover((geometry.box_corners(box),), any_colour)


def covered(cover: Cover | None, xy: np.ndarray) -> np.ndarray:
    """Says which points lie behind the cover, [k] bool."""
    if cover is None:
        return np.zeros(len(xy), bool)
    outlines = [polygon.astype(np.float32) for polygon in cover.polygons]
    points = xy.astype(float).tolist()
    return np.array([any(cv2.pointPolygonTest(one, (x, y), False) >= 0 for one in outlines) for x, y in points])


def paint_cover(image: np.ndarray, cover: Cover, matrix: Matrix, random: np.random.Generator) -> None:
    """Paints the cover onto an image whose px are those of the cover through `matrix`."""
    for polygon in cover.polygons:
        colour = np.clip(cover.colour * (1 + 0.06 * random.normal()), 0, 255)
        px = fixed(geometry.transform(matrix, polygon))
        cv2.fillPoly(image, [px], colour.tolist(), cv2.LINE_AA, SHIFT)
        cv2.polylines(image, [px], True, (colour * 0.6).tolist(), 1, cv2.LINE_AA, SHIFT)


def paint_glasses(image: np.ndarray, head: Head, view: View, looks: Looks, darkness: float) -> None:
    """Paints frames and lenses; `view` projects to px of the image."""
    frame = np.clip(looks.frame_colour, 0, 255).tolist()
    thickness = max(round(looks.frame_width * float(view.placed[0, 0])), 1)
    forward = 0.1
    inner = []
    order = (1, 0) if view.turn[0, 2] > 0 else (0, 1)  # the farther lens first
    for side in order:
        eye = head.points[36 + 6 * side : 42 + 6 * side]
        centre = (eye[0] + eye[3]) / 2 + np.array([0, 0.045])
        lens = _superellipse(centre, 0.235, 0.2, looks.frame_round)
        z = head.depth(centre[None])[0] + forward
        # Lenses bend back a little towards the temples.
        points = np.column_stack([lens, z - 0.35 * np.maximum(np.abs(lens[:, 0]) - 0.3, 0)])
        px = _pixels(view, points)
        glass = cv2.fillPoly(image.copy(), [px], (22.0, 20.0, 24.0), cv2.LINE_AA, SHIFT)
        image[:] = cv2.addWeighted(glass, darkness, image, 1 - darkness, 0)
        cv2.polylines(image, [px], True, frame, thickness, cv2.LINE_AA, SHIFT)
        sign = 1 if side else -1
        hinge = np.array([centre[0] + sign * 0.23, centre[1] - 0.06, z - 0.06])
        inner.append(np.array([centre[0] - sign * 0.2, centre[1] - 0.07, z]))
        if sign * view.turn[0, 2] < 0.25:  # the arm on the side turned away is behind the face
            ear = np.array([sign * abs(head.points[16, 0]) * 1.04, -0.02, -1.0])
            cv2.polylines(image, [_pixels(view, np.stack([hinge, ear]))], False, frame, thickness, cv2.LINE_AA, SHIFT)
    bridge = np.stack([inner[0], (inner[0] + inner[1]) / 2 + np.array([0, -0.03, 0.03]), inner[1]])
    cv2.polylines(image, [_pixels(view, bridge)], False, frame, thickness, cv2.LINE_AA, SHIFT)


def _pixels(view: View, points: np.ndarray) -> np.ndarray:
    xy, _ = view.project(points)
    return fixed(xy)


def _superellipse(centre: np.ndarray, radius_x: float, radius_y: float, power: float, steps: int = 28) -> np.ndarray:
    """|x|^power + |y|^power = 1: an ellipse at 2, a rounded box above."""
    angle = np.arange(steps) * (2 * np.pi / steps)
    c, s = np.cos(angle), np.sin(angle)
    return centre + np.stack(
        [radius_x * np.sign(c) * np.abs(c) ** (2 / power), radius_y * np.sign(s) * np.abs(s) ** (2 / power)], -1
    )


def _bar(start: np.ndarray, end: np.ndarray, half: float) -> np.ndarray:
    width = np.full(2, half)
    return stroke(np.stack([start, end]), width, width)


def _hand(at: np.ndarray, unit: float, random: np.random.Generator) -> tuple[np.ndarray, ...]:
    """A palm and four fingers that point up, more or less."""
    palm = at + np.array([0, 0.55 * unit])
    parts = [circle(palm, 0.33 * unit, 0.38 * unit), _bar(palm, palm + np.array([0.2 * unit, 3 * unit]), 0.25 * unit)]
    lean = random.normal(0, 0.4)
    for number in range(4):
        spread = lean + 0.16 * (number - 1.5)
        root = palm + np.array([0.17 * (number - 1.5), -0.25]) * unit
        tip = root + np.array([np.sin(spread), -np.cos(spread)]) * unit * random.uniform(0.4, 0.6)
        parts += [_bar(root, tip, 0.085 * unit), circle(tip, 0.085 * unit, 0.085 * unit, 10)]
    return tuple(parts)
