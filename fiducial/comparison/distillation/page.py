"""OUT/report.html of a study: the verdicts in words, the table, curves with their spread, points side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fiducial.comparison import statistics
from fiducial.comparison.distillation import results
from fiducial.comparison.distillation.measures import HeldOut, Measured
from fiducial.comparison.distillation.results import CONTROL, Row, Verdict
from fiducial.comparison.page import quantity
from fiducial.comparison.processes import duration
from fiducial.comparison.statistics import Spread
from fiducial.distill.scoring import DISTANCE, MEANINGS
from fiducial.geometry import Size
from fiducial.profiling.machine import processor
from fiducial.report import pictures
from fiducial.report.charts import Band, bands
from fiducial.report.page import (
    Charts,
    Commands,
    Fact,
    Figure,
    Gallery,
    Page,
    Picture,
    Section,
    Table,
    data_section,
    failed_section,
    gallery_sections,
    recipe_section,
)
from fiducial.report.plot import Chart
from fiducial.types import Skeleton

COLUMNS = {DISTANCE: ("distance px", 1.0, 2), "jacobian_error": ("Jacobian error", 1.0, 3),
           "heatmap_divergence": ("heatmap divergence", 1.0, 3), "nme": ("NME %", 100.0, 2)}  # fmt: skip


def report_of(
    rows: Sequence[Row], teacher: Measured, found: Sequence[Verdict], crops: HeldOut, skeleton: Skeleton, *,
    title: str, commands: Sequence[str], failures: Mapping[str, str], notes: Sequence[str],
    data: Mapping[str, Any], recipe: Mapping[str, Any],
) -> Page:  # fmt: skip
    """The page, ready to be written."""
    return Page(
        title=title,
        answer=results.answer(rows, found),
        facts=_facts(rows, teacher),
        notes=[*_notes(rows, crops), *notes],
        sections=[
            Section("Results", [main_table(rows, teacher)]),
            Section("Charts", [Charts(_charts(rows))]),
            *gallery_sections([_points(rows, teacher, crops, skeleton)]),
            _alone(rows, teacher),
            *_differences(found),
            failed_section(failures),
            _measured(commands),
            data_section(data, []),
            recipe_section(recipe),
        ],
        device=processor(),
    )


def _facts(rows: Sequence[Row], teacher: Measured) -> list[Fact]:
    best = next((row for row in rows if row.spread(DISTANCE) is not None), rows[0])
    spread, own = best.spread(DISTANCE), best.runs[0].parameters
    meaning = f"of the student; its teacher has {teacher.parameters / own:.1f} times as many"
    facts = [Fact("Parameters", f"{quantity(own)} of {quantity(teacher.parameters)}", meaning)]
    if spread is not None:
        facts.insert(0, Fact(DISTANCE, f"{spread.mean:.2f} px", f"{best.name}: {MEANINGS[DISTANCE]}"))
    return facts


def _notes(rows: Sequence[Row], crops: HeldOut) -> list[str]:
    lines = [f"{DISTANCE}: {MEANINGS[DISTANCE]}."]
    if any(row.spread(DISTANCE) is None for row in rows):
        lines.append(
            f"The student {CONTROL} found points of its own: they need not mark what the teacher's do, so their distance to "
            "them means nothing and is not given. What can be compared is under Without comparing."
        )
    lines.append(
        f"Held-out crops also chose each run's best epoch. Intervals are over the {crops.count} crops; those of one clip are "
        "alike, so that they are too narrow for what other clips would say."
    )
    if all(len(row.runs) == 1 for row in rows):
        lines.append("One seed each: how much another seed changes is not known. --seeds 3 says.")
    return lines


def main_table(rows: Sequence[Row], teacher: Measured) -> Table:
    names = [name for name in COLUMNS if any(name in row.runs[0].errors for row in rows)]
    side = max(rows[0].runs[0].size or Size(1, 1))
    columns = (
        "",
        *(COLUMNS[name][0] for name in names),
        "% of the side",
        "unsteadiness px",
        "best epoch",
        "training",
        "seeds",
    )
    table = [
        (
            row.name, *(_with_spread(row.spread(name), name) for name in names),
            Figure("–" if (spread := row.spread(DISTANCE)) is None else f"{100 * spread.mean / side:.2f}"),
            Figure("–" if math.isnan(row.unsteadiness_px) else f"{row.unsteadiness_px:.3f}"),
            Figure(", ".join(str((run.epoch or 0) + 1) for run in row.runs)), Figure(duration(row.seconds)), len(row.runs),
        )
        for row in rows
    ]  # fmt: skip
    if "nme" in teacher.errors:
        own = [
            Figure(f"{100 * float(np.nanmean(teacher.errors['nme'])):.2f}") if name == "nme" else Figure("–")
            for name in names
        ]
        table.append(("the teacher", *own, Figure("–"), Figure("–"), Figure("–"), Figure("–"), 0))
    note = (
        "Mean over seeds ± standard deviation [least, largest], on held-out crops. Jacobian error: mean |1 - J_t^-1 J_s|. "
        "Heatmap divergence: Jensen-Shannon, 0 to 0.69. Unsteadiness: by how much the held-out distance changes from epoch to "
        "epoch in the second half of training."
    )
    return Table(columns, table, "Nearest to the teacher first", note)


def _with_spread(spread: Spread | None, name: str) -> Figure:
    if spread is None or math.isnan(spread.mean):
        return Figure("–")
    _, factor, digits = COLUMNS[name]
    mean, low, high, deviation = (factor * value for value in (spread.mean, spread.low, spread.high, spread.deviation))
    if math.isnan(deviation):
        return Figure(f"{mean:.{digits}f}")
    return Figure(f"{mean:.{digits}f} ± {deviation:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]")


def _charts(rows: Sequence[Row]) -> list[Chart]:
    wanted = (
        (f"val/{DISTANCE}", "Distance to the teacher", "px", "On held-out crops after each epoch."),
        ("val/l1", "Loss L1 on held-out crops", "mean squared error",
         "Of points and Jacobians, unweighted and for all alike, whatever they were trained by."),
        ("val/nme", "Error against the labels", "NME", "On val after each epoch."),
    )  # fmt: skip
    drawn = []
    for column, title, label, note in wanted:
        kinds = [band for i, row in enumerate(rows) if (band := _band(row, column, i)) is not None]
        if kinds:
            drawn.append(bands(title, kinds, "epoch", label, f"{note} Lines: mean over seeds; areas: their range."))
    return drawn


def _band(row: Row, column: str, series: int) -> Band | None:
    length = max(len(run.history) for run in row.runs)
    values = np.full((len(row.runs), length), np.nan)
    for i, run in enumerate(row.runs):
        for j, epoch in enumerate(run.history):
            values[i, j] = epoch.get(column, math.nan)
    return Band(row.name, np.arange(1, length + 1), values, series) if np.isfinite(values).any() else None


def _points(rows: Sequence[Row], teacher: Measured, crops: HeldOut, skeleton: Skeleton) -> Gallery:
    """One picture a held-out crop: the teacher's points and those of the first seed of each row."""
    shown = [("teacher", teacher), *((row.name, row.runs[0]) for row in rows)]
    wide = []
    for i, row in enumerate(crops.shown_rows.tolist()):
        tiles = [pictures.crop_with_points(crops.shown[i], run.shown_unit[i], skeleton) for _, run in shown]
        captions = [f"{name} {_px(run, row)}".strip() for name, run in shown]
        wide.append(
            Picture(
                pictures.contact_sheet(tiles, captions, min(4, len(tiles))), f"Held-out crop {row + 1} of {crops.count}"
            )
        )
    note = "The same point has the same colour; numbers are the distance to the teacher's points, px. Of each row the first seed."
    return Gallery("Points side by side", wide, note, wide=True)


def _px(run: Measured, row: int) -> str:
    return f"{run.errors[DISTANCE][row]:.2f}" if DISTANCE in run.errors else ""


def _alone(rows: Sequence[Row], teacher: Measured) -> Section:
    """What can be said of any points."""
    names = {"equivariance_px": "equivariance px", "spread": "spread", "nearest": "nearest", "occupancy": "occupancy",
             "moving": "moving"}  # fmt: skip
    table: list[tuple[Any, ...]] = [("the teacher", *(Figure(f"{teacher.alone[name]:.3f}") for name in names))]
    table += [(row.name, *(Figure(f"{row.alone(name):.3f}") for name in names)) for row in rows]
    lines = [
        f"Equivariance: {MEANINGS['equivariance_px']}; the smaller the better a point keeps to what it marks. It can be had "
        "without marking anything, by points that lie anywhere and move with the whole picture.",
        "Spread: standard deviation of a crop's points around their middle; nearest: mean distance of a point to the next one, "
        "both as shares of the side. Occupancy: cells of 8x8 with a point in them, of as many as there could be. Moving: share "
        "of the points that move from crop to crop.",
    ]
    return Section("Without comparing", [*lines, Table(("", *names.values()), table, "Mean over seeds")])


def _differences(found: Sequence[Verdict]) -> list[Section]:
    if not found:
        return []
    rows = []
    for each in found:
        unit, factor, digits = results.UNITS[each.metric]
        mean, low, high = (
            factor * value for value in (each.difference.mean, each.difference.low, each.difference.high)
        )
        rows.append((
            f"{each.name} against {each.other}", unit, Figure(f"{mean:+.{digits}f}"),
            Figure(f"{low:+.{digits}f} to {high:+.{digits}f}"), Figure(f"{100 * each.difference.share_better:.0f} %"),
            "within noise" if each.difference.within_noise else "beyond noise",
        ))  # fmt: skip
    note = (
        f"Errors are averaged over seeds; {statistics.RESAMPLES} resamples of the crops, the same for all, give the interval "
        "that holds the difference with a probability of 95 %. Within noise: it holds 0, or the ranges over seeds touch."
    )
    columns = ("", "in", "difference", "95 % interval", "smaller in", "")
    return [Section("Differences", [Table(columns, rows, "", note)])]


def _measured(commands: Sequence[str]) -> Section:
    lines = [
        "Every run has the same student, pictures, order of pictures (by its seed) and number of steps. Each run's best epoch "
        "on held-out crops is measured, with averaged weights.",
        "Losses: L1 = mean squared error of points and of Jacobians, in -1..1; L2 = L1 and that of heatmaps that sum to one; "
        "L3 = L2 and that of attention maps of the two networks' coarsest levels; KL = L1 and the divergence of the student's "
        "heatmaps from the teacher's. The recipe below has their weights.",
    ]
    return Section("How it was measured", [*lines, Commands(commands)])
