"""COCO keypoints JSON: a folder with annotations/{train,val,test}.json beside images/, COCO's own naming
(annotations/person_keypoints_val2017.json beside val2017/), Roboflow's ({train,valid,test}/_annotations.coco.json),
or one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fiducial import files as whole_files
from fiducial.data import json_kinds
from fiducial.data.coco_json import labels
from fiducial.data.file_names import listing
from fiducial.data.formats import SPLITS, Holds, located, split_in_name
from fiducial.data.images import FileImages
from fiducial.data.placing import Placing, size_of
from fiducial.errors import UserError
from fiducial.types import Findings, Instances, Skeleton

TITLE = "COCO keypoints: annotations/{train,val,test}.json beside images/, or one JSON file"
ENDING = ".json"
FILES = "annotations/{split}.json"
HOLDS = Holds(
    hidden=True,
    boxes=True,
    areas=True,
    pointless=True,
    edges=True,
    pairs=True,
    sigmas=True,
    ids=True,
    tracks=True,
    licences=True,
)
DIGITS = 3  # of a px
MOST_FOLDERS = 100  # of images/, in which images are looked for


def find(path: Path) -> dict[str, list[Path]]:
    """The annotation file of each split."""
    if path.is_file():
        is_one = path.suffix.lower() == ".json" and json_kinds.kind_of(path) in ("coco", "")
        return {split_in_name(path.stem) or "train": [path]} if is_one else {}
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


def find_last(path: Path) -> dict[str, list[Path]]:
    """The only file of a folder whose name tells no split, as CVAT, FiftyOne and Label Studio export it: result.json or
    labels.json beside images/, annotations/person_keypoints_default.json."""
    for folder in (path / "annotations", path):
        files = [file for file in sorted(folder.glob("*.json")) if json_kinds.kind_of(file) == "coco"]
        if len(files) == 1:
            return {split_in_name(files[0].stem) or "train": files}
    return {}


def read(root: Path, files: Sequence[Path], images: Path | None, category: str | None, findings: Findings) -> Instances:
    """Reads one file, and finds the folder of its pictures."""
    [file] = files
    findings.source = str(file)
    instances = labels.read(file, category, findings).instances
    named = instances.images
    assert isinstance(named, FileImages)
    folders = [images] if images else [*folders_of(file), root]
    return replace(instances, images=located(named.names, folders, file, findings, named.declared))


def folders_of(file: Path) -> list[Path]:
    """Lists the folders in which a file's images may lie."""
    home = file.parent.parent if file.parent.name == "annotations" else file.parent
    split = split_in_name(file.stem) or ""
    images = home / "images"
    below = [images / name for name in sorted(listing(images))[:MOST_FOLDERS] if (images / name).is_dir()]
    return [
        images,
        images / split,
        home / split,
        images / f"{split}2017",
        home / f"{split}2017",
        file.parent,
        home,
        home / "data",
        *below,
    ]


def write_file(instances: Instances, file: Path, placing: Placing) -> list[str]:
    """Writes one file: images with absolute paths, or copies beside."""
    images = instances.images
    sizes = [size_of(instances, row) for row in range(len(images))]
    image_ids, ids = _ids(instances.image_id), _ids(instances.annotation_id)
    each = np.concatenate([_rounded(instances.xy), instances.visibility[..., None]], -1)
    keypoints = each.reshape(len(instances), 3 * each.shape[1])
    counted = instances.labelled.sum(1) * ~(instances.ignored & ~instances.crowd)
    content: dict[str, Any] = {
        "images": [
            {"id": number, "file_name": placing.refer(images, row), "width": size.w, "height": size.h}
            for row, (number, size) in enumerate(zip(image_ids, sizes, strict=True))
        ],
        "annotations": [
            {
                "id": number,
                "image_id": image_ids[row],
                "category_id": 1,
                "keypoints": values,
                "num_keypoints": count,
                "bbox": box,
                "area": area,
                "iscrowd": crowd,
                **({} if track < 0 else {"track_id": track}),
            }
            for number, row, values, count, box, area, crowd, track in zip(
                ids,
                instances.image_row.tolist(),
                keypoints.tolist(),
                counted.tolist(),
                _rounded(instances.box_xywh).tolist(),
                _rounded(instances.area).tolist(),
                instances.crowd.astype(int).tolist(),
                [-1] * len(instances) if instances.track is None else instances.track.tolist(),
                strict=True,
            )
        ],
        "categories": [category_of(instances.skeleton)],
    }
    if instances.licences:
        content["licenses"] = [{"id": i, "name": name} for i, name in enumerate(instances.licences, 1)]
    whole_files.write_bytes(file, msgspec.json.encode(content) + b"\n")
    return ["which image has which of several licences"] if len(instances.licences) > 1 else []


def category_of(skeleton: Skeleton) -> dict[str, Any]:
    """Describes a skeleton as a category. Pairs that are not known are those of no mirror: every point stays."""
    order = np.arange(len(skeleton.points)) if skeleton.flip_pairs is None else skeleton.flip_order
    category: dict[str, Any] = {
        "id": 1,
        "name": skeleton.name,
        "keypoints": list(skeleton.points),
        "skeleton": [[a + 1, b + 1] for a, b in skeleton.edges],
        "flip_indices": order.tolist(),
    }
    if skeleton.sigmas is not None:
        category["sigmas"] = list(skeleton.sigmas)
    if skeleton.groups:
        category["groups"] = {name: list(group) for name, group in skeleton.groups.items()}
    return category


def _ids(column: np.ndarray) -> list[Any]:
    """Ids as they were; counted from 1 where they would count from 0, since some readers take 0 for none."""
    ids = column.tolist()
    return [number + 1 for number in ids] if ids == list(range(len(ids))) else ids


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.round(values.astype(np.float64), DIGITS)
