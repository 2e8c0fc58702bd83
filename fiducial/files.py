"""Small things that every room needs around files and the machine: writing whole or not at all, JSON, CSV, cores."""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fiducial.errors import Failure, Interrupted, UserError
from fiducial.text_files import ours as ours  # noqa: PLC0414
from fiducial.text_files import read_json as read_json  # noqa: PLC0414
from fiducial.text_files import read_object as read_object  # noqa: PLC0414
from fiducial.text_files import read_part as read_part  # noqa: PLC0414

if TYPE_CHECKING:  # help is there before NumPy would be
    import numpy as np

# The command line that is being obeyed, for pages; set by `cli.main`, empty where Python called.
command_line: ContextVar[str] = ContextVar("command_line", default="")


FULL_BYTES = 2**16  # a disk with less room than this is full: what failed on it failed for that
FULL = (errno.ENOSPC, errno.EDQUOT)
CROWDED = (errno.EMFILE, errno.ENFILE)
OF_A_DISK = (*FULL, *CROWDED, errno.EROFS, errno.EACCES, errno.EIO)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary name in the folder of `path`; what was written there becomes `path` in one step at the end.

    On an exception nothing is left of it and an older `path` stays as it was. The temporary name ends as `path` does,
    since libraries choose a format by the ending. Raises Interrupted where it can't be written, whatever a library makes
    of a full disk.

    >>> with replacing(Path("table.csv")) as partial:
    ...     partial.write_text("a,b")
    """
    import tempfile  # here and below: what help and wrong words don't wait for

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    except OSError as error:
        raise unwritable(path, error) from error
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        partial.chmod(0o644)
        os.replace(partial, path)
    except Exception as error:
        if isinstance(error, Failure) or (reason := _of_the_disk(error, path.parent)) is None:
            raise
        raise unwritable(path, reason) from error
    finally:
        with suppress(OSError):  # the folder may be gone, or the disk read-only by now
            partial.unlink(missing_ok=True)


def refuse_unwritable(option: str, folder: Path) -> None:
    """Raises UserError where nothing can be written in a folder, or it can't be made; hours before something is."""
    parent = next((each for each in (folder, *folder.parents) if each.exists()), None)
    if parent is not None and not (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
        raise UserError(option, f"nothing can be written in {parent}; give a folder that is yours")


def unwritable(path: object, error: OSError, kind: type[UserError] = Interrupted) -> UserError:
    """Makes the error of a file or folder that can't be written: why, and what to do about it."""
    advice = "choose another place"
    if error.errno in FULL:
        advice = f"make room or {advice}"
    elif error.errno in CROWDED:
        advice = "allow more open files (`ulimit -n`)"
    return kind(path, f"can't be written: {error.strerror or error}; {advice}")


def unreadable(path: Path, error: OSError) -> UserError:
    """Makes the error of a file that can't be read: Interrupted where that is not the file's fault, but that of the
    machine, or of a drive that is gone."""
    is_gone = error.errno in (errno.ENOENT, errno.EIO) and not path.parent.is_dir()
    if error.errno in (*CROWDED, errno.ENOMEM, errno.ESTALE, errno.ENOTCONN, errno.ENODEV) or is_gone:
        advice = "allow more open files (`ulimit -n`)" if error.errno in CROWDED else "see to its drive"
        return Interrupted(path, f"can't be read any more: {error.strerror}; {advice}")
    return UserError(path, f"can't be read: {error.strerror}")


PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8")
LOOKED_AT = 256  # bytes of a file, by which it is told what it is


def refuse_strange(path: Path, expected: str, *, may_be: Sequence[str] = ()) -> None:
    """Raises UserError that says what a file is where it is no `expected`, and plainly something else: empty, a Git LFS pointer,
    a web page, a picture, a zip file or text. `may_be`: of "markup", "zip" and "text" those that `expected` may be."""
    try:
        with path.open("rb") as file:
            start = file.read(LOOKED_AT)
    except OSError as error:
        raise unreadable(path, error) from error
    if not start:
        raise UserError(path, f"empty file, not {expected}; download or copy it again")
    if start.startswith(b"version https://git-lfs"):
        raise UserError(path, f"a Git LFS pointer in place of {expected}; fetch it with `git lfs pull`")
    if start.lstrip()[:1] == b"<" and "markup" not in may_be:
        raise UserError(path, f"a web page, not {expected}: the download went wrong, try it again")
    if start.startswith(PICTURES) or (start[:4], start[8:12]) == (b"RIFF", b"WEBP"):
        raise UserError(path, f"a picture, not {expected}; give the file that is meant")
    if start.startswith(b"PK\x03\x04") and "zip" not in may_be:
        raise UserError(path, f"a zip file, not {expected}; unpack it and give the file in it")
    if "text" not in may_be and _is_text(start):
        raise UserError(path, f"a text file, not {expected}; give the file that is meant")


def _is_text(start: bytes) -> bool:
    """Tells whether a file's first bytes are printable characters of UTF-8, the last of which may be cut."""
    text = start.decode("utf-8", "ignore")
    return len(text.encode()) > len(start) - 4 and all(char.isprintable() or char.isspace() for char in text)


def _of_the_disk(error: Exception, folder: Path) -> OSError | None:
    """Finds the fault of a disk behind what a library made of it: a text with the system's words or number, or positions
    that don't fit. None where it is another fault."""
    if isinstance(error, OSError) and not (error.errno is None and _is_full(folder)):
        return error
    for number in OF_A_DISK if folder.is_dir() else (errno.ENOENT, *OF_A_DISK):
        if re.search(rf"os error {number}\b|{re.escape(os.strerror(number))}", str(error)):
            return OSError(number, os.strerror(number))
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) if _is_full(folder) else None


def _is_full(folder: Path) -> bool:
    """Tells whether a disk has no room for a small file."""
    try:
        return shutil.disk_usage(folder).free < FULL_BYTES
    except OSError:
        return False


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
    with ours(path), path.open(encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def digest(parts: Iterable[np.ndarray | bytes | str]) -> str:
    """Digests arrays and text into 16 hexadecimal digits, the same on every machine."""
    import hashlib

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
