"""Names that are imported when they are first used: doors of rooms, and what a type offers that rooms above it know."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def imported(reference: str) -> Any:
    """Imports `module:name`."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def door(package: str, where: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Makes the `__getattr__` and `__dir__` of a package whose names are in modules of it: name -> "module.name"; a room of
    the name itself where that is ""."""

    def get(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if not where[name]:
            return importlib.import_module(f"{package}.{name}")
        module, _, attribute = where[name].rpartition(".")
        return imported(f"{package}.{module}:{attribute}")

    return get, lambda: sorted({*vars(sys.modules[package]), *where})
