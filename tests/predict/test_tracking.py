"""Boxes that follow points: a drawn scene where the network's answer is known, so that the boxes are."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fiducial import geometry
from fiducial.geometry import Size
from fiducial.prediction.tracking import LOOK_BACK, MARGIN, Tracker, box_around
from fiducial.runtime import runtime
from fiducial.types import Keypoints

SCENE = Size(320, 200)


def scene(*boxes: tuple[float, float, float, float]) -> np.ndarray:
    """Bright rectangles (x, y, w, h) of whole px on black."""
    image = np.zeros((SCENE.h, SCENE.w, 3), np.uint8)
    for x, y, w, h in boxes:
        image[int(y) : int(y + h), int(x) : int(x + w)] = 255
    return image


class FindsBright:
    """A network that finds the corners of what is bright in a box, and where nothing is, surely less sure, a shape of its
    own: the middle 60 % of the box."""

    def __init__(self, padding: float = 1.25, has_score: bool = True) -> None:
        self.card: Any = SimpleNamespace(spec=SimpleNamespace(padding=padding, size=Size(64, 64)))
        self.has_score, self.calls = has_score, 0

    def __call__(self, image: np.ndarray, boxes_xywh: np.ndarray | None = None) -> Keypoints:
        assert boxes_xywh is not None
        self.calls += 1
        xy, score = [], []
        for box in boxes_xywh:
            x, y, w, h = geometry.fit_aspect(box, Size(64, 64), self.card.spec.padding)
            left, top = max(0, round(x)), max(0, round(y))
            bright = np.argwhere(image[top : max(0, round(y + h)), left : max(0, round(x + w)), 0] > 0)
            found = len(bright) > 20
            corners = geometry.box_corners(geometry.fit_aspect(box, Size(64, 64), 0.6))
            if found:
                (y_low, x_low), (y_high, x_high) = bright.min(0), bright.max(0)
                corners = np.array([[x_low, y_low], [x_high, y_low], [x_high, y_high], [x_low, y_high]])
                corners = corners + np.array([left, top])
            xy.append(corners)
            score.append(np.full(4, 0.95 if found else 0.6) if self.has_score else np.ones(4))
        return Keypoints(np.array(xy).reshape(-1, 4, 2), np.array(score).reshape(-1, 4))


def test_it_follows_what_moves() -> None:
    tracker = Tracker(FindsBright(), np.array([[20.0, 30, 40, 50]]))
    for step in range(80):
        place = (20 + 3 * step, 30 + step, 40, 50)
        sighting = tracker(scene(place))
        assert sighting.points.xy[0, 0] == pytest.approx(place[:2]), step
        assert (sighting.numbers, sighting.lost) == ([1], [])
    x, y, w, h = sighting.boxes[0]
    assert (x + w / 2, y + h / 2) == pytest.approx((20 + 3 * 79 + 20, 30 + 79 + 25), abs=7)  # two frames of motion
    assert (w, h) == pytest.approx((40 * (1 + 2 * MARGIN), 50 * (1 + 2 * MARGIN)), rel=0.05)


def test_the_whole_image_is_looked_at_more_closely_at_once() -> None:
    sighting = Tracker(FindsBright(), None)(scene((200, 90, 24, 30)))
    assert sighting.boxes[0] == pytest.approx(geometry.box_of_points(sighting.points.xy[0], np.full(4, True), MARGIN))
    assert sighting.points.xy[0, 0] == pytest.approx((200, 90))


def test_the_whole_image_is_seen_as_without_tracking(blob_model: Path) -> None:
    """The crop is the very one of `run(image)`, to which the model's padding adds nothing."""
    run = runtime.load(blob_model)
    image = np.random.default_rng(0).integers(0, 256, (70, 113, 3), dtype=np.uint8)
    box = Tracker(run, None)._start_boxes(image)
    assert run(image, box).xy == pytest.approx(run(image).xy, abs=1e-3)
    assert box[0, 2] == pytest.approx(113 / run.card.spec.padding)


def test_several_instances_keep_their_numbers_and_go_through_the_network_together() -> None:
    run = FindsBright()
    tracker = Tracker(run, np.array([[10.0, 10, 30, 30], [200, 120, 40, 40]]))
    for step in range(20):
        before = run.calls
        sighting = tracker(scene((10 + step, 10, 30, 30), (200 - step, 120, 40, 40)))
        assert sighting.numbers == [1, 2]
        assert sighting.points.xy[:, 0] == pytest.approx(np.array([(10 + step, 10), (200 - step, 120)]))
        assert run.calls - before == (2 if step and step % LOOK_BACK == 0 else 1)


@pytest.mark.parametrize("whole", [True, False])
def test_what_is_back_at_the_start_is_found_there_with_a_new_number(whole: bool) -> None:
    """It jumps away; the tracker stays on nothing until it looks at the start."""
    tracker = Tracker(FindsBright(), None if whole else np.array([[20.0, 30, 40, 50]]))
    for step in range(10):
        tracker(scene((20 + 8 * step, 30, 40, 50)))
    seen = [tracker(scene((20, 120, 40, 50) if whole else (20, 30, 40, 50))) for _ in range(LOOK_BACK)]
    at = next(row for row, sighting in enumerate(seen) if sighting.lost)
    assert at == LOOK_BACK - 10
    assert [sighting.numbers for sighting in seen] == [[1]] * at + [[2]] * (LOOK_BACK - at)
    assert seen[at].lost == ["instance 1: its score was 0.60, and 0.95 where it started"]
    assert seen[-1].points.xy[0, 0] == pytest.approx((20, 120) if whole else (20, 30))


def test_a_surer_start_is_needed_to_go_there() -> None:
    """Something passes where it started, no surer than itself."""
    tracker = Tracker(FindsBright(), np.array([[20.0, 30, 40, 50]]))
    for step in range(40):
        places = [(20 + 4 * step, 30, 40, 50)] + ([(20, 30, 40, 50)] if step > 25 else [])
        assert tracker(scene(*places)).numbers == [1]


@pytest.mark.parametrize("has_score", [True, False])
def test_what_left_the_picture_or_shrank_to_nothing_is_looked_for_at_the_start(has_score: bool) -> None:
    start = np.array([[270.0, 100, 40, 50]])
    tracker = Tracker(FindsBright(has_score=has_score), start)
    for step in range(8):
        tracker(scene((270 + 5 * step, 100, 40, 50)))
    seen = [tracker(scene()) for _ in range(30)]
    lost = [sighting.lost[0] for sighting in seen if sighting.lost]
    assert lost[0] == "instance 1: it left the picture" or lost[0].startswith("instance 1: its points shrank to ")
    assert max(sighting.numbers[0] for sighting in seen) > 1
    sighting = [tracker(scene((270, 100, 40, 50))) for _ in range(20)][-1]
    assert sighting.points.xy[0, 0] == pytest.approx((270, 100))


def test_a_box_settles_though_the_points_depend_on_it() -> None:
    """A network whose points shrink by as much as its box grows: with the whole step the box would swing for ever."""

    class Swings(FindsBright):
        def __call__(self, image: np.ndarray, boxes_xywh: np.ndarray | None = None) -> Keypoints:
            assert boxes_xywh is not None
            wide = (60 - boxes_xywh[:, 2:3]) / 2 * [-1, 1, 1, -1]
            high = (60 - boxes_xywh[:, 3:]) / 2 * [-1, -1, 1, 1]
            return Keypoints(np.stack([wide + 100, high + 100], -1) * 1.2, np.full((len(wide), 4), 0.9))

    tracker = Tracker(Swings(), np.array([[80.0, 90, 41, 22]]))
    image = scene()
    sizes = np.array([tracker(image).boxes[0, 2:] for _ in range(25)])
    assert np.abs(np.diff(sizes[-5:], axis=0)).max() < 0.01


def test_unsure_points_do_not_count_for_the_box() -> None:
    xy = np.array([[10.0, 10], [30, 10], [30, 40], [300, 190]])
    assert box_around(xy, np.array([0.9, 0.8, 0.9, 0.1])) == pytest.approx([8.5, 7.5, 24, 36])
    assert box_around(xy, np.array([0.1, 0.1, 0.1, 0.1]))[2] > 290
    assert box_around(np.vstack([xy[:3], [[np.nan, 1]]]), np.full(4, 0.9)) == pytest.approx([8.5, 7.5, 24, 36])
    assert np.isnan(box_around(np.full((2, 2), np.nan), np.ones(2))).all()


def test_points_that_are_no_numbers_lose_the_instance() -> None:
    class Broken(FindsBright):
        def __call__(self, image: np.ndarray, boxes_xywh: np.ndarray | None = None) -> Keypoints:
            return Keypoints(np.full((1, 4, 2), np.nan), np.full((1, 4), 0.5))

    tracker = Tracker(Broken(), None)
    seen = [tracker(scene()) for _ in range(3)]
    assert seen[1].lost == ["instance 2: its points are no numbers"]
    assert np.isfinite(seen[2].boxes).all()


def test_no_instances_at_all() -> None:
    tracker = Tracker(FindsBright(), np.zeros((0, 4)))
    for _ in range(LOOK_BACK + 2):
        sighting = tracker(scene((10, 10, 40, 40)))
        assert (sighting.numbers, sighting.lost, sighting.points.xy.shape) == ([], [], (0, 4, 2))
