"""Frames of a video file or GIF, by PyAV, upright and in RGB; what is broken gives what can be read."""

from __future__ import annotations

from collections.abc import Generator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fiducial.errors import UserError

SUFFIXES = {".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".gif"}


class Decoded(NamedTuple):
    """One frame."""

    image: np.ndarray  # uint8 RGB [h, w, 3]; grey and deeper videos are converted, sizes may change on the way
    rate: Fraction | None  # frames a second of the video, on average
    seconds: Fraction | None  # when it is shown, from the first frame on; None where the file doesn't say


def frames(path: Path) -> Generator[Decoded, None, str]:
    """Frames until the end, or until the first that can't be decoded; returns why it ended early, "" where it did not."""
    av = library()
    number = 0
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                return "there is no picture in it, sound at most"
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            # One for all frames: its tables are made once, and anew only where size or pixel format change.
            reformatter = av.video.reformatter.VideoReformatter()
            start = None
            for frame in container.decode(stream):
                image = reformatter.reformat(frame, format="rgb24").to_ndarray()
                image = np.ascontiguousarray(np.rot90(image, frame.rotation // 90))
                shown = None if frame.pts is None else frame.pts * frame.time_base
                start = shown if start is None else start
                seconds = None if shown is None or start is None else shown - start
                yield Decoded(image, stream.average_rate, seconds)
                number += 1
            if number == 0:
                return "there is none in it"
            # A file cut short ends without an error.
            return f"{stream.frames} were declared" if number < stream.frames else ""
    except av.FFmpegError as error:
        return str(error)


def declared_frames(path: Path) -> int:
    """What the header says; 0 = nothing, or that the file can't be opened, of which `frames` will tell."""
    av = library()
    try:
        with av.open(str(path)) as container:
            return container.streams.video[0].frames
    except (av.FFmpegError, IndexError):
        return 0


def library() -> Any:
    """PyAV; UserError with the command where it is not installed."""
    try:
        import av
    except ModuleNotFoundError as error:
        raise UserError("av is not installed: pip install 'fiducial[video]'") from error
    return av
