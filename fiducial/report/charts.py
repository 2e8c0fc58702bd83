"""Draws what was measured: curves over epochs, cumulative errors, accuracy against cost, bars per point."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fiducial.errors import counted
from fiducial.report.label_places import label_places
from fiducial.report.plot import (
    FAINT,
    LEFT,
    LINE,
    PLOT_HEIGHT,
    WIDTH,
    Axis,
    Chart,
    Plot,
    polyline,
    rect,
    series_colour,
    shortened,
    svg_of,
    text_at,
)
from fiducial.types import Skeleton

LONGEST_NAME = 30  # letters beside a dot


@dataclass(frozen=True)
class Curve:
    """x and y of equal length; points that are not finite are left out."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Band:
    """Several runs of one kind: y [s, n] of s runs at n places of x, NaN where a run has none."""

    name: str
    x: np.ndarray  # [n]
    y: np.ndarray
    series: int  # chooses the colour


@dataclass(frozen=True)
class Dot:
    """One named point; `low` and `high` are drawn as a bar over it where they differ. `series` chooses the colour."""

    name: str
    x: float
    y: float
    low: float
    high: float
    on_front: bool
    series: int


def number_text(value: Any) -> str:
    """Writes a number with four digits that matter, 102,597 for a long whole one; an en dash for None and NaN."""
    if value is None or (isinstance(value, (float, np.floating)) and not math.isfinite(value)):
        return "–"
    if isinstance(value, (float, np.floating)):
        return f"{float(value):#.4g}".rstrip(".")  # with trailing zeros, so that columns line up
    return f"{value:,}" if isinstance(value, (int, np.integer)) and abs(value) >= 10_000 else str(value)


def lines(
    title: str,
    curves: Sequence[Curve],
    x_label: str,
    *,
    y_label: str = "",
    note: str = "",
    marked: Mapping[float, str] | None = None,
) -> Chart:
    """Draws curves over axes that just hold them, y logarithmic where values differ by much; one alone needs no name.

    marked: places of x that are upright lines, and what they are called; those beyond the curves are left out."""
    x = np.concatenate([[], *(curve.x for curve in curves)])
    y_axis = Axis.over(y_label, np.concatenate([[], *(curve.y for curve in curves)]), log=None)
    plot = Plot(title, Axis.over(x_label, x, whole=x_label == "epoch"), y_axis)
    for i, curve in enumerate(curves):
        plot.line(curve.x, curve.y, series=i, name=curve.name if len(curves) > 1 else "")
    for place, name in (marked or {}).items():
        if len(x) and x.min() <= place <= x.max():
            plot.marked(place, name)
    return plot.chart(note)


def over_epochs(
    rows: Sequence[Mapping[str, float]],
    title: str,
    columns: Sequence[str],
    note: str = "",
    *,
    best_epoch: int | None = None,
) -> list[Chart]:
    """Draws one chart of those of the columns that a history's rows have, none where they have none of them.

    rows: of history.csv, whose epochs count from 0; drawn and `best_epoch` count from 1, as messages do. `val/l1` is
    the curve `l1`. The best epoch is a marked line."""
    curves = []
    for column in columns:
        known = [row for row in rows if column in row]
        if known:
            epochs = [row["epoch"] + 1 for row in known]
            curves.append(Curve(column.partition("/")[2] or column, epochs, [row[column] for row in known]))
    marked: dict[float, str] = {} if best_epoch is None else {best_epoch: f"best: epoch {best_epoch}"}
    return [lines(title, curves, "epoch", note=note, marked=marked)] if curves else []


def losses(rows: Sequence[Mapping[str, float]], best_epoch: int | None = None) -> list[Chart]:
    """Draws what was minimised and, where it is the sum of more than one, its parts."""
    parts = dict.fromkeys(name for row in rows for name in row if name.startswith("train/") and name != "train/loss")
    named = over_epochs(rows, "Named losses", list(parts), best_epoch=best_epoch) if len(parts) > 1 else []
    note = "The sum of the named losses." if named else ""
    return [*over_epochs(rows, "Loss", ["train/loss"], note, best_epoch=best_epoch), *named]


def bands(title: str, runs: Sequence[Band], x_label: str, y_label: str, note: str = "") -> Chart:
    """Draws means as lines, and ranges over runs as areas behind them."""
    known = [band for band in runs if np.isfinite(band.y).any()]
    x_axis = Axis.over(x_label, np.concatenate([[], *(band.x for band in known)]), whole=x_label == "epoch")
    y_axis = Axis.over(y_label, np.concatenate([[], *(band.y.ravel() for band in known)]), log=None, room=0.04)
    plot = Plot(title, x_axis, y_axis)
    columns = [np.isfinite(band.y).any(0) for band in known]
    for band, column in zip(known, columns, strict=True):
        low, high = (edge(band.y[:, column], axis=0) for edge in (np.nanmin, np.nanmax))
        plot.band(band.x[column], low, high, series=band.series)
    for band, column in zip(known, columns, strict=True):
        mean = np.nanmean(band.y[:, column], axis=0)
        plot.line(band.x[column], mean, series=band.series, name=band.name)
    return plot.chart(note)


def cumulative_errors(
    errors: Mapping[str, Sequence[float] | np.ndarray], *, name: str = "NME", limit: float | None = None, note: str = ""
) -> Chart:
    """Draws the share of instances whose error is below x; one curve a named list of errors [n].

    x ends at `limit`, by default at a round number below which nine tenths of each list lie. The area under a curve,
    as a share of the whole, is the mean of max(0, 1 - error / limit): exact, since the curve is a staircase.
    Instances without an error (NaN) do not count; their number is told."""
    known = {label: np.sort(np.asarray(values, float)) for label, values in errors.items()}
    known = {label: values[~np.isnan(values)] for label, values in known.items()}
    end = limit or _round_limit(list(known.values()))
    plot = Plot(
        "Cumulative error",
        Axis(label=name, low=0, high=end),
        Axis(label="share of instances", low=0, high=1),
    )
    notes = [
        f"The share of instances with {name} below x; a curve further up and left is better. Area: the part of the chart below a curve, up to {end:g}."
    ]
    for i, (label, values) in enumerate(known.items()):
        if not len(values):
            notes.append(f"No instance has an error ({label}).")
            continue
        shown = values[values <= end]
        share = np.arange(len(shown) + 1) / len(values)
        area = np.maximum(0, 1 - values / end).mean()
        plot.step([0, *shown], share, series=i, name=f"{label}: area {area:.3f}")
        if len(values) < len(errors[label]):
            notes.append(
                f"{len(errors[label]) - len(values)} of {len(errors[label])} instances have no error ({label})."
            )
    return plot.chart(" ".join([*notes, note]).strip())


def said_and_found(told: Sequence[float], found: Sequence[float], state: str) -> Chart:
    """Draws how often points were in a state against how likely the model called it."""
    whole = [Axis(label=label, low=0, high=1) for label in (f"probability of {state}", f"share that is {state}")]
    plot = Plot(f"Is what it calls {state} so?", *whole)
    plot.add([polyline(plot.pixels([0, 1], [0, 1]), FAINT)])
    plot.line(told, np.asarray(found))
    return plot.chart("Points by tenths of the probability. On the grey line it is right as often as it says.")


def reliability(shares: Sequence[float], held: np.ndarray, low: np.ndarray, high: np.ndarray, note: str = "") -> Chart:
    """Draws what share of true points radii held against the share that they are for; the area is its 95 % range."""
    whole = [Axis(label=label, low=0, high=1) for label in ("share that the radius is for", "share that it held")]
    plot = Plot("Do radii hold what they say?", *whole)
    plot.add([polyline(plot.pixels([0, 1], [0, 1]), FAINT)])
    plot.band(shares, low, high)
    plot.line(shares, held)
    return plot.chart(
        note or "On the grey line a radius of 90 % holds 90 % of the points; below it radii are too small."
    )


def needed_radii(radius: np.ndarray, needed: np.ndarray) -> Chart:
    """Draws for groups of points the radius that would have held 90 % of them against the radius that was told."""
    axes = [Axis.over(label, [*radius, *needed], log=None, room=0.04) for label in ("radius of 90 %, px", "needed, px")]
    plot = Plot("Which points are the bad ones?", *axes)
    ends = [axes[0].low, axes[0].high]
    plot.add([polyline(plot.pixels(ends, ends), FAINT)])
    plot.line(radius, needed)
    return plot.chart(
        "Points in groups of equal number, from small to large radii. On the grey line the model knows which of its points "
        "are far off; a flat curve says that it doesn't."
    )


def point_bars(skeleton: Skeleton, errors: Sequence[float], *, name: str = "error", most: int = 40) -> Chart:
    """Draws one bar a point, worst first, at most `most`; points without an error (NaN) come last, without a bar."""
    values = np.asarray(errors, float)
    order = np.argsort(np.where(np.isnan(values), -np.inf, values))[::-1][:most]
    finite = values[order][np.isfinite(values[order])]
    longest = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
    names_width, value_width = 140, 62
    scale = (WIDTH - names_width - value_width) / longest
    parts = []
    for row, i in enumerate(order):
        y = LINE * row
        length = scale * float(values[i]) if np.isfinite(values[i]) else 0.0
        parts.append(text_at(names_width - 6, y + 12, shortened(skeleton.points[i], 21), "end"))
        parts.append(rect(names_width, y + 2, length, 12, f"fill:{series_colour(0)}"))
        parts.append(text_at(names_width + length + 5, y + 12, number_text(values[i])))
    left_out = (
        ""
        if len(order) == len(values)
        else f" The worst {len(order)} of {len(values)} points; the table below has all."
    )
    title = f"{name} per point"
    return Chart(title, svg_of(title, LINE * len(order) + 4, parts), f"Worst first.{left_out}")


def scatter(title: str, dots: Sequence[Dot], x_label: str, y_label: str, note: str = "") -> Chart:
    """Draws named dots over a logarithmic x; those on the front are filled and joined by a staircase.

    Left and down of the staircase is nothing. Dots whose x or y is not finite, or whose x is not positive, are left
    out; so are names that have no room, first those of dots that are not on the front, which the note says."""
    shown = [dot for dot in dots if math.isfinite(dot.x) and math.isfinite(dot.y) and dot.x > 0]
    shown.sort(key=lambda dot: not dot.on_front)
    heights = [value for dot in shown for value in (dot.low, dot.high, dot.y)]
    x_axis = Axis.over(x_label, [dot.x for dot in shown], log=True, room=0.15)
    y_axis = Axis.over(y_label, heights, room=0.18)
    y_axis = replace(y_axis, low=max(0.0, y_axis.low))
    plot = Plot(title, x_axis, y_axis)
    front = sorted((dot.x, dot.y) for dot in shown if dot.on_front)
    if front:
        plot.step([front[0][0], *(x for x, _ in front)], [y_axis.high, *(y for _, y in front)], faint=True)
    for dot in shown:
        plot.bars([dot.x], [dot.low], [dot.high], series=dot.series)
        plot.dots([dot.x], [dot.y], series=dot.series, filled=dot.on_front)
    places = [tuple(place) for place in plot.pixels([dot.x for dot in shown], [dot.y for dot in shown])]
    words = [shortened(dot.name, LONGEST_NAME) for dot in shown]
    beside = label_places(places, words, left=LEFT, right=WIDTH, top=0, bottom=PLOT_HEIGHT)
    named = [(word, place) for word, place in zip(words, beside, strict=True) if place is not None]
    plot.add(text_at(x, y, word, anchor, halo=True) for word, (x, y, anchor) in named)
    left_out = len(words) - len(named)
    return plot.chart(f"{note} {counted(left_out, 'name')} without room left out.".strip() if left_out else note)


def _round_limit(lists: Sequence[np.ndarray]) -> float:
    """The least of 1, 2, 5 times a power of ten, below which nine tenths of each list's finite errors lie."""
    finite = [values[np.isfinite(values)] for values in lists]
    reach = max((float(np.quantile(values, 0.9)) for values in finite if len(values)), default=0.0)
    if reach <= 0:
        return 0.1
    power = 10.0 ** math.floor(math.log10(reach))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= reach * (1 - 1e-9))
