"""COCO truth and any tool's COCO results, read from their JSON into columns.

A sound file is decoded straight into typed structs, without the fields that nobody needs. Anything else (a NaN, text
where a number belongs) is read again entry by entry, so that the message can name the entry: broken ones are
skipped, counted and listed, or are errors where `strict`."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from fiducial.data.images import ArrayImages
from fiducial.errors import UserError, did_you_mean
from fiducial.evaluation import coco
from fiducial.types import Instances, Problem, Skeleton

Numbers = tuple[float, ...]  # tuples and no lists: the garbage collector lets go of them
Entry = TypeVar("Entry", bound=msgspec.Struct)


class Image(msgspec.Struct, gc=False):
    id: int
    width: float = 0
    height: float = 0
    crowd_index: float | None = msgspec.field(default=None, name="crowdIndex")


class Annotation(msgspec.Struct, gc=False):
    id: int
    image_id: int
    category_id: int = 1
    keypoints: Numbers | None = None
    num_keypoints: int | None = None
    bbox: Numbers | None = None
    area: float | None = None
    iscrowd: int | bool = 0


class Category(msgspec.Struct):
    id: int
    name: str = ""
    keypoints: tuple[str, ...] | None = None
    sigmas: Numbers | None = None


class TruthFile(msgspec.Struct):
    images: list[Image]
    annotations: list[Annotation]
    categories: list[Category] = []


class Detection(msgspec.Struct, gc=False):
    image_id: int
    keypoints: Numbers
    score: float
    category_id: int | None = None


@dataclass
class Findings:
    """What was wrong with a file's entries, and what else a user should know about how it was read."""

    file: Path
    strict: bool = False
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, where: str, what: str) -> None:
        """One entry skipped; an error where `strict`."""
        problem = Problem(str(self.file), where, what)
        if self.strict:
            raise UserError(str(problem))
        self.problems.append(problem)

    def note(self, text: str) -> None:
        self.notes.append(f"{self.file}: {text}")

    def refuse_if_none_left(self, kind: str, read: int, left: int) -> None:
        if read and not left:
            raise UserError(f"all {read} {kind} are broken; the first: {self.problems[0]}")


@dataclass(frozen=True)
class TruthTable:
    """What a truth file says about one category."""

    truth: Instances
    annotation_id: np.ndarray  # [n] int64
    image_size: np.ndarray  # [m, 2] (w, h) as declared; 0 = not declared
    crowd_index: np.ndarray | None  # [m] CrowdPose's measure of crowding in 0..1; None where an image has none
    category: Category
    points: tuple[str, ...]


def read_truth(findings: Findings, category: str | None = None, use_area: bool = True) -> TruthTable:
    """The truth file of `findings`. `category` names one of several. Without `use_area`, and wherever an instance has
    no area, 0.53 w h of its box is used, as CrowdPose does."""
    content = _truth_file(findings)
    chosen = _choose_category(content, findings.file, category)
    entries = [entry for entry in content.annotations if entry.category_id == chosen.id]
    if content.annotations and not entries:
        raise UserError(f"{findings.file}: none of its annotations is of category {chosen.name!r} (id {chosen.id})")
    lengths = Counter(len(entry.keypoints) for entry in entries if entry.keypoints)
    count = len(chosen.keypoints or ()) or (lengths.most_common(1)[0][0] // 3 if lengths else 0)
    if count == 0:
        raise UserError(f"{findings.file}: no keypoints: expected `keypoints` in its annotations and category")

    images = {image.id: image for image in content.images}
    sound = _sound_annotations(entries, images, count, findings)
    findings.refuse_if_none_left("annotations", len(entries), len(sound))
    image_id = np.array(sorted(images), dtype=np.int64)
    points = _columns([entry.keypoints or () for entry in sound], 3 * count).reshape(-1, count, 3)
    labelled = points[..., 2] > 0
    box = _columns([entry.bbox or () for entry in sound], 4)
    box_area = coco.BOX_TO_AREA * box[:, 2] * box[:, 3]
    missing = np.array([entry.area is None for entry in sound], dtype=bool)
    if use_area and missing.any():
        findings.note(f"{missing.sum()} of {len(sound)} annotations have no area: 0.53 w h of the box is used there")
    area = [0.0 if entry.area is None else entry.area for entry in sound]
    crowd = np.array([entry.iscrowd for entry in sound], dtype=bool)
    # As pycocotools: the file's own count says whether an instance is to be found at all.
    empty = [entry.num_keypoints == 0 for entry in sound]
    uncounted = np.array([entry.num_keypoints is None for entry in sound], dtype=bool)
    names = chosen.keypoints or tuple(f"point_{i}" for i in range(count))
    in_order = [images[number] for number in image_id.tolist()]
    truth = Instances(
        skeleton=Skeleton(chosen.name or "points", names),
        images=ArrayImages([]),
        image_size=np.array([(image.width, image.height) for image in in_order]).reshape(-1, 2),
        annotation_id=np.array([entry.id for entry in sound], dtype=np.int64),
        source=str(findings.file),
        image_id=image_id,
        image_row=np.searchsorted(image_id, np.array([entry.image_id for entry in sound], dtype=np.int64)),
        xy=np.where(labelled[..., None], points[..., :2], 0.0),
        visibility=points[..., 2].astype(np.uint8),
        box_xywh=box,
        area=np.where(missing | (not use_area), box_area, np.array(area, dtype=np.float64)),
        crowd=crowd,
        ignored=crowd | np.array(empty, dtype=bool) | (uncounted & ~labelled.any(1)),
    )
    crowding = [-1.0 if image.crowd_index is None else image.crowd_index for image in in_order]
    return TruthTable(
        truth=truth,
        annotation_id=np.array([entry.id for entry in sound], dtype=np.int64),
        image_size=np.array([(image.width, image.height) for image in in_order]).reshape(-1, 2),
        crowd_index=np.array(crowding) if in_order and min(crowding) >= 0 else None,
        category=chosen,
        points=chosen.keypoints or tuple(f"point_{i}" for i in range(count)),
    )


def read_detections(findings: Findings, table: TruthTable) -> coco.Detections:
    """The results file of `findings`, as far as it speaks of the truth's category."""
    entries, numbers = _detection_entries(findings)
    wanted = [entry.category_id in (None, table.category.id) for entry in entries]
    others = len(wanted) - sum(wanted)
    if others:
        found = sorted({entry.category_id for entry in entries if entry.category_id is not None})
        findings.note(f"{others} detections of other categories left out (ids {found}, wanted {table.category.id})")
        if others == len(entries):
            raise UserError(
                f"{findings.file}: none of its {others} detections is of category {table.category.name!r} "
                f"(id {table.category.id}); their category ids are {found}"
            )
        entries = [entry for entry, keep in zip(entries, wanted, strict=True) if keep]
        numbers = [number for number, keep in zip(numbers, wanted, strict=True) if keep]
    if not entries:
        findings.note("no detections")

    count = len(table.points)
    lengths = np.array([len(entry.keypoints) for entry in entries], dtype=np.int64)
    if entries and not (lengths == 3 * count).any():
        raise UserError(
            f"{findings.file}: its detections have {lengths[0] / 3:g} points (x, y, score each), the category "
            f"{table.category.name!r} of the truth has {count}: these are results for other data"
        )
    for row in np.flatnonzero(lengths != 3 * count).tolist():
        findings.add(
            f"detection [{numbers[row]}] (image {entries[row].image_id})",
            f"{lengths[row]} keypoint numbers, expected {3 * count} (x, y, score of {count} points)",
        )
    numbers = np.asarray(numbers)[lengths == 3 * count]
    entries = [entry for entry in entries if len(entry.keypoints) == 3 * count]
    points = _columns([entry.keypoints for entry in entries], 3 * count).reshape(-1, count, 3)
    xy = np.ascontiguousarray(points[..., :2])
    score = np.array([entry.score for entry in entries], dtype=np.float64)
    image_id = np.array([entry.image_id for entry in entries], dtype=np.int64)
    # A sum is NaN or infinite where one of its numbers is.
    finite = np.isfinite(xy.sum((1, 2)) + score)
    known = np.isin(image_id, table.truth.image_id)
    for row in np.flatnonzero(~(finite & known)).tolist():
        what = "the truth has no such image" if finite[row] else "a coordinate or the score is NaN or infinite"
        findings.add(f"detection [{numbers[row]}] (image {image_id[row]})", what)
    sound = finite & known
    findings.refuse_if_none_left("detections", len(lengths), int(sound.sum()))
    if not sound.all():
        image_id, xy, score = image_id[sound], xy[sound], score[sound]
    return coco.Detections(np.searchsorted(table.truth.image_id, image_id), xy, score)


def _truth_file(findings: Findings) -> TruthFile:
    text = _read(findings.file)
    try:
        return msgspec.json.decode(text, type=TruthFile)
    except (msgspec.ValidationError, msgspec.DecodeError):
        pass
    content = _loads(text, findings.file)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations")
    ):
        raise UserError(f"{findings.file}: expected COCO truth, an object with lists `images` and `annotations`")
    kinds = (
        ("image", Image, "images"),
        ("annotation", Annotation, "annotations"),
        ("category", Category, "categories"),
    )
    read = {}
    for name, kind, key in kinds:
        read[key], _ = _convert(kind, content.get(key, []), name, findings)
        findings.refuse_if_none_left(key, len(content.get(key, [])), len(read[key]))
    return TruthFile(**read)


def _detection_entries(findings: Findings) -> tuple[list[Detection], Sequence[int]]:
    """Entries and their places in the file, from 0."""
    text = _read(findings.file)
    try:
        entries = msgspec.json.decode(text, type=list[Detection])
        return entries, range(len(entries))
    except (msgspec.ValidationError, msgspec.DecodeError):
        pass
    content = _loads(text, findings.file)
    if not isinstance(content, list):
        raise UserError(
            f"{findings.file}: expected COCO results, a list of {{image_id, category_id, keypoints, score}}; "
            "the truth comes second"
        )
    entries, numbers = _convert(Detection, content, "detection", findings)
    findings.refuse_if_none_left("detections", len(content), len(entries))
    return entries, numbers


def _convert(kind: type[Entry], values: list[Any], name: str, findings: Findings) -> tuple[list[Entry], list[int]]:
    """The entries that are of this kind, and their places; the others become problems."""
    entries, numbers = [], []
    for number, value in enumerate(values):
        try:
            entries.append(msgspec.convert(value, kind))
            numbers.append(number)
        except msgspec.ValidationError as error:
            about = value.get("id") if isinstance(value, dict) else None
            findings.add(f"{name} [{number}]" if about is None else f"{name} {about}", str(error))
    return entries, numbers


def _read(path: Path) -> bytes:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror}") from error
    if not text.strip():
        raise UserError(f"{path}: the file is empty")
    return text


def _loads(text: bytes, path: Path) -> Any:
    """Python's own reader: slower, but it takes NaN and Infinity."""
    try:
        return json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not JSON: {error}") from error


def _columns(rows: list[Numbers], width: int) -> np.ndarray:
    """Rows of `width` numbers -> [rows, width]; several times as fast as numpy.array of them."""
    flat = np.fromiter(chain.from_iterable(rows), np.float64, count=len(rows) * width)
    return flat.reshape(len(rows), width)


def _choose_category(content: TruthFile, file: Path, name: str | None) -> Category:
    """The category asked for, or the only one with keypoints."""
    if not content.categories and name is None:
        return Category(id=content.annotations[0].category_id if content.annotations else 1)
    if name is not None:
        named = {category.name: category for category in content.categories}
        if name not in named:
            raise UserError(f"{file}: no category {name!r}." + did_you_mean(name, named))
        return named[name]
    used = {entry.category_id for entry in content.annotations if entry.keypoints}
    choice = [category for category in content.categories if category.id in used or category.keypoints]
    if len(choice) > 1:
        choice = [category for category in choice if category.id in used]
    if len(choice) > 1:
        names = ", ".join(repr(category.name) for category in choice)
        raise UserError(f"{file}: several categories have keypoints ({names}): say which one by --category NAME")
    if not choice:
        raise UserError(f"{file}: no keypoints: expected `keypoints` in its annotations and category")
    return choice[0]


def _sound_annotations(
    entries: list[Annotation], images: dict[int, Image], count: int, findings: Findings
) -> list[Annotation]:
    """The annotations that can be evaluated. Repeats of an id in one image are dropped; in another image it is another
    instance, and is kept."""
    seen: dict[int, set[int]] = {}
    sound, shared = [], 0
    for entry in entries:
        what = _fault(entry, images, count)
        places = seen.setdefault(entry.id, set())
        if not what and entry.image_id in places:
            what = f"the id is used twice in image {entry.image_id}"
        if what:
            findings.add(f"annotation {entry.id}", what + "; skipped")
            continue
        shared += bool(places)
        places.add(entry.image_id)
        sound.append(entry)
    if shared:
        findings.note(f"{shared} annotations have the id of one in another image; kept, as nothing goes by ids here")
    if 0 in seen:
        findings.note(
            "annotation id 0: can be found here; pycocotools never counts it as found, so its AP may be lower"
        )
    return sound


def _fault(entry: Annotation, images: dict[int, Image], count: int) -> str:
    numbers = entry.keypoints
    if entry.image_id not in images:
        return f"the file has no image {entry.image_id}"
    if numbers is None or len(numbers) != 3 * count:
        return f"{len(numbers or ())} keypoint numbers, expected {3 * count} (x, y, visibility of {count} points)"
    # As above, by the sum; zero visibility excuses its coordinates.
    if not math.isfinite(sum(numbers)):
        points = np.array(numbers).reshape(-1, 3)
        if not np.isfinite(points[points[:, 2] != 0]).all():
            return "a labelled coordinate is NaN or infinite"
    if entry.bbox is None or len(entry.bbox) != 4 or not math.isfinite(sum(entry.bbox)):
        return f"bbox {list(entry.bbox or ())}, expected four finite numbers x, y, w, h"
    if entry.area is not None and not math.isfinite(entry.area):
        return "the area is NaN or infinite"
    return ""
