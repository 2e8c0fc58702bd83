"""WFLW's lists: a face a line, 98 x `x y`, the box's x_min y_min x_max y_max, six attributes, the picture's name.

A folder holds list_98pt_rect_attr_{train,test}.txt (also in its sub-folders) and WFLW_images/."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fiducial import geometry, text_files
from fiducial.data import skeletons
from fiducial.data.checking import Label, unchecked
from fiducial.data.formats import by_split, located, numbers
from fiducial.errors import UserError
from fiducial.types import Findings, Instances

TITLE = "WFLW: list_98pt_rect_attr_{train,test}.txt beside WFLW_images/"
_POINTS, _BOX, _ATTRIBUTES = 196, 4, 6


def find(path: Path) -> dict[str, list[Path]]:
    """The lists of each split."""
    if path.is_file():
        return by_split(path, [path]) if path.name.startswith("list_98pt") else {}
    return by_split(path, path.rglob("list_98pt_rect_attr_*.txt"))


def read(root: Path, files: Sequence[Path], images: Path | None, category: str | None, findings: Findings) -> Instances:
    """Several faces a picture; the annotation id is the line's number."""
    labels, rows = [], {}
    [file] = files
    findings.source = str(file)
    for number, line in enumerate(text_files.read_text(file).splitlines(), 1):
        fields = line.split(maxsplit=_POINTS + _BOX + _ATTRIBUTES)
        if not fields:
            continue
        try:
            if len(fields) != _POINTS + _BOX + _ATTRIBUTES + 1:
                raise ValueError(f"{len(fields)} fields, expected 207")
            values = numbers(fields[: _POINTS + _BOX])
        except ValueError as error:
            findings.add(f"line {number}", f"{error}; left out")
            continue
        xy = values[:_POINTS].reshape(-1, 2)
        row = rows.setdefault(fields[-1].strip(), len(rows))
        keypoints = np.column_stack([xy, np.full(len(xy), 2.0)])
        labels.append(Label(row, number, keypoints, geometry.box_from_corners(values[_POINTS:])))
    if not labels:
        raise UserError(f"{file}: no line of 207 fields; expected WFLW's list_98pt_rect_attr")
    names = list(rows)
    above = [
        parent for folder in (file.parent, *list(file.parents)[1:3]) for parent in (folder / "WFLW_images", folder)
    ]
    pictures = located(names, [images] if images else above, file, findings)
    return unchecked(labels, skeletons.WFLW98, pictures, str(file))
