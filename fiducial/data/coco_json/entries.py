"""The entries of COCO's JSON, as the parser finds them in a sound file, or made of values one by one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from fiducial.data.coco_json.ids import Id, id_of
from fiducial.data.skeletons import BODY_PARTS
from fiducial.errors import UserError, shown
from fiducial.types import Findings

T = TypeVar("T", bound=msgspec.Struct)
LARGEST_SIDE = 2**31 - 1
_TRUE, _FALSE = ("1", "true", "yes"), ("0", "false", "no", "")


class Image(msgspec.Struct, gc=False):
    id: Id = None
    file_name: str = ""
    width: float | None = None
    height: float | None = None
    crowd_index: float | None = msgspec.field(default=None, name="crowdIndex")
    license: msgspec.Raw = msgspec.Raw()  # an id of `licenses`

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
    track_id: msgspec.Raw = msgspec.Raw()  # who it is in a video; some tools call it by the other name
    instance_id: msgspec.Raw = msgspec.Raw()
    # COCO-WholeBody's, behind the body's 17.
    foot_kpts: msgspec.Raw = msgspec.Raw()
    face_kpts: msgspec.Raw = msgspec.Raw()
    lefthand_kpts: msgspec.Raw = msgspec.Raw()
    righthand_kpts: msgspec.Raw = msgspec.Raw()


class Category(msgspec.Struct):
    id: Id = None
    name: str = "object"
    keypoints: list[str] | None = None
    skeleton: list[list[int]] | None = None
    flip_indices: list[int] | None = None
    sigmas: list[float] | None = None
    groups: dict[str, list[int]] | None = None
    # Of several that are read as one: their ids. No file has such a field.
    members: tuple[Any, ...] = msgspec.field(default=(), name="(members)")

    def __str__(self) -> str:
        return f"{self.id!r} ({self.name!r})"


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


def image(value: dict[str, Any]) -> Image:
    name = value.get("file_name")
    sides = [number_of(value.get(side)) for side in ("width", "height")]
    return Image(
        id_of(value, "id"),
        name if isinstance(name, str) else "",
        *sides,
        crowd_index=number_of(value.get("crowdIndex")),
        license=raw_of(value.get("license")),
    )


def annotation(value: dict[str, Any]) -> Annotation:
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
        track_id=raw_of(value.get("track_id")),
        instance_id=raw_of(value.get("instance_id")),
        **{name: raw_of(value.get(name)) for name, _ in BODY_PARTS},
    )


def category(value: Any, file: Path) -> Category:
    """A category whose fields make no sense is an error, since what points mean hangs on it."""
    try:
        if isinstance(value, dict):
            value = {key: field for key, field in value.items() if field is not None} | {"id": id_of(value, "id")}
            value["name"] = str(value.get("name", "object"))
        return msgspec.convert(value, Category, strict=False)
    except ValueError as error:
        about = value.get("name") if isinstance(value, dict) else value
        raise UserError(f"{file}: category {shown(about)}: {error}") from error


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


def _is_crowd(value: Any) -> bool:
    text = str(0 if value is None else value).strip().lower()
    number = number_of(text)
    if text in _TRUE or text in _FALSE or number in (0, 1):
        return text in _TRUE or number == 1
    raise ValueError(f"iscrowd is {shown(value)}, expected 0 or 1")
