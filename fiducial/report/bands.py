"""Curves over epochs of several runs of a kind: their mean, and the range that they fill. Drawn as `charts.py` draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fiducial.report import charts
from fiducial.report.charts import LEFT, LINE, PLOT_HEIGHT, PLOT_WIDTH, Axis, Chart

TALLEST = 4.0  # times the median of all values: what is above is cut off, as of first epochs


@dataclass(frozen=True)
class Band:
    """One kind of run: y [s, n] of s runs at n epochs, NaN where a run has none."""

    name: str
    x: np.ndarray  # [n]
    y: np.ndarray
    series: int  # chooses the colour


def band_chart(title: str, bands: Sequence[Band], x_label: str, y_label: str, note: str = "") -> Chart:
    """Means as lines, ranges as areas behind them. Logarithmic where values are positive and span a decade."""
    shown = [band for band in bands if np.isfinite(band.y).any()]
    if not shown:
        return Chart(title, charts.line_chart(title, [], x_label, y_label=y_label), note)
    values = np.concatenate([band.y[np.isfinite(band.y)] for band in shown])
    low, high = float(values.min()), float(values.max())
    log = low > 0 and high > 10 * low
    if not log:
        high = min(high, TALLEST * float(np.median(values)))
    room = 0.0 if log else 0.04 * (high - low) or 0.5
    x_all = np.concatenate([band.x for band in shown])
    x_high = float(x_all.max()) if x_all.max() > x_all.min() else float(x_all.min()) + 1
    x_axis = Axis(x_label, float(x_all.min()), x_high)
    y_axis = Axis(y_label, low - room, high * (1.001 if log else 1) + room, log)
    top = LINE * (len(shown) + 1) + 8
    bottom = top + PLOT_HEIGHT
    parts = [charts.text_at(4, top - 9, y_label), *_grid(x_axis, y_axis, bottom)]
    for i, band in enumerate(shown):
        parts.append(charts.series_line(np.array([[LEFT, LINE * i + 10], [LEFT + 26, LINE * i + 10]]), band.series))
        parts.append(charts.text_at(LEFT + 33, LINE * i + 14, charts.shortened(band.name, 46)))
    for draw in (_area, _mean):
        parts += [draw(band, x_axis, y_axis, top, bottom) for band in shown]
    return Chart(title, charts.svg_of(title, bottom + 42, parts), note)


def _grid(x_axis: Axis, y_axis: Axis, bottom: float) -> list[str]:
    parts = []
    for value in y_axis.ticks():
        y = bottom - PLOT_HEIGHT * float(y_axis.fraction(value))
        parts += [charts.rule(LEFT, y, LEFT + PLOT_WIDTH, y), charts.text_at(LEFT - 6, y + 4, f"{value:.4g}", "end")]
    for value in x_axis.ticks():
        x = LEFT + PLOT_WIDTH * float(x_axis.fraction(value))
        parts += [charts.rule(x, bottom, x, bottom + 5), charts.text_at(x, bottom + 18, f"{value:.4g}", "middle")]
    return [*parts, charts.text_at(LEFT + PLOT_WIDTH / 2, bottom + 36, x_axis.label, "middle")]


def _pixels(x: np.ndarray, y: np.ndarray, x_axis: Axis, y_axis: Axis, top: float, bottom: float) -> np.ndarray:
    """[m, 2]; places without a value are left out, those above the plot are put on its edge."""
    there = np.isfinite(y)
    rows = bottom - PLOT_HEIGHT * y_axis.fraction(np.clip(y[there], y_axis.low, y_axis.high))
    return np.stack([LEFT + PLOT_WIDTH * x_axis.fraction(x[there]), np.clip(rows, top, bottom)], 1)


def _area(band: Band, x_axis: Axis, y_axis: Axis, top: float, bottom: float) -> str:
    there = np.isfinite(band.y).any(0)
    x, y = band.x[there], band.y[:, there]
    ends = [_pixels(x, edge(y, axis=0), x_axis, y_axis, top, bottom) for edge in (np.nanmin, np.nanmax)]
    outline = " ".join(f"{px:.1f},{py:.1f}" for px, py in np.concatenate([ends[0], ends[1][::-1]]))
    return f'<polygon points="{outline}" style="fill:{charts.series_colour(band.series)};fill-opacity:.12"/>'


def _mean(band: Band, x_axis: Axis, y_axis: Axis, top: float, bottom: float) -> str:
    there = np.isfinite(band.y).any(0)
    pixels = _pixels(band.x[there], np.nanmean(band.y[:, there], 0), x_axis, y_axis, top, bottom)
    if len(pixels) == 1:
        x, y = pixels[0]
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" style="fill:{charts.series_colour(band.series)}"/>'
    return charts.series_line(pixels, band.series)
