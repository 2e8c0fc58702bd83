"""Floors against a computation by hand, and when a result is called no better."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from fiducial.data.images import ArrayImages
from fiducial.data.skeletons import COCO17
from fiducial.evaluation import floor
from fiducial.evaluation.floor import Floor
from fiducial.types import Instances, Skeleton


def labels(xy: list, boxes: list, *, labelled: list | None = None, image_row: list | None = None) -> Instances:
    """Instances of two points, one an image."""
    points, count = np.array(xy, np.float32), len(boxes)
    seen = np.ones(points.shape[:2], bool) if labelled is None else np.array(labelled, bool)
    return Instances(
        skeleton=Skeleton("two", ("a", "b")),
        images=ArrayImages(np.zeros((count, 4, 4, 3), np.uint8)),
        image_id=np.arange(count),
        image_size=np.full((count, 2), 100, np.int32),
        image_row=np.arange(count) if image_row is None else np.array(image_row),
        annotation_id=np.arange(count),
        xy=np.where(seen[..., None], points, 0),
        visibility=2 * seen.astype(np.uint8),
        box_xywh=np.array(boxes, np.float32),
        area=np.full(count, 100, np.float32),
        crowd=np.zeros(count, bool),
    )


def test_by_hand() -> None:
    """Point a lies at shares (.25, .5) and (.75, .5) of two boxes, b is labelled once, at (.5, 1). The edges of a box are
    half a pixel outside of its first and last pixels' centres."""
    train = labels(
        [[[9.5, 14.5], [0, 0]], [[29.5, 9.5], [19.5, 19.5]]],
        [[4.5, 4.5, 21, 21], [0, 0, 40, 20]],
        labelled=[[1, 0], [1, 1]],
    )
    train = replace(train, box_xywh=np.array([[0, 0, 40, 30], [0, 0, 40, 20]], np.float32))
    np.testing.assert_allclose(floor.mean_shape(train), [[0.5, 0.5], [0.5, 1.0]])
    # In a box of 40 x 10 at (10, 20) the shape is at (29.5, 24.5) and (29.5, 29.5).
    test = labels([[[32.5, 28.5], [29.5, 27.5]]], [[10, 20, 40, 10]])
    ground = floor.floor_of(test, train)
    assert ground.of == "train"
    assert ground.nme == pytest.approx((5 + 2) / 2 / math.sqrt(40 * 10))
    assert ground.as_json() == {"nme": pytest.approx(3.5 / 20), "of": "train"}


def test_without_train_the_truth_s_own_shape_is_the_floor() -> None:
    test = labels([[[19.5, 9.5], [0, 0]], [[27.5, 9.5], [0, 0]]], [[0, 0, 40, 20]] * 2, labelled=[[1, 0], [1, 0]])
    ground = floor.floor_of(test)
    assert ground.of == "truth"
    assert ground.nme == pytest.approx(4 / math.sqrt(800))  # the mean lies 4 px from both


def test_crowds_and_instances_without_points_move_nothing() -> None:
    test = labels(
        [[[10, 10], [12, 12]], [[90, 1], [80, 3]], [[0, 0], [0, 0]]],
        [[0, 0, 40, 20]] * 3,
        labelled=[[1, 1], [1, 1], [0, 0]],
    )
    crowded = replace(test, crowd=np.array([False, True, False]))
    assert floor.floor_of(crowded).nme == pytest.approx(0, abs=1e-7)
    np.testing.assert_allclose(floor.mean_shape(crowded), floor.mean_shape(test.select(np.array([0]))))


def test_the_best_model_of_no_image_is_at_its_floor() -> None:
    """The floor of a set of equal poses is nothing, whatever their boxes."""
    generator = np.random.default_rng(0)
    boxes = np.concatenate([generator.uniform(0, 50, (9, 2)), generator.uniform(10, 50, (9, 2))], 1)
    shape = np.array([[0.2, 0.3], [0.9, 0.6]])
    xy = boxes[:, None, :2] + shape * boxes[:, None, 2:] - 0.5
    assert floor.floor_of(labels(xy.tolist(), boxes.tolist())).nme < 1e-6


def coco_like(sigmas: tuple[float, ...] | None) -> Instances:
    """One person whose area is a quarter of the box."""
    person = labels([[[1, 2], [3, 4]]], [[0, 0, 40, 40]])
    skeleton = COCO17.pick([0, 5])
    skeleton = skeleton if sigmas is None else replace(skeleton, sigmas=sigmas)
    return replace(person, skeleton=skeleton, area=np.array([400], np.float32))


def test_what_people_differ_by_is_read_from_coco_s_sigmas() -> None:
    """The mean of |d| of a Gaussian in two dimensions, by drawing: nose .026 and shoulder .079 of the area's root."""
    human, words = floor.human_spread(coco_like(None))
    unit = np.random.default_rng(0).normal(size=(200_000, 2)) / math.sqrt(2)  # its mean square is 1
    mean = np.linalg.norm(unit, axis=1).mean()
    assert human == pytest.approx(mean * (0.026 + 0.079) / 2 * 20 / 40, rel=5e-3)
    assert "sigmas" in words
    assert floor.human_spread(coco_like((0.026, 0.08))) == (None, "")
    assert floor.human_spread(labels([[[1, 2], [3, 4]]], [[0, 0, 40, 40]])) == (None, "")


def test_what_people_differ_by_is_measured_where_instances_are_labelled_twice() -> None:
    twice = labels(
        [[[1, 2], [3, 4]], [[1, 5], [7, 4]], [[50, 50], [51, 51]]],
        [[0, 0, 40, 40], [1, 0, 40, 40], [60, 0, 40, 40]],
        image_row=[0, 0, 0],
    )
    human, words = floor.human_spread(twice)
    assert human == pytest.approx((3 + 4) / 2 / 40)
    assert "1 pairs" in words
    apart = replace(twice, image_row=np.array([0, 1, 2]))
    assert floor.human_spread(apart) == (None, "")


def test_boxes_of_a_crowd_that_overlap_are_not_labels_of_one_instance() -> None:
    """Two arms of a clock, at any hour and alone in one box: no nearer to each other than to the middle."""
    hours = np.random.default_rng(3).uniform(0, 2 * math.pi, (40, 2))
    hands = 20 + 18 * np.stack([np.cos(hours), np.sin(hours)], -1)
    crowd = labels(hands.tolist(), [[0, 0, 40, 40]] * 40, image_row=[0] * 40)
    assert len(floor.repeated_labels(crowd)[0]) == 0
    again = labels([*hands, *(hands + 1)], [[0, 0, 40, 40]] * 80, image_row=[*range(40), *range(40)])
    assert sorted(floor.repeated_labels(again)[0].tolist()) == list(range(40))
    human, _ = floor.human_spread(again)
    assert human == pytest.approx(math.sqrt(2) / 40)


def test_no_better_than_its_floor() -> None:
    ground = Floor(nme=0.2, of="train")
    assert ground.verdict(0.19) is None
    assert ground.verdict(None) is None
    assert Floor(nme=math.nan, of="truth").verdict(0.1) is None
    line = ground.verdict(0.25)
    assert line is not None
    assert line.startswith("no better than its floor: an NME of 0.2500, where the mean shape of train")
    assert Floor.of_summary({"floor": ground.as_json()}) == ground
    assert Floor.of_summary({"floor": {"nme": None, "of": "truth"}}) is None
