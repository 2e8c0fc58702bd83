"""Scores of instances and other ways to suppress repeats, on cases that can be done by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from evaluation.test_suppression import SHAPE, SIGMAS, areas, copies, similarity

from fiducial.errors import UserError
from fiducial.reference import suppression


def test_instance_scores_by_hand():
    box, points = np.array([0.5, 0.8]), np.array([[0.9, 0.2, 0.3], [0.1, 0.2, 0.05]])

    def of(scoring, **options):
        return suppression.instance_scores(box, points, scoring, **options).tolist()

    assert of("bbox") == [0.5, 0.8]
    assert of("keypoint") == pytest.approx([1.4 / 3, 0.35 / 3])
    assert of("bbox_keypoint") == pytest.approx([0.5 * 0.6, 0]), "0.2 itself is not above 0.2"
    assert of("bbox_keypoint", least_point_score=0.1) == pytest.approx([0.5 * 1.4 / 3, 0.8 * 0.2])
    assert of("bbox_rle") == pytest.approx([0.5 + 1.4 / 3 + 0.9, 0.8 + 0.35 / 3 + 0.2])
    with pytest.raises(UserError, match="bbox_keypoint, bbox_rle"):
        of("box")


def test_soft_suppression_is_an_order():
    xy, score = copies(0, 1, 200), np.array([0.9, 0.8, 0.5])
    # The near copy's 0.8 falls below the far one's 0.5; it is not lost.
    assert 0.8 * math.exp(-(similarity(1) ** 2) / 0.9) < 0.5
    assert suppression.soft_oks_nms(xy, score, areas(3), SIGMAS).tolist() == [0, 2, 1]
    assert suppression.soft_oks_nms(xy, score, areas(3), SIGMAS, most=2).tolist() == [0, 2]
    assert suppression.soft_oks_nms(xy, np.array([0.9, 0.8, 0.2]), areas(3), SIGMAS).tolist() == [0, 1, 2]


def test_nearby_points_need_no_sigmas():
    far = SHAPE + np.array([[0, 0], [0, 0], [40, 0]])  # two of three points are those of the shape
    xy, score = np.array([SHAPE, far, SHAPE + 300]), np.array([0.6, 0.9, 0.3])
    assert suppression.nearby_points_nms(xy, score).tolist() == [1, 2]
    assert suppression.nearby_points_nms(xy, score, least_points=2).tolist() == [1, 0, 2]


def test_boxes_by_their_edges_and_by_whole_px():
    corners = np.array([[0, 0, 9, 9], [0, 5, 9, 9], [40, 40, 60, 55]])
    score = np.array([0.9, 0.8, 0.7])
    # 36 of 81 by edges: 0.444; 10 x 5 of 10 x 10 by whole px: 0.5, which is not above 0.5.
    assert suppression.box_nms(corners, score, 0.45).tolist() == [0, 1, 2]
    assert suppression.box_nms(corners, score, 0.44).tolist() == [0, 2]
    assert suppression.box_nms(corners, score, 0.5, whole_px=True).tolist() == [0, 1, 2]
    assert suppression.box_nms(corners, score, 0.49, whole_px=True).tolist() == [0, 2]


def test_nothing_in_nothing_out():
    none, no_score = np.empty((0, 3, 2)), np.empty(0)
    for kept in (
        suppression.soft_oks_nms(none, no_score, no_score, SIGMAS),
        suppression.nearby_points_nms(none, no_score),
        suppression.box_nms(np.empty((0, 4)), no_score),
    ):
        assert kept.shape == (0,)
        assert kept.dtype == np.int64
