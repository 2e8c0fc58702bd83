"""A parametric 3-D head with iBUG-68 points: proportions and expression -> frontal layout -> relief -> mesh.

Head frame: x to the right of a frontal image (the subject's left), y down, z towards the viewer; the origin is
the top of the nose bridge (point 27) and the length unit the distance between the outer eye corners (36 to 45).

The head is a dome over the face's outline: columns are rays from the middle of the nose to the outline, rows go
by `polar`, an angle that is 0 at the nose, pi/2 on the outline (ears, jaw edge, crown) and pi at the back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fiducial.drawnfaces.curves import even, smooth_curve

CENTRE = np.array([0.0, 0.35])  # the pole of the dome, in the middle of the nose
PIVOT = np.array([0.0, 0.35, -0.75])  # heads turn about it
COLUMNS_A_POINT = 3  # mesh columns from one outline point to the next
BACK = 2.0  # the occiput lies that far behind the nose bridge
MIRROR = np.array([-1.0, 1.0])
EYE_LINE = 0.028  # y of the eyes, below the top of the nose bridge

# By hand: points 0 to 8 of an average jaw, wider than in images, where it is farther away than the eyes; how far above
# the edge that is seen people place them, as a model of drawn faces differs from the labels of train of two sets of
# photographs; and the skull's outline from beside the eye to the crown.
JAW = np.array(
    [(-0.835, 0.05), (-0.82, 0.275), (-0.79, 0.495), (-0.745, 0.71), (-0.66, 0.887), (-0.53, 1.025), (-0.36, 1.125),
     (-0.19, 1.19), (0.0, 1.21)]
)  # fmt: skip
ABOVE_EDGE = np.linspace(0.066, 0.042, 9)
JAW_DEPTH = np.array([-0.93, -0.91, -0.88, -0.83, -0.74, -0.57, -0.37, -0.2, -0.12])
SKULL = np.array([(-0.9, -0.25), (-0.91, -0.6), (-0.74, -1.0), (-0.42, -1.27), (0.0, -1.36)])
SKULL_DEPTH = -1.0


@dataclass(frozen=True)
class Proportions:
    """Says who it is: factors of the average face (1), or shifts in eye-corner distances (0)."""

    face_width: float = 1.0
    jaw_width: float = 1.0
    chin_length: float = 1.0
    lower_length: float = 1.0  # nose and mouth below the eyes
    forehead: float = 1.0
    depth: float = 1.0
    eye_spacing: float = 1.0
    eye_size: float = 1.0
    eye_slant: float = 0.0
    brow_height: float = 0.0
    brow_arch: float = 1.0
    nose_length: float = 1.0
    nose_width: float = 1.0
    nose_height: float = 1.0
    mouth_width: float = 1.0
    mouth_shift: float = 0.0
    upper_lip: float = 1.0
    lower_lip: float = 1.0
    brow_ridge: float = 1.0
    cheeks: float = 1.0
    chin_height: float = 1.0
    skew: float = 0.0  # mouth slanted against the eyes


@dataclass(frozen=True)
class Expression:
    """Says what the face does: 0 is at rest unless said otherwise."""

    mouth_open: float = 0.0  # gap between the lips
    smile: float = 0.0  # -1 frown .. 1
    pucker: float = 0.0  # 0..1
    brow_raise: float = 0.0  # shift up
    brow_frown: float = 0.0  # inner ends down and together
    eyes_open: tuple[float, float] = (1.0, 1.0)  # right, left; 0 closed, 1 usual
    gaze: tuple[float, float] = (0.0, 0.0)  # of the iris, -1..1 of half an eye


@dataclass(frozen=True)
class Head:
    """Holds a head in its own frame, and what lies on it."""

    points: (
        np.ndarray
    )  # [68, 2] frontal layout; those of the jaw lie on its edge, `ABOVE_EDGE` below where people place them
    outline: np.ndarray  # [columns, 3] closed, clockwise on the screen from point 0 over the crown
    relief: np.ndarray  # [bumps, 5]: x, y, two spreads, height
    compass: np.ndarray  # [3, n]: directions from the pole, ascending over -pi..pi; the outline's radius and z there

    def depth(self, xy: np.ndarray) -> np.ndarray:
        """Computes z of the face's surface over frontal xy [..., 2] -> [...]."""
        angle, distance = _polar(xy)
        angles, radii, edges = self.compass
        radius, edge = np.interp(angle, angles, radii), np.interp(angle, angles, edges)
        return _dome(np.minimum(distance / radius, 1.0), edge) + bumps(self.relief, xy)

    def lift(self, xy: np.ndarray) -> np.ndarray:
        """Lifts frontal xy [..., 2] onto the surface, [..., 3]."""
        return np.concatenate([xy, self.depth(xy)[..., None]], -1)

    def unroll(self, xy: np.ndarray) -> np.ndarray:
        """Moves frontal xy [..., 2] onto the unrolled skin, whose distances are not squeezed at the sides."""
        angle, distance = _polar(xy)
        ratio = np.minimum(distance / np.interp(angle, self.compass[0], self.compass[1]), 1.0)
        stretch = np.where(ratio > 1e-6, UNROLL * np.arcsin(ratio) / np.maximum(ratio, 1e-6), UNROLL)
        return CENTRE + (xy - CENTRE) * stretch[..., None]


UNROLL = 0.75  # units of unrolled skin a radian of `polar` and a unit of the outline's radius


def _polar(xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Direction and distance of frontal points [..., 2] from the pole."""
    x, y = xy[..., 0] - CENTRE[0], xy[..., 1] - CENTRE[1]
    return np.arctan2(y, x), np.hypot(x, y)


def build_head(proportions: Proportions, expression: Expression) -> Head:
    """Builds the head of a person in an expression."""
    points = frontal_points(proportions, expression)
    skull = SKULL * [proportions.face_width, proportions.forehead]
    depths = np.concatenate([JAW_DEPTH, JAW_DEPTH[-2::-1], np.full(9, SKULL_DEPTH)]) * proportions.depth
    ring = np.concatenate([points[:17], (skull * MIRROR)[:-1], skull[::-1]])
    outline = smooth_curve(np.column_stack([ring, depths]), COLUMNS_A_POINT, closed=True)
    return Head(points, outline, _relief(points, proportions), _compass(outline))


def _compass(outline: np.ndarray) -> np.ndarray:
    rays = outline[:, :2] - CENTRE
    table = np.stack([np.arctan2(rays[:, 1], rays[:, 0]), np.hypot(rays[:, 0], rays[:, 1]), outline[:, 2]])
    table = table[:, np.argsort(table[0])]
    turn = np.array([[2 * np.pi], [0], [0]])
    return np.concatenate([table[:, -1:] - turn, table, table[:, :1] + turn], 1)


def frontal_points(proportions: Proportions, expression: Expression) -> np.ndarray:
    """Places the 68 points of a frontal face, [68, 2], in iBUG's order."""
    p, e = proportions, expression
    jaw = JAW.copy()
    below = np.clip(jaw[:, 1] / 1.3, 0, 1)
    jaw[:, 0] *= p.face_width * (1 + (p.jaw_width - 1) * np.sin(np.pi * below))
    jaw[:, 1] *= 1 + (p.lower_length - 1) * below + (p.chin_length - 1) * below**3
    jaw[:, 1] += 0.75 * e.mouth_open * below**2 + ABOVE_EDGE
    points = np.concatenate([_mirrored(jaw), _brows(p, e), _nose(p, e), _eyes(p, e), _mouth(p, e)])
    points[48:, 1] += p.skew * points[48:, 0]
    points[5:12, 0] += 0.25 * p.skew  # the chin follows the slanted mouth
    return points


def _mirrored(half: np.ndarray) -> np.ndarray:
    """Points of the left of the image, the last on the middle line -> points across the face."""
    return np.concatenate([half, (half * MIRROR)[-2::-1]])


def _brows(p: Proportions, e: Expression) -> np.ndarray:
    x = np.array([-0.67, -0.565, -0.423, -0.275, -0.132]) * p.eye_spacing
    arch = np.array([0.075, -0.02, -0.045, -0.025, 0.012]) * p.brow_arch
    inner = np.array([0.0, 0.1, 0.3, 0.7, 1.0])
    y = -0.19 - p.brow_height - e.brow_raise + arch + 0.07 * e.brow_frown * inner
    right = np.column_stack([x + 0.05 * e.brow_frown * inner, y])
    return np.concatenate([right, (right * MIRROR)[::-1]])


def _nose(p: Proportions, e: Expression) -> np.ndarray:
    length = p.nose_length * p.lower_length
    bridge = np.column_stack([np.zeros(4), np.array([0.0, 0.136, 0.263, 0.393]) * length])
    x = np.array([-0.156, -0.084, 0.0]) * p.nose_width * (1 + 0.12 * max(e.smile, 0.0))
    y = np.array([0.497, 0.525, 0.543]) * length - 0.015 * e.smile
    return np.concatenate([bridge, _mirrored(np.column_stack([x, y]))])


def _eyes(p: Proportions, e: Expression) -> np.ndarray:
    eyes = []
    for side, opened in zip((1.0, -1.0), e.eyes_open, strict=True):
        half = 0.145 * p.eye_size
        upper = -0.055 * opened + 0.02 * max(1 - opened, 0.0)
        lower = 0.031 * min(1.0, 0.55 + 0.45 * opened) - 0.01 * max(e.smile, 0.0)
        # Outer corner, upper lid outside to inside, inner corner, lower lid inside to outside.
        x = np.array([-1.0, -0.4, 0.32, 1.0, 0.36, -0.36]) * half
        y = EYE_LINE + np.array([-0.008, upper, upper, 0.014, lower, lower]) + p.eye_slant * x
        eye = np.column_stack([side * (x - 0.355 * p.eye_spacing), y])
        eyes.append(eye if side > 0 else eye[[3, 2, 1, 0, 5, 4]])
    return np.concatenate(eyes)


def _mouth(p: Proportions, e: Expression) -> np.ndarray:
    half = 0.275 * p.mouth_width * (1 + 0.2 * e.smile * (e.smile > 0) - 0.35 * e.pucker - 0.25 * e.mouth_open)
    line = 0.757 * p.lower_length + p.mouth_shift - 0.03 * max(e.smile, 0.0)
    thin = 1 - 0.25 * max(e.smile, 0.0) + 0.3 * e.pucker
    gap_top, gap_bottom = line - 0.2 * e.mouth_open, line + 0.8 * e.mouth_open
    top, bottom = gap_top - 0.062 * p.upper_lip * thin, gap_bottom + 0.092 * p.lower_lip * thin
    corner = line + 0.008 - 0.06 * e.smile + 0.3 * e.mouth_open
    outer_x = np.array([1.0, 0.65, 0.24]) * half
    above, below = top - corner, bottom - corner
    rows = [
        (-half, corner), (-outer_x[1], corner + 0.67 * above), (-outer_x[2], corner + 1.1 * above), (0, top),
        (outer_x[2], corner + 1.1 * above), (outer_x[1], corner + 0.67 * above), (half, corner),
        (outer_x[1], corner + 0.65 * below), (0.32 * half, corner + 0.97 * below), (0, bottom),
        (-0.32 * half, corner + 0.97 * below), (-outer_x[1], corner + 0.65 * below),
        (-half + 0.02, corner), (-0.29 * half, gap_top), (0, gap_top), (0.29 * half, gap_top),
        (half - 0.02, corner), (0.29 * half, gap_bottom), (0, gap_bottom), (-0.29 * half, gap_bottom),
    ]  # fmt: skip
    return np.array(rows)


# ------------------------------------------------------------------------------------------------- surface


def _dome(ratio: np.ndarray, edge: np.ndarray) -> np.ndarray:
    """z of the smooth dome: `ratio` 0 at the nose, 1 on the outline, whose z is `edge`."""
    return edge + (-0.1 - edge) * (1 - ratio**2.4) ** 0.6


def bumps(relief: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Sums Gaussian bumps (relief [n, 5]) at xy [..., 2] -> [...]."""
    x, y = np.ascontiguousarray(xy.reshape(-1, 2).T, np.float32)
    at_x, at_y, spread_x, spread_y, height = relief.astype(np.float32).T
    x, y = x - at_x[:, None], y - at_y[:, None]  # [n, points]: long rows are quick
    x /= spread_x[:, None]
    y /= spread_y[:, None]
    x *= x
    y *= y
    x += y
    x *= np.float32(-0.5)
    return (np.ascontiguousarray(np.exp(x, out=x).T) @ height).reshape(xy.shape[:-1])


def _relief(points: np.ndarray, p: Proportions) -> np.ndarray:
    """What rises from the dome (x, y, spread x, spread y, height), placed by the points."""
    eye_x = (points[45, 0] + points[42, 0]) / 2
    nose_x, nose_y, tip_y = points[35, 0], points[35, 1], points[30, 1]
    middle = (points[62, 1] + points[66, 1]) / 2
    chin = points[8, 1]
    lip = points[54, 0]
    h = p.nose_height
    centred = [
        (0, -0.12, 0.2, 0.12, 0.1), (0, 0.02, 0.055, 0.12, 0.08 * h), (0, 0.45 * tip_y, 0.06, 0.1, 0.12 * h),
        (0, 0.75 * tip_y, 0.065, 0.09, 0.16 * h), (0, tip_y, 0.085, 0.065, 0.24 * h),
        (0, nose_y, 0.08, 0.05, 0.12 * h), (0, middle, 0.17, 0.17, 0.2),
        (0, (points[51, 1] + points[62, 1]) / 2, 0.6 * lip, 0.035, 0.035 * p.upper_lip),
        (0, (points[57, 1] + points[66, 1]) / 2, 0.55 * lip, 0.04, 0.045 * p.lower_lip),
        (0, points[57, 1] + 0.07, 0.16, 0.04, -0.05), (0, chin - 0.14, 0.15, 0.1, 0.15 * p.chin_height),
    ]  # fmt: skip
    paired = [
        (nose_x * 0.95, nose_y - 0.035, 0.05, 0.05, 0.1), (eye_x * 0.9, -0.03, 0.17, 0.1, -0.1 * p.brow_ridge),
        (eye_x, 0.0, 0.1, 0.06, 0.05), (0.14, 0.02, 0.05, 0.07, -0.05),
        (points[24, 0], points[24, 1], 0.2, 0.07, 0.06 * p.brow_ridge), (0.5, 0.28, 0.18, 0.16, 0.06 * p.cheeks),
        (lip + 0.04, middle, 0.11, 0.13, -0.06), (0.64, -0.12, 0.14, 0.1, 0.08),
    ]  # fmt: skip
    mirrored = [(-x, y, sx, sy, height) for x, y, sx, sy, height in paired]
    return np.array([*centred, *paired, *mirrored])


def head_mesh(head: Head, polar: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places the vertices [rows, columns, 3] at the angles `polar` [rows] and their places on the unrolled skin [..,
    2]."""
    polar, outline, centre = polar.astype(np.float32), head.outline.astype(np.float32), CENTRE.astype(np.float32)
    ratio = np.sin(polar)[:, None]
    rays = outline[:, :2] - centre
    xy = centre + ratio[..., None] * rays
    edge = outline[:, 2]
    front = _dome(ratio, edge)
    front[polar <= np.pi / 2] += bumps(head.relief, xy[polar <= np.pi / 2])
    # Under the jaw the skin goes back to the neck, elsewhere round the skull.
    back = np.where(rays[:, 1] > 0.3, edge - 0.75, -BACK)
    behind = edge + (edge - back) * np.cos(polar)[:, None]
    z = np.where(polar[:, None] <= np.pi / 2, front, behind)
    skin = centre + (UNROLL * polar)[:, None, None] * rays
    return np.concatenate([xy, z[..., None]], -1), skin


def jaw_rings(head: Head) -> tuple[np.ndarray, np.ndarray]:
    """Finds for rays from ear over chin to ear the line across the cheek on which the face's visible edge is sought,
    [rays, steps, 3] (the last step is the jaw itself), and the way outwards in a frontal image, [rays, 2]. The chin's
    ray is the middle one."""
    polar = even(0.5, np.pi / 2, 24)
    jaw = head.outline[: 16 * COLUMNS_A_POINT + 1]
    rays = jaw[:, :2] - CENTRE
    xy = CENTRE + np.sin(polar)[None, :, None] * rays[:, None]
    edge = jaw[:, 2:]
    z = _dome(np.sin(polar)[None], edge) + bumps(head.relief, xy)
    outwards = rays / np.hypot(rays[:, 0], rays[:, 1])[:, None]
    return np.concatenate([xy, z[..., None]], -1), outwards
