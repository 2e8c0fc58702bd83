"""What predict looks at: images, folders of them, videos, cameras, one frame after the other."""

from __future__ import annotations

import glob
import itertools
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np

from fiducial.data import media, video
from fiducial.data.images import decode_image, read_image
from fiducial.data.series import numbered
from fiducial.errors import UserError, nothing_at
from fiducial.geometry import Size

USUAL_RATE = Fraction(25)  # frames a second of a video or camera that doesn't say


@dataclass(frozen=True)
class Source:
    """One file or camera."""

    name: str  # under the folder that was given, with / between its parts; unique in a run
    path: Path
    kind: Literal["image", "video", "camera"]
    declared: Size | None = None  # of an image, by the file that says where its boxes are
    series: str = ""  # of an image that is one frame of several; "" = it is by itself
    read: Callable[[], bytes] | None = None  # gives the image's file where that is none of this machine's, or UserError

    @property
    def is_moving(self) -> bool:
        """Says whether it is a video, a camera or a frame of a series, in which instances go on."""
        return self.kind != "image" or bool(self.series)

    @property
    def video(self) -> str:
        """Names what its frames are of, unique in a run."""
        return self.series or self.name


@dataclass(frozen=True)
class Frame:
    """One image to look at, or the reason why there is none."""

    name: str  # of the image file, or VIDEO#NUMBER; unique in a run
    image: np.ndarray | None  # uint8 RGB [h, w, 3], upright
    problem: UserError | None = None
    rate: Fraction | None = None  # frames a second of the video that it belongs to, on average
    seconds: Fraction | None = None  # when it is shown, from the first frame of the video; None where it doesn't say

    @property
    def bytes(self) -> int:
        """Counts what its image takes in memory."""
        return 0 if self.image is None else self.image.nbytes


def find(texts: Sequence[str]) -> list[Source]:
    """Finds the files of all sources, in order, each once: `camera:N`, files, patterns such as `a/*.jpg`, folders and what is
    in them at any depth.

    Files of equal names from different folders are told apart by as many of their folders as it takes. UserError for what
    does not exist and for a folder without images."""
    found: dict[str, Source] = {}
    seen: set[Path] = set()
    for text in texts:
        if text.startswith("camera:"):
            if re.fullmatch("[0-9]{1,4}", text.removeprefix("camera:")) is None:
                raise UserError(repr(text), "expected camera:NUMBER, such as camera:0")
            found[text] = Source(text.replace(":", ""), Path(text), "camera")
            continue
        for path in _matching(text):
            _add(path, found, seen)
    return list(found.values())


def _matching(text: str) -> list[Path]:
    """The path, or the files that a pattern matches which no shell has spelt out."""
    if "://" in text:
        raise UserError(
            text,
            "addresses are not read but into --out FILE.parquet (s3://, gs://, ..); download it first, and give the file",
        )
    if os.path.exists(text):
        return [Path(text)]
    if any(letter in text for letter in "*?["):
        matched = sorted(glob.glob(text, recursive=True))
        if not matched:
            raise UserError(text, "no file's name is like this pattern")
        return [Path(one) for one in matched]
    if re.fullmatch("(camera|webcam)?[0-9]{0,2}", text):
        raise UserError(text, "no such file or folder; a camera is written camera:0, camera:1, ..")
    raise nothing_at(Path(text))


def _add(path: Path, found: dict[str, Source], seen: set[Path]) -> None:
    """Adds the file, or the files of the folder, that are not there yet."""
    for file in _inside(path) if path.is_dir() else [path]:
        whole = Path(os.path.realpath(file))  # of a link that leads to itself, too
        if whole not in seen:
            seen.add(whole)
            name = file.relative_to(path).as_posix() if path.is_dir() else file.name
            name = _unique(name, whole, found)
            kind = (media.kind_by_name(file) if path.is_dir() else None) or media.kind_of(file)
            found[name] = Source(name, file, kind)


def in_series(found: Sequence[Source]) -> list[Source]:
    """Takes images as frames where several names in a folder are but for a number at the end; they follow each other by it."""
    parts = {source.name: numbered(source.name) for source in found if source.kind == "image"}
    own = {
        name: part.series or f"{name.rpartition('/')[0]}/" for name, part in parts.items() if part.number is not None
    }
    counts = Counter(own.values())
    marked = [
        replace(source, series=own[source.name]) if counts[own.get(source.name, "")] > 1 else source for source in found
    ]
    first = {source.video: place for place, source in reversed(list(enumerate(marked)))}
    return sorted(marked, key=lambda source: (first[source.video], parts[source.name].number if source.series else 0))


def frames(source: Source) -> Generator[Frame, None, None]:
    """Reads the frames of one source as they are asked for. What can't be read comes out as a frame with a problem."""
    return {"image": _image, "video": _video, "camera": _camera}[source.kind](source)


def count(found: Sequence[Source]) -> int | None:
    """Counts the frames that there will be, for progress; None where that is not known before."""
    counts = [1 if source.kind == "image" else _declared_frames(source) for source in found]
    return sum(counts) if all(counts) else None


def _inside(folder: Path) -> list[Path]:
    # Names that begin with a dot are other programs' notes, such as macOS's ._photo.jpg.
    files = sorted(item for item in folder.rglob("*") if not item.name.startswith(".") and not item.is_dir())
    chosen = media.among(files, folder)
    if not chosen:
        raise UserError(folder, "no images or videos in this folder")
    return chosen


def _unique(name: str, whole: Path, used: dict[str, Source]) -> str:
    """`name`, or the shortest longer tail of the path that is not used yet."""
    parts = whole.parts[1:]  # without the root, so that a name never leads out of the folder it is put in
    for length in range(name.count("/") + 2, len(parts) + 1):
        if name not in used:
            break
        name = "/".join(parts[-length:])
    return name


def _image(source: Source) -> Generator[Frame, None, None]:
    """Reads an image as training and evaluation do: of the declared size it must be, upright or as stored."""
    try:
        if source.read is None:
            image = read_image(source.path, declared=source.declared)
        else:
            image = decode_image(source.read(), source.name, declared=source.declared)
        size = Size(image.shape[1], image.shape[0])
        if source.declared not in (None, size):
            raise UserError(source.path, f"the image is {size}, but the boxes file says {source.declared}; left out")
        yield Frame(source.name, image)
    except UserError as error:
        yield Frame(source.name, None, error)


def _video(source: Source) -> Generator[Frame, None, None]:
    """Frames until the end, or until the first that can't be decoded: then one problem says where."""
    number, decoded = 0, video.frames(source.path)
    while True:
        try:
            image, rate, seconds = next(decoded)
        except StopIteration as end:
            if end.value:
                problem = UserError(source.path, f"ends after {number} frames: {end.value}")
                yield Frame(f"{source.name}#{number:06d}", None, problem)
            return
        yield Frame(f"{source.name}#{number:06d}", image, rate=rate, seconds=seconds)
        del image  # while the next is made
        number += 1


def _declared_frames(source: Source) -> int:
    return 0 if source.kind == "camera" else video.declared_frames(source.path)


def _camera(source: Source) -> Generator[Frame, None, None]:
    """Frames until the camera ends or the consumer does, numbered as the camera gives them."""
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # no warning of every way that it tried
    camera = cv2.VideoCapture(int(source.name.removeprefix("camera")))
    try:
        if not camera.isOpened():
            raise UserError(source.path, "no such camera, or it is in use")
        rate = Fraction(camera.get(cv2.CAP_PROP_FPS) or USUAL_RATE).limit_denominator(1001)
        start = time.monotonic()
        for number in itertools.count():
            is_there, image_bgr = camera.read()
            if not is_there:
                return
            seconds = Fraction(time.monotonic() - start).limit_denominator(1_000_000)
            image = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB)
            yield Frame(f"{source.name}#{number:06d}", image, rate=rate, seconds=seconds)
    finally:
        camera.release()
