"""What predict shows: a JPEG for each image and an MP4 for each video, with the points drawn on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from fiducial.deploy.sources import Frame, Source
from fiducial.errors import UserError
from fiducial.evaluation import pictures

STREAMABLE = {"movflags": "+faststart"}  # the index first, so that browsers play before all is there
QUALITY = {"crf": "18", "preset": "veryfast"}  # of x264: points stay crisp

Draw = Callable[[Frame, np.ndarray], None]  # a frame and its picture with points


def targets(found: Sequence[Source], out: Path) -> dict[str, Path]:
    """Where the picture of each source goes, by its name: under `out`, in folders as the source is.

    Raises UserError where that is the file of a source: a drawing would take the place of the original."""
    paths: dict[str, Path] = {}
    originals = {source.path.resolve() for source in found}
    used: set[str] = set()
    for source in found:
        suffix = ".jpg" if source.kind == "image" else ".mp4"
        stem = source.name[: -len(suffix)] if source.name.lower().endswith(suffix) else source.name
        unique, number = stem, 2
        while unique in used:  # a.png.jpg beside a.png
            unique, number = f"{stem}_{number}", number + 1
        used.add(unique)
        paths[source.name] = out / f"{unique}{suffix}"
        if paths[source.name].resolve() in originals:
            raise UserError(
                f"--out {out}: {paths[source.name]} is one of the sources and would be overwritten; give another folder"
            )
    return paths


def drawing(source: Source, target: Path) -> AbstractContextManager[Draw]:
    """Takes the frames of one source; the file at `target` is there, whole, when the context ends without an error."""
    return _image(target) if source.kind == "image" else _video(target)


@contextmanager
def _image(target: Path) -> Iterator[Draw]:
    yield lambda frame, picture: pictures.write_jpeg(target, picture)


@contextmanager
def _video(target: Path) -> Iterator[Draw]:
    """H.264 at the rate of the source. Written beside and renamed; nothing is written without a frame."""
    import av

    partial = target.with_name(f".{target.name}.partial")
    with ExitStack() as opened:
        container = stream = None

        def draw(frame: Frame, picture: np.ndarray) -> None:
            nonlocal container, stream
            picture = _even(picture)
            if container is None or stream is None:
                target.parent.mkdir(parents=True, exist_ok=True)
                opened.callback(partial.unlink, missing_ok=True)
                container = opened.enter_context(av.open(str(partial), "w", format="mp4", options=STREAMABLE))
                stream = container.add_stream("h264", rate=frame.rate or Fraction(25), options=QUALITY)
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))

        yield draw
        if container is not None and stream is not None:
            container.mux(stream.encode())
            container.close()
            partial.replace(target)


def _even(picture: np.ndarray) -> np.ndarray:
    """One row or column more where it takes one: colours are stored for 2 x 2 px."""
    height, width = picture.shape[:2]
    return cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
