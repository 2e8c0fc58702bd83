"""The rows of a CSV as spreadsheets, pandas and people write it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fiducial import files, text_files
from fiducial.errors import UserError

MISSING = ("", "na", "n/a", "nan", "none", "null", "-")  # cells without a value, in small letters


def rows(file: Path) -> Iterator[list[str]]:
    """Reads all rows. The separator, of commas, semicolons and tabs, is the one that the first line has most of."""
    csv.field_size_limit(text_files.LONGEST_LINE)
    lines = text_files.lines(file)
    first = next(lines, "")
    separator = max(",;\t", key=first.count)
    try:
        yield next(csv.reader([first], delimiter=separator), [])
        yield from csv.reader(lines, delimiter=separator)
    except csv.Error as error:
        raise UserError(file, f"not CSV: {error}; save it again, one row a line") from error


def write(file: Path, written: Iterable[Sequence[str]]) -> None:
    """Writes rows parted by commas, whole or not at all."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(written)
    files.write_text(file, text.getvalue())
