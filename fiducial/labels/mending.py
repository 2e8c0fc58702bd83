"""`fiducial data check --fix`: a corrected set beside the old one, where a repair is certain, and a log of what was done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fiducial import files
from fiducial.checks import mend
from fiducial.checks.finding import CERTAIN, Finding, Labelled
from fiducial.data import annotations, checking, conversion
from fiducial.data.source import Source
from fiducial.errors import UserError
from fiducial.log import logger
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


def write(out: Path, findings: Sequence[Finding], source: Source) -> dict[str, str]:
    """Writes all splits of a set with the certain repairs, and `changes.csv`: name -> path. UserError where something is at
    `out`. Images are referred to where they lie."""
    certain = [finding for finding in findings if is_certain(finding)]
    splits: dict[str, Instances] = {}
    read: list[dict[str, str]] = []  # what changes by reading alone
    for split in annotations.own_splits(source):
        told = Findings(str(source.path))
        part = annotations.read(source, split, told, carve=False)
        own = [one for one in certain if one.split == split or split in one.split.split(", ")]
        part = mend.mended(Labelled({split: part}), own)[0].splits[split]
        part = checking.check(part, told, ignored=True)
        read += [{"kind": "read", "split": split, "what": str(problem)} for problem in told.problems]
        if len(part):
            splits[split] = part
        else:
            logger.warning(
                f"{split}: nothing is left of it once its faults are mended, so that the mended set has none"
            )
            read.append({"kind": "read", "split": split, "what": "nothing is left of it"})
    if not splits:
        raise UserError(source.path, "nothing is left of it once its faults are mended; nothing was written")
    conversion.write_splits(splits, out, "coco")
    rows = [*({**one.as_json(), "points": " ".join(one.points)} for one in certain), *read]
    files.write_text(out / LOG, files.csv_text(rows) if rows else "nothing was certain enough to be changed\n")
    return {"mended": str(out), "log": str(out / LOG)}
