"""The plan of a run: what a set and a machine are like decides what nobody chose. Each choice has its reason.

Steps count, not epochs: 60 epochs of 81 instances in batches of 64 are 60 steps, after which every network still answers
with the mean shape."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fiducial import config, files
from fiducial.card import DetectorSpec
from fiducial.data.facts import ALL_DIRECTIONS_DEGREES, Facts
from fiducial.errors import counted
from fiducial.log import logger
from fiducial.models import catalog
from fiducial.training.recipe import Recipe

if TYPE_CHECKING:  # torch
    from fiducial.training.pace import Pace

LEAST_STEPS = 1500  # that the smallest network needs to get well below the mean shape
STEPS_EACH = 300  # of the smallest sets, for each instance
FEW_ALONG = 200  # of fewer a model that comes along and finds the same points is a better start than ImageNet's weights
FEW = 30  # instances: of fewer the labels do not show how others may lie
PASSES_OF_1000 = 120  # over a set of 1,000; larger ones need fewer, in the power of:
FEWER = 0.35
WORTH_WHILE = 4  # times the usual number of steps that given minutes may make
HARDLY = 500  # steps: runs of fewer end near the mean shape,
HARDLY_TUNED = 100  # or of these, from ImageNet weights
VALIDATIONS = 50  # about so many epochs
VALIDATING = 0.1  # of the minutes, at most
AREA_PX = 128 * 128  # of the input
GRID_PX = 32  # sides are multiples of it
SQUARE = 1.25  # inputs of boxes that are less oblong are square
MIRRORED = 0.35  # mean shapes further from their mirror image belong to sets that are never seen mirrored
LR = 3e-3
TRANSFORMERS = ("vit", "deit", "eva", "beit", "swin", "cait", "xcit")  # how their names begin
LAYER_DECAY = 0.75  # of transformers with weights
PRETRAINED = "tf_efficientnet_lite0"  # whose ImageNet weights come as a package
TUNED_BACKBONE = f"{PRETRAINED}_stride16"  # up to its maps of stride 16 it learns the most in given minutes
AFTER_TRAINING_SECONDS = 15.0  # scoring what was kept, pictures, the page


@dataclass(frozen=True)
class Choice:
    """One setting of a plan."""

    setting: str  # as --set has it
    value: Any  # as JSON has it
    reason: str

    def __str__(self) -> str:
        value = "x".join(map(str, self.value)) if self.setting == "size" else config.as_setting(self.value)
        return f"plan: {self.setting} {value}: {self.reason}"


AnyRecipe = TypeVar("AnyRecipe", bound=Recipe)
Measure = Callable[[Recipe], "Pace"]


def plan_of(
    facts: Facts,
    recipe: Recipe,
    given: Collection[str],
    measure: Measure | None = None,
    weights: Collection[str] = (),
    start: DetectorSpec | None = None,
    along: str | None = None,
) -> tuple[Recipe, list[Choice]]:
    """Decides what of `recipe` nobody has `given`, settings as --set names them, and gives it with the choices.

    measure: tells the pace of a recipe on this machine; without one, time plays no part. weights: backbones whose
    ImageNet weights are on this disk. start: the network whose weights the run starts from, where that is one of ours.
    along: the model that comes along whose weights those are, where nobody chose any."""
    choices: list[Choice] = []
    if along is not None:
        recipe = decided(recipe, [_from_along(along, facts)], given, choices)
    if start is not None:
        recipe = decided(recipe, _as_begun(start, recipe, given), given, choices)
    if may_be_tuned(recipe, weights):
        recipe = decided(recipe, _tuned(recipe), given, choices)
    known = {choice.setting for choice in choices}
    for decide in (_input, _views, _batch) if "size" not in known else (_views, _batch):
        recipe = decided(recipe, decide(facts, recipe), given, choices)
    recipe = decided(recipe, _trunk(recipe), given, choices)
    pace = None if measure is None or recipe.minutes is None else measure(recipe)
    if pace is not None:
        recipe = decided(recipe, fastest(pace), given, choices)
    return decided(recipe, length(facts.instances, recipe, given, pace), given, choices), choices


def plan_of_steps(instances: int, recipe: AnyRecipe, given: Collection[str]) -> tuple[AnyRecipe, list[Choice]]:
    """Decides as `plan_of` does of so many instances of which nothing else is known: how many steps, of how many."""
    choices: list[Choice] = []
    recipe = decided(recipe, [_batch_size(instances)], given, choices)
    return decided(recipe, length(instances, recipe, given, None), given, choices), choices


def tell(facts: Facts, recipe: Recipe, choices: Iterable[Choice]) -> None:
    """Says what was found and decided, a line each, and that a run is of too few steps."""
    logger.info(f"plan: {facts.told()}")
    for choice in choices:
        logger.info(str(choice))
    if facts.instances < FEW:
        logger.warning(
            f"train has {counted(facts.instances, 'labelled instance')}: what is learnt holds for images "
            "much like these alone, and more labels help more than any setting"
        )
    steps, useful = steps_of(recipe, facts.instances), useful_steps(facts.instances, recipe.batch_size)
    is_tuned = recipe.init is not None or any(choice.setting == "backbone" for choice in choices)
    least = HARDLY_TUNED if is_tuned else HARDLY
    if steps < min(least, useful / 2):
        logger.warning(
            f"this run is of {steps} steps; runs of so few end near the mean shape, which is worth nothing. This set can "
            f"use {useful}: give more --epochs or --minutes, or a smaller --batch-size, or leave these to the plan"
        )


def steps_of(recipe: Recipe, instances: int) -> int:
    """Counts the steps of a run on one device."""
    return recipe.epochs * max(1, round(recipe.passes * max(1, instances // recipe.batch_size)))


def given_by(options: Mapping[str, Any], settings: Sequence[str]) -> set[str]:
    """Names the settings that a command's options and `--set`s decide."""
    own = {"lr": "optimizer.lr"}
    return {own.get(name, name) for name in options} | {setting.partition("=")[0].strip() for setting in settings}


def read(out: Path) -> list[Choice]:
    """Reads the plan that a run was begun with; none where it was begun without one."""
    path = out / "recipe.json"
    entries = files.read_object(path).get("plan", []) if path.is_file() else []
    return [config.from_dict(Choice, entry, str(path)) for entry in entries]


def begun_with_plan(out: Path) -> bool:
    """Says whether a run was begun with a plan."""
    return bool(read(out))


def decided(recipe: AnyRecipe, offered: Iterable[Choice], given: Collection[str], choices: list[Choice]) -> AnyRecipe:
    """Gives `recipe` with those of the choices that are left to us; they are added to `choices`."""
    new = [choice for choice in offered if not _is_given(choice.setting, given)]
    choices += new
    return config.with_settings(recipe, [f"{choice.setting}={json.dumps(choice.value)}" for choice in new])


def _is_given(setting: str, given: Collection[str]) -> bool:
    return setting in given or setting.partition(".")[0] in given


# --------------------------------------------------------------------------------------------------------- choices


def may_be_tuned(recipe: Recipe, weights: Collection[str]) -> bool:
    """Says whether a run may begin with ImageNet weights that are on this disk."""
    return PRETRAINED in weights and recipe.pretrained != "no" and recipe.init is None


def may_start_along(facts: Facts, recipe: Recipe, given: Collection[str]) -> bool:
    """Says whether a run may start from a model of the same points that comes along: of few labels, if nobody chose
    another start or network."""
    chosen = {setting.partition(".")[0] for setting in given} & {"init", "backbone", "method", "head"}
    return facts.instances < FEW_ALONG and recipe.init is None and recipe.pretrained != "no" and not chosen


def _from_along(name: str, facts: Facts) -> Choice:
    why = f"the points are those of `{name}`, which comes along, and {counted(facts.instances, 'label')} teach it more than"
    return Choice("init", name, f"{why} a network without any (--pretrained no, or --backbone, leaves it out)")


def _as_begun(start: DetectorSpec, recipe: Recipe, given: Collection[str]) -> list[Choice]:
    """A run that starts from a detector's weights is of its network; its head's too, where that learns from labels."""
    why = "the weights of --init are of such a network"
    own: dict[str, Any] = {"backbone": start.backbone, "size": [start.size.w, start.size.h], "padding": start.padding}
    module = catalog.head_module(start.method)
    if not module.Head.learns_without_labels and ("method" not in given or recipe.method == start.method):
        usual = config.to_dict(module.Spec())
        own |= {"method": start.method}
        own |= {f"head.{name}": value for name, value in start.head.items() if value != usual.get(name)}
    return [Choice(name, value, why) for name, value in own.items()]


def _tuned(recipe: Recipe) -> list[Choice]:
    why = f"its ImageNet weights are on this disk; {recipe.backbone} needs none, and is faster (--backbone)"
    return [Choice("backbone", TUNED_BACKBONE, why)]


def _input(facts: Facts, recipe: Recipe) -> list[Choice]:
    """The shape of the input follows the boxes'."""
    aspect, turned = facts.aspect, facts.turn_degrees >= ALL_DIRECTIONS_DEGREES
    if turned or not math.isfinite(aspect) or 1 / SQUARE <= aspect <= SQUARE:
        why = "instances lie in all directions" if turned else f"boxes are {aspect:.2f} times as wide as high"
        side = round(math.sqrt(AREA_PX) / GRID_PX) * GRID_PX
        return [Choice("size", [side, side], f"{why}, {_length_px(facts)}")]
    oblong = min(max(aspect, 0.5), 2.0)
    w = max(2, round(math.sqrt(AREA_PX * oblong) / GRID_PX)) * GRID_PX
    h = max(2, round(math.sqrt(AREA_PX / oblong) / GRID_PX)) * GRID_PX
    return [Choice("size", [w, h], f"boxes are {aspect:.2f} times as wide as high, {_length_px(facts)}")]


def _length_px(facts: Facts) -> str:
    return f"{facts.side_px[1]:.0f} px long"


def _views(facts: Facts, recipe: Recipe) -> list[Choice]:
    """How much crops are turned, enlarged and mirrored."""
    choices = []
    turn = facts.turn_degrees
    if math.isfinite(turn) and facts.instances >= FEW:
        most = 1.2 * turn + 10
        degrees = 180.0 if most > 150 else max(15.0, 5.0 * round(most / 5))
        probability = 1.0 if turn >= ALL_DIRECTIONS_DEGREES else 0.6
        why = f"95 % of the instances are turned by up to {turn:.0f} degrees"
        choices += [
            Choice("augment.rotation_degrees", degrees, why),
            Choice("augment.rotation_probability", probability, why),
        ]
    if math.isfinite(facts.scale_spread) and facts.scale_spread > 1.25**2:
        half = min(math.sqrt(facts.scale_spread), 1.6)
        why = f"in their boxes instances differ in size by a factor of {facts.scale_spread:.1f}"
        choices.append(Choice("augment.scale", [round(1 / half, 2), round(half, 2)], why))
    if not facts.flip_pairs_known:
        choices.append(Choice("augment.flip", 0.0, "which points change names in a mirror is not known"))
    elif facts.mirrored > MIRRORED and facts.instances >= FEW:
        choices.append(Choice("augment.flip", 0.0, "no instance looks like another one in a mirror"))
    else:
        choices.append(Choice("augment.flip", 0.5, "flip pairs are known, and nothing speaks against mirrored images"))
    return choices


def _batch(facts: Facts, recipe: Recipe) -> list[Choice]:
    return [_batch_size(facts.instances), Choice("optimizer.lr", LR, "the usual peak of this optimizer")]


def _trunk(recipe: Recipe) -> list[Choice]:
    """Transformers that know images forget them at the rate at which a head is learnt, the first blocks most; from random weights they need it."""
    if not recipe.backbone.startswith(TRANSFORMERS) or (recipe.init is None and recipe.pretrained != "yes"):
        return []
    return [
        Choice(
            "optimizer.layer_decay",
            LAYER_DECAY,
            "the first blocks of a transformer with weights forget what they know at more",
        )
    ]


def _batch_size(instances: int) -> Choice:
    size = 16 if instances < 1000 else 32 if instances < 4000 else 64
    return Choice("batch_size", size, f"{instances} instances")


def fastest(pace: Pace) -> list[Choice]:
    """Decides by what was timed."""
    why = f"the fastest here, {1e3 * pace.step:.0f} ms a step"
    return [Choice("precision", pace.precision, why), Choice("memory_format", pace.memory_format, why)]


def length(
    instances: int, recipe: Recipe, given: Collection[str], pace: Pace | None, noun: str = "instances"
) -> list[Choice]:
    """Decides epochs and passes: as many steps as so many instances can use, or as fit into the minutes."""
    a_pass = max(1, instances // recipe.batch_size)
    useful = useful_steps(instances, recipe.batch_size)
    if _is_given("epochs", given):
        return []
    steps, validations = useful, VALIDATIONS
    why = f"{instances} {noun} can use {useful} steps of {recipe.batch_size}"
    if pace is not None and recipe.minutes is not None:
        steps, validations, why = _in_time(recipe.minutes, pace, useful)
    passes = recipe.passes
    if not _is_given("passes", given):
        share = steps / validations / a_pass
        passes = float(max(1, round(share))) if share > 0.2 else float(f"{share:.3g}")
    an_epoch = max(1, round(passes * a_pass))
    epochs = max(1, round(steps / an_epoch))
    of_epoch = f"an epoch is {an_epoch} steps, so that val is scored {epochs} times"
    return [Choice("epochs", epochs, why), Choice("passes", passes, of_epoch)]


def _in_time(minutes: float, pace: Pace, useful: int) -> tuple[int, int, str]:
    """Steps and validations that fit into the minutes, and why."""
    fit, most, validations = steps_in(minutes, pace), WORTH_WHILE * useful, _validations_in(minutes, pace)
    if fit > most:  # as `most_steps`
        return most, validations, f"more than {most} steps would not help; they take {most * pace.step / 60:.0f} min"
    why = f"{fit} steps of {1e3 * pace.step:.0f} ms fit into {minutes:g} min with what comes before and after"
    return fit, validations, why


def steps_in(minutes: float, pace: Pace) -> int:
    """Counts the steps that fit into minutes, at least one."""
    left_s = _training_s(minutes) - _validations_in(minutes, pace) * pace.validation
    return max(1, int(left_s / pace.step))


def _validations_in(minutes: float, pace: Pace) -> int:
    return min(VALIDATIONS, max(4, int(VALIDATING * _training_s(minutes) / pace.validation)))


def _training_s(minutes: float) -> float:
    return max(0.0, 60 * minutes - AFTER_TRAINING_SECONDS)


def useful_steps(instances: int, batch_size: int) -> int:
    """Counts the steps that a set can use: so many that the smallest get below the mean shape, more for larger ones."""
    passes = PASSES_OF_1000 * min(1.0, (1000 / max(instances, 1)) ** FEWER)
    by_passes = passes * instances / min(batch_size, max(instances, 1))
    return max(1, round(max(min(LEAST_STEPS, STEPS_EACH * instances), by_passes)))


def most_steps(instances: int, batch_size: int) -> int:
    """Counts the steps beyond which more minutes would not help."""
    return WORTH_WHILE * useful_steps(instances, batch_size)
