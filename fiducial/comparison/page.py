"""OUT/report.html: the answer in words, the table, and what it rests on. What is not measured has no section."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import config, files
from fiducial.comparison import statistics, table
from fiducial.comparison.cells import Cell
from fiducial.comparison.runs import NAMES
from fiducial.comparison.table import Comparison, Measure, Row
from fiducial.profiling.machine import processor
from fiducial.progress import duration
from fiducial.report import charts
from fiducial.report.charts import Band
from fiducial.report.page import (
    Charts,
    Commands,
    Figure,
    Page,
    Section,
    Table,
    data_section,
    failed_section,
    recipe_section,
    write_page,
)
from fiducial.report.plot import Chart

MOST_CURVES = 8
NONE = Figure("–")
NOISE_NOTE = (
    f"{statistics.RESAMPLES} resamples of the instances, the same for all, errors averaged over seeds first, give the "
    "interval that holds the difference with a probability of 95 %. Smaller in: the share of resamples in which the "
    "first has the smaller error. Within noise: the interval holds 0, or the ranges over seeds touch."
)


def write(comparison: Comparison, out: Path, cells: Sequence[Cell]) -> dict[str, Any]:
    """Writes report.html, results.csv and results.json; returns what the latter holds, and `files`.

    cells: whose commands trained the runs."""
    figures = table.as_json(comparison)
    config.write_json(out / "results.json", figures)
    files.write_text(out / "results.csv", files.csv_text(comparison.lines))
    page = page_of(comparison, [cell.typed(out) for cell in cells])
    written = {
        "report": write_page(out / "report.html", page),
        "table": out / "results.csv",
        "figures": out / "results.json",
    }
    return {**figures, "files": {name: str(path) for name, path in written.items()}}


def page_of(comparison: Comparison, commands: Sequence[str]) -> Page:
    """Makes the page; `commands` are those that trained its runs."""
    # A recipe is what the others may be held against; that of the best, unless it is an exported file.
    of_rows = [(row.name, row.variant.runs[0].recipe) for row in comparison.rows if row.variant is not None]
    shown = next(((name, recipe) for name, recipe in of_rows if recipe is not None), None)
    training = (
        f"Training: the mean over seeds of the seconds of all epochs, validation included, on {files.cores()} cores; runs "
        "that were trained at the same time share them."
    )
    return Page(
        title=comparison.title,
        answer=comparison.answer,
        facts=comparison.facts,
        notes=comparison.notes,
        sections=[
            Section("Results", [main_table(comparison), contrast_table(comparison)]),
            Section("Charts", [Charts([*comparison.charts, *training_charts(comparison)])]),
            *comparison.evidence,
            Section("Seeds", [seed_table(comparison.rows, measure) for measure in comparison.measures]),
            *comparison.settings,
            failed_section(comparison.failures),
            Section("How it was measured", [*comparison.measured, training, Commands(commands)]),
            data_section(comparison.data, comparison.problems),
            recipe_section({}) if shown is None else recipe_section(config.to_dict(shown[1]), shown[0]),
        ],
        device=processor(),
    )


# --------------------------------------------------------------------------------------------------------- tables


def main_table(comparison: Comparison) -> Table:
    """Makes the table of all rows; columns in which there is nothing are left out. Backbone and size come last: where
    they differ they are in the first column too."""
    rows = [*comparison.rows, *comparison.beside]
    columns: dict[str, Callable[[Row], object]] = {"": lambda row: row.name}
    columns |= {measure.title: partial(_with_spread, measure=measure) for measure in comparison.measures}
    columns |= comparison.columns
    for runtime in comparison.runtimes:
        columns[f"ms {NAMES[runtime]}"] = partial(_milliseconds, runtime=runtime)
    columns["para\u00admeters"] = lambda row: Figure(quantity(row.cost.static.parameters))
    columns["MACs"] = lambda row: Figure(quantity(row.cost.static.macs))
    columns["memory MiB"] = _memory
    columns["training"] = _training_time
    columns["backbone"] = lambda row: NONE.text if row.variant is None else row.variant.backbone
    columns["size"] = lambda row: NONE.text if row.variant is None else str(row.variant.size)
    cells = {name: [cell(row) for row in rows] for name, cell in columns.items()}
    cells = {name: column for name, column in cells.items() if any(value != NONE for value in column)}
    note = "Mean over seeds ± standard deviation, of errors on the same instances. Training: mean over seeds."
    title = f"Best first, on {comparison.scored_on}"
    return Table(tuple(cells), list(zip(*cells.values(), strict=True)), title, f"{note} {comparison.column_note}")


def figure(value: float | None, form: str) -> Figure:
    """Writes a number, or a dash where there is none."""
    return NONE if value is None or math.isnan(value) else Figure(form.format(value))


def _with_spread(row: Row, measure: Measure) -> Figure:
    spread = row.spread(measure)
    if spread is None or math.isnan(spread.mean):
        return NONE
    apart = spread.standard_deviation
    return Figure(measure.text(spread.mean) + ("" if math.isnan(apart) else f" ± {measure.text(apart)}"))


def _milliseconds(row: Row, runtime: str) -> Figure:
    return figure(row.cost.milliseconds(runtime), "{:.2f} *" if row.front.get(runtime) else "{:.2f}")


def _memory(row: Row) -> Figure:
    latencies = (row.cost.latency.get(runtime) for runtime in NAMES)
    memory = next((one.model_memory_bytes for one in latencies if one and one.model_memory_bytes), None)
    return NONE if memory is None else Figure(f"{memory / 2**20:.0f}")


def _training_time(row: Row) -> Figure:
    seconds = None if row.variant is None else row.variant.training_seconds
    return NONE if seconds is None else Figure(duration(seconds))


def quantity(value: float | None) -> str:
    """Writes 1,520,000 as `1.52 M`."""
    if value is None:
        return NONE.text
    for factor, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= factor:
            return f"{value / factor:.3g}{unit}"
    return f"{value:.3g}"


def seed_table(rows: Sequence[Row], measure: Measure) -> Table:
    """Makes the table of what each row's mean is the mean of."""
    lines = []
    for row in rows:
        spread = row.spread(measure)
        if spread is not None:
            values = [measure.text(value) for value in spread.seeds]
            ends = f"{measure.text(spread.low)} to {measure.text(spread.high)}"
            lines.append((row.name, len(values), Figure(ends), Figure(", ".join(values))))
    return Table(("", "seeds", f"range of {measure.title}", "each"), lines)


def contrast_table(comparison: Comparison) -> Table:
    """Makes the table of what the verdicts rest on."""
    lines = []
    for contrast in comparison.contrasts:
        measure, apart = contrast.measure, contrast.difference
        mean, low, high = (measure.text(value, "+") for value in (apart.mean, apart.low, apart.high))
        verdict = "within noise" if apart.within_noise else f"{contrast.word}, beyond noise"
        cells = (Figure(mean), Figure(f"{low} to {high}"), Figure(f"{100 * apart.share_better:.0f} %"), verdict)
        unit = measure.unit.replace(" ", "\u00a0")
        lines.append((f"{contrast.name} against {contrast.other}", unit, *cells))
    columns = ("", "in", "difference", "95 % interval", "smaller in", "verdict")
    return Table(columns, lines, "Differences on the same instances", NOISE_NOTE)


# --------------------------------------------------------------------------------------------------------- charts


def training_charts(comparison: Comparison) -> list[Chart]:
    """Draws what the histories of the runs have: over epochs, and the first measure over minutes too."""
    few = comparison.rows[:MOST_CURVES]
    drawings = []
    for column, title, unit, factor in comparison.curves:
        for x_label, when in (("epoch", "After each epoch."), ("minutes", "Over the minutes that it took here.")):
            bands = [_band(row, column, factor, i, x_label) for i, row in enumerate(few)]
            known = [band for band in bands if band is not None]
            if known and (x_label == "epoch" or column == f"val/{comparison.measures[0].name}"):
                note = f"{when} Lines: mean over seeds; areas: their range.{best_of(comparison.rows)}"
                drawings.append(charts.bands(f"Training, by {x_label}: {title}", known, x_label, unit, note))
    return drawings


def best_of(rows: Sequence[Row]) -> str:
    """Says in a chart's note how many rows it leaves out, where it does."""
    return f" The best {MOST_CURVES} of {len(rows)}." if len(rows) > MOST_CURVES else ""


def _band(row: Row, column: str, factor: float, series: int, x_label: str) -> Band | None:
    """A column of the histories of a row's runs, over epochs or minutes; None where no run has it."""
    histories = [run.history() for run in row.variant.runs] if row.variant is not None else []
    epochs = max(map(len, histories))
    values, seconds = np.full((2, len(histories), epochs), np.nan)
    for i, history in enumerate(histories):
        values[i, : len(history)] = [factor * epoch.get(column, math.nan) for epoch in history]
        seconds[i, : len(history)] = np.cumsum([epoch["seconds"] for epoch in history])
    if not np.isfinite(values).any():
        return None
    x = np.arange(1, epochs + 1) if x_label == "epoch" else np.nanmean(seconds, 0) / 60
    return Band(row.name, x, values, series)
