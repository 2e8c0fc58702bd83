"""The comparison as values: rows, best first, with intervals and fronts; as JSON, as CSV, and the answer in words."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fiducial.comparison import statistics
from fiducial.comparison.costs import VariantCost
from fiducial.comparison.runs import NAMES, Variant, differing_settings
from fiducial.comparison.scores import JITTERS, Scores
from fiducial.comparison.statistics import Difference, Spread
from fiducial.errors import UserError, did_you_mean
from fiducial.types import Instances


@dataclass(frozen=True)
class Row:
    """A variant with all that is known of it."""

    name: str  # in tables and charts
    variant: Variant
    scores: Scores
    cost: VariantCost
    nme: Spread
    difference: Difference | None  # to the reference; None for the reference itself
    front: dict[str, bool]  # runtime -> nothing is as accurate and quicker

    def milliseconds(self, runtime: str) -> float:
        """NaN where it could not be measured."""
        return self.cost.milliseconds(runtime)


@dataclass(frozen=True)
class Comparison:
    """Everything that the page shows and the files hold."""

    data: str
    split: str
    instances: Instances  # [n] those that were scored
    rows: tuple[Row, ...]  # best first
    reference: str  # name of the row that the others are compared with
    differing: dict[str, dict[str, Any]]  # settings besides the method: setting -> row -> value
    failures: dict[str, str]  # run -> why
    problems: tuple[str, ...]

    @property
    def best(self) -> Row:
        return self.rows[0]

    @property
    def runtimes(self) -> list[str]:
        """Those that a row was timed in."""
        return [runtime for runtime in NAMES if any(runtime in row.cost.latency for row in self.rows)]


def names_of(variants: Sequence[Variant]) -> list[str]:
    """The methods' labels, with backbone and size where these differ: unique."""
    several_backbones = len({variant.backbone for variant in variants}) > 1
    several_sizes = len({variant.size for variant in variants}) > 1
    names: list[str] = []
    for variant in variants:
        parts = [variant.method]
        parts += [variant.backbone] if several_backbones else []
        parts += [str(variant.size)] if several_sizes else []
        name = " ".join(parts)
        names.append(name if name not in names else f"{name} ({variant.runs[0].path})")
    return names


def compare(
    variants: Mapping[str, Variant], scores: Mapping[str, Scores], costs: Mapping[str, VariantCost], *, data: str,
    split: str, instances: Instances, baseline: str | None = None, failures: Mapping[str, str] | None = None,
    problems: Sequence[str] = (),
) -> Comparison:  # fmt: skip
    """Rows best first by mean NME; differences to `baseline` (a row's name or a method's label), else to the best."""
    spreads = {name: Spread.of(scores[name].nme) for name in variants}
    order = sorted(variants, key=lambda name: (math.isnan(spreads[name].mean), spreads[name].mean))
    reference = order[0] if baseline is None else find_row(baseline, variants)
    fronts = {runtime: _front(order, spreads, costs, runtime) for runtime in NAMES}
    rows = tuple(
        Row(
            name, variants[name], scores[name], costs[name], spreads[name],
            None if name == reference
            else statistics.paired_bootstrap(scores[name].instance_nme, scores[reference].instance_nme),
            {runtime: fronts[runtime][i] for runtime in costs[name].latency},
        )
        for i, name in enumerate(order)
    )  # fmt: skip
    recipes = {name: recipe for name in order if (recipe := variants[name].runs[0].recipe) is not None}
    differing = differing_settings(recipes)
    return Comparison(data, split, instances, rows, reference, differing, dict(failures or {}), tuple(problems))


def find_row(baseline: str, variants: Mapping[str, Variant]) -> str:
    """The name of the row that `--baseline` means."""
    found = rows_of(baseline, variants)
    if len(found) != 1:
        what = "no such method." if not found else f"{len(found)} rows are of this method; name one."
        raise UserError(f"--baseline {baseline!r}: {what}{did_you_mean(baseline, variants)}")
    return found[0]


def rows_of(baseline: str, variants: Mapping[str, Variant]) -> list[str]:
    """The row of this name, else all rows of the method."""
    return [baseline] if baseline in variants else [n for n, variant in variants.items() if baseline == variant.method]


def _front(
    order: Sequence[str], spreads: Mapping[str, Spread], costs: Mapping[str, VariantCost], runtime: str
) -> list[bool]:
    milliseconds = np.array([costs[name].milliseconds(runtime) for name in order])
    errors = np.array([spreads[name].mean for name in order]) / statistics.ROUNDING
    return statistics.pareto_front(errors.round(), milliseconds).tolist()


# ------------------------------------------------------------------------------------------------------- in words


def answer(comparison: Comparison) -> list[str]:
    """Which is best, which can't be told from it, which is best within some milliseconds: sentences."""
    best = comparison.best
    lines = [f"Most accurate on {comparison.split}: {best.name}, NME {percent(best.nme.mean)}."]
    lines += [
        *_noise(comparison),
        *(line for runtime in comparison.runtimes if (line := _quickest(comparison, runtime))),
    ]
    single = [row.name for row in comparison.rows if len(row.variant.runs) == 1]
    if single and len(comparison.rows) > 1:
        who = "All methods have" if len(single) == len(comparison.rows) else f"{_list(single)} {_has(single)}"
        lines.append(
            f"{who} one seed: how much training again with another one changes the figures has not been measured. "
            "--seeds 3 measures it."
        )
    if comparison.failures:
        count = len(comparison.failures)
        lines.append(f"{count} of the runs failed and {'is' if count == 1 else 'are'} missing here; why is said below.")
    return lines


def _noise(comparison: Comparison) -> list[str]:
    others = [row for row in comparison.rows if row.difference is not None]
    reference = next(row for row in comparison.rows if row.name == comparison.reference)
    is_best = reference is comparison.best
    alike = [row.name for row in others if row.difference is not None and row.difference.within_noise]
    better = [row.name for row in others if row.name not in alike and row.nme.mean < reference.nme.mean]
    worse = [row.name for row in others if row.name not in alike and row.name not in better]
    whom = "it" if is_best else reference.name
    lines = []
    if alike:
        lines.append(f"{_list(alike)} can't be told from {whom}: the difference is within noise.")
    if better:
        lines.append(f"{_list(better)} {_is(better)} more accurate than {whom} beyond noise.")
    if worse:
        lines.append(f"{_list(worse)} {_is(worse)} less accurate than {whom} beyond noise.")
    return lines


def _quickest(comparison: Comparison, runtime: str) -> str:
    """The front as budgets."""
    front = sorted(
        (row for row in comparison.rows if row.front.get(runtime)), key=lambda row: row.milliseconds(runtime)
    )
    if not front:
        return ""
    where = f"On {NAMES[runtime]}, one thread, one image at a time: "
    if len(front) == 1 and len(comparison.rows) > 1 and front[0] is comparison.best:
        return f"{where}{front[0].name} is the quickest too, {front[0].milliseconds(runtime):.2f} ms."
    parts = [f"within {row.milliseconds(runtime):.2f} ms {row.name} ({percent(row.nme.mean)})" for row in front]
    return f"{where}best {_list(parts)}."


def percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.2f} %"


def _list(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _is(words: Sequence[str]) -> str:
    return "is" if len(words) == 1 else "are"


def _has(words: Sequence[str]) -> str:
    return "has" if len(words) == 1 else "have"


# ------------------------------------------------------------------------------------------------------- as files


def as_json(comparison: Comparison) -> dict[str, Any]:
    """results.json: everything in the table, all seeds, all points. Fractions, not percent; None = not measured."""
    return {
        "data": comparison.data,
        "split": comparison.split,
        "count": len(comparison.instances),
        "normalizer": comparison.instances.skeleton.normalizer.name,
        "points": list(comparison.instances.skeleton.points),
        "answer": answer(comparison),
        "reference": comparison.reference,
        "runtimes": comparison.runtimes,
        "rows": [_row_json(row) for row in comparison.rows],
        "differing_settings": comparison.differing,
        "failures": comparison.failures,
        "problems": list(comparison.problems),
    }


def _row_json(row: Row) -> dict[str, Any]:
    difference, scores, variant = row.difference, row.scores, row.variant
    names = dict.fromkeys(name for numbers in scores.numbers for name in numbers)
    metrics = {name: [numbers.get(name) for numbers in scores.numbers] for name in names}
    return {
        "name": row.name,
        "method": variant.method,
        "backbone": variant.backbone,
        "size": str(variant.size),
        "seeds": list(variant.seeds),
        "runs": [str(run.path) for run in variant.runs],
        "exported": None if (export := variant.runs[0].export) is None else {
            "runtime": export.runtime, "precision": export.precision,
        },
        "nme": {"mean": _finite(row.nme.mean), "low": _finite(row.nme.low), "high": _finite(row.nme.high),
                "standard_deviation": _finite(row.nme.deviation), "seeds": [_finite(v) for v in row.nme.values]},
        "difference": None if difference is None else {
            "mean": _finite(difference.mean), "low": _finite(difference.low), "high": _finite(difference.high),
            "share_better": _finite(difference.share_better), "within_noise": difference.within_noise,
        },
        "metrics": {name: {"mean": _mean(values), "seeds": values} for name, values in metrics.items()},
        "box_jitter": {f"{jitter:g}": _finite(value)
                       for jitter, value in zip(JITTERS, scores.jitter_nme.mean(0), strict=True)},
        "nme_per_point": [_finite(value) for value in scores.point_nme.mean(0)],
        "latency": {name: {"ms": _finite(row.milliseconds(name)), "median_ms": own.median_ms, "p10_ms": own.p10_ms, "p90_ms": own.p90_ms,
                           "threads": own.threads, "decode": own.decode, "model_memory_bytes": own.model_memory_bytes,
                           "difference_px": own.difference_px, "error": own.error, "on_front": row.front[name]}
                    for name, own in row.cost.latency.items()},
        "parameters": row.cost.static.parameters,
        "macs": row.cost.static.macs,
        "weight_bytes": row.cost.static.weight_bytes,
        "training_seconds": row.cost.training_seconds,
    }  # fmt: skip


def as_csv(comparison: Comparison) -> str:
    """results.csv: one line a row of the table."""
    lines = []
    for row in comparison.rows:
        own = _row_json(row)
        difference, latency = own["difference"] or {}, own["latency"]
        lines.append(
            {
                **{name: own[name] for name in ("name", "method", "backbone", "size")},
                "seeds": len(own["runs"]),
                **{f"nme_{name}": own["nme"][name] for name in ("mean", "low", "high", "standard_deviation")},
                **{f"difference_{name}": difference.get(name) for name in ("mean", "low", "high")},
                "share_better": difference.get("share_better"),
                "within_noise": difference.get("within_noise"),
                **{f"{name}_ms": latency.get(name, {}).get("ms") for name in comparison.runtimes},
                **{
                    f"{name}_memory_bytes": latency.get(name, {}).get("model_memory_bytes")
                    for name in comparison.runtimes
                },
                **{name: own[name] for name in ("parameters", "macs", "weight_bytes", "training_seconds")},
                **{f"nme_box_jitter_{name}": value for name, value in own["box_jitter"].items()},
            }
        )
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
