"""`fiducial predict`: points drawn on pictures and videos, COCO results JSON that evaluate and other tools read, CSV."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from fiducial import files
from fiducial.errors import UserError
from fiducial.predict import boxes as boxes_files
from fiducial.predict import drawings, outputs, pipeline, sources
from fiducial.predict.boxes import BoxesFile
from fiducial.predict.drawings import Draw
from fiducial.predict.outputs import Write
from fiducial.predict.pipeline import Choices, Seen
from fiducial.predict.prefetch import Items, ahead
from fiducial.predict.smoothing import OneEuro
from fiducial.predict.sources import Source
from fiducial.report import pictures
from fiducial.runtime import runtime
from fiducial.runtime.runtime import Runtime
from fiducial.types import Skeleton

Echo = Callable[[str], None]


@dataclass(frozen=True)
class Done:
    """What came out."""

    images: int
    instances: int
    seconds: float  # that it took, without loading the model
    json_file: Path
    problems: list[str]

    @property
    def results(self) -> list[outputs.Entry]:
        """As in the COCO results file."""
        return files.read_json(self.json_file)


def predict_sources(
    model: Path,
    names: list[str],
    out: Path,
    *,
    boxes: Path | None = None,
    track: bool = False,
    smooth: OneEuro | None = None,
    flip_test: bool = False,
    oks_nms: float | None = None,
    strict: bool = False,
    json_file: Path | None = None,
    csv_file: Path | None = None,
    progress: bool = False,
    echo: Echo = print,
) -> Done:
    """Runs the model over all frames: pictures under `out`, results in `json_file` (default OUT/results.json) and, where
    given, in `csv_file`.

    A frame that can't be read, a broken box and a picture that the boxes file doesn't name are reported and left out;
    they are errors where `strict`, or where there is nothing else. Whatever can be wrong in the arguments is said
    before anything is written. `oks_nms`: of boxes that hold the same instance, by the OKS of their points above it, the
    one with the best score stays."""
    json_file = json_file or out / "results.json"
    _check_outputs(out, json_file, csv_file)
    found = sources.find(names)
    _check_videos(found, track, smooth, boxes)
    problems: list[str] = []
    total: int | None = None

    def report(problem: str) -> None:
        if strict or total == 1:
            raise UserError(problem)
        problems.append(problem)
        echo(problem)

    wanted = None if boxes is None else boxes_files.read(boxes, strict)
    if wanted is not None:
        for problem in wanted.problems:
            report(problem)
        found = _with_boxes(found, wanted, report)
    targets = drawings.targets(found, out)
    total = sources.count(found)
    run = runtime.load(model, flip_test)
    if oks_nms is not None:
        _check_suppression(model, run, boxes)
    choices = Choices(wanted, track, smooth, oks_nms)
    numbers = itertools.count(1)
    start = time.monotonic()
    with _writing(json_file, csv_file, run.skeleton) as write, _progress(total, progress) as advance:
        output = _Output(run.skeleton, write, advance)
        for some in _stretches(found):
            output.take(pipeline.seen(some, run, choices, numbers, report, echo), targets)
        if output.images == 0:
            raise UserError(f"no picture could be read: {problems[0] if problems else names}")
    return Done(output.images, output.instances, time.monotonic() - start, json_file, problems)


def _stretches(found: list[Source]) -> Iterator[list[Source]]:
    """Sources that are read in one go: each camera is one of its own."""
    for _, some in itertools.groupby(found, lambda source: source.kind == "camera" and source.name):
        yield list(some)


@dataclass
class _Output:
    """Writes what was seen."""

    skeleton: Skeleton
    write: Write
    advance: Callable[[], None]
    images: int = 0
    instances: int = 0

    def take(self, seen: Items[Seen], targets: dict[str, Path]) -> None:
        """Writes a frame while the next is looked at.

        A camera has no end: Ctrl-C is how people stop it, and what was seen until then is kept."""
        with closing(ahead(seen)) as ready:
            for source, frames in itertools.groupby(ready, lambda each: each.source):
                stopped = suppress(KeyboardInterrupt) if source.kind == "camera" else nullcontext()
                with drawings.drawing(source, targets[source.name]) as draw, stopped:
                    for each in frames:
                        self.put(each, draw)

    def put(self, seen: Seen, draw: Draw) -> None:
        entries = outputs.entries(seen.frame, seen.given, seen.found)
        picture = seen.image
        for xy, score in zip(seen.found.xy, seen.found.score, strict=True):
            picture = pictures.draw_points(picture, xy, self.skeleton, score=score)
        draw(seen.frame, picture)
        self.write(entries)
        self.images, self.instances = self.images + 1, self.instances + len(entries)
        self.advance()


@contextmanager
def _writing(json_file: Path, csv_file: Path | None, skeleton: Skeleton) -> Iterator[Write]:
    """Takes the entries of all frames; the files are there when the context ends without an error."""
    with ExitStack() as opened:
        writers = [opened.enter_context(outputs.writing_json(json_file))]
        if csv_file is not None:
            writers.append(opened.enter_context(outputs.writing_csv(csv_file, skeleton)))

        def write(entries: list[outputs.Entry]) -> None:
            for each in writers:
                each(entries)

        yield write


def _check_outputs(out: Path, json_file: Path, csv_file: Path | None) -> None:
    """That all can be written at the end, since that may be hours away."""
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file, expected a folder")
    named = {"--out": out, "--json": json_file.parent, "--csv": None if csv_file is None else csv_file.parent}
    for option, folder in named.items():
        there = next((each for each in (folder, *folder.parents) if each.exists()), None) if folder else None
        if there is not None and not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
            raise UserError(f"{option}: nothing can be written in {there}; give a folder that is yours")


def _check_videos(found: list[Source], track: bool, smooth: OneEuro | None, boxes: Path | None) -> None:
    option = "--track" if track else "--smooth"
    if (track or smooth is not None) and all(source.kind == "image" for source in found):
        raise UserError(f"{option} is about videos and cameras, and there are only pictures")
    if smooth is not None and boxes is not None and not track:
        raise UserError("--smooth must know who is who from frame to frame, which --boxes doesn't say: add --track")


def _with_boxes(found: list[Source], wanted: BoxesFile, report: Echo) -> list[Source]:
    """The sources without images that the file doesn't name (frames of videos are asked for one by one)."""
    kept = [source for source in found if source.kind != "image" or wanted.of(source.name) is not None]
    if not kept:
        known = next(iter(wanted.by_name), "none at all")
        raise UserError(
            f"{wanted.path}: has no image named {found[0].name!r}, its names are such as {known!r}; `file_name` must be "
            "the picture's path under the folder given to predict"
        )
    if len(kept) < len(found):
        report(f"{wanted.path}: {len(found) - len(kept)} of {len(found)} pictures are not in it and left out")
    owner: dict[int, str] = {}
    for source in kept:
        boxes = wanted.of(source.name)
        if boxes is not None and owner.setdefault(boxes.image_id, source.name) != source.name:
            raise UserError(
                f"{wanted.path}: image {boxes.image_id} could be {owner[boxes.image_id]!r} or {source.name!r}; "
                "predict their folders one by one"
            )
    return kept


def _check_suppression(model: Path, run: Runtime, boxes: Path | None) -> None:
    if boxes is None:
        raise UserError("--oks-nms keeps the best of several boxes of an instance: give them by --boxes FILE.json")
    if run.skeleton.sigmas is None:
        raise UserError(
            f"--oks-nms needs sigmas, and the skeleton {run.skeleton.name!r} of {model} has none. Train with the "
            "category's field `sigmas` (one number a point), or leave --oks-nms out"
        )


@contextmanager
def _progress(total: int | None, shown: bool) -> Iterator[Callable[[], None]]:
    """A bar with frames a second on a terminal, nothing in a pipe."""
    if not shown:
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("predict"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    start, done = time.monotonic(), 0
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("predict", total=total, speed="")

        def advance() -> None:
            nonlocal done
            done += 1
            bar.update(task, advance=1, speed=f"{done / (time.monotonic() - start):.1f} frames/s")

        yield advance
