"""Images and labels that do not belong together: of another size than declared, without labels, of unknown categories."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fiducial.checks.finding import Finding
from fiducial.data.file_names import listing
from fiducial.data.images import ENDINGS, FileImages, file_header, keeps_stored
from fiducial.errors import UserError
from fiducial.types import Instances, Problem

SAME_SHAPE = 0.02  # by which the ratios of width to height of one image may differ
SHOWN = 3


def check_sizes(split: str, instances: Instances) -> list[Finding]:
    """Tells of images whose file has another size than the labels were made on, EXIF rotation considered."""
    images = instances.images
    if not isinstance(images, FileImages):
        return []
    findings = []
    for row in np.unique(instances.image_row).tolist():
        declared = images.declared_size(row)
        try:
            header = None if declared is None else file_header(images.path(row))
        except UserError:
            continue  # missing or broken: the reading tells of it
        if declared is None or header is None or declared == header.upright or keeps_stored(header, declared):
            continue
        own, theirs = header.upright, declared
        scaled = abs(own.w * theirs.h / (own.h * theirs.w) - 1) < SAME_SHAPE
        turned = (own.w, own.h) == (theirs.h, theirs.w)
        why = "; turned by a quarter" if turned else "; of the same shape, shrunk or enlarged" if scaled else ""
        findings.append(
            Finding(
                kind="size",
                split=split,
                image=images.name(row),
                confidence=0.95,
                what=f"the file is {own}, the annotations say {theirs}{why}",
                proposal={"scale": [own.w / theirs.w, own.h / theirs.h]} if scaled and not turned else None,
            )
        )
    return findings


def check_unlabelled(parts: Mapping[str, Instances]) -> list[Finding]:
    """Tells of images that no label names: listed without labels, and lying in the folder without being listed."""
    findings = []
    named: dict[str, set[str]] = {}
    for split, part in parts.items():
        bare = np.setdiff1d(np.arange(len(part.images)), part.image_row)
        if len(bare):
            findings.append(_unlabelled(split, [part.images.name(int(row)) for row in bare], "listed without a label"))
        if isinstance(part.images, FileImages):
            for name in part.images.names:
                folder, last = os.path.split(str(part.images.folder / name))
                named.setdefault(folder, set()).add(last)
    for folder, names in named.items():
        if os.path.isdir(folder):
            rest = sorted(
                file
                for file in listing(Path(folder))
                if os.path.splitext(file)[1].lower() in ENDINGS and file not in names
            )
            if rest:
                paths = [os.path.join(folder, file) for file in rest]
                findings.append(_unlabelled(", ".join(parts), paths, "in the folder, and no annotations name them"))
    return findings


def _unlabelled(split: str, names: Sequence[str], how: str) -> Finding:
    shown = ", ".join(os.path.basename(name) for name in names[:SHOWN])
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return Finding(
        kind="unlabelled_image",
        split=split,
        image=names[0],
        confidence=0.4,
        what=f"{len(names)} image{'s are' if len(names) > 1 else ' is'} {how}: {shown}{more}",
    )


def check_categories(split: str, problems: Sequence[Problem]) -> list[Finding]:
    """Tells of annotations of categories that their file doesn't know, as the reading found them."""
    return [
        Finding(kind="category", split=split, confidence=0.95, what=problem.what)
        for problem in problems
        if problem.where == "categories"
    ]
