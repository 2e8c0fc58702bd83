"""The cells of a comparison: each is one run with a recipe of its own, which one command of ours trains.

OUT/plan.json            what is trained; a comparison is continued by the same plan or a larger one
OUT/runs/<cell>/         the run folder that the cell's command makes
OUT/runs/<cell>/log.txt  what the command said, all attempts one after the other"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from fiducial import config, files
from fiducial.data.source import Source
from fiducial.distillation import DistillationRecipe
from fiducial.errors import UserError
from fiducial.training import recipes
from fiducial.training.recipe import Recipe

# Settings that have an option of their own.
OPTIONS = {"method": "--method", "size": "--size", "epochs": "--epochs", "batch_size": "--batch-size", "seed": "--seed"}
SOURCE = ("data", "images", "category")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of a comparison."""

    label: str  # what it is one seed of: a method, or a loss and where the weights come from
    recipe: Any  # complete: backbone, size and seed too; which kind, its command says
    folder: str  # in the comparison's, `runs/NAME`; it stays when further cells join
    command: tuple[str, ...]  # what trains it, after `fiducial` and without --out

    @property
    def name(self) -> str:
        """Names the cell uniquely, as its folder does."""
        return PurePosixPath(self.folder).name

    def typed(self, out: Path) -> str:
        """Gives the command as it can be typed."""
        return typed([*self.command, "--out", str(out / self.folder)])


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that decides what is trained."""

    data: Source
    cells: tuple[Cell, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)  # what else must stay as it is; None may become something
    what: str = "comparison"  # of which it is the plan, in words
    file: str = "plan.json"  # where it is kept
    all_stay: bool = True  # cells of the file may not be missing from the plan; else they stay in the file

    def written(self) -> dict[str, Any]:
        """Gives the plan as its file has it."""
        return {
            "data": str(self.data.path.resolve()),
            "images": None if self.data.images is None else str(self.data.images.resolve()),
            "category": self.data.category,
            **self.fixed,
            "cells": {cell.name: config.to_dict(cell.recipe) for cell in self.cells},
        }


def typed(arguments: Sequence[str]) -> str:
    """Writes a command of ours as it can be typed."""
    return shlex.join(["fiducial", *arguments])


def recipe_arguments(recipe: Recipe, usual: Recipe) -> list[str]:
    """Gives the options of a command that lead to exactly this recipe.

    usual: what the command's other arguments lead to already; only what differs from it is a `--set`."""
    chosen, assumed = (config.flat(config.to_dict(each)) for each in (recipe, usual))
    arguments = [part for name, option in OPTIONS.items() for part in (option, str(getattr(recipe, name)))]
    for name, value in chosen.items():
        if name not in OPTIONS and (name not in assumed or assumed[name] != value):
            arguments += ["--set", f"{name}={config.as_setting(value)}"]
    return arguments


def keep(out: Path, plan: Plan) -> None:
    """Writes the plan's file; UserError where another plan was begun there, unless this one only adds to it."""
    path, now = out / plan.file, plan.written()
    if path.exists():
        then = files.read_json(path)
        if not (isinstance(then, dict) and then.keys() >= now.keys() and isinstance(then["cells"], dict)):
            raise UserError(f"{path}: not the plan of a {plan.what}; give another --out")
        with files.ours(path):
            differing = changes(then, now, str(path), all_stay=plan.all_stay)
        if differing:
            raise UserError(
                f"{out}: holds another {plan.what}: {'; '.join(differing[:5])}. What is compared and seeds may be "
                "added; for anything else give another --out"
            )
        now["cells"] = then["cells"] | now["cells"]
    config.write_json(path, now)


def recipe_of(values: dict[str, Any], path: str) -> Recipe:
    """Makes the recipe that a file holds: a student's where it says how a teacher is followed."""
    return recipes.of_values(values, path, DistillationRecipe if values.get("distillation") else None)


def changes(then: Mapping[str, Any], now: Mapping[str, Any], path: str, *, all_stay: bool = True) -> list[str]:
    """Lists what keeps a plan from continuing a written one, each change once: all but cells that have joined."""
    differing = [
        f"{name} was {then[name]} and is now {now[name]}"
        for name in now
        if name != "cells" and then[name] != now[name] and not (then[name] is None and name not in SOURCE)
    ]
    for name in then["cells"].keys() & now["cells"].keys():
        recipe = recipe_of(then["cells"][name], path)  # has what later versions added, too
        old, new = config.flat(config.to_dict(recipe)), config.flat(now["cells"][name])
        differing += [
            f"{key} was {config.as_setting(old.get(key))} and is now {config.as_setting(new.get(key))}"
            for key in dict.fromkeys((*old, *new))
            if old.get(key) != new.get(key) and not (key == "init" and _same_path(old.get(key), new.get(key)))
        ]
    gone = [name for name in then["cells"] if name not in now["cells"]]
    if gone and all_stay:
        more = f" and {len(gone) - 1} more runs are" if len(gone) > 1 else " is"
        differing.append(f"{gone[0]}{more} no longer in it")
    return list(dict.fromkeys(differing))


def _same_path(first: str | None, second: str | None) -> bool:
    return first is not None and second is not None and Path(first).resolve() == Path(second).resolve()
