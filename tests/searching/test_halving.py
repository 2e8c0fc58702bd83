"""Rungs: counts and epochs as the article has them, worked out by hand; bounds that hold for whatever is asked."""

from __future__ import annotations

import itertools
import random

import pytest

from fiducial.searching import halving
from fiducial.searching.halving import Limits, Rung


def limits(seconds: float, **others: object) -> Limits:
    return Limits(seconds=seconds, **{"most": 10_000, **others})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("count", "counts"), [(27, [27, 9, 3, 1]), (12, [12, 4, 1]), (8, [8, 2, 1]), (3, [3, 1]), (2, [2, 1]), (1, [1])]
)
def test_a_third_goes_on(count: int, counts: list[int]) -> None:
    assert halving.survivors(count) == counts


def test_rungs_are_those_of_the_article() -> None:
    """Nine runs of r epochs, three to 3 r, one to 9 r: 9 r + 3 (3 r - r) + (9 r - 3 r) = 21 r epochs of a second."""
    assert halving.plan([1.0] * 9, limits(210)) == [Rung(9, 10), Rung(3, 30), Rung(1, 90)]
    assert halving.plan([1.0] * 9, limits(209)) == [Rung(9, 9), Rung(3, 27), Rung(1, 81)]
    assert halving.seconds_of([Rung(9, 10), Rung(3, 30), Rung(1, 90)], 1.0, limits(0)) == 210


def test_what_a_run_takes_beside_its_epochs_counts_in_each_rung() -> None:
    """13 starts of 2 s, and 21 r."""
    assert halving.plan([1.0] * 9, limits(210 + 26, beside_s=2.0))[0] == Rung(9, 10)
    assert halving.plan([1.0] * 9, limits(210 + 25, beside_s=2.0))[0] == Rung(9, 9)


def test_several_at_a_time_take_turns() -> None:
    """Nine at three a time are three turns, three are one, one is one: 3 r + 2 r + 6 r = 11 r."""
    assert halving.plan([1.0] * 9, limits(110, jobs=3))[0] == Rung(9, 10)
    assert halving.plan([1.0] * 9, limits(109, jobs=3))[0] == Rung(9, 9)


def test_fewer_are_begun_where_all_would_get_too_little() -> None:
    """Ten epochs each: of 9 they take 210 s, of 8 (8, 2, 1) 80 + 40 + 60 = 180, of 5 (5, 1) 50 + 20 = 70."""
    counts = [halving.plan([1.0] * 9, limits(seconds, least=10))[0].runs for seconds in (210, 209, 179, 70, 69, 1)]
    assert counts == [9, 8, 7, 5, 4, 1]
    assert halving.plan([1.0] * 9, limits(3, least=10)) == [Rung(1, 3)]
    assert halving.plan([5.0], limits(3, least=10)) == [Rung(1, 1)], "one epoch is made, whatever it takes"


def test_no_more_epochs_than_are_of_use() -> None:
    assert halving.plan([1.0] * 3, limits(1e6, most=40)) == [Rung(3, 40), Rung(1, 40)]
    assert halving.further([1.0] * 3, 40, limits(1e6, most=40)) == []


def test_what_is_left_goes_to_those_that_are_left() -> None:
    """Four from 10 epochs to 10 g, one on to 10 g^2: with g = 3 that is 4 * 20 + 60 = 140 s."""
    assert halving.further([1.0] * 12, 10, limits(140)) == [Rung(4, 30), Rung(1, 90)]
    assert halving.further([1.0] * 12, 10, limits(14)) == [Rung(1, 24)], "four would get 2 more each: one goes on"
    assert halving.further([1.0] * 12, 10, limits(0.5)) == []
    assert halving.further([1.0], 10, limits(1000)) == [], "the last rung was the last"


def test_whatever_is_asked_the_time_is_kept() -> None:
    draw = random.Random(0)
    for _ in range(300):
        paces = [draw.uniform(0.1, 5) for _ in range(draw.randint(1, 30))]
        asked = limits(
            draw.uniform(50, 5000),
            least=draw.randint(1, 20),
            most=200,
            beside_s=draw.uniform(0, 5),
            jobs=draw.randint(1, 4),
        )
        planned = halving.plan(paces, asked)
        mean = sum(paces[: planned[0].runs]) / planned[0].runs
        assert halving.seconds_of(planned, mean, asked) <= asked.seconds or planned[0] == Rung(1, 1)
        assert [rung.runs for rung in planned] == halving.survivors(planned[0].runs)
        assert all(a.epochs <= b.epochs <= 200 for a, b in itertools.pairwise(planned))
        later = halving.further(sorted(paces), planned[0].epochs, asked)
        if later:
            mean = sum(sorted(paces)[: later[0].runs]) / later[0].runs
            assert halving.seconds_of(later, mean, asked, planned[0].epochs) <= asked.seconds
            assert later[0].epochs > planned[0].epochs
