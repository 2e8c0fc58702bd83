"""Boxes from the points of the previous frame: after the first frame of a video no detector of boxes is needed.

An instance's box moves half the way to the one around its confident points, enlarged by a margin. Points depend a little
on the box that they are found in; with the whole way some networks swing between two answers for ever, on a scene where
nothing moves (`benchmarks/video.py`). `Tracker` says when an instance is lost."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fiducial import geometry
from fiducial.geometry import Size
from fiducial.runtime.runtime import Runtime
from fiducial.types import Keypoints

MARGIN = 0.1  # of the points' box, on each side: faces and persons are labelled with medians of 0.07 to 0.3
STEP = 0.5  # of the way to the box around the points that a box goes from one frame to the next
CONFIDENT = 0.5  # share of the instance's median score that a point needs to count for the box
LOOK_BACK = 15  # frames from one look at the start to the next
LESS_UNSURE = 0.5  # of the doubt where it was followed: less than that at the start means that it was lost
VISIBLE = 0.25  # share of a box that must lie in the picture
UNKNOWN = -1  # the number of who is nobody yet
SMALLEST = 0.125  # of the network's input: in a smaller box it sees nothing


@dataclass(frozen=True)
class Sighting:
    """The instances of one frame."""

    numbers: list[int]  # [n]: who is who from frame to frame
    boxes: np.ndarray  # [n, 4] in which they were found, edge frame
    points: Keypoints  # [n, k] in px of the image
    lost: list[str]  # what was noticed in this frame: "instance 2: .."


class Tracker:
    """Follows the instances of one video.

    They start in boxes that are given, or in the whole image: then the first answer is looked at again more closely. An
    instance is lost

    - where its next box would be for less than a quarter in the picture, or smaller than an eighth of the network's
      input. It goes back to where it started;
    - where a look at the start, every 15 frames, is less than half as unsure, by the mean of 1 - score. It is taken up
      there. Scores of different methods mean different things, but in all of them that mean is 2 to 6 times as large
      beside an instance as on it. Methods without a score (deeppose) never notice this.

    After a loss it has a new number, as nobody knows whether it is the same. An instance that left while nothing else
    came is not noticed: its scores fall, as they do without tracking."""

    def __init__(self, run: Runtime, boxes_xywh: np.ndarray | None, numbers: Iterator[int] | None = None) -> None:
        """boxes [n, 4] where the instances are in the first frame; None = one of them somewhere in the image. They are
        numbered by `numbers`, default 1, 2, ..."""
        self._run, self._start = run, boxes_xywh
        self._spec = run.card.spec
        self._counter = numbers or itertools.count(1)
        self.numbers = [next(self._counter) for _ in range(1 if boxes_xywh is None else len(boxes_xywh))]
        self._next: np.ndarray | None = None  # [n, 4]: where to look in the next frame
        self._frames = 0
        self._shares: np.ndarray | None = (
            None  # [n, 2, 2] corners of boxes as they were found, in shares of `box_around`
        )

    @classmethod
    def behind(
        cls,
        run: Runtime,
        image: np.ndarray,
        boxes_xywh: np.ndarray,
        points: Keypoints,
        named: list[int],
        numbers: Iterator[int],
    ) -> Tracker:
        """Goes on behind a frame in which instances were found already: boxes [n, 4] and points, `named` [n]. Those that are
        lost are numbered by `numbers`."""
        tracker = cls(run, boxes_xywh[:0], numbers)
        tracker._start, tracker.numbers, tracker._frames = boxes_xywh, list(named), 1
        tracker._shares = _shares_of(boxes_xywh, points)
        tracker._next = tracker._moved(boxes_xywh, points, image, [])
        return tracker

    def anew(self) -> Tracker:
        """Begins again at the start, with new numbers, as after a cut."""
        return Tracker(self._run, self._start, self._counter)

    def __call__(self, image: np.ndarray) -> Sighting:
        """The next frame, uint8 RGB [h, w, 3]."""
        lost: list[str] = []
        if self._next is None:
            boxes, points = self._at_start(image)
        else:
            boxes, points = self._next, self._run(image, self._next)
            if self._frames % LOOK_BACK == 0:
                boxes, points = self._surer((boxes, points), self._at_start(image), lost)
        sighting = Sighting(list(self.numbers), boxes, points, lost)
        self._frames += 1
        self._next = self._moved(boxes, points, image, lost)
        return sighting

    def _at_start(self, image: np.ndarray) -> tuple[np.ndarray, Keypoints]:
        """Boxes and points where the instances were in the first frame."""
        boxes = self._start_boxes(image)
        points = self._run(image, boxes)
        if self._start is None:
            closer = box_around(points.xy[0], points.score[0])
            if not self._useless(closer, image):
                boxes, points = closer[None], self._run(image, closer[None])
        return boxes, points

    def _start_boxes(self, image: np.ndarray) -> np.ndarray:
        """[n, 4]. The crop of a box is enlarged by the model's padding; that of the whole image shall not be."""
        if self._start is not None:
            return self._start
        size = _size(image)
        return geometry.fit_aspect(geometry.whole_image_box(size), size, 1 / self._spec.padding)[None]

    def _surer(
        self, here: tuple[np.ndarray, Keypoints], there: tuple[np.ndarray, Keypoints], lost: list[str]
    ) -> tuple[np.ndarray, Keypoints]:
        """Boxes and points of each instance where it was followed, or where it started if that is much surer."""
        score, at_start = (points.score.mean(1) for _, points in (here, there))
        moved = 1 - at_start < LESS_UNSURE * (1 - score)
        for row in np.flatnonzero(moved).tolist():
            self._lose(row, f"its score was {score[row]:.2f}, and {at_start[row]:.2f} where it started", lost)
        rows = np.arange(len(moved)) + len(moved) * moved  # of both answers, one after the other
        return np.concatenate([here[0], there[0]])[rows], Keypoints.joined([here[1], there[1]]).select(rows)

    def _moved(self, boxes: np.ndarray, points: Keypoints, image: np.ndarray, lost: list[str]) -> np.ndarray:
        """[n, 4]: a step from the boxes to those around the points; where one is of no use, where the instance started."""
        moved = self._start_boxes(image).copy()
        for row, (xy, score) in enumerate(zip(points.xy, points.score, strict=True)):
            target = box_around(xy, score)
            if self._shares is not None:
                corners = geometry.box_to_px(self._shares[row], target)
                target = geometry.box_of_points(corners, np.array([True, True]))
            if why := self._useless(target, image):
                self._lose(row, why, lost)
            else:
                moved[row] = boxes[row] + STEP * (target - boxes[row])
        return moved

    def _useless(self, box_xywh: np.ndarray, image: np.ndarray) -> str:
        """Why nothing can be seen in a box; "" where it can."""
        if not np.isfinite(box_xywh).all():
            return "its points are no numbers"
        if max(box_xywh[2:]) < SMALLEST * max(self._spec.size):
            return f"its points shrank to {box_xywh[2]:.0f}x{box_xywh[3]:.0f} px"
        if geometry.box_overlap(box_xywh, _size(image)) < VISIBLE * box_xywh[2] * box_xywh[3]:
            return "it left the picture"
        return ""

    def _lose(self, row: int, why: str, lost: list[str]) -> None:
        if self.numbers[row] != UNKNOWN:  # else nobody knows it
            lost.append(f"instance {self.numbers[row]}: {why}")
            self.numbers[row] = next(self._counter)


def box_around(xy: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Puts the next box [4] of an instance around its confident points xy [k, 2], score [k], with a margin."""
    return geometry.box_of_points(xy, confident(xy, score), MARGIN)


def _shares_of(boxes_xywh: np.ndarray, points: Keypoints) -> np.ndarray:
    """How boxes [n, 4] in which instances were found lie around their confident points: whoever found them may draw them
    wider, or the points of a weak model keep to the middle. [n, 2, 2]: of those without points, as if around them exactly."""
    shares = np.empty((len(boxes_xywh), 2, 2))
    for row, (box, xy, score) in enumerate(zip(boxes_xywh, points.xy, points.score, strict=True)):
        own = geometry.px_to_box(geometry.box_corners(box)[[0, 2]], box_around(xy, score))
        shares[row] = own if np.isfinite(own).all() else [[0, 0], [1, 1]]
    return shares


def confident(xy: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Says which points of instances, xy [.., k, 2] and score [.., k], say where they are: [.., k] bool."""
    known = np.isfinite(xy).all(-1) & np.isfinite(score)
    if not known.any():
        return known
    ordered, count = np.sort(np.where(known, score, np.inf), -1), known.sum(-1, keepdims=True)
    middle = np.concatenate([np.maximum(count - 1, 0) // 2, np.minimum(count // 2, score.shape[-1] - 1)], -1)
    median = np.take_along_axis(ordered, middle, -1).mean(-1, keepdims=True)  # NumPy's own takes 2 ms a frame
    return known & (np.where(known, score, 0) >= CONFIDENT * median)


def _size(image: np.ndarray) -> Size:
    return Size(image.shape[1], image.shape[0])
