"""labelme (and X-AnyLabeling): NAME.json beside each image, with shapes: points, and rectangles around them.

Coordinates are those of a canvas, whose (0, 0) is the image's outer corner, so that a pixel's centre lies at .5. Shapes
with one `group_id` are an instance; the rest is said in `shapes.py`. A point with a flag `hidden` or `occluded` that is true is
hidden (v 1)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import files as whole_files
from fiducial import geometry, text_files
from fiducial.data import json_kinds, shapes
from fiducial.data.coco_json.entries import number_of
from fiducial.data.file_names import parts_of
from fiducial.data.formats import Holds, located, split_in_name
from fiducial.data.placing import Placing, rows_by_image, size_of
from fiducial.data.shapes import FROM_EDGES, Box, Drawing, Point, Told
from fiducial.errors import UserError, shown
from fiducial.types import Findings, Instances

TITLE = "labelme: NAME.json with shapes beside NAME.jpg"
HOLDS = Holds(hidden=True, boxes=True)
HIDDEN = ("hidden", "occluded", "invisible")


def find(path: Path) -> dict[str, list[Path]]:
    """The files of each split, by the words of their folders."""
    found: dict[str, list[Path]] = {}
    for file in [path] if path.is_file() else sorted(path.rglob("*.json")):
        if file.suffix == ".json" and json_kinds.kind_of(file) == "labelme":
            folders = file.relative_to(path).parts[:-1]
            split = next((split for folder in reversed(folders) if (split := split_in_name(folder))), "train")
            found.setdefault(split, []).append(file)
    return found


def read(root: Path, files: Sequence[Path], images: Path | None, category: str | None, findings: Findings) -> Instances:
    """One instance for each group of an image."""
    drawings = []
    home = root.parent if root.is_file() else root
    for file in files:
        try:
            drawings.append(_drawing(file, home, findings))
        except ValueError as error:
            what = error.about(file) if isinstance(error, UserError) else str(error)
            findings.add("", f"{what}; left out", str(file))
    if not drawings:
        raise UserError(root, f"none of its {len(files)} files could be used; the first: {findings.wrong[0]}")
    names = [drawing.name for drawing in drawings]
    pictures = located(names, [images] if images else [home], root, findings)
    told = Told(_points_of_all(drawings, home, root, files))
    return shapes.instances_of(drawings, pictures, category, str(root), findings, to_px=FROM_EDGES, told=told)


def _points_of_all(drawings: Sequence[Drawing], home: Path, root: Path, files: Sequence[Path]) -> list[str]:
    """The points of all splits, since no file lists them; [] where there are no others."""
    others = {file for own in find(root).values() for file in own} - set(files)
    if not others:
        return []
    every = list(drawings)
    for file in sorted(others):
        with suppress(ValueError):  # said when its own split is read
            every.append(_drawing(file, home, Findings(str(file))))
    return shapes.names_of(every)


def _drawing(file: Path, home: Path, findings: Findings) -> Drawing:
    content = text_files.read_json(file)
    listed = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(listed, list):
        raise ValueError("expected an object with a list `shapes`")
    name = content.get("imagePath")
    if not isinstance(name, str) or not name:
        raise ValueError("imagePath names no image")
    sides = [number_of(content.get(side)) or 0 for side in ("imageWidth", "imageHeight")]
    size = (int(sides[0]), int(sides[1])) if all(1 <= side < 2**31 for side in sides) else (0, 0)
    own = name if os.path.isabs(name) else os.path.relpath(file.parent.joinpath(*parts_of(name)), home)
    drawing = Drawing(own, size)
    others = 0
    for place, shape in enumerate(listed):
        try:
            others += not _draw(shape, drawing)
        except ValueError as error:
            findings.add(f"shape {place}", f"{error}; left out", str(file))
    if others:
        findings.add("", f"{others} shapes that are neither points nor rectangles; left out", str(file))
    return drawing


def _draw(shape: Any, drawing: Drawing) -> bool:
    """Adds a shape; False for one of another kind. Raises ValueError for what is broken."""
    if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
        raise ValueError(f"is {shown(shape)}, expected an object with a label")
    kind = shape.get("shape_type", "point")
    if kind not in ("point", "rectangle"):
        return False
    points = shape.get("points")
    if not isinstance(points, list) or not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise ValueError(f"its points are {shown(points)}, expected pairs of numbers")
    values = [number_of(value) for point in points for value in point]
    if None in values or len(points) not in ((1,) if kind == "point" else (2, 4)):
        raise ValueError(f"its points are {shown(points)}, expected those of a {kind}")
    xy = np.array(values, np.float64).reshape(-1, 2)
    group = shape.get("group_id")
    group = group if isinstance(group, (int, str)) else None
    if kind == "point":
        flags = shape.get("flags")
        is_hidden = isinstance(flags, dict) and any(flags.get(name) is True for name in HIDDEN)
        x, y = xy[0].tolist()
        drawing.points.append(Point(shape["label"], x, y, 1 if is_hidden else 2, group))
    else:
        box = geometry.box_from_corners(np.concatenate([xy.min(0), xy.max(0)]))
        drawing.boxes.append(Box(shape["label"], tuple(box.tolist()), group))
    return True


def write_folder(read: Mapping[str, Instances], placing: Placing) -> list[str]:
    """Writes SPLIT/NAME.json beside a copy of each image."""
    for split, instances in read.items():
        for image, rows in enumerate(rows_by_image(instances)):
            copy = placing.folder / placing.copy(instances.images, image, split, by_stem=True)
            drawn = []
            for group, row in enumerate(rows[instances.labelled[rows].any(1)].tolist(), 1):
                corners = geometry.box_to_corners(instances.box_xywh[row].astype(np.float64)).reshape(2, 2).tolist()
                drawn.append(_shape(instances.skeleton.name, "rectangle", corners, group))
                edges = geometry.transform(geometry.invert(FROM_EDGES), instances.xy[row].astype(np.float64)).tolist()
                for name, point, v in zip(instances.skeleton.points, edges, instances.visibility[row], strict=True):
                    if v:
                        drawn.append(_shape(name, "point", [point], group, {"hidden": True} if v == 1 else {}))
            size = size_of(instances, image)
            content = {"version": "5.5.0", "flags": {}, "shapes": drawn, "imagePath": copy.name, "imageData": None}
            whole_files.write_json(copy.with_suffix(".json"), {**content, "imageHeight": size.h, "imageWidth": size.w})
    return []


def _shape(label: str, kind: str, points: list[list[float]], group: int, flags: dict[str, bool] | None = None) -> Any:
    return {"label": label, "points": points, "group_id": group, "shape_type": kind, "flags": flags or {}}
