"""`fiducial predict`: points drawn on pictures, and COCO results JSON that evaluate and other tools read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import config
from fiducial.deploy import runtime, sources
from fiducial.deploy.sources import Frame
from fiducial.errors import UserError
from fiducial.evaluation import pictures
from fiducial.types import Keypoints


@dataclass(frozen=True)
class Done:
    """What came out."""

    images: int
    instances: int
    results_file: Path
    problems: list[str]


@dataclass(frozen=True)
class BoxesFile:
    """Boxes by image, of COCO annotations or detections."""

    by_name: dict[str, list[list[float]]]  # of a file with `images`
    image_ids: dict[str, int]


def predict_sources(
    model: Path,
    names: list[str],
    out: Path,
    *,
    boxes: Path | None,
    flip_test: bool = False,
    strict: bool = False,
    json_file: Path | None = None,
    progress: bool = False,
    echo: Callable[[str], None] = print,
) -> Done:
    """Runs the model over all frames. A frame that can't be read is reported and left out (`strict`: an error)."""
    run = runtime.load(model, flip_test)
    wanted = _read_boxes(boxes) if boxes is not None else None
    out.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    problems: list[str] = []
    used: set[str] = set()
    images = 0
    with _progress(sources.count(names), progress) as advance:
        for number, frame in enumerate(sources.frames(names), start=1):
            advance()
            if frame.image is None:
                if strict:
                    raise UserError(frame.problem or frame.name)
                problems.append(frame.problem or frame.name)
                echo(problems[-1])
                continue
            given = None if wanted is None else _boxes_of(wanted, frame, boxes)
            found = run(frame.image, given)
            image_id = wanted.image_ids.get(frame.name, number) if wanted is not None else number
            results += [_result(frame, image_id, found, i, given) for i in range(len(found.xy))]
            images += 1
            picture = frame.image
            for i in range(len(found.xy)):
                picture = pictures.draw_points(picture, found.xy[i], run.skeleton, score=found.score[i])
            _write_picture(out / _picture_name(frame, used), picture)
    if images == 0:
        raise UserError(f"no picture could be read: {problems[0] if problems else names}")
    target = json_file or out / "results.json"
    config.write_text(target, json.dumps(results, allow_nan=False) + "\n")
    return Done(images, len(results), target, problems)


def _result(frame: Frame, image_id: int, found: Keypoints, i: int, given: np.ndarray | None) -> dict[str, Any]:
    """One entry of a COCO results file; `file_name` lets people find the picture again."""
    points = np.column_stack([found.xy[i], found.score[i]]).astype(float)
    entry: dict[str, Any] = {
        "image_id": image_id,
        "category_id": 1,
        "keypoints": [round(value, 3) for value in points.ravel().tolist()],
        "score": round(float(found.score[i].mean()), 5),
        "file_name": frame.name,
    }
    if given is not None:
        entry["bbox"] = given[i].tolist()
    return entry


def _read_boxes(path: Path) -> BoxesFile:
    """A COCO file: {"images", "annotations"} whose annotations have `bbox`."""
    values = config.read_json(path)
    if not isinstance(values, dict) or not {"images", "annotations"} <= values.keys():
        raise UserError(f"{path}: expected COCO JSON with `images` and `annotations` (each with image_id and bbox)")
    names = {image["id"]: image["file_name"] for image in values["images"]}
    by_name: dict[str, list[list[float]]] = {}
    for annotation in values["annotations"]:
        box, image_id = annotation.get("bbox"), annotation.get("image_id")
        where = f"{path}: annotation {annotation.get('id')}"
        if image_id not in names:
            raise UserError(f"{where}: unknown image id {image_id}")
        if not isinstance(box, list) or len(box) != 4 or not np.isfinite(box).all() or min(box[2:]) <= 0:
            raise UserError(f"{where}: bbox {box}: expected [x, y, width, height] with a positive area")
        by_name.setdefault(names[image_id], []).append([float(value) for value in box])
    return BoxesFile(by_name, {name: image_id for image_id, name in names.items()})


def _boxes_of(wanted: BoxesFile, frame: Frame, path: Path | None) -> np.ndarray:
    if frame.name not in wanted.image_ids:
        raise UserError(f"{path}: has no image named {frame.name!r}; file_name must be as given to predict")
    return np.asarray(wanted.by_name.get(frame.name, []), np.float64).reshape(-1, 4)


def _picture_name(frame: Frame, used: set[str]) -> Path:
    """A JPEG's name under OUT; pictures of equal names from different folders get a number."""
    name = frame.name.replace("#", "_")
    name = name if name.lower().endswith(".jpg") else f"{name}.jpg"
    name = name if frame.video is None else f"{Path(frame.video).stem}/{name}"
    unique, number = name, 2
    while unique in used:
        unique, number = f"{name[:-4]}_{number}.jpg", number + 1
    used.add(unique)
    return Path(unique)


def _write_picture(path: Path, image: np.ndarray) -> None:
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    encoded, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
    if not encoded:
        raise UserError(f"{path}: the picture can't be written as JPEG ({image.shape[1]}x{image.shape[0]})")
    path.write_bytes(data.tobytes())


@contextmanager
def _progress(total: int | None, shown: bool) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, nothing in a pipe."""
    if not shown:
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(TextColumn("predict"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), transient=True) as bar:
        task = bar.add_task("predict", total=total)
        yield lambda: bar.advance(task)
