"""What C libraries print on stderr themselves while they decode (libjpeg, libpng, OpenCV) or load a network (LiteRT):
taken, and said as one line where it means that an image is damaged."""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from fiducial.log import logger

THEIRS = re.compile(
    r"\[ ?(WARN|ERROR|FATAL)|libpng |Corrupt JPEG|Premature end|Inconsistent progression|Invalid SOS|Unsupported|"
    r"Unknown Adobe|Warning: unknown JFIF|Application transferred|> |must be |"  # the last two go on what OpenCV began
    r"INFO: Created TensorFlow Lite|WARNING: All log messages before absl|[IW]\d{4} |Failed to load \S*torchao|"
    r"\[cpuinfo_utils"  # these and the line before are LiteRT's and ExecuTorch's
)
DAMAGED = re.compile(
    r"Corrupt JPEG data(?!.*extraneous bytes before marker 0xd9)|Premature end|libpng error|Inconsistent"
)
STDERR = 2
MOST_BYTES = 2**20  # that are read of what was printed


@contextmanager
def taken(name: str) -> Iterator[None]:
    """Takes what libraries print while the image `name` is decoded. Where that goes well though they call it damaged,
    that is said, once. What others print in the meantime comes out afterwards."""
    _process.enter(name)
    is_fine = False
    try:
        yield
        is_fine = True
    finally:
        said, names = _process.leave(name)
        damage = next((line for line in said if DAMAGED.match(line)), None)
        if is_fine and damage is not None and name not in _process.told:
            _process.told.update(names)
            logger.warning(f"{' or '.join(names)}: damaged inside, decoded as far as that goes ({damage})")


class _Process:
    """This process's stderr, whose place a file takes while images are decoded, maybe in several threads."""

    def __init__(self) -> None:
        self.told: set[str] = set()  # images that were called damaged
        self._lock = threading.Lock()
        self._at_work: list[str] = []
        self._file = self._reader = self._stderr = -1

    def enter(self, name: str) -> None:
        """Begins to take what is printed, for an image beside others."""
        with self._lock:
            if not self._at_work:
                with suppress(OSError):  # without stderr, or room for the file, what they print goes where it goes
                    if self._file < 0:
                        self._open()
                    self._stderr = os.dup(STDERR)
                    os.dup2(self._file, STDERR)
            self._at_work.append(name)

    def leave(self, name: str) -> tuple[list[str], list[str]]:
        """Gives the lines of libraries since the last image, and the images that they may be about."""
        with self._lock:
            names = list(self._at_work)
            self._at_work.remove(name)
            if self._stderr < 0:
                return [], names
            if not self._at_work:
                os.dup2(self._stderr, STDERR)
            data = os.read(self._reader, MOST_BYTES)
            said, others = _sorted_out(data)
            if others:
                os.write(self._stderr, others)
            if not self._at_work:
                self.restore()
                if data:
                    os.ftruncate(self._file, 0)
                    os.lseek(self._reader, 0, os.SEEK_SET)
        return said, names

    def _open(self) -> None:
        """Makes the file, which has no name; what is printed comes to its end, and is read from another place."""
        file, path = tempfile.mkstemp(prefix="fiducial-")
        os.close(file)
        self._reader = os.open(path, os.O_RDONLY)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.unlink(path)

    def restore(self) -> None:
        """Puts stderr back in its place."""
        if self._stderr >= 0:
            os.dup2(self._stderr, STDERR)
            os.close(self._stderr)
            self._stderr = -1

    def restore_in_child(self) -> None:
        """Gives a fork that comes in the meantime its own file and stderr."""
        self._lock = threading.Lock()
        self._at_work.clear()
        self.restore()
        self._file = -1


def _sorted_out(data: bytes) -> tuple[list[str], bytes]:
    """The lines of libraries, and what is not theirs. Lines that begin with a blank go on what the one before began."""
    said, others, is_theirs = [], [], False
    for line in data.splitlines(keepends=True):
        text = line.decode(errors="replace").strip()
        is_theirs = not text or bool(THEIRS.match(text)) or (is_theirs and line[:1].isspace())
        said += [text] if is_theirs else []
        others += [] if is_theirs else [line]
    return said, b"".join(others)


_process = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.restore_in_child)
