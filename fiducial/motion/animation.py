"""`fiducial animate`: a video in which an image moves as another video does, and a sheet of some of its frames."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from fiducial import folders
from fiducial.data import crops, media, sampling
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.log import logger
from fiducial.motion import clip_sources
from fiducial.motion.puppet import Puppet
from fiducial.motion.system import System
from fiducial.prediction import boxes as boxes_files
from fiducial.prediction import drawings, sources
from fiducial.prediction.boxes import Boxes, BoxesFile
from fiducial.prediction.prefetch import ahead
from fiducial.prediction.sources import Frame, Source
from fiducial.progress import progress
from fiducial.report import pictures, sheets
from fiducial.report.sheets import Tile

BATCH = 8  # frames that go through the networks together
SHOWN = 6  # driving frames on the sheet


@dataclass(frozen=True)
class Animation:
    """Holds what came out, and where it is."""

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
    bar: bool = False,
) -> Animation:
    """Writes the video `out`, in which an image moves as others do, and beside it a sheet of its frames in PNG.

    Args:
        model: a run folder with a generator, or a published checkpoint.
        source: the image that is to move, or a video, whose first frame it is.
        driving: a video, a folder of frames or an image. One that ends early gives what can be read, and says where.
        absolute: take the driving points themselves; else their motion since the first frame, scaled to the source.
        boxes: COCO file with one box for the source, for the driving video (for all its frames) or both.
        size: of each image in the video, px; None = the network's.
        only: the generated frames alone, without source and driving frames beside them.
        bar: draw the progress on a terminal; else it is said every ten seconds.

    Raises UserError for what is wrong with the arguments, before anything is written."""
    driving_sources = _driving(driving)
    source_boxes, driving_boxes = _boxes(boxes, source, driving, driving_sources[0].name)
    image = _first_image(source, source_boxes)
    sheet = out.with_suffix(".png")
    _check_outputs(out, sheet, [source, *(file.path for file in driving_sources)])
    system = System.open(model)
    tile = _tile_size(size, system.size)
    source_box, driving_box = (None if one is None else one.array() for one in (source_boxes, driving_boxes))
    declared = None if driving_boxes is None else driving_boxes.declared

    def cut(image: np.ndarray, box: np.ndarray | None, size: Size) -> np.ndarray:
        return crops.cut(image, box, size, system.padding)[0][0]

    puppet = Puppet(system, cut(image, source_box, system.size), absolute)
    still = cut(image, source_box, tile)
    problems: list[str] = []
    sampled, count, start = _Sampled(), 0, time.monotonic()
    with (
        folders.alone_at(out),
        closing(ahead(clip_sources.frames_of(driving_sources, declared), bytes_of=lambda frame: frame.bytes)) as frames,
        drawings.drawing(Source(out.name, out, "video"), out) as draw,
        progress("animate", sources.count(driving_sources), "frames", bar=bar) as advance,
    ):
        for batch in _batches(frames, problems):
            driving_crops = np.stack([cut(image, driving_box, system.size) for _, image in batch])
            moved = puppet(driving_crops)
            for i, (frame, image) in enumerate(batch):
                generated = _resized(moved.generated[i], tile)
                beside = [] if only else [still, cut(image, driving_box, tile)]
                draw(frame, np.concatenate([*beside, generated], axis=1))
                sampled.add(_Sample(count, driving_crops[i], moved.generated[i], moved.driving_xy[i], moved.xy[i]))
                count += 1
                advance(1)
        if count == 0:
            raise UserError(
                driving,
                f"no frame could be read: {problems[0] if problems else 'it is empty'}; expected a video, a folder of frames "
                "or an image",
            )
        pictures.write(sheet, _sheet(puppet, sampled.chosen()))
    return Animation(count, time.monotonic() - start, puppet.scale, out, sheet, problems)


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
    samples: list[_Sample] = field(default_factory=list)
    last: _Sample | None = None

    def add(self, sample: _Sample) -> None:
        self.last = sample
        if sample.number % self.step:
            return
        self.samples.append(sample)
        if len(self.samples) > 4 * SHOWN:
            self.step *= 2
            self.samples = self.samples[::2]

    def chosen(self) -> list[_Sample]:
        frames = self.samples + ([self.last] if self.last is not None and self.last is not self.samples[-1] else [])
        return [frames[place] for place in sampling.places(len(frames), SHOWN).tolist()]


def _sheet(puppet: Puppet, samples: list[_Sample]) -> np.ndarray:
    """Source and driving frames; below each driving frame what was made of it."""
    source_xy = puppet.system.px(puppet.of_source)[0]
    above = [Tile(pictures.enlarged(puppet.source, sheets.SIDE, source_xy), "source")]
    below = [Tile(np.full((8, 8, 3), 34, np.uint8))]
    for sample in samples:
        above.append(
            Tile(pictures.enlarged(sample.driving, sheets.SIDE, sample.driving_xy), f"driving, frame {sample.number}")
        )
        below.append(Tile(pictures.enlarged(sample.generated, sheets.SIDE, sample.xy), "generated"))
    return sheets.sheet([above, below], len(source_xy))


def _batches(frames: Iterator[Frame], problems: list[str]) -> Iterator[list[tuple[Frame, np.ndarray]]]:
    """Frames that can be read with their images, a few at a time; what is wrong with others is said."""

    def readable() -> Iterator[tuple[Frame, np.ndarray]]:
        for frame in frames:
            if frame.image is not None:
                yield frame, frame.image
            else:
                problems.append(str(frame.problem))
                logger.warning(problems[-1])

    images = readable()
    while batch := list(itertools.islice(images, BATCH)):
        yield batch


def _resized(image: np.ndarray, size: Size) -> np.ndarray:
    current = Size(image.shape[1], image.shape[0])
    if current == size:
        return image
    return cv2.resize(image, size, interpolation=cv2.INTER_CUBIC if size.w > current.w else cv2.INTER_AREA)


# -------------------------------------------------------------------------------------------------------- what is given


def _driving(path: Path) -> list[Source]:
    """The video, or the images in the order of the numbers in their names; UserError for what is none of them."""
    if not path.exists():
        raise UserError(path, "no such file or folder; expected the video to move by, or a folder of its frames")
    files = clip_sources.files_of(path)
    files = media.among(files, path) if path.is_dir() else files
    if not files:
        raise UserError(path, "expected a video, a folder of frames or an image to move by")
    found = clip_sources.sources_of(files)
    videos = [file.path for file in found if file.kind == "video"]
    if videos and len(files) > 1:
        raise UserError(path, f"holds {len(files)} videos and images; give one video, such as {videos[0]}")
    return found


def _first_image(path: Path, boxes: Boxes | None) -> np.ndarray:
    """An image, or the first frame of a video."""
    if not path.exists():
        raise UserError(path, "no such file; expected the image that is to move")
    if path.is_dir():
        raise UserError(path, "is a folder; expected the image that is to move, or a video of whose first frame it is")
    declared = None if boxes is None else boxes.declared
    frame = next(clip_sources.frames_of(clip_sources.sources_of([path]), declared), None)
    if frame is None or frame.image is None:
        raise UserError(f"{frame.problem if frame is not None else path}; expected an image, or a video with a frame")
    return frame.image


def _boxes(path: Path | None, source: Path, driving: Path, first_file: str) -> tuple[Boxes | None, Boxes | None]:
    """One box each: where to look in the source, and in all driving frames; None = the whole image. The box of the driving
    frames may be given under the name of their folder, of its first file or of a video's first frame."""
    if path is None:
        return None, None
    boxes_file = boxes_files.read(path)
    for line in (*boxes_file.notes, *boxes_file.problems):
        logger.warning(line)
    of_source = _one_box(boxes_file, [source.name, f"{source.name}#000000"])
    of_driving = _one_box(boxes_file, [driving.name, first_file, f"{first_file}#000000"])
    if of_source is None and of_driving is None:
        raise UserError(
            path,
            f"has no image named {source.name!r} or {driving.name!r}; `file_name` must be the name of SOURCE or of "
            "DRIVING, whose box is taken for all its frames",
        )
    return of_source, of_driving


def _one_box(boxes_file: BoxesFile, names: list[str]) -> Boxes | None:
    for name in names:
        boxes = boxes_file.of(name)
        if boxes is not None and len(boxes.xywh) != 1:
            raise UserError(boxes_file.path, f"{len(boxes.xywh)} boxes for {name!r}; expected one, of what moves")
        if boxes is not None:
            return boxes
    return None


def _tile_size(asked: Size | None, network: Size) -> Size:
    """Of each image in the video."""
    if asked is None:
        return network
    if asked.w * network.h != asked.h * network.w:
        twice = Size(2 * network.w, 2 * network.h)
        raise UserError(
            f"--size {asked}", f"the model makes images of {network}; expected the same shape, such as {twice}"
        )
    return asked


def _check_outputs(out: Path, sheet: Path, originals: list[Path]) -> None:
    """That all can be written at the end."""
    option = f"--out {out}"
    if out.suffix.lower() != ".mp4":
        raise UserError(option, "expected a name that ends in .mp4")
    if out.is_dir():
        raise UserError(option, "is a folder, expected the name of a video")
    resolved = {path.resolve() for path in originals}
    for path in (out, sheet):
        if path.resolve() in resolved:
            raise UserError(option, f"{path} is one of the sources and would be overwritten; give another name")
    parent = next(folder for folder in (out.resolve().parent, *out.resolve().parents) if folder.exists())
    if not parent.is_dir():
        raise UserError(option, f"{parent} is a file, expected a folder")
