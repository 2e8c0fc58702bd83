"""Charts as small SVG drawings to stand inside a page: training curves, cumulative errors, bars per point.

Written by hand and not by matplotlib: text and axes take the page's own colour, so that one drawing serves light,
dark and print, and the colours of curves come from the page's `--series-1`, `--series-2`, .. where it has them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from fiducial.data import sampling
from fiducial.types import Skeleton

SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito
DASHES = ("", "7 3", "2 3", "9 3 2 3", "5 5", "1 2")  # for print without colour, and for a seventh curve

# Drawn 400 units wide, so that text of 12 units can still be read on a phone of 360 px.
WIDTH, LEFT, RIGHT, LINE = 400, 58, 14, 17
PLOT_WIDTH, PLOT_HEIGHT = WIDTH - LEFT - RIGHT, 190


@dataclass(frozen=True)
class Chart:
    """A drawing with its heading. `svg` is one <svg> element, all text in it escaped."""

    title: str
    svg: str
    note: str = ""  # what to read from it


@dataclass(frozen=True)
class Curve:
    """x and y of equal length; points that are not finite are left out."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Axis:
    """What lies along one side of a plot, and how values become fractions of its length."""

    label: str
    low: float
    high: float
    log: bool = False

    def fraction(self, values: Any) -> np.ndarray:
        """0 at `low`, 1 at `high`."""
        low, high, values = (np.log(v) if self.log else np.asarray(v, float) for v in (self.low, self.high, values))
        return (values - low) / (high - low)

    def ticks(self, count: int = 7) -> list[float]:
        """Round numbers inside, at most `count` + 1: 1, 2 or 5 times a power of ten; on log axes 1, 2, 5 a decade."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = (1,) if len(decades) > 3 else (1, 2, 5)
            candidates = [step * 10.0**decade for decade in decades for step in steps]
        else:
            rough = (self.high - self.low) / count
            power = 10.0 ** math.floor(math.log10(rough))
            step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
            candidates = [i * step for i in range(first, last + 1)]
        slack = 1e-9 * (self.high - self.low)
        return [value for value in candidates if self.low - slack <= value <= self.high + slack]


def number_text(value: Any) -> str:
    """A number with four digits that matter; an en dash for None and NaN; anything else as text."""
    if value is None or (isinstance(value, (float, np.floating)) and not math.isfinite(value)):
        return "–"
    if isinstance(value, (float, np.floating)):
        return f"{float(value):#.4g}".rstrip(".")  # with trailing zeros, so that columns line up
    return str(value)


def training_curves(
    history: Mapping[str, Sequence[Any]],
    *,
    losses: Sequence[str] = ("train_loss", "val_loss"),
    metrics: Sequence[str] = ("val_nme",),
    rates: Sequence[str] = ("lr",),
) -> list[Chart]:
    """Loss, validation metric and learning rate over epochs, one chart each, from the columns of Lightning's
    `metrics.csv` (values may be numbers, text, "" or None). Several rows of an epoch are averaged; columns that
    are missing or empty are left out, and so is a chart without a curve."""
    charts = []
    for title, names in (("Loss", losses), ("Validation", metrics), ("Learning rate", rates)):
        curves = [curve for name in names if (curve := _by_epoch(history, name)) is not None]
        if curves:
            charts.append(Chart(title, line_chart(title, curves, "epoch", log_y=_spans_decades(curves))))
    return charts


def over_epochs(rows: Sequence[Mapping[str, float]], title: str, columns: Sequence[str], note: str = "") -> list[Chart]:
    """One chart of those of the columns that a history's rows have, none where they have none of them: `val/l1` is the
    curve `l1`. Values that differ by more than 20 times have a logarithmic axis."""
    curves = [
        Curve(column.partition("/")[2] or column, [row["epoch"] for row in there], [row[column] for row in there])
        for column in columns
        if (there := [row for row in rows if column in row])
    ]
    drawn = line_chart(title, curves, "epoch", log_y=_spans_decades(curves)) if curves else ""
    return [Chart(title, drawn, note)] if curves else []


def losses(rows: Sequence[Mapping[str, float]]) -> list[Chart]:
    """What was minimised, and the parts that it is the sum of."""
    named = dict.fromkeys(name for row in rows for name in row if name.startswith("train/") and name != "train/loss")
    return [
        *over_epochs(rows, "Loss", ["train/loss"], "The sum of the named losses."),
        *over_epochs(rows, "Named losses", list(named)),
    ]


def cumulative_errors(errors: Mapping[str, Sequence[float]], *, name: str = "NME", limit: float = 0.1) -> Chart:
    """The share of instances whose error is below x, for x up to `limit`; one curve a named list of errors [n].

    The area under a curve, as a share of the whole, is the mean of max(0, 1 - error / limit): exact, since the
    curve is a staircase. Instances without an error (NaN) do not count; their number is told."""
    curves, notes = [], []
    for label, values in errors.items():
        every = np.asarray(values, float)
        known = np.sort(every[~np.isnan(every)])
        if not len(known):
            notes.append(f"No instance has an error ({label}).")
            continue
        shown = known[known <= limit]
        share = np.arange(1, len(shown) + 1) / len(known)
        # The staircase: up at each error, level in between.
        x = np.concatenate([[0], np.repeat(shown, 2), [limit]])
        y = np.concatenate([[0, 0], np.repeat(share, 2)]) if len(shown) else np.zeros(2)
        area = np.maximum(0, 1 - known / limit).mean()
        curves.append(Curve(f"{label}: area {area:.3f}", x.tolist(), y.tolist()))
        if len(known) < len(every):
            notes.append(f"{len(every) - len(known)} of {len(every)} instances have no error ({label}).")
    title = "Cumulative error"
    notes.insert(0, f"The share of instances with {name} below x; a curve further up and left is better.")
    axes = Axis(name, 0, limit), Axis("share of instances", 0, 1)
    return Chart(title, _plot(title, curves, *axes, steps=True), " ".join(notes))


def point_bars(skeleton: Skeleton, errors: Sequence[float], *, name: str = "error", most: int = 24) -> Chart:
    """One bar a point, worst first, at most `most` of them; points without an error (NaN) come last, without a bar."""
    values = np.asarray(errors, float)
    order = np.argsort(np.where(np.isnan(values), -np.inf, values))[::-1][:most]
    finite = values[order][np.isfinite(values[order])]
    top = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
    names_width, value_width = 140, 62
    scale = (WIDTH - names_width - value_width) / top
    parts = []
    for row, i in enumerate(order):
        y = LINE * row
        parts.append(text_at(names_width - 6, y + 12, shortened(skeleton.points[i], 21), "end"))
        length = scale * float(values[i]) if np.isfinite(values[i]) else 0.0
        parts.append(
            f'<rect x="{names_width}" y="{y + 2}" width="{length:.1f}" height="12" style="fill:{series_colour(0)}"/>'
        )
        parts.append(text_at(names_width + length + 5, y + 12, number_text(values[i])))
    few = "" if len(order) == len(values) else f" The worst {len(order)} of {len(values)} points."
    title = f"{name} per point"
    return Chart(title, svg_of(title, LINE * len(order) + 4, parts), f"Worst first.{few}")


def line_chart(title: str, curves: Sequence[Curve], x_label: str, *, y_label: str = "", log_y: bool = False) -> str:
    """SVG of curves over axes that just hold them; the names above. `log_y` needs positive values of y."""
    x, y = (np.concatenate([np.zeros(0), *(_finite(curve)[i] for curve in curves)]) for i in (0, 1))
    return _plot(title, curves, Axis(x_label, *_range(x)), Axis(y_label, *_range(y, log_y), log_y))


def _plot(title: str, curves: Sequence[Curve], x_axis: Axis, y_axis: Axis, steps: bool = False) -> str:
    top = LINE * (len(curves) + bool(y_axis.label)) + 8
    bottom = top + PLOT_HEIGHT
    parts = []
    for i, curve in enumerate(curves):
        y = LINE * i + 10
        parts.append(series_line([(LEFT, y), (LEFT + 26, y)], i))
        parts.append(text_at(LEFT + 33, y + 4, shortened(curve.name, 46)))
    if y_axis.label:
        parts.append(text_at(4, top - 9, y_axis.label))
    for value in y_axis.ticks():
        y = bottom - PLOT_HEIGHT * float(y_axis.fraction(value))
        parts.append(rule(LEFT, y, LEFT + PLOT_WIDTH, y))
        parts.append(text_at(LEFT - 6, y + 4, f"{value:.4g}", "end"))
    for value in x_axis.ticks():
        x = LEFT + PLOT_WIDTH * float(x_axis.fraction(value))
        parts.append(rule(x, bottom, x, bottom + 5))
        parts.append(text_at(x, bottom + 18, f"{value:.4g}", "middle"))
    parts.append(text_at(LEFT + PLOT_WIDTH / 2, bottom + 36, x_axis.label, "middle"))
    for i, curve in enumerate(curves):
        x, y = _finite(curve)
        pixels = np.stack([LEFT + PLOT_WIDTH * x_axis.fraction(x), bottom - PLOT_HEIGHT * y_axis.fraction(y)], axis=1)
        parts.append(series_line(_thinned(pixels), i))
        if len(pixels) <= 40 and not steps:  # a run of one epoch is a dot, and would be nothing as a line
            parts += [
                f'<circle cx="{px:.1f}" cy="{py:.1f}" r="2.2" style="fill:{series_colour(i)}"/>' for px, py in pixels
            ]
    if not curves:
        parts.append(text_at(LEFT + PLOT_WIDTH / 2, bottom - PLOT_HEIGHT / 2, "nothing to show", "middle"))
    return svg_of(title, bottom + 42, parts)


def _by_epoch(history: Mapping[str, Sequence[Any]], name: str) -> Curve | None:
    """The column's mean of each epoch; None where it has no finite value."""
    if name not in history or "epoch" not in history:
        return None
    rows: dict[float, list[float]] = {}
    for epoch, value in zip(history["epoch"], history[name], strict=True):
        if epoch not in ("", None) and value not in ("", None) and math.isfinite(float(value)):
            rows.setdefault(float(epoch), []).append(float(value))
    epochs = sorted(rows)
    return Curve(name, epochs, [sum(rows[epoch]) / len(rows[epoch]) for epoch in epochs]) if rows else None


def _spans_decades(curves: Sequence[Curve]) -> bool:
    values = [value for curve in curves for value in curve.y]
    return min(values) > 0 and max(values) > 20 * min(values)


def _finite(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(curve.x, float), np.asarray(curve.y, float)
    good = np.isfinite(x) & np.isfinite(y)
    return x[good], y[good]


def _range(values: np.ndarray, log: bool = False) -> tuple[float, float]:
    """The least and the largest, with room where they are the same."""
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    if high > low:
        return low, high
    room = abs(low) / 2 or 0.5
    return (low / 2, low * 2) if log else (low - room, low + room)


def _thinned(pixels: np.ndarray, most: int = 800) -> np.ndarray:
    """Curves of very many points would weigh down the page, and no screen shows them."""
    return pixels[sampling.places(len(pixels), most)]


def series_colour(i: int) -> str:
    return f"var(--series-{i % len(SERIES) + 1},{SERIES[i % len(SERIES)]})"


def series_line(pixels: Any, series: int) -> str:
    """A line through [n, 2] px of the drawing; no two of the first 36 series have both colour and dashes in common."""
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in pixels)
    dash = DASHES[(series + series // len(SERIES)) % len(DASHES)] or "none"
    style = f"fill:none;stroke:{series_colour(series)};stroke-width:2;stroke-linejoin:round;stroke-dasharray:{dash}"
    return f'<polyline points="{points}" style="{style}"/>'


def rule(x1: float, y1: float, x2: float, y2: float) -> str:
    style = "stroke:currentColor;stroke-opacity:.22"
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" style="{style}"/>'


def text_at(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def svg_of(title: str, height: float, parts: Sequence[str]) -> str:
    attributes = (
        f'viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(title)}" font-size="12" fill="currentColor"'
    )
    return f"<svg {attributes}>{''.join(parts)}</svg>"
