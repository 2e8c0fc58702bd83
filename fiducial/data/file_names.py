"""Which names mean one file, though one tool writes more of its path than another."""

from __future__ import annotations

from collections.abc import Sequence


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

    def rows_of(self, name: str) -> list[int]:
        """Gives the rows that have this very path; else those whose path agrees with it as far as both go; else those
        whose last part is the same, if it is one file. Several rows of one path are one file; of others, the name
        doesn't tell."""
        wanted = parts_of(name)
        alike = self._by_last.get(wanted[-1], []) if wanted else []
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
