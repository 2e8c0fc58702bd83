"""Where the instances are: the boxes of a COCO file, by picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from fiducial import files
from fiducial.errors import UserError


@dataclass
class Boxes:
    """The boxes of one picture, and the ids that its results bear."""

    image_id: int
    xywh: list[list[float]] = field(default_factory=list)  # edge frame
    category_ids: list[int] = field(default_factory=list)
    track_ids: list[int] = field(default_factory=list)  # who is who from frame to frame; empty = that is not known

    def array(self) -> np.ndarray:
        """[n, 4] float64."""
        return np.array(self.xywh, np.float64).reshape(-1, 4)

    def picked(self, rows: np.ndarray) -> Boxes:
        """Some of them."""
        columns = (
            [column[row] for row in rows] if column else [] for column in (self.xywh, self.category_ids, self.track_ids)
        )
        return Boxes(self.image_id, *columns)


@dataclass(frozen=True)
class BoxesFile:
    """All boxes of a file, and what was wrong with others."""

    path: Path
    by_name: dict[str, Boxes]  # by `file_name`
    by_last_part: dict[str, list[str]]  # file names by their last part
    problems: tuple[str, ...]

    @property
    def largest_id(self) -> int:
        """Of its pictures."""
        return max((boxes.image_id for boxes in self.by_name.values()), default=0)

    def of(self, name: str) -> Boxes | None:
        """Boxes of the picture of this name, else of the only one whose name ends alike; None if there is none."""
        if name in self.by_name:
            return self.by_name[name]
        alike = self.by_last_part.get(PurePosixPath(name).name, [])
        return self.by_name[alike[0]] if len(alike) == 1 else None


def read(path: Path, strict: bool = False) -> BoxesFile:
    """Boxes of a COCO file: {"images", "annotations"}, each annotation with `image_id` and `bbox`; crowds are left out.

    Boxes without an area or of unknown images are left out and listed; `strict` makes them an error."""
    values = files.read_json(path)
    if not isinstance(values, dict) or not all(isinstance(values.get(key), list) for key in ("images", "annotations")):
        raise UserError(
            f"{path}: expected COCO JSON with lists `images` and `annotations` (each with image_id and bbox)"
        )
    by_id: dict[Any, Boxes] = {}
    by_name: dict[str, Boxes] = {}
    for number, image in enumerate(values["images"]):
        if (
            not isinstance(image, dict)
            or not isinstance(image.get("id"), int)
            or not isinstance(image.get("file_name"), str)
        ):
            raise UserError(f"{path}: image [{number}]: expected a whole number `id` and a text `file_name`")
        by_id[image["id"]] = by_name[image["file_name"]] = Boxes(image["id"])
    problems, left = [], 0
    for number, annotation in enumerate(values["annotations"]):
        problem = _problem(annotation, by_id)
        if problem:
            shown = annotation.get("id", f"[{number}]") if isinstance(annotation, dict) else f"[{number}]"
            problems.append(f"{path}: annotation {shown}: {problem}")
        elif not annotation.get("iscrowd"):
            boxes = by_id[annotation["image_id"]]
            boxes.xywh.append([float(value) for value in annotation["bbox"]])
            boxes.category_ids.append(annotation.get("category_id", 1))
            left += 1
    if problems and (strict or left == 0):
        raise UserError(problems[0])
    by_last_part: dict[str, list[str]] = {}
    for name in by_name:
        by_last_part.setdefault(PurePosixPath(name).name, []).append(name)
    return BoxesFile(path, by_name, by_last_part, tuple(problems))


def _problem(annotation: Any, by_id: dict[Any, Boxes]) -> str | None:
    if not isinstance(annotation, dict):
        return f"got {annotation!r}, expected an object with image_id and bbox"
    image_id, box = annotation.get("image_id"), annotation.get("bbox")
    if not isinstance(image_id, int) or image_id not in by_id:
        return f"no image has the id {image_id}"
    if not _is_box(box):
        return f"bbox {box}: expected [x, y, width, height] with a positive area"
    return None


def _is_box(value: Any) -> bool:
    """[x, y, width, height], finite, with an area."""
    if not isinstance(value, list) or len(value) != 4 or not all(isinstance(item, (int, float)) for item in value):
        return False
    return bool(np.isfinite(value).all()) and min(value[2:]) > 0
