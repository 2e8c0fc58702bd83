"""Checks of the labels' shapes: planted faults are found, sound sets stay without alarm, and repairs give back what was."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from fiducial.checks import looks, moved, order, pairs, run, shapes, sides
from fiducial.checks.assignment import assigned
from fiducial.checks.finding import KINDS, Labelled
from tests.checks.small import SKELETON, beasts, exchanged

ROWS = [3, 40, 77, 110]


@pytest.fixture(scope="module")
def sound():
    return beasts(120)


def told(**splits):
    findings = run.check_shapes(Labelled(splits), with_images=True, told=set())
    assert {finding.kind for finding in findings} <= set(KINDS)
    return [finding for finding in findings if finding.confidence >= run.TOLD]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6])
def test_an_assignment_costs_least_of_all_permutations(size):
    cost = np.random.default_rng(size).random((size, size))
    least = min(sum(cost[i, order[i]] for i in range(size)) for order in itertools.permutations(range(size)))
    found = assigned(cost)
    assert sorted(found) == list(range(size))
    assert cost[np.arange(size), found].sum() == pytest.approx(least)


def test_a_sound_set_has_no_alarm(sound):
    assert told(train=sound, val=beasts(40, seed=1)) == []


def test_exchanged_sides_are_found_and_the_swap_gives_back_the_labels(sound):
    faulty = exchanged(sound, ROWS, SKELETON.flip_order)
    found = {finding.annotation_id: finding for finding in told(train=faulty)}
    assert set(found) == {row + 1 for row in ROWS}
    for row in ROWS:
        xy = faulty.xy[row].copy()
        for a, b in (found[row + 1].proposal or {})["swap"]:
            one, other = SKELETON.points.index(a), SKELETON.points.index(b)
            xy[[one, other]] = xy[[other, one]]
        assert np.array_equal(xy, sound.xy[row])


def test_one_exchanged_pair_is_found(sound):
    single = np.arange(12)
    single[[4, 5]] = [5, 4]
    found = sides.exchanges(exchanged(sound, ROWS, single))
    assert [(one.row, one.pairs.tolist(), one.is_whole) for one in found] == [(row, [1], False) for row in ROWS]


def test_sides_that_shapes_cannot_tell_are_left_alone(sound):
    """Feet that cross in every third instance: no alarm, no exchange of them alone, and whole ones are told all the same."""
    rng = np.random.default_rng(7)
    crossing = np.arange(12)
    crossing[[7, 8, 10, 11]] = [8, 7, 11, 10]
    rows = rng.choice(120, 40, replace=False).tolist()
    crossed = exchanged(sound, rows, crossing)
    assert sides.exchanges(crossed) == []
    assert sides.exchanges(exchanged(crossed, ROWS, crossing)) == []
    found = sides.exchanges(exchanged(crossed, ROWS, SKELETON.flip_order))
    assert [one.row for one in found if one.is_whole] == ROWS


@pytest.mark.parametrize(("slope", "share"), [(1.0, 0.05), (0.5, 0.02), (0.4, 0.1)])
def test_what_a_gain_is_worth_is_learnt_from_all_of_them(slope, share):
    """Gains drawn so that their log odds are known: P(sound | gain) is a logistic function, and a share is exchanged."""
    rng = np.random.default_rng(3)
    size = rng.exponential(6, 20_000)
    is_sound = rng.random(20_000) < 1 / (1 + np.exp(-slope * size))
    gains = np.where(is_sound, -size, size) * np.where(rng.random(20_000) < share, -1, 1)
    odds = sides.odds_of(gains)
    assert odds.slope == pytest.approx(slope, rel=0.2)
    assert odds.price == pytest.approx(np.log(1 / share - 1), abs=0.3)
    assert sides.odds_of(np.array([])).price == np.inf


def test_gains_of_exchanges_are_differences_of_density(sound):
    """Single pairs and all of them, against the density of the exchanged shapes themselves."""
    given = sides.gains(sound)
    parts = sides._Parts.of(sound)
    [(rows, _, signed)] = list(parts)
    assert rows.tolist() == list(range(120))
    for pair in range(4):
        signs = np.ones((120, 4))
        signs[:, pair] = -1
        assert given[:, pair] == pytest.approx(signed.gain(signs))
    values = parts.values.copy()
    values[:, 2 * parts.middles :] *= -1  # all sides exchanged
    away = [each - parts.model.mean for each in (values, parts.values)]
    inverse = np.linalg.inv(parts.model.covariance)
    turned, as_is = (shapes.log_density(((one @ inverse) * one).sum(1), values.shape[1]) for one in away)
    assert given[:, -1] == pytest.approx(turned - as_is)


def test_who_is_seen_from_behind_is_told_from_chance():
    others = np.linspace(0, 1, 999)
    assert looks.behind(np.array([0.0]), others) > 0.9  # one asked, and the least usual
    assert looks.behind(np.array([0.5]), others) == 0
    # As usual as all others: some are the least usual by chance.
    by_chance = looks.behind((np.arange(60) + 0.5) / 60, others)
    assert (by_chance < 0.5).all()
    several = looks.behind(np.concatenate([np.full(8, 0.002), np.linspace(0.02, 1, 50)]), others)
    assert (several[:8] > 0.9).all()
    assert (several[8:] < 0.5).all()


def test_moved_points_are_found_where_they_were_moved(sound):
    xy = sound.xy.copy()
    rng = np.random.default_rng(0)
    planted = {(row, int(point)) for row, point in zip(range(0, 120, 6), rng.integers(0, 12, 20), strict=True)}
    size = np.sqrt(sound.area)
    for row, point in planted:
        xy[row, point] += 0.25 * size[row] * np.array([0.6, 0.8])
    found = {(one.row, one.point): one for one in moved.moved_points(replace(sound, xy=xy))}
    assert len(set(found) & planted) >= 0.9 * len(planted)
    assert len(set(found) - planted) <= 0.1 * len(planted)
    nearer = [
        np.linalg.norm(np.array(found[key].xy) - sound.xy[key]) < 0.1 * size[key[0]] for key in set(found) & planted
    ]
    assert np.mean(nearer) > 0.9


def test_points_in_another_order_are_found(sound):
    drawn = np.random.default_rng(4).permutation(12)
    found = {one.row: one for one in order.reordered(exchanged(sound, ROWS, drawn))}
    assert set(found) == set(ROWS)
    faulty = exchanged(sound, ROWS, drawn)
    assert all(np.array_equal(faulty.xy[row][found[row].order], sound.xy[row]) for row in ROWS)


def test_two_exchanged_points_are_found_though_the_shape_is_hardly_unusual(sound):
    """Knee and foot of one side lie near each other: only the exchange itself tells."""
    two = np.arange(12)
    two[[7, 10]] = [10, 7]
    found = order.reordered(exchanged(sound, ROWS, two))
    assert [(one.row, np.flatnonzero(one.order != np.arange(12)).tolist()) for one in found] == [
        (row, [7, 10]) for row in ROWS
    ]
    assert order.reordered(sound) == []


def test_a_moved_point_is_no_exchange(sound):
    """One hand laid beside the other, or beside a foot: what was moved is told of as moved, not as sides or another order."""
    for point, there in ((4, 5), (4, 8)):
        xy = sound.xy.copy()
        xy[57, point] = xy[57, there] + [3, 2]
        faulty = replace(sound, xy=xy)
        assert sides.exchanges(faulty) == []
        assert order.reordered(faulty) == []
        assert (57, point) in {(one.row, one.point) for one in moved.moved_points(faulty)}


def test_gains_of_exchanges_of_two_points_are_those_of_the_likeliest(sound):
    laid, _ = shapes.aligned(sound.xy, sound.labelled)
    model = shapes.distribution_of(laid.reshape(120, -1), np.ones((120, 24), bool))
    given = order._exchange_gains(model, laid, sound.labelled, {frozenset((1, 2))})
    inverse = np.linalg.inv(model.covariance)

    def density(shape):
        away = shape.ravel() - model.mean
        return float(shapes.log_density(away @ inverse @ away, 24))

    for row in (0, 57):
        best = -np.inf
        for a, b in itertools.combinations(range(12), 2):
            if (a, b) != (1, 2):
                turned = laid[row].copy()
                turned[[a, b]] = turned[[b, a]]
                best = max(best, density(turned) - density(laid[row]))
        assert given[row] == pytest.approx(best)


def test_sides_and_another_order_at_once_are_one_finding_that_mends_both(sound):
    mixed = np.array(SKELETON.flip_order)
    mixed[[0, 9, 3, 6]] = mixed[[9, 0, 6, 3]]  # nose and tail, neck and hip: the animal is turned round as well
    mixed[[1, 7]] = mixed[[7, 1]]
    faulty = exchanged(sound, ROWS, mixed)
    found = {finding.annotation_id: finding for finding in told(train=faulty)}
    assert set(found) == {row + 1 for row in ROWS}
    for row in ROWS:
        [finding] = [one for one in told(train=faulty) if one.annotation_id == row + 1]
        assert finding.kind == "point_order"
        wanted = [SKELETON.points.index(name) for name in (finding.proposal or {})["order"]]
        assert np.array_equal(faulty.xy[row][wanted], sound.xy[row])


def test_a_split_in_another_order_is_found_as_a_whole(sound):
    drawn = np.random.default_rng(2).permutation(12)
    val = beasts(30, seed=5)
    [finding] = told(train=sound, val=exchanged(val, list(range(30)), drawn))
    assert (finding.kind, finding.split, finding.annotation_id) == ("point_order", "val", None)
    flipped = exchanged(val, list(range(30)), SKELETON.flip_order)
    assert [finding.kind for finding in told(train=sound, val=flipped)] == ["left_right"]


@pytest.mark.parametrize(
    ("named", "wrong"),
    [
        (((1, 5), (4, 2), (7, 8), (10, 11)), {"left_eye", "right_hand", "left_hand", "right_eye"}),
        (((1, 2), (4, 5), (7, 8)), {"left_knee", "right_knee"}),
    ],
)
def test_wrong_flip_pairs_are_refuted_and_proved(sound, named, wrong):
    refuted = pairs.refuted(replace(sound, skeleton=replace(SKELETON, flip_pairs=named)))
    assert refuted is not None
    points, proved = refuted
    assert {SKELETON.points[point] for point in points} == wrong
    assert pairs.pairs_of(proved) == SKELETON.flip_pairs


def test_right_pairs_and_those_of_no_symmetry_are_not_refuted(sound):
    assert pairs.refuted(sound) is None
    lopsided = replace(sound, xy=sound.xy + np.random.default_rng(0).uniform(-60, 60, (12, 2)).astype(np.float32))
    named = replace(SKELETON, flip_pairs=((0, 1), (2, 3)))
    assert pairs.refuted(replace(lopsided, skeleton=named)) is None


def test_missing_points_and_few_instances_do_no_harm(sound):
    visibility = sound.visibility.copy()
    visibility[np.random.default_rng(0).random(visibility.shape) < 0.3] = 0
    visibility[5] = 0
    visibility[6, 2:] = 0
    holes = replace(sound, visibility=visibility)
    assert told(train=holes) == []
    faulty = exchanged(holes, ROWS, SKELETON.flip_order)
    assert {finding.annotation_id for finding in told(train=faulty)} <= {row + 1 for row in ROWS}
    assert told(train=sound.select(np.arange(5))) == []
    assert told(train=sound.select(np.arange(1)), val=sound.select(np.arange(2))) == []
