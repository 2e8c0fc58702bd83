"""CSV with a picture a row and a column for each coordinate: Kaggle's Facial Keypoints, Udacity's, PyTorch's tutorial's,
and tables as pandas and people write them.

One column names the picture (image, image_name, file_name, .., else a first one without a name) or, as Kaggle has it, holds
its grey pixels as numbers with blanks between, a square. Points are named by columns like `tip_x`, `tip_y`, and `tip_v`
where there is a visibility (`tip.x`, `x_tip` and `x0` as well), or are x, y, x, y under the numbers 0, 1, 2, 3. An empty
cell, or NA, is a missing point. Columns that are none of this are passed over, which is noted. Cells are parted by commas,
semicolons or tabs."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fiducial.data import csv_rows, skeletons
from fiducial.data.checking import Label, summary, unchecked
from fiducial.data.formats import Holds, by_split, located, numbers, split_in_name
from fiducial.data.images import ArrayImages
from fiducial.data.placing import Placing
from fiducial.errors import UserError, shown
from fiducial.types import Findings, Instances

TITLE = "CSV: a picture's name (or pixels) and x, y columns a row"
_NAME_COLUMNS = ("image", "image_name", "image_path", "img", "file", "file_name", "filename", "path", "name")
NAME = "csv"
ENDING = ".csv"
HOLDS = Holds(hidden=True, unlabelled=False)
_UNNAMED = ("", "unnamed: 0")  # what pandas makes of an index
_AXIS = r"(?P<axis>x|y|v|vis|visible|visibility)"
_NAMES = (
    re.compile(rf"(?P<stem>.+?)[ _.:-]+{_AXIS}", re.I),
    re.compile(rf"{_AXIS}(?:[ _.:-]+|(?=\d))(?P<stem>.+)", re.I),
)
LONGEST_NAME = 200  # of a column, in characters
_BOX = ("min", "max", "bbox", "box")  # x_min and bbox_x are no points


class _Columns(NamedTuple):
    """Which column of a table is what."""

    width: int
    picture: int
    xyv: Sequence[tuple[int, int, int | None]]  # of each point
    points: list[str] | None  # None = they have no names
    passed_over: list[str]


def find(path: Path) -> dict[str, list[Path]]:
    """The CSV files of each split."""
    return by_split(path, (file for file in _files(path) if _columns(_header(file)) is not None))


def why_not(path: Path) -> str:
    """Says what is missing in tables that are no annotations; "" where there are none."""
    for file in _files(path):
        names = shown(", ".join(_header(file)))
        return f"{file}: its columns are {names}; expected `image` and NAME_x, NAME_y for each point in the first line"
    return ""


def read(root: Path, files: Sequence[Path], images: Path | None, category: str | None, findings: Findings) -> Instances:
    """One instance a row; the annotation id is the row's line number, the header being line 1."""
    [file] = files
    findings.source = str(file)
    columns = _columns(_header(file))
    assert columns is not None  # `find` offered the file
    if columns.passed_over:
        findings.note(f"columns that are no coordinates are passed over: {shown(', '.join(columns.passed_over))}")
    labels = []
    names: dict[str, int] = {}
    pixels: list[np.ndarray] = []
    for number, row in enumerate(csv_rows.rows(file), 1):
        if number == 1 or not any(row):
            continue
        try:
            if len(row) < columns.width or any(row[columns.width :]):
                raise ValueError(f"{len(row)} cells, expected {columns.width}")
            keypoints, cell = _keypoints(row, columns), row[columns.picture].strip()
            if not cell:
                raise ValueError("the cell of its picture is empty")
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
        raise UserError(file, f"no row could be used, expected a picture and x, y numbers a row{reason}")
    points = columns.points or skeletons.numbered(len(columns.xyv))
    skeleton, notes = skeletons.complete("points", points, where=str(file))
    findings.note(*notes)
    if pixels:
        size = np.array([array.shape[::-1] for array in pixels], dtype=np.int32)
        return unchecked(labels, skeleton, ArrayImages(pixels, str(file)), str(file), size)
    split = split_in_name(file.stem) or ""
    folders = {"train": "training", "val": "validation"}
    beside = [file.parent / name for name in (split, folders.get(split, split), "images", "")]
    return unchecked(labels, skeleton, located(list(names), [images] if images else beside, file, findings), str(file))


def _files(path: Path) -> list[Path]:
    return [path] if path.suffix.lower() == ".csv" and path.is_file() else sorted(path.glob("*.csv"))


def _header(file: Path) -> list[str]:
    return next(csv_rows.rows(file), [])


def _columns(header: Sequence[str]) -> _Columns | None:
    """Finds what the columns are; None where there is no picture or no point."""
    names = [name.strip() for name in header]
    lower = [name.lower() for name in names]
    picture = next((i for i, name in enumerate(lower) if name in _NAME_COLUMNS), None)
    if picture is None:
        picture = next((i for i, name in enumerate(lower) if name in _UNNAMED), None)
    if picture is None:
        return None
    rest = [i for i in range(len(names)) if i != picture]
    if rest and len(rest) % 2 == 0 and [lower[i] for i in rest] == [str(i) for i in range(len(rest))]:
        pairs = [(x, y, None) for x, y in zip(rest[::2], rest[1::2], strict=True)]
        return _Columns(len(names), picture, pairs, None, [])
    for pattern in _NAMES:
        axes: dict[str, dict[str, int]] = {}
        for i in rest:
            found = pattern.fullmatch(names[i][:LONGEST_NAME])
            if found and found["stem"].lower() not in _BOX:
                axes.setdefault(found["stem"], {}).setdefault(found["axis"].lower()[0], i)
        whole = {stem: place for stem, place in axes.items() if "x" in place and "y" in place}
        if not whole or list(whole) == ["1", "2"]:  # x1, y1, x2, y2 alone are the corners of a box
            continue
        used = {i for place in whole.values() for i in place.values()}
        over = [names[i] or f"[{i}]" for i in rest if i not in used]
        xyv = [(place["x"], place["y"], place.get("v")) for place in whole.values()]
        points = None if all(stem.isdecimal() for stem in whole) else list(whole)
        return _Columns(len(names), picture, xyv, points, over)
    return None


def _keypoints(row: Sequence[str], columns: _Columns) -> np.ndarray:
    """[k, 3]; a point with an empty or NaN cell has v = 0."""
    points = [[math.nan if i is None else _number(row[i]) for i in place] for place in columns.xyv]
    values = np.array(points, dtype=np.float64)
    missing = np.isnan(values[:, :2]).any(1)
    values[np.isnan(values[:, 2]), 2] = 2
    values[missing, 2] = 0
    return values


def _number(cell: str) -> float:
    if cell.strip().lower() in csv_rows.MISSING:
        return math.nan
    return float(numbers([cell])[0])


def _is_pixels(cell: str) -> bool:
    return cell[:1].isdigit() and cell[:16].replace(" ", "").isdigit() and cell.count(" ") > 2


def _pixels(cell: str) -> np.ndarray:
    try:
        values = np.array(cell.split(), dtype=np.int64)
    except (ValueError, OverflowError):
        raise ValueError(f"its pixels {shown(cell)!r} are no whole numbers of 0 to 255") from None
    side = math.isqrt(len(values))
    if side * side != len(values) or values.min() < 0 or values.max() > 255:
        raise ValueError(f"{len(values)} pixels from {values.min()} to {values.max()}, expected a square of 0 to 255")
    return values.astype(np.uint8).reshape(side, side)


def write_file(instances: Instances, file: Path, placing: Placing) -> list[str]:
    """Writes a row an instance: `image`, and NAME_x, NAME_y, NAME_v of each point; the cells of a missing point are empty."""
    header = ["image", *(f"{name}_{axis}" for name in instances.skeleton.points for axis in "xyv")]
    rows = []
    for row in np.flatnonzero(instances.labelled.any(1)).tolist():
        cells = [placing.refer(instances.images, int(instances.image_row[row]))]
        for (x, y), v in zip(instances.xy[row].tolist(), instances.visibility[row].tolist(), strict=True):
            cells += [f"{x:.3f}", f"{y:.3f}", str(v)] if v else ["", "", "0"]
        rows.append(cells)
    csv_rows.write(file, [header, *rows])
    return []
