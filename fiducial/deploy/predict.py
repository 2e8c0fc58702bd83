"""`fiducial predict`: points drawn on pictures and videos, and COCO results JSON that evaluate and other tools read."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import config
from fiducial.deploy import boxes as boxes_files
from fiducial.deploy import drawings, runtime, sources
from fiducial.deploy.boxes import Boxes, BoxesFile
from fiducial.deploy.runtime import Runtime
from fiducial.deploy.sources import Frame, Source
from fiducial.errors import UserError
from fiducial.evaluation import pictures, suppression
from fiducial.types import Keypoints

Echo = Callable[[str], None]


@dataclass(frozen=True)
class Done:
    """What came out."""

    images: int
    instances: int
    results: list[dict[str, Any]]  # as in a COCO results file
    problems: list[str]


def predict_sources(
    model: Path,
    names: list[str],
    out: Path,
    *,
    boxes: Path | None = None,
    flip_test: bool = False,
    oks_nms: float | None = None,
    strict: bool = False,
    json_file: Path | None = None,
    progress: bool = False,
    echo: Echo = print,
) -> Done:
    """Runs the model over all frames: pictures under `out`, results in `json_file` (default OUT/results.json; "-" =
    no file, they are in what is returned).

    A frame that can't be read, a broken box and a picture that the boxes file doesn't name are reported and left out;
    they are errors where `strict`, or where there is nothing else. Whatever can be wrong in the arguments is said
    before anything is written. `oks_nms`: of boxes that hold the same instance, by the OKS of their points above it, the
    one with the best score stays."""
    found = sources.find(names)
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file, expected a folder")
    problems: list[str] = []

    def report(problem: str) -> None:
        if strict:
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
    results: list[dict[str, Any]] = []
    images = number = 0
    with _progress(total, progress) as advance:
        for source in found:
            # A camera has no end: Ctrl-C is how people stop it, and what was seen until then is kept.
            live = suppress(KeyboardInterrupt) if source.kind == "camera" else nullcontext()
            with drawings.drawing(source, targets[source.name]) as draw, live:
                for frame in sources.frames(source):
                    number += 1
                    given = Boxes(number) if wanted is None else wanted.of(frame.name)
                    if frame.image is None and total == 1:
                        raise UserError(frame.problem or frame.name)
                    if frame.image is None:
                        report(frame.problem or frame.name)
                    elif given is None:
                        report(f"{boxes}: has no image named {frame.name!r}; left out")
                    else:
                        points = run(frame.image, None if wanted is None else given.array())
                        given, points = _without_repeats(given, points, run, oks_nms)
                        results += _entries(frame, given, points)
                        draw(frame, _picture(frame.image, points, run))
                        images += 1
                    advance()
    if images == 0:
        raise UserError(f"no picture could be read: {problems[0] if problems else names}")
    if str(json_file) != "-":
        config.write_text(json_file or out / "results.json", json.dumps(results, allow_nan=False) + "\n")
    return Done(images, len(results), results, problems)


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


def _entries(frame: Frame, given: Boxes, found: Keypoints) -> list[dict[str, Any]]:
    """Entries of a COCO results file, one an instance; `file_name` lets people find the picture again, and
    `keypoint_sigmas` says, where the method knows, how far off x and y of each point may be, px."""
    entries = []
    for i in range(len(found.xy)):
        points = np.column_stack([found.xy[i], found.score[i]]).astype(float)
        entry: dict[str, Any] = {
            "image_id": given.image_id,
            "category_id": given.category_ids[i] if given.category_ids else 1,
            "keypoints": [round(value, 3) for value in points.ravel().tolist()],
            "score": round(float(found.score[i].mean()), 5),
            "file_name": frame.name,
        }
        if found.sigma is not None:
            entry["keypoint_sigmas"] = [round(float(value), 3) for value in found.sigma[i].ravel()]
        entries.append(entry | ({"bbox": given.xywh[i]} if given.xywh else {}))
    return entries


def _check_suppression(model: Path, run: Runtime, boxes: Path | None) -> None:
    if boxes is None:
        raise UserError("--oks-nms keeps the best of several boxes of an instance: give them by --boxes FILE.json")
    if run.skeleton.sigmas is None:
        raise UserError(
            f"--oks-nms needs sigmas, and the skeleton {run.skeleton.name!r} of {model} has none. Train with the "
            "category's field `sigmas` (one number a point), or leave --oks-nms out"
        )


def _without_repeats(given: Boxes, found: Keypoints, run: Runtime, limit: float | None) -> tuple[Boxes, Keypoints]:
    """The boxes of one picture and their points, without those whose points a better one has too; all where `limit` is
    None."""
    if limit is None:
        return given, found
    boxes, sigmas = given.array(), np.array(run.skeleton.sigmas)
    area = boxes[:, 2:].prod(1)
    rows = np.sort(suppression.oks_nms(found.xy, found.score.mean(1), area, sigmas, limit))
    xywh, category_ids = [given.xywh[row] for row in rows], [given.category_ids[row] for row in rows]
    columns = {name: None if value is None else value[rows] for name, value in vars(found).items()}
    return Boxes(given.image_id, xywh, category_ids), Keypoints(**columns)


def _picture(image: np.ndarray, found: Keypoints, run: Runtime) -> np.ndarray:
    for xy, score in zip(found.xy, found.score, strict=True):
        image = pictures.draw_points(image, xy, run.skeleton, score=score)
    return image


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
