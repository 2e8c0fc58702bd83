"""Small things that every room needs around files and the machine: writing whole or not at all, JSON, CSV, cores."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fiducial.errors import Failure, Unwritable, UserError
from fiducial.text_files import read_json as read_json  # noqa: PLC0414
from fiducial.text_files import read_object as read_object  # noqa: PLC0414

if TYPE_CHECKING:  # help is there before NumPy would be
    import numpy as np

# The command line that is being obeyed, for pages; set by `cli.main`, empty where Python called.
command_line: ContextVar[str] = ContextVar("command_line", default="")


FULL_BYTES = 2**16  # a disk with less room than this is full: what failed on it failed for that


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary name in the folder of `path`; what was written there becomes `path` in one step at the end.

    On an exception nothing is left of it and an older `path` stays as it was. The temporary name ends as `path` does,
    since libraries choose a format by the ending. Raises UserError where the folder can't be written, Unwritable where
    the file can't, whatever a library makes of a full disk.

    >>> with replacing(Path("table.csv")) as partial:
    ...     partial.write_text("a,b")
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    except OSError as error:
        raise UserError(f"{path}: can't be written: {error.strerror}; choose another place or make room") from error
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        partial.chmod(0o644)
        os.replace(partial, path)
    except Exception as error:
        is_full = shutil.disk_usage(path.parent).free < FULL_BYTES
        if isinstance(error, Failure) or not (isinstance(error, OSError) or is_full):
            raise
        why = "no space is left on its disk" if is_full else getattr(error, "strerror", None) or error
        raise Unwritable(path, f"can't be written: {why}; make room or choose another place") from error
    finally:
        partial.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all. What is no plain file (/dev/null, a pipe) is written to, not replaced."""
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    with replacing(path) as partial:
        partial.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Writes text in UTF-8, whole or not at all; of names of files that are no text, the bytes as \\udce9."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Writes plain JSON (dicts, lists, numbers, text), whole or not at all. A NaN is a ValueError: JSON has none."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Makes CSV of rows; its columns are all names that occur, in the order in which they are met. None is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def csv_numbers(path: Path) -> list[dict[str, float]]:
    """Reads the rows of a CSV of numbers, without the empty fields; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def digest(parts: Iterable[np.ndarray | bytes | str]) -> str:
    """Digests arrays and text into 16 hexadecimal digits, the same on every machine."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(data if isinstance(data, bytes) else data.tobytes())
    return total.hexdigest()[:16]


def finite(value: float | None) -> float | None:
    """Gives the number, or None where it is none that JSON can hold (NaN, infinite)."""
    return value if value is not None and math.isfinite(value) else None


def cores() -> int:
    """Counts the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
