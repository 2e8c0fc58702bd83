"""OUT/report.html: the answer in words, the table, and what it rests on. What is not measured has no section."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import config, files
from fiducial.comparison import costs, galleries, results, statistics
from fiducial.comparison.cells import Cell
from fiducial.comparison.processes import duration
from fiducial.comparison.results import NME, Comparison, Labelled, Measure, Row, Taught
from fiducial.comparison.runs import NAMES
from fiducial.comparison.scores import JITTERS
from fiducial.distill import DISTANCE, MEANINGS
from fiducial.profiling.machine import processor
from fiducial.report import charts
from fiducial.report.charts import Band, Curve, Dot, scatter
from fiducial.report.page import (
    Charts,
    Commands,
    Fact,
    Figure,
    Page,
    Section,
    Table,
    data_section,
    failed_section,
    gallery_sections,
    recipe_section,
    write_page,
)
from fiducial.report.plot import Chart

MOST_CURVES = 8
MOST_POINTS = 24
NONE = Figure("–")
NOISE_NOTE = (
    f"{statistics.RESAMPLES} resamples of the instances, the same for all, errors averaged over seeds first, give the "
    "interval that holds the difference with a probability of 95 %. Smaller in: the share of resamples in which the "
    "first has the smaller error. Within noise: the interval holds 0, or the ranges over seeds touch."
)


def write(comparison: Comparison, out: Path, cells: Sequence[Cell], lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Writes report.html, results.csv of these lines, and results.json; returns what the latter holds, and `files`."""
    figures = results.as_json(comparison)
    config.write_json(out / "results.json", figures)
    files.write_text(out / "results.csv", files.csv_text(lines))
    page = page_of(comparison, [cell.typed(out) for cell in cells])
    written = {
        "report": write_page(out / "report.html", page),
        "table": out / "results.csv",
        "figures": out / "results.json",
    }
    return {**figures, "files": {name: str(path) for name, path in written.items()}}


def page_of(comparison: Comparison, commands: Sequence[str]) -> Page:
    """Makes the page; `commands` are those that trained its runs."""
    rows, labelled, taught = comparison.rows, comparison.labelled, comparison.taught
    # A recipe is what the others may be held against; that of the best, unless it is an exported file.
    shown = next((row for row in rows if row.variant.runs[0].recipe is not None), None)
    recipe = {} if shown is None else config.to_dict(shown.variant.runs[0].recipe)
    return Page(
        title=comparison.title,
        answer=comparison.answer,
        facts=[] if taught is None else _facts(rows, taught),
        notes=comparison.notes,
        sections=[
            Section("Results", [main_table(comparison), contrast_table(comparison)]),
            Section("Charts", [Charts(drawn(comparison))]),
            *gallery_sections(galleries.of(comparison)),
            *([] if labelled is None else [Section("Points", [point_table(rows, labelled)])]),
            *([] if taught is None else [_alone(rows, taught)]),
            Section("Seeds", [seed_table(rows, measure) for measure in comparison.measures]),
            *([] if labelled is None else [_settings(rows, labelled)]),
            failed_section(comparison.failures),
            _measured(comparison, commands),
            data_section(_data(comparison), comparison.problems),
            recipe_section(recipe, "" if shown is None else shown.name),
        ],
        device=processor(),
    )


def _facts(rows: Sequence[Row], taught: Taught) -> list[Fact]:
    best, theirs = rows[0], taught.teacher.cost.static.parameters or 0
    own = best.cost.static.parameters or 1
    meaning = f"of the student; its teacher has {theirs / own:.1f} times as many"
    facts = [Fact("Parameters", f"{quantity(own)} of {quantity(theirs)}", meaning)]
    spread = best.spread(DISTANCE)
    if spread is not None:
        facts.insert(0, Fact(DISTANCE, f"{spread.mean:.2f} px", f"{best.name}: {MEANINGS[DISTANCE]}"))
    return facts


def _data(comparison: Comparison) -> dict[str, Any]:
    labelled = comparison.labelled
    if labelled is None:
        return {name: value for name, value in comparison.about.items() if isinstance(value, (str, int))}
    skeleton = labelled.instances.skeleton
    return {
        "data": comparison.about["data"],
        "split": labelled.split,
        "instances scored": len(labelled.instances),
        "instances to train on": comparison.rows[0].variant.runs[0].card.metrics.get("train_instances"),
        "points": len(skeleton.points),
        "errors are over": skeleton.normalizer.name,
    }


# --------------------------------------------------------------------------------------------------------- tables


def main_table(comparison: Comparison) -> Table:
    """Makes the table of all rows; columns in which there is nothing are left out. Backbone and size come last: where
    they differ they are in the first column too."""
    rows = [*comparison.rows, *([] if comparison.taught is None else [comparison.taught.teacher])]
    columns: dict[str, Callable[[Row], object]] = {"": lambda row: row.name}
    columns |= {measure.title: partial(_with_spread, measure=measure) for measure in comparison.measures}
    if comparison.taught is not None:
        columns["% of the side"] = _share_of_side
        columns["unsteadiness px"] = lambda row: _figure(row.about.get("unsteadiness_px"), "{:.3f}")
        columns["best epoch"] = _best_epochs
    for runtime in comparison.runtimes:
        columns[f"ms {NAMES[runtime]}"] = partial(_milliseconds, runtime=runtime)
    columns["para\u00admeters"] = lambda row: Figure(quantity(row.cost.static.parameters))
    columns["MACs"] = lambda row: Figure(quantity(row.cost.static.macs))
    columns["memory MiB"] = _memory
    columns["training"] = _training_time
    columns["backbone"] = lambda row: row.variant.backbone
    columns["size"] = lambda row: str(row.variant.size)
    cells = {name: [cell(row) for row in rows] for name, cell in columns.items()}
    cells = {name: column for name, column in cells.items() if any(value != NONE for value in column)}
    where = "held-out crops" if comparison.labelled is None else comparison.labelled.split
    note = "Mean over seeds ± standard deviation, of errors on the same instances. Training: mean over seeds."
    if comparison.labelled is not None:
        note += " Milliseconds and memory of one thread, * = nothing is as accurate and quicker."
    else:
        note += (
            " Jacobian error: mean |1 - J_t^-1 J_s|. Heatmap divergence: Jensen-Shannon, 0 to 0.69. Unsteadiness: by how "
            "much the held-out distance changes from epoch to epoch in the second half of training."
        )
    return Table(tuple(cells), list(zip(*cells.values(), strict=True)), f"Best first, on {where}", note)


def _figure(value: float | None, form: str) -> Figure:
    return NONE if value is None or math.isnan(value) else Figure(form.format(value))


def _with_spread(row: Row, measure: Measure) -> Figure:
    spread = row.spread(measure.name)
    if spread is None or math.isnan(spread.mean):
        return NONE
    deviation = "" if math.isnan(spread.deviation) else f" ± {measure.text(spread.deviation)}"
    return Figure(f"{measure.text(spread.mean)}{deviation}")


def _share_of_side(row: Row) -> Figure:
    spread = row.spread(DISTANCE)
    return NONE if spread is None else Figure(f"{100 * spread.mean / max(row.variant.size):.2f}")


def _best_epochs(row: Row) -> Figure:
    epochs = [run.card.metrics.get("epoch") for run in row.variant.runs]
    return Figure(", ".join(NONE.text if epoch is None else str(epoch + 1) for epoch in epochs))


def _milliseconds(row: Row, runtime: str) -> Figure:
    return _figure(row.milliseconds(runtime), "{:.2f} *" if row.front.get(runtime) else "{:.2f}")


def _memory(row: Row) -> Figure:
    latencies = (row.cost.latency.get(runtime) for runtime in NAMES)
    memory = next((each.model_memory_bytes for each in latencies if each and each.model_memory_bytes), None)
    return NONE if memory is None else Figure(f"{memory / 2**20:.0f}")


def _training_time(row: Row) -> Figure:
    seconds = row.variant.training_seconds
    return NONE if seconds is None else Figure(duration(seconds))


def quantity(value: float | None) -> str:
    """Writes 1,520,000 as `1.52 M`."""
    if value is None:
        return NONE.text
    for factor, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= factor:
            return f"{value / factor:.3g}{unit}"
    return f"{value:.3g}"


def point_table(rows: Sequence[Row], labelled: Labelled) -> Table:
    """Makes the table of errors of each point under each method, hardest for all first; the larger, the redder."""
    errors = np.array([row.scores.point_nme.mean(0) for row in rows if row.scores.point_nme is not None])  # [m, k]
    means = np.where(np.isnan(errors), 0, errors).mean(0)
    order = [i for i in np.argsort(-means, kind="stable").tolist() if not np.isnan(errors[:, i]).all()][:MOST_POINTS]
    low, high = (float(f(errors[:, order])) for f in (np.nanmin, np.nanmax)) if order else (0.0, 1.0)
    names = labelled.instances.skeleton.points
    table = [(names[i], *(_tinted(float(value), low, high) for value in errors[:, i])) for i in order]
    few = f" The {len(order)} hardest of {len(names)} points." if len(order) < len(names) else ""
    columns = ("point", *(row.name for row in rows))
    return Table(columns, table, "NME % of each point", f"Mean over instances and seeds, hardest first.{few}")


def _tinted(value: float, low: float, high: float) -> Figure:
    if math.isnan(value):
        return NONE
    return Figure(f"{100 * value:.2f}", 0.6 * (value - low) / (high - low) if high > low else 0.0)


# --------------------------------------------------------------------------------------------------------- charts


def drawn(comparison: Comparison) -> list[Chart]:
    """Draws accuracy against time, errors, and training, of what was measured."""
    rows = comparison.rows
    few = rows[:MOST_CURVES]
    left_out = f" The best {len(few)} of {len(rows)}." if len(few) < len(rows) else ""
    drawings = [_against_time(rows, runtime) for runtime in comparison.runtimes]
    if comparison.labelled is not None:
        drawings += _errors(few, left_out)
    curves = (
        (f"val/{DISTANCE}", "Distance to the teacher", "px", 1.0),
        ("val/l1", "Loss L1, of points and Jacobians, whatever they were trained by", "mean squared error", 1.0),
        ("val/nme", "Error against the labels", NME.title, NME.factor),
    )
    for column, title, label, factor in curves:
        for x_label, when in (("epoch", "After each epoch."), ("minutes", "Over the minutes that it took here.")):
            bands = [_band(row, column, factor, i, x_label) for i, row in enumerate(few)]
            known = [band for band in bands if band is not None]
            if known and (x_label == "epoch" or column.removeprefix("val/") == comparison.measures[0].name):
                note = f"{when} Lines: mean over seeds; areas: their range.{left_out}"
                drawings.append(charts.bands(f"Training, by {x_label}: {title}", known, x_label, label, note))
    return drawings


def _against_time(rows: Sequence[Row], runtime: str) -> Chart:
    dots = []
    for i, row in enumerate(rows):
        spread = row.spread(NME.name)
        if spread is not None:
            errors = (100 * spread.mean, 100 * spread.low, 100 * spread.high)
            dots.append(Dot(row.name, row.milliseconds(runtime), *errors, row.front.get(runtime, False), i))
    note = (
        "Left and down is better. Filled and joined: nothing is as accurate and quicker (marked * in the table). Bars: "
        "the range over seeds."
    )
    title = f"Accuracy against time, {NAMES[runtime]}"
    return scatter(title, dots, "ms for one image, one thread (logarithmic)", NME.title, note)


def _errors(rows: Sequence[Row], left_out: str) -> list[Chart]:
    errors = {row.name: row.scores.errors[NME.name].mean(0) for row in rows}
    jitters = [100 * jitter for jitter in JITTERS]
    curves = [
        Curve(row.name, jitters, (100 * row.scores.jitter_nme.mean(0)).tolist())
        for row in rows
        if row.scores.jitter_nme is not None
    ]
    note = "A detector's boxes are not the labels'. The same boxes for all methods; a flat curve is robust."
    label = "boxes disturbed by up to, % of their sides"
    return [
        charts.cumulative_errors(errors, note=left_out),
        charts.lines("Disturbed boxes", curves, label, y_label=NME.title, note=note + left_out),
    ]


def _band(row: Row, column: str, factor: float, series: int, x_label: str) -> Band | None:
    """A column of the histories of a row's runs, over epochs or minutes; None where no run has it."""
    histories = [run.history() for run in row.variant.runs]
    epochs = max(map(len, histories))
    values, seconds = np.full((2, len(histories), epochs), np.nan)
    for i, history in enumerate(histories):
        values[i, : len(history)] = [factor * epoch.get(column, math.nan) for epoch in history]
        seconds[i, : len(history)] = np.cumsum([epoch["seconds"] for epoch in history])
    if not np.isfinite(values).any():
        return None
    x = np.arange(1, epochs + 1) if x_label == "epoch" else np.nanmean(seconds, 0) / 60
    return Band(row.name, x, values, series)


# ------------------------------------------------------------------------------------------------------- sections


def _alone(rows: Sequence[Row], taught: Taught) -> Section:
    """What can be said of any points."""
    names = ("equivariance_px", "spread", "nearest", "occupancy", "moving")
    table = [(row.name, *(_figure(row.figure(name), "{:.3f}") for name in names)) for row in [taught.teacher, *rows]]
    lines = [
        f"Equivariance: {MEANINGS['equivariance_px']}; the smaller the better a point keeps to what it marks. It can be had "
        "without marking anything, by points that lie anywhere and move with the whole image.",
        "Spread: standard deviation of a crop's points around their middle; nearest: mean distance of a point to the next one, "
        "both as shares of the side. Occupancy: cells of 8x8 with a point in them, of as many as there could be. Moving: share "
        "of the points that move from crop to crop.",
    ]
    columns = ("", *(name.replace("_", " ") for name in names))
    return Section("Without comparing", [*lines, Table(columns, table, "Mean over seeds")])


def seed_table(rows: Sequence[Row], measure: Measure) -> Table:
    """Makes the table of what each row's mean is the mean of."""
    table = []
    for row in rows:
        spread = row.spread(measure.name)
        if spread is not None:
            values = [measure.text(value) for value in spread.values]
            ends = f"{measure.text(spread.low)} to {measure.text(spread.high)}"
            table.append((row.name, len(values), Figure(ends), Figure(", ".join(values))))
    return Table(("", "seeds", f"range of {measure.title}", "each"), table)


def contrast_table(comparison: Comparison) -> Table:
    """Makes the table of what the verdicts rest on."""
    table = []
    for contrast in comparison.contrasts:
        measure, apart = contrast.measure, contrast.difference
        mean, low, high = (measure.text(value, "+") for value in (apart.mean, apart.low, apart.high))
        verdict = "within noise" if apart.within_noise else f"{contrast.word}, beyond noise"
        cells = (Figure(mean), Figure(f"{low} to {high}"), Figure(f"{100 * apart.share_better:.0f} %"), verdict)
        unit = measure.unit.replace(" ", "\u00a0")
        table.append((f"{contrast.name} against {contrast.other}", unit, *cells))
    columns = ("", "in", "difference", "95 % interval", "smaller in", "verdict")
    return Table(columns, table, "Differences on the same instances", NOISE_NOTE)


def _settings(rows: Sequence[Row], labelled: Labelled) -> Section:
    names = [row.name for row in rows]
    table = [(key, *(_plain(values.get(name)) for name in names)) for key, values in labelled.differing.items()]
    line = "Besides the method and its head, the recipes differ in this; a difference in accuracy may come from it."
    return Section("Differences", [line, Table(("setting", *names), table)] if table else [])


def _plain(value: object) -> str:
    return NONE.text if value is None else str(value)


def _measured(comparison: Comparison, commands: Sequence[str]) -> Section:
    training = (
        f"Training: the mean over seeds of the seconds of all epochs, validation included, on {files.cores()} cores; runs "
        "that were trained at the same time share them."
    )
    lines = _measured_of_students() if comparison.labelled is None else _measured_of_methods()
    return Section("How it was measured", [*lines, training, Commands(commands)])


def _measured_of_methods() -> list[str]:
    threads = f"{costs.THREADS} thread{'s' if costs.THREADS > 1 else ''}"
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


def _measured_of_students() -> list[str]:
    return [
        "Every run has the same student, images, order of images (by its seed) and number of steps. Each run's best epoch on "
        "held-out crops is measured, with averaged weights.",
        "Losses: L1 = mean squared error of points and of Jacobians, in -1..1; L2 = L1 and that of heatmaps that sum to one; "
        "L3 = L2 and that of attention maps of the two networks' coarsest levels; KL = L1 and the divergence of the student's "
        "heatmaps from the teacher's. The recipe below has their weights.",
    ]
