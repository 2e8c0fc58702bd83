"""What predict draws: a JPEG for each image and an MP4 for each video, with the points on them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from fiducial import geometry
from fiducial.errors import UserError
from fiducial.prediction.sources import USUAL_RATE, Frame, Source
from fiducial.report import pictures

STREAMABLE = {"movflags": "+faststart"}  # the index first, so that browsers play before all is there
QUALITY = {"crf": "18", "preset": "veryfast"}  # of x264: points stay crisp
SHORTEST_TICKS = 90_000  # at least so many a second
LONGEST_TICKS = 2**30  # from one frame to the next; MP4 has 31 bits for them
MOST_A_SECOND = 90_000  # frames
MOST_PIXELS = 4096 * 2304  # of a drawn video, H.264's level 5.2: players read no larger ones, and x264 keeps 20 frames

Draw = Callable[[Frame, np.ndarray], None]  # a frame and its image with points


def targets(found: Sequence[Source], out: Path) -> dict[str, Path]:
    """Chooses where the drawing of each source goes, by the source's name: under `out`, in folders as the source is.

    UserError where that is the file of a source: a drawing would take the place of the original."""
    paths: dict[str, Path] = {}
    originals = {os.path.realpath(source.path) for source in found}
    used: set[str] = set()
    for source in found:
        suffix = ".jpg" if source.kind == "image" else ".mp4"
        stem = source.name[: -len(suffix)] if source.name.lower().endswith(suffix) else source.name
        unique, number = stem, 2
        while unique in used:  # a.png.jpg beside a.png
            unique, number = f"{stem}_{number}", number + 1
        used.add(unique)
        paths[source.name] = out / f"{unique}{suffix}"
        if os.path.realpath(paths[source.name]) in originals:
            raise UserError(
                f"--out {out}: {paths[source.name]} is one of the sources and would be overwritten; give another folder"
            )
    return paths


def drawing(source: Source, target: Path) -> AbstractContextManager[Draw]:
    """Draws the frames of one source; the file at `target` is there, whole, when the context ends without an error."""
    return _image(target) if source.kind == "image" else _video(target)


@contextmanager
def _image(target: Path) -> Iterator[Draw]:
    yield lambda frame, image: pictures.write(target, image)


@contextmanager
def _video(target: Path) -> Iterator[Draw]:
    """H.264 with the times of the source, be its rate steady or not. Written beside and renamed; nothing is written
    without a frame."""
    import av

    partial = target.with_name(f".{target.name}.partial")
    with ExitStack() as opened:
        container = stream = clock = None

        def draw(frame: Frame, picture: np.ndarray) -> None:
            nonlocal container, stream, clock
            picture = _even(picture)
            if container is None or stream is None or clock is None:
                target.parent.mkdir(parents=True, exist_ok=True)
                opened.callback(partial.unlink, missing_ok=True)
                container = opened.enter_context(av.open(str(partial), "w", format="mp4", options=STREAMABLE))
                clock = _Clock(frame.rate or USUAL_RATE)
                stream = container.add_stream("h264", rate=clock.rate, options=QUALITY)
                stream.codec_context.time_base = clock.tick
                stream.width, stream.height = _drawn_size(picture)
                stream.pix_fmt = "yuv420p"
            image = av.VideoFrame.from_ndarray(_fitted(picture, stream.width, stream.height), format="rgb24")
            image.pts, image.time_base = clock(frame.seconds), clock.tick
            container.mux(stream.encode(image))

        yield draw
        if container is not None and stream is not None:
            container.mux(stream.encode())
            container.close()
            partial.replace(target)


class _Clock:
    """When the frames of a video are shown, in ticks that are short, and that a steady rate is a whole number of."""

    def __init__(self, rate: Fraction) -> None:
        self.rate = min(max(rate.limit_denominator(1001), Fraction(1, 1001)), Fraction(MOST_A_SECOND))
        self.tick = Fraction(1, self.rate.numerator * math.ceil(SHORTEST_TICKS / self.rate.numerator))
        self._ticks_a_frame = round(1 / self.rate / self.tick)
        self._last: int | None = None

    def __call__(self, seconds: Fraction | None) -> int:
        """Ticks of the next frame. Where the source doesn't say, goes back in time or leaps by hours, it comes when its
        turn is."""
        last = -self._ticks_a_frame if self._last is None else self._last
        ticks = None if seconds is None else round(seconds / self.tick)
        follows = ticks is not None and last < ticks <= last + LONGEST_TICKS
        self._last = ticks if follows and ticks is not None else last + self._ticks_a_frame
        return self._last


def _even(picture: np.ndarray) -> np.ndarray:
    """One row or column more where it takes one: colours are stored for 2 x 2 px."""
    below, right = picture.shape[0] % 2, picture.shape[1] % 2
    return cv2.copyMakeBorder(picture, 0, below, 0, right, cv2.BORDER_REPLICATE) if below or right else picture


def _drawn_size(picture: np.ndarray) -> geometry.Size:
    """The size of a video of such frames, even: theirs, or one of the same shape that is not too large."""
    scale = min(1.0, math.sqrt(MOST_PIXELS / (picture.shape[0] * picture.shape[1])))
    w, h = (max(2, round(scale * side) // 2 * 2) for side in picture.shape[1::-1])
    return geometry.Size(w, h)


def _fitted(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """In a video's one size, though its source may change its own half-way: shrunk or enlarged, black beside it."""
    if picture.shape[:2] == (height, width):
        return picture
    size = geometry.Size(width, height)
    own = geometry.Size(picture.shape[1], picture.shape[0])
    box = geometry.fit_aspect(geometry.whole_image_box(own), size)
    return geometry.warp(picture, geometry.crop(box, size), size)
