"""A comparison as values: rows, best first, what they differ in with intervals, and what a page shows of them; as JSON.

What is compared (methods on labelled data, students of a teacher) differs in its measures, its columns and its words;
those are values here, so that neither the table nor the page knows of what it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from fiducial.comparison import statistics
from fiducial.comparison.costs import VariantCost
from fiducial.comparison.runs import NAMES, Variant
from fiducial.comparison.statistics import Difference, Spread
from fiducial.errors import counted
from fiducial.files import finite
from fiducial.report.page import Fact, Section
from fiducial.report.plot import Chart


@dataclass(frozen=True, kw_only=True)
class Measure:
    """An error that runs are judged by; of all of them less is better."""

    name: str  # in `Row.errors` and in files
    title: str  # with its unit: of a column
    unit: str  # in a sentence
    factor: float = 1.0  # from the values that are kept to the unit
    digits: int = 2
    less: str = "better"  # what a row is whose error is the smaller
    more: str = "worse"

    def text(self, value: float, sign: str = "") -> str:
        """Writes a value in the unit, `13.60`; an en dash for NaN. sign: "+" = always with its sign."""
        return "–" if math.isnan(value) else f"{self.factor * value:{sign}.{self.digits}f}"

    def in_unit(self, value: float) -> str:
        """Writes a value with its unit in a sentence that names the measure, `13.60 %`; of NME alone."""
        return f"{self.text(value)} %"


NME = Measure(name="nme", title="NME %", unit="% NME", factor=100.0)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A variant of s runs, with all that is known of it on n instances, the same for all rows."""

    name: str  # in tables and charts
    variant: Variant | None  # None where nothing was trained: the mean shape
    errors: Mapping[str, np.ndarray]  # by the measure's name [s, n]; NaN where not measured
    cost: VariantCost
    figures: Sequence[Mapping[str, float | None]] = ()  # of each run, by name: what is no error of single instances
    predicted: np.ndarray | None = None  # [s, p, k, 2] points for images, in the frame of whoever draws them
    front: Mapping[str, bool] = field(default_factory=dict)  # runtime -> nothing is as accurate and quicker
    about: Mapping[str, Any] = field(default_factory=dict)  # what results.json says of it besides
    groups: np.ndarray | None = None  # [n] numbers of the instances that belong together; None: each is one by itself

    def spread(self, measure: Measure) -> Spread | None:
        """Gives the mean errors of the runs; None where this was not measured on them."""
        errors = self.errors.get(measure.name)
        return None if errors is None else Spread.of(errors)

    def mean(self, measure: Measure) -> float:
        """Gives the mean error; NaN where it was not measured."""
        spread = self.spread(measure)
        return math.nan if spread is None else spread.mean

    def figure(self, name: str) -> float | None:
        """Averages one of the figures over the runs; None where no run has it."""
        values = [value for of_seed in self.figures if (value := of_seed.get(name)) is not None]
        return sum(values) / len(values) if values else None


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
        seeds = counted(apart.seeds, "seed")
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
class Comparison:
    """Everything that the page shows and the files hold."""

    title: str
    answer: Sequence[str]  # in words, the most important first
    notes: Sequence[str]  # what must be known before the figures are believed
    measures: Sequence[Measure]  # the first decides the order
    rows: Sequence[Row]  # best first
    contrasts: Sequence[Contrast]
    failures: Mapping[str, str]  # run -> why
    about: Mapping[str, Any]  # what results.json says besides
    lines: Sequence[Mapping[str, Any]]  # of results.csv
    problems: Sequence[str] = ()  # of the data
    reference: str | None = None  # the row that all others are held against, where there is one
    beside: Sequence[Row] = ()  # shown with the rows, not ranked among them: the teacher, the mean shape
    # Of the page:
    scored_on: str  # in the table's title: val, held-out crops
    columns: Mapping[str, Callable[[Row], object]] = field(default_factory=dict)  # of the table, besides the usual
    column_note: str = ""  # what they mean
    facts: Sequence[Fact] = ()
    charts: Sequence[Chart] = ()
    curves: Sequence[tuple[str, str, str, float]] = ()  # of training: column of history.csv, title, unit, factor
    evidence: Sequence[Section] = ()  # after the charts: pictures, figures of points
    settings: Sequence[Section] = ()  # in what recipes differ
    measured: Sequence[str] = ()  # how, in sentences
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def runtimes(self) -> list[str]:
        """Lists those that a row was timed in."""
        return runtimes_of(self.rows)


def ranked(rows: Sequence[Row], measure: Measure) -> list[Row]:
    """Sorts rows by the mean error, those without one last."""

    def order(row: Row) -> tuple[bool, float]:
        mean = row.mean(measure)
        return math.isnan(mean), 0.0 if math.isnan(mean) else mean

    return sorted(rows, key=order)


def contrast(row: Row, other: Row, measure: Measure) -> Contrast | None:
    """Holds one row against another; None where one of them was not measured so."""
    first, second = (either.errors.get(measure.name) for either in (row, other))
    if first is None or second is None:
        return None
    return Contrast(row.name, other.name, measure, statistics.paired_bootstrap(first, second, groups=row.groups))


def runtimes_of(rows: Sequence[Row]) -> list[str]:
    """Lists the runtimes that a row was timed in, in the order in which they are shown."""
    return [runtime for runtime in NAMES if any(runtime in row.cost.latency for row in rows)]


# -------------------------------------------------------------------------------------------------------- as JSON


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Makes results.json: everything in the tables, all seeds. Fractions, not percent; None = not measured."""
    against = {one.name: one for one in comparison.contrasts if one.other == comparison.reference}
    return {
        "answer": list(comparison.answer),
        **comparison.about,
        "runtimes": comparison.runtimes,
        "rows": [row_json(row, against.get(row.name)) for row in comparison.rows],
        "differences": [
            {"of": one.name, "against": one.other, "metric": one.measure.name, **plain(one.difference)}
            for one in comparison.contrasts
        ],
        "failures": dict(comparison.failures),
        "notes": list(comparison.notes),
        "problems": list(comparison.problems),
    }


def row_json(row: Row, against: Contrast | None) -> dict[str, Any]:
    """Makes one entry of results.json's rows; `against` is the row's difference to the reference."""
    assert row.variant is not None
    spreads = {name: plain(Spread.of(errors)) for name, errors in row.errors.items()}
    figures = {
        name: {"mean": row.figure(name), "seeds": [of_seed.get(name) for of_seed in row.figures]}
        for name in dict.fromkeys(name for of_seed in row.figures for name in of_seed)
    }
    return {
        "name": row.name,
        "backbone": row.variant.backbone,
        "size": str(row.variant.size),
        "seeds": list(row.variant.seeds),
        "runs": [str(run.path) for run in row.variant.runs],
        "nme": spreads.get(NME.name),
        "difference": None if against is None else plain(against.difference),
        "metrics": {**figures, **spreads},
        **asdict(row.cost.static),
        "training_seconds": row.variant.training_seconds,
        "latency": {runtime: _latency_json(row, runtime) for runtime in row.cost.latency},
        **row.about,
    }


def plain(values: Spread | Difference) -> dict[str, Any]:
    """Makes JSON of figures: None where one is NaN."""
    return {
        name: [finite(item) for item in value] if isinstance(value, tuple) else finite(value)
        for name, value in asdict(values).items()
    }


def _latency_json(row: Row, runtime: str) -> dict[str, Any]:
    latency = row.cost.latency[runtime]
    names = ("median_ms", "p10_ms", "p90_ms", "threads", "decode", "model_memory_bytes", "difference_px", "error")
    values = {name: getattr(latency, name) for name in names}
    return {"ms": finite(row.cost.milliseconds(runtime)), **values, "on_front": row.front.get(runtime, False)}
