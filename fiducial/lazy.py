"""Names that are imported when they are first used: doors of rooms, and what a type offers that rooms above it know."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any


def imported(reference: str) -> Any:
    """Imports `module:name`."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def door(package: str, where: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Makes the `__getattr__` and `__dir__` of a package whose names are in modules of it: name -> "module.name".

    A name that is also that of a room is the room, which answers a call (`callable_room`)."""

    def get(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, _, attribute = where[name].rpartition(".")
        if not module:
            return importlib.import_module(f"{package}.{name}")
        return imported(f"{package}.{module}:{attribute}")

    return get, lambda: sorted({*vars(sys.modules[package]), *where})


def callable_room(package: str, reference: str) -> None:
    """Lets a room be called: as `fiducial.export(..)` the room `fiducial/export/` does what `reference` does.

    Python sets a package's name in the package around it when it is imported, so that a function of that name there would
    be hidden from then on."""

    class Room(ModuleType):
        def __call__(self, *arguments: Any, **options: Any) -> Any:
            return imported(reference)(*arguments, **options)

        @property
        def __wrapped__(self) -> Any:  # for `inspect.signature` and `help`
            return imported(reference)

    sys.modules[package].__class__ = Room
