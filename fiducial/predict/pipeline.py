"""From sources to points: frames are read ahead, looked at in boxes of a file, around the points of the frame before or
in the whole image, and the points are smoothed and freed of repetitions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from fiducial.evaluation import suppression
from fiducial.predict import sources
from fiducial.predict.boxes import Boxes, BoxesFile
from fiducial.predict.prefetch import ahead, newest
from fiducial.predict.smoothing import OneEuro, Smoother
from fiducial.predict.sources import USUAL_RATE, Frame, Source
from fiducial.predict.tracking import Tracker
from fiducial.runtime.runtime import Runtime
from fiducial.types import Keypoints


@dataclass(frozen=True)
class Choices:
    """How frames are looked at."""

    boxes: BoxesFile | None = None  # None = the whole image
    track: bool = False  # instances of videos are followed from where they start
    smooth: OneEuro | None = None  # points of videos are smoothed in time
    oks_nms: float | None = None  # of instances that are more alike than this the best stays


@dataclass(frozen=True)
class Seen:
    """A frame that was looked at."""

    source: Source
    frame: Frame
    image: np.ndarray  # the frame's
    given: Boxes
    found: Keypoints  # px of the image


Say = Callable[[str], None]


def seen(
    found: list[Source], run: Runtime, choices: Choices, numbers: Iterator[int], report: Say, note: Say
) -> Generator[Seen, None, None]:
    """The frames of sources, or of one camera, with their points.

    Each frame takes one of `numbers`, which its results bear as image id where no file has another. What can't be read or
    isn't named in the boxes file is left out and goes to `report`; `note` hears of the first loss in each video."""
    for source, frames in itertools.groupby(_frames(found), lambda pair: pair[0]):
        look, finish = _look(run, source, choices), _Finish(run, source, choices)
        unnamed: list[str] = []
        lost = False
        for _, frame in frames:
            number = next(numbers)
            if frame.image is None:
                report(frame.problem or frame.name)
                continue
            answer = look(frame, frame.image, number)
            if answer is None:
                unnamed.append(frame.name)
                continue
            if answer.lost and not lost:
                lost = True
                note(f"{frame.name}: {answer.lost[0]}, so it was lost; later ones of this video show as new track_ids")
            yield Seen(source, frame, frame.image, *finish(frame, answer))
        if unnamed and choices.boxes is not None:
            more = f" nor {len(unnamed) - 1} more of this video" if len(unnamed) > 1 else ""
            report(f"{choices.boxes.path}: has no image named {unnamed[0]!r}{more}; left out")


def _frames(found: list[Source]) -> Iterator[tuple[Source, Frame]]:
    """Read ahead; of a camera always the newest."""
    frames = ((source, frame) for source in found for frame in sources.frames(source))
    with closing(newest(frames) if found[0].kind == "camera" else ahead(frames)) as ready:
        yield from ready


@dataclass(frozen=True)
class Answer:
    """What a look at a frame gave."""

    given: Boxes
    found: Keypoints  # px of the image
    lost: list[str] = field(default_factory=list)  # instances that were lost in this frame, and why


class Look(Protocol):
    """Takes the frames of one source, in order."""

    def __call__(self, frame: Frame, image: np.ndarray, number: int) -> Answer | None:
        """None where it is not known where to look. `number` is the frame's in the run."""
        ...


def _look(run: Runtime, source: Source, choices: Choices) -> Look:
    if choices.track and source.kind != "image":
        return _Followed(run, source, choices.boxes)
    return _WholeImages(run, source) if choices.boxes is None else _FileBoxes(run, choices.boxes)


class _WholeImages:
    """One instance an image, the same in all frames of a video."""

    def __init__(self, run: Runtime, source: Source) -> None:
        self._run, self._track_ids = run, [] if source.kind == "image" else [1]

    def __call__(self, frame: Frame, image: np.ndarray, number: int) -> Answer:
        return Answer(Boxes(number, track_ids=self._track_ids), self._run(image, None))


class _FileBoxes:
    """The boxes that a file has for the frame."""

    def __init__(self, run: Runtime, wanted: BoxesFile) -> None:
        self._run, self._wanted = run, wanted

    def __call__(self, frame: Frame, image: np.ndarray, number: int) -> Answer | None:
        given = self._wanted.of(frame.name)
        return None if given is None else Answer(given, self._run(image, given.array()))


class _Followed:
    """Instances that are followed from frame to frame.

    They start in the boxes that a file has for the first frame, or for the video by its own name, and anew in those of
    each later frame that it names; without a file in the whole image."""

    def __init__(self, run: Runtime, source: Source, wanted: BoxesFile | None) -> None:
        self._run, self._wanted = run, wanted
        self._at_start = None if wanted is None else wanted.of(source.name)
        self._numbers = itertools.count(1)  # of the instances, whatever tracker they have
        self._tracker = Tracker(run, None, self._numbers) if wanted is None else None
        self._category_ids: list[int] = []

    def __call__(self, frame: Frame, image: np.ndarray, number: int) -> Answer | None:
        named = None if self._wanted is None else self._wanted.of(frame.name)
        start, self._at_start = named or self._at_start, None
        if start is not None:
            self._tracker = Tracker(self._run, start.array(), self._numbers)
            self._category_ids = start.category_ids
        if self._tracker is None:
            return None
        sighting = self._tracker(image)
        # Frames that the file doesn't name get ids that none of its pictures has.
        taken = 0 if self._wanted is None else self._wanted.largest_id
        image_id = taken + number if named is None else named.image_id
        boxes = sighting.boxes.round(3).tolist()
        return Answer(Boxes(image_id, boxes, self._category_ids, sighting.numbers), sighting.points, sighting.lost)


class _Finish:
    """What is done to the points of the frames of one source, in order."""

    def __init__(self, run: Runtime, source: Source, choices: Choices) -> None:
        self._sigmas, self._oks_nms = run.skeleton.sigmas, choices.oks_nms
        self._smoother = None if choices.smooth is None or source.kind == "image" else Smoother(choices.smooth)
        self._frames = itertools.count()

    def __call__(self, frame: Frame, answer: Answer) -> tuple[Boxes, Keypoints]:
        given, found = answer.given, answer.found
        if self._smoother is not None:
            shown = next(self._frames) / (frame.rate or USUAL_RATE) if frame.seconds is None else frame.seconds
            side_px = _sides(frame, given)
            found = replace(found, xy=self._smoother(given.track_ids, found.xy, side_px, float(shown)))
        if self._oks_nms is None:
            return given, found
        return _without_repeats(given, found, np.array(self._sigmas), self._oks_nms)


def _sides(frame: Frame, given: Boxes) -> np.ndarray:
    """Root of the area of each box, px; [n]."""
    assert frame.image is not None
    height, width = frame.image.shape[:2]
    boxes = given.array() if given.xywh else np.array([[0.0, 0, width, height]])
    return np.sqrt(boxes[:, 2:].prod(1))


def _without_repeats(given: Boxes, found: Keypoints, sigmas: np.ndarray, limit: float) -> tuple[Boxes, Keypoints]:
    """The boxes of one picture and their points, without those whose points a better one has too."""
    area = given.array()[:, 2:].prod(1)
    rows = np.sort(suppression.oks_nms(found.xy, found.score.mean(1), area, sigmas, limit))
    columns = {name: None if value is None else value[rows] for name, value in vars(found).items()}
    return given.picked(rows), Keypoints(**columns)
