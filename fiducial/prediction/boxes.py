"""Where the instances are: the boxes of a COCO file by image, or the same boxes in every image."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fiducial.data import checking
from fiducial.data.coco_json import labels
from fiducial.data.coco_json.categories import list_unknown
from fiducial.data.coco_json.content import Content, load
from fiducial.data.coco_json.entries import Annotation, Category
from fiducial.data.coco_json.ids import Id, Rows
from fiducial.data.file_names import FileNames
from fiducial.data.series import numbered
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.prediction import bare_boxes
from fiducial.types import Findings


@dataclass
class Boxes:
    """The boxes of one image, and the ids that its results bear, as they stand in the boxes file."""

    image_id: Id  # None = no file gives one
    xywh: list[list[float]] = field(default_factory=list)  # edge frame
    category_ids: list[Id] = field(default_factory=list)
    # Who is who from frame to frame, below 0 where that is not known yet; empty = it is of nobody.
    track_ids: list[int] = field(default_factory=list)
    image_ids: list[Id] = field(default_factory=list)  # of each box; empty = image_id
    annotation_ids: list[Id] = field(default_factory=list)  # of each box; empty = it has none
    declared: Size | None = None  # the size of the image that the file states
    scores: list[float] = field(default_factory=list)  # of a finder; empty = nobody says how sure a box is
    filled: list[bool] = field(default_factory=list)  # which are between those of other frames; empty = nobody's

    def array(self) -> np.ndarray:
        """Gives the boxes as [n, 4] float64."""
        return np.array(self.xywh, np.float64).reshape(-1, 4)

    def picked(self, rows: np.ndarray) -> Boxes:
        """Gives some of them."""
        columns = ("xywh", "category_ids", "track_ids", "image_ids", "annotation_ids", "scores", "filled")
        chosen: dict[str, Any] = {
            name: [column[row] for row in rows] for name in columns if (column := vars(self)[name])
        }
        return replace(self, **chosen)


@dataclass(frozen=True)
class BoxesFile:
    """All boxes of a file, and what was said about it."""

    path: Path
    names: tuple[str, ...]  # [m] `file_name` of each image; one file may be there under several ids
    boxes: tuple[Boxes, ...]  # [m]
    problems: tuple[str, ...]  # entries that were left out
    notes: tuple[str, ...] = ()  # what was assumed

    def __post_init__(self) -> None:
        object.__setattr__(self, "_found", FileNames(self.names))

    @property
    def largest_id(self) -> int:
        """Gives the largest id of its images that is a whole number, 0 where none is."""
        return max((boxes.image_id for boxes in self.boxes if isinstance(boxes.image_id, int)), default=0)

    def frames_of(self, name: str) -> int:
        """Counts the frames that it names of the video of this name, as VIDEO#NUMBER, or of this series of numbered images."""
        last = name.rpartition("/")[2]
        parts = map(numbered, self.names)
        return sum(one.number is not None and one.series.rpartition("/")[2] in (last, f"{last}#") for one in parts)

    def of(self, name: str) -> Boxes | None:
        """Gives the boxes of the image of this name (`file_names.FileNames`), of all its ids; None where there is none, or
        the name could mean several."""
        found: FileNames = vars(self)["_found"]
        rows = found.rows_of(name)
        if not rows or not found.is_one_file(rows):
            return None
        several = [self.boxes[row] for row in rows]
        return several[0] if len(several) == 1 else _joined(several)


@dataclass(frozen=True)
class SameBoxes(BoxesFile):
    """Boxes that hold for every image; those who are followed start in them."""

    def of(self, name: str) -> Boxes:
        """Gives the boxes, of whatever image."""
        return self.boxes[0]


def given(words: Path, strict: bool = False) -> BoxesFile:
    """Reads the boxes of a file, or those that are written out, such as "10,20,30,40" (`bare_boxes.parse`)."""
    if os.path.exists(words) or not bare_boxes.is_bare(str(words)):
        return read(words, strict)
    xywh = bare_boxes.parse(str(words)).tolist()
    return SameBoxes(Path("--boxes"), (), (Boxes(None, xywh, [1] * len(xywh)),), ())


def read(path: Path, strict: bool = False) -> BoxesFile:
    """Reads the boxes of a COCO file, by the rules by which `fit` and `evaluate` read it (`data/coco_json/`).

    Boxes of all its categories are taken, crowds left out. A box that is missing is made of the annotation's points. What
    can't be used is left out and listed; UserError where nothing can, and for the first of them where `strict`."""
    findings = Findings(str(path))
    content = load(path, findings)
    sizes = [Size(*image.size) for image in content.images]
    images = [
        Boxes(image.id, declared=size if size.w else None) for image, size in zip(content.images, sizes, strict=True)
    ]
    names = tuple(image.file_name for image in content.images)
    _check_sizes(images, names, findings)
    place_of = {item.id: place for place, item in enumerate(content.annotations)}
    placed = []
    for category, items in _by_category(content, path, findings):
        part = Content(content.images, items)
        placed += [(place_of[number], row, box) for number, row, box in _boxes_of(part, category, path, findings)]
    for place, row, box in sorted(placed):
        item, boxes = content.annotations[place], images[row]
        boxes.xywh.append(box)
        boxes.category_ids.append(1 if item.category_id is None else item.category_id)
        boxes.image_ids.append(boxes.image_id)
        boxes.annotation_ids.append(item.id)
    problems = tuple(str(problem) for problem in findings.wrong)
    if problems and (strict or not placed):
        raise UserError(problems[0])
    return BoxesFile(path, names, tuple(images), problems, tuple(str(note) for note in findings.notes))


def _by_category(content: Content, path: Path, findings: Findings) -> list[tuple[Category, list[Annotation]]]:
    """The annotations of each category, of which boxes need no more than how many points it has."""
    if not content.categories:
        return [(Category(), content.annotations)]
    list_unknown(content, content.categories, path, findings)
    rows = Rows(category.id for category in content.categories)
    parts: dict[int | None, list[Annotation]] = {}
    for item in content.annotations:
        row = None if item.category_id is None else rows.of(item.category_id)
        if row != -1:
            parts.setdefault(row, []).append(item)
    only = content.categories[0] if len(content.categories) == 1 else Category()
    named = [(only if row is None else content.categories[row], items) for row, items in parts.items()]
    return [(Category(category.id, category.name, category.keypoints), items) for category, items in named]


def _boxes_of(
    content: Content, category: Category, path: Path, findings: Findings
) -> list[tuple[Id, int, list[float]]]:
    """Annotation id, image row and box of each instance of one category that is no crowd."""
    about = Findings(findings.source)
    raw = labels.columns(content, category, path, about, np.float64)
    boxless = np.isnan(raw.box_xywh).all(1) & ~raw.crowd
    for row in np.flatnonzero(boxless & ~raw.labelled.any(1)).tolist():
        about.add(f"annotation {raw.annotation_id[row]}", "it has neither a bbox nor points to make one of; left out")
    sound = checking.check(raw, about, ignored=True, pictures=False)
    made = int((boxless & raw.labelled.any(1)).sum())
    if made:
        findings.note(f"{made} annotations have no bbox: made of their points, a tenth wider on each side")
    findings.problems += about.wrong
    columns = (sound.annotation_id.tolist(), sound.image_row.tolist(), sound.box_xywh.tolist())
    return [item for item, crowd in zip(zip(*columns, strict=True), sound.crowd, strict=True) if not crowd]


def _check_sizes(images: list[Boxes], names: tuple[str, ...], findings: Findings) -> None:
    """An image that is there under several ids is read once, so that it can have one size only."""
    first: dict[str, Boxes] = {}
    for boxes, name in zip(images, names, strict=True):
        other = first.setdefault(name, boxes)
        if name and boxes.declared and other.declared and boxes.declared != other.declared:
            raise UserError(
                f"{findings.source}: {name!r} is {other.declared} as image {other.image_id} and {boxes.declared} as image "
                f"{boxes.image_id}; correct one of them"
            )
        other.declared = other.declared or boxes.declared


def _joined(several: list[Boxes]) -> Boxes:
    """The boxes of one image under all its ids."""
    columns = ("xywh", "category_ids", "image_ids", "annotation_ids")
    whole: dict[str, Any] = {name: [value for boxes in several for value in vars(boxes)[name]] for name in columns}
    return Boxes(several[0].image_id, declared=several[0].declared, **whole)
