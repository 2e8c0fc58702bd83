"""COCO keypoints JSON: a folder with annotations/{train,val,test}.json beside images/, COCO's own naming
(annotations/person_keypoints_val2017.json beside val2017/), Roboflow's ({train,valid,test}/_annotations.coco.json),
or one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fiducial.data.coco_json import labels
from fiducial.data.formats import SPLITS, located, split_in_name
from fiducial.data.images import FileImages
from fiducial.errors import UserError
from fiducial.types import Findings, Instances

TITLE = "COCO keypoints: annotations/{train,val,test}.json beside images/, or one JSON file"


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
    return [
        home / "images",
        home / "images" / split,
        home / split,
        home / "images" / f"{split}2017",
        home / f"{split}2017",
        file.parent,
        home,
    ]
