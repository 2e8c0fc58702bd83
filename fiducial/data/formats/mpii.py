"""MPII's human pose in the JSON of the HRNet project: a list of {"image", "joints", "joints_vis", "center", "scale"}.

Coordinates are Matlab's, so that the centre of the first pixel is (1, 1). `center` and `scale` give a square box of
200 scale px. `joints_vis` 0 is a joint that nobody set; hidden ones can't be told from others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import geometry, text_files
from fiducial.data import json_kinds, skeletons
from fiducial.data.checking import Label, unchecked
from fiducial.data.coco_json.entries import number_of
from fiducial.data.formats import by_split, located
from fiducial.errors import UserError, shown
from fiducial.types import Findings, Instances

TITLE = "MPII: a JSON list of joints, as HRNet's train.json and valid.json"
FROM_ONE_BASED = geometry.translation(-1, -1)
BOX_PX = 200.0  # of a scale of 1
POINTS = (
    *("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle"),
    *("pelvis", "thorax", "upper_neck", "head_top"),
    *("right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist"),
)
EDGES = (
    *((0, 1), (1, 2), (2, 6), (6, 3), (3, 4), (4, 5)),
    *((6, 7), (7, 8), (8, 9), (7, 12), (12, 11), (11, 10), (7, 13), (13, 14), (14, 15)),
)


def find(path: Path) -> dict[str, list[Path]]:
    """The list of each split; of files that no split speaks of, all together are train."""
    folders = [path, path / "annot", path / "annotations"]
    files = [path] if path.is_file() else sorted(file for folder in folders for file in folder.glob("*.json"))
    return by_split(path, [file for file in files if file.suffix == ".json" and json_kinds.kind_of(file) == "mpii"])


def read(root: Path, files: Sequence[Path], images: Path | None, category: str | None, findings: Findings) -> Instances:
    """One instance for each entry; the annotation id is its place, from 1."""
    [file] = files
    findings.source = str(file)
    labels, rows = [], {}
    entries = text_files.read_json(file)
    for place, entry in enumerate(entries, 1):
        try:
            keypoints, box = _instance(entry)
        except ValueError as error:
            findings.add(f"entry {place}", f"{error}; left out")
            continue
        labels.append(Label(rows.setdefault(entry["image"], len(rows)), place, keypoints, box))
    if not labels:
        raise UserError(file, f"none of its {len(entries)} entries could be used: {findings.wrong[0]}")
    skeleton, notes = skeletons.complete("mpii16", POINTS, where=str(file), edges=EDGES)
    findings.note(*notes)
    home = file.parent.parent if file.parent.name in ("annot", "annotations") else file.parent
    folders = [images] if images else [home / "images", file.parent, home]
    return unchecked(labels, skeleton, located(list(rows), folders, file, findings), str(file))


def _instance(entry: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """[16, 3] px and the box."""
    if not isinstance(entry, dict) or not isinstance(entry.get("image"), str):
        raise ValueError(f"is {shown(entry)}, expected an object with an image")
    listed, seen = entry.get("joints"), entry.get("joints_vis")
    if not (isinstance(listed, list) and isinstance(seen, list) and len(listed) == len(seen) == len(POINTS)):
        raise ValueError(f"its joints are {shown(listed)}, expected {len(POINTS)} with as many in joints_vis")
    values = [[number_of(value) for value in xy] if isinstance(xy, list) else [] for xy in listed]
    flags = [number_of(flag) for flag in seen]
    if any(len(xy) != 2 or None in xy for xy in values) or any(flag not in (0, 1) for flag in flags):
        raise ValueError("a joint is not [x, y] and 0 or 1")
    keypoints = np.zeros((len(POINTS), 3))
    keypoints[:, :2] = geometry.transform(FROM_ONE_BASED, np.array(values, np.float64))
    keypoints[:, 2] = [2 if flag else 0 for flag in flags]
    return keypoints, _box(entry)


def _box(entry: dict[str, Any]) -> np.ndarray | None:
    centre = entry.get("center")
    values = [number_of(value) for value in centre] if isinstance(centre, list) else []
    return box_of(values, number_of(entry.get("scale")))


def box_of(centre: Sequence[float | None], scale: float | None) -> np.ndarray | None:
    """Makes the square box of a centre (x, y), counted from 1, and a scale; None where they are none."""
    if scale is None or scale <= 0 or len(centre) != 2 or None in centre:
        return None
    [middle] = geometry.transform(FROM_ONE_BASED, np.array([centre], np.float64))
    return geometry.square_box(middle, scale * BOX_PX)
