"""What the names of images say of where they come from: frames of one video, images of one person, one folder.

Images of one series are much alike, so that a split between them flatters every figure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fiducial.data.media import kind_by_name

# Words that cameras and tools put before a number, which say nothing of where an image is from.
GENERIC = frozenset(
    [
        "img",
        "image",
        "images",
        "dsc",
        "dscn",
        "dscf",
        "pxl",
        "photo",
        "photos",
        "pic",
        "picture",
        "p",
        "i",
        "n",
        "im",
        "file",
        "sample",
        "data",
        "scan",
        "train",
        "training",
        "val",
        "valid",
        "validation",
        "test",
        "testing",
        "annotated",
        "label",
        "labelled",
        "obj",
        "object",
        "item",
        "memory",
        "png",
        "jpg",
        "jpeg",
        "rgb",
        "color",
        "colour",
    ]
)
MOVING = frozenset(
    [
        "frame",
        "frames",
        "video",
        "videos",
        "vid",
        "clip",
        "clips",
        "cam",
        "camera",
        "movie",
        "mov",
        "film",
        "seq",
        "sequence",
        "track",
    ]
)
# DeepLabCut and Lightning Pose keep the frames of each video in a folder of its name in this one.
FRAMES_OF_DEEPLABCUT = "labeled-data"
FEWEST_SERIES = 10  # from which whole series fall to one split; of fewer, one would be too much of the set


class Numbered(NamedTuple):
    """What a name says: the series that an image is of, "" for none, and its number in it."""

    series: str
    number: int | None
    is_video: bool  # a word of the name, its folder or an ending in it speaks of one


def numbered(name: str) -> Numbered:
    """Takes a name apart: `mice/vid3_img0012.png` is number 12 of the series `mice/vid3_img`, which is a video."""
    folder, _, last = name.replace("\\", "/").rpartition("/")
    stem = re.sub(r"\.[A-Za-z0-9]{1,5}$", "", last)
    found = re.fullmatch(r"(.*?)[\s_.-]*(\d+)", stem)
    if found is None:
        return Numbered("", None, False)
    words = re.findall(r"[a-z]+", found[1].lower())
    is_video = (
        any(word in MOVING for word in words)
        or kind_by_name(Path(found[1])) == "video"
        or FRAMES_OF_DEEPLABCUT in folder.split("/")
    )
    says_nothing = not is_video and _is_generic(found[1])
    return Numbered("" if says_nothing else f"{folder}/{found[1]}", int(found[2]), is_video)


def _is_generic(text: str) -> bool:
    """Tells whether a name without its number says nothing of where an image is from."""
    return all(word in GENERIC for word in re.findall(r"[^\W\d_]+", text.lower())) and not re.search(r"\d", text)


def _folder_of(name: str) -> str:
    """Gives an image's folder without what says nothing in it: `images/train` is none."""
    folders = name.replace("\\", "/").split("/")[:-1]
    return "/".join(folder for folder in folders if not _is_generic(folder))


def series_of(names: Sequence[str], fewest: int = FEWEST_SERIES) -> list[str] | None:
    """Gives the series of each image by which a set can be split whole, by their names or else by their folders; None where
    they tell of none, or of fewer than `fewest`. An image of none is one by itself."""
    parts = [numbered(name) for name in names]
    by_name = [part.series or name for part, name in zip(parts, names, strict=True)]
    for groups in (by_name, [_folder_of(name) for name in names]):
        count = len(set(groups))
        if fewest <= count < len(groups):
            return groups
    return None


def blocks_of(names: Sequence[str], count: int) -> list[str] | None:
    """Cuts videos, which their names must speak of, into `count` runs of frames each in the order of their numbers; None
    where not all are frames of some."""
    parts = [numbered(name) for name in names]
    if not parts or not all(part.is_video and part.number is not None for part in parts):
        return None
    result = [""] * len(names)
    for series in dict.fromkeys(part.series for part in parts):
        rows = [row for row, part in enumerate(parts) if part.series == series]
        rows.sort(key=lambda row: parts[row].number or 0)
        for place, row in enumerate(rows):
            result[row] = f"{series}#{place * count // len(rows)}"
    return result
