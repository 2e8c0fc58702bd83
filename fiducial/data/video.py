"""Frames of a video file or GIF, by PyAV, upright and in RGB; what is broken gives what can be read.

FFmpeg itself refuses frames of more than `decoding.MOST_PIXELS`, before it allocates them, and whatever leads to other
files or addresses (playlists, lists of files)."""

from __future__ import annotations

from collections.abc import Generator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fiducial.data import decoding
from fiducial.errors import UserError
from fiducial.log import logger

# FFmpeg's names of containers and bare streams that hold all that they show.
CONTAINERS = (
    *("mov", "matroska", "avi", "asf", "mpegts", "mpeg", "flv", "live_flv", "ogg", "mxf", "dv", "gif", "apng", "ivf"),
    *("rm", "nut", "wtv", "swf", "mpegvideo", "m4v", "h263", "h264", "hevc", "vvc", "obu", "av1", "vc1", "mjpeg"),
    *("yuv4mpegpipe", "dirac"),
)
LIMITS = {"max_pixels": str(decoding.MOST_PIXELS)}
OPTIONS = {**LIMITS, "format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "file"}
UPRIGHT = {  # EXIF's number for a turn: whether x and y change places, and which of them run backwards then
    (False, False, False): 1,
    (False, True, False): 2,
    (False, True, True): 3,
    (False, False, True): 4,
    (True, False, False): 5,
    (True, True, False): 6,
    (True, True, True): 7,
    (True, False, True): 8,
}
NEARLY = 0.02  # of a display matrix, how far an entry may be from that of quarter turns


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
        with opened(path) as container:
            stream = container.streams.best("video")  # not a cover, which may be the first
            if stream is None:
                return "there is no picture in it, sound at most"
            if stream.codec_context is None:
                return "FFmpeg has no decoder for what is in it"
            stream.thread_type = "AUTO"
            stream.codec_context.options = LIMITS
            # One for all frames: its tables are made once, and anew only where size or pixel format change.
            reformatter = av.video.reformatter.VideoReformatter()
            start = rotation = None
            orientation = 1
            for frame in container.decode(stream):
                image = reformatter.reformat(frame, format="rgb24").to_ndarray()
                if (
                    frame.rotation != rotation
                ):  # at the first: a frame whose side data were asked for is not freed at once
                    rotation, orientation = frame.rotation, orientation_of(frame, path)
                shown = None if frame.pts is None or not frame.time_base else frame.pts * frame.time_base
                start = shown if start is None else start
                seconds = None if shown is None or start is None else shown - start
                yield Decoded(decoding.turned(image, orientation), stream.average_rate, seconds)
                del frame, image  # while the next is made: large ones take a tenth of a GB each
                number += 1
            if number == 0:
                return "there is none in it"
            # A file cut short ends without an error.
            return f"{stream.frames} were declared" if number < stream.frames else ""
    except av.FFmpegError as error:
        return _why(error)
    except UserError as error:
        return error.what


def declared_frames(path: Path) -> int:
    """What the header says; 0 = nothing, or that the file can't be opened, of which `frames` will tell."""
    av = library()
    try:
        with opened(path) as container:
            stream = container.streams.best("video")
            return 0 if stream is None else stream.frames
    except (av.FFmpegError, UserError):
        return 0


def is_one(path: Path) -> bool:
    """Tells whether FFmpeg finds moving pictures in a file, whatever its name says."""
    av = library()
    try:
        with opened(path) as container:
            return bool(container.streams.video)
    except av.FFmpegError:
        return False


def library() -> Any:
    """PyAV; UserError with the command where it is not installed."""
    try:
        import av
    except ModuleNotFoundError as error:
        raise UserError("av is not installed: pip install 'fiducial[video]'") from error
    return av


def opened(path: Path) -> Any:
    """As a file whatever its name: FFmpeg takes what stands before a colon for a protocol. It waits for a pipe's other
    end."""
    if path.exists() and not path.is_file():
        raise UserError(path, "expected a video's file, it is a folder, a pipe or a device")
    return library().open(f"file:{path}", options=OPTIONS, metadata_errors="replace")


def orientation_of(frame: Any, path: Path) -> int:
    """EXIF's number for the turn that the display matrix asks for: of quarters and mirrors the nearest, which is said.

    The matrix (ISO 14496-12, 8.3.2) shows a stored point (x, y) at (a x + c y, b x + d y)."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return 1
    (a, b), (c, d) = np.frombuffer(data, np.int32).reshape(3, 3)[:2, :2].astype(float)
    swaps = abs(b) + abs(c) > abs(a) + abs(d)
    x, y = (c, b) if swaps else (a, d)
    scale = max(abs(x), abs(y))
    others = (a, d) if swaps else (b, c)
    if scale and max(abs(abs(x) - scale), abs(abs(y) - scale), *map(abs, others)) > NEARLY * scale:
        logger.warning(
            f"{path}: its display matrix does more than turn by quarters and mirror; the nearest turn is taken"
        )
    return UPRIGHT[bool(swaps), bool(x < 0), bool(y < 0)]


def _why(error: Any) -> str:
    """FFmpeg's words without the path, which the reader of the line has."""
    if error.errno == 22:  # EINVAL: FFmpeg has no code of its own for it
        return f"FFmpeg refuses it, as it does frames of more than {decoding.MOST_PIXELS:,} pixels and lists of files"
    return error.strerror or str(error)
