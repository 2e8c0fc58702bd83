"""What clips are made of: videos, GIFs, folders of frames, still images, the boxes of a labelled set."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fiducial.data import annotations, formats, media, video
from fiducial.data.source import Source as DataSource
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.prediction import sources
from fiducial.prediction.sources import Frame, Source
from fiducial.types import Instances, Problem


@dataclass(frozen=True)
class ClipSource:
    """Says where a clip's frames come from."""

    name: str  # below DATA
    split: str | None  # that a folder above it speaks of
    frames: Callable[[], Iterator[Frame]]  # in order; what can't be read has a problem
    box_xywh: np.ndarray | None = None  # [1, 4] what is looked at; None = the whole frame


def files_of(path: Path, without: Path | None = None) -> list[Path]:
    """Lists a file itself, or the files in a folder by the numbers in their names: frame9 before frame10.

    Hidden files are left out, and those in the folder `without` where it lies below `path`."""
    if not path.exists():
        raise UserError(path, "no such file or folder")
    if path.is_file():
        return [path]
    files = [file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")]
    if without is not None and path.resolve() in without.resolve().parents:
        files = [file for file in files if without.resolve() not in file.resolve().parents]
    return sorted(files, key=_natural_order)


def sources_of(files: list[Path]) -> list[Source]:
    """Makes sources of images and videos, as `predict` reads them."""
    return [Source(file.name, file, media.kind_by_name(file) or media.kind_of(file)) for file in files]


def frames_of(found: list[Source], declared: Size | None = None) -> Generator[Frame, None, None]:
    """Reads images, or the frames of videos, one after the other. `declared`: the images' size by a file of boxes."""
    for source in found:
        yield from sources.frames(replace(source, declared=declared))


def find(data: DataSource, files: list[Path], most_frames: int) -> tuple[list[ClipSource], list[Problem]]:
    """Finds the clips of DATA and what is wrong with annotations in it; nothing is decoded.

    `files` are those of `files_of(data.path)`; a clip gives at most `most_frames`, evenly over it. UserError where there
    are no clips."""
    path = data.path
    labelled = annotations.is_labelled(path)
    clips, problems = _of_labelled(data) if labelled else ([], [])
    if not labelled and data.options():
        raise UserError(data.options()[0], f"is about annotations, and {path} has none; leave it out")
    if path.is_file() and not labelled:
        kinds = {path: media.kind_of(path)}
    else:
        kinds = {file: media.kind_by_name(file) for file in (files if labelled else media.among(files, path))}
    clips += [_of_video(file, path, most_frames) for file, kind in kinds.items() if kind == "video"]
    if not labelled:
        image_files = [file for file, kind in kinds.items() if kind == "image"]
        clips += [_of_images([file], path, most_frames) for file in image_files if path in (file, file.parent)]
        by_folder: dict[Path, list[Path]] = {}
        for file in image_files:
            if path not in (file, file.parent):
                by_folder.setdefault(file.parent, []).append(file)
        clips += [_of_images(in_folder, path, most_frames) for in_folder in by_folder.values()]
    if not clips:
        raise UserError(path, "no videos, folders of frames or images in it")
    return clips, problems


def _of_video(file: Path, root: Path, most: int) -> ClipSource:
    def frames() -> Iterator[Frame]:
        step = max(1, -(-video.declared_frames(file) // most))
        with closing(frames_of(sources_of([file]))) as decoded:
            for number, frame in enumerate(itertools.islice(decoded, step * (most - 1) + 1)):
                if number % step == 0 or frame.problem is not None:
                    yield frame

    name = file.name if root == file else file.relative_to(root).as_posix()
    return ClipSource(name, _split_of(name), frames)


def _of_images(files: list[Path], root: Path, most: int) -> ClipSource:
    """A folder's images in order, or one image."""
    step = max(1, -(-len(files) // most))
    whole = files[0] if root in (files[0], files[0].parent) else files[0].parent
    name = whole.name if root == whole else whole.relative_to(root).as_posix()
    return ClipSource(name, _split_of(name), lambda: frames_of(sources_of(files[::step])))


def _of_labelled(data: DataSource) -> tuple[list[ClipSource], list[Problem]]:
    """The boxes of a labelled set, each a still, and what is wrong with others."""
    clips, problems = [], []
    splits = annotations.find(data.path)[1]
    for split in [split for split in ("train", "val") if split in splits or "train" in splits]:
        instances, wrong = annotations.load(data, split)
        problems += wrong
        for row in np.flatnonzero(~instances.crowd).tolist():
            name, box_xywh = f"{split}/{instances.annotation_id[row]}", instances.box_xywh[row][None]
            clips.append(ClipSource(name, split, _still(name, instances, row), box_xywh))
    return clips, problems


def _still(name: str, instances: Instances, row: int) -> Callable[[], Iterator[Frame]]:
    def frames() -> Iterator[Frame]:
        try:
            yield Frame(name, instances.images.read(int(instances.image_row[row])))
        except UserError as error:
            yield Frame(name, None, error)

    return frames


def _split_of(name: str) -> str | None:
    """What the folders above a clip say."""
    return next((split for part in Path(name).parts[:-1] if (split := formats.split_in_name(part))), None)


def _natural_order(path: Path) -> tuple[object, ...]:
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.as_posix()))
