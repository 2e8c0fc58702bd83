"""COCO keypoints JSON: a folder with annotations/{train,val,test}.json beside images/, COCO's own naming
(annotations/person_keypoints_val2017.json beside val2017/), Roboflow's ({train,valid,test}/_annotations.coco.json),
or one file.

Numbers go straight into columns: segmentations are skipped by the parser, keypoints stay text until they are turned
into one array, since a hundred thousand lists of numbers would take a gigabyte."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from fiducial.data import skeletons
from fiducial.data.checking import Table, repeated
from fiducial.data.formats import SPLITS, folder_with, split_in_name
from fiducial.data.images import FileImages
from fiducial.errors import UserError, did_you_mean
from fiducial.types import Problem, Skeleton

TITLE = "COCO keypoints: annotations/{train,val,test}.json beside images/, or one JSON file"
_CHUNK = 20_000  # annotations whose numbers are parsed at a time


class _Image(msgspec.Struct, gc=False):
    id: int
    file_name: str
    width: int | None = None
    height: int | None = None


class _Annotation(msgspec.Struct, gc=False):
    image_id: int
    id: int | None = None
    category_id: int | None = None
    keypoints: msgspec.Raw = msgspec.Raw()
    bbox: msgspec.Raw = msgspec.Raw()
    area: msgspec.Raw = msgspec.Raw()
    iscrowd: int | None = None


class _Category(msgspec.Struct):
    name: str = "object"
    id: int | None = None
    keypoints: list[str] = []
    skeleton: list[list[int]] | None = None
    flip_indices: list[int] | None = None
    sigmas: list[float] | None = None
    groups: dict[str, list[int]] | None = None


class _File(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category] = []


def find(path: Path) -> dict[str, list[Path]]:
    """The annotation file of each split."""
    if path.is_file():
        return {split_in_name(path.stem) or "train": [path]} if path.suffix.lower() == ".json" else {}
    roboflow = {
        split: path / folder / "_annotations.coco.json"
        for split, folder in zip(SPLITS, ("train", "valid", "test"), strict=True)
    }
    found = {split: [file] for split, file in roboflow.items() if file.is_file()}
    files = sorted((path / "annotations").glob("*.json"))
    for split in SPLITS:
        named = [file for file in files if split_in_name(file.stem) == split]
        # COCO's own folder holds captions and instances, too.
        exact = [file for file in named if file.stem == split] or [file for file in named if "keypoints" in file.stem]
        chosen = exact or named
        if len(chosen) > 1:
            names = ", ".join(file.name for file in chosen)
            raise UserError(
                f"{path}: several annotation files for split {split!r}: {names}; give one of them and --images"
            )
        if chosen:
            found[split] = chosen
    return found


def read(root: Path, files: Sequence[Path], images: Path | None, category: str | None) -> Table:
    """The table of one file. Of several categories, the one with keypoints, or the one named `category`."""
    [file] = files
    content = _parse(file)
    chosen = _choose_category(content, category, file)
    annotations = [item for item in content.annotations if chosen.id is None or item.category_id in (chosen.id, None)]
    names = [item.file_name for item in content.images]
    image_id = np.array([item.id for item in content.images], dtype=np.int64)
    size = np.array([(item.width or 0, item.height or 0) for item in content.images], dtype=np.int32).reshape(-1, 2)
    if twice := repeated(image_id):
        raise UserError(f"{file}: image id {twice[0]} is used by more than one image; expected ids to be unique")
    del content

    numbers = np.array([-1 if item.id is None else item.id for item in annotations], dtype=np.int64)
    nameless = np.array([item.id is None for item in annotations], dtype=bool)
    numbers[nameless] = np.flatnonzero(nameless)
    points, problems, sound = _count_points(annotations, numbers, chosen, file)
    row_of = {number: row for row, number in enumerate(image_id.tolist())}
    image_row = np.array([row_of.get(item.image_id, -1) for item in annotations], dtype=np.int64)
    for row in np.flatnonzero(image_row < 0).tolist():
        what = f"image id {annotations[row].image_id} is not among the {len(names)} images; left out"
        problems.append(Problem(str(file), f"annotation {numbers[row]}", what))
    kept = np.flatnonzero(sound & (image_row >= 0)).tolist()
    annotations = [annotations[row] for row in kept]

    skeleton, notes = _skeleton(chosen, points, file)
    home = file.parent.parent if file.parent.name == "annotations" else file.parent
    split = split_in_name(file.stem) or ""
    candidates = [images] if images else [
        home / "images", home / "images" / split, home / split, home / "images" / f"{split}2017", home / f"{split}2017",
        file.parent, home, root,
    ]  # fmt: skip
    return Table(
        skeleton=skeleton,
        images=FileImages(folder_with(names, candidates, file), names, size),
        image_id=image_id,
        image_size=size,
        image_row=image_row[kept],
        annotation_id=numbers[kept],
        keypoints=_numbers([item.keypoints for item in annotations], 3 * points, numbers[kept], "keypoints", file)
        .reshape(-1, points, 3),
        box_xywh=_numbers([item.bbox for item in annotations], 4, numbers[kept], "bbox", file),
        area=_numbers([item.area for item in annotations], 1, numbers[kept], "area", file)[:, 0],
        crowd=np.array([bool(item.iscrowd) for item in annotations], dtype=bool),
        source=str(file),
        problems=problems,
        notes=notes,
    )  # fmt: skip


def _parse(file: Path) -> _File:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: can't be read: {error.strerror}") from error
    try:
        return msgspec.json.decode(data, type=_File, strict=False)
    except msgspec.ValidationError as error:
        raise UserError(f"{file}: not COCO keypoints: {error}") from error
    except msgspec.DecodeError:
        pass
    # Python's json writes and reads NaN, which JSON hasn't; msgspec writes it as null, read as NaN below.
    try:
        return msgspec.json.decode(msgspec.json.encode(json.loads(data)), type=_File, strict=False)
    except msgspec.ValidationError as error:
        raise UserError(f"{file}: not COCO keypoints: {error}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: not JSON: {error}") from error


def _choose_category(content: _File, wanted: str | None, file: Path) -> _Category:
    """The category asked for, else the only one that has points and annotations."""
    categories = content.categories
    if wanted is not None:
        named = [item for item in categories if item.name == wanted]
        if not named:
            raise UserError(
                f"{file}: no category {wanted!r}." + did_you_mean(wanted, [item.name for item in categories])
            )
        return named[0]
    if len(categories) == 1:
        return categories[0]
    used = {item.category_id for item in content.annotations if len(bytes(item.keypoints)) > 2}
    candidates = [item for item in categories if item.id in used] or [item for item in categories if item.keypoints]
    if len(candidates) > 1:
        names = ", ".join(repr(item.name) for item in candidates)
        raise UserError(f"{file}: several categories have keypoints: {names}; choose one with --category NAME")
    if not candidates and (categories or not content.annotations):
        raise UserError(
            f"{file}: no annotation has keypoints; expected COCO's keypoints annotations, not its boxes alone"
        )
    return candidates[0] if candidates else _Category()


def _count_points(
    annotations: Sequence[_Annotation], numbers: np.ndarray, category: _Category, file: Path
) -> tuple[int, list[Problem], np.ndarray]:
    """K, a problem for each annotation with another number of points, and [n] bool: has K points."""
    lengths = np.array([_length(item.keypoints) for item in annotations], dtype=np.int64)
    points = len(category.keypoints)
    if points == 0:
        counted = Counter(lengths[lengths > 0].tolist()).most_common(1)
        points = counted[0][0] // 3 if counted else 0
    if points == 0:
        raise UserError(
            f"{file}: category {category.name!r} has no points; expected their names in its field 'keypoints'"
        )
    problems = [
        Problem(str(file), f"annotation {numbers[row]}",
                f"{lengths[row]} numbers in its keypoints, expected {3 * points} "
                f"(x, y, v for each of {points} points); left out")
        for row in np.flatnonzero((lengths > 0) & (lengths != 3 * points)).tolist()
    ]  # fmt: skip
    # Boxes without points: nothing to learn from, but crowds must be known to the evaluation.
    silent = np.array([bool(item.iscrowd) for item in annotations], dtype=bool) & (lengths == 0)
    return points, problems, (lengths == 3 * points) | silent


def _length(raw: msgspec.Raw) -> int:
    text = bytes(raw)
    return text.count(b",") + 1 if len(text.strip(b"[] \n\r\t")) > 0 and text != b"null" else 0


def _numbers(raws: Sequence[msgspec.Raw], width: int, ids: np.ndarray, name: str, file: Path) -> np.ndarray:
    """JSON arrays of `width` numbers each as [n, width] float32; absent ones and nulls as NaN (keypoints: 0)."""
    result = np.empty((len(raws), width), np.float32)
    absent = b",".join([b"0" if name == "keypoints" else b"null"] * width)
    for start in range(0, len(raws), _CHUNK):
        texts = [bytes(raw) or absent for raw in raws[start : start + _CHUNK]]
        texts = [absent if text in (b"null", b"[]") else text for text in texts]
        values = _parse_numbers(b",".join(texts))
        if values is None or len(values) != len(texts) * width:
            for number, text in zip(ids[start:], texts, strict=False):
                alone = _parse_numbers(text)
                if alone is None or len(alone) != width:
                    shown = text[:60].decode(errors="replace")
                    raise UserError(f"{file}: annotation {number}: {name} is {shown}; expected {width} numbers")
        else:
            result[start : start + len(texts)] = values.reshape(len(texts), width)
    return result


def _parse_numbers(text: bytes) -> np.ndarray | None:
    """All numbers of a text of JSON arrays, nested or not, null as NaN; None if it holds anything else."""
    flat = b"[" + text.translate(None, b'[] \n\r\t"') + b"]"
    try:
        return np.array(msgspec.json.decode(flat, type=list[float | None]), dtype=np.float64)
    except msgspec.MsgspecError:
        return None


def _skeleton(category: _Category, points: int, file: Path) -> tuple[Skeleton, list[str]]:
    names = category.keypoints
    if not names:
        known = skeletons.match_count(points) or (
            skeletons.COCO17 if (points, category.name) == (17, "person") else None
        )
        names = list(known.points) if known else list(skeletons.numbered(points))
    where = f"{file}: category {category.name!r}"
    edges = [tuple(edge) for edge in category.skeleton or ()]
    if any(len(edge) != 2 for edge in edges):
        raise UserError(f"{where}: skeleton: expected pairs of point numbers")
    base = min([1, *(end for edge in edges for end in edge)])
    skeleton, notes = skeletons.complete(
        category.name,
        names,
        where=where,
        edges=tuple((a - base, b - base) for a, b in edges),
        flip_indices=category.flip_indices,
        sigmas=category.sigmas,
        groups={name: tuple(group) for name, group in (category.groups or {}).items()},
    )
    if base == 0:
        notes.append("the skeleton's point numbers begin at 0, COCO's at 1; they were read as they are")
    return skeleton, notes
