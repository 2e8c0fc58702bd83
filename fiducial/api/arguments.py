"""What a program passes, as the rooms take it: paths, sources of data, and the words of a recipe."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fiducial import config
from fiducial.data.source import Source
from fiducial.errors import UserError
from fiducial.geometry import Size


def path_of(value: Any, name: str) -> Path:
    """Gives a path; UserError for what is none."""
    if not isinstance(value, (str, os.PathLike)):
        raise UserError(name, f"expected a path, got {type(value).__name__}")
    return Path(value)


def optional_path(value: Any, name: str) -> Path | None:
    """Gives a path, or None for None."""
    return None if value is None else path_of(value, name)


def source_of(
    data: Any,
    images: Any = None,
    category: str | None = None,
    also: Sequence[Any] = (),
    group: str | None = None,
) -> Source:
    """Gives data on a disk; UserError for what is no path."""
    if isinstance(data, Source):
        return data
    further = tuple(path_of(path, "also") for path in also)
    return Source(path_of(data, "data"), optional_path(images, "images"), category, further, group).here()


def options_of(**given: Any) -> dict[str, Any]:
    """Gives the choices of a recipe that were made, in the words of the command line."""
    chosen = {name: value for name, value in given.items() if value is not None}
    for name in ("epochs", "batch_size", "patience"):
        value = chosen.get(name, 1)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(name, f"{value!r}: expected a whole number above 0")
    if "size" in chosen:
        chosen["size"] = _size(chosen["size"])
    if "lr" in chosen:
        chosen["lr"] = str(chosen["lr"])
    if "points" in chosen and not isinstance(chosen["points"], str):
        chosen["points"] = ",".join(map(str, chosen["points"]))
    if isinstance(chosen.get("init"), os.PathLike):
        chosen["init"] = os.fspath(chosen["init"])
    return chosen


def settings_of(more: Mapping[str, Any], settings: Sequence[str] = ()) -> list[str]:
    """Gives further settings as `--set` has them: `workers=0`, `head={"sigma_cells": 1.5}`."""
    flat = config.flat(dict(more))
    return [*settings, *(f"{name}={config.as_setting(value)}" for name, value in flat.items())]


def names_of(values: str | Sequence[Any] | None) -> str | None:
    """Joins a list of words by commas, as the command line has them."""
    return values if values is None or isinstance(values, str) else ",".join(map(str, values))


def refuse(mode: str, given: dict[str, bool]) -> None:
    """Refuses options that were given and that a mode can't honour."""
    for name, is_given in given.items():
        if is_given:
            raise UserError(name, f"not with {mode}; leave one out")


def _size(size: Any) -> str:
    """`128`, `(192, 256)`, `Size(192, 256)` or `"192x256"` -> WIDTHxHEIGHT."""
    if isinstance(size, Size):
        return str(size)
    if isinstance(size, int) and not isinstance(size, bool):
        return f"{size}x{size}"
    if isinstance(size, (tuple, list)) and len(size) == 2:
        return f"{size[0]}x{size[1]}"
    if isinstance(size, str):
        return size
    raise UserError("size", f"{size!r}: expected a number, (width, height) or 'WIDTHxHEIGHT', px")
