"""Videos, GIFs, folders of frames and still pictures as clips to learn from without labels: each frame is decoded once,
cut to the network's input as prediction cuts whole images, and kept in one file that processes share.

In DATA every video or GIF is a clip, and so is every folder in it that holds pictures; pictures in DATA itself, and the
boxes of a labelled set (whose labels are not used), are clips of one frame each."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fiducial import config
from fiducial.data import annotations, crops, formats, images, video
from fiducial.errors import UserError, did_you_mean
from fiducial.geometry import Size
from fiducial.types import Instances, Problem

FRAMES, INDEX = "frames.u8", "clips.json"


@dataclass(frozen=True)
class ClipSpec:
    """Which frames are used."""

    frames: int = 600  # of a clip at most, evenly over its length where the file says how long it is
    held_out: tuple[str, ...] = ()  # names of clips that are only scored; () = folders named val or test, else a fifth


class Source(NamedTuple):
    """Where a clip's frames come from."""

    name: str  # below DATA
    split: str | None  # that a folder above it speaks of
    pictures: Callable[[], Generator[np.ndarray, None, str]]  # crops; returns why it ended early, "" where it did not


@dataclass(frozen=True)
class Index:
    """What lies in a folder of prepared frames."""

    size: Size
    names: tuple[str, ...]
    counts: tuple[int, ...]  # frames of each clip
    held_out: tuple[bool, ...]
    asked: str  # changes with the sources and with how they are cut
    digest: str  # of all frames
    used: str  # a line for people
    problems: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True)
class Clips:
    """All frames, one clip after the other."""

    index: Index
    frames: np.ndarray = field(repr=False)  # uint8 RGB [n, h, w, 3], mapped from the file
    first: np.ndarray = field(repr=False)  # [c + 1] row of each clip's first frame; the last is n

    def rows(self, clip: int) -> range:
        return range(int(self.first[clip]), int(self.first[clip + 1]))

    def where(self, row: int) -> str:
        """Which frame that is, for messages."""
        clip = int(np.searchsorted(self.first, row, side="right")) - 1
        return f"{self.index.names[clip]}, frame {row - int(self.first[clip])}"

    def chosen(self, held_out: bool) -> list[int]:
        """The clips to learn from, or those to be scored."""
        return [clip for clip, out in enumerate(self.index.held_out) if out == held_out]

    @property
    def problems(self) -> list[Problem]:
        return [Problem(*entry) for entry in self.index.problems]


def prepare(path: Path, size: Size, padding: float, spec: ClipSpec, folder: Path) -> Clips:
    """The clips of DATA, made in `folder` or, where they are there already from the same sources, opened. UserError where
    nothing can be used."""
    found = sources(path, size, padding, spec.frames)
    asked = hashlib.sha256(repr((stamp_of(path), size, padding, config.to_dict(spec))).encode()).hexdigest()[:16]
    if (folder / INDEX).exists():
        index = config.from_dict(Index, config.read_json(folder / INDEX), str(folder / INDEX))
        if index.asked != asked:
            raise UserError(f"{folder}: was made from other videos or settings; resume with the same, or remove it")
    else:
        index = _write(found, size, spec, folder, asked, path)
    total = sum(index.counts)
    frames = np.memmap(folder / FRAMES, np.uint8, mode="r", shape=(total, size.h, size.w, 3))
    return Clips(index, frames, np.concatenate([[0], np.cumsum(index.counts)]))


def sources(path: Path, size: Size, padding: float, frames: int) -> list[Source]:
    """The clips of DATA, by name. UserError where there are none."""
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    labelled = any(module.find(path) for module in annotations.format_modules())
    found = list(_of_labelled(path, size, padding)) if labelled else []
    files = [path] if path.is_file() else sorted(path.rglob("*"), key=_natural)
    files = [file for file in files if file.is_file() and not file.name.startswith(".")]
    found += [_of_video(file, path, size, frames) for file in files if file.suffix.lower() in video.SUFFIXES]
    if not labelled:
        pictures = [file for file in files if file.suffix in images.SUFFIXES]
        found += [_of_files([file], path, size, frames) for file in pictures if path in (file, file.parent)]
        folders = {file.parent: None for file in pictures if path.is_dir() and file.parent != path}
        found += [_of_files([f for f in pictures if f.parent == each], path, size, frames) for each in folders]
    if not found:
        kinds = ", ".join(sorted(video.SUFFIXES | set(images.SUFFIXES)))
        raise UserError(f"{path}: no videos, folders of frames or pictures in it (looked for {kinds})")
    return found


def stamp_of(path: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of all files: changes with them, without reading them."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def _of_video(file: Path, root: Path, size: Size, frames: int) -> Source:
    def pictures() -> Generator[np.ndarray, None, str]:
        step = max(1, -(-video.declared_frames(file) // frames))
        decoded = video.frames(file)
        number = kept = 0
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

    whole = files[0] if len(files) == 1 and files[0].parent == root else files[0].parent
    name = whole.name if root == files[0] else whole.relative_to(root).as_posix()
    return Source(name, _split_of(name), pictures)


def _of_labelled(path: Path, size: Size, padding: float) -> Iterator[Source]:
    """The boxes of a labelled set, each a still."""
    for split in ("train", "val"):
        instances, _ = annotations.load(path, split)

        def picture(row: int, of: Instances = instances) -> Generator[np.ndarray, None, str]:
            try:
                image = of.images.read(int(of.image_row[row]))
            except UserError as error:
                return str(error)
            yield crops.cut(image, of.box_xywh[row][None], size, padding)[0][0]
            return ""

        for row in np.flatnonzero(~instances.crowd).tolist():
            name = f"{split}/{instances.annotation_id[row]}"
            yield Source(name, split, lambda row=row, picture=picture: picture(row))


def _write(found: list[Source], size: Size, spec: ClipSpec, folder: Path, asked: str, path: Path) -> Index:
    """Decodes everything into `folder`, the index last, so that a folder with an index is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.blake2b(digest_size=8)
    names: list[str] = []
    counts: list[int] = []
    splits: list[str | None] = []
    problems: list[tuple[str, str, str]] = []
    with (folder / FRAMES).open("wb") as file:
        for source in found:
            count, reason = 0, ""
            pictures = source.pictures()
            while True:
                try:
                    frame = next(pictures)
                except StopIteration as end:
                    reason = end.value
                    break
                data = np.ascontiguousarray(frame).tobytes()
                digest.update(data)
                file.write(data)
                count += 1
            if reason:
                problems.append((str(path / source.name if path.is_dir() else path), "", reason))
            if count:
                names.append(source.name)
                counts.append(count)
                splits.append(source.split)
            elif not reason:
                problems.append((str(path / source.name), "", "there is no frame in it"))
    if not names:
        (folder / FRAMES).unlink()
        first = problems[0] if problems else ("", "", "")
        raise UserError(f"{path}: no frame could be read; first {first[0]}: {first[2]}")
    held_out = _held_out(names, splits, counts, spec.held_out, path)
    index = Index(
        size, tuple(names), tuple(counts), held_out, asked, digest.hexdigest(), _used(names, counts, held_out, splits, size),
        tuple(problems),
    )  # fmt: skip
    config.write_json(folder / INDEX, index)
    return index


def _held_out(
    names: list[str], splits: list[str | None], counts: list[int], asked: tuple[str, ...], path: Path
) -> tuple[bool, ...]:
    """Which clips are only scored: the named ones, those in folders named val or test, else every fifth; at least one
    clip stays on each side where there are two."""
    unknown = [name for name in asked if name not in names]
    if unknown:
        raise UserError(f"{path}: no clip {unknown[0]!r} to hold out." + did_you_mean(unknown[0], names))
    if asked:
        chosen = [name in asked for name in names]
    elif any(split in ("val", "test") for split in splits):
        chosen = [split in ("val", "test") for split in splits]
    else:
        chosen = [i % 5 == 4 for i in range(len(names))]
        if len(names) in range(2, 5):
            chosen[-1] = True
    if all(chosen):
        raise UserError(f"{path}: all {len(names)} clips are held out, none is left to learn from")
    return tuple(chosen)


def _used(names: list[str], counts: list[int], held_out: tuple[bool, ...], splits: list[str | None], size: Size) -> str:
    """A line that says what is learnt from."""
    moving = [i for i, count in enumerate(counts) if count > 1]
    stills = len(counts) - len(moving)
    parts = []
    if moving:
        parts.append(f"{len(moving)} clips of {sum(counts[i] for i in moving)} frames")
    if stills:
        parts.append(f"{stills} still pictures (they are moved by random warps; labels are not used)")
    out = [name for name, chosen in zip(names, held_out, strict=True) if chosen]
    shown = ", ".join(out[:4]) + (f" and {len(out) - 4} more" if len(out) > 4 else "")
    return f"{' and '.join(parts)}, cut to {size}; held out for scoring: {shown or 'none, the clip that is learnt from is scored'}"


def _split_of(name: str) -> str | None:
    """What the folders above a clip say."""
    return next((split for part in Path(name).parts[:-1] if (split := formats.split_in_name(part))), None)


def _natural(path: Path) -> tuple[object, ...]:
    """Sorts frame10 after frame9."""
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.as_posix()))
