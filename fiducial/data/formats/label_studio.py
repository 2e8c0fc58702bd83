"""Label Studio: a JSON export of tasks, with key points and rectangles; also its export JSON_MIN.

x and y are percent of the image, so that 0 is its outer edge and a pixel's centre lies half a pixel further. Points
belong together by their parent rectangle, or by a relation to it; the rest is said in `shapes.py`. Of several annotations
of a task the first that was not cancelled is read. The tool knows nothing of hidden points."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import quoteattr, unescape

import msgspec
import numpy as np

from fiducial import files as whole_files
from fiducial import geometry, text_files
from fiducial.data import json_kinds, shapes
from fiducial.data.coco_json.entries import number_of
from fiducial.data.file_names import listing
from fiducial.data.formats import Holds, by_split, located
from fiducial.data.images import ENDINGS
from fiducial.data.placing import Placing, rows_by_image, size_of
from fiducial.data.shapes import Box, Drawing, Point, Told
from fiducial.errors import UserError, shown
from fiducial.geometry import Size
from fiducial.types import Findings, Instances, Skeleton

TITLE = "Label Studio: a JSON export with key points"
ENDING = ".json"
BY_ENDING = False  # which means COCO's
HOLDS = Holds(boxes=True)
UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # what an upload puts before a name
CONFIGURATION = "labelling_interface.xml"
FOLDERS = ("images", "upload", "data", "")


def find(path: Path) -> dict[str, list[Path]]:
    """The export of each split."""
    files = [path] if path.is_file() else sorted(path.glob("*.json"))
    chosen = [file for file in files if file.suffix == ".json" and json_kinds.kind_of(file) == "label_studio"]
    return by_split(path, chosen)


def read(root: Path, files: Sequence[Path], images: Path | None, category: str | None, findings: Findings) -> Instances:
    """One instance for each rectangle with points, or for the points of an image."""
    [file] = files
    findings.source = str(file)
    tasks = text_files.read_json(file)
    drawings: dict[str, Drawing] = {}
    for place, task in enumerate(tasks):
        where = f"task {task.get('id', place) if isinstance(task, dict) else place}"
        try:
            drawing = _drawing(task, where, findings)
        except ValueError as error:
            findings.add(where, f"{error}; left out")
            continue
        if drawing.name in drawings:
            findings.add(where, f"the image {shown(drawing.name)} has a task before this; left out")
            continue
        drawings[drawing.name] = drawing
    if not drawings:
        raise UserError(file, f"none of its {len(tasks)} tasks has an image and key points: {_first(findings)}")
    folders = [images] if images else [file.parent / name for name in FOLDERS]
    names = _without_uploads(list(drawings), folders)
    pictures = located(names, folders, file, findings)
    kept, told = list(drawings.values()), Told(_configured(file.parent))
    return shapes.instances_of(kept, pictures, category, str(file), findings, to_px=geometry.identity(), told=told)


def _configured(folder: Path) -> list[str]:
    """The points that the project's labelling interface has, where that was saved beside, in their order."""
    for file in sorted(folder.glob("*.xml")):
        text = text_files.read_text(file)
        block = re.search(r"<KeyPointLabels\b.*?</KeyPointLabels>", text, re.DOTALL)
        if block is not None:
            values = re.findall(r"""<Label\b[^>]*?\bvalue=("[^"]*"|'[^']*')""", block[0])
            return [unescape(value[1:-1], {"&quot;": '"'}) for value in values]
    return []


def _first(findings: Findings) -> str:
    return str(findings.wrong[0]) if findings.wrong else "it has none"


def _drawing(task: Any, where: str, findings: Findings) -> Drawing:
    if not isinstance(task, dict):
        raise ValueError(f"is {shown(task)}, expected an object")
    data = task["data"] if isinstance(task.get("data"), dict) else task
    values = [data.get("image"), data.get("img"), *data.values()]
    image = next((value for value in values if isinstance(value, str) and _is_image(value)), None)
    if image is None:
        raise ValueError("its data name no image")
    results = _results(task, where, findings)
    drawing = Drawing(_name_of(image))
    parents = {_text(item.get("id")): _text(item.get("parentID")) for item in results}
    for item in results:
        if item.get("type") == "relation":
            parents.setdefault(_text(item.get("from_id")), "")
            parents[_text(item.get("from_id"))] = _text(item.get("to_id"))
            parents.setdefault(_text(item.get("to_id")), "")
    boxes = {_text(item.get("id")) for item in results if _label(item, "rectanglelabels")}
    for ends in [
        (child, parent) for child, parent in parents.items() if child in boxes and parent and parent not in boxes
    ]:
        parents[ends[1]] = ends[0]  # a relation that was drawn from the rectangle
    used = set(parents.values())
    others = 0
    found: list[tuple[Size, Point]] = []
    for item in results:
        number = _text(item.get("id"))
        if item.get("type") == "relation":
            continue
        size = _size(item)
        if name := _label(item, "keypointlabels"):
            x, y = _percent(item, "x", "y")
            parent = parents.get(number) or None
            found.append((size, Point(name, x, y, 2, parent if parent in boxes else None)))
        elif name := _label(item, "rectanglelabels"):
            box = geometry.box_from_shares(np.array(_percent(item, "x", "y", "width", "height")), size)
            drawing.boxes.append(Box(name, tuple(box.tolist()), number if number in used else None))
        else:
            others += 1
            continue
        drawing.size = size
    drawing.points = _in_px(found)
    if others:
        findings.add(where, f"{others} results that are neither key points nor rectangles; left out")
    return drawing


def _in_px(found: Sequence[tuple[Size, Point]]) -> list[Point]:
    """Points whose places are shares of a size, which all of an image have, in px."""
    points: list[Point] = []
    for size in dict.fromkeys(size for size, _ in found):
        own = [point for other, point in found if other == size]
        xy = geometry.unit_to_px(np.array([point[1:3] for point in own]), size).tolist()
        points += [Point(point.name, x, y, point.v, point.group) for point, (x, y) in zip(own, xy, strict=True)]
    return points


def _results(task: dict[str, Any], where: str, findings: Findings) -> list[dict[str, Any]]:
    """The results of the annotation that counts."""
    made = task.get("annotations", task.get("completions"))
    if not isinstance(made, list):  # JSON_MIN: lists of values beside the image
        lists = [value for value in task.values() if isinstance(value, list)]
        flat = [value for values in lists for value in values if isinstance(value, dict)]
        return [{"value": value, "id": str(place), **value} for place, value in enumerate(flat)]
    whole = [one for one in made if isinstance(one, dict) and not one.get("was_cancelled")]
    if len(whole) < len(made):
        findings.note(f"{where}: {len(made) - len(whole)} annotations were cancelled, or are none: not read")
    if len(whole) > 1:
        findings.note(f"{where}: {len(whole)} annotations, of which the first is read")
    results = whole[0].get("result") if whole else []
    if not isinstance(results, list):
        raise ValueError(f"its result is {shown(results)}, expected a list")
    return [item for item in results if isinstance(item, dict)]


def _label(item: dict[str, Any], field: str) -> str:
    value = item.get("value")
    names = value.get(field) if isinstance(value, dict) else None
    return names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""


def _percent(item: dict[str, Any], *fields: str) -> list[float]:
    """Shares of the image."""
    values = [number_of(item["value"].get(field)) for field in fields]
    if None in values:
        raise ValueError(
            f"a result has {fields[values.index(None)]} {shown(item['value'].get(fields[values.index(None)]))}"
        )
    return [value / 100 for value in values if value is not None]


def _size(item: dict[str, Any]) -> Size:
    sides = [number_of(item.get(side)) for side in ("original_width", "original_height")]
    if not all(side is not None and 1 <= side < 2**31 for side in sides):
        raise ValueError("a result has no original_width and original_height, of which x and y are percent")
    return Size(*(int(side) for side in sides if side is not None))


def _is_image(value: str) -> bool:
    return Path(_name_of(value)[-300:]).suffix.lower() in ENDINGS


def _name_of(url: str) -> str:
    """The path in an address, a storage's key or a local file's address."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    local = parse_qs(parts.query).get("d")
    return unquote(local[0] if local else parts.path if parts.scheme else url.partition("?")[0])


def _without_uploads(names: list[str], folders: Sequence[Path]) -> list[str]:
    """Names without what an upload put before them, where only those files are there."""
    there = {name for folder in folders for name in listing(folder)}

    def own(name: str) -> str:
        last = name.rpartition("/")[2]
        short = UPLOADED.sub("", last)
        return short if last not in there and short in there else name

    found = [own(name) for name in names]
    return found if len(set(found)) == len(names) else names


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def write_file(instances: Instances, file: Path, placing: Placing) -> list[str]:
    """Writes tasks, each with one annotation: a rectangle for each instance, and its points as children of it."""
    skeleton, tasks = instances.skeleton, []
    for image, rows in enumerate(rows_by_image(instances)):
        size = size_of(instances, image)
        common = {"original_width": size.w, "original_height": size.h, "image_rotation": 0, "to_name": "image"}
        results: list[dict[str, Any]] = []
        for row in rows[instances.labelled[rows].any(1)].tolist():
            x, y, w, h = (100 * geometry.box_to_shares(instances.box_xywh[row].astype(np.float64), size)).tolist()
            value = {"x": x, "y": y, "width": w, "height": h, "rotation": 0, "rectanglelabels": [skeleton.name]}
            parent = f"box{row}"
            results.append({**common, "id": parent, "from_name": "box", "type": "rectanglelabels", "value": value})
            unit = geometry.px_to_unit(instances.xy[row].astype(np.float64), size)
            for point in np.flatnonzero(instances.labelled[row]).tolist():
                x, y = (100 * unit[point]).tolist()
                value = {"x": x, "y": y, "width": 0.5, "keypointlabels": [skeleton.points[point]]}
                entry = {"id": f"point{row}_{point}", "parentID": parent, "from_name": "kp", "type": "keypointlabels"}
                results.append({**common, **entry, "value": value})
        data = {"image": placing.refer(instances.images, image)}
        tasks.append({"id": image + 1, "data": data, "annotations": [{"id": image + 1, "result": results}]})
    whole_files.write_bytes(file, msgspec.json.encode(tasks) + b"\n")
    if placing.is_new:
        whole_files.write_text(file.parent / CONFIGURATION, _interface(skeleton))
    return []


def _interface(skeleton: Skeleton) -> str:
    """The labelling interface of a project that can take these tasks."""
    points = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in skeleton.points)
    return (
        '<View>\n  <Image name="image" value="$image"/>\n  <RectangleLabels name="box" toName="image">\n'
        f"    <Label value={quoteattr(skeleton.name)}/>\n  </RectangleLabels>\n"
        f'  <KeyPointLabels name="kp" toName="image">\n{points}  </KeyPointLabels>\n</View>\n'
    )
