"""Files of HDF5, which several tools write: SLEAP, pandas (DeepLabCut's tables), MATLAB since its version 7.3."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fiducial.errors import Failure, UserError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
STARTS = (0, 512)  # bytes at which it may stand; MATLAB keeps the first 512 for itself


def is_one(file: Path) -> bool:
    """Tells by its first bytes whether a file is HDF5; False for what can't be read."""
    try:
        if not file.is_file():
            return False
        with file.open("rb") as opened:
            head = opened.read(STARTS[-1] + len(SIGNATURE))
    except (OSError, ValueError):
        return False
    return any(head[start : start + len(SIGNATURE)] == SIGNATURE for start in STARTS)


@contextmanager
def opened(file: Path, title: str) -> Iterator[Any]:
    """Opens a file that has passed its trial. What is damaged in it is a UserError: "is no `title` that can be read"."""
    h5py = library()
    try:
        with h5py.File(file, "r") as content:
            yield content
    except Failure:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, IndexError, AttributeError, OverflowError) as error:
        what = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(file, f"is no {title} that can be read ({what}); save it again") from error


def library() -> Any:
    """h5py; UserError with the command where it is not installed."""
    try:
        return importlib.import_module("h5py")
    except ModuleNotFoundError as error:
        raise UserError("h5py is not installed: pip install 'fiducial[formats]'") from error


def text_of(value: Any) -> str:
    """Decodes a text as h5py gives it, bytes or str."""
    return value.decode() if isinstance(value, bytes) else str(value)
