"""Which images belong together: by a field of theirs, by their names or folders, as frames of a video, else each by itself.

What is much alike must not be in two splits or folds, and tells less of a figure than as many images by themselves."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fiducial.data.image_fields import GROUPS, grouping, image_fields
from fiducial.data.images import FileImages
from fiducial.data.series import FEWEST_SERIES, blocks_of, series_of
from fiducial.errors import UserError
from fiducial.types import Images, Instances

BLOCKS = 10  # runs of frames that a video is cut into


class Told(NamedTuple):
    """Groups that names or fields tell of."""

    keys: list[str]  # of each image
    field: str | None  # that they are values of; None: series, by names or folders


@dataclass(frozen=True)
class Groups:
    """Numbers the groups of all images of a split."""

    of_image: np.ndarray  # [m] int64; images without instances are in none: -1
    count: int
    what: str  # they are, in words: "images", "runs of frames", "series of names, such as 'vid3'"

    def of(self, instances: Instances) -> np.ndarray:
        """Gives the group [n] of each instance on these images."""
        return self.of_image[instances.image_row]


def groups_of(
    instances: Instances, files: Sequence[Path] = (), group: str | None = None, fewest: int = FEWEST_SERIES
) -> Groups:
    """Finds which images of the instances belong together; files, group and `fewest` as in `told`."""
    rows = np.unique(instances.image_row)
    names = names_of(instances.images, rows)
    if (found := told(names, files, group, instances.source, fewest)) is not None:
        keys, what = found.keys, f"values of {found.field!r}"
        if found.field is None:
            [(first, _)] = Counter(keys).most_common(1)
            what = f"series of names, such as {first.rpartition('/')[2]!r}"
    elif (blocks := blocks_of(names, BLOCKS)) is not None:
        keys, what = blocks, "runs of frames"
    else:
        keys, what = list(range(len(rows))), "images"
    numbers = np.unique(keys, return_inverse=True)[1]
    of_image = np.full(len(instances.image_id), -1)
    of_image[rows] = numbers
    return Groups(of_image, len(np.unique(numbers)), what)


def names_of(images: Images, rows: Iterable[int]) -> list[str]:
    """Gives what images are called, in their folder where they are files."""
    return [images.names[row] if isinstance(images, FileImages) else images.name(int(row)) for row in rows]


def told(
    names: Sequence[str],
    files: Sequence[Path] = (),
    group: str | None = None,
    source: str = "",
    fewest: int = FEWEST_SERIES,
) -> Told | None:
    """Gives the group of each named image; None where nothing tells of `fewest` or more that hold several images.

    group: a field of the images in COCO's JSON `files`, or a regular expression on their names whose first group, or whole
    match, names the series [found by itself]. UserError where it is neither."""
    if group is not None:
        return Told(_given(names, files, group, source), group)
    for field, values in grouping(image_fields(files), names).items():
        whole = [value or name for value, name in zip(values, names, strict=True)]
        if fewest <= len(set(whole)) < len(whole):
            return Told(whole, field)
    found = series_of(names, fewest)
    return None if found is None else Told(found, None)


def _given(names: Sequence[str], files: Sequence[Path], group: str, source: str) -> list[str]:
    fields = grouping(image_fields(files), names, (group,))
    if group in fields:
        return [value or name for value, name in zip(fields[group], names, strict=True)]
    try:
        found = [re.search(group, name) for name in names]
    except re.error as error:
        raise UserError(source, f"--group {group!r} is neither a field of its images nor a pattern: {error}") from None
    if not any(found):
        known = ", ".join(grouping(image_fields(files), names, GROUPS)) or "none that are known"
        raise UserError(
            source,
            f"--group {group!r}: no image has such a field, nor a name such as {names[0]!r} that matches; fields: {known}",
        )
    return [
        name if match is None else (match[1] or "") if match.re.groups else match[0]
        for match, name in zip(found, names, strict=True)
    ]
