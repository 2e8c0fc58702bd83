"""YOLO-pose: data.yaml with kpt_shape, and for each images/../NAME.jpg a labels/../NAME.txt.

A line of a label file is an instance: class, box (centre x, y, w, h), then x y v (or x y) for each point, all in unit.
Other than the trainers that write unit * width and leave it at that, a point at unit u is at px u * width - 0.5
here."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import files as whole_files
from fiducial import geometry, text_files
from fiducial.data import skeletons, yaml_file
from fiducial.data.checking import Label, summary, unchecked
from fiducial.data.formats import SPLITS, Holds, numbers
from fiducial.data.images import FileImages, beside, upright_size
from fiducial.data.placing import Placing, rows_by_image, size_of
from fiducial.errors import UserError, did_you_mean, shown
from fiducial.geometry import Size
from fiducial.types import Findings, Instances, Skeleton

TITLE = "YOLO-pose: data.yaml with kpt_shape beside images/ and labels/"
MOST_FILES = 2_000_000
NAME = "yolo"
HOLDS = Holds(hidden=True, boxes=True, pairs=True)
DIGITS = 7  # of the share of a side


def find(path: Path) -> dict[str, list[Path]]:
    """data.yaml (to be read first) and the label files of each split."""
    file = _yaml_file(path)
    if file is None:
        return {}
    settings = _settings(file)
    found = {}
    for split in SPLITS:
        entry = settings.get(split, settings.get("valid") if split == "val" else None)
        labels = [label for place in _texts(entry) for label in _label_files(place, settings, file)]
        if labels:
            found[split] = [file, *labels]
    return found


def why_not(path: Path) -> str:
    """Says what a data.yaml lacks; "" where there is none."""
    file = _yaml_file(path)
    if file is None:
        return ""
    entries = [entry for split in (*SPLITS, "valid") for entry in _texts(_settings(file).get(split))]
    named = ", ".join(entries) or "no train, val or test"
    return f"{file}: names {named}; no labels are found for that (images/.. has its texts in labels/..)"


def read(root: Path, files: Sequence[Path], images: Path | None, category: str | None, findings: Findings) -> Instances:
    """The instances of one class: the only one there is, or the one named (or numbered) `category`."""
    file, label_files = files[0], files[1:]
    findings.source = str(file)
    settings = _settings(file)
    points, width = _shape(settings, file)
    class_names = _names(settings)
    labels, classes, names, sizes = [], [], [], []
    for label_file in label_files:
        picture = _picture_of(label_file, images)
        if picture is None:
            findings.add("", "no picture of the same name under images/; left out", str(label_file))
            continue
        read = label_file
        try:
            lines = text_files.read_text(label_file).splitlines()
            read = picture
            size = upright_size(picture)
        except UserError as error:
            findings.add("", error.about(read) + "; left out", str(read))
            continue
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                class_number, *instance = _instance(line, points, width, size)
            except ValueError as error:
                findings.add(f"line {number}", f"{error}; left out", str(label_file))
                continue
            if class_names and str(class_number) not in class_names:
                told = f"class {class_number} is none of the {len(class_names)} that `names` has; left out"
                findings.add(f"line {number}", told, str(label_file))
                continue
            labels.append(Label(len(names), len(labels), *instance))
            classes.append(class_number)
        names.append(os.path.relpath(picture, file.parent))
        sizes.append(size)
    wanted = _class_number(settings, category, sorted(set(classes)), file)
    chosen = [label for label, number in zip(labels, classes, strict=True) if number == wanted]
    if not chosen:
        reason = summary(findings.wrong) or "they have no line" + (f" of class {category!r}" if labels else "")
        raise UserError(file, f"none of its {len(label_files)} label files could be used: {reason}")
    findings.note(*_not_there(settings, file))
    named = _names_of_points(settings, wanted, points, file)
    indices = [_whole(index, file, "flip_idx") for index in _of_class(settings.get("flip_idx"), wanted, settings)]
    skeleton, notes = skeletons.complete("points", named, where=f"{file}: flip_idx", flip_indices=indices or None)
    findings.note(*notes)
    size_column = np.array(sizes, dtype=np.int32).reshape(-1, 2)
    return unchecked(chosen, skeleton, FileImages(file.parent, names), str(file), size_column)


def _yaml_file(path: Path) -> Path | None:
    files = [path] if os.path.isfile(path) else [*sorted(path.glob("*.yaml")), *sorted(path.glob("*.yml"))]
    texts = ((file, text_files.read_text(file)) for file in files if file.suffix in (".yaml", ".yml"))
    return next((file for file, text in texts if "kpt_shape" in text), None)


def _not_there(settings: dict[str, Any], file: Path) -> list[str]:
    """What data.yaml names and is not there, of the splits beside those that are."""
    entries = [(split, entry) for split in (*SPLITS, "valid") for entry in _texts(settings.get(split))]
    return [
        f"{split}: names {entry}, where no labels are"
        for split, entry in entries
        if _place(entry, settings, file) is None
    ]


def _settings(file: Path) -> dict[str, Any]:
    settings = yaml_file.read(file)
    if not isinstance(settings, dict) or "kpt_shape" not in settings:
        raise UserError(file, "expected a field kpt_shape: [number of points, 2 or 3]")
    return settings


def _shape(settings: dict[str, Any], file: Path) -> tuple[int, int]:
    shape = settings["kpt_shape"]
    if isinstance(shape, list) and len(shape) == 2 and all(str(side).isdecimal() for side in shape):
        points, width = (_whole(side, file, "kpt_shape") for side in shape)
        if points > 0 and width in (2, 3):
            return points, width
    raise UserError(file, f"kpt_shape is {shown(shape)}, expected [number of points, 2 or 3]")


def _whole(value: Any, file: Path, field: str) -> int:
    if not isinstance(value, str) or not value.isdecimal() or len(value) > 9:
        raise UserError(file, f"{field}: {shown(value)} is no whole number that makes sense")
    return int(value)


def _texts(entry: Any) -> list[str]:
    """The text or texts of a field; none where it is empty."""
    return [
        text for text in (entry if isinstance(entry, list) else [entry]) if isinstance(text, str) and _is_given(text)
    ]


def _is_given(text: str) -> bool:
    return text.lower() not in ("", "~", "null")


def _label_files(entry: str, settings: dict[str, Any], file: Path) -> list[Path]:
    """Label files of an entry such as images/train, relative to `path`, which often is another machine's, or to
    data.yaml itself. What is relative means data.yaml's folder."""
    place = _place(entry, settings, file)
    if place is None or os.path.isdir(place):
        return [] if place is None else _texts_under(place, file)
    listed = [line.strip() for line in text_files.read_text(place).splitlines() if line.strip()]
    labels = [_label_of(place.parent / picture) for picture in listed]
    return [label for label in labels if os.path.isfile(label)]


def _place(entry: str, settings: dict[str, Any], file: Path) -> Path | None:
    """The folder of an entry's labels, or its list of pictures; None where there is neither."""
    for base in (file.parent.joinpath(*_texts(settings.get("path"))), file.parent):
        pictures = base / entry
        if entry.startswith("../") and not pictures.exists():  # as Roboflow writes it, which the trainers take so
            pictures = base / entry.removeprefix("../")
        if pictures.suffix == ".txt" and os.path.isfile(pictures):
            return pictures
        folder = _label_of(pictures / "x").parent
        if os.path.isdir(folder):
            return folder
    return None


def _texts_under(folder: Path, file: Path) -> list[Path]:
    """All texts in a folder of labels, which isn't one that holds much more than the data set."""
    if folder.resolve() in file.resolve().parents[2:]:
        raise UserError(file, f"{folder} holds more than the data set; name the folder of its images")
    found, count = [], 0
    for place, _, names in os.walk(folder):
        count += len(names)
        if count > MOST_FILES:
            raise UserError(file, f"more than {MOST_FILES:,} files in {folder}; name the folder of its images")
        found += [Path(place, name) for name in names if name.endswith(".txt")]
    return sorted(found)


def _label_of(picture: Path) -> Path:
    """../images/a/NAME.jpg -> ../labels/a/NAME.txt, by the last folder called images."""
    picture = _exchange(picture, "images", "labels")
    return picture.with_suffix(".txt") if picture.name else picture


def _picture_of(label: Path, images: Path | None) -> Path | None:
    place = _exchange(label, "labels", "images")
    folders = [place.parent, *([images] if images else [])]
    return next((path for folder in folders if (path := beside(folder, label.stem))), None)


def _exchange(path: Path, old: str, new: str) -> Path:
    parts = list(path.parts)
    places = [i for i, part in enumerate(parts[:-1]) if part == old]
    if places:
        parts[places[-1]] = new
    return Path(*parts)


def _names(settings: dict[str, Any]) -> dict[str, str]:
    """{number: name} of the classes."""
    names = settings.get("names")
    pairs = names.items() if isinstance(names, dict) else enumerate(names if isinstance(names, list) else ())
    return {str(number): name for number, name in pairs if isinstance(name, str)}


def _class_number(settings: dict[str, Any], category: str | None, there: Sequence[int], file: Path) -> int | None:
    """The class whose points are read: the one asked for, else the only one there is; None where there is none."""
    names = _names(settings)
    if category is None:
        if len(there) > 1:
            shown_names = ", ".join(repr(names.get(str(number), str(number))) for number in there)
            raise UserError(file, f"several classes have keypoints: {shown_names}; choose one with --category NAME")
        return there[0] if there else None
    numbers = {name: number for number, name in names.items()}
    number = numbers.get(category, category)
    if number not in names and number not in map(str, there):
        raise UserError(file, f"no class {category!r}." + did_you_mean(category, numbers))
    return _whole(number, file, "names")


def _of_class(entry: Any, number: int | None, settings: dict[str, Any]) -> list[str]:
    """What a field says of one class: a list for all of them, or one a class by its number or name."""
    if isinstance(entry, dict):
        entry = entry.get(str(number), entry.get(_names(settings).get(str(number), "")))
    return entry if isinstance(entry, list) else []


def _names_of_points(settings: dict[str, Any], wanted: int | None, points: int, file: Path) -> list[str]:
    named = _of_class(settings.get("kpt_names"), wanted, settings) or list(skeletons.numbered(points))
    if not all(isinstance(name, str) for name in named):
        raise UserError(file, f"kpt_names: expected a list of {points} names, got {shown(named)}")
    if len(named) != points:
        raise UserError(file, f"kpt_names has {len(named)} names, kpt_shape says {points} points")
    twice = next((name for name, times in Counter(named).items() if times > 1), None)
    if twice is not None:
        raise UserError(file, f"kpt_names: {twice!r} stands there twice; expected a name of its own for each point")
    return named


def _instance(line: str, points: int, width: int, size: Size) -> tuple[int, np.ndarray, np.ndarray]:
    """Class, [k, 3] px and the box."""
    fields = line.split()
    if len(fields) != 5 + points * width:
        raise ValueError(
            f"{len(fields)} numbers, expected {5 + points * width} (class, box, {points} points of {width})"
        )
    values = numbers(fields)
    parts = values[5:].reshape(points, width)
    xy_unit = parts[:, :2]
    # Without a visibility, (0, 0) is how the format marks a point that isn't there.
    visibility = parts[:, 2] if width == 3 else np.where((xy_unit == 0).all(1), 0.0, 2.0)
    if xy_unit[visibility > 0].size and np.abs(xy_unit[visibility > 0]).max() > 10:
        raise ValueError("coordinates far above 1, expected them divided by the picture's width and height")
    keypoints = np.column_stack([geometry.unit_to_px(xy_unit, size), visibility])
    return int(values[0]), keypoints, geometry.box_from_unit(values[1:5], size)


def write_folder(read: Mapping[str, Instances], placing: Placing) -> list[str]:
    """Writes data.yaml, images/SPLIT and labels/SPLIT. The format's own trainer drops an image with a number outside 0..1:
    points outside their image are written as missing, and boxes are cut at its edges."""
    outside = cut = 0
    for split, instances in read.items():
        for image, rows_of in enumerate(rows_by_image(instances)):
            size = size_of(instances, image)
            copy = Path(placing.copy(instances.images, image, f"images/{split}", by_stem=True))
            rows = rows_of[instances.labelled[rows_of].any(1)]
            xy_unit = geometry.px_to_unit(instances.xy[rows].astype(np.float64), size)
            is_in = ((xy_unit >= 0) & (xy_unit <= 1)).all(-1)
            outside += int((instances.labelled[rows] & ~is_in).sum())
            visibility = np.where(is_in, instances.visibility[rows], 0)
            box_unit = geometry.box_to_unit(instances.box_xywh[rows].astype(np.float64), size)
            clipped = geometry.clip_unit(box_unit)
            cut += int((~np.isclose(clipped, box_unit, atol=1e-6)).any(1).sum())
            points = np.concatenate([np.where(visibility[..., None] > 0, xy_unit, 0), visibility[..., None]], -1)
            lines = [
                " ".join(["0", *(f"{value:.{DIGITS}f}" for value in box), *_words(point)])
                for box, point in zip(clipped, points, strict=True)
            ]
            place = placing.folder / "labels" / split / f"{copy.stem}.txt"
            whole_files.write_text(place, "".join(line + "\n" for line in lines))
    skeleton = next(iter(read.values())).skeleton
    whole_files.write_text(placing.folder / "data.yaml", yaml_file.text(_settings_of(skeleton, read)))
    lost = [f"{outside} points outside their images are written as missing"] if outside else []
    lost += [f"{cut} boxes are cut at the edges of their images"] if cut else []
    if skeleton.flip_pairs is None:
        lost.append(
            "which points change names in a mirror is not known: flip_idx is left out, and the format's trainer mirrors nothing"
        )
    return lost + (["it has no val, which the format's own trainer asks for"] if "val" not in read else [])


def _words(points: np.ndarray) -> list[str]:
    return [f"{x:.{DIGITS}f} {y:.{DIGITS}f} {v:.0f}" for x, y, v in points.tolist()]


def _settings_of(skeleton: Skeleton, read: Mapping[str, Instances]) -> dict[str, Any]:
    count = len(skeleton.points)
    settings: dict[str, Any] = {split: f"images/{split}" for split in read}
    settings |= {"kpt_shape": [count, 3], "names": {0: skeleton.name}, "kpt_names": {0: list(skeleton.points)}}
    # Where there is no flip_idx, the format's own trainer mirrors no image.
    return settings if skeleton.flip_pairs is None else {**settings, "flip_idx": skeleton.flip_order.tolist()}
