"""What clips come from: videos, GIFs, folders of frames, still pictures, the boxes of a labelled set. Each gives its
pictures cut to the network's input, one after the other, and says why it ended early."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fiducial.data import annotations, crops, formats, images, video
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.types import Instances, Problem


class Source(NamedTuple):
    """Where a clip's frames come from."""

    name: str  # below DATA
    split: str | None  # that a folder above it speaks of
    pictures: Callable[[], Generator[np.ndarray, None, str]]  # crops; returns why it ended early, "" where it did not


def files_of(path: Path, without: Path | None = None) -> list[Path]:
    """A file itself, or the files in a folder by the numbers in their names; none that are hidden, or in a folder
    `without` below it."""
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if path.is_file():
        return [path]
    files = [file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")]
    if without is not None and path.resolve() in without.resolve().parents:
        files = [file for file in files if without.resolve() not in file.resolve().parents]
    return sorted(files, key=natural_order)


def natural_order(path: Path) -> tuple[object, ...]:
    """A key that sorts frame10 after frame9."""
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.as_posix()))


def find(
    path: Path, files: list[Path], size: Size, padding: float, frames: int, folder: Path | None, category: str | None
) -> tuple[list[Source], list[Problem]]:
    """The clips of DATA, by name, and what is wrong with annotations in it. UserError where there are none."""
    labelled = annotations.is_labelled(path)
    found, problems = _of_labelled(path, size, padding, folder, category) if labelled else ([], [])
    if not labelled and (folder is not None or category is not None):
        option = "--category" if folder is None else "--images"
        raise UserError(f"{option}: is about annotations, and {path} has none; leave it out")
    found += [_of_video(file, path, size, frames) for file in files if file.suffix.lower() in video.SUFFIXES]
    if not labelled:
        pictures = [file for file in files if file.suffix in images.SUFFIXES]
        found += [_of_files([file], path, size, frames) for file in pictures if path in (file, file.parent)]
        folders: dict[Path, list[Path]] = {}
        for file in pictures:
            if path not in (file, file.parent):
                folders.setdefault(file.parent, []).append(file)
        found += [_of_files(some, path, size, frames) for some in folders.values()]
    if not found:
        kinds = ", ".join(sorted(video.SUFFIXES | {suffix.lower() for suffix in images.SUFFIXES}))
        raise UserError(f"{path}: no videos, folders of frames or pictures in it (looked for {kinds})")
    return found, problems


def _of_video(file: Path, root: Path, size: Size, frames: int) -> Source:
    def pictures() -> Generator[np.ndarray, None, str]:
        step = max(1, -(-video.declared_frames(file) // frames))
        number = kept = 0
        with closing(video.frames(file)) as decoded:
            while kept < frames:
                try:
                    image = next(decoded).image
                except StopIteration as end:
                    return f"ends after {number} frames: {end.value}" if end.value else ""
                if number % step == 0:
                    kept += 1
                    yield crops.cut(image, None, size, 1.0)[0][0]
                number += 1
        return ""

    name = file.name if root == file else file.relative_to(root).as_posix()
    return Source(name, _split_of(name), pictures)


def _of_files(files: list[Path], root: Path, size: Size, frames: int) -> Source:
    """A folder's pictures in the order of the numbers in their names, or one picture."""
    step = max(1, -(-len(files) // frames))

    def pictures() -> Generator[np.ndarray, None, str]:
        broken = []
        for file in files[::step]:
            try:
                image = images.read_image(file)
            except UserError as error:
                broken.append(str(error))
                continue
            yield crops.cut(image, None, size, 1.0)[0][0]
        return f"{len(broken)} pictures left out, first {broken[0]}" if broken else ""

    whole = files[0] if root in (files[0], files[0].parent) else files[0].parent
    name = whole.name if root == whole else whole.relative_to(root).as_posix()
    return Source(name, _split_of(name), pictures)


def _of_labelled(
    path: Path, size: Size, padding: float, folder: Path | None, category: str | None
) -> tuple[list[Source], list[Problem]]:
    """The boxes of a labelled set, each a still, and what is wrong with others."""
    found, problems = [], []
    own = annotations.find(path)[1]
    for split in [split for split in ("train", "val") if split in own or "train" in own]:
        instances, wrong = annotations.load(path, split, folder, category=category)
        problems += wrong

        def picture(row: int, of: Instances = instances) -> Generator[np.ndarray, None, str]:
            try:
                image = of.images.read(int(of.image_row[row]))
            except UserError as error:
                return str(error)
            yield crops.cut(image, of.box_xywh[row][None], size, padding)[0][0]
            return ""

        for row in np.flatnonzero(~instances.crowd).tolist():
            name = f"{split}/{instances.annotation_id[row]}"
            found.append(Source(name, split, lambda row=row, picture=picture: picture(row)))
    return found, problems


def _split_of(name: str) -> str | None:
    """What the folders above a clip say."""
    return next((split for part in Path(name).parts[:-1] if (split := formats.split_in_name(part))), None)
