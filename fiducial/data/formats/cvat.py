"""CVAT's XML 1.1, for images and for video: skeletons, points and boxes.

Coordinates are those of a canvas, whose (0, 0) is the image's outer corner, so that a pixel's centre lies at .5. `outside` is
a point that nobody set, `occluded` a hidden one (v 1). A skeleton's box is the one of the same group. Points without a
skeleton are an instance where they are of one shape; single ones are put together as `shapes.py` says. Of tracks only
the key frames are read, which people set; their images are called frame_000012 and so on."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

import numpy as np

from fiducial import files as whole_files
from fiducial import geometry, text_files
from fiducial.data import shapes
from fiducial.data.checking import FARTHEST_PX
from fiducial.data.formats import Holds, by_split, located, numbers, pictures_by_stem
from fiducial.data.placing import Placing, rows_by_image, size_of
from fiducial.data.shapes import FROM_EDGES, Box, Drawing, Point, Told
from fiducial.errors import UserError, did_you_mean, shown
from fiducial.types import Findings, Instances, Skeleton

TITLE = "CVAT: annotations.xml (for images or for video 1.1) beside images/"
ENDING = ".xml"
HOLDS = Holds(hidden=True, boxes=True, edges=True)
HEAD_BYTES = 4096
FOLDERS = ("images", "images/default", "data", "")
Element = ElementTree.Element


def find(path: Path) -> dict[str, list[Path]]:
    """The XML of each split."""
    files = [path] if path.is_file() else sorted(path.glob("*.xml"))
    return by_split(path, [file for file in files if file.suffix.lower() == ".xml" and _is_one(file)])


def _is_one(file: Path) -> bool:
    try:
        if not file.is_file():
            return False
        with file.open("rb") as opened:
            head = opened.read(HEAD_BYTES)
    except OSError:
        return False
    return b"<annotations" in head.replace(b"\0", b"")  # UTF-16's, too


def read(root: Path, files: Sequence[Path], images: Path | None, category: str | None, findings: Findings) -> Instances:
    """One instance for each skeleton, shape of points, or group of single ones."""
    [file] = files
    findings.source = str(file)
    tree = _parsed(file)
    labels = _labels(tree)
    entries = list(_entries(tree, findings))
    kind = _kind(entries, labels, category, file)
    drawings = [_drawing(entry, kind, findings) for entry in entries]
    if not drawings:
        raise UserError(file, "no image and no frame is annotated in it")
    folders = [images] if images else [file.parent / name for name in FOLDERS]
    names = _frame_names([drawing.name for drawing in drawings], folders)
    pictures = located(names, folders, file, findings)
    about = labels.get(kind or "", _Label())
    told = Told(about.points, about.edges)
    alone = category if kind is None else None
    return shapes.instances_of(drawings, pictures, alone, str(file), findings, to_px=FROM_EDGES, told=told)


# ------------------------------------------------------------------------------------------------------- the file


@dataclass
class _Entry:
    """An image or a frame, with the elements that are drawn on it and the group that each says."""

    name: str
    size: tuple[int, int]
    shapes: list[Element] = field(default_factory=list)


@dataclass
class _Label:
    """What the file says of a label."""

    points: list[str] = field(default_factory=list)
    edges: list[tuple[str, str]] = field(default_factory=list)


def _parsed(file: Path) -> Element:
    """The tree. A document type is refused: with its entities a small file can stand for gigabytes."""
    text = text_files.read_text(file)
    if "<!DOCTYPE" in text[:HEAD_BYTES] or "<!ENTITY" in text:
        raise UserError(file, "has a document type, which CVAT's files have not; export it again")
    try:
        tree = ElementTree.fromstring(re.sub(r"^\s*<\?xml[^>]*\?>", "", text))  # its encoding was that of the bytes
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise UserError(file, f"not XML: {error}; export it again") from error
    if tree.tag != "annotations":
        raise UserError(file, f"its root is {shown(tree.tag)}, expected CVAT's `annotations`")
    return tree


def _labels(tree: Element) -> dict[str, _Label]:
    """The labels that the task has, each skeleton with its points and edges."""
    found: dict[str, _Label] = {}
    for label in tree.iterfind("./meta//label"):
        name, parent = (label.findtext("name") or "").strip(), (label.findtext("parent") or "").strip()
        if parent:
            found.setdefault(parent, _Label()).points.append(name)
        else:
            found.setdefault(name, _Label()).edges += _edges(label.findtext("svg") or "")
    return found


def _edges(svg: str) -> list[tuple[str, str]]:
    """The edges that a skeleton's drawing has, by the names of their points."""
    tags = [dict(re.findall(r'([\w-]+)="([^"]*)"', tag)) for tag in re.findall(r"<(?:circle|line)\b[^>]*>", svg)]
    names = {
        tag["data-node-id"]: tag["data-label-name"] for tag in tags if {"data-node-id", "data-label-name"} <= tag.keys()
    }
    ends = [(tag.get("data-node-from"), tag.get("data-node-to")) for tag in tags]
    return [(names[a], names[b]) for a, b in ends if a in names and b in names]


def _entries(tree: Element, findings: Findings) -> Iterator[_Entry]:
    """All images, and all frames in which something was set."""
    for image in tree.iterfind("image"):
        name = image.get("name", "")
        if not name:
            findings.add(f"image {image.get('id', '')}", "has no name; left out")
            continue
        yield _Entry(name, _size(image.get("width"), image.get("height")), list(image))
    size = tree.find("./meta//original_size")
    declared = (0, 0) if size is None else _size(size.findtext("width"), size.findtext("height"))
    frames: dict[int, _Entry] = {}
    between = 0
    for number, track in enumerate(tree.iterfind("track")):
        for shape in track:
            frame = shape.get("frame", "")
            if not frame.isdecimal() or len(frame) > 9:
                findings.add(f"track {track.get('id', '')}", f"a shape's frame is {shown(frame)}; left out")
            elif shape.get("keyframe") == "0":
                between += 1
            elif shape.get("outside") != "1":
                shape.set("label", track.get("label", ""))
                shape.set("group_id", track.get("group_id") or f"track {number}")
                frames.setdefault(int(frame), _Entry(f"frame_{int(frame):06d}", declared)).shapes.append(shape)
    if between:
        findings.note(f"{between} shapes between key frames were not set by people: not read")
    for frame in sorted(frames):
        yield frames[frame]


def _size(width: str | None, height: str | None) -> tuple[int, int]:
    sides = [int(side) if side and side.isdecimal() and len(side) < 9 else 0 for side in (width, height)]
    return (sides[0], sides[1]) if all(sides) else (0, 0)


# ------------------------------------------------------------------------------------------------------- the labels


def _kind(entries: Sequence[_Entry], labels: dict[str, _Label], category: str | None, file: Path) -> str | None:
    """The label whose shapes are instances: of skeletons, or of several points. None where points are single."""
    whole: dict[str, None] = {}
    for entry in entries:
        for shape in entry.shapes:
            if shape.tag == "skeleton" or (shape.tag == "points" and ";" in shape.get("points", "")):
                whole.setdefault(shape.get("label", ""))
    if category is not None and (whole or category not in labels):
        if category not in whole:
            raise UserError(file, f"no label {category!r} with points.{did_you_mean(category, whole or labels)}")
        return category
    if len(whole) > 1:
        raise UserError(
            file, f"several labels have points: {', '.join(map(repr, whole))}; choose one with --category NAME"
        )
    return next(iter(whole), None)


def _drawing(entry: _Entry, kind: str | None, findings: Findings) -> Drawing:
    drawing = Drawing(entry.name, entry.size)
    groups: dict[str, Any] = {}
    others = 0
    for place, shape in enumerate(entry.shapes):
        label, group = shape.get("label", ""), shape.get("group_id") or None
        group = None if group == "0" else group
        try:
            if shape.tag == "skeleton" and label == kind:
                own = group if group is not None and group not in groups else f"shape {place}"
                groups[own] = drawing.categories[own] = label
                drawing.points += [point for part in shape.iterfind("points") for point in _points(part, own)]
            elif shape.tag == "points" and label == kind:
                own = f"shape {place}"
                drawing.categories[own] = label
                drawing.points += _points(shape, own, numbered=True)
            elif shape.tag == "points" and kind is None:
                drawing.points += _points(shape, group)
            elif shape.tag == "box":
                corners = numbers([shape.get(side, "") for side in ("xtl", "ytl", "xbr", "ybr")])
                box = geometry.box_from_corners(corners)
                drawing.boxes.append(Box(label, tuple(box.tolist()), group))
            elif shape.tag not in ("skeleton", "points", "tag"):
                others += 1
        except ValueError as error:
            findings.add(f"image {entry.name}", f"{shape.tag} {shown(label)}: {error}; left out")
    if kind is not None:  # boxes of other things, or of nobody that can be told
        drawing.boxes = [box for box in drawing.boxes if box.group in drawing.categories]
    if others:
        findings.add(f"image {entry.name}", f"{others} shapes that are neither points nor boxes; left out")
    return drawing


def _points(shape: Element, group: Any, numbered: bool = False) -> list[Point]:
    """The points of an element: one of its label's name, or several that are numbered from 1."""
    if shape.get("outside") == "1":
        return []
    pairs = [_pair(pair) for pair in shape.get("points", "").split(";") if pair.strip()]
    if not pairs or (len(pairs) > 1 and not numbered):
        raise ValueError(f"points {shown(shape.get('points', ''))}, expected x,y")
    v = 1 if shape.get("occluded") == "1" else 2
    names = [str(i) for i in range(1, len(pairs) + 1)] if numbered else [shape.get("label", "")]
    return [Point(name, x, y, v, group) for name, (x, y) in zip(names, pairs, strict=True)]


def _pair(text: str) -> tuple[float, float]:
    x, _, y = text.partition(",")
    try:
        place = float(x), float(y)
    except ValueError:
        place = math.nan, math.nan
    if not all(abs(value) <= FARTHEST_PX for value in place):  # NaN, too
        raise ValueError(f"{shown(text)} is no x,y of an image")
    return place


def _frame_names(names: list[str], folders: Sequence[Path]) -> list[str]:
    """Names of frames with the endings of their files."""
    if not all(re.fullmatch(r"frame_\d{6,9}", name) for name in names):
        return names
    there = {stem: file for folder in folders if folder.is_dir() for stem, file in pictures_by_stem(folder).items()}
    return [there.get(name, name) for name in names]


# ------------------------------------------------------------------------------------------------------- writing


def write_file(instances: Instances, file: Path, placing: Placing) -> list[str]:
    """Writes images with a skeleton and a box of one group for each instance. The task must have these labels."""
    skeleton = instances.skeleton
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "  <version>1.1</version>", *_meta(skeleton)]
    for image, rows in enumerate(rows_by_image(instances)):
        size = size_of(instances, image)
        name = quoteattr(placing.refer(instances.images, image))
        lines.append(f'  <image id="{image}" name={name} width="{size.w}" height="{size.h}">')
        for group, row in enumerate(rows[instances.labelled[rows].any(1)].tolist(), 1):
            lines += _shapes(instances, row, group)
        lines.append("  </image>")
    whole_files.write_text(file, "\n".join([*lines, "</annotations>"]) + "\n")
    return []


def _shapes(instances: Instances, row: int, group: int) -> list[str]:
    label = quoteattr(instances.skeleton.name)
    corners = geometry.box_to_corners(instances.box_xywh[row].astype(np.float64)).tolist()
    sides = " ".join(f'{side}="{value:.3f}"' for side, value in zip(("xtl", "ytl", "xbr", "ybr"), corners, strict=True))
    lines = [f'    <box label={label} source="manual" occluded="0" {sides} z_order="0" group_id="{group}"></box>']
    lines.append(f'    <skeleton label={label} source="manual" z_order="0" group_id="{group}">')
    xy = geometry.transform(geometry.invert(FROM_EDGES), instances.xy[row].astype(np.float64)).tolist()
    for name, (x, y), v in zip(instances.skeleton.points, xy, instances.visibility[row].tolist(), strict=True):
        state = f'outside="{int(v == 0)}" occluded="{int(v == 1)}"'
        lines.append(
            f'      <points label={quoteattr(name)} source="manual" {state} points="{x:.3f},{y:.3f}"></points>'
        )
    return [*lines, "    </skeleton>"]


def _meta(skeleton: Skeleton) -> list[str]:
    """The labels of a task, with a drawing of the skeleton on a circle."""
    count = len(skeleton.points)
    turns = 2 * np.pi * np.arange(count) / count
    places = np.stack([50 + 40 * np.sin(turns), 50 - 40 * np.cos(turns)], 1).round(2).tolist()
    nodes = [
        f'<circle r="1.5" cx="{x}" cy="{y}" data-type="element node" data-element-id="{i}" data-node-id="{i}" '
        f"data-label-name={quoteattr(name)}></circle>"
        for i, (name, (x, y)) in enumerate(zip(skeleton.points, places, strict=True), 1)
    ]
    edges = [
        f'<line x1="{places[a][0]}" y1="{places[a][1]}" x2="{places[b][0]}" y2="{places[b][1]}" data-type="edge" '
        f'data-node-from="{a + 1}" data-node-to="{b + 1}"></line>'
        for a, b in skeleton.edges
    ]
    name = _text(skeleton.name)
    parts = [
        f"      <label><name>{_text(point)}</name><type>points</type><parent>{name}</parent></label>"
        for point in skeleton.points
    ]
    svg = _text("".join([*edges, *nodes]))
    return [
        "  <meta>",
        "    <task>",
        "    <labels>",
        f"      <label><name>{name}</name><type>skeleton</type><svg>{svg}</svg></label>",
        *parts,
        "    </labels>",
        "    </task>",
        "  </meta>",
    ]


def _text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
