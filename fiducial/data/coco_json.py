"""COCO's JSON as all tools write it, read by one set of rules: for training, evaluation, results and boxes alike.

A sound file is decoded straight into typed structs: segmentations are skipped by the parser, and numbers stay text until
they are turned into one array, since a hundred thousand lists of numbers would take a gigabyte. Anything else (a NaN, text
where a number belongs) is read again entry by entry, so that what is wrong can be named. An entry that can't be used is
left out and listed; what had to be assumed is a note."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from fiducial.data import skeletons
from fiducial.data.images import FileImages
from fiducial.errors import UserError, did_you_mean
from fiducial.types import Findings, Instances, Skeleton

Id = int | str | float | None  # as it stands in the file
T = TypeVar("T", bound=msgspec.Struct)
CHUNK = 2000  # entries whose numbers are parsed at a time
CROWDPOSE_AREA = 0.53  # CrowdPose has no areas; its own evaluation takes this share of the box
_ABSENT = (b"", b"null", b"[]")
LARGEST_SIDE = 2**31 - 1
_TRUE, _FALSE = ("1", "true", "yes"), ("0", "false", "no", "")


class Image(msgspec.Struct, gc=False):
    id: Id = None
    file_name: str = ""
    width: float | None = None
    height: float | None = None
    crowd_index: float | None = msgspec.field(default=None, name="crowdIndex")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as declared; (0, 0) where they are not, or make no sense."""
        sides = [
            0 if side is None or not 1 <= side <= LARGEST_SIDE else round(side) for side in (self.width, self.height)
        ]
        return (sides[0], sides[1]) if all(sides) else (0, 0)


class Annotation(msgspec.Struct, gc=False):
    image_id: Id = None
    id: Id = None
    category_id: Id = None
    keypoints: msgspec.Raw = msgspec.Raw()
    bbox: msgspec.Raw = msgspec.Raw()
    area: msgspec.Raw = msgspec.Raw()
    num_keypoints: int | None = None
    iscrowd: int | bool | None = None


class Category(msgspec.Struct):
    id: Id = None
    name: str = "object"
    keypoints: list[str] | None = None
    skeleton: list[list[int]] | None = None
    flip_indices: list[int] | None = None
    sigmas: list[float] | None = None
    groups: dict[str, list[int]] | None = None

    def __str__(self) -> str:
        return f"{self.id!r} ({self.name!r})"


class Content(msgspec.Struct):
    """A file's entries, without those that can't be used."""

    images: list[Image]
    annotations: list[Annotation]
    categories: list[Category] | None = None


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The instances of one category as they stand in a file, before `checking.check`, and what evaluation needs besides."""

    instances: Instances
    category: Category
    categories: Sequence[Category]  # all of the file
    crowd_index: np.ndarray | None  # [m] CrowdPose's measure of crowding, 0..1; None where an image has none


def read(file: Path, category: str | None, findings: Findings, dtype: type = np.float32) -> Labels:
    """Reads the instances of one category: the only one with points, or the one named (or numbered) `category`.

    `dtype` is that of points, boxes and areas. Raises UserError where nothing in the file can be used."""
    content = load(file, findings)
    chosen = choose_category(content, category, file, findings)
    if _count_points(of_category(content, chosen), chosen) == 0:
        raise UserError(
            f"{file}: category {chosen.name!r} has no points; expected their names in its field 'keypoints'"
        )
    instances = columns(content, chosen, file, findings, dtype)
    crowding = [-1.0 if image.crowd_index is None else image.crowd_index for image in content.images]
    crowd_index = np.array(crowding) if crowding and min(crowding) >= 0 else None
    return Labels(
        instances=_with_areas(instances, crowd_index is not None, findings),
        category=chosen,
        categories=content.categories or (),
        crowd_index=crowd_index,
    )


# --------------------------------------------------------------------------------------------------- from bytes to entries


def load(file: Path, findings: Findings) -> Content:
    """Reads all entries of a file that can be used.

    Images without an id, or with that of another, are left out. Annotation ids are those of the file where each is there
    once; else all are numbered from 1 by their place, which is noted, and entries that say the same twice are left out.
    Raises UserError where the file is no COCO JSON."""
    data = read_bytes(file)
    try:
        content = msgspec.json.decode(data, type=Content)
    except (msgspec.MsgspecError, RecursionError):
        content = _entry_by_entry(decode(data, file), file, findings)
    content.images = _with_own_ids(content.images, findings)
    _number(content, findings)
    return content


def read_bytes(file: Path) -> bytes:
    """Reads a file, without the mark that Windows puts first. Raises UserError where it can't be read or is empty."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: can't be read: {error.strerror}") from error
    if not data.strip():
        raise UserError(f"{file}: the file is empty")
    return data.removeprefix(b"\xef\xbb\xbf")


def decode(data: bytes, file: Path) -> Any:
    """Decodes JSON by Python's own reader: slower than msgspec, but it takes NaN and Infinity, which JSON hasn't."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: not JSON: {error}") from error


def entries(
    values: Sequence[Any], convert: Callable[[dict[str, Any]], T], kind: str, findings: Findings
) -> tuple[list[T], list[int]]:
    """Converts values one by one and gives their places too; those that `convert` refuses (ValueError) are left out."""
    converted, places = [], []
    for place, value in enumerate(values):
        try:
            if not isinstance(value, dict):
                raise ValueError(f"is {shown(value)}, expected an object")
            converted.append(convert(value))
            places.append(place)
        except ValueError as error:
            number = value.get("id") if isinstance(value, dict) else None
            name = f"[{place}]" if number is None else shown(number)
            findings.add(f"{kind} {name}", f"{error}; left out")
    return converted, places


def _entry_by_entry(content: Any, file: Path, findings: Findings) -> Content:
    lists = ("images", "annotations")
    if not isinstance(content, dict) or not all(isinstance(content.get(name), list) for name in lists):
        raise UserError(f"{file}: expected COCO's annotations, an object with lists `images` and `annotations`")
    categories = content.get("categories") or []
    if not isinstance(categories, list):
        raise UserError(f"{file}: categories: expected a list, got {shown(categories)}")
    images, _ = entries(content["images"], _image, "image", findings)
    annotations, _ = entries(content["annotations"], _annotation, "annotation", findings)
    for name, usable in zip(lists, (images, annotations), strict=True):
        if content[name] and not usable:
            raise UserError(f"{file}: all {len(content[name])} {name} are broken; the first: {findings.wrong[0].what}")
    return Content(images, annotations, [_category(value, file) for value in categories])


def _image(value: dict[str, Any]) -> Image:
    name = value.get("file_name")
    sides = [number_of(value.get(side)) for side in ("width", "height")]
    return Image(
        id_of(value, "id"),
        name if isinstance(name, str) else "",
        *sides,
        crowd_index=number_of(value.get("crowdIndex")),
    )


def _annotation(value: dict[str, Any]) -> Annotation:
    counted = number_of(value.get("num_keypoints"))
    return Annotation(
        image_id=id_of(value, "image_id"),
        id=id_of(value, "id"),
        category_id=id_of(value, "category_id"),
        keypoints=raw_of(value.get("keypoints")),
        bbox=raw_of(value.get("bbox")),
        area=raw_of(value.get("area")),
        num_keypoints=None if counted is None else round(counted),
        iscrowd=_is_crowd(value.get("iscrowd")),
    )


def _category(value: Any, file: Path) -> Category:
    """A category whose fields make no sense is an error, since what points mean hangs on it."""
    try:
        if isinstance(value, dict):
            value = {key: field for key, field in value.items() if field is not None} | {"id": id_of(value, "id")}
            value["name"] = str(value.get("name", "object"))
        return msgspec.convert(value, Category, strict=False)
    except ValueError as error:
        about = value.get("name") if isinstance(value, dict) else value
        raise UserError(f"{file}: category {shown(about)}: {error}") from error


def id_of(value: dict[str, Any], field: str) -> Id:
    """Gives an id as it stands in an entry. Raises ValueError for what can be none, such as a list or NaN."""
    number = value.get(field)
    if number is None or (isinstance(number, (int, str)) and not isinstance(number, bool)):
        return number
    if isinstance(number, float) and math.isfinite(number):
        return number
    raise ValueError(f"{field} is {shown(number)}, expected a number or text")


def number_of(value: Any) -> float | None:
    """Gives a finite number, also from text such as "640"; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def raw_of(value: Any) -> msgspec.Raw:
    """Encodes a field as the fast path finds it, NaN and infinity as null. Raises ValueError for numbers without bound."""
    try:
        return msgspec.Raw() if value is None else msgspec.Raw(msgspec.json.encode(value))
    except (msgspec.EncodeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{shown(value)} can't be read: {error}") from error


def shown(value: Any) -> str:
    """Shows a value of a file in a message, shortened."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:60]}.."


def _is_crowd(value: Any) -> bool:
    text = str(0 if value is None else value).strip().lower()
    number = number_of(text)
    if text in _TRUE or text in _FALSE or number in (0, 1):
        return text in _TRUE or number == 1
    raise ValueError(f"iscrowd is {shown(value)}, expected 0 or 1")


def _with_own_ids(images: list[Image], findings: Findings) -> list[Image]:
    """The images whose id says which one is meant. Entries that say the same twice are one."""
    if None not in (ids := [image.id for image in images]) and len(set(ids)) == len(ids):
        return images
    names: dict[Id, list[str]] = {}
    for image in images:
        names.setdefault(image.id, []).append(image.file_name)
    usable = []
    for place, image in enumerate(images):
        same = names.pop(image.id, [])
        if image.id is None:
            findings.add(f"image [{place}]", f"has no id ({image.file_name!r}); left out")
        elif len(set(same)) > 1:
            what = f"image id {image.id} is used by more than one image ({', '.join(dict.fromkeys(same))}); left out"
            findings.add(f"image {image.id}", what)
        elif same:
            usable.append(image)
    return usable


def _number(content: Content, findings: Findings) -> None:
    """Makes annotation ids unique, since nothing else may hang on them."""
    annotations = content.annotations
    ids = [item.id for item in annotations]
    if None not in ids and len(set(ids)) == len(ids):
        return
    seen: set[tuple[Id, Id, bytes, bytes]] = set()
    kept = []
    for item in annotations:
        key = (item.id, item.image_id, bytes(item.keypoints), bytes(item.bbox))
        if item.id is not None and key in seen:
            findings.add(
                f"annotation {item.id}", f"the id is used twice in image {item.image_id}, for the same; left out"
            )
        else:
            kept.append(item)
        seen.add(key)
    content.annotations = kept
    ids = [item.id for item in kept]
    missing = ids.count(None)
    if missing or len(set(ids)) < len(ids):
        fault = f"{missing} have no id" if missing else f"not all have an id of their own ({len(set(ids))} different)"
        findings.note(f"of {len(kept)} annotations {fault}: they are numbered from 1 by their place in the file")
        for number, item in enumerate(kept, 1):
            item.id = number


class Rows:
    """Finds rows by their ids. `7`, `7.0`, `"7"` and `"000007"` are one id where the file's own spelling isn't there."""

    def __init__(self, ids: Iterable[Id]) -> None:
        self._rows = {number: row for row, number in enumerate(ids)}
        self._plain: dict[str, int] | None = None

    def of(self, number: Id) -> int:
        """Gives the row of an id; -1 where there is none, or several fit."""
        row = self._rows.get(number)
        if row is not None:
            return row
        if number is None:
            return -1
        if self._plain is None:
            self._plain = {}
            for own, place in self._rows.items():
                text = plain(own)
                self._plain[text] = -1 if text in self._plain else place
        return self._plain.get(plain(number), -1)


def plain(number: Id) -> str:
    """Spells an id without what tools add: 7 for "007", 7.0 and " 7 "."""
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    text = str(number).strip()
    return (text.lstrip("0") or "0") if text.isdecimal() else text


# ------------------------------------------------------------------------------------------------------------- categories


def choose_category(content: Content, wanted: str | None, file: Path, findings: Findings) -> Category:
    """Chooses the category whose points are read: the one named or numbered `wanted`, else the only one with points.

    Of several with one name that is the one that has points. Annotations of categories that the file doesn't define are
    listed, and an error where none is left."""
    categories = content.categories or []
    if not categories:
        if wanted is not None:
            raise UserError(f"{file}: no category {wanted!r}: it has no list `categories`; leave --category out")
        numbers = sorted({plain(item.category_id) for item in content.annotations if item.category_id is not None})
        if len(numbers) > 1:
            findings.note(f"no list `categories`: all its annotations are taken as one (ids {', '.join(numbers[:9])})")
        return Category()
    list_unknown(content, categories, file, findings)
    pointed = _pointed(content, categories)
    if wanted is not None:
        named = [category for category in categories if category.name == wanted]
        named = named or [category for category in categories if plain(category.id) == plain(wanted)]
        if not named:
            known = did_you_mean(wanted, (category.name for category in categories))
            raise UserError(f"{file}: no category {wanted!r}.{known}")
        return _only(named, pointed, file)
    if len(categories) == 1:
        return categories[0]
    return _only(categories, pointed, file)


def _only(candidates: Sequence[Category], pointed: set[Id], file: Path) -> Category:
    """The one that has annotations with points, or at least names for points."""
    if len(candidates) == 1:
        return candidates[0]
    choice = [category for category in candidates if category.id in pointed]
    choice = choice or [category for category in candidates if category.keypoints]
    if len(choice) > 1:
        same = len({category.name for category in choice}) == 1
        names = ", ".join(str(category) if same else repr(category.name) for category in choice)
        raise UserError(
            f"{file}: several categories have keypoints: {names}; choose one with --category {'ID' if same else 'NAME'}"
        )
    if not choice:
        raise UserError(
            f"{file}: no annotation has keypoints; expected COCO's keypoints annotations, not its boxes alone"
        )
    return choice[0]


def _pointed(content: Content, categories: Sequence[Category]) -> set[Id]:
    """Ids of the categories that annotations with points are of."""
    rows = Rows(category.id for category in categories)
    used = {item.category_id for item in content.annotations if length(item.keypoints)}
    return {categories[row].id for number in used if (row := rows.of(number)) >= 0}


def list_unknown(content: Content, categories: Sequence[Category], file: Path, findings: Findings) -> None:
    """Lists the annotations of categories that the file doesn't define. Raises UserError where all are."""
    if [category.id for category in categories] == [None]:
        return
    rows = Rows(category.id for category in categories)
    counts = Counter(item.category_id for item in content.annotations)
    unknown = {number: count for number, count in counts.items() if number is not None and rows.of(number) < 0}
    if not unknown:
        return
    known = ", ".join(str(category) for category in categories[:9])
    lost = sum(unknown.values())
    numbers = ", ".join(f"category_id {number!r}" for number in list(unknown)[:9])
    what = f"{lost} annotation{'s have' if lost > 1 else ' has'} {numbers}; the file's categories are {known}"
    if lost == len(content.annotations):
        raise UserError(f"{file}: all its {what}; correct the ids on one side")
    findings.add("categories", f"{what}; left out")


def of_category(content: Content, category: Category) -> list[Annotation]:
    """Gives the annotations of one category, and those that name none."""
    if not content.categories or [other.id for other in content.categories] == [None]:
        return content.annotations
    rows = Rows(other.id for other in content.categories)
    number = rows.of(category.id)
    ids = {item.category_id for item in content.annotations}
    own = {other for other in ids if other is None or rows.of(other) == number}
    return content.annotations if own == ids else [item for item in content.annotations if item.category_id in own]


# ---------------------------------------------------------------------------------------------------------------- columns


def columns(
    content: Content, category: Category, file: Path, findings: Findings, dtype: type = np.float32
) -> Instances:
    """Puts the annotations of one category into columns, as they stand in the file: NaN where there is no number, 0
    sizes where none is declared, pictures named but not looked for. Annotations that don't fit are left out."""
    annotations = of_category(content, category)
    rows = Rows(image.id for image in content.images)
    names = [image.file_name for image in content.images]
    size = np.array([image.size for image in content.images], dtype=np.int32).reshape(-1, 2)
    image_row = np.array([rows.of(item.image_id) for item in annotations], dtype=np.int64)
    for row in np.flatnonzero(image_row < 0).tolist():
        what = f"image id {annotations[row].image_id} is not among the {len(names)} images; left out"
        findings.add(f"annotation {annotations[row].id}", what)
    kept = np.flatnonzero(image_row >= 0).tolist()
    annotations, image_row = [annotations[row] for row in kept], image_row[kept]

    count = _count_points(annotations, category) or 1
    table = Numbers(len(annotations), lambda row: f"annotation {annotations[row].id}", "v", findings, dtype)
    keypoints = table.keypoints([item.keypoints for item in annotations], count)
    box_xywh = table.read([item.bbox for item in annotations], 4, "bbox")
    area = table.read([item.area for item in annotations], 1, "area")[:, 0]
    crowd = np.array([bool(item.iscrowd) for item in annotations], dtype=bool)
    counted = np.array([item.num_keypoints == 0 for item in annotations], dtype=bool)
    emptied = counted & ~crowd & (keypoints[..., 2] > 0).any(1)
    if emptied.any():
        findings.note(
            f"{emptied.sum()} annotations have labelled points and num_keypoints 0: AP leaves them aside, as pycocotools does"
        )
    instances = Instances(
        skeleton=skeleton_of(category, count, file, findings),
        images=FileImages(file.parent, names, size),
        image_id=id_column([image.id for image in content.images]),
        image_size=size,
        image_row=image_row,
        annotation_id=id_column([item.id for item in annotations]),
        xy=keypoints[..., :2],
        visibility=keypoints[..., 2],
        box_xywh=box_xywh,
        area=area,
        crowd=crowd,
        source=str(file),
        ignored=crowd | counted,
    )
    return instances if not table.bad.any() else instances.select(~table.bad)


def id_column(ids: Sequence[Id]) -> np.ndarray:
    """Makes a column of ids: int64 where all are whole numbers that fit, else the objects themselves."""
    if {type(number) for number in ids} <= {int}:
        try:
            return np.array(ids, dtype=np.int64)
        except OverflowError:
            pass
    column = np.empty(len(ids), dtype=object)
    column[:] = ids
    return column


def length(raw: msgspec.Raw) -> int:
    """Counts the numbers of a JSON array by its commas, nested or not; 0 where it is missing, null or empty."""
    text = bytes(raw)
    commas = text.count(b",")
    return commas + 1 if commas or (text not in _ABSENT and text.strip(b"[] \n\r\t")) else 0


def _count_points(annotations: Sequence[Annotation], category: Category) -> int:
    """K: as many as the category names, else what most annotations have; 0 where none has any."""
    if category.keypoints:
        return len(category.keypoints)
    lengths = Counter(length(item.keypoints) for item in annotations if length(item.keypoints))
    if not lengths:
        return 0
    [(usual, _)] = lengths.most_common(1)
    first = next(bytes(item.keypoints) for item in annotations if length(item.keypoints) == usual)
    point, nested, _ = first.strip(b" \n\r\t").removeprefix(b"[").partition(b"]")
    width = point.count(b",") + 1 if nested and b"[" in point else 3 if usual % 3 == 0 else 2
    return usual // width


class Numbers:
    """Turns fields of entries into arrays. `bad` marks entries that can't be read; each is listed once.

    `where` names the entries in messages, `third` is what a point has besides x and y."""

    def __init__(self, count: int, where: Callable[[int], str], third: str, findings: Findings, dtype: type) -> None:
        self.where, self.third, self.findings, self.dtype = where, third, findings, dtype
        self.bad = np.zeros(count, dtype=bool)

    def keypoints(self, raws: Sequence[msgspec.Raw], count: int) -> np.ndarray:
        """Reads [n, k, 3]: x, y, v. Points without v are labelled where they are not at (0, 0)."""
        lengths = np.array([length(raw) for raw in raws], dtype=np.int64)
        if (lengths == 3 * count).all():
            result = self.read(raws, 3 * count, "keypoints").reshape(-1, count, 3)
        else:
            result = self._of_any_length(raws, lengths, count)
        if np.isnan(result[..., 2]).any():
            result[np.isnan(result).all(-1), 2] = 0  # null, null, null: a point that nobody set
        return result

    def _of_any_length(self, raws: Sequence[msgspec.Raw], lengths: np.ndarray, count: int) -> np.ndarray:
        result = np.zeros((len(raws), count, 3), self.dtype)
        whole = np.flatnonzero(lengths == 3 * count)
        result[whole] = self.read(raws, 3 * count, "keypoints", whole).reshape(-1, count, 3)
        pairs = np.flatnonzero((lengths == 2 * count) & (lengths != 3 * count))
        if len(pairs):
            result[pairs] = _with_visibility(self.read(raws, 2 * count, "keypoints", pairs).reshape(-1, count, 2))
            self.findings.note(
                f"{len(pairs)} entries have x, y of each point without {self.third}: points at (0, 0) are taken as missing"
            )
        for row in np.flatnonzero((lengths > 0) & (lengths != 3 * count) & (lengths != 2 * count)).tolist():
            points = _point_by_point(bytes(raws[row]), count)
            if points is None:
                self._leave_out(
                    row, f"{lengths[row]} numbers in its keypoints, expected {3 * count} "
                    f"(x, y, {self.third} for each of {count} points)"
                )  # fmt: skip
            else:
                result[row] = points
        return result

    def read(self, raws: Sequence[msgspec.Raw], width: int, name: str, rows: np.ndarray | None = None) -> np.ndarray:
        """Reads JSON arrays of `width` numbers as [rows, width]; absent ones and nulls are NaN."""
        rows = np.arange(len(raws)) if rows is None else rows
        result = np.full((len(rows), width), np.nan, self.dtype)
        absent = b",".join([b"null"] * width)
        for start in range(0, len(rows), CHUNK):
            places = rows[start : start + CHUNK].tolist()
            texts = [bytes(raws[row]) for row in places]
            texts = [absent if text in _ABSENT else text for text in texts]
            fit = {text.count(b",") for text in texts} == {width - 1}
            values = parse_numbers(b",".join(texts)) if fit else None
            if values is not None and len(values) == len(texts) * width:
                result[start : start + len(texts)] = values.reshape(len(texts), width)
                continue
            for place, (row, text) in enumerate(zip(places, texts, strict=True), start):
                alone = _parse_mended(text, name)
                if alone is None or len(alone) != width:
                    what = shown(bytes(raws[row]).decode(errors="replace"))
                    self._leave_out(row, f"{name} is {what}; expected {width} number{'s' if width > 1 else ''}")
                else:
                    result[place] = alone
        return result

    def _leave_out(self, row: int, what: str) -> None:
        if not self.bad[row]:
            self.findings.add(self.where(row), f"{what}; left out")
        self.bad[row] = True


def parse_numbers(text: bytes) -> np.ndarray | None:
    """Parses all numbers of a text of JSON arrays, nested or not, null as NaN; None if it holds anything else."""
    flat = b"[" + text.translate(None, b'[] \n\r\t"') + b"]"
    try:
        values = msgspec.json.decode(flat, type=list[float | None])
    except msgspec.MsgspecError:
        return None
    if b"null" in flat:
        values = [math.nan if value is None else value for value in values]
    return np.fromiter(values, np.float64, len(values))


def _parse_mended(text: bytes, name: str) -> np.ndarray | None:
    """The numbers of one array; of keypoints also where v is true (2) or false (0)."""
    values = parse_numbers(text)
    if values is not None or name != "keypoints":
        return values
    words = text.translate(None, b'[] \n\r\t"').split(b",")
    spelled = {b"true": b"2", b"false": b"0"}
    words[2::3] = [spelled.get(word.lower(), word) for word in words[2::3]]
    return parse_numbers(b",".join(words))


def _with_visibility(xy: np.ndarray) -> np.ndarray:
    """[.., 2] -> [.., 3]"""
    there = np.isfinite(xy).all(-1) & (xy != 0).any(-1)
    return np.concatenate([xy, np.where(there, 2.0, 0.0)[..., None]], -1)


def _point_by_point(text: bytes, count: int) -> np.ndarray | None:
    """[k, 3] from a list of points that are [x, y, v], [x, y] or null; None for anything else."""
    try:
        points = msgspec.json.decode(text, type=list[list[float | None] | None])
    except msgspec.MsgspecError:
        return None
    if len(points) != count or not {len(point) for point in points if point} <= {2, 3}:
        return None
    result = np.zeros((count, 3))
    for place, point in enumerate(points):
        if point:
            values = np.array(point, dtype=np.float64)
            result[place] = values if len(point) == 3 else _with_visibility(values)
    return result


def _with_areas(instances: Instances, crowdpose: bool, findings: Findings) -> Instances:
    """Says what `checking.check` will put in place of missing boxes and areas; CrowdPose's areas are filled in here."""
    pointed = (instances.visibility > 0).any(1)
    boxless = np.isnan(instances.box_xywh).all(1) & pointed
    if boxless.any():
        findings.note(f"{boxless.sum()} annotations have no bbox: made of their points, a tenth wider on each side")
    missing = ~(np.isfinite(instances.area) & (instances.area > 0)) & (pointed | ~np.isnan(instances.box_xywh).all(1))
    if not missing.any():
        return instances
    share = f"{CROWDPOSE_AREA} w h of the box, as CrowdPose's evaluation has it," if crowdpose else "w h of the box"
    findings.note(f"{missing.sum()} of {len(instances)} annotations have no area above 0: {share} is used there")
    if crowdpose:
        instances.area[missing] = CROWDPOSE_AREA * instances.box_xywh[missing, 2] * instances.box_xywh[missing, 3]
    return instances


def skeleton_of(category: Category, count: int, file: Path, findings: Findings) -> Skeleton:
    """Makes the skeleton that a category describes; what it leaves out comes from its points' names or number."""
    names = list(category.keypoints or ())
    if not names:
        person = skeletons.COCO17 if (count, category.name) == (17, "person") else None
        known = skeletons.match_count(count) or person
        names = list(known.points) if known else list(skeletons.numbered(count))
        guess = f"taken for those of {known.name}, by their number" if known else "named by their place"
        findings.note(f"its {count} points have no names: {guess}")
    where = f"{file}: category {category.name!r}"
    edges = [tuple(edge) for edge in category.skeleton or ()]
    if any(len(edge) != 2 for edge in edges):
        raise UserError(f"{where}: skeleton: expected pairs of point numbers")
    base = min([1, *(end for edge in edges for end in edge)])
    if base == 0:
        findings.note("the skeleton's point numbers begin at 0, COCO's at 1; they were read as they are")
    drawn = [(a - base, b - base) for a, b in edges]
    for (a, b), edge in zip(drawn, edges, strict=True):
        if not (0 <= a < count and 0 <= b < count):
            findings.add(f"category {category.name!r}", f"edge {list(edge)} of a skeleton of {count} points; left out")
    skeleton, notes = skeletons.complete(
        category.name,
        names,
        where=where,
        edges=tuple((a, b) for a, b in drawn if 0 <= a < count and 0 <= b < count),
        flip_indices=category.flip_indices or None,
        sigmas=category.sigmas,
        groups={name: tuple(group) for name, group in (category.groups or {}).items()},
    )
    findings.note(*notes)
    return skeleton
