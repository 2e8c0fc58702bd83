"""COCO's JSON as all tools write it, read by one set of rules: for training, evaluation, results and boxes alike.

A sound file is decoded straight into typed structs: segmentations are skipped by the parser, and numbers stay text until
they are turned into one array, since a hundred thousand lists of numbers would take a gigabyte. Anything else (a NaN, text
where a number belongs) is read again entry by entry, so that what is wrong can be named. An entry that can't be used is
left out and listed; what had to be assumed is a note."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from fiducial import text_files
from fiducial.data.coco_json import entries
from fiducial.data.coco_json.entries import Annotation, Category, Image
from fiducial.data.coco_json.ids import Id
from fiducial.errors import UserError, one_line, shown
from fiducial.types import Findings


class Content(msgspec.Struct):
    """A file's entries, without those that can't be used."""

    images: list[Image]
    annotations: list[Annotation]
    categories: list[Category] | None = None
    licenses: msgspec.Raw = msgspec.Raw()  # told where they make sense

    def licences(self) -> tuple[str, ...]:
        """Names the licences of the images: of those that images refer to, else of all that are listed."""
        try:
            listed = msgspec.json.decode(self.licenses or b"[]")
            used = {msgspec.json.decode(ref) for ref in {bytes(image.license) for image in self.images} if ref}
        except (msgspec.MsgspecError, TypeError):  # an id that is a list
            return ()
        known = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
        chosen = [entry for entry in known if entry.get("id") in used] or known
        names = (entry.get("name") or entry.get("url") for entry in chosen)
        return tuple(
            dict.fromkeys(one_line(name.strip(), 200) for name in names if isinstance(name, str) and name.strip())
        )


def load(file: Path, findings: Findings) -> Content:
    """Reads all entries of a file that can be used.

    Images without an id, or with that of another, are left out. Annotation ids are those of the file where each is there
    once; else all are numbered from 1 by their place, which is noted, and entries that say the same twice are left out.
    Raises UserError where the file is no COCO JSON."""
    data = text_files.as_utf8(text_files.read_bytes(file), file)
    try:
        content = msgspec.json.decode(data, type=Content)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        content = _entry_by_entry(text_files.parse_json(data, file), file, findings)
    content.images = _with_own_ids(content.images, findings)
    _number(content, findings)
    return content


def _entry_by_entry(content: Any, file: Path, findings: Findings) -> Content:
    lists = ("images", "annotations")
    if not isinstance(content, dict) or not all(isinstance(content.get(name), list) for name in lists):
        raise UserError(f"{file}: expected COCO's annotations, an object with lists `images` and `annotations`")
    categories = content.get("categories") or []
    if not isinstance(categories, list):
        raise UserError(f"{file}: categories: expected a list, got {shown(categories)}")
    images, _ = entries.entries(content["images"], entries.image, "image", findings)
    annotations, _ = entries.entries(content["annotations"], entries.annotation, "annotation", findings)
    for name, usable in zip(lists, (images, annotations), strict=True):
        if content[name] and not usable:
            raise UserError(f"{file}: all {len(content[name])} {name} are broken; the first: {findings.wrong[0].what}")
    licenses = entries.raw_of(content.get("licenses"))
    return Content(images, annotations, [entries.category(value, file) for value in categories], licenses)


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
