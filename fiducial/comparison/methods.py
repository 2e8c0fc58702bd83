"""What `fiducial compare` trains: methods x backbones x input sizes x seeds, each cell a run of `fiducial fit`.

    --methods heatmap,deeppose,heatmap:upsampling=deconvolution:channels=256
    --methods plain=heatmap,deconvolution=heatmap:upsampling=deconvolution
    --methods @recipes/faces68.py:heatmap,@recipes/faces68.py:deeppose

An entry is [LABEL=]METHOD[:SETTING=VALUE..], settings being those of the method's head, or [LABEL=]@FILE.py:FUNCTION
[:SETTING=VALUE..], a recipe of its own."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fiducial.comparison.cells import Cell, Plan, recipe_arguments
from fiducial.data.facts import facts_of
from fiducial.data.source import Source
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.models import packaged_weights
from fiducial.training import fit as fitting
from fiducial.training import plan as run_plan
from fiducial.training import recipes
from fiducial.training.plan import given_by
from fiducial.training.recipe import Recipe

EXPECTED = "expected [LABEL=]METHOD[:SETTING=VALUE..] or [LABEL=]@FILE.py:FUNCTION, separated by commas"


@dataclass(frozen=True)
class Method:
    """A label and the recipe behind it; backbone, size and seed are still those of the common recipe."""

    label: str
    recipe: Recipe


def methods_of(text: str, common: Recipe, options: Mapping[str, Any], settings: Sequence[str]) -> list[Method]:
    """Reads `--methods`: each with the common recipe, or its own, and the command line's options and `--set`s on top."""
    methods = [_method(entry, common, dict(options), settings) for entry in split_outside_brackets(text)]
    twice = _repeated(method.label for method in methods)
    if twice is not None:
        raise UserError(f"--methods: {twice!r} is there twice; give one of them a label, such as other={twice}")
    return methods


def plan_of_words(
    data: Source,
    *,
    methods: str | None,
    backbones: str | None,
    sizes: str | None,
    seeds: int,
    recipe: str | None,
    options: Mapping[str, Any],
    settings: Sequence[str],
    planned: bool = False,
) -> Plan:
    """Makes a plan of the command line's words; an empty one where there are no methods. planned: without a recipe, what is
    common to all and chosen by nobody is decided by the data."""
    if not methods:
        return Plan(data=data)
    common = recipes.load(recipe) if recipe else recipes.default()
    if planned and not recipe:
        own = {"backbone": backbones, "size": sizes}
        common = _planned(data, common, given_by(options, settings) | {name for name, words in own.items() if words})
    return plan_of(
        data,
        methods_of(methods, common, options, settings),
        backbones=[name.strip() for name in (backbones or "").split(",") if name.strip()],
        sizes=sizes_of(sizes),
        seeds=seeds,
    )


def plan_of(
    data: Source,
    methods: Sequence[Method],
    *,
    backbones: Sequence[str] = (),
    sizes: Sequence[Size] = (),
    seeds: int = 1,
) -> Plan:
    """Combines all methods, backbones, sizes and seeds; without backbones or sizes those of each method's recipe.

    Seeds count up from the recipe's. Precision is fp32 where the recipe leaves it to be chosen: what is fastest for one
    net need not be for another, and no method is to be compared with another one's rounding."""
    cells = []
    for method in methods:
        base = method.recipe
        base = replace(base, precision="fp32" if base.precision == "auto" else base.precision)
        for backbone in backbones or [base.backbone]:
            for size in sizes or [base.size]:
                recipe = replace(base, backbone=backbone.replace("-", "_"), size=size)
                for seed in range(base.seed, base.seed + seeds):
                    cells.append(_cell(method.label, replace(recipe, seed=seed), data))
    twice = _repeated(cell.name for cell in cells)
    if twice is not None:
        labels = list(dict.fromkeys(cell.label for cell in cells if cell.name == twice))
        which = " and ".join(map(repr, labels)) + (" give the same folder" if len(labels) > 1 else " comes twice")
        raise UserError(f"--methods, --backbones, --sizes: {which} ({twice}); name each once, or label the methods")
    points = {cell.recipe.points for cell in cells}
    if len(points) > 1:
        raise UserError("--methods: the recipes have different points; give --points, so that all find the same")
    return Plan(data=data, cells=tuple(cells))


def fit_command(data: Source, recipe: Recipe) -> tuple[str, ...]:
    """Gives the run of `fiducial fit` that learns by exactly this recipe, without --out."""
    chosen = recipe_arguments(recipe, Recipe(backbone=recipe.backbone))
    return ("fit", str(data), "--no-plan", "--backbone", recipe.backbone, *chosen, *data.options())


def split_outside_brackets(text: str) -> list[str]:
    """Splits at commas: `a,b:x=[1,2],c` -> a | b:x=[1,2] | c."""
    return [part.strip() for part in re.split(r",(?![^\[]*\])", text) if part.strip()]


def sizes_of(text: str | None) -> list[Size]:
    """Reads `128x128,192x256`."""
    try:
        return [Size.parse(part) for part in (text or "").split(",") if part.strip()]
    except ValueError as error:
        raise UserError(f"--sizes: {error}") from None


def _planned(data: Source, common: Recipe, given: Collection[str]) -> Recipe:
    """Decides by the data alone: all methods get the same number of steps, whatever a step of each takes."""
    facts = facts_of(fitting.load_data(data, common).train)
    recipe, choices = run_plan.plan_of(facts, common, given, weights=packaged_weights.here())
    run_plan.tell(facts, recipe, choices)
    return recipe


def _cell(label: str, recipe: Recipe, data: Source) -> Cell:
    plain = re.sub(r"[^\w.=+-]", "_", label)
    folder = f"runs/{plain}-{recipe.backbone}-{recipe.size}-s{recipe.seed}"
    return Cell(label=label, recipe=recipe, folder=folder, command=fit_command(data, recipe))


def _method(entry: str, common: Recipe, options: dict[str, Any], settings: Sequence[str]) -> Method:
    label, name, head_settings = _parts(entry)
    if name.startswith("@"):
        base = recipes.load(name[1:])
    else:
        base, options = common, {**options, "method": name}
    recipe = recipes.changed(base, options, [*settings, *(f"head.{setting}" for setting in head_settings)])
    if recipes.learns_without_labels(recipe.method):
        raise UserError(
            f"--methods: {recipe.method!r} finds points of its own, whose error against labels there is not. Its runs are "
            "compared by `fiducial evaluate RUN DATA --linear-map`, its students by `fiducial distill --study`"
        )
    return Method(label, recipe)


def _parts(entry: str) -> tuple[str, str, list[str]]:
    """`label=name:a=b` -> label, name, ["a=b"]; a recipe's name is `@file:function`, a head from outside may be
    `my_head.py:Class`."""
    match = re.fullmatch(
        r"(?:(?P<label>[^=:@]+)=)?(?P<name>@[^=]+?\.py:\w+|[^=:@]+\.\w+:\w+(?![^:=]*=)|[^=:@]+)"
        r"(?P<settings>(?::[^=:]+=[^:]+)*)",
        entry,
    )
    if match is None:
        raise UserError(f"--methods: {entry!r}: {EXPECTED}")
    name, settings = match["name"].strip(), [part for part in match["settings"].split(":") if part]
    usual = entry if not name.startswith("@") else ":".join([name.rpartition(":")[2], *settings])
    return (match["label"] or usual).strip(), name, settings


def _repeated(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
