"""OUT/report.html and search.json: the file that ships and its proof, what else was tried, what was dropped and why."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import config
from fiducial.comparison.statistics import pareto_front
from fiducial.data.source import Source
from fiducial.errors import counted
from fiducial.profiling.machine import processor
from fiducial.report import charts
from fiducial.report.charts import Curve, Dot
from fiducial.report.page import Charts, Commands, Fact, Figure, Page, Section, Table, recipe_section, write_page
from fiducial.runtime import runtime
from fiducial.searching import halving
from fiducial.searching.budget import Budget
from fiducial.searching.rungs import cell_of
from fiducial.searching.shipping import Shipped
from fiducial.searching.state import STUDENT_RUN, State
from fiducial.training import history


@dataclass(frozen=True, kw_only=True)
class Row:
    """A run that was trained."""

    name: str
    label: str
    backbone: str
    size: str
    title: str
    precision: str
    ms: float  # of the table: random weights
    nme: float  # val, its best epoch
    epochs: int
    minutes: float
    on_front: bool  # nothing that was trained is as accurate and quicker


def write(state: State, shipped: Shipped, budget: Budget, source: Source, out: Path, used_s: float) -> dict[str, Any]:
    """Writes search.json and the page; gives what the former holds, and `files`."""
    rows = rows_of(state, out)
    figures = as_json(state, rows, shipped, budget, source, used_s)
    config.write_json(out / "search.json", figures)
    page = page_of(state, rows, shipped, budget, source, out, figures)
    written = {
        "model": shipped.file,
        "report": str(write_page(out / "report.html", page)),
        "figures": str(out / "search.json"),
    }
    return {**figures, "files": written}


def rows_of(state: State, out: Path) -> list[Row]:
    """Lists the runs that were trained, best first."""
    best = state.best()
    error = np.array([nme for _, nme, _ in best])
    ms = np.array([state.candidate(name).ms for name, _, _ in best])
    front = pareto_front(error, ms).tolist()
    rows = []
    for (name, nme, epochs), on_front in zip(best, front, strict=True):
        candidate = state.candidate(name)
        seconds = sum(row.get("seconds", 0.0) for row in history.read(out / "runs" / name / "history.csv"))
        rows.append(
            Row(
                name=name,
                label=candidate.label,
                backbone=candidate.recipe.backbone,
                size=str(candidate.recipe.size),
                title=candidate.title,
                precision=candidate.precision,
                ms=candidate.ms,
                nme=nme,
                epochs=epochs,
                minutes=round(seconds / 60, 2),
                on_front=on_front,
            )
        )
    return rows


def as_json(
    state: State, rows: Sequence[Row], shipped: Shipped, budget: Budget, source: Source, used_s: float
) -> dict[str, Any]:
    """Makes search.json. Fractions, not percent."""
    row = next(row for row in rows if row.name == shipped.run)
    return {
        "answer": answer(row, state, shipped, budget),
        "data": str(source),
        "budget": {"ms": budget.ms, "runtime": budget.place.runtime, "threads": budget.place.threads},
        "device": processor(),
        "minutes": {"asked": state.asked["minutes"], "used": round(used_s / 60, 2)},
        "winner": {
            "run": f"runs/{row.name}",
            "file": shipped.file,
            "method": row.label,
            "backbone": row.backbone,
            "size": row.size,
            "ms": list(shipped.ms),
            "median_ms": statistics.median(shipped.ms),
            "most_ms": max(shipped.ms),
            "keeps_budget": shipped.keeps,
        },
        "split": "val",
        "count": shipped.val["count"],
        "normalizer": shipped.val["normalizer"],
        "metrics": shipped.val["metrics"],
        "intervals": shipped.val.get("intervals"),
        "floor": shipped.val.get("floor"),
        "test": None
        if shipped.test is None
        else {name: shipped.test.get(name) for name in ("count", "metrics", "intervals", "floor")},
        "rungs": [
            {"runs": len(rung.runs), "epochs": rung.epochs, "nme": dict(rung.nme), "failures": dict(rung.failures)}
            for rung in state.rungs
        ],
        "tried": [vars(row) for row in rows],
        "dropped": [vars(each) for each in state.dropped],
        "teaching": None if state.lesson is None else state.lesson.outcome,
        "plan": list(state.plan),
        "notes": notes(state, shipped),
    }


def answer(row: Row, state: State, shipped: Shipped, budget: Budget) -> list[str]:
    """Says in sentences what ships and what it is worth."""
    title = runtime.titles()[budget.place.runtime]
    threads = counted(budget.place.threads, "thread")
    most, middle = max(shipped.ms), statistics.median(shipped.ms)
    over = sum(ms > budget.ms for ms in shipped.ms)
    if shipped.keeps is None:
        holds = f"measured on this machine; {row.ms:.3g} ms by the table of {state.device}, {budget.ms:g} allowed there"
    elif shipped.keeps:
        holds = f"within the budget of {budget.ms:g} ms in all {len(shipped.ms)} measurements"
    else:
        holds = f"over the budget of {budget.ms:g} ms in {over} of {len(shipped.ms)} measurements"
    lines = [
        f"{row.title}: {middle:.3g} ms a crop in {title} on {threads}, {holds} (at most {most:.3g}).",
        f"The file that ships: {_nme(shipped.val, 'val')}.",
    ]
    if shipped.test is not None:
        lines.append(f"On test, which was looked at once, at the end: {_nme(shipped.test, 'test')}.")
    return lines


def notes(state: State, shipped: Shipped) -> list[str]:
    """Lists what must be known before the figures are believed."""
    lines = list(state.notes)
    lines.append(
        "val chose the network and its best epoch, which flatters its figure"
        + (
            "; the figure on test does not suffer from that."
            if shipped.test is not None
            else ", and there is no test split."
        )
    )
    lines.append(
        "One seed each. Figures of runs that were left in an early rung are of few epochs: they say who went on, not what "
        "such a network can come to."
    )
    return lines


def short_table(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Makes a few columns for the terminal."""
    return [
        {
            "": row["title"],
            "val NME %": f"{100 * row['nme']:.2f}",
            "epochs": row["epochs"],
            "ms": f"{row['ms']:.2f}{' *' if row['on_front'] else ''}",
            "minutes": f"{row['minutes']:.1f}",
        }
        for row in figures["tried"]
    ]


def page_of(
    state: State,
    rows: Sequence[Row],
    shipped: Shipped,
    budget: Budget,
    source: Source,
    out: Path,
    figures: Mapping[str, Any],
) -> Page:
    """Makes the page."""
    winner = state.candidate(shipped.run)
    labelled = [row for row in rows if row.name != STUDENT_RUN]
    commands = [cell_of(state.candidate(row.name), row.epochs, source).typed(out) for row in labelled]
    commands += [] if state.lesson is None else state.lesson.commands
    minutes = figures["minutes"]
    return Page(
        title=f"The best for {budget} on {source.path.name}",
        answer=figures["answer"],
        facts=[
            Fact("val NME", _percent(shipped.val), "over " + str(shipped.val["normalizer"])),
            *([] if shipped.test is None else [Fact("test NME", _percent(shipped.test), "looked at once")]),
            Fact("ms", f"{statistics.median(shipped.ms):.3g}", f"median of {len(shipped.ms)} measurements of the file"),
            Fact("tried", str(len(rows)), f"networks that were trained, of {len(rows) + len(state.dropped)} looked at"),
            Fact("minutes", f"{minutes['used']:.0f} of {minutes['asked']:g}", "for all of it"),
        ],
        notes=figures["notes"],
        sections=[
            Section("Tried", [_tried(state, rows), _rung_table(state)]),
            Section("Charts", [Charts([_against_time(rows, budget), *_learning(rows, out)])]),
            Section("The file that ships", [_measured(shipped, budget)]),
            Section("Dropped", [_dropped(state)]),
            Section("How it was done", [*_how(state, budget), Commands(commands)]),
            recipe_section(config.to_dict(winner.recipe), f"{winner.label} on {winner.recipe.backbone}"),
        ],
        device=processor(),
    )


def _tried(state: State, rows: Sequence[Row]) -> Table:
    lines = [
        (
            row.title,
            Figure(f"{100 * row.nme:.2f}"),
            row.epochs,
            Figure(f"{row.ms:.2f}{' *' if row.on_front else ''}"),
            Figure(f"{row.minutes:.1f}"),
        )
        for row in rows
    ]
    note = (
        "Best first. ms: before training, of random weights, the median of the rounds. * = nothing that was tried is as "
        "accurate and quicker (the Pareto front)."
    )
    return Table(("", "val NME %", "epochs", "ms", "minutes"), lines, "All that were trained", note)


def _rung_table(state: State) -> Table:
    lines = []
    for number, rung in enumerate(state.rungs, 1):
        ranked = rung.ranked()
        best = ranked[0] if ranked else "–"
        lines.append(
            (
                f"rung {number}",
                len(rung.runs),
                rung.epochs,
                Figure(f"{100 * rung.nme[best]:.2f}" if ranked else "–"),
                best,
                len(rung.failures),
            )
        )
    note = f"The best of a rung, a {_ordinal(halving.ETA)}, are trained on in the next."
    return Table(("", "runs", "epochs", "best val NME %", "which", "failed"), lines, "Rungs", note)


def _ordinal(number: int) -> str:
    return {2: "half", 3: "third", 4: "quarter"}.get(number, f"{number}th")


def _dropped(state: State) -> Table:
    lines = [(each.what, Figure("–" if each.ms is None else f"{each.ms:.2f}"), each.why) for each in state.dropped]
    return Table(("", "ms", "why"), lines, "What was not trained, or not to the end, and why", last_below=True)


def _measured(shipped: Shipped, budget: Budget) -> Table:
    ms = sorted(shipped.ms)
    lines = [
        ("least", Figure(f"{ms[0]:.3f}")),
        ("median", Figure(f"{statistics.median(ms):.3f}")),
        ("most", Figure(f"{ms[-1]:.3f}")),
        ("allowed", Figure(f"{budget.ms:g}")),
    ]
    note = f"{shipped.file}, {len(ms)} times, each in a process of its own on {budget.place}; its certificate lies beside it."
    return Table(("", "ms"), lines, "The file, measured again and again", note)


def _against_time(rows: Sequence[Row], budget: Budget) -> Any:
    dots = [
        Dot(
            f"{row.label} {row.backbone} {row.size}",
            row.ms,
            100 * row.nme,
            100 * row.nme,
            100 * row.nme,
            row.on_front,
            i,
        )
        for i, row in enumerate(rows)
    ]
    note = f"Left and down is better; filled: on the front. All keep {budget.ms:g} ms. Runs have different numbers of epochs."
    return charts.scatter(
        "Accuracy against time", dots, f"ms for one crop, {budget.place} (logarithmic)", "val NME %", note
    )


def _learning(rows: Sequence[Row], out: Path) -> list[Any]:
    curves = []
    for row in rows[:8]:
        epochs = history.read(out / "runs" / row.name / "history.csv")
        known = [
            (each["epoch"] + 1, 100 * each["val/nme"])
            for each in epochs
            if math.isfinite(each.get("val/nme", math.nan))
        ]
        if known:
            x, y = zip(*known, strict=True)
            curves.append(Curve(f"{row.label} {row.backbone} {row.size}", x, y))
    note = "The learning rate rises again where a run goes on into the next rung."
    return (
        [charts.lines("Error on val over the rungs", curves, "epoch", y_label="val NME %", note=note)] if curves else []
    )


def _how(state: State, budget: Budget) -> list[str]:
    threads = "CPU time of one thread" if budget.place.threads == 1 else f"{budget.place.threads} threads, by the clock"
    return [
        f"Latencies: files as `fiducial export` writes them, of random weights, in {runtime.titles()[budget.place.runtime]}, "
        f"{threads}, one uint8 crop in, points out, a process each. A network keeps the budget where all rounds do.",
        "All runs have one plan: " + "; ".join(state.plan) + ".",
        *([] if state.lesson is None else [f"{state.lesson.outcome[:1].upper()}{state.lesson.outcome[1:]}."]),
        f"Training: successive halving. A run's epochs can be useful up to {state.most_epochs}, and {state.useful_epochs} "
        "are usual. Runs that go on are resumed, none is trained twice.",
    ]


def _nme(summary: Mapping[str, Any], split: str) -> str:
    value = summary["metrics"]["nme"]
    text = "–" if value is None else f"{100 * value:.2f} %"
    interval = (summary.get("intervals") or {}).get("nme")
    between = "" if not interval else f" ({100 * interval[0]:.2f} to {100 * interval[1]:.2f})"
    ground = summary.get("floor") or {}
    floor = "" if ground.get("nme") is None else f"; the mean shape has {100 * ground['nme']:.2f} %"
    return f"NME on {split} {text}{between}{floor}"


def _percent(summary: Mapping[str, Any]) -> str:
    value = summary["metrics"]["nme"]
    return "–" if value is None else f"{100 * value:.2f} %"
