"""What files say of their images besides their size: the video, the person, the session they are of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from fiducial import text_files
from fiducial.data import formats
from fiducial.errors import UserError

# Fields that say which images belong together.
GROUPS = (
    *("video", "video_id", "video_name", "person", "person_id", "subject", "subject_id", "identity", "session"),
    *("sequence", "seq_id", "source_image", "clip", "series", "group", "animal", "animal_id"),
)


class _File(msgspec.Struct):
    images: list[dict[str, Any]] = []


def image_fields(files: Sequence[Path]) -> list[dict[str, Any]]:
    """Gives the fields of the images of COCO files, and of formats that tell some; nothing for files of other kinds."""
    found: list[dict[str, Any]] = []
    for file in files:
        if file.suffix.lower() == ".json":
            try:
                found += msgspec.json.decode(text_files.as_utf8(text_files.read_bytes(file), file), type=_File).images
            except (msgspec.MsgspecError, UnicodeError, RecursionError, UserError):
                continue
        else:
            for module in formats.modules():
                found += getattr(module, "image_fields", lambda _: [])(file)
    return found


def grouping(
    fields: Sequence[dict[str, Any]], names: Sequence[str], wanted: Sequence[str] = GROUPS
) -> dict[str, list[str]]:
    """Gives for each of the `wanted` fields that the images have the value of each named image, "" for none. An image is known by the
    last part of its name."""
    last = [name.replace("\\", "/").rpartition("/")[2] for name in names]
    found = {}
    for field in wanted:
        values = {
            str(entry.get("file_name", "")).replace("\\", "/").rpartition("/")[2]: str(entry[field])
            for entry in fields
            if entry.get(field) not in (None, "")
        }
        column = [values.get(name, "") for name in last]
        if len(set(column) - {""}) > 0:
            found[field] = column
    return found
