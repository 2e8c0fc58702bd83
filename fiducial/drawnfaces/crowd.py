"""Several drawn faces in one image, near and far, or none: what a finder of faces learns from. The faces are those of
`render_face`, each painted into its part of the image."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from fiducial import geometry
from fiducial.data.skeletons import IBUG68
from fiducial.drawnfaces import photo
from fiducial.drawnfaces import scene as scenes
from fiducial.drawnfaces.background import draw_background
from fiducial.drawnfaces.faces import FINER, box_of, face_points, paint, sitter
from fiducial.geometry import Size
from fiducial.types import Instances

LAYOUT, BACKDROP, LENS = 11, 12, 13  # random streams
MOST = 6  # faces in an image
EMPTY = 0.2  # share of the images without any
TILE_SHARE = (0.12, 0.95)  # side of a face's part, of the image's shorter side; even in its logarithm
APART = 0.05  # largest overlap of a box with another one and its hair, of the smaller one's area
HAIR = 1.6  # sides of what a head covers, in sides of its face's box
FACES_AN_IMAGE = 16  # indices of faces that an image may use: no face is in two


@dataclass(frozen=True)
class Placed:
    """One face of an image: its part is the square of `side` px whose corner is there."""

    index: int
    side: int
    left: int
    top: int


def layout(seed: int, index: int, size: Size) -> list[Placed]:
    """Says which faces are in image `index`, far ones first, and where."""
    random = scenes.stream(seed, index, LAYOUT)
    if random.random() < EMPTY:
        return []
    count, shorter = int(random.integers(1, MOST + 1)), min(size)
    low, high = np.log(TILE_SHARE)
    found: list[Placed] = []
    boxes: list[np.ndarray] = []
    for trial in range(FACES_AN_IMAGE):
        side = max(24, round(shorter * float(np.exp(random.uniform(low, high)))))
        left, top = (int(random.integers(-side // 5, max(1, edge - 4 * side // 5))) for edge in size)
        one = Placed(index * FACES_AN_IMAGE + trial, side, left, top)
        box = box_of(points_of(seed, one)[0])
        if len(found) < count and all(
            _overlap(box, geometry.fit_aspect(other, Size(1, 1), HAIR)) < APART for other in boxes
        ):
            found.append(one)
            boxes.append(box)
    return sorted(found, key=lambda each: each.side)


def points_of(seed: int, placed: Placed) -> tuple[np.ndarray, np.ndarray]:
    """Computes the points of a face of an image: xy [68, 2], px of the image, and visibility [68]."""
    xy, visibility = face_points(seed, placed.index, Size(placed.side, placed.side))
    return geometry.transform(geometry.translation(placed.left, placed.top), xy), visibility


def render_crowd(seed: int, index: int, size: Size) -> np.ndarray:
    """Draws image `index`, uint8 RGB [h, w, 3]."""
    faces = layout(seed, index, size)
    margin = max((face.side for face in faces), default=0)
    wide = Size(size.w + 2 * margin, size.h + 2 * margin)
    canvas = draw_background(wide, scenes.stream(seed, index, BACKDROP))
    for face in faces:
        top, left = face.top + margin, face.left + margin
        part = canvas[top : top + face.side, left : left + face.side]
        finer = Size(round(face.side * FINER), round(face.side * FINER))
        behind = cv2.resize(part, finer, interpolation=cv2.INTER_LINEAR)
        before = behind.copy()
        size_alone = Size(face.side, face.side)
        paint(sitter(seed, face.index, size_alone), seed, face.index, size_alone, behind)
        changed = (behind != before).any(-1).astype(np.float32)
        share = cv2.resize(changed, (face.side, face.side), interpolation=cv2.INTER_AREA)[..., None]
        new = cv2.resize(behind, (face.side, face.side), interpolation=cv2.INTER_AREA)
        part[:] = np.rint(part + share * (new.astype(np.float32) - part)).astype(np.uint8)
    image = np.ascontiguousarray(canvas[margin : margin + size.h, margin : margin + size.w])
    return photo.photograph(image, scenes.stream(seed, index, LENS))


@dataclass(frozen=True)
class CrowdImages:
    """Gives `Images` that are drawn when they are read."""

    count: int
    seed: int
    size: Size

    def __len__(self) -> int:
        return self.count

    def name(self, row: int) -> str:
        """Names an image for messages."""
        return f"faces-{self.seed}-{row}"

    def read(self, row: int, reduce: int = 1) -> np.ndarray:
        """Draws uint8 RGB [h, w, 3]; `reduce` is allowed, not used."""
        return render_crowd(self.seed, row, self.size)


def procedural_crowds(count: int, seed: int, size: Size) -> Instances:
    """Makes `count` images of `size` with up to 6 faces, some with none."""
    rows, xy, visibility = [], [], []
    for row in range(count):
        for face in layout(seed, row, size):
            points, seen = points_of(seed, face)
            rows.append(row)
            xy.append(points)
            visibility.append(seen)
    boxes = np.array([box_of(points) for points in xy], np.float32).reshape(-1, 4)
    return Instances(
        licences=("Apache-2.0",),
        skeleton=IBUG68,
        images=CrowdImages(count, seed, size),
        image_id=np.arange(1, count + 1, dtype=np.int64),
        image_size=np.tile(np.array(size, np.int32), (count, 1)),
        image_row=np.array(rows, np.int64),
        annotation_id=np.arange(1, len(rows) + 1, dtype=np.int64),
        xy=np.array(xy, np.float32).reshape(-1, 68, 2),
        visibility=np.array(visibility, np.uint8).reshape(-1, 68),
        box_xywh=boxes,
        area=boxes[:, 2] * boxes[:, 3],
        crowd=np.zeros(len(rows), bool),
        source=f"drawn crowds of seed {seed}",
    )


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """What two boxes share, of the smaller one."""
    iou = float(geometry.box_iou(one, other))
    areas = one[2:].prod(), other[2:].prod()
    return iou / (1 + iou) * float(sum(areas)) / float(min(areas))
