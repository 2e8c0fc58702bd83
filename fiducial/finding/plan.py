"""The plan of a finder: how large an image must be seen so that its instances can be, and how long it learns."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from fiducial.data.facts import ALL_DIRECTIONS_DEGREES, Facts
from fiducial.evaluation.found import wanted
from fiducial.finding.recipe import FinderRecipe
from fiducial.geometry import Size
from fiducial.training import plan
from fiducial.training.pace import Pace
from fiducial.training.plan import Choice
from fiducial.types import Instances

LEAST_PX, USUAL_PX, MOST_PX = 160, 320, 640  # of a scene's longer side
# How long all but the smallest twentieth of the instances shall be in a scene: as long in scenes up to the usual size, at
# least in larger ones.
SIDE_PX, LEAST_SIDE_PX = 40.0, 20.0
THIN_PX = 12.0  # where shorter sides are less, cells are of 4 px
GRID_PX = 32
OBLONG = 0.9  # share of the images that must be of one orientation for a scene to be so
SEVERAL = 0.02  # share of the images with several instances from which on a finder is needed
ALWAYS = 10_000  # epochs: more than there are
WHOLE = 0.5  # of an image's area: where the median instance takes less, one must know where it is


@dataclass(frozen=True)
class Need:
    """Says whether a set needs a finder, and why."""

    needed: bool
    why: str


def need_of(instances: Instances) -> Need:
    """Decides by the labels of train: several instances in an image, or instances that fill little of theirs."""
    some = instances.select(wanted(instances))
    if len(some) == 0:
        return Need(False, "nothing is labelled")
    counts = np.bincount(some.image_row, minlength=len(some.image_id))
    several = float((counts[counts > 0] > 1).mean())
    if several >= SEVERAL:
        return Need(True, f"{100 * several:.0f} % of the images with instances have several")
    size = some.image_size[some.image_row].astype(np.float64)
    known = (size > 0).all(1)
    if not known.any():
        return Need(False, "the sizes of the images are not known")
    share = float(np.median(some.box_xywh[known, 2:].astype(np.float64).prod(1) / size[known].prod(1)))
    if share < WHOLE:
        return Need(True, f"the median instance takes {100 * share:.0f} % of its image")
    return Need(False, f"the median instance takes {100 * share:.0f} % of its image, and few images have several")


def plan_of(
    instances: Instances,
    facts: Facts,
    recipe: FinderRecipe,
    given: Collection[str],
    measure: Callable[[FinderRecipe], Pace] | None = None,
    weights: Collection[str] = (),
) -> tuple[FinderRecipe, list[Choice]]:
    """Decides what of a finder's recipe nobody has `given`; instances: those of train; measure: tells a recipe's pace.
    weights: backbones whose ImageNet weights are on this disk."""
    choices: list[Choice] = []
    recipe = plan.decided(recipe, [*_scene(instances), *_turns(facts)], given, choices)
    images = len(instances.image_id)
    batch = 8 if images < 100 else 16
    recipe = plan.decided(recipe, [Choice("batch_size", batch, f"{images} images")], given, choices)
    pace = None
    if measure is not None and recipe.minutes is not None:
        pace = measure(recipe)
        steps, useful = plan.steps_in(recipe.minutes, pace), plan.useful_steps(images, recipe.batch_size)
        if steps < useful and plan.may_be_tuned(recipe, weights) and "backbone" not in given:
            recipe = plan.decided(recipe, _tuned(recipe, steps, useful), given, choices)
            pace = measure(recipe)
        recipe = plan.decided(recipe, plan.fastest(pace), given, choices)
    return plan.decided(recipe, plan.length(images, recipe, given, pace, "images"), given, choices), choices


def _tuned(recipe: FinderRecipe, steps: int, useful: int) -> list[Choice]:
    """A trunk that knows photographs, under a head that learns alone: a third of the time a step, and fewer of them are
    needed; but three times as slow when it is used."""
    why = f"its ImageNet weights are on this disk, and {recipe.backbone}, which is faster in use, would make {steps} of {useful} steps"
    return [
        Choice("backbone", plan.TUNED_BACKBONE, why),
        Choice("optimizer.freeze_epochs", ALWAYS, "the backbone stays as it is, and the head alone learns"),
        Choice("head.coarser", 1, "maps of 32 px a cell, which this backbone has not, see large instances"),
    ]


def _scene(instances: Instances) -> list[Choice]:
    """Size of the scene and of its cells."""
    some = instances.select(wanted(instances))
    size = some.image_size[some.image_row].astype(np.float64)
    known = (size > 0).all(1)
    images = instances.image_size[(instances.image_size > 0).all(1)].astype(np.float64)
    if not known.any():
        return [Choice("size", [USUAL_PX, USUAL_PX], "the sizes of the images are not known")]
    sides = np.sort(some.box_xywh[known, 2:].astype(np.float64), axis=1) / size[known].max(1)[:, None]
    small, thin = np.percentile(sides[:, 1], 5), np.percentile(sides[:, 0], 5)
    largest = float(np.percentile(images.max(1), 90))
    usual = min(max(LEAST_PX, SIDE_PX / max(small, 1e-6)), USUAL_PX)
    longer = min(max(usual, LEAST_SIDE_PX / max(small, 1e-6)), MOST_PX, GRID_PX * math.ceil(largest / GRID_PX))
    longer = GRID_PX * max(3, math.ceil(longer / GRID_PX))
    aspect = images[:, 0] / images[:, 1]
    middle = float(np.median(aspect))
    alike = float((np.abs(np.log(aspect / middle)) < math.log(1.2)).mean())
    scene, how = Size(longer, longer), "images are of several shapes, or square"
    if alike >= OBLONG:
        shorter = longer * min(middle, 1 / middle)
        shorter = max(2, math.ceil(shorter / GRID_PX - 0.25)) * GRID_PX
        scene = Size(longer, shorter) if middle >= 1 else Size(shorter, longer)
        how = f"images are {middle:.2f} times as wide as high"
    px = longer * small
    why = f"{how}; all but a twentieth of the instances are then {px:.0f} px long or more"
    stride = 4 if longer * thin < THIN_PX else 8
    cells = f"all but a twentieth are {longer * thin:.0f} px or more across"
    return [Choice("size", list(scene), why), Choice("head.stride", stride, cells)]


def _turns(facts: Facts) -> list[Choice]:
    """Whether images turned by right angles show what may be met."""
    if facts.turn_degrees >= ALL_DIRECTIONS_DEGREES:
        return [
            Choice("quarter_turns", True, f"95 % of the instances are turned by up to {facts.turn_degrees:.0f} degrees")
        ]
    return []
