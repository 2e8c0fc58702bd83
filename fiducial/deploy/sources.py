"""What predict looks at: images, folders of them, videos, cameras, one frame after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fiducial.data.images import read_image
from fiducial.errors import UserError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
VIDEO_SUFFIXES = {".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".gif"}


@dataclass(frozen=True)
class Frame:
    """One picture to look at, or the reason why there is none."""

    name: str  # of the image file, or VIDEO#NUMBER; unique in a run
    image: np.ndarray | None  # uint8 RGB [h, w, 3]
    problem: str | None = None
    video: str | None = None  # the video that it belongs to


def frames(sources: list[str]) -> Iterator[Frame]:
    """All frames of all sources, in order. Sources that do not exist are errors before anything is read; pictures
    that can't be read come out as problems."""
    for source in sources:
        if not source.startswith("camera:") and not Path(source).exists():
            raise UserError(f"{source}: no such file or folder")
    for source in sources:
        path = Path(source)
        if source.startswith("camera:"):
            yield from _camera(source)
        elif path.is_dir():
            inside = sorted(item for item in path.rglob("*") if item.suffix.lower() in IMAGE_SUFFIXES)
            if not inside:
                raise UserError(f"{path}: no images in this folder (looked for {', '.join(sorted(IMAGE_SUFFIXES))})")
            for item in inside:
                yield _picture(item, item.relative_to(path).as_posix())
        elif path.suffix.lower() in VIDEO_SUFFIXES:
            yield from _video(path)
        else:
            yield _picture(path, path.name)


def count(sources: list[str]) -> int | None:
    """How many frames there will be, for progress; None where that is not known before."""
    total = 0
    for source in sources:
        path = Path(source)
        if source.startswith("camera:") or path.suffix.lower() in VIDEO_SUFFIXES:
            return None
        total += sum(item.suffix.lower() in IMAGE_SUFFIXES for item in path.rglob("*")) if path.is_dir() else 1
    return total


def _picture(path: Path, name: str) -> Frame:
    try:
        return Frame(name, read_image(path))
    except UserError as error:
        return Frame(name, None, str(error))


def _video(path: Path) -> Iterator[Frame]:
    """Frames until the end, or until the first that can't be decoded: then one problem says where."""
    import av
    from av.error import FFmpegError

    number = 0
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                yield Frame(f"{path.name}#{number:06d}", frame.to_ndarray(format="rgb24"), video=path.name)
                number += 1
    except (FFmpegError, IndexError) as error:
        yield Frame(f"{path.name}#{number:06d}", None, f"{path}: ends after {number} frames: {error}", path.name)


def _camera(source: str) -> Iterator[Frame]:
    import cv2

    text = source.removeprefix("camera:")
    if not text.isdigit():
        raise UserError(f"{source!r}: expected camera:NUMBER, such as camera:0")
    camera, number = cv2.VideoCapture(int(text)), 0
    if not camera.isOpened():
        raise UserError(f"{source}: no such camera, or it is in use")
    try:
        while True:
            there, frame = camera.read()
            if not there:
                return
            yield Frame(f"camera{text}#{number:06d}", cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), video=f"camera{text}")
            number += 1
    finally:
        camera.release()
