"""Charts as drawn: places are where values are, axes hold all of them, names cover nothing, the front has nothing below."""

from __future__ import annotations

import itertools
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from fiducial.report import charts, plot
from fiducial.report.charts import Band, Curve, Dot, scatter
from fiducial.report.label_places import label_places
from fiducial.report.plot import Axis, Plot
from fiducial.types import Skeleton

sys.path.insert(0, str(Path(__file__).parent))
from html_text import Html


def curves(svg: str) -> list[np.ndarray]:
    """The drawn curves [n, 2], without the samples of the legend (26 units long, level)."""
    texts = re.findall(r'<polyline points="([^"]*)"', svg)
    lines = [np.array([pair.split(",") for pair in text.split()], float) for text in texts]
    return [line for line in lines if np.ptp(line[:, 0]) != 26]


def numbers(pattern: str, svg: str) -> np.ndarray:
    return np.array(re.findall(pattern, svg), float)


# ---------------------------------------------------------------------------------------------------------- axes


def test_ticks_are_round_and_inside() -> None:
    def ticks(low: float, high: float, **options: bool) -> list[float]:
        return Axis(label="", low=low, high=high, **options).ticks()

    assert ticks(0, 0.1) == pytest.approx([0, 0.02, 0.04, 0.06, 0.08, 0.1])
    assert ticks(0.43, 0.68) == pytest.approx([0.45, 0.5, 0.55, 0.6, 0.65])
    assert ticks(3e-3, 2e-2, log=True) == pytest.approx([5e-3, 1e-2, 2e-2])
    assert ticks(1e-7, 1, log=True) == pytest.approx([10.0**i for i in range(-7, 1)])
    assert ticks(2.1, 4.9, log=True) == pytest.approx([3, 4]) or len(ticks(2.1, 4.9, log=True)) >= 3
    assert ticks(1, 3, whole=True) == [1, 2, 3]
    assert ticks(1, 200, whole=True) == [50, 100, 150, 200]
    close = Axis.over("", [13.89012, 13.89018]).tick_texts()
    assert len({text for _, text in close}) == len(close) > 2, "ticks that differ are written so"
    axis = Axis(label="", low=10, high=1000, log=True)
    assert axis.fraction([10, 100, 1000]) == pytest.approx([0, 0.5, 1])


@pytest.mark.parametrize("log", [False, True, None])
@pytest.mark.parametrize(
    "values",
    [[], [math.nan], [0.0], [-3.0], [5.0], [5.0, 5.0], [1e-9, 1e9], [0.1, 0.12], [math.inf, 2.0, 3.0], [-1, 4]],
)
def test_axes_hold_all_values(values: list[float], log: bool | None) -> None:
    """Nothing is cut off, and no axis is of no length; a logarithmic one holds what is positive."""
    axis = Axis.over("", values, log=log)
    inside = [v for v in values if math.isfinite(v) and (v > 0 or not axis.log)]
    assert axis.low < axis.high
    assert all(axis.low <= v <= axis.high for v in inside)
    if len(set(inside)) > 1:
        assert (axis.low, axis.high) == (min(inside), max(inside))
    ticks = axis.ticks()
    assert ticks
    assert all(np.isfinite(axis.fraction(ticks)))


def test_what_hardly_differs_is_drawn_as_the_same() -> None:
    """Else ticks would be 0.350971, 0.350972, .., which no axis has room for."""
    axis = Axis.over("", [0.3509700, 0.3509731])
    assert axis.low < 0.2
    assert axis.high > 0.5
    assert [text for _, text in Axis.over("", [1e-7, 1e-4], log=True).tick_texts()] == [
        "1e-7",
        "1e-6",
        "1e-5",
        "0.0001",
    ]


# ---------------------------------------------------------------------------------------------------------- marks


def test_marks_are_where_their_values_are() -> None:
    """One plot, every mark: x = 5 is in the middle, y = 25 a quarter up."""
    square = Plot("t", Axis(label="x", low=0, high=10), Axis(label="y", low=0, high=100))
    middle, quarter = plot.LEFT + plot.PLOT_WIDTH / 2, plot.PLOT_HEIGHT * 3 / 4
    square.dots([5, math.nan], [25, 25])
    square.bars([5], [25], [50])
    square.band([0, 5], [25, 25], [50, 50])
    square.marked(5, "<here>")
    square.line(np.arange(0, 11), np.full(11, 25.0), name="level")
    square.step([0, 5], [0, 25])
    svg = square.chart().svg
    circles = numbers(r'<circle cx="([\d.]+)" cy="([\d.]+)"', svg)
    np.testing.assert_allclose(circles[0], [middle, quarter], atol=0.06)
    assert len(circles) == 1 + 11
    bar = numbers(r'<line x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)" style="stroke:var', svg)
    np.testing.assert_allclose(bar, [[middle, quarter, middle, plot.PLOT_HEIGHT / 2]], atol=0.06)
    (outline,) = re.findall(r'<polygon points="([^"]*)"', svg)
    assert len(outline.split()) == 4
    level, stairs = curves(svg)
    np.testing.assert_allclose(level[:, 1], quarter, atol=0.06)
    right = plot.LEFT + plot.PLOT_WIDTH
    bottom = plot.PLOT_HEIGHT
    expected = [(plot.LEFT, bottom), (middle, bottom), (middle, quarter), (right, quarter)]
    np.testing.assert_allclose(stairs, expected, atol=0.06)
    assert "&lt;here&gt;" in svg
    Html(svg)


def test_an_empty_plot_says_so() -> None:
    for chart in (charts.lines("t", [], "x"), charts.bands("t", [], "x", "y"), scatter("t", [], "ms", "NME")):
        assert "nothing to show" in chart.svg
        assert not re.search("nan|inf", chart.svg)
        Html(chart.svg)


# ---------------------------------------------------------------------------------------------------- over epochs


def test_a_history_s_columns_over_its_epochs() -> None:
    rows = [
        {"epoch": 0, "lr": 1.0, "train/loss": 3.0, "train/points": 2.0, "train/maps": 1.0},
        {"epoch": 1, "val/l1": 5.0, "train/loss": 1.0},
    ]
    (chart,) = charts.over_epochs(rows, "T", ["val/l1", "lr", "val/none"], "note")
    assert (chart.title, chart.note) == ("T", "note")
    assert [name in chart.svg for name in (">l1<", ">lr<", ">none<")] == [True, True, False]
    assert charts.over_epochs(rows, "T", ["val/none"]) == []
    assert [chart.title for chart in charts.losses(rows)] == ["Loss", "Named losses"]
    one_part = [{"epoch": 0, "train/loss": 3.0, "train/points": 3.0}]
    assert [chart.title for chart in charts.losses(one_part)] == ["Loss"], "its only part would be the same curve"
    assert charts.losses([]) == []


def test_epochs_count_from_one_and_the_best_is_marked() -> None:
    """Where training stopped bettering itself is seen: the marked line goes through that epoch's dot."""
    nme = [0.5, 0.3, 0.2, 0.25]
    rows = [{"epoch": epoch, "val/nme": value} for epoch, value in enumerate(nme)]
    (chart,) = charts.over_epochs(rows, "T", ["val/nme"], best_epoch=3)
    words = Html(chart.svg).text
    assert "best: epoch 3" in words
    assert [tick for tick in ("1", "2", "3", "4") if f">{tick}</text>" in chart.svg] == ["1", "2", "3", "4"]
    (curve,) = curves(chart.svg)
    (marked,) = numbers(r'<line x1="([\d.]+)"[^>]*stroke-dasharray', chart.svg)
    assert marked == curve[curve[:, 1].argmax(), 0], "down on the page is less"
    assert marked == curve[2, 0]
    (without,) = charts.over_epochs(rows, "T", ["val/nme"])
    (beyond,) = charts.over_epochs(rows, "T", ["val/nme"], best_epoch=9)
    assert without == beyond


def test_the_mean_loss_is_the_curve() -> None:
    rows = [{"epoch": epoch, "train/loss": loss} for epoch, loss in enumerate([3.0, 1.0, 2.0])]
    (chart,) = charts.losses(rows)
    (curve,) = curves(chart.svg)
    np.testing.assert_allclose(curve[:, 1].max() - curve[:, 1], np.array([1, 0, 0.5]) * plot.PLOT_HEIGHT, atol=0.1)
    np.testing.assert_allclose(np.diff(curve[:, 0]), plot.PLOT_WIDTH / 2, atol=0.1)
    (single,) = charts.losses(rows[:1])
    assert single.svg.count("<circle") == 1, "one epoch is a dot"


def test_values_of_many_sizes_get_a_logarithmic_axis() -> None:
    rows = [{"epoch": epoch, "lr": 10.0 ** (-1 - epoch)} for epoch in range(3)]
    (chart,) = charts.over_epochs(rows, "Learning rate", ["lr"])
    (curve,) = curves(chart.svg)
    assert np.diff(curve[:, 1]) == pytest.approx([plot.PLOT_HEIGHT / 2] * 2, abs=0.1)


def test_bands_hold_all_runs_and_their_line_is_the_mean() -> None:
    y = np.array([[9.0, 2.0, np.nan], [5.0, 4.0, np.nan]])
    band = Band("kind", np.array([1, 2, 3]), y, 0)
    svg = charts.bands("t", [band, Band("none", np.array([1.0]), np.full((1, 1), np.nan), 1)], "epoch", "px").svg
    (outline,) = re.findall(r'<polygon points="([^"]*)"', svg)
    area = np.array([pair.split(",") for pair in outline.split()], float)
    (mean,) = curves(svg)
    assert len(mean) == 2, "an epoch that no run has is left out"
    np.testing.assert_allclose(mean[:, 1], (area[:2, 1] + area[:1:-1, 1]) / 2, atol=0.11)
    assert area[:, 1].min() > 0
    assert area[:, 1].max() < plot.PLOT_HEIGHT, "a first epoch is not cut off"


def test_many_curves_can_be_told_apart() -> None:
    """Also where there are more than colours, in both kinds of charts."""
    lines = [Curve(str(i), [0, 1], [i, i]) for i in range(9)]
    areas = [Band(str(i), np.array([0, 1]), np.array([[i, i]]), i) for i in range(9)]
    for chart in (charts.lines("t", lines, "x"), charts.bands("t", areas, "x", "y")):
        assert len(set(re.findall(r'<polyline [^>]*style="([^"]*)"', chart.svg))) == 9


# --------------------------------------------------------------------------------------------- errors of instances


@pytest.mark.parametrize("limit", [0.1, None])
def test_cumulative_errors_against_the_integral_of_the_drawn_curve(limit: float | None) -> None:
    """The area told is the area under the drawn staircase, whose height is the share of errors below x."""
    errors = [0.013, 0.027, 0.027, 0.081, 0.3, float("nan"), 0.055]
    chart = charts.cumulative_errors({"model": errors}, limit=limit)
    end = limit or 0.2  # nine tenths lie below .1905
    (curve,) = curves(chart.svg)
    x = (curve[:, 0] - plot.LEFT) / plot.PLOT_WIDTH * end
    y = (curve[:, 1].max() - curve[:, 1]) / plot.PLOT_HEIGHT
    told = re.search(r"area ([\d.]+)", chart.svg)
    assert told is not None
    assert np.trapezoid(y, x) / end == pytest.approx(float(told[1]), abs=2e-3)
    assert y[-1] == pytest.approx(5 / 6, abs=1e-3)
    assert f"up to {end:g}." in chart.note
    assert "1 of 7 instances have no error" in chart.note


@pytest.mark.parametrize("scale", [1e-4, 0.03, 0.5, 40.0])
def test_cumulative_errors_fill_their_chart_whatever_their_size(scale: float) -> None:
    """No fixed end that cuts poor models or squashes good ones to the left edge: nine tenths are shown, over at least
    two fifths of the width."""
    errors = scale * np.linspace(0.01, 1, 200)
    (curve,) = curves(charts.cumulative_errors({"a": errors, "b": errors / 2}).svg)[:1]
    heights = (curve[:, 1].max() - curve[:, 1]) / plot.PLOT_HEIGHT
    assert heights[-1] >= 0.9 - 0.01
    reached = curve[np.argmax(heights >= 0.9 - 0.01), 0]
    assert (reached - plot.LEFT) / plot.PLOT_WIDTH >= 0.36


@pytest.mark.parametrize("errors", [[], [np.nan], [0.5, 0.7], [0.0, 0.0], [0.1], [np.inf, 0.05]])
def test_cumulative_errors_of_unlucky_sets(errors: list[float]) -> None:
    svg = charts.cumulative_errors({"model": errors}).svg
    assert not re.search("nan|inf", svg)
    Html(svg)


def test_bars_are_as_long_as_their_values_and_worst_first() -> None:
    skeleton = Skeleton("s", ("a", "b", "<c>", "d"))
    svg = charts.point_bars(skeleton, [0.1, 0.4, np.nan, 0.2]).svg
    widths = numbers(r'<rect[^>]* width="([\d.]+)"', svg)
    np.testing.assert_allclose(widths, np.array([1, 0.5, 0.25, 0]) * 198, atol=0.06)  # of 400, less names and values
    assert Html(svg).text.split()[::2] == ["b", "d", "a", "<c>"]
    assert charts.point_bars(skeleton, [1, 2, 3, 4.0], most=2).svg.count("<rect") == 2
    Html(charts.point_bars(skeleton, [np.nan] * 4).svg)


def test_numbers_as_text() -> None:
    pairs = {
        0.0453: "0.04530",
        3.21234: "3.212",
        1234.4: "1234",
        0.0: "0.000",
        7: "7",
        102597: "102,597",
        "9 MB": "9 MB",
        None: "–",
    }
    assert [charts.number_text(value) for value in pairs] == list(pairs.values())
    assert charts.number_text(np.float32(0.5)) == "0.5000"
    assert charts.number_text(float("nan")) == "–"


# -------------------------------------------------------------------------------------------- accuracy against cost


def circles(svg: str) -> np.ndarray:
    return np.array(re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', svg), float)


def test_dots_lie_on_logarithmic_and_linear_axes() -> None:
    dots = [Dot(name, x, y, y, y, True, i) for i, (name, x, y) in enumerate([("a", 1, 9), ("b", 10, 5), ("c", 100, 1)])]
    found = circles(scatter("t", dots, "ms", "NME").svg)
    assert np.diff(found[:, 0])[0] == pytest.approx(np.diff(found[:, 0])[1], abs=0.15), "equal factors, equal steps"
    assert np.diff(found[:, 1])[0] == pytest.approx(np.diff(found[:, 1])[1], abs=0.15)
    assert (np.diff(found[:, 1]) > 0).all(), "smaller errors are further down"
    assert (found[:, 0] > plot.LEFT).all()
    assert (found[:, 0] < plot.LEFT + plot.PLOT_WIDTH).all()


def test_what_is_not_measured_is_left_out_and_one_dot_is_a_chart() -> None:
    dots = [Dot("a", math.nan, 1, 1, 1, False, 0), Dot("b", 2, 3, 2, 4, True, 1), Dot("c", 0, 1, 1, 1, False, 2)]
    svg = scatter("t", dots, "ms", "NME").svg
    assert len(circles(svg)) == 1
    assert not re.search("nan|inf", svg)
    assert "nothing to show" in scatter("t", dots[:1], "ms", "NME").svg


def test_only_the_front_is_filled_and_names_are_escaped() -> None:
    dots = [Dot("<a>", 1, 5, 5, 5, True, 0), Dot("b", 2, 6, 6, 6, False, 1)]
    svg = scatter("t", dots, "ms", "NME").svg
    fills = re.findall(r'<circle[^>]*style="fill:([^;]*);', svg)
    assert fills == [plot.series_colour(0), "var(--ground,#fff)"]
    assert "&lt;a&gt;" in svg
    assert "<a>" not in svg


def test_names_cover_neither_dots_nor_each_other() -> None:
    generator = np.random.default_rng(2)
    names = [f"method_{'x' * i}" for i in range(7)]
    left_out: list[int] = []
    for _ in range(20):
        dots = list(zip(generator.uniform(90, 360, 7).tolist(), generator.uniform(50, 200, 7).tolist(), strict=True))
        boxes = []
        found = label_places(dots, names, left=plot.LEFT, right=plot.WIDTH, top=25, bottom=215)
        left_out.append(found.count(None))
        for place, name in zip(found, names, strict=True):
            if place is None:
                continue
            x, y, anchor = place
            width = 6.4 * len(name)
            left = {"start": x, "middle": x - width / 2, "end": x - width}[anchor]
            boxes.append((left, y - 10, left + width, y + 3))
        covered = [
            (a, b)
            for a, b in itertools.combinations(boxes, 2)
            if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
        ]
        assert not covered
        assert all(box[0] >= plot.LEFT and box[2] <= plot.WIDTH for box in boxes)
    assert max(left_out) <= 1, "there is room for all but where dots crowd"


def test_of_crowded_dots_those_on_the_front_keep_their_names() -> None:
    dots = [Dot(f"behind_{i}", 1 + i / 100, 5, 5, 5, False, i) for i in range(40)]
    chart = scatter("t", [*dots, Dot("the_front", 1.2, 4.99, 4.99, 4.99, True, 40)], "ms", "NME", "Note.")
    assert "the_front" in chart.svg
    shown = sum(f">behind_{i}<" in chart.svg for i in range(40))
    assert shown < 40
    assert f"{40 - shown} names without room left out" in chart.note
