"""What is compared: methods x backbones x input sizes x seeds, each cell one training run with a recipe of its own.

    --methods heatmap,deeppose,heatmap:upsampling=deconvolution:channels=256
    --methods plain=heatmap,deconvolution=heatmap:upsampling=deconvolution
    --methods @recipes/faces68.py:heatmap,@recipes/faces68.py:deeppose

An entry is [LABEL=]METHOD[:SETTING=VALUE..], settings being those of the method's head, or [LABEL=]@FILE.py:FUNCTION
[:SETTING=VALUE..], a recipe of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fiducial import config, files
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.training import recipes
from fiducial.training.recipe import Recipe

EXPECTED = "expected [LABEL=]METHOD[:SETTING=VALUE..] or [LABEL=]@FILE.py:FUNCTION, separated by commas"


@dataclass(frozen=True)
class Cell:
    """One training run of the comparison."""

    method: str  # the label of its method
    recipe: Recipe  # complete: backbone, size and seed too

    @property
    def name(self) -> str:
        """Of its folder. Complete, so that it stays when backbones, sizes or seeds join."""
        label = re.sub(r"[^\w.=+-]", "_", self.method)
        recipe = self.recipe
        return f"{label}-{recipe.backbone}-{recipe.size}-s{recipe.seed}"


@dataclass(frozen=True)
class Plan:
    """Everything that decides what is trained. A comparison is continued by the same plan or a larger one."""

    data: Path
    cells: tuple[Cell, ...] = ()
    images: Path | None = None
    category: str | None = None

    def written(self) -> dict[str, Any]:
        """As plan.json has it."""
        return {
            "data": str(self.data.resolve()),
            "images": None if self.images is None else str(self.images.resolve()),
            "category": self.category,
            "cells": {cell.name: config.to_dict(cell.recipe) for cell in self.cells},
        }


@dataclass(frozen=True)
class Method:
    """A label and the recipe behind it; backbone, size and seed are still those of the common recipe."""

    label: str
    recipe: Recipe


def methods_of(text: str, common: Recipe, options: Mapping[str, Any], settings: Sequence[str]) -> list[Method]:
    """`--methods`: each with the common recipe, or its own, and the command line's options and `--set`s on top."""
    methods = [_method(entry, common, dict(options), settings) for entry in split_outside_brackets(text)]
    twice = _repeated(method.label for method in methods)
    if twice is not None:
        raise UserError(f"--methods: {twice!r} is there twice; give one of them a label, such as other={twice}")
    return methods


def cells_of(
    methods: Sequence[Method], *, backbones: Sequence[str] = (), sizes: Sequence[Size] = (), seeds: int = 1
) -> tuple[Cell, ...]:
    """All combinations; without backbones or sizes those of each method's recipe. Seeds count up from the recipe's.

    Precision is fp32 where the recipe leaves it to be chosen: what is fastest for one net need not be for another, and
    no method is to be compared with another one's rounding."""
    cells = []
    for method in methods:
        own = method.recipe
        precision = "fp32" if own.precision == "auto" else own.precision
        for backbone in backbones or [own.backbone]:
            for size in sizes or [own.size]:
                recipe = replace(own, backbone=backbone.replace("-", "_"), size=size, precision=precision)
                cells += [Cell(method.label, replace(recipe, seed=own.seed + i)) for i in range(seeds)]
    twice = _repeated(cell.name for cell in cells)
    if twice is not None:
        labels = list(dict.fromkeys(cell.method for cell in cells if cell.name == twice))
        which = " and ".join(map(repr, labels)) + (" give the same folder" if len(labels) > 1 else " comes twice")
        raise UserError(f"--methods, --backbones, --sizes: {which} ({twice}); name each once, or label the methods")
    points = {cell.recipe.points for cell in cells}
    if len(points) > 1:
        raise UserError("--methods: the recipes have different points; give --points, so that all find the same")
    return tuple(cells)


def split_outside_brackets(text: str) -> list[str]:
    """`a,b:x=[1,2],c` -> a | b:x=[1,2] | c."""
    return [part.strip() for part in re.split(r",(?![^\[]*\])", text) if part.strip()]


def sizes_of(text: str | None) -> list[Size]:
    """`128x128,192x256`."""
    try:
        return [Size.parse(part) for part in (text or "").split(",") if part.strip()]
    except ValueError as error:
        raise UserError(f"--sizes: {error}") from None


def fit_arguments(recipe: Recipe) -> list[str]:
    """Options of `fiducial fit` that give exactly this recipe."""
    arguments = ["--method", recipe.method, "--backbone", recipe.backbone, "--size", str(recipe.size)]
    arguments += ["--epochs", str(recipe.epochs), "--batch-size", str(recipe.batch_size), "--seed", str(recipe.seed)]
    own, usual = (config.flat(config.to_dict(each)) for each in (recipe, Recipe()))
    said = ("method", "backbone", "size", "epochs", "batch_size", "seed")
    for name, value in own.items():
        if name not in said and (name not in usual or usual[name] != value):
            arguments += ["--set", f"{name}={_as_setting(value)}"]
    return arguments


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What keeps a plan from continuing a written one: anything but cells that have joined."""
    found = [f"{name} was {then[name]} and is now {now[name]}" for name in ("data", "images", "category")
             if then[name] != now[name]]  # fmt: skip
    for name, recipe in then["cells"].items():
        if name in now["cells"]:
            old, new = config.flat(recipe), config.flat(now["cells"][name])
            found += [
                f"{key} was {_as_setting(old.get(key))} and is now {_as_setting(new.get(key))}"
                for key in dict.fromkeys((*old, *new))
                if old.get(key) != new.get(key)
            ]
    gone = [name for name in then["cells"] if name not in now["cells"]]
    if gone:
        found.append(f"{gone[0]}{f' and {len(gone) - 1} more runs are' if len(gone) > 1 else ' is'} no longer in it")
    return list(dict.fromkeys(found))


def keep(out: Path, plan: Plan) -> None:
    """Writes OUT/plan.json; refused where another plan was begun there, unless this one only adds to it."""
    path, now = out / "plan.json", plan.written()
    if path.exists():
        then = files.read_json(path)
        if not (isinstance(then, dict) and then.keys() >= now.keys() and isinstance(then["cells"], dict)):
            raise UserError(f"{path}: not a plan of `fiducial compare`; give another --out")
        differing = changes(then, now)
        if differing:
            raise UserError(
                f"{out}: holds another comparison: {'; '.join(differing[:5])}. Methods, backbones, sizes and seeds may "
                "be added; for anything else give another --out"
            )
    config.write_json(path, now)


def _method(entry: str, common: Recipe, options: dict[str, Any], settings: Sequence[str]) -> Method:
    label, name, own = _parts(entry)
    if name.startswith("@"):
        base = recipes.load(name[1:])
    else:
        base, options = common, {**options, "method": name}
    own_settings = [f"head.{setting}" for setting in own]
    recipe = recipes.changed(base, options, [*settings, *own_settings])
    if recipes.learns_without_labels(recipe.method):
        raise UserError(
            f"--methods: {recipe.method!r} finds points of its own, whose error against labels there is not. Its runs are "
            "compared by `fiducial evaluate RUN DATA --linear-map`, its students by `fiducial distill --study`"
        )
    return Method(label, recipe)


def _parts(entry: str) -> tuple[str, str, list[str]]:
    """`label=name:a=b` -> label, name, ["a=b"]; a recipe's name is `@file:function`."""
    match = re.fullmatch(
        r"(?:(?P<label>[^=:@]+)=)?(?P<name>@[^=]+?\.py:\w+|[^=:@]+)(?P<settings>(?::[^=:]+=[^:]+)*)", entry
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


def _as_setting(value: Any) -> str:
    """A value as `--set` reads it back: bare text where that is not JSON."""
    if isinstance(value, str) and value not in ("True", "False", "None"):
        try:
            json.loads(value)
        except json.JSONDecodeError:
            return value
    return json.dumps(value)
