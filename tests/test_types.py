"""Skeletons refuse what can't be, subsets keep what still holds, keypoints move with their image."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fiducial import geometry
from fiducial.errors import UserError
from fiducial.types import Keypoints, Normalizer, Skeleton

FACE = Skeleton(
    "face",
    ("eye_l", "eye_r", "nose", "mouth_l", "mouth_r"),
    ((0, 1), (3, 4)),
    ((0, 1), (3, 4)),
    (0.1, 0.2, 0.3, 0.4, 0.5),
    {"eyes": (0, 1), "mouth": (3, 4)},
    Normalizer("points", "interocular", (0, 1)),
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flip_pairs": ((0, 1), (1, 2))}, "'eye_r' is in more than one flip pair"),
        ({"flip_pairs": ((2, 2),)}, "more than one"),
        ({"edges": ((0, 5),)}, "point index 5 with 5 points"),
        ({"sigmas": (0.1, 0.2)}, "expected 5 positive sigmas"),
        ({"points": ()}, "no points"),
    ],
)
def test_impossible_skeletons(changes, message):
    values = {"name": "face", "points": FACE.points} | changes
    with pytest.raises(UserError, match=message):
        Skeleton(**values)


def test_flip_order_is_an_involution_and_refused_where_unknown():
    order = FACE.flip_order
    assert order.tolist() == [1, 0, 2, 4, 3]
    assert order[order].tolist() == list(range(5))
    assert Skeleton("s", ("a", "b"), flip_pairs=()).flip_order.tolist() == [0, 1]
    with pytest.raises(UserError, match="flip pairs are unknown"):
        _ = Skeleton("s", ("a", "b")).flip_order


def test_pick_keeps_what_still_holds():
    picked = FACE.pick([4, 3, 2])
    assert picked.points == ("mouth_r", "mouth_l", "nose")
    assert picked.edges == ((1, 0),)
    assert picked.flip_pairs == ((1, 0),)
    assert picked.sigmas == (0.5, 0.4, 0.3)
    assert picked.groups == {"mouth": (1, 0)}
    assert picked.normalizer.kind == "box"
    assert FACE.pick([1, 0]).normalizer.points == (1, 0)


def test_pick_of_half_a_pair_makes_flipping_unknown():
    assert FACE.pick([0, 2]).flip_pairs is None
    assert FACE.pick([2]).flip_pairs == ()


@pytest.mark.parametrize("indices", [[], [0, 0], [5], [-1]])
def test_pick_refuses(indices):
    with pytest.raises(UserError, match="distinct numbers from 0 to 4"):
        FACE.pick(indices)


def test_keypoints_move_with_their_image():
    xy = np.array([[[3.0, 4.0], [5.0, 9.0]]])
    points = Keypoints(xy, np.ones((1, 2)), np.full((1, 2, 2), 2.0), np.eye(2)[None, None].repeat(2, 1))
    matrix = geometry.compose(geometry.scaling(2, 2), geometry.rotation(np.pi / 2), geometry.translation(1, 0))[None]
    moved = points.mapped(matrix)
    assert_allclose(moved.xy, [[[-7, 6], [-17, 10]]], atol=1e-12)
    assert_allclose(moved.sigma, 4.0)
    assert_allclose(moved.jacobian[0, 0], [[0, -2], [2, 0]], atol=1e-12)
    back = moved.mapped(geometry.invert(matrix))
    assert_allclose(back.xy, xy, atol=1e-12)


def test_joined_keypoints_have_what_all_of_them_have() -> None:
    """Where instances were found in some frames and followed in others, the finder's scores are there for some alone."""
    found = Keypoints(np.zeros((2, 3, 2)), np.ones((2, 3)), box_score=np.ones(2), kind=np.array([1, 0]))
    followed = Keypoints(np.ones((1, 3, 2)), np.ones((1, 3)), kind=np.array([1]))
    both = Keypoints.joined([found, followed])
    assert both.xy.shape == (3, 3, 2)
    assert both.box_score is None
    assert both.kind.tolist() == [1, 0, 1]
