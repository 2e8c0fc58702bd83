"""LaPa: {train,val,test}/{images,landmarks}, landmarks/NAME.txt = the number of points, then `x y` a line, in px."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fiducial import text_files
from fiducial.data.formats import SPLITS, one_instance_a_picture, parse_points, pictures_by_stem
from fiducial.errors import shown
from fiducial.types import Findings, Instances

TITLE = "LaPa: {train,val,test}/{images,landmarks}/"


def find(path: Path) -> dict[str, list[Path]]:
    """The landmark files of each split."""
    folders = {split: path / split for split in SPLITS if (path / split / "landmarks").is_dir()}
    if not folders and (path / "landmarks").is_dir():
        folders = {"train": path}
    found = {split: sorted((folder / "landmarks").glob("*.txt")) for split, folder in folders.items()}
    return {split: files for split, files in found.items() if files}


def read(root: Path, files: Sequence[Path], images: Path | None, category: str | None, findings: Findings) -> Instances:
    """One face a picture."""
    folder = images or files[0].parent.parent / "images"
    pictures = pictures_by_stem(folder)

    def picture_of(file: Path) -> Path | None:
        return folder / pictures[file.stem] if file.stem in pictures else None

    return one_instance_a_picture(files, picture_of, _points_of, root, "face", findings)


def _points_of(file: Path) -> np.ndarray:
    lines = text_files.read_text(file).strip().splitlines()
    stated = lines[0].strip() if lines else ""
    if not stated.isdecimal():
        raise ValueError(f"line 1 is {shown(stated)!r}, expected the number of points")
    points = parse_points(lines[1:], 2)
    if stated.lstrip("0") != str(len(points)):
        raise ValueError(f"{len(points)} points, but line 1 says {shown(stated)}")
    return points
