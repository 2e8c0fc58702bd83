"""Videos, GIFs, folders of frames and still pictures as clips to learn from without labels: each frame is decoded once,
cut to the network's input as prediction cuts whole images, and kept in one file that processes share.

In DATA every video or GIF is a clip, and so is every folder in it that holds pictures; pictures in DATA itself, and the
boxes of a labelled set (whose labels are not used), are clips of one frame each."""

from __future__ import annotations

import difflib
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fiducial import config, files
from fiducial.errors import UserError, did_you_mean
from fiducial.geometry import Size
from fiducial.motion import clip_sources
from fiducial.motion.clip_sources import Source
from fiducial.types import Problem

FRAMES, INDEX = "frames.u8", "clips.json"


@dataclass(frozen=True)
class ClipSpec:
    """Which frames are used."""

    frames: int = 600  # of a clip at most, evenly over its length where the file says how long it is
    held_out: tuple[str, ...] = ()  # names of clips that are only scored; () = folders named val or test, else a fifth


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

    def clip_of(self, row: int) -> int:
        """Whose frame that is."""
        return int(np.searchsorted(self.first, row, side="right")) - 1

    def where(self, row: int) -> str:
        """Which frame that is, for messages."""
        clip = self.clip_of(row)
        return f"{self.index.names[clip]}, frame {row - int(self.first[clip])}"

    def chosen(self, held_out: bool) -> list[int]:
        """The clips to learn from, or those to be scored."""
        return [clip for clip, out in enumerate(self.index.held_out) if out == held_out]

    @property
    def scored(self) -> list[int]:
        """The clips that a run is scored on: those held out, or all where none is."""
        return self.chosen(held_out=True) or self.chosen(held_out=False)

    @property
    def split(self) -> str:
        """What is scored, in words."""
        return "held-out clips" if self.chosen(held_out=True) else "the clips that were learnt from"

    def grouped(self, chosen: Sequence[int]) -> list[tuple[str, list[int]]]:
        """Each of the clips by its name, and all still pictures among them as one."""
        counts, names = self.index.counts, self.index.names
        stills = [clip for clip in chosen if counts[clip] == 1]
        moving = [(names[clip], [clip]) for clip in chosen if counts[clip] > 1]
        return [*moving, (f"{len(stills)} stills", stills)] if stills else moving

    @property
    def problems(self) -> list[Problem]:
        return [Problem(*entry) for entry in self.index.problems]


def prepare(
    path: Path, size: Size, padding: float, spec: ClipSpec, folder: Path, *,
    images: Path | None = None, category: str | None = None, anew: bool = False,
) -> Clips:  # fmt: skip
    """The clips of DATA, made in `folder` or, where they are there already from the same sources, opened; `anew` makes
    them again where they are of others, which else is refused. Of a run's folder, the one that `folder` is in or, as a
    study's, linked to, nothing is a clip. `images` and `category` as of `annotations.load`. UserError where nothing can
    be used."""
    files = clip_sources.files_of(path, folder.resolve().parent)
    found, problems = clip_sources.find(path, files, size, padding, spec.frames, images, category)
    _refuse_unknown(spec.held_out, [source.name for source in found], path)
    settings = (_stamp_of(files), size, padding, config.to_dict(spec), str(images), category)
    asked = hashlib.sha256(repr(settings).encode()).hexdigest()[:16]
    index = _opened(folder, asked, anew)
    if index is None:
        index = _write(found, problems, size, spec, folder, asked, path)
    return _clips(folder, index)


def prepared(folder: Path) -> Clips:
    """What lies in a folder that `prepare` made. UserError where it is none, or not whole."""
    path = folder / INDEX
    index = config.from_dict(Index, files.read_json(path), str(path))
    if not _is_whole(folder, index):
        raise UserError(f"{folder / FRAMES}: is missing or of another size than {path} says; make the frames again")
    return _clips(folder, index)


def _clips(folder: Path, index: Index) -> Clips:
    frames = np.memmap(folder / FRAMES, np.uint8, mode="r", shape=_shape_of(index))
    return Clips(index, frames, np.concatenate([[0], np.cumsum(index.counts)]))


def _stamp_of(files: list[Path]) -> list[tuple[str, int, int]]:
    """Names, sizes and times of files: changes with them, without reading them."""
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def _opened(folder: Path, asked: str, anew: bool) -> Index | None:
    """What is in the folder; None where it is to be made."""
    if not (folder / INDEX).exists():
        return None
    index = config.from_dict(Index, files.read_json(folder / INDEX), str(folder / INDEX))
    if index.asked != asked:
        if anew:
            return None
        raise UserError(f"{folder}: was made from other videos or settings; resume with the same, or remove it")
    return index if _is_whole(folder, index) else None


def _is_whole(folder: Path, index: Index) -> bool:
    frames = folder / FRAMES
    return frames.exists() and frames.stat().st_size == math.prod(_shape_of(index))


def _shape_of(index: Index) -> tuple[int, int, int, int]:
    return sum(index.counts), index.size.h, index.size.w, 3


def _write(
    found: list[Source], problems: list[Problem], size: Size, spec: ClipSpec, folder: Path, asked: str, path: Path
) -> Index:
    """Decodes everything into `folder`, the index last, so that a folder with an index is complete. Nothing stays where
    it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INDEX).unlink(missing_ok=True)
    partial = folder / f".{FRAMES}.partial"
    try:
        index = _decoded_into(partial, found, problems, size, spec, asked, path)
    except BaseException:
        partial.unlink()
        raise
    partial.replace(folder / FRAMES)
    config.write_json(folder / INDEX, index)
    return index


def _decoded_into(
    file: Path, found: list[Source], problems: list[Problem], size: Size, spec: ClipSpec, asked: str, path: Path
) -> Index:
    """All frames into one file, and what they are."""
    digest = hashlib.blake2b(digest_size=8)
    names: list[str] = []
    counts: list[int] = []
    splits: list[str | None] = []
    wrong = [(problem.file, problem.where, problem.what) for problem in problems]
    with file.open("wb") as written:
        for source in found:
            count, pictures = 0, source.pictures()
            while True:
                try:
                    frame = next(pictures)
                except StopIteration as end:
                    reason = end.value
                    break
                data = np.ascontiguousarray(frame).tobytes()
                digest.update(data)
                written.write(data)
                count += 1
            if reason:
                wrong.append((str(path / source.name if path.is_dir() else path), "", reason))
            if count:
                names.append(source.name)
                counts.append(count)
                splits.append(source.split)
    if not names:
        raise UserError(f"{path}: no frame could be read; first {wrong[0][0]}: {wrong[0][2]}")
    held_out = _held_out(names, splits, spec.held_out, path)
    used = _used(names, counts, held_out, size)
    return Index(size, tuple(names), tuple(counts), held_out, asked, digest.hexdigest(), used, tuple(wrong))


def _refuse_unknown(asked: tuple[str, ...], names: list[str], path: Path) -> None:
    """Before anything is decoded."""
    unknown = [name for name in asked if name not in names]
    if unknown:
        near = difflib.get_close_matches(unknown[0], names, n=10, cutoff=0.3) or names[:10]
        raise UserError(
            f"motion.clips.held_out: {path} has no clip {unknown[0]!r}.{did_you_mean(unknown[0], near)} Students hold out what "
            "their teacher did; --set motion.clips.held_out=[] chooses anew"
        )


def _held_out(names: list[str], splits: list[str | None], asked: tuple[str, ...], path: Path) -> tuple[bool, ...]:
    """Which clips are only scored: the named ones, those in folders named val or test, else every fifth; at least one
    clip stays on each side where there are two."""
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


def _used(names: list[str], counts: list[int], held_out: tuple[bool, ...], size: Size) -> str:
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
