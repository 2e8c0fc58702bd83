"""YOLO-pose: data.yaml with kpt_shape, and for each images/../NAME.jpg a labels/../NAME.txt.

A line of a label file is an instance: class, box (centre x, y, w, h), then x y v (or x y) for each point, all in unit.
Other than the trainers that write unit * width and leave it at that, a point at unit u is at px u * width - 0.5
here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import geometry, text_files
from fiducial.data import skeletons
from fiducial.data.checking import Label, unchecked
from fiducial.data.formats import SPLITS
from fiducial.data.images import SUFFIXES, FileImages, upright_size
from fiducial.errors import UserError, did_you_mean
from fiducial.geometry import Size
from fiducial.types import Findings, Instances

TITLE = "YOLO-pose: data.yaml with kpt_shape beside images/ and labels/"


def find(path: Path) -> dict[str, list[Path]]:
    """data.yaml (to be read first) and the label files of each split."""
    file = _yaml_file(path)
    if file is None:
        return {}
    settings = _settings(file)
    found = {}
    for split in SPLITS:
        entry = settings.get(split, settings.get("valid") if split == "val" else None)
        places = [Path(place) for place in (entry if isinstance(entry, list) else [entry]) if place]
        labels = [label for place in places for label in _label_files(place, settings, file)]
        if labels:
            found[split] = [file, *labels]
    return found


def read(root: Path, files: Sequence[Path], images: Path | None, category: str | None, findings: Findings) -> Instances:
    """All classes have the same points in this format; `category` keeps one of them."""
    file, label_files = files[0], files[1:]
    findings.source = str(file)
    settings = _settings(file)
    shape = settings["kpt_shape"]
    if not (
        isinstance(shape, list)
        and len(shape) == 2
        and shape[1] in (2, 3)
        and isinstance(shape[0], int)
        and shape[0] > 0
    ):
        raise UserError(f"{file}: kpt_shape {shape!r}: expected [number of points, 2 or 3]")
    wanted = _class_number(settings, category, file)
    labels, names, sizes = [], [], []
    for label_file in label_files:
        picture = _picture_of(label_file, images)
        if picture is None:
            findings.add("", "no picture of the same name under images/; left out", str(label_file))
            continue
        try:
            size = upright_size(picture)
        except UserError as error:
            findings.add("", error.about(picture) + "; left out", str(picture))
            continue
        for number, line in enumerate(text_files.read_text(label_file).splitlines(), 1):
            try:
                instance = _instance(line, shape[0], shape[1], size, wanted)
            except ValueError as error:
                findings.add(f"line {number}", f"{error}; left out", str(label_file))
                continue
            if instance is not None:
                labels.append(Label(len(names), len(labels), *instance))
        names.append(os.path.relpath(picture, file.parent))
        sizes.append(size)
    points = settings.get("kpt_names", skeletons.numbered(shape[0]))
    if isinstance(points, dict):  # class -> names
        points = points[min(points)]
    if len(points) != shape[0]:
        raise UserError(f"{file}: kpt_names has {len(points)} names, kpt_shape says {shape[0]} points")
    indices = settings.get("flip_idx")
    skeleton, notes = skeletons.complete("points", points, where=f"{file}: flip_idx", flip_indices=indices or None)
    findings.note(*notes)
    pictures = FileImages(file.parent, names)
    size_column = np.array(sizes, dtype=np.int32).reshape(-1, 2)
    return unchecked(labels, skeleton, pictures, str(file), size_column)


def _yaml_file(path: Path) -> Path | None:
    files = [path] if path.is_file() else [*sorted(path.glob("*.yaml")), *sorted(path.glob("*.yml"))]
    texts = ((file(file)) for file in files if file.suffix in (".yaml", ".yml"))
    return next((file for file, text in texts if "kpt_shape" in text), None)


def _settings(file: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError as error:
        raise UserError(f"{file}: reading YAML needs PyYAML; pip install pyyaml") from error
    try:
        settings = yaml.safe_load(text_files.read_text(file))
    except yaml.YAMLError as error:
        raise UserError(f"{file}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict) or "kpt_shape" not in settings:
        raise UserError(f"{file}: expected a field kpt_shape: [number of points, 2 or 3]")
    return settings


def _label_files(place: Path, settings: dict[str, Any], file: Path) -> list[Path]:
    """Label files of an entry such as images/train, relative to `path`, which often is another machine's, or to
    data.yaml itself."""
    for base in (Path(str(settings.get("path", ""))), file.parent / str(settings.get("path", "")), file.parent):
        pictures = base / place
        if pictures.suffix == ".txt" and pictures.is_file():  # a list of pictures
            listed = [Path(line.strip()) for line in text_files.read_text(pictures).splitlines() if line.strip()]
            labels = [_label_of(picture if picture.is_absolute() else pictures.parent / picture) for picture in listed]
            return [label for label in labels if label.is_file()]
        folder = _label_of(pictures / "x").parent
        if folder.is_dir():
            return sorted(folder.rglob("*.txt"))
    return []


def _label_of(picture: Path) -> Path:
    """../images/a/NAME.jpg -> ../labels/a/NAME.txt, by the last folder called images."""
    return _exchange(picture, "images", "labels").with_suffix(".txt")


def _picture_of(label: Path, images: Path | None) -> Path | None:
    place = _exchange(label, "labels", "images")
    stems = [place, *([images / label.name] if images else [])]
    paths = (stem.with_suffix(suffix) for stem in stems for suffix in SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def _exchange(path: Path, old: str, new: str) -> Path:
    parts = list(path.parts)
    places = [i for i, part in enumerate(parts[:-1]) if part == old]
    if places:
        parts[places[-1]] = new
    return Path(*parts)


def _class_number(settings: dict[str, Any], category: str | None, file: Path) -> int | None:
    if category is None:
        return None
    names = settings.get("names") or {}
    numbers = {str(name): i for i, name in (names.items() if isinstance(names, dict) else enumerate(names))}
    if category not in numbers:
        raise UserError(f"{file}: no class {category!r}." + did_you_mean(category, numbers))
    return int(numbers[category])


def _instance(
    line: str, points: int, width: int, size: Size, wanted: int | None
) -> tuple[np.ndarray, np.ndarray] | None:
    """[k, 3] px and the box; None for an empty line and for another class than `wanted`."""
    fields = line.split()
    if not fields or (wanted is not None and int(float(fields[0])) != wanted):
        return None
    if len(fields) != 5 + points * width:
        raise ValueError(
            f"{len(fields)} numbers, expected {5 + points * width} (class, box, {points} points of {width})"
        )
    values = np.array(fields, dtype=np.float64)
    parts = values[5:].reshape(points, width)
    xy_unit = parts[:, :2]
    # Without a visibility, (0, 0) is how the format marks a point that isn't there.
    visibility = parts[:, 2] if width == 3 else np.where((xy_unit == 0).all(1), 0.0, 2.0)
    if xy_unit[visibility > 0].size and np.abs(xy_unit[visibility > 0]).max() > 10:
        raise ValueError("coordinates far above 1, expected them divided by the picture's width and height")
    keypoints = np.column_stack([geometry.unit_to_px(xy_unit, size), visibility])
    return keypoints, geometry.box_from_unit(values[1:5], size)
