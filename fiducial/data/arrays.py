"""Labelled data that a program holds in arrays, as the readers' `Instances`: `Instances.of` and `Instances.read`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fiducial.data import annotations, checking, skeletons
from fiducial.data.images import read_image, upright_size
from fiducial.data.source import Source
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.log import logger
from fiducial.types import Findings, Images, Instances, Normalizer, Skeleton

SOURCE = "memory"  # what data of a program are called in messages


@dataclass(frozen=True)
class GivenImages:
    """Images of a program: arrays in memory, and files by their paths; implements `Images`."""

    items: Sequence[Any]

    def __len__(self) -> int:
        return len(self.items)

    def name(self, row: int) -> str:
        item = self.items[row]
        return str(item) if isinstance(item, Path) else f"images[{row}]"

    def read(self, row: int, reduce: int = 1) -> np.ndarray:
        item = self.items[row]
        return read_image(item, reduce) if isinstance(item, Path) else item


@dataclass(frozen=True)
class NoImages:
    """Images that nobody has: of points that are only measured."""

    count: int

    def __len__(self) -> int:
        return self.count

    def name(self, row: int) -> str:
        return f"images[{row}]"

    def read(self, row: int, reduce: int = 1) -> np.ndarray:
        raise UserError(self.name(row), "has no pixels: only its points were given; use Instances.of(images, xy)")


def instances_of(
    images: Sequence[Any],
    xy: Any,
    visibility: Any = None,
    boxes: Any = None,
    *,
    skeleton: Skeleton | None = None,
    names: Sequence[str] | None = None,
    flip_pairs: Sequence[tuple[int, int]] | None = None,
    image_row: Any = None,
    areas: Any = None,
    crowd: Any = None,
    sigmas: Sequence[float] | None = None,
    normalizer: str | tuple[int, int] | Normalizer | None = None,
) -> Instances:
    """Makes the labelled instances of arrays; row i of them is row i of the arrays.

    Args:
        images: uint8 RGB arrays [h, w, 3], which may differ in size, or paths of files.
        xy: [n, k, 2] px of the image; NaN where a point is not labelled.
        visibility: [n, k], 0 not labelled, 1 hidden, 2 visible, or bool [2 where xy is finite].
        boxes: [n, 4] x, y, width, height px, NaN for those to be made [of the points, enlarged by a tenth a side, as the
            readers do].
        skeleton: names the points and their pairs, or these do: `names` [a known face of as many points, else numbers],
            `flip_pairs` that change places in a mirror [those of the names, where they have left and right].
        image_row: [n] which image each instance is on [instance i on image i].
        areas: [n] px^2, which OKS divides by [the boxes']; crowd: [n] bool; sigmas: [k] of OKS.
        normalizer: what NME is divided by: box, image, interocular or the numbers of two points [the skeleton's].

    Raises UserError that names the argument, what it had and what was expected."""
    items = _images(images)
    sizes = np.array([_size(item, row) for row, item in enumerate(items)], np.int32).reshape(-1, 2)
    return labels_of(
        xy,
        visibility,
        boxes,
        images=GivenImages(items),
        image_size=sizes,
        skeleton=skeleton,
        names=names,
        flip_pairs=flip_pairs,
        image_row=image_row,
        areas=areas,
        crowd=crowd,
        sigmas=sigmas,
        normalizer=normalizer,
    )


def labels_of(
    xy: Any,
    visibility: Any,
    boxes: Any,
    *,
    images: Images,
    image_size: np.ndarray,
    image_row: Any = None,
    areas: Any = None,
    crowd: Any = None,
    skeleton: Skeleton | None = None,
    names: Sequence[str] | None = None,
    flip_pairs: Sequence[tuple[int, int]] | None = None,
    sigmas: Sequence[float] | None = None,
    normalizer: str | tuple[int, int] | Normalizer | None = None,
) -> Instances:
    """Does what `instances_of` does for images that were looked at already; image_size [m, 2], 0 = not known."""
    points = points_of(xy, "xy")
    count, k = points.shape[:2]
    if count == 0:
        raise UserError(
            "xy", f"holds no instances, its shape is {list(points.shape)}; expected [n, points, 2] with n above 0"
        )
    rows = _rows(image_row, count, len(images))
    seen = np.isfinite(points).all(-1)
    given = column(visibility, "visibility", (count, k), np.where(seen, 2.0, 0.0))
    given = np.where(given == True, 2.0, given) if np.asarray(visibility).dtype == bool else given  # noqa: E712
    box_xywh = column(boxes, "boxes", (count, 4), np.nan)
    empty = ~(given > 0).any(1) & np.isnan(box_xywh).all(1)
    if empty.any():
        raise UserError(
            "xy", f"row {int(np.argmax(empty))} has no labelled point and no box; leave it out or give boxes"
        )
    instances = Instances(
        skeleton=skeleton_of(k, skeleton, names, flip_pairs, sigmas, normalizer),
        images=images,
        image_id=np.arange(1, len(images) + 1),
        image_size=image_size,
        image_row=rows,
        annotation_id=np.arange(1, count + 1),
        xy=points.astype(np.float32),
        visibility=given.astype(np.float32),
        box_xywh=box_xywh.astype(np.float32),
        area=column(areas, "areas", (count,), np.nan).astype(np.float32),
        crowd=column(crowd, "crowd", (count,), 0.0).astype(bool),
        source=SOURCE,
    )
    findings = Findings(SOURCE)
    checked = checking.check(instances, findings, verify=False, ignored=True, pictures=False)
    if findings.wrong:
        wrong, more = findings.wrong[0], len(findings.wrong) - 1
        row = int(wrong.where.split()[-1]) - 1
        rest = f" (and {more} more)" if more else ""
        raise UserError(f"row {row} of xy, visibility and boxes", f"{wrong.what.removesuffix('; left out')}{rest}")
    for note in findings.notes:
        logger.warning(f"{SOURCE}: {note.what}")
    if boxes is None:
        logger.warning("boxes: made of the points, enlarged by a tenth of themselves on each side")
    return checked


def read(data: Any, split: str, images: Any = None, category: str | None = None) -> Instances:
    """Reads one split of annotations, with what evaluation ignores; says what was left out and assumed."""
    source = (
        data if isinstance(data, Source) else Source(Path(data), None if images is None else Path(images), category)
    )
    instances, problems = annotations.load(source, split, ignored=True)
    for problem in problems[:10]:
        logger.warning(str(problem))
    if len(problems) > 10:
        logger.warning(f".. and {len(problems) - 10} more")
    return instances


# ------------------------------------------------------------------------------------------------------- arguments


def points_of(xy: Any, name: str) -> np.ndarray:
    """Reads points [n, k, 2] of numbers as float64; UserError that names the argument for anything else."""
    points = _numbers(xy, name, "[n, points, 2]")
    if points.ndim != 3 or points.shape[2] != 2 or points.shape[1] == 0:
        raise UserError(
            name, f"has the shape {list(points.shape)}; expected [n, points, 2]: x and y in px of the image"
        )
    return points


def column(values: Any, name: str, shape: tuple[int, ...], missing: Any) -> np.ndarray:
    """Reads one argument of a known shape as float64; None gives `missing` everywhere."""
    if values is None:
        return np.broadcast_to(np.asarray(missing, np.float64), shape).copy()
    array = _numbers(values, name, str(list(shape)))
    if array.shape != shape:
        raise UserError(name, f"has the shape {list(array.shape)}; expected {list(shape)}, as xy has it")
    return array


def _numbers(values: Any, name: str, expected: str) -> np.ndarray:
    try:
        array = np.asarray(values)
        if array.dtype == object or array.dtype.kind not in "fiub":
            raise ValueError(f"holds {array.dtype}")
        return array.astype(np.float64)
    except ValueError as error:
        raise UserError(name, f"is no array of numbers {expected}: {error}") from error


def _rows(image_row: Any, count: int, images: int) -> np.ndarray:
    """[n] int64: the image of each instance."""
    if image_row is None:
        if images != count:
            raise UserError("images", f"{images} images for {count} rows of xy; expected as many, or image_row [n]")
        return np.arange(count)
    rows = column(image_row, "image_row", (count,), 0)
    if not ((rows >= 0) & (rows < images) & (rows == np.floor(rows))).all():
        raise UserError(
            "image_row", f"expected whole numbers from 0 to {images - 1}, one for each of the {count} instances"
        )
    return rows.astype(np.int64)


def _images(images: Any) -> list[Any]:
    if isinstance(images, (str, Path)) or not hasattr(images, "__len__"):
        raise UserError("images", f"expected a list of arrays or paths, got {type(images).__name__}")
    if len(images) == 0:
        raise UserError("images", "is empty; expected at least one image")
    return [Path(item) if isinstance(item, str) else item for item in images]


def _size(item: Any, row: int) -> Size:
    """The size of an image; UserError for what is none."""
    if isinstance(item, Path):
        if not item.is_file():
            raise UserError(f"images[{row}]", f"{item}: no such file")
        return upright_size(item)
    if (
        not isinstance(item, np.ndarray)
        or item.dtype != np.uint8
        or item.ndim != 3
        or item.shape[2] != 3
        or not item.size
    ):
        found = f"{item.dtype} {list(item.shape)}" if isinstance(item, np.ndarray) else type(item).__name__
        raise UserError(f"images[{row}]", f"expected uint8 RGB [height, width, 3] or a path, got {found}")
    return Size(item.shape[1], item.shape[0])


def skeleton_of(
    k: int,
    skeleton: Skeleton | None,
    names: Sequence[str] | None,
    flip_pairs: Sequence[tuple[int, int]] | None,
    sigmas: Sequence[float] | None,
    normalizer: str | tuple[int, int] | Normalizer | None,
) -> Skeleton:
    """Makes the skeleton of k points from what a program says of them, and says what it was taken for."""
    if skeleton is not None and not isinstance(skeleton, Skeleton):
        raise UserError(
            "skeleton", f"expected a Skeleton, got {type(skeleton).__name__}; or give names= and flip_pairs="
        )
    if skeleton is None:
        if names is not None and len(names) != k:
            raise UserError("names", f"{len(names)} names for {k} points of xy")
        if names is None and (known := skeletons.match_count(k)) is not None:
            logger.warning(f"names: none are given, so the {k} points are taken for those of {known.name}")
            skeleton = known
        else:
            names = skeletons.numbered(k) if names is None else names
            skeleton, said = skeletons.complete("points", names, where="names")
            for line in said:
                logger.warning(f"names: {line}")
    elif names is not None:
        raise UserError("names", "the skeleton has names; give one of the two")
    else:
        skeletons.refuse_names(skeleton.points, "skeleton")
    if len(skeleton.points) != k:
        raise UserError("skeleton", f"has {len(skeleton.points)} points, and xy has {k}")
    if flip_pairs is not None:
        skeleton = replace(skeleton, flip_pairs=tuple((int(a), int(b)) for a, b in flip_pairs))
    if sigmas is not None:
        skeleton = replace(skeleton, sigmas=tuple(float(value) for value in sigmas))
    return skeleton if normalizer is None else replace(skeleton, normalizer=_normalizer(normalizer, skeleton))


def _normalizer(normalizer: str | tuple[int, int] | Normalizer, skeleton: Skeleton) -> Normalizer:
    if isinstance(normalizer, Normalizer):
        return normalizer
    if normalizer in ("box", "image"):
        return Normalizer(str(normalizer), str(normalizer))
    if normalizer == "interocular":
        if skeleton.normalizer.kind == "points":
            return skeleton.normalizer
        raise UserError(
            "normalizer", f"the eyes of {skeleton.name!r} are not known; give the numbers of two points, (36, 45)"
        )
    if isinstance(normalizer, tuple) and len(normalizer) == 2:
        first, second = (int(value) for value in normalizer)
        return Normalizer("points", f"points {first} and {second}", (first, second))
    raise UserError("normalizer", f"{normalizer!r}: expected box, image, interocular or the numbers of two points")
