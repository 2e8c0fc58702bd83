"""Annotation formats, one file each, found here by `data/annotations.py`.

A format file has `TITLE` (for messages), `find(path) -> {split: [files]}` (empty = not this format; a source that
knows no splits is all "train") and `read(root, files, images, category, findings) -> Instances`. It only reads: the
columns are as they stand in the files, visibility as float and NaN for what is not there (`checking.unchecked` makes them
from single labels), and entries that can't be put into columns go to `findings`. What is wrong in an instance is judged
by `data/checking.py`, which split a picture belongs to by `data/annotations.py`. A file may have `why_not(path) -> str`: what
is missing in a source that looks like the format and isn't; and `find_last(path)`, as `find`, for what may be the format where
no other one fits. `image_fields(file)` gives what a file says of its images besides, as `data/image_fields.py` has it.

A format that is written, too, has `HOLDS` (what it can say), and either `ENDING` and `write_file(instances, file, placing)`,
with `FILES` where a folder's files of several splits are called otherwise than {split}ENDING, or
`write_folder({split: instances}, placing)`. Both give a line for each kind of thing that was lost and `HOLDS` doesn't tell.
`NAME` is what it is called by where that is not the module's name."""

from __future__ import annotations

import importlib
import math
import os
import pkgutil
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from fiducial.data import skeletons
from fiducial.data.checking import FARTHEST_PX, Label, summary, unchecked
from fiducial.data.file_names import Folder, listing
from fiducial.data.images import ENDINGS, FileImages
from fiducial.errors import UserError, shown
from fiducial.types import Findings, Instances

SPLITS = ("train", "val", "test")


def modules() -> list[ModuleType]:
    """Lists all formats: the files beside this one."""
    return [
        importlib.import_module(f"{__name__}.{name}")
        for name in sorted(each.name for each in pkgutil.iter_modules(__path__))
    ]


@dataclass(frozen=True, kw_only=True)
class Holds:
    """What a format can say, for conversions to tell what they lose."""

    several: bool = True  # instances on an image
    hidden: bool = False  # v = 1 apart from v = 2
    boxes: bool = False
    areas: bool = False
    pointless: bool = False  # crowds, and boxes without a labelled point
    unlabelled: bool = True  # images without an instance
    names: bool = True  # of points
    edges: bool = False
    pairs: bool = False
    sigmas: bool = False
    ids: bool = False
    tracks: bool = False  # who is who from frame to frame
    splits: bool = True
    licences: bool = False


_WORDS = {
    "train": "train",
    "training": "train",
    "trainset": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
    "testset": "test",
}


def split_in_name(name: str) -> str | None:
    """The split that a file's or folder's name speaks of (`person_keypoints_val2017`, `testset`), None for none or
    two."""
    words = re.findall(r"[a-z]+", name.lower())
    found = {_WORDS[word] for word in words if word in _WORDS}
    return found.pop() if len(found) == 1 else None


def by_split(path: Path, files: Iterable[Path]) -> dict[str, list[Path]]:
    """Files under the split their name speaks of, nameless ones under "train". Raises UserError where a split has two."""
    result: dict[str, list[Path]] = {}
    for file in sorted(files):
        result.setdefault(split_in_name(file.stem) or "train", []).append(file)
    for split, several in result.items():
        if len(several) > 1:
            names = shown(", ".join(os.path.relpath(file, path) for file in several))
            raise UserError(path, f"several annotation files for split {split!r}: {names}; give one of them")
    return result


def pictures_by_stem(folder: Path) -> dict[str, str]:
    """{name without suffix: file name} of the pictures in a folder."""
    if not os.path.isdir(folder):
        raise UserError(folder, "no such folder of pictures; name it with --images")
    return {file.stem: file.name for file in sorted(map(Path, listing(folder))) if file.suffix.lower() in ENDINGS}


def located(
    names: Sequence[str],
    candidates: Sequence[Path],
    source: Path,
    findings: Findings,
    declared: np.ndarray | None = None,
) -> FileImages:
    """Finds the pictures of a file: in the folder that holds most of them, the first of several.

    Names that aren't there as they stand (another machine's paths, another system's spelling) are found by the longest
    end of their path that is there, which is noted, unless two of them would be one file. Raises UserError where there is none,
    or none is found."""
    if not names:
        raise UserError(source, "holds no images; expected images with labelled points, export it again")
    folders = [Folder(candidate) for candidate in dict.fromkeys(candidates)]
    parts = [os.path.split(name) for name in names]
    best, most = folders[0], -1
    for folder in folders:
        count = folder.count(parts)
        if count > most:
            best, most = folder, count
        if count == len(names):
            break
    if most == 0:
        best = max(folders, key=lambda folder: sum(folder.find(name) is not None for name in names))
    found = names if most == len(names) else [best.find(name) for name in names]
    if not any(found):
        looked = ", ".join(str(folder.path) for folder in folders)
        raise UserError(
            source,
            f"its pictures such as {shown(names[0])} were not found; looked in {looked}; name their folder with --images",
        )
    owners = Counter(file for _, file in set(zip(names, found, strict=True)))
    files = [
        name if file is None or (file != name and owners[file] > 1) else file
        for name, file in zip(names, found, strict=True)
    ]
    moved = [(name, file) for name, file in zip(names, files, strict=True) if name != file]
    if moved:
        first, there = moved[0]
        findings.note(
            f"{len(moved)} of {len(names)} images are not where their names say: found in {best.path} by the end of the "
            f"name, {first!r} as {there!r}"
        )
    return FileImages(best.path, files, declared)


def numbers(fields: Sequence[str]) -> np.ndarray:
    """Parses [n] float64, "nan" too. Raises ValueError for other words, and for what no image's coordinate can be."""
    try:
        values = np.array(fields, dtype=np.float64)
    except ValueError:
        values = np.array([np.inf])
    if not (np.abs(values[~np.isnan(values)]) <= FARTHEST_PX).all():
        word = next(field for field in fields if not _is_coordinate(field))
        raise ValueError(f"{shown(word)!r} is none of the numbers that were expected")
    return values


def _is_coordinate(field: str) -> bool:
    try:
        return not abs(float(field)) > FARTHEST_PX
    except ValueError:
        return False


def parse_points(lines: Sequence[str], first_line: int) -> np.ndarray:
    """Parses lines of `x y` as [k, 3] (x, y, v): v is 2, or 0 where a coordinate is "nan". Raises ValueError with the
    line's number (`first_line` is the number of lines[0])."""
    rows = []
    for number, line in enumerate(lines, first_line):
        try:
            x, y = numbers(line.replace(",", " ").split())
        except ValueError:
            raise ValueError(f"line {number} is {shown(line.strip())!r}, expected two numbers") from None
        rows.append((x, y, 0 if math.isnan(x) or math.isnan(y) else 2))
    if not rows:
        raise ValueError("no points")
    return np.array(rows, dtype=np.float64)


def one_instance_a_picture(
    files: Sequence[Path],
    picture_of: Callable[[Path], Path | None],
    points_of: Callable[[Path], np.ndarray],
    root: Path,
    name: str,
    findings: Findings,
) -> Instances:
    """Reads formats with one text file a picture, which is one instance of as many points as most of them have.

    `points_of(file)` returns [k, 3] px or raises ValueError saying what is wrong."""
    sound: list[tuple[int, Path, np.ndarray]] = []
    for number, file in enumerate(files):
        picture = picture_of(file)
        try:
            if picture is None:
                raise ValueError("no picture of the same name; expected one beside, or name the folder with --images")
            sound.append((number, picture, points_of(file)))
        except ValueError as error:
            what = error.about(file) if isinstance(error, UserError) else str(error)
            findings.add("", f"{what}; left out", str(file))
    if not sound:
        raise UserError(f"{root}: none of its {len(files)} files could be used: {summary(findings.wrong)}")
    [(count, _)] = Counter(len(keypoints) for _, _, keypoints in sound).most_common(1)
    labels, names = [], []
    for number, picture, keypoints in sound:
        if len(keypoints) != count:
            findings.add("", f"{len(keypoints)} points, expected {count} as in most; left out", str(files[number]))
            continue
        labels.append(Label(len(names), number, keypoints))
        names.append(os.path.relpath(picture, root))
    known = skeletons.match_count(count)
    skeleton = known or skeletons.complete(name, skeletons.numbered(count), where=str(root))[0]
    return unchecked(labels, skeleton, FileImages(root, names), str(root))
