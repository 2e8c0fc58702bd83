"""Frames of a video by their numbers, as images: for labels that name a video and a frame.

Number n is the frame that is shown n-th, as OpenCV counts. The times of all frames are read once without decoding; a frame
is decoded from the key frame before it, or from where the reader stands, whichever is nearer."""

from __future__ import annotations

import os
import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fiducial.data import decoding, video
from fiducial.errors import UserError

OPEN = 4  # videos kept open in a process
AHEAD = 60  # frames that are decoded on the way rather than looked for anew


@dataclass(frozen=True)
class VideoFrames:
    """Some frames of a video; implements `Images`. Each process opens the file for itself."""

    path: Path
    numbers: Sequence[int]

    def __len__(self) -> int:
        return len(self.numbers)

    def name(self, row: int) -> str:
        return f"{self.path}#{self.numbers[row]}"

    def read(self, row: int, reduce: int = 1) -> np.ndarray:
        return _reader_of(self.path).frame(self.numbers[row])


def count(path: Path) -> int:
    """Counts the frames of a video. Raises UserError where it can't be read."""
    return len(_reader_of(path).times)


def of_name(name: str) -> tuple[Path, int] | None:
    """Takes the name of a frame apart; None for other images' names."""
    path, _, number = name.rpartition("#")
    is_frame = number.isdecimal() and os.path.isfile(path)
    return (Path(path), int(number)) if is_frame else None


class _Reader:
    """An open video."""

    def __init__(self, path: Path) -> None:
        self.path, self.lock = path, threading.Lock()
        av = video.library()
        try:
            with video.opened(path) as container:
                stream = container.streams.best("video")
                if stream is None:
                    raise UserError(path, "has no moving pictures; expected a video")
                times = [packet.pts for packet in container.demux(stream) if packet.size]
        except av.FFmpegError as error:
            raise UserError(path, f"can't be read as a video: {error.strerror or error}") from error
        # Streams without times are decoded from their start.
        self.has_times = None not in times and len(set(times)) == len(times)
        self.times: list[int] = sorted(times) if self.has_times else list(range(len(times)))
        self.frames: Any = None
        self.next = 0  # number of the frame that comes next
        self.last: tuple[int, np.ndarray] | None = None  # that was decoded, which is often asked for again

    def frame(self, number: int) -> np.ndarray:
        """Decodes one frame."""
        if not 0 <= number < len(self.times):
            raise UserError(f"{self.path}#{number}", f"has no such frame; the video has {len(self.times)}")
        av = video.library()
        with self.lock:
            if self.last is not None and self.last[0] == number:
                return self.last[1].copy()
            if self.frames is None or not 0 <= number - self.next <= AHEAD:
                self._seek(number)
            try:
                for frame in self.frames or ():
                    own = bisect_left(self.times, frame.pts) if self.has_times else self.next
                    self.next = own + 1
                    if own >= number:
                        image = frame.to_ndarray(format="rgb24")
                        self.last = number, decoding.turned(image, video.orientation_of(frame, self.path))
                        return self.last[1].copy()
            except av.FFmpegError as error:
                raise UserError(f"{self.path}#{number}", f"can't be decoded: {error.strerror or error}") from error
            raise UserError(f"{self.path}#{number}", "can't be decoded: the video ends before it")

    def _seek(self, number: int) -> None:
        av = video.library()
        try:
            container = video.opened(self.path)
            stream = container.streams.best("video")
            stream.codec_context.options = video.LIMITS
            if self.has_times and number:
                container.seek(self.times[number], stream=stream, backward=True)
            self.frames, self.next = container.decode(stream), 0
        except av.FFmpegError as error:
            raise UserError(self.path, f"can't be read as a video: {error.strerror or error}") from error


_readers: OrderedDict[tuple[int, Path], _Reader] = OrderedDict()
_lock = threading.Lock()


def _reader_of(path: Path) -> _Reader:
    key = (os.getpid(), path)  # a fork's file positions are its parent's
    with _lock:
        if key not in _readers:
            _readers[key] = _Reader(path)
            while len(_readers) > OPEN:
                _readers.popitem(last=False)
        _readers.move_to_end(key)
        return _readers[key]
