"""Procedural faces: the embedded data set. Pictures of made-up heads with iBUG-68 points, drawn when they are read.

Image `index` of `seed` is the same in every process and in any order. Needs OpenCV 5 (its triangle rasteriser)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from fiducial import geometry
from fiducial.data.skeletons import IBUG68
from fiducial.drawnfaces import meshes, photo, props, render, skin
from fiducial.drawnfaces import scene as scenes
from fiducial.drawnfaces.background import draw_background
from fiducial.drawnfaces.looks import Looks, draw_looks
from fiducial.drawnfaces.scene import Scene
from fiducial.errors import UserError
from fiducial.geometry import Matrix, Size
from fiducial.types import Instances

FINER = 1.5  # faces are drawn that much larger and reduced
# Random streams: one purpose never shifts another's numbers.
LOOKS, COVER, PAINT, LIGHT, BACKGROUND, PHOTO = range(1, 7)


class Face(NamedTuple):
    """Holds one image and its points."""

    image: np.ndarray  # [h, w, 3] uint8 RGB
    xy: np.ndarray  # [68, 2] float32, px
    visibility: np.ndarray  # [68] uint8: 2 visible; 1 behind something, turned away, or outside the image


class Sitter(NamedTuple):
    """Holds who is in an image, before anything is drawn."""

    scene: Scene
    xy: np.ndarray  # [68, 2] float64, px: the points as seen
    looks: Looks
    cover: props.Cover | None


def sitter(seed: int, index: int, size: Size) -> Sitter:
    """Computes who is in image `index`, and what hides him."""
    scene = scenes.build_scene(seed, index, size)
    xy = scenes.scene_points(scene)
    looks = draw_looks(scenes.stream(seed, index, LOOKS))
    return Sitter(scene, xy, looks, props.draw_cover(scene, xy, looks.skin, scenes.stream(seed, index, COVER)))


def face_points(seed: int, index: int, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Computes the points of image `index`, without drawing it: xy [68, 2] float32, px, and visibility [68] uint8."""
    return _points(sitter(seed, index, size), size)


def render_face(seed: int, index: int, size: Size) -> Face:
    """Draws image `index`; its points are those of `face_points`."""
    who = sitter(seed, index, size)
    finer = Size(round(size.w * FINER), round(size.h * FINER))
    behind = draw_background(finer, scenes.stream(seed, index, BACKGROUND))
    paint(who, seed, index, geometry.resize(size, finer), behind)
    image = cv2.resize(behind, (size.w, size.h), interpolation=cv2.INTER_AREA)
    image = photo.photograph(image, scenes.stream(seed, index, PHOTO))
    return Face(image, *_points(who, size))


def paint(who: Sitter, seed: int, index: int, onto: Matrix, behind: np.ndarray) -> None:
    """Paints the face of image `index` on what is behind it, uint8 RGB, whose px are those of the image through `onto`."""
    render.check_opencv()
    render.keep_memory()
    finer = Size(behind.shape[1], behind.shape[0])
    scene, looks = who.scene, who.looks
    view = scene.view.onto(onto)
    random = scenes.stream(seed, index, PAINT)
    texture, hair = skin.paint(scene.head, scene.expression, looks, 1.1 * float(view.placed[0, 0]), random)
    solids = meshes.solids(scene.head, looks, view.turn, texture, hair)
    light = render.draw_light(scenes.stream(seed, index, LIGHT))
    picture, there = render.shade(solids, texture, view, light, finer)
    cv2.copyTo(picture, there, behind)
    if looks.glasses is not None:
        props.paint_glasses(behind, scene.head, view, looks, looks.glasses)
    if who.cover is not None:
        props.paint_cover(behind, who.cover, onto, random)


@dataclass(frozen=True)
class ProceduralImages:
    """Gives `Images` that are drawn when they are read."""

    count: int
    seed: int
    size: Size
    first: int = 0  # index of the first image

    def __len__(self) -> int:
        return self.count

    def name(self, row: int) -> str:
        """Names an image for messages: seed and index say which face it is."""
        return f"face-{self.seed}-{self.first + row}"

    def read(self, row: int, reduce: int = 1) -> np.ndarray:
        """Draws uint8 RGB [h, w, 3]; `reduce` is allowed, not used."""
        return render_face(self.seed, self.first + row, self.size).image


def procedural_faces(count: int, seed: int, size: Size, first: int = 0) -> Instances:
    """Makes `count` faces, one an image of `size`, from index `first` on. Sets that share a seed and overlap in indices
    share faces; give train and test different seeds. A millisecond or two a face: nothing is drawn before `read`."""
    if count < 1 or min(size) < 16 or first < 0:
        raise UserError(
            f"procedural faces: got count {count}, size {size}, first {first}; expected at least 1, 16x16, 0"
        )
    points = [face_points(seed, first + row, size) for row in range(count)]
    boxes = np.stack([box_of(xy) for xy, _ in points]).astype(np.float32)
    ids = np.arange(1, count + 1, dtype=np.int64)
    return Instances(
        licences=("Apache-2.0",),
        skeleton=IBUG68,
        images=ProceduralImages(count, seed, size, first),
        image_id=ids,
        image_size=np.tile(np.array(size, np.int32), (count, 1)),
        image_row=np.arange(count),
        annotation_id=ids,
        xy=np.stack([xy for xy, _ in points]),
        visibility=np.stack([visibility for _, visibility in points]),
        box_xywh=boxes,
        area=boxes[:, 2] * boxes[:, 3],
        crowd=np.zeros(count, bool),
        source=f"procedural faces of seed {seed}",
    )


def box_of(xy: np.ndarray, above: float = 0.225, margin: float = 0.07) -> np.ndarray:
    """Makes a face detector's box of the points [68, 2]: around them, with some forehead, as real sets have it. above: how
    much of it, of the way from the chin to the brows; margin: on each side, of the box's sides."""
    brows = xy[17:27].mean(0)
    forehead = brows + above * (brows - xy[8])
    everything = np.concatenate([xy, forehead[None]])
    return geometry.box_of_points(everything, np.ones(len(everything), bool), margin=margin)


def _points(who: Sitter, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """The points [68, 2] float32, px, and their visibility [68] uint8."""
    scene, xy, looks, cover = who
    unit = geometry.px_to_unit(xy, size)
    hidden = ((unit < 0) | (unit > 1)).any(-1) | props.covered(cover, xy)
    hidden[17:] |= scenes.turned_away(scene)
    if looks.glasses is not None and looks.glasses > 0.5:
        hidden[36:48] = True
    return xy.astype(np.float32), np.where(hidden, 1, 2).astype(np.uint8)
