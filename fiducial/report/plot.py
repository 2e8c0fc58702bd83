"""Draws marks over two axes as a small SVG that stands inside a page.

Written by hand and not by matplotlib: text and axes take the page's own colour, so that one drawing serves light,
dark and print, and the colours of series come from the page's `--series-1`, `--series-2`, .. where it has them.
Everything is drawn 400 units wide, so that text of 12 units can still be read on a phone of 360 px."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from fiducial.data import sampling

SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito
DASHES = ("", "7 3", "2 3", "9 3 2 3", "5 5", "1 2")  # for print without colour, and for a seventh series
GROUND = "var(--ground,#fff)"

WIDTH, LEFT, RIGHT, LINE = 400, 58, 14, 17  # units; LINE is the height of a line of text
PLOT_WIDTH, PLOT_HEIGHT = WIDTH - LEFT - RIGHT, 190
LONGEST_NAME = 46  # letters of a legend's line
MOST_PLACES = 800  # of a line: more would weigh down the page, and no screen shows them
LEAST_SHARE = 1e-4  # of a value: what differs by less is drawn as the same
DECADES = 20.0  # values that differ by more times than this are shown on a logarithmic axis


@dataclass(frozen=True)
class Chart:
    """A drawing with its heading. `svg` is one <svg> element, all text in it escaped."""

    title: str
    svg: str
    note: str = ""  # what to read from it


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One side of a plot: what its values are, from where to where, and how they become fractions of its length."""

    label: str
    low: float
    high: float
    log: bool = False
    whole: bool = False  # ticks at whole numbers alone, as for epochs

    @classmethod
    def over(cls, label: str, values: Any, *, log: bool | None = False, whole: bool = False, room: float = 0.0) -> Axis:
        """Makes an axis that just holds all finite values.

        log: None chooses by `DECADES`; a logarithmic axis leaves out what is not positive. room: a share of the
        length that is added at both ends (of a logarithmic axis: of its logarithm)."""
        numbers = np.asarray(values, float).ravel()
        numbers = numbers[np.isfinite(numbers)]
        if log is None:
            log = len(numbers) > 0 and float(numbers.min()) > 0 and float(numbers.max() / numbers.min()) > DECADES
        numbers = numbers[numbers > 0] if log else numbers
        if not len(numbers):
            return cls(label=label, low=1.0 if log else 0.0, high=10.0 if log else 1.0, log=log, whole=whole)
        low, high = float(numbers.min()), float(numbers.max())
        if high - low <= LEAST_SHARE * max(abs(low), abs(high)) or high <= low:
            apart = 0.5 if whole else abs(low) / 2 or 0.5
            low, high = (low / 2, low * 2) if log else (low - apart, low + apart)
        elif log:
            factor = (high / low) ** room
            low, high = low / factor, high * factor
        else:
            low, high = low - room * (high - low), high + room * (high - low)
        return cls(label=label, low=low, high=high, log=log, whole=whole)

    def fraction(self, values: Any) -> np.ndarray:
        """Gives 0 at `low` and 1 at `high`."""
        low, high, values = (np.log(v) if self.log else np.asarray(v, float) for v in (self.low, self.high, values))
        return (values - low) / (high - low)

    def ticks(self, count: int = 7) -> list[float]:
        """Gives round numbers inside the axis, at most `count` + 1.

        They are 1, 2 or 5 times a power of ten; on a logarithmic axis 1, 2 and 5 of each decade, or, where these
        would be fewer than three, those of a linear one."""
        if not self.log:
            return self._inside(self._linear_ticks(count))
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for factors in [(1,), (1, 2, 5)] if len(decades) > 3 else [(1, 2, 5)]:
            inside = self._inside([factor * 10.0**decade for decade in decades for factor in factors])
            if len(inside) >= 3:
                return inside
        return [value for value in self._inside(self._linear_ticks(5)) if value > 0]

    def tick_texts(self) -> list[tuple[float, str]]:
        """Gives the ticks with their numbers, written with as many digits as it takes to tell them apart."""
        ticks = self.ticks()
        written = ([f"{value:.{digits}g}".replace("e-0", "e-") for value in ticks] for digits in range(4, 16))
        texts = next((texts for texts in written if len(set(texts)) == len(ticks)), [str(value) for value in ticks])
        return list(zip(ticks, texts, strict=True))

    def _inside(self, values: Iterable[float]) -> list[float]:
        slack = 1e-9 * (self.high - self.low)
        return [value for value in values if self.low - slack <= value <= self.high + slack]

    def _linear_ticks(self, count: int) -> list[float]:
        rough = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
        step = max(step, 1.0) if self.whole else step
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]


class Plot:
    """A chart that is drawn mark by mark; `chart()` is what has been drawn.

    x and y of marks are values of the axes; those that are not finite are left out. `series` chooses colour and
    dashes, `name` makes a line of the legend.

    >>> plot = Plot("Loss", Axis.over("epoch", [1, 2, 3]), Axis.over("", [4.0, 2.0, 1.0]))
    >>> plot.line([1, 2, 3], [4.0, 2.0, 1.0], name="train")
    >>> chart = plot.chart("What was minimised.")
    """

    def __init__(self, title: str, x_axis: Axis, y_axis: Axis) -> None:
        self.title, self.x_axis, self.y_axis = title, x_axis, y_axis
        self._legend: list[tuple[str, str]] = []  # names, and the styles of their lines
        self._marks: list[str] = []

    def pixels(self, x: Any, y: Any) -> np.ndarray:
        """Places values in the drawing: [n, 2] units from the plot's left of the page and its own top."""
        x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
        known = np.isfinite(x) & np.isfinite(y)
        known &= (x > 0 if self.x_axis.log else True) & (y > 0 if self.y_axis.log else True)
        across, up = self.x_axis.fraction(x[known]), self.y_axis.fraction(y[known])
        return np.stack([LEFT + PLOT_WIDTH * across, PLOT_HEIGHT * (1 - up)], axis=1)

    def line(self, x: Any, y: Any, *, series: int = 0, name: str = "") -> None:
        """Draws a curve through all places, with dots on them where they are few: one epoch alone is a dot."""
        pixels = self.pixels(x, y)
        self._name(name, series)
        self._marks.append(polyline(pixels[sampling.places(len(pixels), MOST_PLACES)], series_stroke(series)))
        if len(pixels) <= 40:
            self._marks += [circle(place, 2.2, series) for place in pixels]

    def step(self, x: Any, y: Any, *, series: int = 0, name: str = "", faint: bool = False) -> None:
        """Draws a staircase: each y [n] holds from its x [n], rising, until the next, the last to the plot's end.

        A faint one is grey and thin, as of what only joins other marks."""
        x = np.append(np.repeat(np.asarray(x, float), 2)[1:], self.x_axis.high)
        pixels = self.pixels(x, np.repeat(np.asarray(y, float), 2))
        self._name(name, series)
        style = FAINT if faint else series_stroke(series)
        self._marks.append(polyline(pixels[sampling.places(len(pixels), MOST_PLACES)], style))

    def band(self, x: Any, low: Any, high: Any, *, series: int = 0) -> None:
        """Fills the area between two curves."""
        outline = np.concatenate([self.pixels(x, low), self.pixels(x, high)[::-1]])
        style = f"fill:{series_colour(series)};fill-opacity:.12"
        self._marks.append(f'<polygon points="{_points(outline)}" style="{style}"/>')

    def dots(self, x: Any, y: Any, *, series: int = 0, filled: bool = True, radius: float = 4.5) -> None:
        """Draws a circle at each place, empty ones with the page's ground inside."""
        self._marks += [circle(place, radius, series, filled) for place in self.pixels(x, y)]

    def bars(self, x: Any, low: Any, high: Any, *, series: int = 0) -> None:
        """Draws an upright bar from low to high at each x, as of a range; none where they are the same."""
        for bottom, top in zip(self.pixels(x, low), self.pixels(x, high), strict=True):
            if abs(bottom[1] - top[1]) > 1:
                style = f"stroke:{series_colour(series)};stroke-width:1.5"
                self._marks.append(rule(bottom[0], bottom[1], top[0], top[1], style))

    def marked(self, x: float, name: str) -> None:
        """Draws an upright line over the whole height, explained in the legend, such as "best: epoch 7"."""
        (place,) = self.pixels([x], [self.y_axis.high])
        self._marks.append(rule(place[0], 0, place[0], PLOT_HEIGHT, FAINT))
        self._legend.append((name, FAINT))

    def add(self, marks: Iterable[str]) -> None:
        """Draws SVG elements whose places are as `pixels` gives them."""
        self._marks += marks

    def chart(self, note: str = "") -> Chart:
        """Gives the drawing: the legend, y's label, the plot, x's ticks and label."""
        top = LINE * (len(self._legend) + bool(self.y_axis.label)) + 8
        parts = []
        for i, (name, style) in enumerate(self._legend):
            y = LINE * i + 10
            parts.append(polyline([(LEFT, y), (LEFT + 26, y)], style))
            parts.append(text_at(LEFT + 33, y + 4, shortened(name, LONGEST_NAME)))
        if self.y_axis.label:
            parts.append(text_at(4, top - 9, self.y_axis.label))
        parts += [f'<g transform="translate(0,{top})">', *self._grid(), *self._marks]
        if not self._marks:
            parts.append(text_at(LEFT + PLOT_WIDTH / 2, PLOT_HEIGHT / 2, "nothing to show", "middle"))
        return Chart(self.title, svg_of(self.title, top + PLOT_HEIGHT + 42, [*parts, "</g>"]), note)

    def _grid(self) -> list[str]:
        parts = []
        for value, text in self.y_axis.tick_texts():
            y = PLOT_HEIGHT * (1 - float(self.y_axis.fraction(value)))
            parts.append(rule(LEFT, y, LEFT + PLOT_WIDTH, y))
            parts.append(text_at(LEFT - 6, y + 4, text, "end"))
        for value, text in self.x_axis.tick_texts():
            x = LEFT + PLOT_WIDTH * float(self.x_axis.fraction(value))
            parts.append(rule(x, PLOT_HEIGHT, x, PLOT_HEIGHT + 5))
            parts.append(text_at(x, PLOT_HEIGHT + 18, text, "middle"))
        parts.append(rule(LEFT, PLOT_HEIGHT, LEFT + PLOT_WIDTH, PLOT_HEIGHT))
        return [*parts, text_at(LEFT + PLOT_WIDTH / 2, PLOT_HEIGHT + 36, self.x_axis.label, "middle")]

    def _name(self, name: str, series: int) -> None:
        if name:
            self._legend.append((name, series_stroke(series)))


# ------------------------------------------------------------------------------------------------ elements of SVG

THIN = "stroke:currentColor;stroke-opacity:.22"
FAINT = "stroke:currentColor;stroke-opacity:.45;stroke-width:1.5;stroke-dasharray:4 3;fill:none"


def series_colour(i: int) -> str:
    """Gives the page's colour of a series, and ours where the page has none."""
    return f"var(--series-{i % len(SERIES) + 1},{SERIES[i % len(SERIES)]})"


def series_stroke(i: int) -> str:
    """Gives the style of a series' lines; no two of the first 36 have both colour and dashes in common."""
    dash = DASHES[(i + i // len(SERIES)) % len(DASHES)] or "none"
    return f"fill:none;stroke:{series_colour(i)};stroke-width:2;stroke-linejoin:round;stroke-dasharray:{dash}"


def polyline(pixels: Any, style: str) -> str:
    """Draws a line through [n, 2]."""
    return f'<polyline points="{_points(pixels)}" style="{style}"/>'


def circle(place: Sequence[float] | np.ndarray, radius: float, series: int, filled: bool = True) -> str:
    """Draws a disc in a series' colour, or a ring of it."""
    colour = series_colour(series)
    style = f"fill:{colour if filled else GROUND};stroke:{colour};stroke-width:2"
    return f'<circle cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="{radius:g}" style="{style}"/>'


def rect(x: float, y: float, width: float, height: float, style: str) -> str:
    """Draws a filled rectangle by its upper left corner."""
    return f'<rect x="{x:.1f}" y="{y:.2f}" width="{width:.1f}" height="{height:.2f}" style="{style}"/>'


def rule(x1: float, y1: float, x2: float, y2: float, style: str = THIN) -> str:
    """Draws a straight line, by default a thin one of a grid."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" style="{style}"/>'


def text_at(x: float, y: float, text: str, anchor: str = "start", *, halo: bool = False) -> str:
    """Writes a line of text on its base line y; a halo of the page's ground keeps it legible over marks."""
    style = f' style="paint-order:stroke;stroke:{GROUND};stroke-width:4"' if halo else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{escape(text)}</text>'


def shortened(text: str, length: int) -> str:
    """Gives the text, its end replaced by dots where it is longer than `length` letters."""
    return text if len(text) <= length else text[: length - 1] + "…"


def svg_of(title: str, height: float, parts: Iterable[str], text_size: int = 12) -> str:
    """Makes one <svg> element, 400 units wide, named `title` for those who can't see it."""
    label = f'role="img" aria-label="{escape(title)}" font-size="{text_size}" fill="currentColor"'
    return f'<svg viewBox="0 0 {WIDTH} {height:g}" {label}>{"".join(parts)}</svg>'


def _points(pixels: Any) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in pixels)
