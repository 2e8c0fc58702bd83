"""The figures of benchmarks/quantisation.py: 64x64 maps of a picture of 2500 px, read by every decoder."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("torch")
FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "quantisation.py"


@pytest.fixture(scope="module")
def errors():
    """Decoder -> its figures, px, for Gaussians of one and a half cells."""
    spec = importlib.util.spec_from_file_location("quantisation", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.measure(side=2500, cells=64, sigma_cells=1.5, points=1000)


def test_a_perfect_argmax_is_a_third_of_a_cell_off(errors):
    """Uniform over a square cell of 2500 / 64 px: the mean distance from its centre is 0.3826 of the side, the largest
    0.7071 (closed forms)."""
    side = 2500 / 64
    assert errors["argmax"]["mean"] == pytest.approx(0.3826 * side, rel=0.03)
    assert 14 < errors["argmax"]["mean"] < 18
    assert 14 < errors["argmax"]["median"] < 18
    assert 0.65 * side < errors["argmax"]["largest"] <= 0.7072 * side


def test_a_quarter_of_a_cell_halves_it(errors):
    """What is left is uniform over a square of half a cell."""
    assert errors["quarter"]["mean"] == pytest.approx(errors["argmax"]["mean"] / 2, rel=0.03)
    assert errors["quarter"]["largest"] <= 0.7072 * 2500 / 64 / 2


def test_every_decoder_between_the_cells_is_within_a_px(errors):
    between = [name for name in errors if name not in ("argmax", "quarter")]
    assert {"dark", "dark_udp", "mean", "windowed mean", "mean of the top 9"} <= set(between)
    for name in between:
        assert errors[name]["mean"] < 1, name
        assert errors[name]["median"] < 0.05, name


def test_at_the_border_only_the_means_of_gaussians_hold(errors):
    """DARK stays at the highest cell or steps wrong there; the map's last half cell has no cell on its outside."""
    for name in ("mean", "windowed mean"):
        assert errors[name]["border_mean"] < 0.01, name
    assert errors["dark"]["border_mean"] > 5
    assert errors["mean of the top 9"]["border_mean"] < 5
