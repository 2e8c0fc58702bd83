"""What a format file read, and what is wrong in it: broken instances are left out, each with one clear line."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fiducial import geometry
from fiducial.data.images import FileImages, file_header, keeps_stored, upright_size
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.types import NOTE, Images, Instances, Problem, Skeleton

# A box made from points is enlarged by this much of itself on each side: points lie on a body, not around it.
ABSURD = 10  # longest sides of a picture; no true point lies so far outside of it
BOX_MARGIN = 0.1


class Label(NamedTuple):
    """One instance, for formats that are read one at a time."""

    image_row: int
    annotation_id: int
    keypoints: np.ndarray  # [k, 3]
    box_xywh: np.ndarray | None = None


@dataclass(frozen=True)
class Table:
    """What a format file read, before anything was judged: columns as in `Instances`, but as they stand in the file."""

    skeleton: Skeleton
    images: Images
    image_id: np.ndarray  # [m] int64
    image_size: np.ndarray  # [m, 2] int32 (w, h), 0 = not declared
    image_row: np.ndarray  # [n] int64
    annotation_id: np.ndarray  # [n] int64
    keypoints: np.ndarray  # [n, k, 3] float32: x, y in px, v; NaN where the file has no number
    box_xywh: np.ndarray  # [n, 4] float32, NaN = none
    area: np.ndarray  # [n] float32, NaN = none
    crowd: np.ndarray  # [n] bool
    source: str
    problems: list[Problem] = field(default_factory=list)  # of instances that could not be put into columns
    notes: list[str] = field(default_factory=list)  # what was concluded, not wrong

    @staticmethod
    def of(
        labels: Sequence[Label], skeleton: Skeleton, images: Images, source: str, *,
        image_size: np.ndarray | None = None, problems: Sequence[Problem] = (), notes: Sequence[str] = (),
    ) -> Table:  # fmt: skip
        """A table from single labels; image ids are their rows."""
        count = len(labels)
        boxes = [np.full(4, np.nan) if label.box_xywh is None else label.box_xywh for label in labels]
        points = len(skeleton.points)
        keypoints = np.array([label.keypoints for label in labels], dtype=np.float32).reshape(count, points, 3)
        return Table(
            skeleton=skeleton,
            images=images,
            image_id=np.arange(len(images), dtype=np.int64),
            image_size=np.zeros((len(images), 2), np.int32) if image_size is None else image_size,
            image_row=np.array([label.image_row for label in labels], dtype=np.int64),
            annotation_id=np.array([label.annotation_id for label in labels], dtype=np.int64),
            keypoints=keypoints,
            box_xywh=np.array(boxes, dtype=np.float32).reshape(count, 4),
            area=np.full(count, np.nan, np.float32),
            crowd=np.zeros(count, bool),
            source=source,
            problems=list(problems),
            notes=list(notes),
        )

    def select(self, rows: np.ndarray) -> Table:
        """Some of the instances; all images stay."""
        columns = ("image_row", "annotation_id", "keypoints", "box_xywh", "area", "crowd")
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})


def check(table: Table, verify: bool = True, ignored: bool = False) -> tuple[Instances, list[Problem]]:
    """The sound instances of a table, and a line for each one left out.

    Left out as broken: v other than 0, 1 or 2; a labelled point without finite coordinates, or absurdly far outside of the
    declared picture (one such label can outweigh all others in a loss); a box of no area or wholly
    outside the declared picture; an annotation id met before; a picture that is missing, cut short or not of the
    declared size (the last two only if `verify`, which opens every file). Left out without a word: no labelled point,
    unless it is a crowd or `ignored` asks for them, and it has a box. A missing box is made from the points, a missing area is the box's."""
    xy, visibility = table.keypoints[..., :2], table.keypoints[..., 2]
    valued = np.isin(visibility, (0, 1, 2))
    finite = np.isfinite(xy).all(-1)
    labelled = visibility > 0
    problems = list(table.problems)
    bad = np.zeros(len(table.image_row), bool)

    def leave_out(rows: np.ndarray | np.bool, what: str, point_wise: np.ndarray | None = None) -> None:
        """Marks rows not yet marked; {point}, {v}, {xy}, {box} and {size} are filled in."""
        for row in np.flatnonzero(rows & ~bad):
            point = 0 if point_wise is None else int(point_wise[row].argmax())
            size = table.image_size[table.image_row[row]]
            text = what.format(
                point=table.skeleton.points[point],
                v=f"{visibility[row, point]:g}",
                xy=[float(f"{value:.6g}") for value in xy[row, point]],
                box=[round(float(value), 2) for value in table.box_xywh[row]],
                size=f"{size[0]}x{size[1]}",
            )
            problems.append(Problem(table.source, f"annotation {table.annotation_id[row]}", f"{text}; left out"))
        bad[rows] = True

    first = np.zeros(len(bad), bool)
    first[np.unique(table.annotation_id, return_index=True)[1]] = True
    leave_out(~first, "its id was used before, expected ids to be unique")
    leave_out(~valued.all(1), "v is {v} at point {point!r}, expected 0, 1 or 2", ~valued)
    missing = labelled & ~finite
    leave_out(missing.any(1), "point {point!r} is labelled (v {v}) without finite coordinates", missing)
    far = labelled & _far_outside(table)
    leave_out(far.any(1), "point {point!r} lies at {xy}, far outside the picture of {size}", far)

    box_xywh = _with_boxes(table, labelled & finite)
    given = ~np.isnan(table.box_xywh).all(1)
    no_area = given & ~(np.isfinite(table.box_xywh).all(1) & (table.box_xywh[:, 2:] > 0).all(1))
    leave_out(no_area, "its box {box} has no area, expected [x, y, w, h] with w and h above 0")
    leave_out(given & _outside(table), "its box {box} lies outside the picture of {size}")

    silent = ~labelled.any(1) & ~((table.crowd | ignored) & given)
    image_size = table.image_size.copy()
    broken_images = _broken_pictures(table, np.unique(table.image_row[~bad & ~silent]), verify, image_size)
    counts = np.bincount(table.image_row[~bad & ~silent], minlength=len(table.images))
    for row, text in broken_images.items():
        what = f"{text}; {counts[row]} annotation{'s' if counts[row] > 1 else ''} left out"
        problems.append(Problem(table.images.name(row), f"image {table.image_id[row]}", what))
    bad |= np.isin(table.image_row, list(broken_images))

    kept = np.flatnonzero(~bad & ~silent)
    labelled = labelled[kept]
    area = np.where(np.isfinite(table.area) & (table.area > 0), table.area, box_xywh[:, 2] * box_xywh[:, 3])[kept]
    instances = Instances(
        skeleton=table.skeleton,
        images=table.images,
        image_id=table.image_id,
        image_size=image_size,
        image_row=table.image_row[kept],
        annotation_id=table.annotation_id[kept],
        xy=np.where(labelled[..., None], xy[kept], np.float32(0)),
        visibility=visibility[kept].astype(np.uint8),
        box_xywh=box_xywh[kept],
        area=area.astype(np.float32),
        crowd=table.crowd[kept],
        source=table.source,
    )
    return instances, problems + [Problem(table.source, NOTE, note) for note in table.notes]


def without_notes(problems: Sequence[Problem]) -> list[Problem]:
    """What is wrong, without what was merely concluded."""
    return [problem for problem in problems if not problem.is_note]


def summary(problems: Sequence[Problem], shown: int = 3) -> str:
    """One line: the first few, and how many more."""
    lines = "; ".join(str(problem) for problem in problems[:shown])
    rest = len(problems) - shown
    return lines + (f"; and {rest} more" if rest > 0 else "")


def _with_boxes(table: Table, usable: np.ndarray) -> np.ndarray:
    """The boxes as given, and where none is given the points' own."""
    boxes = table.box_xywh.copy()
    for row in np.flatnonzero(np.isnan(boxes).all(1) & usable.any(1)):
        boxes[row] = geometry.box_of_points(table.keypoints[row, :, :2], usable[row], BOX_MARGIN)
    return boxes


def _outside(table: Table) -> np.ndarray:
    """[n] bool: the box shares no area with the picture. False where no size is declared."""
    result = np.zeros(len(table.image_row), bool)
    sizes = table.image_size[table.image_row]
    inside = (table.box_xywh[:, :2] >= 0).all(1) & (table.box_xywh[:, :2] < sizes).all(1)
    for row in np.flatnonzero(~inside & sizes.all(1)):  # few, so that the exact question may be asked one by one
        result[row] = geometry.box_overlap(table.box_xywh[row], Size(*sizes[row])) == 0
    return result


def _far_outside(table: Table) -> np.ndarray:
    """[n, k] bool: farther from the picture than `ABSURD` times its longest side. False where no size is declared."""
    longest = table.image_size[table.image_row].max(1).astype(np.float64)
    distance = np.abs(table.keypoints[..., :2]).max(-1)
    return (distance > (ABSURD + 1) * longest[:, None]) & (longest > 0)[:, None]


def _broken_pictures(table: Table, rows: np.ndarray, verify: bool, image_size: np.ndarray) -> dict[int, str]:
    """What is wrong with pictures, by image row; sizes that were not declared are filled into `image_size`."""
    images = table.images
    if not isinstance(images, FileImages):
        return {}
    # One listing a folder instead of one question a picture, and strings, since paths cost more than all the rest here.
    listings: dict[str, set[str]] = {}
    broken = {}
    for row in map(int, rows):
        folder, name = os.path.split(images.names[row])
        if folder not in listings:
            place = images.folder / folder
            listings[folder] = set(os.listdir(place)) if place.is_dir() else set()
        if name not in listings[folder]:
            broken[row] = "the picture is missing"
        elif verify:
            path = images.path(row)
            try:
                image_size[row] = _verified_size(path, images.declared_size(row))
            except UserError as error:
                broken[row] = error.about(path)
    return broken


def _verified_size(path: Path, declared: Size | None) -> Size:
    """The size of the picture as it will be read; UserError where it is cut short or not of the declared size."""
    header = file_header(path)
    if declared is None:
        return upright_size(path) if header is None else header.upright
    if header is None or declared == header.upright or keeps_stored(header, declared):
        return declared
    raise UserError(
        f"the picture is {header.upright}, but the annotations say {declared}; expected the one they were made on"
    )


def repeated(values: np.ndarray) -> list[int]:
    """Values that occur more than once."""
    return [value for value, count in Counter(values.tolist()).items() if count > 1]
