"""Where recipes come from: the default, a file's function, a run to be resumed; and what the command line changes."""

from __future__ import annotations

import importlib
import os
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from fiducial import config, files
from fiducial.errors import Failure, UserError, did_you_mean, shown
from fiducial.geometry import Size
from fiducial.models import catalog, outside
from fiducial.training.recipe import Recipe

Kind = TypeVar("Kind", bound=Recipe)
OLDER_SECTIONS = ("motion",)


def default(method: str | None = None, resume_from: Path | None = None) -> Recipe:
    """What a method starts from (None = the usual one), or the recipe of the run that is resumed."""
    if resume_from is not None and (resume_from / "recipe.json").exists():
        return of_run(resume_from)
    method = None if method is None else outside.written(method)
    return Recipe() if method is None else taught_by(method).usual_recipe()


def of_run(out: Path, kind: type[Kind] | None = None) -> Kind:
    """Reads the recipe that a run was begun with, "auto" settled. UserError where the folder holds no run.

    kind: which recipe it is [that of what teaches the run's method]."""
    path = out / "recipe.json"
    if not path.exists():
        raise UserError(out, "no run to resume (no recipe.json). Start it without --resume")
    values = files.read_object(path, "recipe")
    return of_values(values["recipe"], str(path), kind)


def of_values(values: dict[str, Any], path: str, kind: type[Kind] | None = None) -> Kind:
    """Makes the recipe that `path` holds as `values`; `kind` as in `of_run`."""
    if not isinstance(values, dict):
        raise UserError(path, f"recipe: {shown(values)}, expected an object")
    if kind is None:
        kind = kind_of(str(values.get("method", Recipe.method)))  # type: ignore[assignment]
    assert kind is not None
    known = {item.name for item in fields(kind)}
    # Before there were recipes of several kinds, all had each other's sections, at their defaults or null.
    foreign = {
        name for name, value in values.items() if name not in known and (value is None or name in OLDER_SECTIONS)
    }
    return config.from_dict(kind, {name: value for name, value in values.items() if name not in foreign}, path)


def kind_of(method: str) -> type[Recipe]:
    """Tells which recipe a method's runs have; UserError for an unknown method."""
    return type(taught_by(method).usual_recipe())


def taught_by(method: str) -> ModuleType:
    """Imports the module that teaches a method, whose `preparation` begins a run; UserError for an unknown name."""
    return importlib.import_module(catalog.head_module(method).Head.taught_by)


def learns_without_labels(method: str) -> bool:
    """Whether a method is taught by what moves, not by labels; UserError for an unknown name."""
    return bool(catalog.head_module(method).Head.learns_without_labels)


def load(reference: str) -> Recipe:
    """Gives what a function of a file returns, named as `FILE.py:FUNCTION`. Runs that file's code, as importing it
    would."""
    file, colon, function = reference.rpartition(":")
    path = Path(file)
    if not colon or path.suffix != ".py" or not os.path.isfile(path):
        raise UserError(f"--recipe {reference!r}: expected FILE.py:FUNCTION of a file that exists")
    module = outside.of_file(path)
    known = [
        word
        for word, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", "") == module.__name__
    ]
    if function not in known:
        raise UserError(f"--recipe {reference!r}: no function {function!r} there." + did_you_mean(function, known))
    try:
        recipe = getattr(module, function)()
    except Failure:
        raise
    except Exception as error:  # whatever the user's code does
        raise UserError(f"--recipe {reference!r}", f"its function failed: {type(error).__name__}: {error}") from error
    if not isinstance(recipe, Recipe):
        raise UserError(f"--recipe {reference!r}: returned {type(recipe).__name__}, expected a Recipe")
    return replace(recipe, method=outside.written(recipe.method), backbone=outside.written(recipe.backbone))


def changed(recipe: Kind, options: dict[str, Any], settings: list[str]) -> Kind:
    """`recipe` with the command line's options, then its `--set`s. Another method drops the old one's head settings."""
    options = dict(options)
    options |= {name: outside.written(options[name]) for name in ("method", "backbone") if name in options}
    if options.get("method", recipe.method) != recipe.method:
        kind = kind_of(options["method"])
        if not isinstance(recipe, kind):
            recipe = kind(**vars(recipe))  # type: ignore[assignment]  # with the settings of what teaches that method
        recipe = replace(recipe, head={})
    if "lr" in options:
        recipe = replace(recipe, optimizer=replace(recipe.optimizer, lr=_rate(options.pop("lr"))))
    if "size" in options:
        try:
            options["size"] = Size.parse(options["size"])
        except ValueError as error:
            raise UserError(f"--{error}") from None
    if "points" in options:
        options["points"] = _chosen_points(options["points"])
    if options.get("pretrained") not in (None, "here", "auto", "yes", "no"):
        raise UserError(f"--pretrained {options['pretrained']!r}: expected here, auto, yes or no")
    return config.with_settings(replace(recipe, **options), settings)


def _rate(text: str) -> Any:
    try:
        return text if text == "auto" else float(text)
    except ValueError:
        raise UserError(f"--lr {text!r}: expected a number or auto") from None


def _chosen_points(text: str) -> tuple[int | str, ...]:
    """Reads `30,40,45`, `36-47`, `nose,left_eye`, or a mixture of them."""
    points: list[int | str] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            points.append(part)
        elif max(len(first), len(last)) > 6:
            raise UserError(f"--points {text!r}: expected numbers of points, such as 30,40,45 or 36-47, or their names")
        else:
            points += range(int(first), int(last or first) + 1)
    if not points:
        raise UserError(f"--points {text!r}: expected numbers such as 30,40,45, ranges such as 36-47, or names")
    return tuple(points)
