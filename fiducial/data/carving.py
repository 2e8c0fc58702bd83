"""Splits that a set doesn't have, carved out of train: by series where names or fields tell of some, else image by image.

Which tenth an image falls to is a hash of its name, or its series', so that it is the same at any time, in any order and
for any number of images. Frames of one or few videos are cut by time instead: the ninth tenth of each is val, the last
test."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fiducial.data import groups
from fiducial.data.images import on_images
from fiducial.data.series import blocks_of
from fiducial.errors import UserError
from fiducial.types import Findings, Instances

FEWEST_NAMES = 10  # different last parts of names, below which the folders before them count, too
FEWEST_IMAGES = 3  # of which each split has one at least


def carved(
    instances: Instances,
    split: str,
    tenths: Mapping[int, str],
    findings: Findings,
    files: Sequence[Path] = (),
    group: str | None = None,
) -> Instances:
    """Keeps the instances on images that fall to `split`, one of train and `tenths`' values; a note says so. UserError where
    there are too few for any to fall to it.

    group: as in `groups.told`."""
    images = instances.images
    names = groups.names_of(images, range(len(images)))
    if not names:
        return instances
    keys, how = _told(names, files, group, findings.source)
    if (blocks := blocks_of(names, groups.BLOCKS)) is not None and keys is None:
        keys, how = blocks, "in runs of frames, the last ones of each video by their numbers"
        placed = {key: tenths.get(int(key.rpartition("#")[2]), "train") for key in keys}
    else:
        keys = keys or _lengthened(names)
        placed = {key: tenths.get(tenth(key), "train") for key in dict.fromkeys(keys)}
    _fill(placed, list(tenths.values()))
    share = np.array([placed[key] == split for key in keys])
    others = " and ".join(tenths.values())
    if not share.any():
        missing = next(iter(tenths.values())) if split == "train" else split
        why = (
            f"one image can't be split in {', '.join(['train', *tenths.values()][:-1])} and {[*tenths.values()][-1]}"
            if len(share) == 1
            else f"none of its {len(share)} images, chosen {how}, fell to it"
        )
        raise UserError(
            instances.source,
            f"split {split!r} is empty: {why}; expected more images, or {missing} of its own, such as "
            f"annotations/{missing}.json",
        )
    findings.note(f"no {others} of its own: {split!r} is {share.sum()} of {len(share)} images, chosen {how}")
    return on_images(instances, np.flatnonzero(share))


def _told(names: Sequence[str], files: Sequence[Path], group: str | None, source: str) -> tuple[list[str] | None, str]:
    """The series of each image, None for none, and how it was told, in words."""
    found = groups.told(names, files, group, source)
    if found is None:
        return None, "by a hash of their names"
    if group is not None:
        return found.keys, f"by a hash of their {group!r} (--group)"
    if found.field is not None:
        return (
            found.keys,
            f"by a hash of their {found.field!r}, so that no {found.field} is in two splits (--group NAME for another)",
        )
    [(first, _)] = Counter(found.keys).most_common(1)
    return found.keys, f"by a hash of their series, such as {first.lstrip('/')!r}, so that none is in two splits"


def _lengthened(names: Sequence[str]) -> list[str]:
    """Names by their last parts; with the folders before them where nearly all would be one."""
    parts = [name.replace("\\", "/").split("/") for name in names]
    if len({part[-1] for part in parts}) >= min(FEWEST_NAMES, len(names)):
        return list(names)
    return ["|".join(part[-3:]) for part in parts]


def _fill(placed: dict[str, str], others: Sequence[str]) -> None:
    """Gives each split one series at least, where there are enough: of those of train the next by their hashes."""
    if len(placed) < FEWEST_IMAGES:
        return
    for split in ("train", *others):
        counts = Counter(placed.values())
        rich = [key for key, name in placed.items() if counts[name] > 1]
        if split not in counts and rich:
            placed[min(rich, key=_hash)] = split


def tenth(name: str) -> int:
    """0 to 9 from the last part of a path, the same on every machine."""
    return _hash(name) % 10


def _hash(name: str) -> int:
    last = name.replace("\\", "/").rpartition("/")[2]
    return int.from_bytes(hashlib.blake2b(last.encode(), digest_size=4).digest(), "little")
