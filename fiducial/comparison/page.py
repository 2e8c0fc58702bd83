"""OUT/report.html: the answer in words, the table, and what it rests on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fiducial import config
from fiducial.comparison import costs, galleries, results, statistics
from fiducial.comparison.processes import cores, duration
from fiducial.comparison.results import Comparison, Row
from fiducial.comparison.runs import NAMES
from fiducial.comparison.scores import JITTERS
from fiducial.comparison.statistics import Difference
from fiducial.profiling.machine import processor
from fiducial.report import charts
from fiducial.report.charts import Curve, Dot, scatter
from fiducial.report.page import (
    Charts,
    Commands,
    Figure,
    Page,
    Section,
    Table,
    data_section,
    failed_section,
    gallery_sections,
    recipe_section,
)
from fiducial.report.plot import Chart

MOST_CURVES = 8
MOST_POINTS = 24
TABLE_NOTE = (
    "NME ± standard deviation over seeds. The difference with the interval that holds it with a probability of 95 %. "
    "Milliseconds and memory of one thread, * = nothing is as accurate and quicker. Training: mean over seeds."
)
NOISE_NOTE = (
    "{resamples} resamples of the instances, the same for all methods, errors averaged over seeds first. Better in: the "
    "share of resamples in which the row has the smaller error. Within noise: the interval holds 0, or the ranges over "
    "seeds touch."
)


def page_of(comparison: Comparison, fit_commands: Sequence[str]) -> Page:
    """Makes the page; `fit_commands` are those that trained its runs."""
    best = comparison.best
    # A recipe is what the others may be held against; that of the best, unless it is an exported file.
    shown = next((row for row in comparison.rows if row.variant.runs[0].recipe is not None), None)
    skeleton = comparison.instances.skeleton
    return Page(
        title=f"Methods compared on {Path(comparison.data).name}",
        answer=results.answer(comparison),
        notes=notes(comparison),
        sections=[
            Section("Results", [main_table(comparison)]),
            Section("Charts", [Charts(drawn(comparison))]),
            *gallery_sections([galleries.worst_of_each(comparison), galleries.disagreements(comparison)]),
            Section("Points", [point_table(comparison)]),
            Section("Seeds and noise", [seed_table(comparison)]),
            _differences(comparison),
            failed_section(comparison.failures),
            _measured(fit_commands),
            data_section(
                {
                    "data": comparison.data,
                    "split": comparison.split,
                    "instances scored": len(comparison.instances),
                    "instances to train on": best.variant.runs[0].card.metrics.get("train_instances"),
                    "points": len(skeleton.points),
                    "errors are over": skeleton.normalizer.name,
                },
                comparison.problems,
            ),
            recipe_section(
                {} if shown is None else config.to_dict(shown.variant.runs[0].recipe), shown.name if shown else ""
            ),
        ],
        device=processor(),
    )


def notes(comparison: Comparison) -> list[str]:
    """What a reader must know before believing the figures."""
    lines = []
    if comparison.split == "val":
        lines.append(
            "val also chose the best epoch of each run, which flatters all figures here a little; --split test says "
            "what to expect of new pictures."
        )
    if comparison.split == "train":
        lines.append("These are the instances that the methods learnt from: the figures say nothing of new pictures.")
    if comparison.differing:
        lines.append("The recipes differ in more than the method; in what, is listed under Differences.")
    exported = [row.name for row in comparison.rows if row.variant.runs[0].export is not None]
    if exported:
        lines.append(
            f"{', '.join(exported)}: exported, scored and timed in that runtime alone. A file holds neither its recipe nor "
            "what it learnt from, so that only its points and how many instances it learnt from were checked."
        )
    errors = {own.error for row in comparison.rows for own in row.cost.latency.values() if own.error}
    lines += [f"Not measured: {error}" for error in sorted(errors)]
    outside = [row.name for row in comparison.rows if any(own.decode == "outside" for own in row.cost.latency.values())]
    if outside:
        lines.append(
            f"The decoder of {', '.join(outside)} has no form in ONNX yet: there the time is that of the network in "
            "ONNX Runtime and of the decoder in PyTorch, added."
        )
    return lines


def main_table(comparison: Comparison) -> Table:
    """Backbone and size come last: where they differ they are in the first column too."""
    columns = (
        "", "NME %", f"less {comparison.reference}'s", "verdict", *(f"ms {NAMES[runtime]}" for runtime in comparison.runtimes),
        "para\u00admeters", "MACs", "memory MiB", "training", "backbone", "size",
    )  # fmt: skip
    rows = [_cells(row, comparison.runtimes) for row in comparison.rows]
    return Table(columns, rows, f"Best first, on {comparison.split}", TABLE_NOTE)


def _cells(row: Row, runtimes: Sequence[str]) -> tuple[object, ...]:
    difference, training, latency = row.difference, row.cost.training_seconds, row.cost.latency
    memory = next(
        (latency[name].model_memory_bytes for name in runtimes if name in latency and latency[name].model_memory_bytes),
        None,
    )
    return (
        row.name, Figure(_with_spread(row)), Figure("–" if difference is None else _interval(difference)),
        "reference" if difference is None else _verdict(difference),
        *(_milliseconds(row, runtime) for runtime in runtimes),
        Figure(quantity(row.cost.static.parameters)), Figure(quantity(row.cost.static.macs)),
        Figure("–" if memory is None else f"{memory / 2**20:.0f}"),
        Figure("–" if training is None else duration(training)), row.variant.backbone, str(row.variant.size),
    )  # fmt: skip


def seed_table(comparison: Comparison) -> Table:
    """What the verdicts rest on."""
    rows = [
        (
            row.name, len(row.nme.values), Figure(f"{100 * row.nme.low:.2f} to {100 * row.nme.high:.2f}"),
            Figure(", ".join(f"{100 * value:.2f}" for value in row.nme.values)),
            Figure("–" if row.difference is None else _interval(row.difference)),
            Figure("–" if row.difference is None else f"{100 * row.difference.share_better:.0f} %"),
        )
        for row in comparison.rows
    ]  # fmt: skip
    columns = ("", "seeds", "range of NME %", "each", f"less {comparison.reference}'s, 95 % interval", "better in")
    return Table(columns, rows, "", NOISE_NOTE.format(resamples=statistics.RESAMPLES))


def _with_spread(row: Row) -> str:
    deviation = "" if math.isnan(row.nme.deviation) else f" ± {100 * row.nme.deviation:.2f}"
    return f"{100 * row.nme.mean:.2f}{deviation}"


def _interval(difference: Difference) -> str:
    return f"{100 * difference.mean:+.2f} [{100 * difference.low:+.2f}, {100 * difference.high:+.2f}]"


def _verdict(difference: Difference) -> str:
    return "within noise" if difference.within_noise else "better" if difference.mean < 0 else "worse"


def _milliseconds(row: Row, runtime: str) -> Figure:
    time = row.milliseconds(runtime)
    return Figure("–" if math.isnan(time) else f"{time:.2f}{' *' if row.front.get(runtime) else ''}")


def quantity(value: float | None) -> str:
    """1,520,000 -> `1.52 M`."""
    if value is None:
        return "–"
    for factor, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= factor:
            return f"{value / factor:.3g}{unit}"
    return f"{value:.3g}"


# --------------------------------------------------------------------------------------------------------- charts


def drawn(comparison: Comparison) -> list[Chart]:
    rows = comparison.rows
    few = rows[:MOST_CURVES]
    left_out = f" The best {len(few)} of {len(rows)}." if len(few) < len(rows) else ""
    errors = {row.name: row.scores.instance_nme.mean(0).tolist() for row in few}
    jitter = [
        Curve(row.name, [100 * jitter for jitter in JITTERS], (100 * row.scores.jitter_nme.mean(0)).tolist())
        for row in few
    ]
    return [
        *(_against_time(rows, runtime) for runtime in comparison.runtimes),
        charts.cumulative_errors(errors, note=left_out),
        charts.lines(
            "Disturbed boxes",
            jitter,
            "boxes disturbed by up to, % of their sides",
            y_label="NME %",
            note="A detector's boxes are not the labels'. The same boxes for all methods; a flat curve is robust."
            + left_out,
        ),
        *_training(few, left_out),
    ]


def _against_time(rows: Sequence[Row], runtime: str) -> Chart:
    dots = [
        Dot(row.name, row.milliseconds(runtime), 100 * row.nme.mean, 100 * row.nme.low, 100 * row.nme.high,
            row.front.get(runtime, False), i)
        for i, row in enumerate(rows)
    ]  # fmt: skip
    title = f"Accuracy against time, {NAMES[runtime]}"
    note = (
        "Left and down is better. Filled and joined: nothing is as accurate and quicker (marked * in the table). Bars: "
        "the range over seeds."
    )
    return scatter(title, dots, "ms for one image, one thread (logarithmic)", "NME %", note)


def _training(rows: Sequence[Row], left_out: str) -> list[Chart]:
    by_epoch, by_time = [], []
    for row in rows:
        histories = [run.history() for run in row.variant.runs]
        length = min((len(rows) for rows in histories), default=0)
        if length == 0:
            continue
        nme = np.array([[100 * each.get("val/nme", math.nan) for each in rows[:length]] for rows in histories]).mean(0)
        minutes = np.array([np.cumsum([each["seconds"] for each in rows[:length]]) for rows in histories]).mean(0) / 60
        by_epoch.append(Curve(row.name, list(range(1, length + 1)), nme.tolist()))
        by_time.append(Curve(row.name, minutes.tolist(), nme.tolist()))
    if not by_epoch:
        return []
    titles = "Training, by epoch", "Training, by time"
    notes = f"NME on val after each epoch, mean over seeds.{left_out}", "The same over the minutes that it took here."
    return [
        charts.lines(title, curves, label, y_label="NME % (logarithmic)", log_y=True, note=note)
        for title, curves, label, note in zip(titles, (by_epoch, by_time), ("epoch", "minutes"), notes, strict=True)
    ]


# --------------------------------------------------------------------------------------------------------- tables


def point_table(comparison: Comparison) -> Table:
    """Errors of each point under each method, the points that are hardest for all first; the larger, the redder."""
    errors = np.array([row.scores.point_nme.mean(0) for row in comparison.rows])  # [m, k]
    means = np.where(np.isnan(errors), 0, errors).mean(0)
    order = [i for i in np.argsort(-means, kind="stable").tolist() if not np.isnan(errors[:, i]).all()][:MOST_POINTS]
    low, high = (
        (float(bound) for bound in (np.nanmin(errors[:, order]), np.nanmax(errors[:, order]))) if order else (0.0, 1.0)
    )
    names = comparison.instances.skeleton.points
    table = [
        (names[i], *(_tinted(float(value), low, high) for value in errors[:, i]))
        for i in order
    ]  # fmt: skip
    few = f" The {len(order)} hardest of {len(names)} points." if len(order) < len(names) else ""
    columns = ("point", *(row.name for row in comparison.rows))
    return Table(columns, table, "NME % of each point", f"Mean over instances and seeds, hardest first.{few}")


def _tinted(value: float, low: float, high: float) -> Figure:
    if math.isnan(value):
        return Figure("–")
    return Figure(f"{100 * value:.2f}", 0.6 * (value - low) / (high - low) if high > low else 0.0)


def _differences(comparison: Comparison) -> Section:
    names = [row.name for row in comparison.rows]
    rows = [(key, *(_plain(row.get(name)) for name in names)) for key, row in comparison.differing.items()]
    line = "Besides the method and its head, the recipes differ in this; a difference in accuracy may come from it."
    return Section("Differences", [line, Table(("setting", *names), rows)] if rows else [])


def _measured(fit_commands: Sequence[str]) -> Section:
    threads = f"{costs.THREADS} thread{'s' if costs.THREADS > 1 else ''}"
    lines = [
        f"Milliseconds: {processor()}, {threads}, bound to a core, one uint8 crop in, points out, normalisation and "
        "decoding included; a process for each model and runtime, asked in turn, the median of all runs, in CPU time, which "
        "other programs don't lengthen. Measured "
        "after the training, with nothing of it running.",
        "Memory: the most that such a process held, less what Python and the runtime held before the model was loaded "
        "(ONNX Runtime's where it ran). MACs: multiply-adds of one crop, the network without its decoder. Parameters: "
        "all that a prediction needs; what only the loss uses (the flow of rle) is left out.",
        f"Training: the mean over seeds of the seconds of all epochs, val included, on {cores()} cores; runs that were "
        "trained at the same time share them.",
        "Accuracy: each run's best epoch by NME on val, averaged weights. All methods see the same boxes and, with the "
        "same seed, the same order of instances with the same augmentation.",
    ]
    return Section("How it was measured", [*lines, Commands(fit_commands)])


def _plain(value: object) -> str:
    return value if isinstance(value, str) else "–" if value is None else str(value)
