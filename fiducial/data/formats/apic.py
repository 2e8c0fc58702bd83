"""APIC's poses of bees: a JSON list of {"path", "set", "keypoints": {"0": [x, y], ..}}, px, one instance an image.

A number that is absent is a point that nobody set. `set` names the split of each image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import text_files
from fiducial.data import json_kinds, skeletons
from fiducial.data.checking import Label, unchecked
from fiducial.data.coco_json.entries import number_of
from fiducial.data.formats import located, split_in_name
from fiducial.errors import UserError, shown
from fiducial.types import Findings, Instances

TITLE = 'APIC: a JSON list of {"path", "set", "keypoints"}'
MOST_POINTS = 1000


def find(path: Path) -> dict[str, list[Path]]:
    """The file, and the word of `set` by which the entries of a split are chosen."""
    files = [path] if path.is_file() else sorted(path.glob("*.json"))
    file = next((file for file in files if file.suffix == ".json" and json_kinds.kind_of(file) == "apic"), None)
    if file is None:
        return {}
    found: dict[str, list[Path]] = {}
    for word in dict.fromkeys(_set_of(entry) for entry in text_files.read_json(file)):
        found.setdefault(split_in_name(word) or "train", [file]).append(Path(word))
    return found


def _set_of(entry: Any) -> str:
    word = entry.get("set") if isinstance(entry, dict) else None
    return Path(word[:50]).name or "train" if isinstance(word, str) else "train"


def read(root: Path, files: Sequence[Path], images: Path | None, category: str | None, findings: Findings) -> Instances:
    """One instance for each entry of the set; the annotation id is the entry's place, from 1."""
    file, *words = files
    findings.source = str(file)
    points: dict[int, dict[int, list[float]]] = {}
    names: dict[int, str] = {}
    for place, entry in enumerate(text_files.read_json(file), 1):
        if Path(_set_of(entry)) not in words:
            continue
        try:
            points[place] = _points_of(entry)
            names[place] = entry["path"]
        except ValueError as error:
            findings.add(f"entry {place}", f"{error}; left out")
    count = max((number for own in points.values() for number in own), default=-1) + 1
    if count == 0:
        reason = f": {findings.wrong[0]}" if findings.wrong else ""
        raise UserError(file, f"none of its entries has a point{reason}")
    rows = {name: row for row, name in enumerate(dict.fromkeys(names.values()))}
    labels = []
    for place, own in points.items():
        keypoints = np.zeros((count, 3))
        for number, xy in own.items():
            keypoints[number] = [*xy, 2]
        labels.append(Label(rows[names[place]], place, keypoints))
    skeleton, notes = skeletons.complete("bee", [str(i) for i in range(count)], where=str(file))
    findings.note(*notes)
    folders = [images] if images else [file.parent, file.parent / "images"]
    return unchecked(labels, skeleton, located(list(rows), folders, file, findings), str(file))


def _points_of(entry: Any) -> dict[int, list[float]]:
    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
        raise ValueError(f"is {shown(entry)}, expected an object with a path")
    listed = entry.get("keypoints") or {}
    if not isinstance(listed, dict):
        raise ValueError(f"its keypoints are {shown(listed)}, expected an object of [x, y] by numbers")
    found = {}
    for number, xy in listed.items():
        values = [number_of(value) for value in xy] if isinstance(xy, list) else []
        if (
            not (number.isdecimal() and len(number) < 9 and int(number) < MOST_POINTS)
            or len(values) != 2
            or None in values
        ):
            raise ValueError(
                f"keypoint {shown(number)} is {shown(xy)}, expected a number below {MOST_POINTS} and [x, y]"
            )
        found[int(number)] = [value for value in values if value is not None]
    return found
