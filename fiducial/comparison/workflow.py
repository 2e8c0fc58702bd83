"""`fiducial compare`: trains what is missing, scores and times everything, writes the page and its figures."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import config, files
from fiducial.card import DetectorSpec
from fiducial.comparison import costs, page, processes, results, run, runs, scores
from fiducial.comparison import plan as plans
from fiducial.comparison.plan import Cell, Plan
from fiducial.comparison.results import Comparison
from fiducial.comparison.runs import Run, Variant
from fiducial.data import annotations
from fiducial.errors import UserError
from fiducial.evaluation import evaluate
from fiducial.models import detector as detectors
from fiducial.report.page import write_page
from fiducial.training import fit as fitting
from fiducial.training import recipes
from fiducial.training.recipe import Recipe
from fiducial.training.watch import TrainingFailure
from fiducial.types import Instances

Echo = Callable[[str], None]


def compare(
    plan: Plan, out: Path, *, others: Sequence[Path] = (), split: str = "val", baseline: str | None = None,
    jobs: int | None = None, progress: bool = False, echo: Echo = print,
) -> dict[str, Any]:  # fmt: skip
    """Trains the plan's cells that are not finished, compares them and `others` on `split`, writes OUT/report.html,
    results.csv and results.json; returns what results.json holds, and `files`."""
    if not plan.cells and not others:
        raise UserError("nothing to compare: give --methods, or finished runs with --runs")
    given = runs.other_runs(others, [])
    runs.refuse_unlike(given, None, str(plan.data))
    data = _data(plan, given)
    scored = _split(plan, data, split)
    _refuse_other_points(given, data)
    runs.refuse_unlike([*(each for _, each in _finished(plan, out)), *given], data.fingerprint, str(plan.data))
    _refuse_unbuildable(plan, data)
    _refuse_unknown_baseline(plan, given, baseline)
    with processes.alone(out):
        plans.keep(out, plan)
        failures = run.train(plan, out, jobs=jobs, progress=progress, echo=echo)
        return _write(_comparison(plan, data, out, others, scored, baseline, failures, echo), plan, out)


@dataclass(frozen=True)
class Split:
    """What is scored."""

    name: str
    instances: Instances
    problems: list[str]


def _data(plan: Plan, given: Sequence[Run]) -> fitting.Data:
    """As the runs learn from it; where there are exported files alone, with the points that these find."""
    recipes = [cell.recipe for cell in plan.cells] + [run.recipe for run in given if run.recipe is not None]
    data = fitting.load_data(plan.data, (recipes or [Recipe()])[0], images=plan.images, category=plan.category)
    if recipes:
        return data
    wanted = given[0].card.spec.skeleton.points
    train, validation = (evaluate.match_points(part, wanted, str(plan.data)) for part in (data.train, data.validation))
    return replace(data, train=train, validation=validation)


def _finished(plan: Plan, out: Path) -> list[tuple[Cell, Run]]:
    folders = [(cell, run.folder_of(out, cell)) for cell in plan.cells]
    return [(cell, runs.read(folder, cell.name)) for cell, folder in folders if run.is_finished(folder)]


def _refuse_other_points(given: Sequence[Run], data: fitting.Data) -> None:
    """In words: the fingerprints of the labels would differ too, but not say why."""
    wanted = data.train.skeleton.points
    for each in given:
        found = each.card.spec.skeleton.points
        if found != wanted:
            raise UserError(
                f"{each.path}: finds {len(found)} points ({', '.join(found[:3])}, ..), the methods here are to find "
                f"{len(wanted)} ({', '.join(wanted[:3])}, ..). Give --points, or leave the run out"
            )


def _refuse_unbuildable(plan: Plan, data: fitting.Data) -> None:
    """A misspelt backbone, or a head that does not fit a size, is said before hours are spent on the others."""
    tried = set()
    for cell in plan.cells:
        recipe = cell.recipe
        kind = cell.name.rpartition("-s")[0]
        if kind not in tried:
            tried.add(kind)
            spec = DetectorSpec(
                recipe.backbone, recipe.method, recipe.head, recipe.size, data.train.skeleton, padding=recipe.padding
            )
            detectors.build(spec)


def _refuse_unknown_baseline(plan: Plan, others: Sequence[Run], baseline: str | None) -> None:
    """Before training, too."""
    if baseline is not None:
        kinds = dict.fromkeys((cell.method, cell.recipe.backbone, cell.recipe.size) for cell in plan.cells)
        planned = [Variant(*kind, ()) for kind in kinds] + runs.variants_of([], others)
        results.find_row(baseline, dict(zip(results.names_of(planned), planned, strict=True)))


def _comparison(
    plan: Plan, data: fitting.Data, out: Path, others: Sequence[Path], split: Split, baseline: str | None,
    failures: dict[str, str], echo: Echo,
) -> Comparison:  # fmt: skip
    own = _finished(plan, out)
    given = runs.other_runs(others, [each for _, each in own])
    every = [*(each for _, each in own), *given]
    if not every:
        first = next(iter(failures.items()))
        raise TrainingFailure(f"all {len(failures)} runs failed; {first[0]}: {first[1]}")
    runs.refuse_unlike(every, data.fingerprint, str(plan.data))
    variants = runs.variants_of(own, given)
    named = dict(zip(results.names_of(variants), variants, strict=True))
    instances = split.instances
    echo(f"scoring {len(every)} runs on the {len(instances)} instances of {split.name}")
    found = {name: _predictions(variant, instances, out, split.name) for name, variant in named.items()}
    read = scores.read_by_all(list(found.values()), list(found))
    problems = split.problems + list(
        dict.fromkeys(line for own in found.values() for each in own for line in each.problems)
    )
    instances = instances.select(np.isin(instances.annotation_id, read))
    scored = {name: scores.score(named[name], own, instances) for name, own in found.items()}
    measured = costs.measure(named, out / "costs.json", echo)
    if baseline is not None and not results.rows_of(baseline, named):
        echo(f"--baseline {baseline}: all of its runs failed; the best takes its place")
        baseline = None
    return results.compare(
        named, scored, measured, data=str(plan.data), split=split.name, instances=instances, baseline=baseline,
        failures=failures, problems=problems,
    )  # fmt: skip


def _split(plan: Plan, data: fitting.Data, split: str) -> Split:
    """The instances of the split that have a labelled point, crowds left out; those of val are training's own."""
    lines = [str(problem) for problem in data.problems]
    if split == "train":
        raise UserError("--split train: the methods have learnt from it; expected val or test")
    if split == "val":
        return Split(split, data.validation, lines)
    part, problems = annotations.load(plan.data, split, plan.images, category=plan.category)
    part = evaluate.match_points(part, data.validation.skeleton.points, str(plan.data))
    part = part.select(part.labelled.any(1) & ~part.crowd)
    return Split(split, part, list(dict.fromkeys([*lines, *(str(problem) for problem in problems)])))


def _predictions(variant: Variant, instances: Instances, out: Path, split: str) -> list[scores.Predictions]:
    digest = scores.digest_of(instances)
    return [
        scores.predict(each, instances, digest, out / "predictions" / f"{each.name}.{split}.npz")
        for each in variant.runs
    ]


def _write(comparison: Comparison, plan: Plan, out: Path) -> dict[str, Any]:
    commands = [shlex.join(run.command_of(plan, cell, out)) for cell in plan.cells]
    figures = results.as_json(comparison)
    config.write_json(out / "results.json", figures)
    files.write_text(out / "results.csv", results.as_csv(comparison))
    written = {
        "report": write_page(out / "report.html", page.page_of(comparison, commands)),
        "table": out / "results.csv",
        "figures": out / "results.json",
    }
    return {**figures, "files": {name: str(path) for name, path in written.items()}}


def plan_of(
    data: Path, *, methods: str | None, backbones: str | None, sizes: str | None, seeds: int, recipe: str | None,
    options: dict[str, Any], settings: Sequence[str], images: Path | None = None, category: str | None = None,
) -> Plan:  # fmt: skip
    """The command line's words as a plan."""
    if not methods:
        return Plan(data, (), images, category)
    common = recipes.load(recipe) if recipe else recipes.default()
    entries = plans.methods_of(methods, common, options, settings)
    cells = plans.cells_of(
        entries,
        backbones=[name.strip() for name in (backbones or "").split(",") if name.strip()],
        sizes=plans.sizes_of(sizes),
        seeds=seeds,
    )
    return Plan(data, cells, images, category)


def short_table(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """A few columns of results.json for the terminal."""
    return [
        {
            "": row["name"],
            "NME %": _rounded(row["nme"]["mean"], 100),
            "difference": "reference" if row["difference"] is None else _rounded(row["difference"]["mean"], 100, "+"),
            "within noise": "" if row["difference"] is None else "yes" if row["difference"]["within_noise"] else "no",
            **{f"ms {name}": _rounded(row["latency"].get(name, {}).get("ms")) for name in figures["runtimes"]},
            "seeds": len(row["runs"]),
        }
        for row in figures["rows"]
    ]


def _rounded(value: float | None, factor: float = 1.0, sign: str = "") -> str:
    return "-" if value is None else f"{factor * value:{sign}.2f}"
