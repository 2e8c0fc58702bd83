"""YAML of strangers: text, lists and mappings of text, to a size, a depth and a number of values.

Scalars stay text: what a number means is its reader's affair, and no number, date or tag of a file makes Python do
anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fiducial import text_files
from fiducial.errors import UserError

LARGEST_MB = 1.0
DEEPEST = 50
MOST_VALUES = 200_000  # with what aliases (*name) stand for


def read(path: Path) -> Any:
    """Reads a YAML file as str, list and dict. Raises UserError where it is none, or beyond the limits."""
    try:
        import yaml
    except ImportError as error:
        raise UserError(path, "reading YAML needs PyYAML; pip install pyyaml") from error
    loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    text = text_files.read_text(path, LARGEST_MB)
    try:
        _check(yaml.parse(text, loader), path)
        return yaml.load(text, loader)
    except yaml.YAMLError as error:
        raise UserError(path, f"not YAML: {error}") from error


def _check(events: Any, path: Path) -> None:
    """Counts what loading would make, before it does: an alias counts as all that it stands for."""
    total = 0
    open_since: list[tuple[str | None, int]] = []  # anchor and first value of each collection around
    sizes: dict[str | None, int] = {}
    for event in events:
        kind = type(event).__name__
        if kind in ("ScalarEvent", "SequenceStartEvent", "MappingStartEvent"):
            total += 1
            if kind == "ScalarEvent":
                sizes[event.anchor] = 1
            else:
                open_since.append((event.anchor, total))
        elif kind in ("SequenceEndEvent", "MappingEndEvent"):
            anchor, since = open_since.pop()
            sizes[anchor] = total - since + 1
        elif kind == "AliasEvent":
            if event.anchor not in sizes:
                raise UserError(path, f"line {event.start_mark.line + 1}: *{event.anchor} stands for nothing before it")
            total += sizes[event.anchor]
        if total > MOST_VALUES or len(open_since) > DEEPEST:
            what = f"more than {MOST_VALUES} values" if total > MOST_VALUES else f"more than {DEEPEST} levels"
            raise UserError(path, f"line {event.start_mark.line + 1}: {what}; expected the few settings of a data set")


def text(settings: dict[str, Any]) -> str:
    """Writes settings: an entry a line, a mapping's below its key, and lists and words as JSON has them."""
    lines = []
    for key, entry in settings.items():
        inner = entry.items() if isinstance(entry, dict) else ()
        lines.append(f"{key}:{'' if isinstance(entry, dict) else ' ' + json.dumps(entry, ensure_ascii=False)}")
        lines += [f"  {name}: {json.dumps(value, ensure_ascii=False)}" for name, value in inner]
    return "\n".join(lines) + "\n"
