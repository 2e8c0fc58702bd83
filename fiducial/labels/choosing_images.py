"""`fiducial data next`: the images of a pool that are most worth labelling, with a model's points to begin from."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fiducial import files, folders
from fiducial.api.arguments import optional_path, path_of, source_of
from fiducial.api.results import Result
from fiducial.data import annotations, conversion
from fiducial.data.formats import coco
from fiducial.data.placing import Placing
from fiducial.errors import UserError
from fiducial.labels.choosing import Seen, boxes_around, choose, see
from fiducial.log import logger
from fiducial.prediction import boxes as boxes_files
from fiducial.prediction import sources
from fiducial.prediction.pipeline import PLAIN, FramePoints, Pipeline
from fiducial.progress import progress
from fiducial.report.page import Gallery, Page, Picture, Section, Table, write_page
from fiducial.runtime import runtime
from fiducial.types import Instances

FORMATS = ("coco", "cvat", "label_studio")  # what pre-labels are written for
SHOWN = 60  # images on the page
TILE_PX = 320


def next_images(
    model: Any,
    pool: Any,
    out: Any,
    *,
    count: int = 50,
    labelled: Any = None,
    boxes: Any = None,
    bar: bool = False,
) -> Result:
    """Chooses the images of a pool that are most worth labelling, and writes them with the model's points as pre-labels.

    Args:
        model: a run, its folder, or an exported file.
        pool: images, folders, videos; one path or a list.
        count: of images to choose.
        labelled: a labelled set that the chosen ones should be unlike [none].
        boxes: COCO JSON with the boxes to look in [the whole image].

    `out` gets images/, next.csv (the most worth first), prelabels in COCO, CVAT and Label Studio, and a page."""
    folder, network_path = path_of(out, "out"), path_of(model, "model")
    names = [os.fspath(name) for name in ([pool] if isinstance(pool, (str, os.PathLike)) else pool)]
    if count < 1:
        raise UserError("count", f"{count}: expected 1 or more")
    inputs = sources.find(names)
    box_file = optional_path(boxes, "boxes")
    run = runtime.load(network_path)
    problems: list[str] = []
    pipeline = Pipeline(run, PLAIN, None if box_file is None else boxes_files.given(box_file), problems.append)

    def frames() -> Iterator[FramePoints]:
        return pipeline.look_at(inputs)

    with folders.alone(folder):
        seen: list[Seen] = []
        found_in: list[str] = []
        nothing_in: list[str] = []
        with progress("look", sources.count(inputs), "images", bar=bar) as advance:
            for frame in frames():
                if len(frame.points):
                    seen.append(see(run, frame.image, _boxes_of(frame), frame.points))
                    found_in.append(frame.frame.name)
                else:
                    nothing_in.append(frame.frame.name)
                advance(1)
        if not seen:
            raise UserError(names[0], f"the model finds nothing in it: {problems[0] if problems else 'no points'}")
        known = [] if labelled is None else _known(run, source_of(labelled))
        chosen = [found_in[place] for place in choose(seen, count, known)]
        errors = dict(zip(found_in, (one.error for one in seen), strict=True))
        kept = _save(frames(), set(chosen), folder)
        rows = [
            {"rank": rank, "image": name, "file": kept[name][0], "expected_error": round(errors[name], 5)}
            for rank, name in enumerate(chosen, 1)
        ]
        files.write_text(folder / "next.csv", files.csv_text(rows))
        written = _prelabels([kept[name] for name in chosen], run.skeleton, folder)
        page = _write_page(folder, rows, [kept[name] for name in chosen], run.skeleton, len(seen), network_path)
    for problem in problems[:20]:
        logger.warning(problem)
    if nothing_in:
        some = f"{', '.join(nothing_in[:3])}{', ..' * (len(nothing_in) > 3)}"
        logger.warning(
            f"nothing was found in {len(nothing_in)} images, which have no rank ({some}): where instances are missed there, label "
            "these too"
        )
    figures = {
        "pool": len(seen),
        "nothing_found": nothing_in,
        "chosen": rows,
        "problems": problems,
        "files": {"list": str(folder / "next.csv"), **written, "report": str(page)},
    }
    lines = [
        f"{len(rows)} of {len(seen)} images, the most worth labelling first; their expected error is a share of the size"
    ]
    return Result(figures=figures, table=rows[:20], lines=lines)


def _boxes_of(frame: FramePoints) -> np.ndarray | None:
    boxes = frame.boxes.array()
    return boxes if len(boxes) == len(frame.points) else None


def _boxes_or_around(frame: FramePoints) -> np.ndarray:
    boxes = _boxes_of(frame)
    return boxes_around(frame.points.xy) if boxes is None else boxes


def _known(run: runtime.Runtime, source: Any) -> list[Seen]:
    """What a model sees in the images that are labelled."""
    split = next(iter(annotations.find(source.path)[1]))
    instances, _ = annotations.load(source, split, verify=False)
    seen = []
    for row in np.unique(instances.image_row).tolist():
        boxes = instances.box_xywh[instances.image_row == row].astype(np.float64)
        image = instances.images.read(row)
        seen.append(see(run, image, boxes, run(image, boxes)))
    return seen


Kept = tuple[str, FramePoints]  # file below the folder, what was found


def _save(frames: Iterator[FramePoints], wanted: set[str], folder: Path) -> dict[str, Kept]:
    """Writes the chosen images below `images/`: files as they are, frames as PNG."""
    kept: dict[str, Kept] = {}
    for number, frame in zip(itertools.count(1), frames, strict=False):
        name = frame.frame.name
        if name not in wanted:
            continue
        stem = Path(name.replace("#", "_frame")).with_suffix("").name
        suffix = frame.source.path.suffix if frame.source.kind == "image" else ".png"
        file = f"images/{stem}{suffix}"
        if any(file == other for other, _ in kept.values()):
            file = f"images/{stem}_{number}{suffix}"
        (folder / "images").mkdir(parents=True, exist_ok=True)
        if frame.source.kind == "image":
            files.write_bytes(folder / file, frame.source.path.read_bytes())
        else:
            _, data = cv2.imencode(".png", cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR))
            files.write_bytes(folder / file, data.tobytes())
        kept[name] = file, frame
    return kept


def _prelabels(kept: Sequence[Kept], skeleton: Any, folder: Path) -> dict[str, str]:
    """Writes the model's points as labels in the formats that tools for labelling read."""
    instances = Instances.of(
        [folder / file for file, _ in kept],
        np.concatenate([frame.points.xy for _, frame in kept]),
        boxes=np.concatenate([_boxes_or_around(frame) for _, frame in kept]),
        image_row=np.repeat(np.arange(len(kept)), [len(frame.points) for _, frame in kept]),
        skeleton=skeleton,
    )
    written = {}
    modules = conversion.writers()
    for name in FORMATS:
        module = coco if name == "coco" else modules[name]
        file = folder / f"prelabels_{name}{getattr(module, 'ENDING', '.json')}"
        with files.replacing(file) as partial:
            module.write_file(instances, partial, Placing(folder))
        written[name] = str(file)
    return written


def _write_page(
    folder: Path, rows: Sequence[dict[str, Any]], kept: Sequence[Kept], skeleton: Any, pool: int, model: Path
) -> Path:
    shown = [
        Picture(
            _tile(frame.points.draw(frame.image)), f"{row['rank']}: {row['image']}, {100 * row['expected_error']:.1f} %"
        )
        for row, (_, frame) in zip(rows[:SHOWN], kept, strict=False)
    ]
    note = "Expected error: how far the points move when the image is shown a little shifted and scaled, of the instance's size."
    columns = ("rank", "image", "expected_error")
    return write_page(
        folder / "report.html",
        Page(
            title="Images to label next",
            answer=[
                f"{len(rows)} of {pool} images, chosen by {model}: where it is expected to err, unlike each other."
            ],
            sections=[
                Section("Images", [Gallery("Images", shown, note)]),
                Section("All", [Table(columns, [[row[name] for name in columns] for row in rows])]),
            ],
        ),
    )


def _tile(image: np.ndarray) -> np.ndarray:
    shrink = min(1.0, TILE_PX / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * shrink)), max(1, round(image.shape[0] * shrink)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
