"""Which names mean one file, though one tool writes more of its path than another, or spells it in its own way."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

DEEPEST = 30  # folders of a name that are looked for


class FileNames:
    """Finds rows by the names of their files.

    >>> names = FileNames(["day/a.jpg", "night/a.jpg", "night/b.jpg"])
    >>> names.rows_of("set/day/a.jpg"), names.rows_of("a.jpg"), names.rows_of("images/b.jpg")
    ([0], [0, 1], [2])
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.parts = [parts_of(name) for name in names]
        self._by_last: dict[str, list[int]] = {}
        for row, parts in enumerate(self.parts):
            if parts:
                self._by_last.setdefault(parts[-1], []).append(row)
        self._by_spelling: dict[str, list[int]] = {}  # made when the first name is not there as it is spelled

    def rows_of(self, name: str) -> list[int]:
        """Gives the rows that have this very path; else those whose path agrees with it as far as both go; else those
        whose last part is the same, if it is one file; else the same of those that are only spelled otherwise
        (`folded`). Several rows of one path are one file; of others, the name doesn't tell."""
        wanted = parts_of(name)
        if not wanted:
            return []
        alike = self._by_last.get(wanted[-1], [])
        if not alike:
            if not self._by_spelling:
                for row, parts in enumerate(self.parts):
                    if parts:
                        self._by_spelling.setdefault(folded(parts[-1]), []).append(row)
            alike = self._by_spelling.get(folded(wanted[-1]), [])
        same = [row for row in alike if self.parts[row] == wanted]
        agreeing = [row for row in alike if agree(self.parts[row], wanted)]
        return same or agreeing or (alike if len({self.parts[row] for row in alike}) == 1 else [])

    def is_one_file(self, rows: Sequence[int]) -> bool:
        """Says whether rows are all of one path."""
        return len({self.parts[row] for row in rows}) == 1


def parts_of(name: str) -> tuple[str, ...]:
    """Splits a path, also one of Windows.

    >>> parts_of("./day\\\\a.jpg")
    ('day', 'a.jpg')
    """
    return tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))


def agree(one: Sequence[str], other: Sequence[str]) -> bool:
    """Says whether two paths agree from their ends as far as both go."""
    common = min(len(one), len(other))
    return common > 0 and one[-common:] == other[-common:]


def folded(part: str) -> str:
    """Spells a part of a path without what tools and systems change: case, %20 for a blank, composed accents.

    >>> folded("My%20Face.JPG")
    'my face.jpg'
    """
    return unicodedata.normalize("NFC", unquote(part)).casefold()


class Folder:
    """Finds files under a folder by names that may be of another machine, by one listing a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listings: dict[str, set[str]] = {}
        self._spellings: dict[str, dict[str, str | None]] = {}

    def count(self, parts: Sequence[tuple[str, str]]) -> int:
        """Counts the names that are there as they are, relative to the folder (or absolute), as `os.path.split` parts
        them."""
        return sum(last in self._listing(folder) for folder, last in parts)

    def find(self, name: str) -> str | None:
        """Gives the file of a name relative to the folder: of the longest end of its path that is there, also where only
        the spelling of its last part differs. None where there is none, or several differ in spelling alone."""
        if self.count([os.path.split(name)]):
            return name
        parts = [part for part in parts_of(name) if part != ".."][-DEEPEST:]
        for start in range(len(parts)):
            folder = "/".join(parts[start:-1])
            last = parts[-1] if parts[-1] in self._listing(folder) else self._spelling(folder).get(folded(parts[-1]))
            if last is not None:
                return os.path.join(folder, last)
        return None

    def _listing(self, folder: str) -> set[str]:
        if folder not in self._listings:
            self._listings[folder] = listing(self.path / folder)
        return self._listings[folder]

    def _spelling(self, folder: str) -> dict[str, str | None]:
        """The names in a folder as `folded`; None where several are spelled so."""
        if folder not in self._spellings:
            there = self._spellings[folder] = {}
            for name in self._listing(folder):
                there[folded(name)] = None if folded(name) in there else name
        return self._spellings[folder]


def listing(folder: Path) -> set[str]:
    """Lists the names in a folder; none where it is no folder that can be read."""
    try:
        return set(os.listdir(folder)) if os.path.isdir(folder) else set()
    except (OSError, ValueError):
        return set()
