"""DeepLabCut's tables as pandas writes them into .h5, in both of its forms, read without pandas.

`fixed` (napari-deeplabcut, convertcsv2h5): axis0 are the columns and axis1 the rows, each by levels with the number of the
word on each; blocks of values name their own columns. `table` (the older interface): one table with the row's name and
blocks of values, whose columns are pickled lists of texts. Nothing else is taken out of a pickle."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import trial
from fiducial.data import hdf5
from fiducial.errors import UserError

FILE = "table of DeepLabCut's"
LEVELS = {3: ("scorer", "bodyparts", "coords"), 4: ("scorer", "individuals", "bodyparts", "coords")}


@dataclass(frozen=True)
class Cells:
    """What a table holds, as it stands there."""

    header: dict[str, list[str]]  # the words of each of LEVELS, one a column
    names: list[str]  # [n] of the rows, with slashes
    values: np.ndarray  # [n, columns] float64


def is_one(file: Path) -> bool:
    """Tells by name and first bytes whether a file may be such a table."""
    return file.suffix.lower() in (".h5", ".hdf5") and hdf5.is_one(file)


def read(file: Path) -> Cells:
    """Reads the table of a file, in a process of its own first. Raises UserError where it has none."""
    hdf5.library()
    trial.passes(f"{__name__}:read_once", str(file), [file])
    return _read(file)


def read_once(file: str) -> Iterator[Any]:
    """Reads a file: the task of its trial."""
    _read(Path(file))
    yield "read"


def _read(file: Path) -> Cells:
    try:
        with hdf5.opened(file, FILE) as content:
            groups = [group for group in content.values() if "pandas_type" in group.attrs]
            if len(groups) != 1:
                raise UserError(file, f"holds {len(groups)} tables of pandas, expected one, of labels")
            [group] = groups
            columns, names, blocks = _table(group) if "table" in group else _fixed(group)
            values = np.full((len(names), len(columns)), np.nan)
            place = {column: number for number, column in enumerate(columns)}
            for own, block in blocks:
                values[:, [place[column] for column in own]] = block
    except pickle.UnpicklingError as error:
        raise UserError(file, f"{error}; save its labels as CSV beside") from error
    depth = len(columns[0]) if columns else 0
    if depth not in LEVELS or {len(column) for column in columns} != {depth}:
        raise UserError(file, f"has columns of {depth} names; expected scorer, (individuals,) bodyparts and coords")
    header = {name: [column[level] for column in columns] for level, name in enumerate(LEVELS[depth])}
    return Cells(header, names, values)


Columns = list[tuple[str, ...]]


def _fixed(group: Any) -> tuple[Columns, list[str], list[tuple[Columns, np.ndarray]]]:
    columns = _axis(group, "axis0")
    names = ["/".join(part for part in row if part) for row in _axis(group, "axis1")]
    count = int(group.attrs["nblocks"])
    blocks = [
        (_axis(group, f"block{i}_items"), np.asarray(group[f"block{i}_values"], np.float64))
        for i in range(count)
        if f"block{i}_values" in group and group[f"block{i}_values"].ndim == 2
    ]
    return columns, names, blocks


def _axis(group: Any, name: str) -> Columns:
    """The words of each entry of an axis, by its levels."""
    if name in group:
        return [(word,) for word in _words(group[name])]
    levels = int(group.attrs[f"{name}_nlevels"])
    if not 0 < levels <= 8:
        raise ValueError(f"{name} has {levels} levels")
    parts = []
    for level in range(levels):
        words, number = _words(group[f"{name}_level{level}"]), group[f"{name}_label{level}"][()]
        parts.append([words[place] if place >= 0 else "" for place in number.tolist()])
    return list(zip(*parts, strict=True))


def _words(dataset: Any) -> list[str]:
    if dataset.dtype.kind != "S":
        raise ValueError(f"{dataset.name} holds {dataset.dtype}, expected text")
    return [word.decode() for word in dataset[()].tolist()]


def _table(group: Any) -> tuple[Columns, list[str], list[tuple[Columns, np.ndarray]]]:
    table = group["table"]
    stored = table[()]
    axes = _unpickled(group.attrs["non_index_axes"])
    columns = _columns(axes[0][1])
    blocks = []
    for name in stored.dtype.names:
        if name.startswith("values_block_"):
            own = _columns(_unpickled(table.attrs[f"{name}_kind"]))
            blocks.append((own, stored[name].astype(np.float64).reshape(len(stored), len(own))))
    if stored["index"].dtype.kind != "S":
        raise ValueError("its rows are not named")
    return columns, [name.decode() for name in stored["index"].tolist()], blocks


def _columns(found: Any) -> Columns:
    if not isinstance(found, list) or not all(isinstance(column, tuple) for column in found):
        raise ValueError("its columns are no list of names")
    return [tuple(str(name) for name in column) for column in found]


class _Plain(pickle.Unpickler):
    """Takes lists, tuples, texts and numbers out of a pickle, and refuses whatever would run something."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"its columns are pickled with {module}.{name}, which is not taken from a file")


def _unpickled(attribute: Any) -> Any:
    try:
        return _Plain(io.BytesIO(bytes(attribute))).load()
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # whatever broken bytes lead to
        raise ValueError("its columns can't be unpickled") from error
