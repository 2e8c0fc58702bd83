"""Several drawn faces in one image, near and far, or none: what a finder of faces learns from. The faces are those of
`render_face`, with their bodies, on one background, or each cut out of a picture of its own; some people show their backs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from fiducial import geometry
from fiducial.data.skeletons import IBUG68
from fiducial.drawnfaces import faces, photo
from fiducial.drawnfaces import scene as scenes
from fiducial.drawnfaces.clutter import draw_backdrop
from fiducial.drawnfaces.faces import FINER, Sitter, face_points, paint, sitter
from fiducial.geometry import Size
from fiducial.types import Instances

LAYOUT, BACKDROP, LENS, CUTTING = 11, 12, 13, 14  # random streams
MOST = 8  # faces in an image
EMPTY = 0.2  # share of the images without any
CLOSE = 0.3  # share of the images that are portraits: one face in the middle, sometimes others behind it
CLOSE_SHARE = (0.42, 1.25)  # sides of a portrait's face, of the image's (roots of areas); even in its logarithm
CLOSE_SHIFT = 0.13  # of the image's sides, by which its middle is off the image's at most
BESIDE = 0.3  # share of the portraits with others
ALONE = 0.05  # share of the images with one face, of any size up to one that is larger than the image
TILE_SHARE = (0.12, 0.8)  # side of a face's part, of the image's shorter side; even in its logarithm
TILE_SHARE_ALONE = (0.35, 2.4)
APART = 0.05  # largest overlap of a box with another one and its hair, of the smaller one's area
HAIR = 1.6  # sides of what a head covers, in sides of its face's box
FACES_AN_IMAGE = 24  # indices of faces that an image may use: no face is in two
# What a box shows above the brows, of their way to the chin, and the margin around that, each side: between the boxes that
# `fiducial` makes of points (0, .1) and those of `faces.box_of`.
FOREHEAD, MARGIN = 0.14, 0.085
AWAY = 0.12  # share of the people who show their backs, and are no faces
ONLY_AWAY = 0.5  # share of the images without a face in which there are such people, some with their heads cut off
CUT_OUT = 0.35  # share of the images in which every face is cut out of a picture of its own
BODY = (0.9, 0.3, 0.9, 2.5)  # what is painted to the left, above, to the right and below of a face's part, in its sides


@dataclass(frozen=True)
class Placed:
    """One person of an image: the face's part is the square of `side` px whose corner is there. `away`: it is not seen."""

    index: int
    side: int
    left: int
    top: int
    away: bool = False


def layout(seed: int, index: int, size: Size) -> list[Placed]:
    """Says who is in image `index`, the one whose chin is lowest last, as he stands in front, and where."""
    random = scenes.stream(seed, index, LAYOUT)
    kind, number, shorter = random.random(), index * FACES_AN_IMAGE, min(size)
    only_away = kind < EMPTY
    if only_away and random.random() >= ONLY_AWAY:
        return []
    close, alone = EMPTY <= kind < EMPTY + CLOSE, EMPTY + CLOSE <= kind < EMPTY + CLOSE + ALONE
    found = [_close(seed, number, size, random)] if close else []
    boxes = [box_of(points_of(seed, one)[0]) for one in found]
    if close:
        count = 1 + (int(random.integers(1, 3)) if random.random() < BESIDE else 0)
    else:
        count = 1 if alone else int(random.integers(1 if only_away else 2, MOST + 1))
    low, high = np.log(TILE_SHARE_ALONE if alone else TILE_SHARE)
    for trial in range(len(found), FACES_AN_IMAGE):
        if len(found) == count:
            break
        side = max(24, round(shorter * float(np.exp(random.uniform(low, high)))))
        away = only_away or bool(random.random() < AWAY)
        places = random.random(2)
        if side > shorter:  # what can be seen of it is mostly the face
            left, top = (round((edge - side) * (0.2 + 0.6 * float(at))) for edge, at in zip(size, places, strict=True))
        else:
            left, top = (
                round(-side // 5 + float(at) * (edge - 3 * side // 5)) for edge, at in zip(size, places, strict=True)
            )
        if only_away and random.random() < 0.5:
            top -= side
        one = Placed(number + trial, side, left, top, away)
        box = box_of(points_of(seed, one)[0])
        if all(
            _overlap(box, geometry.fit_aspect(other, Size(1, 1), HAIR)) < APART
            and _overlap(other, geometry.fit_aspect(box, Size(1, 1), HAIR)) < APART
            for other in boxes
        ):
            found.append(one)
            boxes.append(box)
    lowest = [float(box[1] + box[3]) for box in boxes]
    return [found[i] for i in np.argsort(lowest, kind="stable")]


def _close(seed: int, number: int, size: Size, random: np.random.Generator) -> Placed:
    """Places a face that fills much of the image, or is larger."""
    drawn = Placed(number, min(size), 0, 0)
    low, high = np.log(CLOSE_SHARE)
    share = float(np.exp(random.uniform(low, high)))
    box = box_of(points_of(seed, drawn)[0])
    side = max(24, round(drawn.side * share * math.sqrt(size.w * size.h / float(box[2:].prod()))))
    middle = geometry.box_middle(box_of(points_of(seed, replace(drawn, side=side))[0]))
    left, top = (np.array(size) * (0.5 + CLOSE_SHIFT * random.uniform(-1, 1, 2)) - middle).round().astype(int).tolist()
    return Placed(number, side, left, top)


def points_of(seed: int, placed: Placed) -> tuple[np.ndarray, np.ndarray]:
    """Computes the points of a face of an image: xy [68, 2], px of the image, and visibility [68]."""
    xy, visibility = face_points(seed, placed.index, Size(placed.side, placed.side))
    return geometry.transform(geometry.translation(placed.left, placed.top), xy), visibility


def box_of(xy: np.ndarray) -> np.ndarray:
    """Makes the box of a face of its points [68, 2], from a little above the brows to the chin."""
    return faces.box_of(xy, FOREHEAD, MARGIN)


def render_crowd(seed: int, index: int, size: Size, photographs: Sequence[np.ndarray] = ()) -> np.ndarray:
    """Draws image `index`, uint8 RGB [h, w, 3]. photographs: RGB, without faces, of which parts may stand behind them."""
    people = layout(seed, index, size)
    random = scenes.stream(seed, index, BACKDROP)
    canvas = draw_backdrop(size, random, photographs)
    cut_out = random.random() < CUT_OUT
    for one in people:
        if cut_out:
            _paste(canvas, seed, one, photographs)
        else:
            left, above, right, below = (round(one.side * share) for share in BODY)
            corner = one.left - left, one.top - above
            _paint(canvas, seed, one, corner, Size(left + one.side + right, above + one.side + below))
    return photo.photograph(canvas, scenes.stream(seed, index, LENS))


def _paint(canvas: np.ndarray, seed: int, one: Placed, corner: tuple[int, int], extent: Size) -> None:
    """Paints a person onto the part of an image that begins at a corner, as far as it lies in the image."""
    height, width = canvas.shape[:2]
    left, top = max(corner[0], 0), max(corner[1], 0)
    right, bottom = min(corner[0] + extent.w, width), min(corner[1] + extent.h, height)
    if right <= left or bottom <= top:
        return
    part, own = canvas[top:bottom, left:right], Size(right - left, bottom - top)
    finer = Size(round(own.w * FINER), round(own.h * FINER))
    behind = cv2.resize(part, finer, interpolation=cv2.INTER_LINEAR)
    before = behind.copy()
    onto = geometry.compose(geometry.translation(one.left - left, one.top - top), geometry.resize(own, finer))
    paint(_person(seed, one), seed, one.index, onto, behind)
    changed = (behind != before).any(-1).astype(np.float32)
    share = cv2.resize(changed, own, interpolation=cv2.INTER_AREA)[..., None]
    new = cv2.resize(behind, own, interpolation=cv2.INTER_AREA)
    part[:] = np.rint(part + share * (new.astype(np.float32) - part)).astype(np.uint8)


def _paste(canvas: np.ndarray, seed: int, one: Placed, photographs: Sequence[np.ndarray]) -> None:
    """Paints a person in a picture of his own, and that onto an image, with hard or soft edges."""
    random = scenes.stream(seed, one.index, CUTTING)
    box = box_of(points_of(seed, one)[0])
    sides = box[2:] * random.uniform(0.05, (HAIR - 1) / 2, (2, 2))
    low, high = np.floor(box[:2] - sides[0]).astype(int), np.ceil(box[:2] + box[2:] + sides[1]).astype(int)
    height, width = canvas.shape[:2]
    left, top = np.maximum(low, 0).tolist()
    right, bottom = np.minimum(high, [width, height]).tolist()
    if right - left < 4 or bottom - top < 4:
        return
    own = Size(right - left, bottom - top)
    picture = draw_backdrop(own, random, photographs)
    _paint(picture, seed, replace(one, left=one.left - left, top=one.top - top), (0, 0), own)
    picture = photo.photograph(picture, random)
    soft = random.uniform(0, 0.08) * min(own) if random.random() < 0.6 else 0.0
    share = np.zeros((own.h, own.w), np.float32)
    inset = round(soft)
    share[inset : own.h - inset, inset : own.w - inset] = 1
    share = (cv2.blur(share, (inset + 1, inset + 1)) if inset else share)[..., None]
    part = canvas[top:bottom, left:right]
    part[:] = np.rint(part + share * (picture.astype(np.float32) - part)).astype(np.uint8)


def _person(seed: int, one: Placed) -> Sitter:
    who = sitter(seed, one.index, Size(one.side, one.side))
    if not one.away:
        return who
    scene = who.scene
    turn = scenes.turn_matrix(math.pi + scene.yaw, -0.5 * scene.pitch, scene.roll)
    turned = replace(scene, view=replace(scene.view, turn=turn))
    return who._replace(scene=turned, looks=replace(who.looks, glasses=None), cover=None)


@dataclass(frozen=True)
class CrowdImages:
    """Gives `Images` that are drawn when they are read."""

    count: int
    seed: int
    size: Size
    photographs: Sequence[np.ndarray] = field(default=(), repr=False)

    def __len__(self) -> int:
        return self.count

    def name(self, row: int) -> str:
        """Names an image for messages."""
        return f"faces-{self.seed}-{row}"

    def read(self, row: int, reduce: int = 1) -> np.ndarray:
        """Draws uint8 RGB [h, w, 3]; `reduce` is allowed, not used."""
        return render_crowd(self.seed, row, self.size, self.photographs)


def procedural_crowds(count: int, seed: int, size: Size, photographs: Sequence[np.ndarray] = ()) -> Instances:
    """Makes `count` images of `size` with up to 8 faces, some with none. Boxes go from a little above the
    brows to the chin and from ear to ear (`box_of`). photographs: uint8 RGB, of any size, that show no face: parts of them stand behind."""
    rows, xy, visibility = [], [], []
    for row in range(count):
        for face in layout(seed, row, size):
            if not face.away:
                points, seen = points_of(seed, face)
                rows.append(row)
                xy.append(points)
                visibility.append(seen)
    boxes = np.array([box_of(points) for points in xy], np.float32).reshape(-1, 4)
    return Instances(
        licences=("Apache-2.0",),
        skeleton=IBUG68,
        images=CrowdImages(count, seed, size, photographs),
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
