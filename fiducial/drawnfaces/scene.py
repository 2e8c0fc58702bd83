"""Who is seen, doing what, from where: everything that decides the points, drawn from (seed, index)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fiducial import geometry
from fiducial.drawnfaces import head as heads
from fiducial.drawnfaces.curves import LEFT, evenly_spaced, ways, within
from fiducial.drawnfaces.head import Expression, Head, Proportions
from fiducial.geometry import Matrix, Size

OUTER_CORNERS_TO_FACE = 1.7  # a face is that much wider than its eyes


@dataclass(frozen=True)
class View:
    """Maps the head's frame onto the image: turn about the pivot, project, place."""

    turn: np.ndarray  # [3, 3] rotation
    distance: float  # of the camera, in eye-corner distances
    placed: Matrix  # plane through the pivot -> px

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Projects points of the head [..., 3] to xy [..., 2], px; gives also their distance from the camera [...]."""
        turned = (points - heads.PIVOT) @ self.turn.T
        away = self.distance - turned[..., 2]
        plane = turned[..., :2] * (self.distance / away)[..., None]
        return geometry.transform(self.placed, plane), away

    def onto(self, matrix: Matrix) -> View:
        """Gives the view on an image that was resized by `matrix`."""
        return View(self.turn, self.distance, geometry.compose(self.placed, matrix))


@dataclass(frozen=True)
class Scene:
    """Holds one head in one view."""

    head: Head
    view: View
    proportions: Proportions
    expression: Expression
    yaw: float  # radians, positive: the face looks to the right of the image
    pitch: float  # radians, positive: it looks down
    roll: float  # radians, clockwise


def stream(seed: int, index: int, purpose: int) -> np.random.Generator:
    """Makes random numbers that depend on nothing but (seed, index, purpose): any process, any order."""
    key = seed % 2**64 + (index % 2**64 << 64)
    return np.random.Generator(np.random.Philox(key=key, counter=purpose << 192))


def build_scene(seed: int, index: int, size: Size) -> Scene:
    """Builds the scene of image `index`. A seed and an index give the same face at every size."""
    random = stream(seed, index, 0)
    proportions, expression = _person(random), _expression(random)
    head = heads.build_head(proportions, expression)
    yaw = math.radians(within(random.normal(0, 10) if random.random() < 0.55 else random.normal(0, 25), -62, 62))
    pitch = math.radians(within(random.normal(2, 9.5), -28, 35))
    roll = math.radians(within(random.normal(0, 9), -35, 35))
    turn = turn_matrix(yaw, pitch, roll)
    distance = float(random.uniform(6, 16))
    share = random.uniform(0.42, 0.7)  # of the shorter side that the face's width takes
    shift = random.uniform(-1, 1, 2) * 0.35 * (0.85 - share)
    scale = share * min(size) / OUTER_CORNERS_TO_FACE
    centre = geometry.unit_to_px(0.5 + shift, size)
    placed = geometry.compose(geometry.scaling(scale, scale), geometry.translation(centre[0], centre[1]))
    return Scene(head, View(turn, distance, placed), proportions, expression, yaw, pitch, roll)


def face_outline(scene: Scene) -> np.ndarray:
    """Finds where the 17 jaw points are seen, [17, 2] px: a little above the jaw from ear to chin, and where the cheek hides
    the jaw, above the cheek's visible edge; evenly spaced on either side of the chin, as annotators place them."""
    rings, outwards = heads.jaw_rings(scene.head)
    xy, _ = scene.view.project(rings)
    outwards = geometry.transform_vectors(geometry.rotation(scene.roll), outwards)
    x, y, edge = xy[..., 0], xy[..., 1], xy[:, -1]
    for _ in range(2):  # the way outwards is known better once the edge is
        reach = x * outwards[:, :1] + y * outwards[:, 1:]
        edge = xy[np.arange(len(xy)), reach.argmax(1)]
        outwards = -LEFT * ways(edge)[:, ::-1]
    chin = len(edge) // 2
    points = np.concatenate([evenly_spaced(edge[: chin + 1], 9)[:-1], evenly_spaced(edge[chin:], 9)])
    above = np.stack([np.zeros(17), -np.concatenate([heads.ABOVE_EDGE, heads.ABOVE_EDGE[-2::-1]])], -1)
    upright = geometry.compose(geometry.rotation(scene.roll), scene.view.placed)
    return points + geometry.transform_vectors(upright, above)


def scene_points(scene: Scene) -> np.ndarray:
    """Computes the 68 points as seen, [68, 2] px."""
    inner, _ = scene.view.project(scene.head.lift(scene.head.points[17:]))
    return np.concatenate([face_outline(scene), inner])


def turned_away(scene: Scene) -> np.ndarray:
    """Says which of the 51 points on the face lie on skin that faces away from the camera, [51] bool."""
    step = 0.03
    xy = scene.head.points[17:]
    steps = np.stack([xy, xy + np.array([step, 0.0]), xy + np.array([0.0, step])])
    here, right, below = scene.view.project(scene.head.lift(steps))[0]
    a, b = right - here, below - here
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0] < 0


def turn_matrix(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Makes the turn by yaw, then pitch, then roll, in the head frame (y down, z to the viewer)."""
    (cy, cp, cr), (sy, sp, sr) = np.cos([yaw, pitch, roll]), np.sin([yaw, pitch, roll])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_z @ about_x @ about_y


def _person(random: np.random.Generator) -> Proportions:
    def factor(spread: float) -> float:
        return math.exp(within(random.normal(), -2.2, 2.2) * spread)

    def shift(spread: float) -> float:
        return float(within(random.normal(), -2.2, 2.2) * spread)

    young = max(float(random.uniform(-4, 1)), 0.0)  # one in five, from almost grown up to small children
    return Proportions(
        face_width=factor(0.06) * (1 + 0.06 * young),
        jaw_width=factor(0.07),
        chin_length=factor(0.05) * (1 - 0.07 * young),
        lower_length=factor(0.065) * (1 - 0.12 * young),
        forehead=factor(0.07) * (1 + 0.1 * young),
        depth=factor(0.07),
        eye_spacing=factor(0.04),
        eye_size=factor(0.08) * (1 + 0.12 * young),
        eye_slant=shift(0.07),
        brow_height=shift(0.035),
        brow_arch=factor(0.35),
        nose_length=factor(0.06) * (1 - 0.08 * young),
        nose_width=factor(0.13),
        nose_height=factor(0.12) * (1 - 0.25 * young),
        mouth_width=factor(0.11),
        mouth_shift=shift(0.025),
        upper_lip=factor(0.28),
        lower_lip=factor(0.22),
        brow_ridge=factor(0.3) * (1 - 0.4 * young),
        cheeks=factor(0.3),
        chin_height=factor(0.3),
        skew=shift(0.03),
    )


def _expression(random: np.random.Generator) -> Expression:
    mouth_open = 0.0 if random.random() < 0.3 else min(float(random.exponential(0.085)), 0.38)
    smile = within(random.normal(0.3, 0.45), -0.55, 1.1)
    if random.random() < 0.3:  # laughing into the camera
        mouth_open, smile = float(random.uniform(0.02, 0.16)), float(random.uniform(0.6, 1.2))
    opened = within(random.normal(0.95, 0.35), 0.12, 1.9)
    if random.random() < 0.07:
        opened = float(random.uniform(0, 0.15))
    wink = within(random.normal(0, 0.08), -0.2, 0.2)
    gaze = (within(random.normal(0, 0.25), -0.6, 0.6), within(random.normal(0, 0.2), -0.5, 0.5))
    return Expression(
        mouth_open=mouth_open,
        smile=smile,
        pucker=float(random.uniform(0, 0.8)) if random.random() < 0.15 else 0.0,
        brow_raise=within(random.normal(0, 0.025), -0.05, 0.08),
        brow_frown=float(max(random.normal(0, 0.4), 0.0)) if random.random() < 0.5 else 0.0,
        eyes_open=(max(opened + wink, 0.0), max(opened - wink, 0.0)),
        gaze=gaze,
    )
