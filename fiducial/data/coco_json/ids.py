"""Ids of any kind, text, floats and whole numbers of any size: mapped to rows, and given back as they were."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

from fiducial.errors import shown

Id = int | str | float | None  # as it stands in the file


class Rows:
    """Finds rows by their ids. `7`, `7.0`, `"7"` and `"000007"` are one id where the file's own spelling isn't there."""

    def __init__(self, ids: Iterable[Id]) -> None:
        self._rows = {number: row for row, number in enumerate(ids)}
        self._plain: dict[str, int] | None = None

    def of(self, number: Id) -> int:
        """Gives the row of an id; -1 where there is none, or several fit."""
        row = self._rows.get(number)
        if row is not None:
            return row
        if number is None:
            return -1
        if self._plain is None:
            self._plain = {}
            for own, place in self._rows.items():
                text = plain(own)
                self._plain[text] = -1 if text in self._plain else place
        return self._plain.get(plain(number), -1)


def plain(number: Id) -> str:
    """Spells an id without what tools add: 7 for "007", 7.0 and " 7 "."""
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    text = str(number).strip()
    return (text.lstrip("0") or "0") if text.isdecimal() else text


def id_of(value: dict[str, Any], field: str) -> Id:
    """Gives an id as it stands in an entry. Raises ValueError for what can be none, such as a list or NaN."""
    number = value.get(field)
    if number is None or (isinstance(number, (int, str)) and not isinstance(number, bool)):
        return number
    if isinstance(number, float) and math.isfinite(number):
        return number
    raise ValueError(f"{field} is {shown(number)}, expected a number or text")


def id_column(ids: Sequence[Id]) -> np.ndarray:
    """Makes a column of ids: int64 where all are whole numbers that fit, else the objects themselves."""
    if {type(number) for number in ids} <= {int}:
        try:
            return np.array(ids, dtype=np.int64)
        except OverflowError:
            pass
    column = np.empty(len(ids), dtype=object)
    column[:] = ids
    return column


def track_column(stored: Sequence[bytes]) -> np.ndarray | None:
    """Makes a column of identities [n] int64 of a field's JSON: whole numbers as they stand, where all are some, else numbers
    from 0 by first appearance; -1 where there is none, or what can be none. None where nobody has one."""
    numbers = {text: _identity(text) for text in set(map(bytes, stored))}
    known = [numbers[bytes(text)] for text in stored]
    if all(number is None for number in known):
        return None
    if not all(number is None or isinstance(number, int) for number in known):
        place = {text: row for row, text in enumerate(dict.fromkeys(number for number in known if number is not None))}
        known = [None if number is None else place[number] for number in known]
    return np.array([-1 if number is None else number for number in known], np.int64)


def _identity(stored: bytes) -> int | str | None:
    value = msgspec.json.decode(stored) if stored else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value if 0 <= value < 2**63 else None
    return plain(value) if isinstance(value, str) and value.strip() else None
