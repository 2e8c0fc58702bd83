"""What is asked of labels before they are trained on, whichever command does: faults that would waste the run end it, others
are told of in a line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from fiducial.checks import copies, leaks
from fiducial.checks import run as checks
from fiducial.checks.finding import Finding, Labelled
from fiducial.data import annotations
from fiducial.data.source import Source
from fiducial.errors import UserError
from fiducial.log import logger
from fiducial.training.recipe import Recipe
from fiducial.types import Instances

WASTED = 0.9  # confidence from which a fault ends a run
LEARNT = "train"
ALL_THE_SAME = "`fiducial data check` shows it, --set check=false trains all the same"


def look(
    splits: Mapping[str, Instances],
    recipe: Recipe,
    source: Source | str,
    by_people: Mapping[str, Instances] | None = None,
) -> None:
    """Looks at what is learnt from and what epochs are chosen by, and at the test split of its source where that has one,
    unless the recipe says not to. `by_people`: of the splits what people have labelled [all of it]: a teacher's points are
    no labels to find fault with. Decodes no image. Raises UserError where a run would be wasted."""
    if not recipe.check:
        return
    if isinstance(source, Source):
        check_test(splits, source)
    check_labels(splits if by_people is None else by_people, recipe, str(source))


def check_labels(splits: Mapping[str, Instances], recipe: Recipe, source: str) -> None:
    """Raises UserError where the labels would waste the run; says in one line what else looks wrong. Opens no image."""
    faults = [finding for finding in checks.quick(dict(splits)) if finding.confidence >= checks.TOLD]
    for finding in faults:
        if finding.confidence >= WASTED and _wastes(finding, recipe):
            where = f"split {finding.split}" if not finding.image or finding.kind != "duplicate" else finding.image
            raise UserError(f"{source}: {where}: {finding.kind}: {finding.what}; {ALL_THE_SAME}")
    if faults:
        counts = ", ".join(f"{count} {kind}" for kind, count in Counter(one.kind for one in faults).most_common())
        logger.warning(f"labels: {counts} look wrong, of those looked at; see: fiducial data check {source}")


def check_test(splits: Mapping[str, Instances], source: Source) -> None:
    """Raises UserError where an image that is learnt from is in the set's own test split, too, by its path or its bytes; says
    in a line each how many of val are, and that both have images of one series. Decodes no image."""
    for part in source.parts:
        if not annotations.is_labelled(part.path) or "test" not in annotations.own_splits(part):
            continue
        try:
            test, _ = annotations.load(part, "test", verify=False, ignored=True)
        except UserError as error:
            logger.warning(f"the test split is not looked at: {error}")
            continue
        labelled = Labelled({**splits, "test": test})
        pictures = copies.pictures_of(labelled)
        shared = [
            copy
            for copy in copies.same_bytes(pictures, labelled, across=True)
            if copy.other.split == "test" and copy.one.split != "test"
        ]
        of_train = [finding for copy in shared if copy.one.split == LEARNT for finding in copies.check_copies([copy])]
        if of_train:
            more = f", one of {len(of_train)}" if len(of_train) > 1 else ""
            raise UserError(
                f"{source}: {of_train[0].image}: duplicate: in test, {of_train[0].what}{more}; {ALL_THE_SAME}"
            )
        if shared:
            logger.warning(
                f"{len(shared)} images of val are in test, too: figures on test are those that epochs are chosen by"
            )
        both = [picture for picture in pictures if picture.split in (LEARNT, "test")]
        for leak in leaks.check_leaks(both, {}, None):
            logger.warning(f"leak: {leak.what}")


def note_of_unlabelled(unlabelled: Instances, validation: Instances) -> str | None:
    """Says how many images without labels are val's too, by their paths or their bytes; None where none is. Frames of videos
    are not compared."""
    labelled = Labelled({"val": validation, "unlabelled": unlabelled})
    found = copies.same_bytes(copies.pictures_of(labelled), labelled, across=True)
    count = len({copy.other.row for copy in found})
    if not count:
        return None
    return f"{count} of the unlabelled images are val's: its figure is not clean, leave them out of one of the two"


def _wastes(finding: Finding, recipe: Recipe) -> bool:
    """Whether what is learnt, or what it is chosen by, would be worth nothing."""
    if finding.kind == "flip_pairs":
        return recipe.augment.flip != 0
    if finding.kind == "duplicate":  # of one file in two splits
        return True
    is_of_split = finding.annotation_id is None
    return is_of_split and finding.kind in ("unit_coordinates", "point_order", "left_right")
