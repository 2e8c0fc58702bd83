"""`fiducial data check --fix`: a corrected set beside the old one, where a repair is certain, and a log of what was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import files, geometry
from fiducial.checks import pairs
from fiducial.checks.finding import CERTAIN, Finding
from fiducial.data import annotations, checking, conversion
from fiducial.data.source import Source
from fiducial.types import Findings, Instances

LOG = "changes.csv"
SIDES_CERTAIN = 0.99  # of left and right, since limbs cross and people turn their backs
# Kinds whose proposals are taken; of the others a person decides (`fiducial data review`).
MENDED = (
    "left_right",
    "point_order",
    "flip_pairs",
    "unit_coordinates",
    "corner_box",
    "missing_as_label",
    "duplicate",
)


def is_certain(finding: Finding) -> bool:
    """Says whether a finding is mended unasked. Another order of one instance's points is not: several may be near."""
    single_order = finding.kind == "point_order" and finding.annotation_id is not None
    taken = finding.kind in MENDED and finding.proposal is not None and not single_order
    return taken and finding.confidence >= (SIDES_CERTAIN if finding.kind == "left_right" else CERTAIN)


def mended(instances: Instances, findings: Sequence[Finding]) -> Instances:
    """Applies proposals (docs/check.md) to a split as it was read."""
    stays = np.ones(len(instances), bool)
    for finding in findings:
        rows, proposal = _rows(instances, finding), finding.proposal or {}
        instances = _with_numbers(_with_points(instances, rows, proposal), rows, proposal)
        if "flip_indices" in proposal:
            paired = pairs.pairs_of(np.array(proposal["flip_indices"]))
            instances = replace(instances, skeleton=replace(instances.skeleton, flip_pairs=paired))
        if proposal.get("leave_out"):
            stays[rows] = False
    return instances.select(np.flatnonzero(stays))


def _with_points(instances: Instances, rows: np.ndarray, proposal: Mapping[str, Any]) -> Instances:
    """Exchanges, moves and unlabels points."""
    xy, visibility, names = instances.xy.copy(), instances.visibility.copy(), instances.skeleton.points
    order = np.arange(len(names))
    for one, other in proposal.get("swap", ()):
        a, b = names.index(one), names.index(other)
        order[a], order[b] = b, a
    if "order" in proposal:
        order = np.array([names.index(name) for name in proposal["order"]])
    xy[rows], visibility[rows] = xy[rows][:, order], visibility[rows][:, order]
    for name, place in proposal.get("xy", {}).items():
        xy[rows, names.index(name)] = place
    for name in proposal.get("missing", ()):
        visibility[rows, names.index(name)] = 0
    return replace(instances, xy=xy, visibility=visibility)


def _with_numbers(instances: Instances, rows: np.ndarray, proposal: Mapping[str, Any]) -> Instances:
    """Takes coordinates and boxes for what they are."""
    xy, boxes = instances.xy.copy(), instances.box_xywh.copy()
    sizes = instances.image_size[instances.image_row][rows].astype(np.float64)
    if proposal.get("box") == "corners":
        boxes[rows] = geometry.box_from_corners(boxes[rows])
    elif "box" in proposal:
        boxes[rows] = proposal["box"]
    if "times" in proposal:
        xy[rows] *= sizes[:, None]
        is_unit = (np.abs(boxes[rows]) <= 2).all(1, keepdims=True)
        boxes[rows] *= np.where(is_unit, np.tile(sizes, 2), 1)
    if "scale" in proposal:
        xy[rows] *= proposal["scale"]
        boxes[rows] *= np.tile(proposal["scale"], 2)
    if proposal.get("transpose"):
        xy[rows] = xy[rows][..., ::-1]
    return replace(instances, xy=xy, box_xywh=boxes)


def _rows(instances: Instances, finding: Finding) -> np.ndarray:
    """The rows of a split that a finding is about: one, those on an image, or all."""
    if finding.annotation_id is not None:
        return np.flatnonzero([number == finding.annotation_id for number in instances.annotation_id.tolist()])
    if finding.image and finding.kind != "leak":
        image = [row for row in range(len(instances.images)) if instances.images.name(row) == finding.image]
        return np.flatnonzero(np.isin(instances.image_row, image))
    return np.arange(len(instances))


def write(out: Path, findings: Sequence[Finding], source: Source) -> dict[str, str]:
    """Writes all splits of a set with the certain repairs, and `changes.csv`: name -> path. UserError where something is at
    `out`. Images are referred to where they lie."""
    certain = [finding for finding in findings if is_certain(finding)]
    splits = {}
    for split in annotations.own_splits(source):
        told = Findings(str(source.path))
        part, _ = annotations.read(source, split, told, carve=False)
        own = [one for one in certain if one.split == split or split in one.split.split(", ")]
        part = mended(part, own)
        splits[split] = checking.check(part, told, ignored=True)
    conversion.write_splits(splits, out, "coco")
    rows = [{**one.as_json(), "points": " ".join(one.points)} for one in certain]
    files.write_text(out / LOG, files.csv_text(rows) if rows else "nothing was certain enough to be changed\n")
    return {"mended": str(out), "log": str(out / LOG)}
