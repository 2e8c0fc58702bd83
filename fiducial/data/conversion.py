"""Labels of one format written in another: read as everything here reads them, written by the file of the other format,
with what that can't hold counted."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np

from fiducial import files, folders
from fiducial.data import annotations, checking, formats, skeletons
from fiducial.data.formats import Holds
from fiducial.data.images import ENDINGS, on_images
from fiducial.data.placing import Placing
from fiducial.data.source import Source
from fiducial.errors import UserError, did_you_mean
from fiducial.types import Instances, Problem

SAME_PX = 0.02  # of a box that was made of points


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What was written."""

    path: Path
    format: str
    splits: Mapping[str, Mapping[str, int]]  # images, instances and labelled points of each
    lost: list[str]  # what the target can't hold, in words with counts
    problems: list[Problem]  # of the source: what was left out, and what was assumed


def writers() -> dict[str, ModuleType]:
    """Lists the formats that can be written, by the names that `--to` takes."""
    modules = {module.__name__.rpartition(".")[2]: module for module in formats.modules()}
    return {getattr(module, "NAME", name): module for name, module in modules.items() if hasattr(module, "HOLDS")}


def convert(
    data: Source | Path | str,
    out: Path,
    to: str | None = None,
    *,
    split: str | None = None,
    copies: bool = False,
    strict: bool = False,
) -> Converted:
    """Reads labels of any format and writes them in another, all splits or one, with all images or none of it written.

    `to` names the format; None: the one of which files end as `out` does. `out` is such a file, for one split, or a folder
    that is empty or not there. Images stay where they are and are referred to, where the format can and `copies` does not
    ask for copies. Raises UserError where nothing can be read, or there is something at `out`."""
    source, out = Source.of(data), Path(out)
    name, module = _target(to, out)
    read, problems = _read(source, split, strict)
    lost = lines_of_loss(read, module.HOLDS)
    ending = getattr(module, "ENDING", None)
    if ending is not None and out.suffix.lower() == ending:
        if len(read) > 1:
            raise UserError(
                out, f"one file, and there are splits {', '.join(read)}; choose one with --split, or name a folder"
            )
        [instances] = read.values()
        with folders.alone_at(out), files.replacing(out) as partial:
            lost += module.write_file(instances, partial, Placing(out.parent, copies))
    else:
        _write_folder(read, out, module, copies, lost)
    counts = {
        own: {
            "images": len(instances.images),
            "instances": len(instances),
            "points": int(instances.labelled.sum()),
        }
        for own, instances in read.items()
    }
    return Converted(path=out, format=name, splits=counts, lost=lost, problems=problems)


def lines_of_loss(read: Mapping[str, Instances], holds: Holds) -> list[str]:
    """Says what of some splits a format can't hold, a line for each kind, with counts."""
    lost: Counter[str] = Counter()
    for instances in read.values():
        visibility = instances.visibility
        pointless = ~instances.labelled.any(1)
        counts = np.bincount(instances.image_row[~pointless], minlength=len(instances.images))
        lost["points labelled as hidden (v 1) are written as any other"] += (visibility == 1).sum() * (not holds.hidden)
        lost["boxes: whoever reads it makes them of the points"] += _given_boxes(instances) * (not holds.boxes)
        lost["instances beyond the first of their image are left out"] += np.maximum(counts - 1, 0).sum() * (
            not holds.several
        )
        lost["crowds and instances without a labelled point are left out"] += pointless.sum() * (not holds.pointless)
        lost["images without an instance are left out"] += (counts == 0).sum() * (not holds.unlabelled)
        area = instances.box_xywh[:, 2] * instances.box_xywh[:, 3]
        lost["areas that are not w h of the box"] += (~np.isclose(instances.area, area, rtol=1e-3)).sum() * (
            not holds.areas
        )
    lines = [f"{count} {what}" for what, count in lost.items() if count]
    first = next(iter(read.values()))
    return [*lines, *_of_the_whole(read, first, holds)]


def _of_the_whole(read: Mapping[str, Instances], first: Instances, holds: Holds) -> list[str]:
    """What is said once of a set: its skeleton, ids, splits and licences."""
    skeleton = first.skeleton
    bundled = skeletons.match(skeleton.points)
    without = skeletons.complete("points", skeleton.points, where="")[0]
    is_numbered = bundled is not None or skeletons.are_numbers(skeleton.points)
    ids = any(not _is_plain(part.annotation_id) or not _is_plain(part.image_id) for part in read.values())
    missing = {
        "the names of points": not holds.names and not is_numbered,
        "the edges of the skeleton": not holds.edges and skeleton.edges != without.edges,
        "the pairs that change places in a mirror": not holds.pairs and skeleton.flip_pairs != without.flip_pairs,
        f"which of {', '.join(skeleton.kinds)} each instance is": bool(skeleton.kinds),
        "the sigmas of OKS": not holds.sigmas and skeleton.sigmas != without.sigmas,
        "ids of images and annotations": not holds.ids and ids,
        "who is who from frame to frame": not holds.tracks and any(part.track is not None for part in read.values()),
        f"which images are {', '.join(read)}": not holds.splits and len(read) > 1,
        f"the licences of images ({', '.join(first.licences)})": not holds.licences and bool(first.licences),
    }
    return [what for what, is_lost in missing.items() if is_lost]


def _is_plain(ids: np.ndarray) -> bool:
    """Whether ids count from 0 or 1, so that nothing is lost with them."""
    if not len(ids):
        return True
    return ids.dtype != object and np.array_equal(ids, np.arange(len(ids)) + ids[0]) and ids[0] in (0, 1)


def _given_boxes(instances: Instances) -> int:
    """Counts the boxes that are not what a reader would make of the points."""
    none, every = np.full((len(instances), 4), np.nan, np.float32), np.ones(len(instances), bool)
    made, _ = checking.boxes_of_points(instances.xy, instances.labelled, none, every)
    return int((~np.isclose(made, instances.box_xywh, atol=SAME_PX).all(1)).sum())


def _target(to: str | None, out: Path) -> tuple[str, ModuleType]:
    """The format that is meant."""
    known = writers()
    if to is not None:
        if to not in known:
            raise UserError(f"--to {to}: no format that is written.{did_you_mean(to, known)}")
        return to, known[to]
    by_ending = {name: module for name, module in known.items() if getattr(module, "BY_ENDING", True)}
    fitting = [name for name, module in by_ending.items() if getattr(module, "ENDING", None) == out.suffix.lower()]
    if len(fitting) != 1:
        what = f"several formats have files *{out.suffix}" if fitting else "its name tells no format"
        raise UserError(out, f"{what}; name one with --to: {', '.join(fitting or known)}")
    return fitting[0], known[fitting[0]]


def _read(source: Source, split: str | None, strict: bool) -> tuple[dict[str, Instances], list[Problem]]:
    """The instances of each split that the source has of its own, and what was wrong."""
    own = annotations.own_splits(source)
    if split is not None and split not in own:
        raise UserError(source.path, f"no split {split!r}.{did_you_mean(split, own)}")
    read, problems = {}, {}
    for name in [split] if split is not None else sorted(own, key=annotations.SPLITS.index):
        instances, found = annotations.load(source, name, strict=strict, ignored=True, carve=False)
        read[name] = one_row_an_image(instances)
        problems |= dict.fromkeys(found)
    return read, list(problems)


def one_row_an_image(instances: Instances) -> Instances:
    """Joins rows of the same image, as sets of two categories have them, and drops images that are not there."""
    names = [instances.images.name(row) for row in range(len(instances.images))]
    used = set(instances.image_row.tolist())
    first: dict[str, int] = {}
    for row, name in enumerate(names):
        if row in used or is_there(instances.images.name(row)):
            first.setdefault(name, row)
    kept = sorted(first.values())
    if len(kept) == len(names):
        return instances
    row_of = np.array([first.get(name, -1) for name in names], np.int64)
    return on_images(replace(instances, image_row=row_of[instances.image_row]), np.array(kept, np.int64))


def is_there(name: str) -> bool:
    """Tells whether an image is there, by its name: a file, or what has a name of its own, a frame or an array."""
    return os.path.isfile(name) or Path(name).suffix.lower() not in ENDINGS


def write_splits(splits: Mapping[str, Instances], out: Path, to: str) -> list[str]:
    """Writes splits in a format into a folder that is empty or not there, all or nothing; images stay where they are. Gives
    what the format can't hold."""
    lost = lines_of_loss(splits, writers()[to].HOLDS)
    _write_folder(splits, out, writers()[to], False, lost)
    return lost


def _write_folder(read: Mapping[str, Instances], out: Path, module: ModuleType, copies: bool, lost: list[str]) -> None:
    """Writes all splits into a folder beside, which then takes the place of `out`."""
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UserError(out, "is there already, and not empty; choose another name, or remove it")
    with folders.alone_at(out):
        files.refuse_unwritable(str(out), out.parent)
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
        try:
            target = Placing(partial, copies, is_new=True)
            if hasattr(module, "write_folder"):
                lost += module.write_folder(read, target)
            else:
                template = getattr(module, "FILES", f"{{split}}{module.ENDING}")
                for split, instances in read.items():
                    file = partial / template.format(split=split)
                    file.parent.mkdir(parents=True, exist_ok=True)
                    lost += module.write_file(instances, file, target)
            partial.chmod(0o755)
            if out.is_dir():
                out.rmdir()
            os.replace(partial, out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
