"""Text from files of strangers: plain files up to a size, in the encoding that their first bytes tell; JSON."""

from __future__ import annotations

import codecs
import io
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from fiducial.errors import Failure, UserError, shown, to_json

MEGABYTE = 2**20
LARGEST_MB = 2048  # COCO-WholeBody's train.json has 1,000
LARGEST_SETTING = "FIDUCIAL_MAX_TEXT_MB"  # in the environment: another limit
LONGEST_LINE = 64 * MEGABYTE  # characters
# By the mark at the beginning. Longer ones first: that of UTF-32 begins as that of UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_bytes(path: Path, largest_mb: float = LARGEST_MB) -> bytes:
    """Reads a plain file. Raises UserError where it can't be read, is empty, larger than allowed, or no plain file."""
    with _opened(path, largest_mb) as file:
        data = file.read()
    if not data[:4096].strip() and not data.strip():
        raise UserError(path, "the file is empty")
    return data


def read_text(path: Path, largest_mb: float = LARGEST_MB) -> str:
    """Reads a file in UTF-8, or in UTF-16 or 32 where it begins with their mark. An empty file is "".

    Raises UserError as `read_bytes`, and where the bytes are no text."""
    with _opened(path, largest_mb) as file:
        data = file.read()
    with _text_errors(path, data):
        text = data.decode(_encoding_of(data))
    _refuse_zero(path, text, 1)
    return text


def lines(path: Path) -> Iterator[str]:
    """Reads a file line by line with their ends, as `csv.reader` takes them. Raises UserError as `read_text`."""
    with _opened(path, LARGEST_MB) as file, _text_errors(path, b""):
        encoding = _encoding_of(file.read(4))
        file.seek(0)
        text = io.TextIOWrapper(file, encoding=encoding, newline="")
        number = 0
        while line := text.readline(LONGEST_LINE):
            number += 1
            if len(line) == LONGEST_LINE:
                raise UserError(path, f"line {number} is longer than {LONGEST_LINE / MEGABYTE:.0f} million characters")
            _refuse_zero(path, line, number)
            yield line


def read_json(path: Path, largest_mb: float = LARGEST_MB) -> Any:
    """Reads a file's JSON. Raises UserError that names the file where it is missing or broken."""
    return parse_json(as_utf8(read_bytes(path, largest_mb), path), path)


def read_object(path: Path, *fields: str) -> dict[str, Any]:
    """Reads a file of JSON that is an object with these fields. Raises UserError that names what is missing."""
    values = read_json(path)
    missing = [field for field in fields if not isinstance(values, dict) or field not in values]
    if missing or not isinstance(values, dict):
        wanted = f" with a field {missing[0]!r}" if missing else ""
        raise UserError(path, f"expected an object{wanted}, as Fiducial wrote it; make or copy it anew")
    return values


def read_part(path: Path, name: str) -> dict[str, Any]:
    """Reads the object that a file's object holds as `name`; {} where it holds none. Raises UserError where that is
    something else."""
    part = read_object(path).get(name, {})
    if not isinstance(part, dict):
        raise UserError(path, f"{name}: got {shown(part)}, expected an object, as Fiducial wrote it; copy it anew")
    return part


@contextmanager
def ours(path: Path) -> Iterator[None]:
    """Makes sense of a file that this package wrote: whatever a damaged one trips inside is a UserError that names it."""
    try:
        yield
    except Failure:
        raise
    except (ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, TypeError, ValueError) as error:
        said = to_json(error)["what"]
        raise UserError(path, f"is not as Fiducial wrote it ({said}); copy it anew, or remove it") from error


def as_utf8(data: bytes, path: object) -> bytes:
    """Gives the bytes of JSON in UTF-8 without a mark: it begins with ASCII, so that its encoding is certain."""
    encoding = json.detect_encoding(data)
    if encoding in ("utf-8", "utf-8-sig"):
        return data.removeprefix(codecs.BOM_UTF8)
    with _text_errors(path, data):
        return data.decode(encoding).encode()


def parse_json(data: bytes, path: object) -> Any:
    """Parses JSON in UTF-8, with NaN and Infinity, which it hasn't. Raises UserError where it is none."""
    with _text_errors(path, data):
        text = data.decode()
    try:
        return json.loads(text)
    except RecursionError as error:
        raise UserError(
            path, "not JSON that can be read: lists or objects nested too deeply; expected a few levels"
        ) from error
    except ValueError as error:
        raise UserError(path, f"not JSON: {error}") from error


@contextmanager
def _opened(path: Path, largest_mb: float) -> Iterator[BinaryIO]:
    """Opens a plain file; never waits for a pipe's other end."""
    try:
        limit = max(float(os.environ.get(LARGEST_SETTING) or largest_mb), largest_mb)
    except ValueError:
        raise UserError(LARGEST_SETTING, "expected a number of megabytes in this variable of the environment") from None
    try:
        about = os.stat(path)
        if not stat.S_ISREG(about.st_mode):
            kind = "a folder" if stat.S_ISDIR(about.st_mode) else "a pipe or device"
            raise UserError(path, f"is {kind}, expected a file")
        if about.st_size > limit * MEGABYTE:
            raise UserError(
                path,
                f"{about.st_size / MEGABYTE:,.0f} MB, the limit is {limit:g}; raise it by {LARGEST_SETTING}=MB in the "
                "environment where there is memory for some four times the file",
            )
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise UserError(path, f"can't be read: {error.strerror}") from error
    except ValueError as error:  # a zero byte in the name, or characters that no file system has
        if isinstance(error, (UserError, UnicodeDecodeError)):
            raise
        raise UserError(path, f"is no name of a file: {error}") from error


def _encoding_of(head: bytes) -> str:
    return next((encoding for mark, encoding in _MARKS.items() if head.startswith(mark)), "utf-8")


@contextmanager
def _text_errors(path: object, data: bytes) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        line = f"line {data.count(10, 0, error.start) + 1}, " if data else ""
        raise UserError(
            path, f"not text in {error.encoding.upper()} ({line}byte {error.start}); save it as UTF-8"
        ) from error


def _refuse_zero(path: Path, text: str, line: int) -> None:
    place = text.find("\0")
    if place >= 0:
        line += text.count("\n", 0, place)
        raise UserError(path, f"line {line} has a zero byte, as UTF-16 without its mark has; save it as UTF-8")
