"""What `fit` asks of its labels before it trains: faults that would waste the run end it, others are told of in a line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from fiducial.checks import run as checks
from fiducial.checks.finding import Finding
from fiducial.errors import UserError
from fiducial.log import logger
from fiducial.training.recipe import Recipe
from fiducial.types import Instances

WASTED = 0.9  # confidence from which a fault ends a run


def check_labels(splits: Mapping[str, Instances], recipe: Recipe, source: str) -> None:
    """Raises UserError where the labels would waste the run; says in one line what else looks wrong. Opens no image."""
    faults = [finding for finding in checks.quick(dict(splits)) if finding.confidence >= checks.TOLD]
    for finding in faults:
        if finding.confidence >= WASTED and _wastes(finding, recipe):
            where = f"split {finding.split}" if not finding.image or finding.kind != "duplicate" else finding.image
            raise UserError(
                f"{source}: {where}: {finding.kind}: {finding.what}; `fiducial data check` shows it, --no-check trains "
                "all the same"
            )
    if faults:
        counts = ", ".join(f"{count} {kind}" for kind, count in Counter(one.kind for one in faults).most_common())
        logger.warning(f"labels: {counts} look wrong, of those looked at; see: fiducial data check {source}")


def _wastes(finding: Finding, recipe: Recipe) -> bool:
    """Whether what is learnt, or what it is chosen by, would be worth nothing."""
    if finding.kind == "flip_pairs":
        return recipe.augment.flip != 0
    if finding.kind == "duplicate":  # of one file in two splits
        return True
    is_of_split = finding.annotation_id is None
    return is_of_split and finding.kind in ("unit_coordinates", "point_order", "left_right")
