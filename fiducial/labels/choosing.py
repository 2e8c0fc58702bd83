"""Which images to label next: those on which a model is expected to err most, and that are unlike each other.

How far a model errs on an image without labels is told by how far its points move when the image is shown to it a little
shifted and scaled, which changes nothing about where they are; and by its own sigma, where the method has one. Images are
alike whose crops look alike at 8 x 8 px and whose points form the same shape. One after the other that image is taken whose
expected error times its distance from everything taken before is the largest."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from fiducial import geometry
from fiducial.data import crops
from fiducial.geometry import Size
from fiducial.runtime.runtime import Runtime
from fiducial.types import Keypoints

VIEWS = 3  # of an image beside the first: boxes moved and scaled
JITTER = 0.08  # of a box's sides
SIDE = 8  # px of the small image that says what a crop looks like
USUAL = 500  # images from which it is learnt what distances are usual


@dataclass(frozen=True)
class Seen:
    """Holds what a model sees in one image."""

    xy: np.ndarray  # [n, k, 2] px
    error: float  # expected, as a share of the instances' size; the mean over them
    look: np.ndarray  # [n, 192] small crops, 0 to 1
    shape: np.ndarray  # [n, 2 k] points in their boxes, 0 to 1


def see(run: Runtime, image: np.ndarray, boxes: np.ndarray | None, points: Keypoints, seed: int = 0) -> Seen:
    """Looks at an image once more in each of some views: `points` [n, k] were found in `boxes` [n, 4] xywh px (None: the
    whole image)."""
    size = Size(image.shape[1], image.shape[0])
    whole = boxes is None
    boxes = geometry.whole_image_box(size)[None] if boxes is None else np.asarray(boxes, np.float64).reshape(-1, 4)
    generator = np.random.default_rng(seed)
    views = [run(image, np.stack([geometry.jitter_box(box, JITTER, generator) for box in boxes])) for _ in range(VIEWS)]
    spread = np.std([points.xy, *(view.xy for view in views)], axis=0)
    variance = np.square(spread).sum(-1).mean(-1)
    if points.sigma is not None:
        variance = np.maximum(variance, np.square(points.sigma).sum(-1).mean(-1))
    around = boxes_around(points.xy) if whole else boxes  # how large an instance is is not told by the whole image
    side = np.maximum(np.sqrt(around[:, 2:].prod(1)), 1.0)
    small, _ = crops.cut(image, boxes, run.card.spec.size, 1.0)
    looks = [cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_AREA).ravel() / 255 for crop in small]
    shapes = [geometry.px_to_box(xy, box).ravel() for xy, box in zip(points.xy, around, strict=True)]
    return Seen(
        xy=points.xy,
        error=float(np.mean(np.sqrt(variance) / side)),
        look=np.array(looks, np.float32),
        shape=np.array(shapes, np.float32).clip(-1, 2),
    )


def boxes_around(xy: np.ndarray) -> np.ndarray:
    """Makes boxes [n, 4] xywh px of points [n, k, 2], a tenth of their extent wider on each side."""
    everywhere = np.ones(xy.shape[1], bool)
    return np.stack([geometry.box_of_points(points, everywhere, margin=0.1) for points in xy])


def choose(pool: list[Seen], count: int, known: list[Seen] | None = None) -> list[int]:
    """Chooses places of the pool, the most worth labelling first; `known` are those that are labelled already."""
    if not pool:
        return []
    error = np.array([seen.error for seen in pool])
    error = np.where(np.isfinite(error), error, 0) / max(float(np.median(error)), 1e-6)
    places = _Places.of([*pool, *(known or [])])
    nearest = np.full(len(pool), np.inf)
    for other in range(len(pool), len(pool) + len(known or [])):
        nearest = np.minimum(nearest, places.distances(other)[: len(pool)])
    chosen: list[int] = []
    for _ in range(min(count, len(pool))):
        gain = error if np.isinf(nearest).all() else error * nearest
        gain[chosen] = -1.0
        best = int(np.argmax(gain))
        chosen.append(best)
        nearest = np.minimum(nearest, places.distances(best)[: len(pool)])
    return chosen


@dataclass(frozen=True)
class _Places:
    """Where images are: the means of their instances, in units of what is usual."""

    xy: np.ndarray  # [m, d]

    @classmethod
    def of(cls, seen: list[Seen]) -> _Places:
        parts = []
        for columns in ([one.look.mean(0) for one in seen], [one.shape.mean(0) for one in seen]):
            values = np.array(columns)
            some = values[np.linspace(0, len(values) - 1, min(len(values), USUAL)).astype(int)]
            usual = np.median(np.linalg.norm(some - np.roll(some, len(some) // 2, axis=0), axis=1))
            parts.append(values / max(float(usual), 1e-6))
        return cls(np.concatenate(parts, axis=1))

    def distances(self, place: int) -> np.ndarray:
        return np.linalg.norm(self.xy - self.xy[place], axis=1)
