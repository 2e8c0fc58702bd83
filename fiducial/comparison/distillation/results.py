"""What the measured runs say: one row a loss and initialisation, differences with their intervals, verdicts in words."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fiducial.comparison import statistics
from fiducial.comparison.distillation.arms import Arm
from fiducial.comparison.distillation.measures import Measured
from fiducial.comparison.statistics import Difference, Spread
from fiducial.distill.scoring import DISTANCE

CONTROL = "without the teacher"
UNITS = {DISTANCE: ("px", 1.0, 2), "nme": ("% NME", 100.0, 2)}


@dataclass(frozen=True)
class Row:
    """All seeds of one loss and initialisation."""

    name: str
    runs: tuple[Measured, ...]

    @property
    def first(self) -> Arm:
        arm = self.runs[0].arm
        assert arm is not None
        return arm

    def errors(self, metric: str) -> np.ndarray | None:
        """[s, n], None where it was not measured."""
        if not all(metric in run.errors for run in self.runs):
            return None
        return np.stack([run.errors[metric] for run in self.runs])

    def spread(self, metric: str) -> Spread | None:
        """Over seeds."""
        errors = self.errors(metric)
        return None if errors is None else Spread.of(np.nanmean(errors, 1))

    def alone(self, name: str) -> float:
        """Mean over seeds of what is measured without a teacher."""
        return float(np.mean([run.alone[name] for run in self.runs]))

    @property
    def unsteadiness_px(self) -> float:
        """Mean change of the held-out distance from epoch to epoch in the second half of training, over seeds."""
        changes = []
        for run in self.runs:
            values = [row[f"val/{DISTANCE}"] for row in run.history if f"val/{DISTANCE}" in row]
            changes += np.abs(np.diff(values[len(values) // 2 :])).tolist()
        return float(np.mean(changes)) if changes else math.nan

    @property
    def seconds(self) -> float:
        """Of all epochs, mean over seeds."""
        return float(np.mean([sum(row["seconds"] for row in run.history) for run in self.runs]))


@dataclass(frozen=True)
class Verdict:
    """One row against another, on the same crops."""

    name: str
    other: str
    metric: str
    difference: Difference

    @property
    def words(self) -> str:
        unit, factor, digits = UNITS[self.metric]
        mean, low, high = (f"{factor * value:+.{digits}f}" for value in self._values)
        found, seeds = self.difference, f"{self.difference.seeds} seed{'s' if self.difference.seeds > 1 else ''}"
        if found.within_noise:
            word = f"no difference beyond noise with {seeds}"
        else:
            nearer = {DISTANCE: ("nearer to the teacher", "farther from the teacher"), "nme": ("better", "worse")}
            word = f"{nearer[self.metric][0 if found.mean < 0 else 1]} beyond noise"
            word += (
                " of these frames; with one seed each another seed may turn it round"
                if found.seeds == 1
                else f" with {seeds}"
            )
        return f"{self.name} against {self.other}: {mean} {unit} ({low} to {high}), {word}"

    @property
    def _values(self) -> tuple[float, float, float]:
        return self.difference.mean, self.difference.low, self.difference.high


def rows_of(measured: Sequence[Measured]) -> list[Row]:
    """Nearest to the teacher first, those without a distance last."""
    kinds: dict[str, list[Measured]] = {}
    for run in measured:
        if run.arm is not None:
            kinds.setdefault(run.arm.kind, []).append(run)
    rows = [Row(name, tuple(runs)) for name, runs in kinds.items()]

    def order(row: Row) -> float:
        spread = row.spread(DISTANCE)
        return math.inf if spread is None else spread.mean

    return sorted(rows, key=order)


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """Losses against L1 from the same start, transfer against random of the same loss, the best against no teacher."""
    found = []
    by_arm = {(row.first.loss, row.first.start): row for row in rows}
    for (loss, start), row in by_arm.items():
        base = by_arm.get(("L1", start))
        if loss not in ("L1", "none") and base is not None:
            found.append(_verdict(row, base, DISTANCE))
    for (loss, start), row in by_arm.items():
        other = by_arm.get((loss, "random"))
        if start == "transfer" and other is not None:
            found.append(_verdict(row, other, DISTANCE))
    control, taught = by_arm.get(("none", "random")), [row for row in rows if row.first.loss != "none"]
    if control is not None and taught:
        found += [_verdict(taught[0], control, metric) for metric in (DISTANCE, "nme")]
    order = {row.name: i for i, row in enumerate(rows)}
    return sorted(
        (each for each in found if each is not None), key=lambda each: (each.name == CONTROL, order[each.name])
    )


def _verdict(row: Row, other: Row, metric: str) -> Verdict | None:
    own, theirs = row.errors(metric), other.errors(metric)
    if own is None or theirs is None:
        return None
    return Verdict(row.name, other.name, metric, statistics.paired_bootstrap(own, theirs))


def answer(rows: Sequence[Row], found: Sequence[Verdict]) -> list[str]:
    """In words, the most important first."""
    best = next((row for row in rows if row.spread(DISTANCE) is not None and row.first.loss != "none"), None)
    if best is None:
        return ["No run with the teacher has finished."]
    spread = best.spread(DISTANCE)
    assert spread is not None
    side = max(best.runs[0].size or (1, 1))
    line = f"Nearest to its teacher: {best.name} weights, {spread.mean:.2f} px ({100 * spread.mean / side:.2f} % of the side)."
    return [line, *(f"{each.words}." for each in found)]


# ------------------------------------------------------------------------------------------------------- as files


def as_json(rows: Sequence[Row], of_teacher: Measured, found: Sequence[Verdict], **more: Any) -> dict[str, Any]:
    """results.json: everything in the tables, all seeds. NaN is None."""
    return {
        "answer": answer(rows, found),
        **more,
        "of_teacher": {"parameters": of_teacher.parameters, "alone": of_teacher.alone, **_means(of_teacher)},
        "rows": [
            {
                "name": row.name, "loss": row.first.loss, "start": row.first.start, "parameters": row.runs[0].parameters,
                "metrics": {name: _spread(row.spread(name)) for name in _metrics(row)},
                "alone": {name: row.alone(name) for name in row.runs[0].alone},
                "unsteadiness_px": _finite(row.unsteadiness_px), "training_seconds": row.seconds,
                "runs": [{"arm": run.arm.name, "seed": run.arm.seed, "epoch": run.epoch, **_means(run)}
                         for run in row.runs if run.arm is not None],
            }
            for row in rows
        ],
        "differences": [
            {"of": each.name, "against": each.other, "metric": each.metric, "mean": _finite(each.difference.mean),
             "low": _finite(each.difference.low), "high": _finite(each.difference.high), "seeds": each.difference.seeds,
             "share_better": _finite(each.difference.share_better), "within_noise": each.difference.within_noise}
            for each in found
        ],
    }  # fmt: skip


def as_csv(rows: Sequence[Row]) -> str:
    """results.csv: one line a run."""
    lines: list[dict[str, Any]] = []
    for row in rows:
        for run in row.runs:
            assert run.arm is not None
            seconds = sum(epoch["seconds"] for epoch in run.history)
            lines.append({"arm": run.arm.name, "loss": run.arm.loss, "start": run.arm.start, "seed": run.arm.seed,
                          "epoch": run.epoch, "parameters": run.parameters, "training_seconds": round(seconds, 1),
                          **_means(run), **run.alone})  # fmt: skip
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for line in lines for name in line)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _metrics(row: Row) -> list[str]:
    return list(row.runs[0].errors)


def _means(run: Measured) -> Mapping[str, float | None]:
    return {name: _finite(float(np.nanmean(values))) for name, values in run.errors.items()}


def _spread(spread: Spread | None) -> dict[str, Any] | None:
    if spread is None:
        return None
    return {"mean": _finite(spread.mean), "low": _finite(spread.low), "high": _finite(spread.high),
            "standard_deviation": _finite(spread.deviation), "seeds": [_finite(value) for value in spread.values]}  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
