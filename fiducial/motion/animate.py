"""`fiducial animate`: a video in which a picture moves as another video does, and a sheet of some of its frames."""

from __future__ import annotations

import itertools
import time
from collections import abc
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from fiducial.data import crops, sampling, video
from fiducial.data.images import read_image
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.motion import animation, clip_sources, sheets
from fiducial.motion.animation import Puppet
from fiducial.motion.sheets import Tile
from fiducial.predict import boxes as boxes_files
from fiducial.predict import drawings, sources
from fiducial.predict.boxes import BoxesFile
from fiducial.predict.prefetch import ahead
from fiducial.predict.sources import Frame, Source

BATCH = 8  # frames that go through the networks together
SHOWN = 6  # driving frames on the sheet

Echo = Callable[[str], None]


@dataclass(frozen=True)
class Done:
    """What came out."""

    frames: int
    seconds: float  # that it took, without loading the model
    scale: float | None  # by which the driving points' ways were multiplied; None where their places were taken
    video: Path
    sheet: Path
    problems: list[str]


def animate(
    model: Path,
    source: Path,
    driving: Path,
    out: Path,
    *,
    absolute: bool = False,
    boxes: Path | None = None,
    size: Size | None = None,
    only: bool = False,
    advance: Callable[[int | None], None] = lambda total: None,
    echo: Echo = print,
) -> Done:
    """Writes the video `out` and beside it a sheet of the same name in PNG. `size` is that of each picture in the video.

    What ends early gives what can be read, and says where. `advance` hears of every frame, and of how many there may be."""
    picture, reading = _first_picture(source), _driving(driving)
    wanted = None if boxes is None else boxes_files.read(boxes)
    sheet = out.with_suffix(".png")
    _check_outputs(out, sheet, source, reading.files)
    system = animation.load(model)
    tile = _tile(size, system.size)
    places = _boxes(wanted, source, reading)
    puppet = Puppet(system, crops.cut(picture, places[0], system.size, system.padding)[0][0], absolute)
    still = crops.cut(picture, places[0], tile, system.padding)[0][0]
    problems: list[str] = []
    sampled, count, start = _Sampled(), 0, time.monotonic()
    with closing(ahead(reading.frames())) as frames, drawings.drawing(Source(out.name, out, "video"), out) as draw:
        for some in _batches(frames, problems, echo):
            images = [frame.image for frame in some if frame.image is not None]
            cut = np.concatenate([crops.cut(image, places[1], system.size, system.padding)[0] for image in images])
            moved = puppet(cut)
            for i, (frame, image) in enumerate(zip(some, images, strict=True)):
                made = _resized(moved.generated[i], tile)
                seen = crops.cut(image, places[1], tile, system.padding)[0][0]
                draw(frame, made if only else np.concatenate([still, seen, made], axis=1))
                sampled.add(_Sample(count, cut[i], moved.generated[i], moved.driving_xy[i], moved.xy[i]))
                count += 1
                advance(reading.count)
        if count == 0:
            raise UserError(
                f"{driving}: no frame could be read: {problems[0] if problems else 'it is empty'}; expected a video, a folder "
                "of frames or a picture"
            )
        sheets.write_png(sheet, _sheet(puppet, sampled.chosen()))
    return Done(count, time.monotonic() - start, puppet.scale, out, sheet, problems)


class _Sample(NamedTuple):
    number: int
    driving: np.ndarray  # [h, w, 3]
    generated: np.ndarray
    driving_xy: np.ndarray  # [k, 2]
    xy: np.ndarray


@dataclass
class _Sampled:
    """Some of the frames of a video whose length nobody knows, evenly over it, and the last."""

    step: int = 1
    kept: list[_Sample] = field(default_factory=list)
    last: _Sample | None = None

    def add(self, sample: _Sample) -> None:
        self.last = sample
        if sample.number % self.step:
            return
        self.kept.append(sample)
        if len(self.kept) > 4 * SHOWN:
            self.step *= 2
            self.kept = self.kept[::2]

    def chosen(self) -> list[_Sample]:
        frames = self.kept + ([self.last] if self.last is not None and self.last is not self.kept[-1] else [])
        return [frames[place] for place in sampling.places(len(frames), SHOWN).tolist()]


def _sheet(puppet: Puppet, samples: list[_Sample]) -> np.ndarray:
    """Source and driving frames; below each driving frame what was made of it."""
    source_xy = puppet.system.px(puppet.of_source)[0]
    above = [Tile(sheets.enlarged(puppet.source, source_xy), "source")]
    below = [Tile(np.full((8, 8, 3), 34, np.uint8))]
    for sample in samples:
        above.append(Tile(sheets.enlarged(sample.driving, sample.driving_xy), f"driving, frame {sample.number}"))
        below.append(Tile(sheets.enlarged(sample.generated, sample.xy), "generated"))
    return sheets.sheet([above, below], len(source_xy))


def _batches(frames: Iterator[Frame], problems: list[str], echo: Echo) -> Iterator[list[Frame]]:
    """Those that can be read, a few at a time; what is wrong with others is said."""
    good = (frame for frame in frames if _is_read(frame, problems, echo))
    while some := list(itertools.islice(good, BATCH)):
        yield some


def _is_read(frame: Frame, problems: list[str], echo: Echo) -> bool:
    if frame.image is None:
        problems.append(frame.problem or frame.name)
        echo(problems[-1])
    return frame.image is not None


def _resized(image: np.ndarray, size: Size) -> np.ndarray:
    own = Size(image.shape[1], image.shape[0])
    if own == size:
        return image
    return cv2.resize(image, size, interpolation=cv2.INTER_CUBIC if size.w > own.w else cv2.INTER_AREA)


# -------------------------------------------------------------------------------------------------------- what is given


@dataclass(frozen=True)
class _Driving:
    """Where the motion comes from."""

    path: Path
    files: list[Path]  # the video, or pictures in the order of the numbers in their names

    @property
    def is_video(self) -> bool:
        return self.files[0].suffix.lower() in video.SUFFIXES

    @property
    def count(self) -> int | None:
        """Of frames, where that is known before."""
        return (video.declared_frames(self.files[0]) or None) if self.is_video else len(self.files)

    @property
    def names(self) -> list[str]:
        """Under which a file of boxes may know it."""
        return [self.path.name, self.files[0].name, *([f"{self.files[0].name}#000000"] if self.is_video else [])]

    def frames(self) -> abc.Generator[Frame, None, None]:
        kind = "video" if self.is_video else "image"
        for file in self.files:
            yield from sources.frames(Source(file.name, file, kind))


def _driving(path: Path) -> _Driving:
    """UserError for what is neither a video nor a folder of frames nor a picture."""
    suffixes = sources.IMAGE_SUFFIXES | video.SUFFIXES
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; expected the video to move by, or a folder of its frames")
    files = [file for file in clip_sources.files_of(path) if file.suffix.lower() in suffixes]
    if not files:
        known = ", ".join(sorted(suffixes))
        raise UserError(f"{path}: expected a video, a folder of frames or a picture to move by (one of {known})")
    videos = [file for file in files if file.suffix.lower() in video.SUFFIXES]
    if videos and len(files) > 1:
        raise UserError(f"{path}: holds {len(files)} videos and pictures; give one video, such as {videos[0]}")
    return _Driving(path, files)


def _first_picture(path: Path) -> np.ndarray:
    """A picture, or the first frame of a video."""
    if not path.exists():
        raise UserError(f"{path}: no such file; expected the picture that is to move")
    if path.is_dir():
        raise UserError(
            f"{path}: is a folder; expected the picture that is to move, or a video of whose first frame it is"
        )
    if path.suffix.lower() not in video.SUFFIXES:
        return read_image(path)
    frame = next(sources.frames(Source(path.name, path, "video")), None)
    if frame is None or frame.image is None:
        raise UserError(f"{frame.problem if frame is not None else path}; expected a picture, or a video with a frame")
    return frame.image


def _boxes(wanted: BoxesFile | None, source: Path, driving: _Driving) -> tuple[np.ndarray | None, np.ndarray | None]:
    """[1, 4] each: where to look in the source, and in all driving frames; None = the whole picture."""
    if wanted is None:
        return None, None
    found = [_box(wanted, names) for names in ([source.name, f"{source.name}#000000"], driving.names)]
    if all(box is None for box in found):
        raise UserError(
            f"{wanted.path}: has no image named {source.name!r} or {driving.names[0]!r}; `file_name` must be the name of "
            "SOURCE or of DRIVING, whose box is taken for all its frames"
        )
    return found[0], found[1]


def _box(wanted: BoxesFile, names: list[str]) -> np.ndarray | None:
    for name in names:
        boxes = wanted.of(name)
        if boxes is not None and len(boxes.xywh) != 1:
            raise UserError(f"{wanted.path}: {len(boxes.xywh)} boxes for {name!r}; expected one, of what moves")
        if boxes is not None:
            return boxes.array()
    return None


def _tile(asked: Size | None, own: Size) -> Size:
    """Of each picture in the video."""
    if asked is None:
        return own
    if asked.w * own.h != asked.h * own.w:
        twice = Size(2 * own.w, 2 * own.h)
        raise UserError(f"--size {asked}: the model makes pictures of {own}; expected the same shape, such as {twice}")
    return asked


def _check_outputs(out: Path, sheet: Path, source: Path, driving: list[Path]) -> None:
    """That all can be written at the end."""
    if out.suffix.lower() != ".mp4":
        raise UserError(f"--out {out}: expected a name that ends in .mp4")
    if out.is_dir():
        raise UserError(f"--out {out}: is a folder, expected the name of a video")
    originals = {path.resolve() for path in (source, *driving)}
    for path in (out, sheet):
        if path.resolve() in originals:
            raise UserError(f"--out {out}: {path} is one of the sources and would be overwritten; give another name")
    there = next(each for each in (out.resolve().parent, *out.resolve().parents) if each.exists())
    if not there.is_dir():
        raise UserError(f"--out {out}: {there} is a file, expected a folder")
