"""Accuracy against cost as drawn: dots where their values are, names that cover nothing, a front with nothing below."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from fiducial.report import charts
from fiducial.report.scatter import Dot, name_places, scatter


def circles(svg: str) -> np.ndarray:
    return np.array(re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', svg), float)


def test_dots_lie_on_logarithmic_and_linear_axes() -> None:
    dots = [Dot(name, x, y, y, y, True, i) for i, (name, x, y) in enumerate([("a", 1, 9), ("b", 10, 5), ("c", 100, 1)])]
    found = circles(scatter("t", dots, "ms", "NME").svg)
    assert np.diff(found[:, 0])[0] == pytest.approx(np.diff(found[:, 0])[1], abs=0.15), "equal factors, equal steps"
    assert np.diff(found[:, 1])[0] == pytest.approx(np.diff(found[:, 1])[1], abs=0.15)
    assert (np.diff(found[:, 1]) > 0).all(), "smaller errors are further down"
    assert (found[:, 0] > charts.LEFT).all()
    assert (found[:, 0] < charts.LEFT + charts.PLOT_WIDTH).all()


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
    assert fills == [charts.series_colour(0), "var(--ground,#fff)"]
    assert "&lt;a&gt;" in svg
    assert "<a>" not in svg


def test_names_cover_neither_dots_nor_each_other() -> None:
    generator = np.random.default_rng(2)
    names = [f"method_{'x' * i}" for i in range(7)]
    for _ in range(20):
        dots = list(zip(generator.uniform(90, 360, 7).tolist(), generator.uniform(50, 200, 7).tolist(), strict=True))
        boxes = []
        for (x, y, anchor), name in zip(name_places(dots, names, 25, 215), names, strict=True):
            width = 6.4 * len(name)
            left = {"start": x, "middle": x - width / 2, "end": x - width}[anchor]
            boxes.append((left, y - 10, left + width, y + 3))
        covered = [
            (i, j) for i, a in enumerate(boxes) for j, b in enumerate(boxes)
            if i < j and a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
        ]  # fmt: skip
        assert len(covered) <= 1, "there is room for all but where dots crowd"
        assert all(box[0] >= charts.LEFT and box[2] <= charts.WIDTH for box in boxes)
