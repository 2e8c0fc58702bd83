"""Judges methods by labels: NME of the same instances and boxes, beside what each method costs and the mean shape."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

import numpy as np

from fiducial.comparison import costs, galleries, page, runs, statistics, table
from fiducial.comparison.costs import VariantCost
from fiducial.comparison.runs import NAMES
from fiducial.comparison.scores import JITTERS
from fiducial.comparison.table import NME, Comparison, Contrast, Row
from fiducial.data import groups
from fiducial.errors import counted
from fiducial.evaluation import floor
from fiducial.evaluation.floor import Floor
from fiducial.profiling.machine import processor
from fiducial.report import charts
from fiducial.report.charts import Curve, Dot, scatter
from fiducial.report.page import MOST_OPEN, Figure, Section, Table, gallery_sections
from fiducial.report.plot import Chart
from fiducial.runtime.cost import Cost
from fiducial.types import Instances

HARDEST = 24  # points of the table that is not folded
SERIES = 3  # so many images whose names differ in a number alone are taken for a series


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Rows that were scored on a split, and what they stand beside."""

    rows: Sequence[Row]  # best first
    shape: Row  # the mean shape
    reference: str  # name of the row that the others are held against
    contrasts: Sequence[Contrast]  # of the others to it
    worthless: Sequence[str]  # names of rows that are not better than the mean shape, beyond noise
    split: str
    instances: Instances  # [n]
    floor: Floor


def scored(rows: Sequence[Row], reference: str | None, instances: Instances, train: Instances, split: str) -> Scored:
    """Ranks rows, holds each against `reference` (None = the best) and against the mean shape of `train`, and finds those
    that are worth their milliseconds."""
    rows = table.ranked(rows, NME)
    against = next((row for row in rows if row.name == reference), rows[0])
    contrasts = [one for row in rows if row is not against and (one := table.contrast(row, against, NME))]
    ground = floor.floor_of(instances, train)
    errors = floor.shape_errors(instances, floor.mean_shape(train))
    nothing = VariantCost(Cost(None, None, 0), {})
    shape = Row(name=f"mean shape of {ground.of}", variant=None, errors={NME.name: errors[None]}, cost=nothing)
    to_shape = [one for row in rows if (one := table.contrast(row, shape, NME))]
    worthless = [one.name for one in to_shape if one.difference.mean >= 0 or one.difference.within_noise]
    fronts = {runtime: _front(rows, worthless, runtime) for runtime in NAMES}
    rows = [replace(row, front={name: fronts[name][i] for name in row.cost.latency}) for i, row in enumerate(rows)]
    return Scored(
        rows=rows,
        shape=shape,
        reference=against.name,
        contrasts=contrasts,
        worthless=worthless,
        split=split,
        instances=instances,
        floor=ground,
    )


def comparison_of(of: Scored, data: str, failures: Mapping[str, str], problems: Sequence[str]) -> Comparison:
    """Makes the comparison of methods, with its words, columns, charts and pictures."""
    rows, instances = of.rows, of.instances
    variants = {row.name: row.variant for row in rows if row.variant is not None}
    recipes = {name: variant.runs[0].recipe for name, variant in variants.items()}
    differing = runs.differing_settings({name: recipe for name, recipe in recipes.items() if recipe is not None})
    skeleton = instances.skeleton
    first = next(iter(variants.values())).runs[0]
    return Comparison(
        title=f"Methods compared on {PurePath(data).name}",
        answer=answer(of, failures),
        notes=_notes(of, bool(differing)),
        measures=[NME],
        rows=rows,
        contrasts=of.contrasts,
        failures=failures,
        problems=problems,
        about={
            "data": data,
            "split": of.split,
            "count": len(instances),
            "normalizer": skeleton.normalizer.name,
            "points": list(skeleton.points),
            "floor": of.floor.as_json(),
            "no_better_than_floor": list(of.worthless),
            "reference": of.reference,
            "differing_settings": differing,
        },
        lines=_lines(of),
        reference=of.reference,
        beside=[of.shape],
        scored_on=of.split,
        column_note="Milliseconds and memory of one thread, * = nothing is as accurate and quicker.",
        charts=[*_against_time(rows), *_errors(rows)],
        curves=[("val/nme", "Error against the labels", NME.title, NME.factor)],
        evidence=[
            *gallery_sections([galleries.worst_of_each(rows, instances), galleries.disagreements(rows, instances)]),
            Section("Points", point_tables(rows, skeleton.points)),
        ],
        settings=_settings(list(variants), differing),
        measured=_measured(),
        data={
            "data": data,
            "split": of.split,
            "instances scored": len(instances),
            "instances to train on": first.card.metrics.get("train_instances"),
            "points": len(skeleton.points),
            "errors are over": skeleton.normalizer.name,
        },
    )


def _front(rows: Sequence[Row], worthless: Sequence[str], runtime: str) -> list[bool]:
    """What is as good as the mean shape is as quick as it, too: it is on no front."""
    milliseconds = np.array([row.cost.milliseconds(runtime) for row in rows])
    errors = np.array([math.nan if row.name in worthless else row.mean(NME) for row in rows]) / statistics.ROUNDING
    return statistics.pareto_front(errors.round(), milliseconds).tolist()


# ------------------------------------------------------------------------------------------------------- in words


def answer(of: Scored, failures: Mapping[str, str]) -> list[str]:
    """Says which method is best, which can't be told from it, which is best within some milliseconds: sentences. What is
    no better than the mean shape stands first."""
    rows = of.rows
    lines = [*_no_better(of), f"Most accurate on {of.split}: {rows[0].name}, NME {_nme(rows[0])}.", *_noise(of)]
    lines += [line for runtime in table.runtimes_of(rows) if (line := _quickest(rows, runtime))]
    single = [row.name for row in rows if len(row.errors[NME.name]) == 1]
    if single and len(rows) > 1:
        who = "All methods have" if len(single) == len(rows) else f"{_list(single)} {_verb(single, 'has', 'have')}"
        lines.append(
            f"{who} one seed: how much training again with another one changes the figures has not been measured. "
            "--seeds 3 measures it."
        )
    if failures:
        count = len(failures)
        lines.append(f"{count} of the runs failed and {'is' if count == 1 else 'are'} missing here; why is said below.")
    return lines


def _no_better(of: Scored) -> list[str]:
    best, names = of.rows[0], of.worthless
    if not names:
        return []
    if best.name not in names:
        words = (
            f"not better by more than noise than the {of.shape.name} (NME {_nme(of.shape)}), which looks at no image"
        )
        return [f"{_list(names)} {_verb(names, 'is', 'are')} {words}: recommended for no budget."]
    shape = f"the {of.shape.name}, which looks at no image,"
    hardly = f"no better than its floor by more than noise: NME {_nme(best)}, where {shape} has {_nme(of.shape)}"
    return [f"Even {best.name} is {of.floor.verdict(best.mean(NME), NME.in_unit) or hardly}."]


def _noise(of: Scored) -> list[str]:
    means = {row.name: row.mean(NME) for row in of.rows}
    whom = "it" if of.reference == of.rows[0].name else of.reference
    alike = [one.name for one in of.contrasts if one.difference.within_noise]
    apart = [one.name for one in of.contrasts if not one.difference.within_noise]
    better = [name for name in apart if means[name] < means[of.reference]]
    worse = [name for name in apart if name not in better]
    lines = []
    if alike:
        lines.append(f"{_list(alike)} can't be told from {whom}: the difference is within noise.")
    for names, word in ((better, "more"), (worse, "less")):
        if names:
            lines.append(f"{_list(names)} {_verb(names, 'is', 'are')} {word} accurate than {whom} beyond noise.")
    return lines


def _quickest(rows: Sequence[Row], runtime: str) -> str:
    """The front as budgets."""
    front = [row for row in rows if row.front.get(runtime)]
    if not front:
        return ""
    front.sort(key=lambda row: row.cost.milliseconds(runtime))
    where = f"On {NAMES[runtime]}, one thread, one image at a time: "
    if len(front) == 1 and len(rows) > 1 and front[0] is rows[0]:
        return f"{where}{front[0].name} is the quickest too, {front[0].cost.milliseconds(runtime):.2f} ms."
    parts = [f"within {row.cost.milliseconds(runtime):.2f} ms {row.name} ({_nme(row)})" for row in front]
    return f"{where}best {_list(parts)}."


def _notes(of: Scored, differing: bool) -> list[str]:
    rows = of.rows
    lines = [*_no_better(of), f"What an NME stands beside: {of.floor.beside(NME.in_unit)}."]
    if of.split == "val":
        lines.append(
            "val also chose the best epoch of each run, which flatters all figures here a little; --split test says "
            "what to expect of new images."
        )
    drawn = groups.groups_of(of.instances)
    if drawn.what == "images":
        lines += series_note([of.instances.images.name(row) for row in np.unique(of.instances.image_row).tolist()])
    else:
        lines.append(f"Intervals are of {drawn.count} {drawn.what}, drawn anew as a whole.")
    if differing:
        lines.append("The recipes differ in more than the method; in what, is listed under Differences.")
    exported = [row.name for row in rows if row.about["exported"] is not None]
    if exported:
        lines.append(
            f"{', '.join(exported)}: exported, scored and timed in that runtime alone. A file holds neither its recipe nor "
            "what it learnt from, so that only its points and how many instances it learnt from were checked."
        )
    errors = {latency.error for row in rows for latency in row.cost.latency.values() if latency.error}
    lines += [f"Not measured: {error}" for error in sorted(errors)]
    outside = [row.name for row in rows if any(one.decode == "outside" for one in row.cost.latency.values())]
    if outside:
        lines.append(
            f"The decoder of {', '.join(outside)} has no form in ONNX yet: there the time is that of the network in "
            "ONNX Runtime and of the decoder in PyTorch, added."
        )
    return lines


def series_note(names: Sequence[str]) -> list[str]:
    """Warns of intervals that take frames of one video for independent images, where the images' names look so."""
    # a/clip_012.jpg -> a/clip_; the name must have a letter, or a folder that is not the only one.
    folders = {str(PurePath(name).parent) for name in names}
    stems = [re.sub(r"\d+$", "", PurePath(name).stem) for name in names]
    series = Counter(
        (str(PurePath(name).parent), stem)
        for name, stem in zip(names, stems, strict=True)
        if len(folders) > 1 or re.search("[^\\W\\d_]", stem)
    )
    large = [count for count in series.values() if count >= SERIES]
    if not large or 2 * sum(large) < len(names):
        return []
    return [
        f"{sum(large)} of the {len(names)} images are numbered in {len(large)} series by their names. If these are frames of "
        "videos, frames of one are alike, and the intervals, which take all images as independent, are too narrow."
    ]


def _measured() -> list[str]:
    threads = counted(costs.THREADS, "thread")
    return [
        f"Milliseconds: {processor()}, {threads}, bound to a core, one uint8 crop in, points out, normalisation and "
        "decoding included; a process for each model and runtime, asked in turn, the median of all runs, in CPU time, which "
        "other programs don't lengthen. Measured after the training, with nothing of it running.",
        "Memory: the most that such a process held, less what Python and the runtime held before the model was loaded "
        "(ONNX Runtime's where it ran). MACs: multiply-adds of one crop, the network without its decoder. Parameters: "
        "all that a prediction needs; what only the loss uses (the flow of rle) is left out.",
        "Accuracy: each run's best epoch by NME on val, averaged weights. All methods see the same boxes and, with the "
        "same seed, the same order of instances with the same augmentation.",
    ]


def _nme(row: Row) -> str:
    return NME.in_unit(row.mean(NME))


def _list(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _verb(subjects: Sequence[str], one: str, several: str) -> str:
    return one if len(subjects) == 1 else several


# --------------------------------------------------------------------------------------------- in figures, charts


def _lines(of: Scored) -> list[dict[str, Any]]:
    """Those of results.csv: one a row of the table."""
    against = {one.name: one for one in of.contrasts}
    lines = []
    for row in of.rows:
        values = table.row_json(row, against.get(row.name))
        difference, latency = values["difference"] or {}, values["latency"]
        line = {name: values[name] for name in ("name", "method", "backbone", "size")}
        line["seeds"] = len(values["runs"])
        line |= {f"nme_{name}": values["nme"][name] for name in ("mean", "low", "high", "standard_deviation")}
        line |= {f"difference_{name}": difference.get(name) for name in ("mean", "low", "high")}
        line |= {name: difference.get(name) for name in ("share_better", "within_noise")}
        for name, key in (("ms", "ms"), ("memory_bytes", "model_memory_bytes")):
            line |= {f"{runtime}_{name}": latency.get(runtime, {}).get(key) for runtime in table.runtimes_of(of.rows)}
        line |= {name: values[name] for name in ("parameters", "macs", "weight_bytes", "training_seconds")}
        line |= {f"nme_box_jitter_{name}": value for name, value in values["box_jitter"].items()}
        lines.append(line)
    return lines


def short_table(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Makes a few columns of results.json for the terminal."""

    def number(value: float | None, factor: float = 1.0, sign: str = "") -> str:
        return "-" if value is None else f"{factor * value:{sign}.2f}"

    return [
        {
            "": row["name"],
            "NME %": number(row["nme"]["mean"], 100),
            "difference": "reference" if row["difference"] is None else number(row["difference"]["mean"], 100, "+"),
            "within noise": "" if row["difference"] is None else "yes" if row["difference"]["within_noise"] else "no",
            **{f"ms {name}": number(row["latency"].get(name, {}).get("ms")) for name in figures["runtimes"]},
            "seeds": len(row["runs"]),
        }
        for row in figures["rows"]
    ]


def point_tables(rows: Sequence[Row], names: Sequence[str]) -> list[Table]:
    """Makes the table of errors of each point under each method, hardest for all first; the larger, the redder. Of many
    points the hardest have one of their own before that of all, which the page folds."""
    errors = np.array([row.about["nme_per_point"] for row in rows], np.float64)  # [m, k], NaN where not measured
    means = np.where(np.isnan(errors), 0, errors).mean(0)
    order = [i for i in np.argsort(-means, kind="stable").tolist() if not np.isnan(errors[:, i]).all()]
    low, high = (float(f(errors[:, order])) for f in (np.nanmin, np.nanmax)) if order else (0.0, 1.0)
    lines = [(names[i], *(_tinted(float(value), low, high) for value in errors[:, i])) for i in order]
    columns = ("point", *(row.name for row in rows))
    note = "Mean over instances and seeds, hardest first."
    if len(lines) <= MOST_OPEN:
        return [Table(columns, lines, "NME % of each point", note)]
    hardest = Table(columns, lines[:HARDEST], f"NME % of the {HARDEST} hardest of {len(names)} points", note)
    return [hardest, Table(columns, lines, "NME % of each point")]


def _tinted(value: float, low: float, high: float) -> Figure:
    if math.isnan(value):
        return page.NONE
    return Figure(NME.text(value), (value - low) / (high - low) if high > low else 0.0)


def _against_time(rows: Sequence[Row]) -> list[Chart]:
    """Draws a chart a runtime that any of them was timed in."""
    note = (
        "Left and down is better. Filled and joined: nothing is as accurate and quicker (marked * in the table). Bars: "
        "the range over seeds."
    )
    charts = []
    for runtime in table.runtimes_of(rows):
        dots = []
        for i, row in enumerate(rows):
            spread, milliseconds = row.spread(NME), row.cost.milliseconds(runtime)
            if spread is not None and math.isfinite(milliseconds):
                errors = (100 * spread.mean, 100 * spread.low, 100 * spread.high)
                dots.append(Dot(row.name, milliseconds, *errors, row.front.get(runtime, False), i))
        if dots:
            title = f"Accuracy against time, {NAMES[runtime]}"
            charts.append(scatter(title, dots, "ms for one image, one thread (logarithmic)", NME.title, note))
    return charts


def _errors(rows: Sequence[Row]) -> list[Chart]:
    left_out, rows = page.best_of(rows), rows[: page.MOST_CURVES]
    jitters = [100 * jitter for jitter in JITTERS]
    curves = [
        Curve(row.name, jitters, [100 * (math.nan if nme is None else nme) for nme in row.about["box_jitter"].values()])
        for row in rows
    ]
    note = "A detector's boxes are not the labels'. The same boxes for all methods; a flat curve is robust."
    label = "boxes disturbed by up to, % of their sides"
    return [
        charts.cumulative_errors({row.name: row.errors[NME.name].mean(0) for row in rows}, note=left_out),
        charts.lines("Disturbed boxes", curves, label, y_label=NME.title, note=note + left_out),
    ]


def _settings(names: Sequence[str], differing: Mapping[str, Mapping[str, Any]]) -> list[Section]:
    lines = [
        (key, *(page.NONE.text if (value := values.get(name)) is None else str(value) for name in names))
        for key, values in differing.items()
    ]
    line = "Besides the method and its head, the recipes differ in this; a difference in accuracy may come from it."
    return [Section("Differences", [line, Table(("setting", *names), lines)])] if lines else []
