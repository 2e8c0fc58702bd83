"""AlphaTracker: a JSON list of {"filename", "class": "image", "annotations"}, of one or several animals an image.

Among the annotations of an image a box ({"class": "Face", "x", "y", "width", "height"}) begins an animal, and the points
that follow it ({"class": "point", "x", "y"}) are its own, in the order of the skeleton, which has no names. Coordinates are
taken as they stand, whole numbers being the centres of pixels, as sleap-io does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import text_files
from fiducial.data import json_kinds, skeletons
from fiducial.data.checking import Label, unchecked
from fiducial.data.coco_json.entries import number_of
from fiducial.data.formats import by_split, located
from fiducial.errors import UserError, shown
from fiducial.types import Findings, Instances

TITLE = "AlphaTracker: a JSON list of images with `annotations`, a box and then its points"
MOST_POINTS = 1000
POINT = "point"  # the class of points; all others are boxes'


def find(path: Path) -> dict[str, list[Path]]:
    """The list of each split; of files that no split speaks of, all together are train."""
    files = [path] if path.is_file() else sorted(path.glob("*.json"))
    return by_split(path, [file for file in files if json_kinds.kind_of(file) == "alphatracker"])


def read(root: Path, files: Sequence[Path], images: Path | None, category: str | None, findings: Findings) -> Instances:
    """One instance for each box; the annotation id is its place among all of the file, from 1."""
    [file] = files
    findings.source = str(file)
    animals: list[tuple[str, int, np.ndarray, list[list[float]]]] = []  # image, place, box, points
    number = 0
    for place, entry in enumerate(text_files.read_json(file), 1):
        try:
            name, listed = _listed(entry)
        except ValueError as error:
            findings.add(f"entry {place}", f"{error}; left out")
            continue
        ownerless = 0
        for own in _by_box(listed):
            if own[0].get("class") == POINT:
                ownerless = len(own)
                continue
            number += 1
            try:
                animals.append((name, number, *_animal(own)))
            except ValueError as error:
                findings.add(f"entry {place}, animal {number}", f"{error}; left out")
        if ownerless:
            findings.add(f"entry {place}", f"{ownerless} points stand before the first box; left out")
    counts = Counter(len(points) for *_, points in animals if points)
    if not counts:
        reason = f": {findings.wrong[0]}" if findings.wrong else "; expected a box, and its points behind it"
        raise UserError(file, f"no animal with points could be used{reason}")
    count = max(counts, key=lambda own: (counts[own], own))
    rows: dict[str, int] = {}
    labels = []
    for name, own, box, points in animals:
        if len(points) not in (0, count):
            findings.add(f"animal {own}", f"has {len(points)} points, expected {count} as most have; left out")
            continue
        keypoints = np.zeros((count, 3))
        keypoints[: len(points)] = [[x, y, 2] for x, y in points] if points else 0
        labels.append(Label(rows.setdefault(name, len(rows)), own, keypoints, box))
    skeleton, notes = skeletons.complete(category or "animal", skeletons.numbered(count), where=str(file))
    findings.note(*notes)
    folders = [images] if images else [file.parent, file.parent / "images"]
    return unchecked(labels, skeleton, located(list(rows), folders, file, findings), str(file))


def _listed(entry: Any) -> tuple[str, list[dict[str, Any]]]:
    """The image and its annotations. Raises ValueError."""
    if not isinstance(entry, dict) or not isinstance(entry.get("filename"), str):
        raise ValueError(f"is {shown(entry)}, expected an object with a filename")
    listed = entry.get("annotations") or []
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise ValueError(f"its annotations are {shown(listed)}, expected a list of objects")
    return entry["filename"], listed


def _by_box(listed: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Parts annotations before each box."""
    parts: list[list[dict[str, Any]]] = []
    for one in listed:
        if not parts or one.get("class") != POINT:
            parts.append([])
        parts[-1].append(one)
    return parts


def _animal(own: Sequence[dict[str, Any]]) -> tuple[np.ndarray, list[list[float]]]:
    """The box [4] and the points of an animal. Raises ValueError."""
    box, *points = own
    if len(points) > MOST_POINTS:
        raise ValueError(f"has {len(points)} points, expected at most {MOST_POINTS}")
    return np.array(_numbers(box, ("x", "y", "width", "height"))), [_numbers(point, ("x", "y")) for point in points]


def _numbers(one: dict[str, Any], names: Sequence[str]) -> list[float]:
    values = [number_of(one.get(name)) for name in names]
    if None in values:
        raise ValueError(f"{shown(one)} lacks a number among {', '.join(names)}")
    return [value for value in values if value is not None]
