"""From sources to points: frames are read ahead, looked at in boxes of a file, around the points of the frame before or
in the whole image, and the points are smoothed and freed of repetitions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from fiducial.data.coco_json.ids import Id
from fiducial.data.series import numbered
from fiducial.errors import BadAnswer
from fiducial.evaluation import suppression
from fiducial.log import logger
from fiducial.prediction import second_pass, sources
from fiducial.prediction.boxes import Boxes, BoxesFile, SameBoxes
from fiducial.prediction.cuts import Cuts
from fiducial.prediction.found import InstancesFound
from fiducial.prediction.identities import Identities
from fiducial.prediction.prefetch import ahead, newest
from fiducial.prediction.smoothing import OneEuro, Smoother
from fiducial.prediction.sources import USUAL_RATE, Frame, Source
from fiducial.prediction.tracking import Tracker
from fiducial.progress import Advance
from fiducial.runtime.runtime import Runtime
from fiducial.types import Keypoints


@dataclass(frozen=True, kw_only=True)
class Choices:
    """How frames are looked at."""

    track: bool = False  # it is told who is who in the frames of videos
    every: int = (
        1  # where they are is looked up in each such frame of a video; between, they are followed by their points
    )
    smooth: OneEuro | None = None  # points of videos are smoothed in time
    second_pass: bool = False  # videos are gone through again when all of them is known (`second_pass.py`)
    flip_test: bool = False  # averaged over the image and its mirror image
    oks_nms: float | None = None  # of instances that are more alike than this, by OKS, the best by score stays
    strict: bool = False  # what could be left out is an error
    hide_below: float = 0.0  # points of a lower score are not drawn; results have them


PLAIN = Choices()  # each frame by itself, as it is


@dataclass(frozen=True)
class FramePoints:
    """A frame that was looked at."""

    source: Source
    frame: Frame
    image: np.ndarray  # the frame's
    boxes: Boxes
    points: Keypoints  # px of the image


@dataclass
class Pipeline:
    """Looks at sources, one list after the other.

    What can't be read, has no finite points by the model or isn't named in the boxes file is left out and goes to
    `report`; the first loss and the first cut of each video are said. Each frame takes one of `numbers`, which its
    results bear as image id where no file has another."""

    run: Runtime
    choices: Choices
    boxes: BoxesFile | None  # None = those that the model's finder finds; without one, one instance in each image
    report: Callable[[str], None]
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    advance: Advance = lambda count: None  # is told of frames that were looked at the first of two times

    def looks_twice(self, inputs: list[Source]) -> int:
        """Counts the frames that are read twice, as far as that is known."""
        moving = [each for each in inputs if each.is_moving] if self.choices.second_pass else []
        return sources.count(moving) or 0

    def look_at(self, inputs: list[Source]) -> Generator[FramePoints, None, None]:
        """Finds points on the frames of sources, or of one camera."""
        parts: dict[str, list[Source]] = {}
        for each in inputs:
            parts.setdefault(each.video, []).append(each)
        for video, pairs in itertools.groupby(_frames(inputs), lambda pair: pair[0].video):
            own = parts[video]  # one source, or the images of a series, which are called as their frames
            owners, finish = {each.name: each for each in own}, _Finish(self.run, own[0], self.choices)
            answers = self._answers(own[0], (frame for _, frame in pairs))
            if self.choices.second_pass and own[0].is_moving:
                answers = self._again(own, answers)
            for frame, answer in answers:
                if answer is not None and frame.image is not None:
                    yield FramePoints(owners.get(frame.name, own[0]), frame, frame.image, *finish(frame, answer))

    def _answers(self, source: Source, frames: Iterator[Frame]) -> Iterator[tuple[Frame, InstancesFound | None]]:
        """Looks at the frames of one source; None where nothing is known of one."""
        look = _look(self.run, source, self.choices, self.boxes)
        unnamed: list[str] = []
        lost = cut = False
        for frame in frames:
            number = next(self.numbers)
            if frame.image is None:
                self.report(str(frame.problem))
                continue
            try:
                answer = look(frame, frame.image, number)
            except BadAnswer as error:
                self.report(f"{frame.name}: no points of it: {error}")
                yield frame, None
                continue
            if answer is None:
                unnamed.append(frame.name)
            elif answer.lost and not lost:
                lost = True
                told = "so it was lost; later ones of this video show as new track_ids"
                logger.warning(f"{frame.name}: {answer.lost[0]}, {told}")
            if answer is not None and answer.is_cut and not cut:
                cut = True
                told = "track_ids begin anew, here and at later cuts of this video"
                logger.warning(f"{frame.name}: another scene begins, as after a cut: {told}")
            yield frame, answer
        if unnamed and self.boxes is not None:
            more = f" nor {len(unnamed) - 1} more of this video" if len(unnamed) > 1 else ""
            self.report(f"{self.boxes.path}: has no image named {unnamed[0]!r}{more}; left out")

    def _again(
        self, inputs: list[Source], answers: Iterator[tuple[Frame, InstancesFound | None]]
    ) -> Iterator[tuple[Frame, InstancesFound | None]]:
        """Goes through a video again, or a series of images: its frames are read twice, so that none is kept meanwhile."""
        seen = []
        for frame, answer in answers:
            seen.append((frame.name, answer))
            self.advance(1)
        done = second_pass.gone_through([answer for _, answer in seen], self.run.skeleton.sigmas)
        told = f"{done.filled} instances filled in, {done.joined} tracks joined to others"
        logger.warning(
            f"{inputs[0].video.strip('/') or 'images'}: gone through again: points smoothed both ways, {told}"
        )
        found = {name: answer for (name, _), answer in zip(seen, done.frames, strict=True)}
        for _, frame in _frames(inputs):
            yield frame, found.get(frame.name)


def _frames(inputs: list[Source]) -> Iterator[tuple[Source, Frame]]:
    """Read ahead; of a camera always the newest."""
    frames = ((source, frame) for source in inputs for frame in sources.frames(source))
    is_camera = inputs[0].kind == "camera"
    with closing(newest(frames) if is_camera else ahead(frames, bytes_of=lambda pair: pair[1].bytes)) as ready:
        yield from ready


class Look(Protocol):
    """Takes the frames of one source, in order."""

    def __call__(self, frame: Frame, image: np.ndarray, number: int) -> InstancesFound | None:
        """None where it is not known where to look. `number` is the frame's in the run."""
        ...


def _look(run: Runtime, source: Source, choices: Choices, boxes: BoxesFile | None) -> Look:
    if choices.track and source.is_moving:
        if boxes is None and run.finder is not None:
            return _ToldApart(run, _FoundBoxes(run), choices.every, 0)
        if boxes is None or boxes.frames_of(source.video) < 2:
            return _Followed(run, source, boxes)
        at_start = boxes.of(source.name)
        return _ToldApart(run, _FileBoxes(run, boxes, at_start), choices.every, boxes.largest_id)
    if boxes is None and run.finder is not None:
        return _FoundBoxes(run)
    return _WholeImages(run, source) if boxes is None else _FileBoxes(run, boxes)


class _WholeImages:
    """One instance an image, the same in all frames of a video."""

    def __init__(self, run: Runtime, source: Source) -> None:
        self._run, self._track_ids = run, [] if source.kind == "image" else [1]

    def __call__(self, frame: Frame, image: np.ndarray, number: int) -> InstancesFound:
        return InstancesFound(Boxes(number, track_ids=self._track_ids), self._run(image, None))


class _FoundBoxes:
    """The boxes that the model's finder finds in the frame, perhaps none."""

    def __init__(self, run: Runtime) -> None:
        self._run = run

    def __call__(self, frame: Frame, image: np.ndarray, number: int) -> InstancesFound:
        points = self._run(image, None)
        xywh, sure = (np.asarray(column, np.float64) for column in (points.box_xywh, points.box_score))
        kinds = [] if points.kind is None else (points.kind + 1).tolist()
        return InstancesFound(Boxes(number, xywh.round(3).tolist(), kinds, scores=sure.tolist()), points)


class _FileBoxes:
    """The boxes that a file has for the frame, for the first one also those `at_start`."""

    def __init__(self, run: Runtime, boxes_file: BoxesFile, at_start: Boxes | None = None) -> None:
        self._run, self._boxes_file, self._at_start = run, boxes_file, at_start

    def __call__(self, frame: Frame, image: np.ndarray, number: int) -> InstancesFound | None:
        boxes, self._at_start = self._boxes_file.of(frame.name) or self._at_start, None
        if boxes is not None and boxes.image_id is None:
            boxes = replace(boxes, image_id=number)
        return None if boxes is None else InstancesFound(boxes, self._run(image, boxes.array()))


class _Followed:
    """Instances that are followed from frame to frame.

    They start in the boxes that a file has for the first frame, or for the video by its own name, and anew in those of
    each later frame that it names; without a file in the whole image."""

    def __init__(self, run: Runtime, source: Source, boxes_file: BoxesFile | None) -> None:
        self._run, self._boxes_file = run, boxes_file
        self._at_start = None if boxes_file is None else boxes_file.of(source.name)
        self._numbers = itertools.count(1)  # of the instances, whatever tracker they have
        self._tracker = Tracker(run, None, self._numbers) if boxes_file is None else None
        self._category_ids: list[Id] = []
        self._cuts = Cuts()

    def __call__(self, frame: Frame, image: np.ndarray, number: int) -> InstancesFound | None:
        told, is_cut = self._boxes_file, self._cuts(image)
        if is_cut and self._tracker is not None:
            self._tracker = self._tracker.anew()
        named = None if told is None or isinstance(told, SameBoxes) else told.of(frame.name)
        start, self._at_start = named or self._at_start, None
        if start is not None:
            self._tracker = Tracker(self._run, start.array(), self._numbers)
            self._category_ids = start.category_ids
        if self._tracker is None:
            return None
        sighting = self._tracker(image)
        # Frames that the file doesn't name get ids that none of its pictures has.
        taken = 0 if self._boxes_file is None else self._boxes_file.largest_id
        image_id = taken + number if named is None else named.image_id
        boxes = sighting.boxes.round(3).tolist()
        return InstancesFound(
            Boxes(image_id, boxes, self._category_ids, sighting.numbers), sighting.points, sighting.lost, is_cut
        )


class _ToldApart:
    """Instances that are found anew by `look` in every so many frames, and followed by their points between; who is who is
    told by points, boxes and motion."""

    def __init__(self, run: Runtime, look: Look, every: int, largest_id: int = 0) -> None:
        """`largest_id`: of the images of which `look` knows an id; that of other frames is larger."""
        self._run, self._look, self._every, self._largest_id = run, look, every, largest_id
        self._identities, self._cuts = Identities(run.skeleton.sigmas), Cuts()
        self._kinds: dict[Id, int] = {}
        self._frames = itertools.count()
        self._steps, self._before = 1.0, None  # frames since the one before, and that
        self._last: tuple[np.ndarray, InstancesFound] | None = None  # the frame before, where it was looked up
        self._tracker: Tracker | None = None
        self._found, self._kind = Boxes(None), None  # by the last look

    def __call__(self, frame: Frame, image: np.ndarray, number: int) -> InstancesFound | None:
        is_cut, is_due = self._cuts(image), next(self._frames) % self._every == 0
        self._steps, self._before = _steps(frame, self._before), frame
        if is_cut:
            self._identities.forget()
            self._last = self._tracker = None
        answer = self._look(frame, image, number) if is_due or is_cut else None
        if answer is not None:
            ids = self._named(answer.boxes, answer.points, None)
            answer = replace(answer, boxes=replace(answer.boxes, track_ids=ids), is_cut=is_cut)
            self._last, self._found, self._tracker = (image, answer), answer.boxes, None
            self._kind = answer.points.kind
            return answer
        return self._followed(image, number)

    def _followed(self, image: np.ndarray, number: int) -> InstancesFound | None:
        """Those of the last look, around the points of the frame before."""
        if self._last is not None:
            before, answer = self._last
            found = answer.boxes
            self._tracker = Tracker.behind(
                self._run, before, found.array(), answer.points, found.track_ids, self._identities.numbers
            )
            self._last = None
        if self._tracker is None:
            return None
        sighting = self._tracker(image)
        boxes = Boxes(
            self._largest_id + number,
            sighting.boxes.round(3).tolist(),
            self._found.category_ids,
            sighting.numbers,
            scores=self._found.scores,
        )
        boxes.track_ids = self._tracker.numbers = self._named(
            boxes, sighting.points, np.array(sighting.numbers, np.int64)
        )
        return InstancesFound(boxes, replace(sighting.points, kind=self._kind), sighting.lost)

    def _named(self, boxes: Boxes, points: Keypoints, numbers: np.ndarray | None) -> list[int]:
        kinds = [self._kinds.setdefault(kind, len(self._kinds)) for kind in boxes.category_ids]
        return self._identities(
            boxes.array(),
            np.array(boxes.scores) if boxes.scores else None,
            points,
            kinds=np.array(kinds) if kinds else None,
            numbers=numbers,
            steps=self._steps,
        ).tolist()


def _steps(frame: Frame, before: Frame | None) -> float:
    """How many frames after the one `before` this is, by times or by the numbers in names: more than one where a camera's
    were left out, or images are every so many of a video."""
    if before is None:
        return 1.0
    if frame.seconds is not None and before.seconds is not None:
        return float(max(1, round((frame.seconds - before.seconds) * (frame.rate or USUAL_RATE))))
    numbers = [numbered(one.name).number for one in (frame, before)]
    return float(max(1, numbers[0] - numbers[1])) if numbers[0] is not None and numbers[1] is not None else 1.0


class _Finish:
    """What is done to the points of the frames of one source, in order."""

    def __init__(self, run: Runtime, source: Source, choices: Choices) -> None:
        self._sigmas, self._oks_nms = run.skeleton.sigmas, choices.oks_nms
        self._smoother = None if choices.smooth is None or not source.is_moving else Smoother(choices.smooth)
        self._frames = itertools.count()

    def __call__(self, frame: Frame, answer: InstancesFound) -> tuple[Boxes, Keypoints]:
        boxes, points = answer.boxes, answer.points
        if self._smoother is not None and len(points.xy):
            shown = next(self._frames) / (frame.rate or USUAL_RATE) if frame.seconds is None else frame.seconds
            xy = self._smoother(boxes.track_ids, points.xy, _sides_px(frame, boxes), float(shown))
            points = replace(points, xy=xy)
        if self._oks_nms is None:
            return boxes, points
        return _without_repeats(boxes, points, np.array(self._sigmas), self._oks_nms)


def _sides_px(frame: Frame, boxes: Boxes) -> np.ndarray:
    """Root of the area of each box [n], of the image where there are no boxes."""
    assert frame.image is not None
    height, width = frame.image.shape[:2]
    xywh = boxes.array() if boxes.xywh else np.array([[0.0, 0, width, height]])
    return np.sqrt(xywh[:, 2:].prod(1))


def _without_repeats(boxes: Boxes, points: Keypoints, sigmas: np.ndarray, limit: float) -> tuple[Boxes, Keypoints]:
    """The boxes of one image and their points, without those whose points a better one has too."""
    area = boxes.array()[:, 2:].prod(1)
    rows = np.sort(suppression.oks_nms(points.xy, points.instance_score, area, sigmas, limit))
    return boxes.picked(rows), points.select(rows)
