"""CSV with a picture a row and columns x, y, x, y, ..: Kaggle's Facial Keypoints, Udacity's, PyTorch's tutorial's.

One column names the picture (the first, or one called image, image_name, file_name, ..) or, as Kaggle has it, holds its
grey pixels as numbers with blanks between, a square. Points are named by columns like `nose_tip_x`, `nose_tip_y`; an
empty cell is a missing point."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fiducial.data import skeletons
from fiducial.data.checking import Label, summary, unchecked
from fiducial.data.formats import by_split, folder_with, split_in_name
from fiducial.data.images import ArrayImages, FileImages
from fiducial.errors import UserError
from fiducial.types import Findings, Instances

TITLE = "CSV: a picture's name (or pixels) and x, y columns a row"
_NAME_COLUMNS = ("", "image", "image_name", "image_path", "file", "file_name", "filename", "path", "name")


def find(path: Path) -> dict[str, list[Path]]:
    """The CSV files of each split."""
    files = [path] if path.suffix.lower() == ".csv" and path.is_file() else sorted(path.glob("*.csv"))
    files = [file for file in files if _columns(_header(file)) is not None]
    found = by_split(files)
    for split, several in found.items():
        if len(several) > 1:
            names = ", ".join(file.name for file in several)
            raise UserError(f"{path}: several CSV files for split {split!r}: {names}; give one of them")
    return found


def read(root: Path, files: Sequence[Path], images: Path | None, category: str | None, findings: Findings) -> Instances:
    """One instance a row; the annotation id is the row's line number, the header being line 1."""
    [file] = files
    findings.source = str(file)
    columns = _columns(_header(file))
    assert columns is not None  # `find` offered the file
    picture_column, coordinates, points = columns
    labels = []
    names: dict[str, int] = {}
    pixels: list[np.ndarray] = []
    csv.field_size_limit(2**24)
    with open(file, newline="", encoding="utf-8-sig") as handle:
        for number, row in enumerate(csv.reader(handle), 1):
            if number == 1 or not row:
                continue
            try:
                if len(row) <= max(picture_column, *coordinates):
                    raise ValueError(f"{len(row)} cells, expected {max(picture_column, *coordinates) + 1}")
                keypoints, cell = _keypoints(row, coordinates), row[picture_column].strip()
                if pixels or (not names and _is_pixels(cell)):
                    pixels.append(_pixels(cell))
                    image_row = len(pixels) - 1
                else:
                    image_row = names.setdefault(cell, len(names))
            except ValueError as error:
                findings.add(f"line {number}", f"{error}; left out")
                continue
            labels.append(Label(image_row, number, keypoints))
    if not labels:
        reason = f": {summary(findings.wrong)}" if findings.wrong else ""
        raise UserError(f"{file}: no row could be used, expected a picture and x, y numbers a row{reason}")
    count = len(coordinates) // 2
    skeleton, notes = skeletons.complete("points", points or skeletons.numbered(count), where=str(file))
    findings.note(*notes)
    if pixels:
        size = np.array([array.shape[::-1] for array in pixels], dtype=np.int32)
        held = ArrayImages(pixels, str(file))
        return unchecked(labels, skeleton, held, str(file), size)
    split = split_in_name(file.stem) or ""
    folders = {"train": "training", "val": "validation"}
    beside = [file.parent / name for name in (split, folders.get(split, split), "images", "")]
    filed = FileImages(folder_with(list(names), [images] if images else beside, file), list(names))
    return unchecked(labels, skeleton, filed, str(file))


def _header(file: Path) -> list[str]:
    try:
        with open(file, newline="", encoding="utf-8-sig") as handle:
            return next(csv.reader(handle), [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file}: can't be read as CSV: {error}; save it as UTF-8 with commas") from error


def _columns(header: Sequence[str]) -> tuple[int, list[int], list[str] | None] | None:
    """The picture's column, the columns of x, y, x, y, .. and the points' names (None = no names); None if the header
    is none of ours."""
    lower = [name.strip().lower() for name in header]
    named = [i for i, name in enumerate(lower) if name in _NAME_COLUMNS]
    if not named:
        return None
    picture = named[0]
    rest = [i for i in range(len(header)) if i != picture]
    stems = [lower[i].rpartition("_") for i in rest]
    pairs = list(zip(rest[::2], rest[1::2], strict=False))
    if not pairs or len(rest) % 2:
        return None
    if [end for _, _, end in stems] == ["x", "y"] * len(pairs):
        return picture, rest, [header[x].strip().rpartition("_")[0] for x, _ in pairs]
    if [lower[i] for i in rest] == [str(i) for i in range(len(rest))]:
        return picture, rest, None
    return None


def _keypoints(row: Sequence[str], columns: Sequence[int]) -> np.ndarray:
    """[k, 3]; a point with an empty or NaN cell has v = 0."""
    try:
        values = np.array([float(row[i]) if row[i].strip() else math.nan for i in columns]).reshape(-1, 2)
    except ValueError as error:
        raise ValueError(f"{error}; expected a coordinate or an empty cell") from None
    missing = np.isnan(values).any(1)
    return np.column_stack([values, np.where(missing, 0.0, 2.0)])


def _is_pixels(cell: str) -> bool:
    return cell[:1].isdigit() and cell[:16].replace(" ", "").isdigit() and cell.count(" ") > 2


def _pixels(cell: str) -> np.ndarray:
    values = np.array(cell.split(), dtype=np.int64)
    side = math.isqrt(len(values))
    if side * side != len(values) or values.min() < 0 or values.max() > 255:
        raise ValueError(f"{len(values)} pixels from {values.min()} to {values.max()}, expected a square of 0 to 255")
    return values.astype(np.uint8).reshape(side, side)
