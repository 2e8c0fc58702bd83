"""`tracks.js` and `follow.js` against what Python does with the same sightings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from web import browsing

from fiducial.card import Card, DetectorSpec
from fiducial.evaluation import assignment
from fiducial.geometry import Size
from fiducial.prediction.identities import Identities
from fiducial.prediction.tracking import Tracker
from fiducial.runtime.runtime import Runtime
from fiducial.types import Keypoints, Skeleton

pytest.importorskip("scipy")


def walkers(seed: int, count: int, frames: int) -> list[list[dict[str, Any]]]:
    """Bodies of five points that walk through each other, some not found in some frames, some false, in any order."""
    random = np.random.default_rng(seed)
    shape = random.uniform(-20, 20, (5, 2))
    place, speed = random.uniform(0, 300, (count, 2)), random.uniform(-6, 6, (count, 2))
    made = []
    for _ in range(frames):
        place = place + speed + random.normal(0, 0.5, place.shape)
        frame = []
        for middle in place:
            if random.random() < 0.15:
                continue
            xy, score = middle + shape + random.normal(0, 1, shape.shape), random.uniform(0.2, 1, 5)
            box = [*(middle - 25 + random.normal(0, 1, 2)), *(50 + random.normal(0, 2, 2))]
            frame.append({"xy": xy, "score": score, "box": box, "sure": random.uniform(0.3, 1)})
        if random.random() < 0.2:
            frame.append(
                {
                    "xy": random.uniform(0, 300, (5, 2)),
                    "score": random.uniform(0, 1, 5),
                    "box": [*random.uniform(0, 250, 2), 40, 60],
                    "sure": 0.35,
                }
            )
        random.shuffle(frame)
        made.append(frame)
    return made


@pytest.mark.parametrize("sigmas", [None, (0.02, 0.05, 0.1, 0.03, 0.07)])
@pytest.mark.parametrize("steps", [1, 3])
def test_identities_are_those_of_predict(sigmas: tuple[float, ...] | None, steps: int) -> None:
    frames = walkers(4, 6, 80)
    own = Identities(sigmas)
    expected = []
    for frame in frames:
        points = Keypoints(
            np.array([one["xy"] for one in frame]).reshape(-1, 5, 2),
            np.array([one["score"] for one in frame]).reshape(-1, 5),
        )
        boxes, sure = np.array([one["box"] for one in frame]).reshape(-1, 4), np.array([one["sure"] for one in frame])
        expected.append([None if number < 0 else number for number in own(boxes, sure, points, steps=steps).tolist()])
    given = [
        [
            {"points": [{"name": name, "x": x, "y": y, "score": s} for name, (x, y), s in zip("abcde", one["xy"].tolist(), one["score"].tolist(), strict=True)], "box": list(map(float, one["box"])), "score": one["sure"]}
            for one in frame
        ]
        for frame in frames
    ]  # fmt: skip
    made = browsing.javascript(
        "tracks.js",
        expression="(own => frames.map(frame => own.next(frame, steps)))(new Identities(sigmas, [...'abcde']))",
        frames=given, sigmas=sigmas, steps=steps,
    )  # fmt: skip
    assert made == expected
    assert len({number for frame in made for number in frame}) > 6


def test_pairs_are_worth_most() -> None:
    random = np.random.default_rng(1)
    for shape in ((1, 1), (3, 7), (7, 3), (6, 6), (0, 2)):
        worth = np.round(random.uniform(0, 1, shape) * (random.uniform(0, 1, shape) > 0.4), 3)
        made = browsing.javascript("tracks.js", expression="bestPairs(worth)", worth=worth.tolist())
        rows, columns = assignment.best_pairs(worth)
        assert sum(worth[a, b] for a, b in made) == pytest.approx(worth[rows, columns].sum())
        assert len({a for a, _ in made}) == len({b for _, b in made}) == len(made)


class Found(Runtime):
    """Finds a body in whatever box it is given: nearer to the box's middle than it is, and less sure beside it."""

    def __init__(self, size: Size) -> None:
        skeleton = Skeleton("three", ("a", "b", "c"))
        self.card = Card(DetectorSpec("none", "x", {}, size, skeleton))
        self.middle = np.zeros(2)

    def __call__(self, image: np.ndarray, boxes: np.ndarray | None = None) -> Keypoints:
        assert boxes is not None
        x, y, w, h = boxes[0]
        off = np.array([x + w / 2, y + h / 2]) - self.middle
        away = float(np.hypot(*off) / max(w, h))
        xy = self.middle + np.array([[-15.0, -10], [20, 5], [0, 18]]) + 0.2 * off
        return Keypoints(xy[None], np.full((1, 3), np.exp(-away)) * [[1, 0.9, 0.8]])


def test_a_box_follows_as_in_predict() -> None:
    """A body that walks out of the picture and comes in elsewhere, from the whole picture and from a box."""
    walk = [[40 + 5 * i, 50 + 2 * i] for i in range(40)] + [[60.0, 60 + i] for i in range(40)]
    for start in (None, [10.0, 20.0, 60.0, 60.0]):
        run = Found(Size(64, 64))
        tracker, expected = Tracker(run, None if start is None else np.array([start])), []
        for middle in walk:
            run.middle = np.array(middle, np.float64)
            seen = tracker(np.zeros((150, 200, 3), np.uint8))
            expected.append([seen.numbers[0], *seen.boxes[0].tolist(), *seen.points.xy[0].ravel().tolist()])
        made = browsing.javascript(
            "tracks.js",
            "follow.js",
            expression="""await (async () => {
              const follower = new Follower(start, {size: [64, 64], padding: 1.25}), rows = [];
              for (const middle of walk) {
                const ask = async (box) => {
                  const [x, y, w, h] = box ?? follower.startBox([200, 150]);
                  const off = [x + w / 2 - middle[0], y + h / 2 - middle[1]], away = Math.hypot(...off) / Math.max(w, h);
                  const points = [[-15, -10], [20, 5], [0, 18]].map(([dx, dy], i) => ({x: middle[0] + dx + 0.2 * off[0], y: middle[1] + dy + 0.2 * off[1], score: Math.exp(-away) * [1, 0.9, 0.8][i]}));
                  return {instances: [{points}]};
                };
                const [{track_id, box, points}] = (await follower.look(ask, [200, 150])).instances;
                rows.push([track_id, ...box, ...points.flatMap(({x, y}) => [x, y])]);
              }
              return rows;
            })()""",
            start=start,
            walk=walk,
        )
        assert [row[0] for row in made] == [row[0] for row in expected]
        np.testing.assert_allclose(made, expected, atol=1e-6)
        assert made[-1][0] > 1, "it was lost"
