"""Finished runs, and files exported from them, as the variants they are of, and whether they may be compared: same data,
split, points, skeleton."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fiducial import config, files
from fiducial.card import Card
from fiducial.comparison.cells import Cell, recipe_of
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.models import detector as detectors
from fiducial.runtime import runtime
from fiducial.runtime.export_card import ExportCard
from fiducial.training import history
from fiducial.training.recipe import Recipe

# Settings of a recipe in which two runs of one method may differ: they change neither what is learnt nor how well.
ASIDE = ("seed", "workers", "memory_format", "preflight", "strict")
NAMES = runtime.titles()  # of runtimes, as people know them, in the order in which they are shown


@dataclass(frozen=True)
class Run:
    """A finished run folder; or a file that was exported from one, which holds neither its recipe nor what it learnt
    from."""

    name: str  # unique in the comparison
    path: Path
    card: Card
    recipe: Recipe | None  # as trained, "auto" resolved
    fingerprint: str | None  # of the labels that it was trained and chosen on
    export: ExportCard | None = None  # of an exported file

    @property
    def seed(self) -> int | None:
        return self.card.metrics.get("seed") if self.recipe is None else self.recipe.seed

    @property
    def digest(self) -> str:
        """Changes with the weights and with everything that decides what they find."""
        own = [self.path / "model.json", self.path / "model.safetensors"]
        return files.digest(_blocks(runtime.files_of(self.path) if self.export else own))

    def history(self) -> list[dict[str, float]]:
        """Rows of each epoch; none of an exported file."""
        return [] if self.export else history.read(self.path / "history.csv")


@dataclass(frozen=True)
class Variant:
    """What a row of the table is of: runs that differ in their seeds alone."""

    label: str  # its method, or its loss and where the weights come from
    backbone: str
    size: Size
    runs: tuple[Run, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.seed for run in self.runs if run.seed is not None)

    @property
    def training_seconds(self) -> float | None:
        """Of all epochs with their validation, mean over the runs; None where no run has a history."""
        seconds = [sum(row.get("seconds", 0.0) for row in run.history()) for run in self.runs if run.history()]
        return sum(seconds) / len(seconds) if seconds else None


def _blocks(paths: Sequence[Path]) -> Iterator[bytes]:
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                yield block


def read(folder: Path, name: str | None = None) -> Run:
    """Reads a run folder, or a file of `fiducial export`."""
    folder = runtime.resolved(folder)
    export = runtime.export_of(folder)
    if export is not None:
        return Run(name or folder.name, folder, export.card, None, None, export)
    path = folder / "recipe.json"
    if not path.exists():
        raise UserError(
            f"{folder}: no run here (no recipe.json). Give folders that `fiducial fit --out` made, or files of "
            "`fiducial export`"
        )
    if not (folder / "model.safetensors").exists():
        raise UserError(f"{folder}: its weights, model.safetensors, are missing; train it again or leave it out")
    card, values = detectors.load_card(folder), files.read_object(path, "recipe", "data")
    with files.ours(path):
        return Run(name or folder.name, folder, card, recipe_of(values["recipe"], str(path)), str(values["data"]))


def of_cells(cells: Sequence[Cell], finished: Mapping[str, Run]) -> list[Variant]:
    """Groups the finished runs of a plan by label, backbone and size, in the plan's order. finished: by cells' names."""
    groups: dict[tuple[str, str, Size], list[Run]] = {}
    for cell in cells:
        if cell.name in finished:
            kind = (cell.label, cell.recipe.backbone, cell.recipe.size)
            groups.setdefault(kind, []).append(finished[cell.name])
    return [Variant(*kind, tuple(runs)) for kind, runs in groups.items()]


def of_others(others: Sequence[Run], planned: Sequence[Variant]) -> list[Variant]:
    """Groups other runs, those together whose recipes differ in nothing but the seed.

    They are named by their (first) folder without its seed; exported files, each a variant, by folder and runtime.
    planned: variants whose labels are taken."""
    groups: list[list[Run]] = []
    for run in others:
        same = next((group for group in groups if _are_seeds([*group, run])), None)
        groups.append([run]) if same is None else same.append(run)
    variants, taken = [], {variant.label for variant in planned}
    for group in groups:
        first, spec = group[0], group[0].card.spec
        label = _label(first)
        label = label if label not in taken else f"{first.path.parent.name}/{first.name}"
        taken.add(label)
        variants.append(Variant(label, spec.backbone, spec.size, tuple(group)))
    return variants


def _label(run: Run) -> str:
    """`rle` of the folders `rle-s1`, `rle_seed1` where 1 is the run's seed; else the folder's name. Of an exported file
    `shipped (OpenVINO int8)`: its folder's name, or its own where that is not `model`, runtime, precision if not fp32."""
    if run.export is None:
        return re.sub(rf"[-_.]s(eed)?[-_=]?{run.seed}$", "", run.name) or run.name
    own = run.path.name.partition(".")[0]
    precision = "" if run.export.precision == "fp32" else f" {run.export.precision}"
    return f"{run.path.resolve().parent.name if own == 'model' else own} ({NAMES[run.export.runtime]}{precision})"


def named(variants: Sequence[Variant]) -> dict[str, Variant]:
    """Gives variants by a name for each row: its label, with backbone and size where these differ."""
    several_backbones = len({variant.backbone for variant in variants}) > 1
    several_sizes = len({variant.size for variant in variants}) > 1
    by_name: dict[str, Variant] = {}
    for variant in variants:
        parts = [variant.label]
        parts += [variant.backbone] if several_backbones else []
        parts += [str(variant.size)] if several_sizes else []
        name = " ".join(parts)
        by_name[name if name not in by_name else f"{name} ({variant.runs[0].path})"] = variant
    return by_name


def other_runs(folders: Sequence[Path], cells: Sequence[Cell], out: Path) -> list[Run]:
    """Reads `--runs`, each once and with a name of its own; those that the plan trains are left out."""
    seen = {(out / cell.folder).resolve() for cell in cells}
    names = {cell.name for cell in cells}
    others = []
    for folder in folders:
        if folder.resolve() in seen:
            continue
        seen.add(folder.resolve())
        name = folder.resolve().name
        if name in names:
            name = f"{folder.resolve().parent.name}_{name}"
        names.add(name)
        others.append(read(folder, name))
    return others


def refuse_unlike(runs: Sequence[Run], fingerprint: str | None, data: str) -> None:
    """UserError naming what differs where runs can't be compared with each other, or were not trained on `data`. What an
    exported file does not say does not differ.

    fingerprint: of the data as they are now; None = not known."""
    if not runs:
        return
    lines = []
    for what, value_of in FACTS.items():
        values: dict[str, list[str]] = {}
        for run in runs:
            if (value := value_of(run)) is not None:
                values.setdefault(value, []).append(run.name)
        if len(values) > 1:
            lines.append(f"{what}: " + ", ".join(f"{_names(names)} {value}" for value, names in values.items()))
    if lines:
        raise UserError(f"these runs can't be compared, they differ in {'; '.join(lines)}. Leave some out of --runs")
    known = [run for run in runs if run.fingerprint is not None]
    if fingerprint is not None and known and known[0].fingerprint != fingerprint:
        raise UserError(
            f"{data}: its labels are not those that {_names([run.name for run in known])} learnt from (fingerprint now "
            f"{fingerprint}, then {known[0].fingerprint}). Give the data as they were, or train anew with another --out"
        )


def _skeleton(run: Run) -> str:
    """A short form of what decides the figures."""
    skeleton = run.card.spec.skeleton
    rest = hashlib.sha256(repr((skeleton.points, skeleton.sigmas)).encode()).hexdigest()[:6]
    return f"{skeleton.name!r} ({rest}) with errors over the {skeleton.normalizer.name}"


def _points(run: Run) -> str:
    points = run.card.spec.skeleton.points
    return f"{len(points)} ({', '.join(points[:3])}{', ..' if len(points) > 3 else ''})"


def _trained_on(run: Run) -> str | None:
    count = run.card.metrics.get("train_instances")
    return None if count is None else str(count)


# What runs must have in common; None = a run does not say.
FACTS: dict[str, Callable[[Run], str | None]] = {
    "points": _points,
    "skeleton": _skeleton,
    "data (fingerprint of train's and val's labels)": lambda run: run.fingerprint,
    "instances to train on": _trained_on,
}


def differing_settings(variants: Mapping[str, Recipe]) -> dict[str, dict[str, Any]]:
    """Settings besides method, head, backbone, size and seed in which the recipes of variants (name -> recipe) differ:
    setting -> variant -> value."""
    settings = {name: config.flat(config.to_dict(replace(recipe, head={}))) for name, recipe in variants.items()}
    aside = (*ASIDE, "method", "backbone", "size")
    names = dict.fromkeys(key for own in settings.values() for key in own if key not in aside)
    rows = {key: {name: own.get(key) for name, own in settings.items()} for key in names}
    return {key: row for key, row in rows.items() if len({repr(value) for value in row.values()}) > 1}


def _are_seeds(group: Sequence[Run]) -> bool:
    """Equal recipes but for the seed, and each seed once."""
    if any(run.export for run in group):
        return False
    recipes = [{key: value for key, value in config.to_dict(run.recipe).items() if key not in ASIDE} for run in group]
    seeds = {run.seed for run in group}
    return len(seeds) == len(group) and all(recipe == recipes[0] for recipe in recipes)


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
