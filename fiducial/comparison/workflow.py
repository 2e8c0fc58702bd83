"""`fiducial compare`: trains what is missing, scores and times everything, writes the page and its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import folders
from fiducial.card import DetectorSpec
from fiducial.comparison import cells, costs, page, results, runs, scores, statistics, train
from fiducial.comparison import methods as entries
from fiducial.comparison.cells import Cell, Plan
from fiducial.comparison.costs import VariantCost
from fiducial.comparison.results import NME, Comparison, Contrast, Labelled, Row
from fiducial.comparison.runs import NAMES, Run, Variant
from fiducial.comparison.scores import Scores
from fiducial.comparison.train import is_finished
from fiducial.data import annotations, loading
from fiducial.data.source import Source
from fiducial.errors import UserError, did_you_mean
from fiducial.evaluation import evaluate, floor
from fiducial.log import logger
from fiducial.models import detector as detectors
from fiducial.training import fit as fitting
from fiducial.training import recipes
from fiducial.training.recipe import Recipe
from fiducial.types import Instances


def plan_of(
    data: Source,
    *,
    methods: str | None,
    backbones: str | None,
    sizes: str | None,
    seeds: int,
    recipe: str | None,
    options: dict[str, Any],
    settings: Sequence[str],
) -> Plan:
    """Makes a plan of the command line's words."""
    if not methods:
        return Plan(data=data)
    common = recipes.load(recipe) if recipe else recipes.default()
    return entries.plan_of(
        data,
        entries.methods_of(methods, common, options, settings),
        backbones=[name.strip() for name in (backbones or "").split(",") if name.strip()],
        sizes=entries.sizes_of(sizes),
        seeds=seeds,
    )


def compare(
    plan: Plan,
    out: Path,
    *,
    others: Sequence[Path] = (),
    split: str = "val",
    baseline: str | None = None,
    jobs: int | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Trains the plan's cells that are not finished, compares them and `others` on `split`, writes OUT/report.html,
    results.csv and results.json; returns what results.json holds, and `files`.

    others: finished run folders and exported files. split: val or test. baseline: the method that differences are to,
    instead of the best. jobs: runs at a time."""
    if not plan.cells and not others:
        raise UserError("nothing to compare: give --methods, or finished runs with --runs")
    beside = runs.other_runs(others, plan.cells, out)
    runs.refuse_unlike(beside, None, str(plan.data))
    data = _data(plan, beside)
    scored = _split(plan, data, split)
    _refuse_other_points(beside, data)
    finished = _finished(plan.cells, out)
    runs.refuse_unlike([*finished.values(), *beside], data.fingerprint, str(plan.data))
    _refuse_unbuildable(plan, data)
    _refuse_unknown_baseline(plan, beside, baseline)
    with folders.alone(out):
        cells.keep(out / "plan.json", plan)
        failures = train.train(plan.cells, out, _outcome, jobs=jobs, progress=progress)
        finished |= _finished([cell for cell in plan.cells if cell.name not in finished], out)
        if not finished and not beside:
            raise train.all_failed(failures)
        runs.refuse_unlike([*finished.values(), *beside], data.fingerprint, str(plan.data))
        planned = runs.of_cells([(cell, finished[cell.name]) for cell in plan.cells if cell.name in finished])
        variants = named([*planned, *runs.of_others(beside, planned)])
        comparison = _comparison(variants, plan, out, data.train, scored, baseline, failures)
        return page.write(comparison, out, plan.cells, results.row_lines(comparison))


def short_table(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Makes a few columns of results.json for the terminal."""
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


def compared(
    variants: Mapping[str, Variant],
    scored: Mapping[str, Scores],
    measured: Mapping[str, VariantCost],
    baseline: str | None = None,
) -> tuple[list[Row], list[Contrast], str]:
    """Makes rows, best first by mean NME, each held against `baseline` (a row's name or a method's label), else against
    the best; and the name of the row that they are held against."""
    rows = [
        Row(name=name, variant=variant, scores=scored[name], cost=measured[name], about=_about(variant))
        for name, variant in variants.items()
    ]
    rows = results.ranked(rows, NME)
    reference = rows[0].name if baseline is None else find_row(baseline, variants)
    against = next(row for row in rows if row.name == reference)
    contrasts = [each for row in rows if row is not against and (each := results.contrast(row, against, NME))]
    fronts = {runtime: _front(rows, runtime) for runtime in NAMES}
    rows = [replace(row, front={name: fronts[name][i] for name in row.cost.latency}) for i, row in enumerate(rows)]
    return rows, contrasts, reference


def find_row(baseline: str, variants: Mapping[str, Variant]) -> str:
    """Gives the name of the row that `--baseline` means."""
    names = rows_of(baseline, variants)
    if len(names) != 1:
        what = "no such method." if not names else f"{len(names)} rows are of this method; name one."
        raise UserError(f"--baseline {baseline!r}: {what}{did_you_mean(baseline, variants)}")
    return names[0]


def rows_of(baseline: str, variants: Mapping[str, Variant]) -> list[str]:
    """Gives the row of this name, else all rows of the method."""
    return [baseline] if baseline in variants else [n for n, variant in variants.items() if baseline == variant.label]


# --------------------------------------------------------------------------------------------- before the training


@dataclass(frozen=True)
class Split:
    """What is scored."""

    name: str
    instances: Instances
    problems: list[str]


def _data(plan: Plan, beside: Sequence[Run]) -> fitting.Data:
    """As the runs learn from it; where there are exported files alone, with the points that these find."""
    known = [cell.recipe for cell in plan.cells] + [run.recipe for run in beside if run.recipe is not None]
    data = fitting.load_data(plan.data, (known or [Recipe()])[0])
    if known:
        return data
    points = beside[0].card.spec.skeleton.points
    train, validation = (evaluate.match_points(part, points, str(plan.data)) for part in (data.train, data.validation))
    return replace(data, train=train, validation=validation)


def _split(plan: Plan, data: fitting.Data, split: str) -> Split:
    """The instances of the split, with those that AP ignores: crowds and what has no labelled point."""
    lines = [str(problem) for problem in data.problems]
    if split == "train":
        raise UserError("--split train: the methods have learnt from it; expected val or test")
    if split == "val":
        whole = data.validation if data.whole_validation is None else data.whole_validation
        return Split(split, evaluate.match_points(whole, data.validation.skeleton.points, str(plan.data)), lines)
    part, problems = annotations.load(plan.data, split, ignored=True)
    part = evaluate.match_points(part, data.validation.skeleton.points, str(plan.data))
    return Split(split, part, list(dict.fromkeys([*lines, *(str(problem) for problem in problems)])))


def _finished(planned: Sequence[Cell], out: Path) -> dict[str, Run]:
    """By the cell's name."""
    folders = {cell.name: out / cell.folder for cell in planned}
    return {name: runs.read(folder, name) for name, folder in folders.items() if is_finished(folder)}


def _refuse_other_points(beside: Sequence[Run], data: fitting.Data) -> None:
    """In words: the fingerprints of the labels would differ too, but not say why."""
    wanted = data.train.skeleton.points
    for run in beside:
        points = run.card.spec.skeleton.points
        if points != wanted:
            raise UserError(
                f"{run.path}: finds {len(points)} points ({', '.join(points[:3])}, ..), the methods here are to find "
                f"{len(wanted)} ({', '.join(wanted[:3])}, ..). Give --points, or leave the run out"
            )


def _refuse_unbuildable(plan: Plan, data: fitting.Data) -> None:
    """A misspelt backbone, or a head that does not fit a size, is said before hours are spent on the others."""
    for recipe in {(c.label, c.recipe.backbone, c.recipe.size): c.recipe for c in plan.cells}.values():
        spec = (recipe.backbone, recipe.method, recipe.head, recipe.size, data.train.skeleton)
        detectors.build(DetectorSpec(*spec, padding=recipe.padding))


def _refuse_unknown_baseline(plan: Plan, beside: Sequence[Run], baseline: str | None) -> None:
    """Before training, too."""
    if baseline is not None:
        kinds = dict.fromkeys((cell.label, cell.recipe.backbone, cell.recipe.size) for cell in plan.cells)
        planned = [Variant(*kind, ()) for kind in kinds]
        find_row(baseline, named([*planned, *runs.of_others(beside, planned)]))


# ---------------------------------------------------------------------------------------------- after the training


def _outcome(val: Mapping[str, float]) -> str:
    return f"val NME {100 * val['nme']:.2f} %"


def _comparison(
    variants: dict[str, Variant],
    plan: Plan,
    out: Path,
    train: Instances,
    split: Split,
    baseline: str | None,
    failures: dict[str, str],
) -> Comparison:
    instances = split.instances
    count = sum(len(variant.runs) for variant in variants.values())
    logger.info(f"scoring {count} runs on the {loading.trainable(instances).sum()} instances of {split.name}")
    predictions = {name: _predictions(variant, instances, out, split.name) for name, variant in variants.items()}
    read = scores.read_by_all(predictions)
    unread = dict.fromkeys(line for of_seeds in predictions.values() for one in of_seeds for line in one.problems)
    instances = instances.select(read)
    scored = {name: scores.score(of_seeds, instances) for name, of_seeds in predictions.items()}
    instances = instances.select(loading.trainable(instances))
    measured = costs.measure(variants, out / "costs.json")
    if baseline is not None and not rows_of(baseline, variants):
        logger.warning(f"--baseline {baseline}: all of its runs failed; the best takes its place")
        baseline = None
    rows, contrasts, reference = compared(variants, scored, measured, baseline)
    trained_by = {row.name: recipe for row in rows if (recipe := row.variant.runs[0].recipe) is not None}
    differing = runs.differing_settings(trained_by)
    problems = [*split.problems, *unread]
    ground = floor.floor_of(instances, train)
    no_better = ground.verdict(results.mean_nme(rows[0]))
    said_first = [] if no_better is None else [f"Even {rows[0].name} is {no_better}."]
    return Comparison(
        title=f"Methods compared on {plan.data.path.name}",
        answer=[*said_first, *results.answer(rows, contrasts, failures, split=split.name, reference=reference)],
        notes=[*_notes(rows, split.name, bool(differing)), f"What an NME stands beside: {ground.beside()}."],
        measures=[NME],
        rows=rows,
        contrasts=contrasts,
        failures=failures,
        problems=problems,
        about={
            "data": str(plan.data),
            "split": split.name,
            "count": len(instances),
            "normalizer": instances.skeleton.normalizer.name,
            "points": list(instances.skeleton.points),
            "floor": ground.as_json(),
            "reference": reference,
            "differing_settings": differing,
        },
        labelled=Labelled(split=split.name, instances=instances, reference=reference, differing=differing),
    )


def _predictions(variant: Variant, instances: Instances, out: Path, split: str) -> list[scores.Predictions]:
    digest = scores.digest_of(instances)
    caches = {run.name: out / "predictions" / f"{run.name}.{split}.npz" for run in variant.runs}
    return [scores.predict(run, instances, digest, caches[run.name]) for run in variant.runs]


def _about(variant: Variant) -> dict[str, Any]:
    export = variant.runs[0].export
    exported = None if export is None else {"runtime": export.runtime, "precision": export.precision}
    return {"method": variant.label, "exported": exported}


def _notes(rows: Sequence[Row], split: str, differing: bool) -> list[str]:
    lines = []
    if split == "val":
        lines.append(
            "val also chose the best epoch of each run, which flatters all figures here a little; --split test says "
            "what to expect of new images."
        )
    if differing:
        lines.append("The recipes differ in more than the method; in what, is listed under Differences.")
    exported = [row.name for row in rows if row.variant.runs[0].export is not None]
    if exported:
        lines.append(
            f"{', '.join(exported)}: exported, scored and timed in that runtime alone. A file holds neither its recipe nor "
            "what it learnt from, so that only its points and how many instances it learnt from were checked."
        )
    errors = {latency.error for row in rows for latency in row.cost.latency.values() if latency.error}
    lines += [f"Not measured: {error}" for error in sorted(errors)]
    outside = [row.name for row in rows if any(own.decode == "outside" for own in row.cost.latency.values())]
    if outside:
        lines.append(
            f"The decoder of {', '.join(outside)} has no form in ONNX yet: there the time is that of the network in "
            "ONNX Runtime and of the decoder in PyTorch, added."
        )
    return lines


def _front(rows: Sequence[Row], runtime: str) -> list[bool]:
    milliseconds = np.array([row.milliseconds(runtime) for row in rows])
    errors = np.array([results.mean_nme(row) for row in rows]) / statistics.ROUNDING
    return statistics.pareto_front(errors.round(), milliseconds).tolist()


def _rounded(value: float | None, factor: float = 1.0, sign: str = "") -> str:
    return "-" if value is None else f"{factor * value:{sign}.2f}"
