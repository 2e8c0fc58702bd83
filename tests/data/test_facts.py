"""What a set says about itself, against sets that were made with known turns, sizes and mirrors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fiducial import geometry
from fiducial.data.facts import facts_of, mean_shape
from fiducial.geometry import Size
from fiducial.types import Instances, Skeleton

SHAPE = np.array([[0.0, -60.0], [-30.0, 10.0], [30.0, 10.0], [0.0, 90.0]])  # symmetric: 1 and 2 change places
SKELETON = Skeleton("kite", ("top", "left", "right", "bottom"), flip_pairs=((1, 2),))


class NoImages:
    """Facts are of labels alone: an image that is read is a fault."""

    def __len__(self) -> int:
        return 1000

    def name(self, row: int) -> str:
        return f"{row}.png"

    def read(self, row: int, reduce: int = 1) -> np.ndarray:
        raise AssertionError("an image was read")


def instances_of(maps: list[np.ndarray], shape: np.ndarray = SHAPE, skeleton: Skeleton = SKELETON) -> Instances:
    """A shape under each of the maps, in boxes around its points."""
    xy = np.stack([geometry.transform(matrix, shape) for matrix in maps])
    labelled = np.ones(xy.shape[:2], dtype=bool)
    boxes = np.stack([geometry.box_of_points(own, one) for own, one in zip(xy, labelled, strict=True)])
    count = len(xy)
    return Instances(
        skeleton=skeleton,
        images=NoImages(),
        image_id=np.arange(1000),
        image_size=np.zeros((1000, 2), np.int32),
        image_row=np.arange(count) // 2,
        annotation_id=np.arange(count),
        xy=xy.astype(np.float32),
        visibility=np.full(xy.shape[:2], 2, np.uint8),
        box_xywh=boxes.astype(np.float32),
        area=boxes[:, 2:].prod(1).astype(np.float32),
        crowd=np.zeros(count, bool),
    )


def turned(degrees: np.ndarray, enlarged: float = 1.0) -> list[np.ndarray]:
    return [
        geometry.compose(
            geometry.scaling(enlarged, enlarged),
            geometry.rotation(float(np.radians(angle))),
            geometry.translation(200 + i, 300 - i),
        )
        for i, angle in enumerate(degrees)
    ]


def test_similarity_finds_the_map_that_was_used() -> None:
    rng = np.random.default_rng(0)
    xy, weight = rng.normal(0, 40, (5, 7, 2)), np.ones((5, 7))
    maps = np.stack(turned(rng.uniform(-180, 180, 5), 1.7))
    moved = geometry.transform(maps, xy)
    moved[:, 3] = 1e6  # does not count
    weight[:, 3] = 0
    np.testing.assert_allclose(geometry.similarity(xy, moved, weight), maps, atol=1e-6)
    assert np.isnan(geometry.similarity(xy[:, :1], moved[:, :1], weight[:, :1])).any()


def test_similarity_is_the_least_squares_of_all_linear_maps_of_its_kind() -> None:
    """Against numpy's solver of u = c x - s y + e, v = s x + c y + f, on points that no such map joins."""
    rng = np.random.default_rng(1)
    xy, to = rng.normal(0, 1, (6, 2)), rng.normal(0, 1, (6, 2))
    one, none = np.ones(6), np.zeros(6)
    rows_u = np.stack([xy[:, 0], -xy[:, 1], one, none], 1)
    rows_v = np.stack([xy[:, 1], xy[:, 0], none, one], 1)
    c, s, e, f = np.linalg.lstsq(np.concatenate([rows_u, rows_v]), np.concatenate([to[:, 0], to[:, 1]]), rcond=None)[0]
    np.testing.assert_allclose(geometry.similarity(xy, to, one), [[c, -s, e], [s, c, f], [0, 0, 1]], atol=1e-12)


@pytest.mark.parametrize("most", [5, 40, 120])
def test_the_turn_is_that_of_the_set(most: int) -> None:
    facts = facts_of(instances_of(turned(np.linspace(-most, most, 201) + 33)))
    assert facts.turn_degrees == pytest.approx(0.95 * most, rel=0.02)
    assert (facts.instances, facts.images, facts.points) == (201, 101, 4)


def test_a_set_in_all_directions() -> None:
    assert facts_of(instances_of(turned(np.linspace(-180, 180, 73)))).turn_degrees > 150


def test_sides_and_aspect_are_the_boxes() -> None:
    facts = facts_of(instances_of(turned(np.zeros(3), 2.0)))
    assert facts.side_px == pytest.approx((300, 300, 300))  # 2 * (90 + 60)
    assert facts.aspect == pytest.approx(120 / 300)


def test_size_in_the_box() -> None:
    """Of equal shapes, half of them in boxes of four times the side."""
    data = instances_of(turned(np.zeros(40)))
    boxes = data.box_xywh.copy()
    boxes[::2] = [geometry.fit_aspect(box, Size(1, 1), 4.0) for box in boxes[::2]]
    assert facts_of(replace(data, box_xywh=boxes)).scale_spread == pytest.approx(4.0, rel=0.01)


def test_mirrors() -> None:
    upright, side_on = turned(np.linspace(-10, 10, 21)), SHAPE @ np.array([[0.0, 1.0], [-1.0, 0.0]])
    assert facts_of(instances_of(upright)).mirrored == pytest.approx(0, abs=1e-6)
    # The same shape lying on its side looks the other way in a mirror.
    assert facts_of(instances_of(upright, side_on)).mirrored > 0.5
    unpaired = replace(SKELETON, flip_pairs=None)
    facts = facts_of(instances_of(upright, skeleton=unpaired))
    assert not facts.flip_pairs_known
    assert np.isnan(facts.mirrored)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_few_instances(count: int) -> None:
    facts = facts_of(instances_of(turned(np.zeros(3))).select(np.arange(count)))
    assert facts.instances == count
    assert np.isnan(facts.turn_degrees) == (count < 2)
    assert facts.told()


def test_one_point_each_and_points_in_one_place_have_no_turn() -> None:
    data = instances_of(turned(np.zeros(4)))
    one = data.visibility.copy()
    one[:, 1:] = 0
    for changed in (replace(data, visibility=one), replace(data, xy=data.xy * 0 + 7)):
        assert np.isnan(facts_of(changed).turn_degrees)
        assert mean_shape(changed)[1].size == 0


def test_points_that_are_missing_here_and_there_change_nothing() -> None:
    data = instances_of(turned(np.linspace(-40, 40, 201)))
    seen = data.visibility.copy()
    seen[np.arange(201), np.arange(201) % 4] = 0
    wild = np.where(seen[..., None] > 0, data.xy, -1e4).astype(np.float32)
    assert facts_of(replace(data, visibility=seen, xy=wild)).turn_degrees == pytest.approx(38, rel=0.02)
