"""MPII's human pose as it is published: mpii_human_pose_v1_u12_1.mat, MATLAB's struct RELEASE, beside images/.

`annolist` has an entry an image: its name and `annorect`, the people on it, each with `annopoints.point` (id, x, y,
is_visible), and with `objpos` and `scale`, of which the square box is made as in `mpii.py`. Coordinates are MATLAB's, so
that the centre of the first pixel is (1, 1). `is_visible` 0 is a hidden joint that was set all the same (v = 1); heads have
none and are visible. Images are frames of videos, `vididx`. `img_train` 0 marks the images whose joints are kept for MPII's own evaluation."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import geometry, trial
from fiducial.data import skeletons
from fiducial.data.checking import FARTHEST_PX, Label, summary, unchecked
from fiducial.data.formats import located, mpii
from fiducial.errors import UserError, shown
from fiducial.types import Findings, Instances

TITLE = "MPII as published: mpii_human_pose_v1_u12_1.mat beside images/"
STRUCT = "RELEASE"
SIGNATURE = b"MATLAB 5.0 MAT-file"
START_SECONDS = 10  # of CPU, that all of MPII takes
TRAIN, TEST = "train", "test"


@dataclass
class _Release:
    """What a file says: the labelled people, n of them."""

    images: list[str] = field(default_factory=list)  # [n] names
    numbers: list[int] = field(default_factory=list)  # [n] the person's place among all, from 1
    keypoints: list[np.ndarray] = field(default_factory=list)  # [n][16, 3] px, v
    boxes: list[np.ndarray | None] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    videos: dict[str, str] = field(default_factory=dict)  # of images by their names
    wrong: list[tuple[str, str]] = field(default_factory=list)  # where and what
    bare: int = 0  # people without joints
    heads: int = 0  # boxes of heads


def find(path: Path) -> dict[str, list[Path]]:
    """The file, and the split by which its images are chosen: test only where such images have joints."""
    for file in _files(path):
        if (release := _release(file)) is not None:
            return {split: [file, Path(split)] for split in (TRAIN, TEST) if split in release.splits} or {
                TRAIN: [file, Path(TRAIN)]
            }
    return {}


def why_not(path: Path) -> str:
    """Says what is missing in a file of MATLAB's; "" where there is none."""
    for file in _files(path):
        return f"{file}: holds no struct {STRUCT} with an annolist; expected MPII's mpii_human_pose_v1_u12_1.mat"
    return ""


def _files(path: Path) -> list[Path]:
    """A file of MATLAB's, or those of a folder that are called after MPII."""
    files = [path] if path.is_file() else [file for file in sorted(path.glob("*.mat")) if "mpii" in file.name.lower()]
    return [file for file in files if is_one(file)]


def is_one(file: Path) -> bool:
    """Tells by name and first bytes whether a file is MATLAB's, before its version 7.3."""
    try:
        if not (file.suffix.lower() == ".mat" and file.is_file()):
            return False
        with file.open("rb") as opened:
            return opened.read(len(SIGNATURE)) == SIGNATURE
    except (OSError, ValueError):
        return False


def read(root: Path, files: Sequence[Path], images: Path | None, category: str | None, findings: Findings) -> Instances:
    """One instance for each person with a joint; the annotation id is its place among all people, from 1."""
    file, split = files
    findings.source = str(file)
    release = _release(file)
    assert release is not None  # `find` offered the file
    for where, what in release.wrong:
        findings.add(where, what)
    chosen = [place for place, own in enumerate(release.splits) if own == split.name]
    if not chosen:
        reason = summary(findings.wrong) or f"{release.bare} people have no joint"
        raise UserError(file, f"none of its people could be used: {reason}")
    if release.bare:
        findings.note(f"{release.bare} people have no joint set, as in the images that MPII keeps for its own test")
    if release.heads:
        findings.note(f"{release.heads} boxes of heads (x1, y1, x2, y2), by which PCKh is measured: not read")
    rows: dict[str, int] = {}
    labels = [
        Label(
            rows.setdefault(release.images[place], len(rows)),
            release.numbers[place],
            release.keypoints[place],
            release.boxes[place],
        )
        for place in chosen
    ]
    skeleton, notes = skeletons.complete("mpii16", mpii.POINTS, where=str(file), edges=mpii.EDGES)
    findings.note(*notes)
    home = file.parent
    folders = [images] if images else [home / "images", home, home.parent / "images"]
    return unchecked(labels, skeleton, located(list(rows), folders, file, findings), str(file))


def image_fields(file: Path) -> list[dict[str, Any]]:
    """Gives the name and the video of each image; nothing for a file that is not MPII's."""
    release = _release(file) if is_one(file) else None
    videos = {} if release is None else release.videos
    return [{"file_name": name, "video": video} for name, video in videos.items()]


def _release(file: Path) -> _Release | None:
    """What a file says; None where it has no such struct. Tried in a process of its own first."""
    _scipy()
    trial.passes(f"{__name__}:read_once", str(file), [file], START_SECONDS)
    about = file.stat()
    return _read(file, about.st_mtime_ns, about.st_size)


def read_once(file: str) -> Iterator[Any]:
    """Reads a file: the task of its trial."""
    _read(Path(file), 0, 0)
    yield "read"


def _scipy() -> Any:
    try:
        return importlib.import_module("scipy.io")
    except ModuleNotFoundError as error:
        raise UserError("scipy is not installed, which MATLAB's files need: pip install 'fiducial[formats]'") from error


@lru_cache(4)
def _read(file: Path, time: int, size: int) -> _Release | None:
    """Reads a file, once for each of its versions."""
    try:
        found = _scipy().loadmat(file, struct_as_record=True, variable_names=[STRUCT])
    except Exception as error:  # scipy's own, zlib's, and those of what damaged numbers lead to
        what = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(file, f"is no file of MATLAB's that can be read ({what}); get it anew") from error
    holder = next(iter(_structs(found.get(STRUCT))), None)
    entries = _structs(_of(holder, "annolist"))
    if not entries:
        return None
    flags = np.asarray(_of(holder, "img_train")).ravel()
    release, number = _Release(), 0
    for place, entry in enumerate(entries, 1):
        people = _structs(_of(entry, "annorect"))
        name = next((_text(_of(image, "name")) for image in _structs(_of(entry, "image"))), "")
        flag = _number(flags[place - 1]) if place <= len(flags) else 1
        video = _number(_of(entry, "vididx"))
        if name and video is not None:
            release.videos[name] = f"{video:g}"
        for person in people:
            number += 1
            release.heads += all(_number(_of(person, side)) is not None for side in ("x1", "y1", "x2", "y2"))
            joints = [joint for held in _structs(_of(person, "annopoints")) for joint in _structs(_of(held, "point"))]
            if not joints:
                release.bare += 1
                continue
            try:
                if not name:
                    raise ValueError("its image has no name")
                keypoints = _keypoints(joints)
            except ValueError as error:
                release.wrong.append((f"annolist {place}, person {number}", f"{error}; left out"))
                continue
            release.images.append(name)
            release.numbers.append(number)
            release.keypoints.append(keypoints)
            release.boxes.append(_box(person))
            release.splits.append(TEST if flag == 0 else TRAIN)
    return release


def _keypoints(joints: Sequence[Any]) -> np.ndarray:
    """[16, 3] px and v. Raises ValueError."""
    keypoints = np.zeros((len(mpii.POINTS), 3))
    for joint in joints:
        values = [_number(_of(joint, name)) for name in ("id", "x", "y")]
        number, x, y = values
        if number is None or x is None or y is None:
            raise ValueError(f"a joint is {shown(values)}, expected numbers for id, x and y")
        if not (number.is_integer() and 0 <= number < len(mpii.POINTS)):
            raise ValueError(f"a joint has id {number:g}, expected 0 to {len(mpii.POINTS) - 1}")
        if keypoints[int(number), 2]:
            raise ValueError(f"two joints have id {number:g}")
        [xy] = geometry.transform(mpii.FROM_ONE_BASED, np.array([[x, y]]))
        keypoints[int(number)] = [*xy, 1 if _number(_of(joint, "is_visible")) == 0 else 2]
    return keypoints


def _box(person: Any) -> np.ndarray | None:
    centre = [[_number(_of(place, axis)) for axis in "xy"] for place in _structs(_of(person, "objpos"))]
    return mpii.box_of(centre[0], _number(_of(person, "scale"))) if centre else None


def _structs(value: Any) -> list[Any]:
    """The entries of an array of structs; none of anything else, as of the empty arrays that stand for none."""
    return list(value.ravel()) if isinstance(value, np.ndarray) and value.dtype.names else []


def _of(struct: Any, name: str) -> Any:
    """A field; None where a struct has none of that name."""
    return struct[name] if struct is not None and name in (struct.dtype.names or ()) else None


def _number(value: Any) -> float | None:
    """The only number of an array, also as text; None for what is empty, more, none, or no image's."""
    array = np.asarray(value).ravel()
    if array.size != 1:
        return None
    try:
        number = float(array[0])
    except (TypeError, ValueError):
        return None
    return number if abs(number) <= FARTHEST_PX else None


def _text(value: Any) -> str:
    array = np.asarray(value).ravel()
    return str(array[0]) if array.size == 1 and array.dtype.kind == "U" else ""
