"""Who is who, in scenes where that is known: those who cross, hide, come and go, are many or look alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fiducial import geometry
from fiducial.data.series import numbered
from fiducial.evaluation.coco_files import read_truth
from fiducial.prediction.cuts import Cuts
from fiducial.prediction.identities import Identities, Rules
from fiducial.types import Keypoints

SIZE = 50.0
SHAPE = np.array([[-0.5, -0.3], [0.5, -0.2], [0.4, 0.3], [-0.4, 0.25], [0, 0.05]]) * SIZE


def found(places: Any, noise: float = 0.0, seed: int = 0) -> tuple[np.ndarray, Keypoints]:
    """Boxes and points of bodies of one shape around these places [n, 2]."""
    xy = np.asarray(places, float).reshape(-1, 1, 2) + SHAPE
    xy = xy + np.random.default_rng(seed).normal(0, 1, xy.shape) * noise
    boxes = [geometry.box_of_points(one, np.ones(len(SHAPE), bool), 0.1) for one in xy]
    return np.array(boxes).reshape(-1, 4), Keypoints(xy, np.full(xy.shape[:2], 0.9))


def told(frames: Sequence[Any], identities: Identities | None = None, **about: Any) -> list[list[int]]:
    """The numbers in each frame of places [n, 2]."""
    identities = identities or Identities()
    result = []
    for number, places in enumerate(frames):
        boxes, points = found(places, seed=number)
        result.append(identities(boxes, None, points, **about).tolist())
    return result


def crossing(frames: int = 40, speed: float = 3.0) -> list[np.ndarray]:
    """Two of one shape who walk through each other, the second from the right, 8 px lower."""
    way = speed * np.arange(frames)
    return [np.array([[60 + x, 100], [60 + way[-1] - x, 108]]) for x in way]


def test_twins_who_cross_go_on() -> None:
    assert told(crossing()) == [[1, 2]] * 40


def test_one_hides_behind_the_other() -> None:
    """The second is not found while they overlap, ten frames."""
    frames = crossing()
    near = [abs(one[0, 0] - one[1, 0]) < 30 for one in frames]
    seen = told([one[:1] if hidden else one for one, hidden in zip(frames, near, strict=True)])
    assert sum(near) >= 10
    assert seen == [[1] if hidden else [1, 2] for hidden in near]


def test_the_order_in_a_frame_does_not_matter() -> None:
    random = np.random.default_rng(0)
    frames = [random.permutation(4) for _ in range(30)]
    places = np.array([[60, 60], [150, 70], [70, 160], [160, 150]], float)
    drift = random.normal(0, 4, (30, 4, 2)).cumsum(0) * 0.5
    for order, seen in zip(
        frames, told([(places + step)[order] for order, step in zip(frames, drift, strict=True)]), strict=True
    ):
        names = dict(zip(frames[0].tolist(), [1, 2, 3, 4], strict=True))
        assert seen == [names[who] for who in order.tolist()]


def test_who_leaves_and_comes_back() -> None:
    """Within the gap the same, after it someone new, and never someone else who is there."""
    places = np.array([[60.0, 60], [200, 200]])
    rules = Rules(gap=10)
    short = told([places] * 5 + [places[:1]] * 10 + [places] * 3, Identities(rules=rules))
    assert short == [[1, 2]] * 5 + [[1]] * 10 + [[1, 2]] * 3
    long = told([places] * 5 + [places[:1]] * 11 + [places] * 3, Identities(rules=rules))
    assert long == [[1, 2]] * 5 + [[1]] * 11 + [[1, 3]] * 3
    elsewhere = told([places] * 5 + [places[:1]] * 3 + [np.array([[60.0, 60], [200, 60]])] * 2)
    assert elsewhere[-1] == [1, 3]


def test_nobody_is_there() -> None:
    none = np.zeros((0, 2))
    assert told([none, none]) == [[], []]
    assert told([none, [[60, 60]], none, [[60, 60]]]) == [[], [1], [], [1]]


def test_false_alarms_get_no_number() -> None:
    """An unsure box is someone in its third frame, and never where it comes and goes."""
    identities, seen = Identities(), []
    for frame in range(6):
        boxes, points = found([[60, 60], [150, 150]] + [[250, 60]] * (frame % 2))
        score = np.array([0.9, 0.3] + [0.3] * (frame % 2))
        seen.append(identities(boxes, score, points).tolist())
    assert seen == [[1, -1], [1, -1, -1], [1, 2], [1, 2, -1], [1, 2], [1, 2, -1]]


def test_who_is_followed_was_not_found_again() -> None:
    """An unsure box that is looked up in every fifth frame is someone at its third look."""
    identities, seen = Identities(), []
    boxes, points = found([[60, 60]])
    for frame in range(13):
        numbers = None if frame % 5 == 0 else np.array(seen[-1])
        seen.append(identities(boxes, np.array([0.3]), points, numbers=numbers).tolist())
    assert seen == [[-1]] * 10 + [[1]] * 3


def test_other_kinds_are_others() -> None:
    identities = Identities()
    boxes, points = found([[60, 60], [80, 70]])
    assert identities(boxes, None, points, kinds=np.array([0, 1])).tolist() == [1, 2]
    assert identities(boxes[::-1], None, points[::-1], kinds=np.array([0, 1])).tolist() == [1, 2]
    assert identities(boxes, None, points, kinds=np.array([2, 2])).tolist() == [3, 4]


def test_numbers_that_are_known_stay() -> None:
    """Of those who were followed, wherever they went; the others are told by what they look like."""
    identities = Identities()
    boxes, points = found([[60, 60], [72, 60]])
    identities(boxes, None, points)
    assert identities(boxes[::-1], None, points[::-1], numbers=np.array([1, 2])).tolist() == [1, 2]
    assert identities(boxes[::-1], None, points[::-1], numbers=np.array([1, -1])).tolist() == [1, 2]
    assert identities(boxes, None, points, numbers=np.array([7, 1])).tolist() == [7, 1]


def test_after_a_cut_all_are_new() -> None:
    identities = Identities()
    boxes, points = found([[60, 60], [150, 60]])
    identities(boxes, None, points)
    identities.forget()
    assert identities(boxes, None, points).tolist() == [3, 4]


def test_boxes_alone_and_points_that_are_unknown() -> None:
    identities, blind = Identities(), Identities()
    for frame, places in enumerate(crossing(12)):
        boxes, points = found(places)
        no_points = Keypoints(np.zeros((2, 0, 2)), np.zeros((2, 0)))
        assert identities(boxes, None, no_points).tolist() == [1, 2]
        xy = points.xy.copy()
        xy[0, frame % 5] = np.nan
        xy[1] = np.nan
        assert blind(boxes, None, Keypoints(xy, points.score)).tolist() == [1, 2]


def test_points_tell_apart_what_boxes_do_not() -> None:
    """Two in one box, who look the other way round."""
    boxes, points = found([[60, 60], [60, 60]])
    xy = points.xy.copy()
    xy[1] = 120 - xy[1]
    identities, by_boxes = Identities(), Identities(rules=Rules(points=0))
    for frame in range(20):
        order = [0, 1] if frame % 2 == 0 else [1, 0]
        turned = Keypoints(xy[order], points.score)
        assert identities(boxes, None, turned).tolist() == [order[0] + 1, order[1] + 1]
        by_boxes(boxes, None, turned)
    assert sorted(by_boxes(boxes, None, points).tolist()) == [1, 2]


def test_five_hundred_in_a_frame() -> None:
    places = np.stack(np.meshgrid(np.arange(25) * 60, np.arange(20) * 60), -1).reshape(-1, 2) + 50.0
    random, identities, names = np.random.default_rng(1), Identities(), dict[int, int]()
    for frame in range(4):
        order = random.permutation(500)
        boxes, points = found((places + 5 * frame)[order], noise=1.5, seed=frame)
        seen = identities(boxes, None, points)
        if frame == 0:
            names = dict(zip(order.tolist(), seen.tolist(), strict=True))
        assert seen.tolist() == [names[who] for who in order.tolist()]


def test_sigmas_say_which_points_count() -> None:
    """Of two candidates one has the loose points moved, the other the tight ones."""
    boxes, points = found([[60, 60]])
    identities = Identities((0.01, 0.01, 0.3, 0.3, 0.3))
    identities(boxes, None, points)
    xy = np.repeat(points.xy, 2, 0)
    xy[0, 2:] += 10
    xy[1, :2] += 10
    both = identities(np.repeat(boxes, 2, 0), None, Keypoints(xy, np.ones((2, 5))))
    assert both.tolist() == [1, 2]


@pytest.mark.parametrize("size", [(90, 120), (64, 64)])
def test_cuts(size: tuple[int, int]) -> None:
    """Another picture is one; the light, something that moves, noise and black are not."""
    random = np.random.default_rng(2)

    def scene() -> np.ndarray:
        coarse = random.integers(0, 200, (6, 6, 3), dtype=np.uint8)
        return np.kron(coarse, np.ones((size[0] // 6 + 1, size[1] // 6 + 1, 1), np.uint8))[: size[0], : size[1]]

    one, other = scene(), scene()
    moved = one.copy()
    moved[10:30, 10:30] = 255
    noisy = np.clip(one + random.normal(0, 9, one.shape), 0, 255).astype(np.uint8)
    cuts, black = Cuts(), np.zeros_like(one)
    series = [one, noisy, one // 2 + 60, moved, black, one, other, black, black, one, np.roll(one, 3, 1)]
    assert [cuts(image) for image in series] == [False] * 6 + [True, False, False, True, False]


def test_a_wrong_box_of_two_points_does_not_take_over() -> None:
    """As labels of networks have them: two points of someone, found a second time, are someone else."""
    identities = Identities()
    for frame, places in enumerate(crossing(12)):
        boxes, points = found(places)
        xy = np.concatenate([points.xy, points.xy[:1]])
        xy[2, 2:] = np.nan
        part = geometry.box_of_points(xy[2], np.array([True, True, False, False, False]), 0.1)
        order = [2, 0, 1] if frame else [0, 1, 2]
        both = Keypoints(xy[order], np.full((3, 5), 0.9))
        seen = identities(np.concatenate([boxes, part[None]])[order], None, both).tolist()
        assert seen == ([3, 1, 2] if frame else [1, 2, 3])


def test_twins_in_one_place() -> None:
    """Nobody can tell who is who, but there are two, and no more."""
    identities = Identities()
    for _ in range(10):
        boxes, points = found([[60, 60], [60, 60]])
        assert sorted(identities(boxes, None, points).tolist()) == [1, 2]


def test_flies_of_all_labelled_frames(shared: Path) -> None:
    """470 frames of one video, up to 111 apart, in any order: no identity changes."""
    frames: dict[int, list[tuple[int, np.ndarray, np.ndarray]]] = {}
    for split in ("train", "val", "test", "test_track"):
        truth = read_truth(shared / f"flies2/annotations/{split}.json").instances
        assert truth.track is not None
        xy = np.where(truth.labelled[..., None], truth.xy, np.nan)
        for row, image in enumerate(truth.image_row.tolist()):
            number = numbered(truth.images.name(image)).number
            own = frames.setdefault(number or 0, [])
            if truth.track[row] not in [who for who, *_ in own]:
                own.append((int(truth.track[row]), truth.box_xywh[row], xy[row]))
    identities, random, last = Identities(), np.random.default_rng(0), 0
    owners = {}
    for number, own in sorted(frames.items()):
        order = random.permutation(len(own))
        boxes, xy = (np.array([own[row][column] for row in order]) for column in (1, 2))
        seen = identities(boxes, None, Keypoints(xy, np.ones(xy.shape[:2])), steps=max(1, number - last))
        last = number
        for row, who in zip(order.tolist(), seen.tolist(), strict=True):
            assert owners.setdefault(own[row][0], who) == who, number
    assert (len(frames), sorted(owners.values())) == (470, [1, 2])
