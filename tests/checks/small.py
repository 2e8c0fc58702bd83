"""A made-up animal seen from above: a head that turns, a body that bends, legs that move; labels with a little noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fiducial.data.images import ArrayImages
from fiducial.types import Instances, Skeleton

POINTS = (
    *("nose", "left_eye", "right_eye", "neck", "left_hand", "right_hand", "hip", "left_foot", "right_foot", "tail"),
    *("left_knee", "right_knee"),
)
SKELETON = Skeleton(
    "beast", POINTS, edges=((0, 3), (3, 6), (6, 9)), flip_pairs=((1, 2), (4, 5), (7, 8), (10, 11)), sigmas=(0.05,) * 12
)
USUAL = np.array(
    [
        (0, -50),
        (-8, -42),
        (8, -42),
        (0, -30),
        (-25, -20),
        (25, -20),
        (0, 15),
        (-16, 38),
        (16, 38),
        (0, 45),
        (-14, 24),
        (14, 24),
    ]
)


def beasts(count: int, seed: int = 0, skeleton: Skeleton = SKELETON, first_id: int = 1) -> Instances:
    """Instances in all directions and sizes, on images of their own of which the pixels are noise."""
    rng = np.random.default_rng(seed)
    shapes = np.repeat(USUAL[None].astype(float), count, axis=0)
    head = rng.normal(0, 0.2, count)
    for point in (0, 1, 2):
        own = shapes[:, point] - USUAL[3]
        shapes[:, point, 0] = USUAL[3][0] + np.cos(head) * own[:, 0] - np.sin(head) * own[:, 1]
        shapes[:, point, 1] = USUAL[3][1] + np.sin(head) * own[:, 0] + np.cos(head) * own[:, 1]
    for points in ((4,), (5,), (7, 10), (8, 11), (9,)):
        shapes[:, points] += rng.normal(0, 3, (count, 1, 2))
    shapes += rng.normal(0, 0.5, shapes.shape)
    turn, scale = rng.uniform(0, 2 * np.pi, count), rng.uniform(0.7, 1.3, count)
    turned = np.stack([np.stack([np.cos(turn), -np.sin(turn)], -1), np.stack([np.sin(turn), np.cos(turn)], -1)], -2)
    xy = np.einsum("nij,nkj->nki", turned * scale[:, None, None], shapes) + 100
    images = rng.integers(0, 255, (count, 8, 8, 3), dtype=np.uint8)
    made = Instances.of(ArrayImages([np.kron(image, np.ones((25, 25, 1), np.uint8)) for image in images]).arrays, xy)
    return replace(made, skeleton=skeleton, annotation_id=np.arange(first_id, first_id + count))


def exchanged(part: Instances, rows: list[int], order: np.ndarray) -> Instances:
    """Point i of the rows gets the coordinates of point order[i]."""
    xy, visibility = part.xy.copy(), part.visibility.copy()
    for row in rows:
        xy[row], visibility[row] = xy[row, order], visibility[row, order]
    return replace(part, xy=xy, visibility=visibility)
