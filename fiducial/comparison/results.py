"""A comparison as values: rows, best first, what they differ in with intervals, fronts; as words, as JSON, as CSV."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fiducial.comparison import statistics
from fiducial.comparison.costs import VariantCost
from fiducial.comparison.runs import NAMES, Variant
from fiducial.comparison.scores import JITTERS, Scores
from fiducial.comparison.statistics import Difference, Spread
from fiducial.evaluation.metrics import mean
from fiducial.files import finite
from fiducial.types import Instances, Skeleton


@dataclass(frozen=True, kw_only=True)
class Measure:
    """An error that runs are judged by; of all of them less is better."""

    name: str  # in `Scores.errors` and in files
    title: str  # with its unit: of a column
    unit: str  # in a sentence
    factor: float = 1.0  # from the values that are kept to the unit
    digits: int = 2
    less: str = "better"  # what a row is whose error is the smaller
    more: str = "worse"

    def text(self, value: float, sign: str = "") -> str:
        """Writes a value in the unit, `13.60`; an en dash for NaN. sign: "+" = always with its sign."""
        return "–" if math.isnan(value) else f"{self.factor * value:{sign}.{self.digits}f}"


NME = Measure(name="nme", title="NME %", unit="% NME", factor=100.0)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A variant with all that is known of it."""

    name: str  # in tables and charts
    variant: Variant
    scores: Scores
    cost: VariantCost
    front: Mapping[str, bool] = field(default_factory=dict)  # runtime -> nothing is as accurate and quicker
    about: Mapping[str, Any] = field(default_factory=dict)  # what results.json says of it besides

    def spread(self, measure: str) -> Spread | None:
        """Gives the mean errors of the runs; None where this was not measured on them."""
        errors = self.scores.errors.get(measure)
        return None if errors is None else Spread.of(np.array([mean(of_seed) for of_seed in errors]))

    def figure(self, name: str) -> float | None:
        """Averages one of the other figures over the runs; None where no run has it."""
        values = [value for of_seed in self.scores.figures if (value := of_seed.get(name)) is not None]
        return sum(values) / len(values) if values else None

    def milliseconds(self, runtime: str) -> float:
        """Gives the time of one crop; NaN where it could not be measured."""
        return self.cost.milliseconds(runtime)


@dataclass(frozen=True)
class Contrast:
    """One row against another, on the same instances."""

    name: str
    other: str
    measure: Measure
    difference: Difference

    @property
    def words(self) -> str:
        """Says how large the difference is and whether to believe it."""
        measure, apart = self.measure, self.difference
        seeds = f"{apart.seeds} seed{'s' if apart.seeds > 1 else ''}"
        if apart.within_noise:
            verdict = f"no difference beyond noise with {seeds}"
        elif apart.seeds == 1:
            verdict = f"{self.word} beyond noise of these frames; with one seed each another seed may turn it round"
        else:
            verdict = f"{self.word} beyond noise with {seeds}"
        low, high = measure.text(apart.low, "+"), measure.text(apart.high, "+")
        size = f"{measure.text(apart.mean, '+')} {measure.unit} ({low} to {high})"
        return f"{self.name} against {self.other}: {size}, {verdict}"

    @property
    def word(self) -> str:
        """Says what the first row is: better, nearer to the teacher."""
        return self.measure.less if self.difference.mean < 0 else self.measure.more


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """What methods were scored on."""

    split: str
    instances: Instances  # [n]
    reference: str  # name of the row that the others are held against
    differing: Mapping[str, Mapping[str, Any]]  # settings besides the method: setting -> row -> value


@dataclass(frozen=True, kw_only=True)
class Taught:
    """What students were scored on, and the teacher as a row."""

    teacher: Row
    skeleton: Skeleton
    count: int  # of held-out crops
    shown: np.ndarray  # [p, h, w, 3] uint8: some of them
    shown_rows: np.ndarray  # [p] which of all they are


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything that the page shows and the files hold."""

    title: str
    answer: Sequence[str]  # in words, the most important first
    notes: Sequence[str]  # what must be known before the figures are believed
    measures: Sequence[Measure]  # the first decides the order
    rows: Sequence[Row]  # best first
    contrasts: Sequence[Contrast]
    failures: Mapping[str, str]  # run -> why
    problems: Sequence[str] = ()  # of the data
    about: Mapping[str, Any] = field(default_factory=dict)  # what results.json says besides
    labelled: Labelled | None = None  # one of the two is there
    taught: Taught | None = None

    @property
    def runtimes(self) -> list[str]:
        """Lists those that a row was timed in."""
        return runtimes_of(self.rows)

    def contrast(self, row: Row) -> Contrast | None:
        """Gives the row against the reference; None for the reference itself and where there is none."""
        return next((each for each in self.contrasts if self.labelled is not None and each.name == row.name), None)


def ranked(rows: Sequence[Row], measure: Measure) -> list[Row]:
    """Sorts rows by the mean error, those without one last."""

    def order(row: Row) -> tuple[bool, float]:
        spread = row.spread(measure.name)
        return (True, 0.0) if spread is None or math.isnan(spread.mean) else (False, spread.mean)

    return sorted(rows, key=order)


def contrast(row: Row, other: Row, measure: Measure) -> Contrast | None:
    """Holds one row against another; None where one of them was not measured so."""
    first, second = (each.scores.errors.get(measure.name) for each in (row, other))
    if first is None or second is None:
        return None
    return Contrast(row.name, other.name, measure, statistics.paired_bootstrap(first, second))


def runtimes_of(rows: Sequence[Row]) -> list[str]:
    """Lists the runtimes that a row was timed in, in the order in which they are shown."""
    return [runtime for runtime in NAMES if any(runtime in row.cost.latency for row in rows)]


# ----------------------------------------------------------------------------------------------- the answer of methods


def answer(
    rows: Sequence[Row], contrasts: Sequence[Contrast], failures: Mapping[str, str], *, split: str, reference: str
) -> list[str]:
    """Says which method is best, which can't be told from it, which is best within some milliseconds: sentences."""
    best = rows[0]
    lines = [f"Most accurate on {split}: {best.name}, NME {_nme(best)}."]
    lines += _noise(rows, contrasts, reference)
    lines += [line for runtime in runtimes_of(rows) if (line := _quickest(rows, runtime))]
    single = [row.name for row in rows if len(row.variant.runs) == 1]
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


def _noise(rows: Sequence[Row], contrasts: Sequence[Contrast], reference: str) -> list[str]:
    means = {row.name: mean_nme(row) for row in rows}
    whom = "it" if reference == rows[0].name else reference
    alike = [each.name for each in contrasts if each.difference.within_noise]
    apart = [each.name for each in contrasts if not each.difference.within_noise]
    better = [name for name in apart if means[name] < means[reference]]
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
    front.sort(key=lambda row: row.milliseconds(runtime))
    where = f"On {NAMES[runtime]}, one thread, one image at a time: "
    if len(front) == 1 and len(rows) > 1 and front[0] is rows[0]:
        return f"{where}{front[0].name} is the quickest too, {front[0].milliseconds(runtime):.2f} ms."
    parts = [f"within {row.milliseconds(runtime):.2f} ms {row.name} ({_nme(row)})" for row in front]
    return f"{where}best {_list(parts)}."


def percent(value: float) -> str:
    """Writes a fraction as `5.10 %`."""
    return "–" if math.isnan(value) else f"{100 * value:.2f} %"


def mean_nme(row: Row) -> float:
    """Gives the mean NME of a row; NaN where it was not measured."""
    spread = row.spread(NME.name)
    return math.nan if spread is None else spread.mean


def _nme(row: Row) -> str:
    return percent(mean_nme(row))


def _list(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _verb(subjects: Sequence[str], one: str, several: str) -> str:
    return one if len(subjects) == 1 else several


# ------------------------------------------------------------------------------------------------------- as files


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Makes results.json: everything in the tables, all seeds. Fractions, not percent; None = not measured."""
    return {
        "answer": list(comparison.answer),
        **comparison.about,
        "runtimes": comparison.runtimes,
        "rows": [row_json(row, comparison) for row in comparison.rows],
        "differences": [
            {"of": each.name, "against": each.other, "metric": each.measure.name, **difference_json(each.difference)}
            for each in comparison.contrasts
        ],
        "failures": dict(comparison.failures),
        "notes": list(comparison.notes),
        "problems": list(comparison.problems),
    }


def row_json(row: Row, comparison: Comparison) -> dict[str, Any]:
    """Makes one entry of results.json's rows."""
    variant, scores, against = row.variant, row.scores, comparison.contrast(row)
    spreads = {name: spread_json(spread) for name in scores.errors if (spread := row.spread(name)) is not None}
    figures = dict.fromkeys(name for of_seed in scores.figures for name in of_seed)
    values = {
        "name": row.name,
        "backbone": variant.backbone,
        "size": str(variant.size),
        "seeds": list(variant.seeds),
        "runs": [str(run.path) for run in variant.runs],
        "nme": spreads.get(NME.name),
        "difference": None if against is None else difference_json(against.difference),
        "metrics": {**{name: _mean_and_seeds(row, name) for name in figures}, **spreads},
        "parameters": row.cost.static.parameters,
        "macs": row.cost.static.macs,
        "weight_bytes": row.cost.static.weight_bytes,
        "training_seconds": variant.training_seconds,
        "latency": {runtime: _latency_json(row, runtime) for runtime in row.cost.latency},
    }
    if scores.jitter_nme is not None and scores.point_nme is not None:
        by_jitter = zip(JITTERS, scores.jitter_nme.mean(0), strict=True)
        values["box_jitter"] = {f"{jitter:g}": finite(float(value)) for jitter, value in by_jitter}
        values["nme_per_point"] = [finite(float(value)) for value in scores.point_nme.mean(0)]
    return {**values, **row.about}


def spread_json(spread: Spread) -> dict[str, Any]:
    """Makes the entry of a figure of several seeds."""
    return {
        "mean": finite(spread.mean),
        "low": finite(spread.low),
        "high": finite(spread.high),
        "standard_deviation": finite(spread.deviation),
        "seeds": [finite(value) for value in spread.values],
    }


def difference_json(difference: Difference) -> dict[str, Any]:
    """Makes the entry of a difference with its interval."""
    return {
        "mean": finite(difference.mean),
        "low": finite(difference.low),
        "high": finite(difference.high),
        "seeds": difference.seeds,
        "share_better": finite(difference.share_better),
        "within_noise": difference.within_noise,
    }


def _mean_and_seeds(row: Row, name: str) -> dict[str, Any]:
    return {"mean": row.figure(name), "seeds": [of_seed.get(name) for of_seed in row.scores.figures]}


def _latency_json(row: Row, runtime: str) -> dict[str, Any]:
    latency = row.cost.latency[runtime]
    names = ("median_ms", "p10_ms", "p90_ms", "threads", "decode", "model_memory_bytes", "difference_px", "error")
    values = {name: getattr(latency, name) for name in names}
    return {"ms": finite(row.milliseconds(runtime)), **values, "on_front": row.front.get(runtime, False)}


def row_lines(comparison: Comparison) -> list[dict[str, Any]]:
    """Makes the lines of a comparison's results.csv: one a row of the table."""
    lines = []
    for row in comparison.rows:
        values = row_json(row, comparison)
        difference, latency = values["difference"] or {}, values["latency"]
        line = {name: values[name] for name in ("name", "method", "backbone", "size")}
        line["seeds"] = len(values["runs"])
        line |= {f"nme_{name}": values["nme"][name] for name in ("mean", "low", "high", "standard_deviation")}
        line |= {f"difference_{name}": difference.get(name) for name in ("mean", "low", "high")}
        line |= {name: difference.get(name) for name in ("share_better", "within_noise")}
        for name, key in (("ms", "ms"), ("memory_bytes", "model_memory_bytes")):
            line |= {f"{runtime}_{name}": latency.get(runtime, {}).get(key) for runtime in comparison.runtimes}
        line |= {name: values[name] for name in ("parameters", "macs", "weight_bytes", "training_seconds")}
        line |= {f"nme_box_jitter_{name}": value for name, value in values["box_jitter"].items()}
        lines.append(line)
    return lines


def run_lines(comparison: Comparison) -> list[dict[str, Any]]:
    """Makes the lines of a study's results.csv: one a run."""
    lines = []
    for row in comparison.rows:
        for i, run in enumerate(row.variant.runs):
            errors = {name: finite(mean(of_seeds[i])) for name, of_seeds in row.scores.errors.items()}
            seconds = round(sum(epoch["seconds"] for epoch in run.history()), 1)
            cost = {"parameters": row.cost.static.parameters, "training_seconds": seconds}
            named = {"arm": run.name, **{name: row.about[name] for name in ("loss", "start")}}
            when = {"seed": run.seed, "epoch": run.card.metrics["epoch"]}
            lines.append({**named, **when, **cost, **errors, **row.scores.figures[i]})
    return lines
