"""A scatter chart with named points and a front: accuracy against cost. Drawn as `charts.py` draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fiducial.report import charts
from fiducial.report.charts import LEFT, PLOT_HEIGHT, PLOT_WIDTH, Axis, Chart

LETTER = 7.2  # width of a letter of 12 units, in wide fonts
BOX_HEIGHT = 13.0
LONGEST_NAME = 30


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


def scatter(title: str, dots: Sequence[Dot], x_label: str, y_label: str, note: str = "") -> Chart:
    """Dots over a logarithmic x, those on the front filled and joined by a staircase: left and down of it is nothing.
    Dots whose x or y is not finite, or whose x is not positive, are left out."""
    shown = [dot for dot in dots if math.isfinite(dot.x) and math.isfinite(dot.y) and dot.x > 0]
    if not shown:
        return Chart(title, charts.line_chart(title, [], x_label, y_label=y_label), note)
    x_axis, y_axis = _axes(shown, x_label, y_label)
    top = charts.LINE + 8
    bottom = top + PLOT_HEIGHT
    parts = [charts.text_at(4, top - 9, y_label), *_grid(x_axis, y_axis, top, bottom)]
    places = [
        (LEFT + PLOT_WIDTH * float(x_axis.fraction(dot.x)), bottom - PLOT_HEIGHT * float(y_axis.fraction(dot.y)))
        for dot in shown
    ]
    front = sorted(
        (place for place, dot in zip(places, shown, strict=True) if dot.on_front), key=lambda place: place[0]
    )
    if front:
        parts.append(_staircase(front, top))
    for (x, y), dot in zip(places, shown, strict=True):
        ends = [bottom - PLOT_HEIGHT * float(y_axis.fraction(value)) for value in (dot.low, dot.high)]
        colour = charts.series_colour(dot.series)
        if abs(ends[0] - ends[1]) > 1:
            parts.append(
                f'<line x1="{x:.1f}" y1="{ends[0]:.1f}" x2="{x:.1f}" y2="{ends[1]:.1f}" style="stroke:{colour};stroke-width:1.5"/>'
            )
        fill = colour if dot.on_front else "var(--ground,#fff)"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" style="fill:{fill};stroke:{colour};stroke-width:2"/>')
    names = [charts.shortened(dot.name, LONGEST_NAME) for dot in shown]
    for name, (x, y, anchor) in zip(names, name_places(places, names, top, bottom), strict=True):
        parts.append(
            f'<g style="paint-order:stroke;stroke:var(--ground,#fff);stroke-width:4">{charts.text_at(x, y, name, anchor)}</g>'
        )
    return Chart(title, charts.svg_of(title, bottom + 42, parts), note)


def name_places(
    dots: Sequence[tuple[float, float]], names: Sequence[str], top: float, bottom: float
) -> list[tuple[float, float, str]]:
    """x, y and text-anchor of each name: beside its dot where it covers no other name or dot and stays in the plot."""
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in dots]
    places = []
    for (x, y), name in zip(dots, names, strict=True):
        width = LETTER * len(name)
        choices = [(x + 9, y + 4, "start"), (x - 9, y + 4, "end")]
        for step in (0, 1, 2, 3):
            for below in (-1, 1):
                row = y + 4 + below * (13 + 13 * step)
                choices += [(x, row, "middle"), (x + 4, row, "start"), (x - 4, row, "end")]
        boxes = [_box(choice, width) for choice in choices]
        free = (
            i
            for i, box in enumerate(boxes)
            if box[0] >= LEFT and box[2] <= charts.WIDTH and top - 4 <= box[1] and box[3] <= bottom
            and not any(_overlap(box, other) for other in taken)
        )  # fmt: skip
        chosen = next(free, 0 if x < LEFT + PLOT_WIDTH / 2 else 1)
        taken.append(boxes[chosen])
        places.append(choices[chosen])
    return places


def _axes(dots: Sequence[Dot], x_label: str, y_label: str) -> tuple[Axis, Axis]:
    """Axes that hold all dots with room around them for their names."""
    x = np.array([dot.x for dot in dots])
    y = np.array([value for dot in dots for value in (dot.low, dot.high, dot.y) if math.isfinite(value)])
    apart = max(float(x.max() / x.min()), 1.5)
    room = float(y.max() - y.min()) or float(abs(y.max())) or 1.0
    low, high = float(x.min()) / apart**0.15, float(x.max()) * apart**0.15
    return Axis(x_label, low, high, log=True), Axis(
        y_label, max(0.0, float(y.min()) - 0.18 * room), float(y.max()) + 0.18 * room
    )


def _grid(x_axis: Axis, y_axis: Axis, top: float, bottom: float) -> list[str]:
    parts = []
    for value in y_axis.ticks():
        y = bottom - PLOT_HEIGHT * float(y_axis.fraction(value))
        parts += [charts.rule(LEFT, y, LEFT + PLOT_WIDTH, y), charts.text_at(LEFT - 6, y + 4, f"{value:.4g}", "end")]
    for value in _few(x_axis):
        x = LEFT + PLOT_WIDTH * float(x_axis.fraction(value))
        parts += [charts.rule(x, bottom, x, bottom + 5), charts.text_at(x, bottom + 18, f"{value:.4g}", "middle")]
    parts.append(charts.rule(LEFT, bottom, LEFT + PLOT_WIDTH, bottom))
    return [*parts, charts.text_at(LEFT + PLOT_WIDTH / 2, bottom + 36, x_axis.label, "middle")]


def _few(axis: Axis) -> list[float]:
    """At least three ticks, also where the axis spans less than a decade."""
    ticks = axis.ticks()
    return ticks if len(ticks) >= 3 else [v for v in Axis("", axis.low, axis.high).ticks(5) if v > 0]


def _staircase(front: Sequence[tuple[float, float]], top: float) -> str:
    """From the quickest upwards and from the most accurate rightwards to the edges, level in between."""
    points = [(front[0][0], top)]
    for (x, y), following in zip(front, [*front[1:], None], strict=True):
        points += [(x, y), (LEFT + PLOT_WIDTH if following is None else following[0], y)]
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    style = "fill:none;stroke:currentColor;stroke-opacity:.45;stroke-width:1.5;stroke-dasharray:4 3"
    return f'<polyline points="{text}" style="{style}"/>'


def _box(place: tuple[float, float, str], width: float) -> tuple[float, float, float, float]:
    x, y, anchor = place
    left = {"start": x, "middle": x - width / 2, "end": x - width}[anchor]
    return left, y - BOX_HEIGHT + 3, left + width, y + 3


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
