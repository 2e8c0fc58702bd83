"""Whether points are seen: a regression that finds what was planted, says so of other points, and travels with the model."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from quick import FIXED

import fiducial
from fiducial.evaluation import visibility
from fiducial.types import Instances, Keypoints, Sight, Spread

POINTS, SLOPE, OFFSETS = 4, 1.3, (0.4, -1.0, 0.0, 1.5)


def drawn(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores [n, k], and states drawn by a logistic law of visible and hidden ones."""
    generator = np.random.default_rng(seed)
    hint = generator.normal(0, 2, (count, POINTS))
    likely = 1 / (1 + np.exp(-(np.array(OFFSETS) + SLOPE * hint)))
    return 1 / (1 + np.exp(-hint)), np.where(generator.random((count, POINTS)) < likely, 0, 1)


def test_the_law_by_which_they_were_drawn_is_found() -> None:
    sight = visibility.measured(*drawn(6000, 0))
    assert sight is not None
    assert sight.states == ("visible", "hidden")
    assert sight.slopes[0] - sight.slopes[1] == pytest.approx(SLOPE, rel=0.06)
    offsets = np.array(sight.offsets)
    assert offsets[:, 0] - offsets[:, 1] == pytest.approx(OFFSETS, abs=0.15)
    told = sight.probabilities(np.array([[0.5, 0.5, 0.5, 0.5]]))
    assert told.sum(-1) == pytest.approx(1)


def test_it_is_the_likeliest_of_all() -> None:
    """Three states: scipy's optimizer finds no other weights for the same penalised likelihood."""
    optimize = pytest.importorskip("scipy.optimize")
    score, state = drawn(400, 1)
    state = np.where(np.random.default_rng(5).random(state.shape) < 0.15, 2, state)
    target, point = np.eye(3)[state.ravel()], np.tile(np.arange(POINTS), 400)
    hint = visibility.logit(score).ravel()

    def loss(values: np.ndarray) -> float:
        weights, own = values[:4].reshape(2, 2), values[4:].reshape(POINTS, 2)
        logits = np.column_stack(
            [np.zeros(len(hint)), np.column_stack([hint, np.ones_like(hint)]) @ weights + own[point]]
        )
        likely = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        return -(likely * target).sum() + visibility.RIDGE / 2 * (weights**2).sum() + (own**2).sum() / 2

    theirs = optimize.minimize(loss, np.zeros(4 + 2 * POINTS), tol=1e-10).x
    slopes, offsets = visibility._fitted(hint, point, target, POINTS)
    assert slopes[1:] == pytest.approx(theirs[:2], abs=2e-3)
    assert offsets[:, 1:] == pytest.approx(theirs[2:4] + theirs[4:].reshape(POINTS, 2), abs=4e-3)


def test_what_it_says_of_other_points_holds() -> None:
    sight = visibility.measured(*drawn(3000, 2))
    score, state = drawn(3000, 3)
    truth = labelled(2 - state)
    keypoints = Keypoints(truth.xy, score, spread=Spread(scale=(1.0,) * POINTS, sight=sight))
    figures = visibility.as_json(keypoints, truth)["visibility"]
    assert figures["log_loss"] < 0.8 * figures["log_loss_of_shares"]
    assert figures["visible"]["auc"] > 0.85
    for row in figures["hidden"]["calibration"]:
        if row["points"] > 300:
            assert row["told"] == pytest.approx(row["found"], abs=0.06)
    assert "visible" in visibility.lines({"visibility": figures})[0]


def labelled(marks: np.ndarray) -> Instances:
    count = len(marks)
    xy = np.tile(np.array([[2.0, 3.0], [9.0, 4.0], [5.0, 9.0], [8.0, 8.0]]), (count, 1, 1))
    xy = np.where(marks[..., None] > 0, xy, np.nan)
    image = np.zeros((12, 12, 3), np.uint8)
    return Instances.of(
        [image] * count,
        xy,
        marks.astype(np.uint8),
        boxes=np.tile([0.0, 0, 12, 12], (count, 1)),
        image_row=np.arange(count),
    )


def test_labels_that_tell_nothing_apart_give_none() -> None:
    score, _ = drawn(200, 4)
    assert visibility.measured(score, np.zeros(score.shape, np.int64)) is None
    ones = labelled(np.ones((200, POINTS)))  # all 1: there, and no more is said
    assert (visibility.states_of(ones) == 0).all()
    few = np.zeros(score.shape, np.int64)
    few[:4] = 1
    assert visibility.measured(score, few) is None  # 16 hidden labels


def test_points_that_a_set_lacks_are_not_outside() -> None:
    marks = np.full((30, POINTS), 2)
    marks[:, 3] = 0
    marks[:10, 1] = 0
    states = visibility.states_of(labelled(marks))
    assert (states[:, 3] == -1).all()
    assert (states[:10, 1] == 2).all()
    assert (states[10:, 1] == 0).all()


def test_it_travels_with_the_model(tmp_path) -> None:
    generator = np.random.default_rng(0)
    images, xy, marks = [], [], []
    for _ in range(48):
        image = generator.integers(0, 80, (32, 32, 3), dtype=np.uint8)
        place = generator.uniform(6, 26, (2, 2))
        mark = generator.integers(1, 3, 2)
        for (x, y), seen, colour in zip(place, mark, ((255, 40, 40), (40, 40, 255)), strict=True):
            if seen == 2:
                cv2.circle(image, (round(x * 16), round(y * 16)), 48, colour, -1, cv2.LINE_AA, 4)
        images.append(image)
        xy.append(place)
        marks.append(mark)
    data = Instances.of(images, np.array(xy), np.array(marks, np.uint8), names=("red", "blue"), flip_pairs=())
    words = {"backbone": "test_efficientnet", "size": "32x32", "pretrained": "no", "epochs": 3, "workers": 0}
    run = fiducial.fit(
        data, tmp_path / "run", val=data, settings=FIXED, preflight=False, check=False, finder="no", **words
    )
    measured = run.model().card.spec.spread
    assert measured is not None
    sight = measured.sight
    assert isinstance(sight, Sight)
    assert sight.states == ("visible", "hidden")
    points = run.model()(images[0])
    assert set(points.visibility) == {"visible", "hidden"}
    assert points.visibility["visible"] + points.visibility["hidden"] == pytest.approx(1)
    shipped = fiducial.load(fiducial.export(run, tmp_path / "shipped").file)
    assert shipped(images[0]).visibility["hidden"] == pytest.approx(points.visibility["hidden"], abs=1e-3)
    entry = points.to_coco()[0]
    assert entry["keypoint_visibility"]["visible"] == pytest.approx(points.visibility["visible"][0], abs=1e-3)
    told = replace(points, spread=None).visibility
    assert told == {}
