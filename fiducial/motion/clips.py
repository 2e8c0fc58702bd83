"""Videos, GIFs, folders of frames and still images as clips to learn from without labels: each frame is decoded once,
cut to the network's input as prediction cuts whole images, and kept in one file that processes share.

In DATA every video or GIF is a clip, and so is every folder in it that holds images; images in DATA itself, and the
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
from fiducial.data import crops
from fiducial.data.source import Source
from fiducial.errors import Interrupted, UserError, did_you_mean
from fiducial.geometry import Size
from fiducial.motion import clip_sources
from fiducial.motion.clip_sources import ClipSource
from fiducial.progress import progress
from fiducial.types import Problem

FRAMES, INDEX = "frames.u8", "clips.json"


@dataclass(frozen=True)
class ClipSpec:
    """Chooses which frames are used."""

    frames: int = 600  # of a clip at most, evenly over its length where the file says how long it is
    held_out: tuple[str, ...] = ()  # names of clips that are only scored; () = folders named val or test, else a fifth


@dataclass(frozen=True)
class ClipIndex:
    """Describes what lies in a folder of prepared frames."""

    size: Size
    names: tuple[str, ...]
    counts: tuple[int, ...]  # frames of each clip
    held_out: tuple[bool, ...]
    asked: str  # changes with the sources and with how they are cut
    digest: str  # of all frames
    used: str  # a line for people
    problems: tuple[tuple[str, str, str], ...] = ()

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Computes the shape of the file of all frames: [n, h, w, 3]."""
        return sum(self.counts), self.size.h, self.size.w, 3


@dataclass(frozen=True)
class Clips:
    """Holds all frames, one clip after the other. A frame's row counts them all."""

    index: ClipIndex
    frames: np.ndarray = field(repr=False)  # uint8 RGB [n, h, w, 3], mapped from the file
    first: np.ndarray = field(repr=False)  # [c + 1] row of each clip's first frame; the last is n

    def rows(self, clip: int) -> range:
        """Lists a clip's frames."""
        return range(int(self.first[clip]), int(self.first[clip + 1]))

    def clip_of(self, row: int) -> int:
        """Finds the clip that a frame is of."""
        return int(np.searchsorted(self.first, row, side="right")) - 1

    def where(self, row: int) -> str:
        """Names a frame for messages: "a.mp4, frame 6"."""
        clip = self.clip_of(row)
        return f"{self.index.names[clip]}, frame {row - int(self.first[clip])}"

    def chosen(self, held_out: bool) -> list[int]:
        """Lists the clips to learn from, or those that are held out."""
        return [clip for clip, out in enumerate(self.index.held_out) if out == held_out]

    @property
    def scored(self) -> list[int]:
        """Lists the clips that a run is scored on: those that are held out, or all where none is."""
        return self.chosen(held_out=True) or self.chosen(held_out=False)

    @property
    def split(self) -> str:
        """Says in words what is scored."""
        return "held-out clips" if self.chosen(held_out=True) else "the clips that were learnt from"

    def by_kind(self, chosen: Sequence[int]) -> tuple[list[int], list[int]]:
        """Splits clips into those of several frames and still images."""
        counts = self.index.counts
        return [clip for clip in chosen if counts[clip] > 1], [clip for clip in chosen if counts[clip] == 1]

    def grouped(self, chosen: Sequence[int]) -> list[tuple[str, list[int]]]:
        """Lists clips with their names, all still images among them as one entry."""
        moving, stills = self.by_kind(chosen)
        named = [(self.index.names[clip], [clip]) for clip in moving]
        return [*named, (f"{len(stills)} stills", stills)] if stills else named

    @property
    def problems(self) -> list[Problem]:
        """Lists what could not be read and was left out."""
        return [Problem(*entry) for entry in self.index.problems]


def prepare(
    source: Source,
    size: Size,
    padding: float,
    spec: ClipSpec,
    folder: Path,
    *,
    anew: bool = False,
) -> Clips:
    """Makes the clips of DATA in `folder`, or opens them where they were made from the same sources before.

    Where clips of other sources or settings lie there, they are replaced with `anew` and an error without. The run that
    `folder` belongs to (the folder above it, links followed) may lie inside DATA: nothing in it is taken for a clip.

    Args:
        size: of every frame, px.
        padding: of the boxes of a labelled set, as for training; other frames are cut whole.

    Raises UserError where nothing can be used."""
    path = source.path
    files_in_data = clip_sources.files_of(path, folder.resolve().parent)
    clips, problems = clip_sources.find(source, files_in_data, spec.frames)
    _refuse_unknown(spec.held_out, [clip.name for clip in clips], path)
    stamps = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files_in_data]
    settings = (stamps, size, padding, config.to_dict(spec), str(source.images), source.category)
    asked = files.digest([repr(settings)])
    index = _opened(folder, asked, anew)
    if index is None:
        (folder / INDEX).unlink(missing_ok=True)
        with files.replacing(folder / FRAMES) as partial:
            counts, digest, unread = _decode(clips, partial, size, padding)
            left_out = [*problems, *unread]
            if not any(counts):
                raise UserError(path, f"no frame could be read; first {left_out[0].file}: {left_out[0].what}")
            with_frames = [(clip, count) for clip, count in zip(clips, counts, strict=True) if count]
            index = _index(with_frames, size, asked, digest, left_out, spec.held_out, path)
        config.write_json(folder / INDEX, index)  # the last, so that a folder with an index is complete
    frames = np.memmap(folder / FRAMES, np.uint8, mode="r", shape=index.shape)
    return Clips(index, frames, np.concatenate([[0], np.cumsum(index.counts)]))


def _opened(folder: Path, asked: str, anew: bool) -> ClipIndex | None:
    """What is in the folder; None where it is to be made."""
    if not (folder / INDEX).exists():
        return None
    index = config.from_dict(ClipIndex, files.read_json(folder / INDEX), str(folder / INDEX))
    if index.asked != asked:
        if anew:
            return None
        raise UserError(folder, "was made from other videos or settings; resume with the same, or remove it")
    frames = folder / FRAMES
    is_whole = frames.exists() and frames.stat().st_size == math.prod(index.shape)
    return index if is_whole else None


def _decode(clips: list[ClipSource], file: Path, size: Size, padding: float) -> tuple[list[int], str, list[Problem]]:
    """Writes all frames into one file: how many of each clip, a digest of all, what could not be read."""
    digest = hashlib.blake2b(digest_size=8)
    counts = [0] * len(clips)
    unread = []
    with file.open("wb") as written, progress("read", len(clips), "clips", bar=False) as advance:
        for i, clip in enumerate(clips):
            for frame in clip.frames():
                advance(0)  # a long clip is heard of before its end
                if frame.image is None:
                    error = frame.problem or UserError(frame.name, "can't be read")
                    if isinstance(error, Interrupted):
                        raise error
                    unread.append(Problem(error.where, "", error.what))
                    continue
                margin = 1.0 if clip.box_xywh is None else padding
                data = np.ascontiguousarray(crops.cut(frame.image, clip.box_xywh, size, margin)[0][0]).tobytes()
                digest.update(data)
                written.write(data)
                counts[i] += 1
            advance(1)
    return counts, digest.hexdigest(), unread


def _index(
    clips: list[tuple[ClipSource, int]],
    size: Size,
    asked: str,
    digest: str,
    left_out: list[Problem],
    held_out: tuple[str, ...],
    path: Path,
) -> ClipIndex:
    """Of clips with the number of their frames."""
    names, counts = [clip.name for clip, _ in clips], [count for _, count in clips]
    is_held_out = _held_out(names, [clip.split for clip, _ in clips], held_out, path)
    return ClipIndex(
        size=size,
        names=tuple(names),
        counts=tuple(counts),
        held_out=is_held_out,
        asked=asked,
        digest=digest,
        used=_used(names, counts, is_held_out, size),
        problems=tuple((problem.file, problem.where, problem.what) for problem in left_out),
    )


def _refuse_unknown(asked: tuple[str, ...], names: list[str], path: Path) -> None:
    """Before anything is decoded."""
    unknown = [name for name in asked if name not in names]
    if unknown:
        near = difflib.get_close_matches(unknown[0], names, n=10, cutoff=0.3) or names[:10]
        raise UserError(
            "motion.clips.held_out",
            f"{path} has no clip {unknown[0]!r}.{did_you_mean(unknown[0], near)} Students hold out what their teacher did; "
            "--set motion.clips.held_out=[] chooses anew",
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
        raise UserError(path, f"all {len(names)} clips are held out, none is left to learn from")
    return tuple(chosen)


def _used(names: list[str], counts: list[int], held_out: tuple[bool, ...], size: Size) -> str:
    """A line that says what is learnt from."""
    moving = [i for i, count in enumerate(counts) if count > 1]
    stills = len(counts) - len(moving)
    parts = []
    if moving:
        parts.append(f"{len(moving)} clips of {sum(counts[i] for i in moving)} frames")
    if stills:
        parts.append(f"{stills} still images (they are moved by random warps; labels are not used)")
    out = [name for name, chosen in zip(names, held_out, strict=True) if chosen]
    shown = ", ".join(out[:4]) + (f" and {len(out) - 4} more" if len(out) > 4 else "")
    return f"{' and '.join(parts)}, cut to {size}; held out for scoring: {shown or 'none, the clip that is learnt from is scored'}"
