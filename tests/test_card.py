"""Cards of points without labels: told by a field, also where an older card has none."""

from __future__ import annotations

import pytest

from fiducial import config
from fiducial.card import Card, DetectorSpec
from fiducial.data import skeletons
from fiducial.geometry import Size
from fiducial.types import Skeleton


@pytest.mark.parametrize(
    ("name", "points", "named"),
    [
        ("motion3", skeletons.numbered(3), False),
        ("motion3", ("a", "b", "c"), True),
        ("motion4", skeletons.numbered(3), True),
        ("mouse", skeletons.numbered(3), True),
    ],
)
def test_older_cards_name_their_points_in_the_skeleton(name: str, points: tuple[str, ...], named: bool) -> None:
    card = Card(DetectorSpec("any", "any", {}, Size(64, 48), Skeleton(name, points)))
    values = config.to_dict(card)
    del values["spec"]["skeleton"]["named"]
    assert config.from_dict(Card, values, "model.json").spec.skeleton.named is named
    assert card.spec.skeleton.pick([2, 0]).named is named


def test_the_field_travels() -> None:
    card = Card(DetectorSpec("any", "any", {}, Size(64, 48), Skeleton("anything", ("a", "b"), named=False)))
    assert config.from_dict(Card, config.to_dict(card), "model.json") == card


@pytest.mark.parametrize(
    ("licence", "terms"),
    [
        ("Apache-2.0", "not stated; derived from network (Apache-2.0)"),
        ("unknown", "not stated; derived from network (unknown)"),
        ("not stated", "not stated"),
    ],
)
def test_older_cards_state_the_licence_of_the_network_alone(licence: str, terms: str) -> None:
    values = config.to_dict(Card(DetectorSpec("any", "any", {}, Size(64, 48), Skeleton("two", ("a", "b")))))
    values |= {"licence": licence}
    del values["derived_from"]
    card = config.from_dict(Card, values, "model.json")
    assert card.terms == terms
    assert config.from_dict(Card, config.to_dict(card), "model.json") == card
