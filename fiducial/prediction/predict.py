"""`fiducial predict`: points drawn on images and videos, COCO results JSON that evaluate and other tools read, CSV."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from fiducial import files, folders
from fiducial.card import BOX_SHARE, Card, DetectorSpec
from fiducial.data.coco_json.ids import Id
from fiducial.errors import UserError
from fiducial.log import logger
from fiducial.prediction import boxes as boxes_files
from fiducial.prediction import drawings, outputs, sources
from fiducial.prediction.boxes import BoxesFile
from fiducial.prediction.drawings import Draw
from fiducial.prediction.outputs import Write
from fiducial.prediction.pipeline import PLAIN, Choices, FramePoints, Pipeline
from fiducial.prediction.prefetch import Items, ahead
from fiducial.prediction.sources import Source
from fiducial.progress import Advance, progress
from fiducial.report import pictures
from fiducial.runtime import runtime
from fiducial.runtime.runtime import Runtime
from fiducial.types import Skeleton

NOT_SAID = "doesn't say: add --track"
WHOLE = 0.5  # of an image's area: boxes that are smaller are crops


@dataclass(frozen=True)
class Prediction:
    """What came out."""

    images: int
    instances: int
    seconds: float  # that it took, without loading the model
    json_file: Path
    problems: list[str]
    notes: list[str]  # what was taken for granted

    @property
    def results(self) -> list[outputs.Entry]:
        """Reads the entries of the COCO results file."""
        return files.read_json(self.json_file)


def predict_sources(
    model: Path,
    names: list[str],
    out: Path,
    *,
    boxes: Path | None = None,
    finder: Path | None = None,
    min_score: float | None = None,
    choices: Choices = PLAIN,
    json_file: Path | None = None,
    csv_file: Path | None = None,
    bar: bool = False,
) -> Prediction:
    """Finds points on all frames of images, folders, videos and cameras, and writes drawings and results.

    `names` are paths or `camera:N`. Drawings go under `out`, results into `json_file` (default OUT/results.json) and,
    where given, as a table into `csv_file`. `boxes` is a COCO file that says where the instances are, or boxes for
    every image such as "10,20,30,40"; without it the model's finder, or that of the model `finder`, finds those whose
    score is `min_score` or more [the finder's choice]; without a finder ("no": not even the model's own) there is one
    in each image. `bar` draws the progress on a terminal; else it is said every ten seconds.

    A frame that can't be read or that the model has no finite points for, a broken box and an image that the boxes file
    doesn't name are said and left out. UserError
    where `choices.strict`, where nothing else is there, and for whatever is wrong with the arguments: that is said
    before anything is written."""
    json_file = json_file or out / "results.json"
    _check_outputs(out, json_file, csv_file)
    if not names:
        raise UserError("sources", "none were given; expected images, folders, videos or camera:0")
    inputs = sources.find(names)
    inputs = sources.in_series(inputs) if choices.track else inputs
    _check_videos(inputs, choices, boxes)
    problems: list[str] = []
    total: int | None = None

    def report(problem: str) -> None:
        if choices.strict or total == 1:
            raise UserError(problem)
        problems.append(problem)
        logger.warning(problem)

    boxes_file = None if boxes is None else boxes_files.given(boxes, choices.strict)
    if boxes_file is not None:
        for note in boxes_file.notes:
            logger.warning(note)
        for problem in boxes_file.problems:
            report(problem)
        inputs = _with_boxes(inputs, boxes_file, report)
    targets = drawings.targets(inputs, out)
    total = sources.count(inputs)
    run = runtime.load(model, choices.flip_test, finder=finder, min_score=min_score)
    notes = _of_boxes(model, run, boxes_file, finder, min_score)
    for note in notes:
        logger.warning(note)
    if run.finder is not None and boxes is None and choices.smooth is not None and not choices.track:
        raise UserError(f"--smooth must know who is who from frame to frame, which a finder {NOT_SAID}")
    if choices.oks_nms is not None:
        _check_suppression(model, run, boxes)
    pipeline = Pipeline(run, choices, boxes_file, report)
    start = time.monotonic()
    shown = progress("predict", total if total is None else total + pipeline.looks_twice(inputs), "frames", bar=bar)
    with folders.alone(out), _writing(json_file, csv_file, run.card.spec) as write, shown as advance:
        output, pipeline.advance = _Output(run.skeleton, write, advance, choices), advance
        try:
            for in_one_go in _stretches(inputs):
                output.take(pipeline.look_at(in_one_go), targets)
        except BaseException:
            if output.images:
                logger.warning(
                    f"{out}: ended after {output.images} images; drawings that are there are whole, no results"
                )
            raise
        if output.images == 0:
            raise UserError(f"no image could be read: {problems[0] if problems else names}")
    if output.empty:
        note = f"nothing was found in {output.empty} of {output.images} images"
        logger.warning(note)
        notes.append(note)
    return Prediction(output.images, output.instances, time.monotonic() - start, json_file, problems, notes)


def _stretches(inputs: list[Source]) -> Iterator[list[Source]]:
    """Sources that are read in one go: each camera is one of its own."""
    for _, stretch in itertools.groupby(inputs, lambda source: source.kind == "camera" and source.name):
        yield list(stretch)


@dataclass
class _Output:
    """Writes what was found."""

    skeleton: Skeleton
    write: Write
    advance: Advance
    choices: Choices
    images: int = 0
    instances: int = 0
    empty: int = 0  # images in which nothing was found

    def take(self, looked_at: Items[FramePoints], targets: dict[str, Path]) -> None:
        """Writes a frame while the next is looked at.

        A camera has no end: Ctrl-C is how people stop it, and what was seen until then is kept."""
        with closing(ahead(looked_at, bytes_of=lambda item: item.frame.bytes)) as ready:
            for source, frames in itertools.groupby(ready, lambda item: item.source):
                stopped = suppress(KeyboardInterrupt) if source.kind == "camera" else nullcontext()
                with drawings.drawing(source, targets[source.name]) as draw, stopped:
                    for item in frames:
                        self._put(item, draw)

    def _put(self, item: FramePoints, draw: Draw) -> None:
        entries = outputs.entries(item.frame, item.boxes, item.points)
        numbers = item.boxes.track_ids if self.choices.track else ()
        drawn = pictures.draw_keypoints(item.image, item.points, self.skeleton, self.choices.hide_below, numbers)
        draw(item.frame, drawn)
        self.write(entries)
        self.images, self.instances = self.images + 1, self.instances + len(entries)
        self.empty += not entries
        self.advance(1)


@contextmanager
def _writing(json_file: Path, csv_file: Path | None, spec: DetectorSpec) -> Iterator[Write]:
    """Takes the entries of all frames; the files are there when the context ends without an error."""
    with ExitStack() as opened:
        writers = [opened.enter_context(outputs.writing_json(json_file))]
        if csv_file is not None:
            writers.append(opened.enter_context(outputs.writing_csv(csv_file, spec.skeleton, spec.spread)))

        def write(entries: list[outputs.Entry]) -> None:
            for writer in writers:
                writer(entries)

        yield write


def _check_outputs(out: Path, json_file: Path, csv_file: Path | None) -> None:
    """That all can be written at the end, since that may be hours away."""
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}", "is a file, expected a folder")
    files.refuse_unwritable("--out", out)
    for option, file in {"--json": json_file, "--csv": csv_file}.items():
        if file is not None:
            files.refuse_unwritable(option, file.parent)


def _check_videos(inputs: list[Source], choices: Choices, boxes: Path | None) -> None:
    if choices.every > 1 and not choices.track:
        raise UserError("--every: instances are followed between the frames that are looked at, so add --track")
    if choices.second_pass and not choices.track:
        raise UserError("--second-pass must know who is who from frame to frame: add --track")
    if choices.second_pass and choices.smooth is not None:
        raise UserError("--second-pass smooths both ways, by itself: leave --smooth out")
    if choices.second_pass and any(source.kind == "camera" for source in inputs):
        raise UserError("--second-pass needs all of a video, and a camera has no end; leave it out")
    option = "--track" if choices.track else "--smooth"
    smooth = choices.smooth is not None
    if (choices.track or smooth) and not any(source.is_moving for source in inputs):
        frames = "; frames in files are numbered, as a_001.jpg, a_002.jpg" if choices.track else ""
        raise UserError(f"{option} is about videos and cameras, and there are only images{frames}")
    if smooth and boxes is not None and not choices.track:
        raise UserError(f"--smooth must know who is who from frame to frame, which --boxes {NOT_SAID}")


def _with_boxes(inputs: list[Source], boxes_file: BoxesFile, report: Callable[[str], None]) -> list[Source]:
    """The sources without images that the file doesn't name (frames of videos are asked for one by one)."""
    named = [source for source in inputs if source.kind != "image" or boxes_file.of(source.name) is not None]
    if not named:
        known = next(iter(boxes_file.names), "none at all")
        raise UserError(
            boxes_file.path,
            f"has no image named {inputs[0].name!r}, its names are such as {known!r}; `file_name` must be the image's path "
            "under the folder given to predict",
        )
    names = {source.name for source in named}
    named = [source for source in inputs if source.name in names or source.is_moving]  # frames between are followed
    if len(named) < len(inputs):
        report(f"{boxes_file.path}: {len(inputs) - len(named)} of {len(inputs)} images are not in it and left out")
    owner: dict[Id, str] = {}
    sized = []
    for source in named:
        boxes = boxes_file.of(source.name)
        if boxes is None or boxes.image_id is None:
            sized.append(source)
            continue
        if owner.setdefault(boxes.image_id, source.name) != source.name:
            raise UserError(
                boxes_file.path,
                f"image {boxes.image_id} could be {owner[boxes.image_id]!r} or {source.name!r}; "
                "predict their folders one by one",
            )
        declared = boxes.declared if source.kind == "image" else None
        sized.append(replace(source, declared=declared))
    return sized


def _of_boxes(
    model: Path, run: Runtime, boxes: BoxesFile | None, finder: Path | None, min_score: float | None
) -> list[str]:
    """Says where it is looked, where that is not what was asked for or may not be what is wanted."""
    if boxes is not None:
        words = [option for option, value in (("--finder", finder), ("--min-score", min_score)) if value is not None]
        return [f"{' and '.join(words)}: the boxes that --boxes gives are looked at alone"] if words else []
    if run.finder is not None:
        return []
    if min_score is not None:
        raise UserError(f"--min-score is about instances that a finder finds, and {model} has none; give --finder RUN")
    return _of_whole_images(run.card)


def _of_whole_images(card: Card) -> list[str]:
    """Says that whole images are looked at by a model that learnt on crops; nothing where it is not known what it saw."""
    share = card.metrics.get(BOX_SHARE)
    if not isinstance(share, (int, float)) or share >= WHOLE:
        return []
    return [
        f"without --boxes each whole image is taken for one {card.spec.skeleton.name}, but the model learnt on boxes of "
        f"{100 * share:.0f} % of their image (median): where there are several, or one is small, its points mean nothing; "
        "give --boxes (x,y,w,h in px, or a COCO file) or --finder (a run that has one: fiducial fit --finder auto)"
    ]


def _check_suppression(model: Path, run: Runtime, boxes: Path | None) -> None:
    if boxes is None and run.finder is None:
        raise UserError("--oks-nms keeps the best of several boxes of an instance: give them by --boxes FILE.json")
    if run.skeleton.sigmas is None:
        raise UserError(
            f"--oks-nms needs sigmas, and the skeleton {run.skeleton.name!r} of {model} has none. Train with the "
            "category's field `sigmas` (one number a point), or leave --oks-nms out"
        )
