"""Intervals against draws that are made of images and scored anew, and against the closed form of a mean."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import Run

from fiducial.data.arrays import NoImages
from fiducial.data.groups import Groups, groups_of
from fiducial.evaluation import bootstrap, coco, intervals, metrics, resampled_ap
from fiducial.evaluation.coco import Detections
from fiducial.types import Instances, Keypoints, Normalizer, Skeleton

SIGMAS = np.array([0.05, 0.1, 0.08])


class Named(NoImages):
    """Images of which only names are known."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(len(names))
        self.names = names

    def name(self, row: int) -> str:
        return self.names[row]


def crowd(seed: int, images: int = 9, names: list[str] | None = None) -> tuple[Instances, Detections]:
    """Images with none to three instances of all sizes, some ignored, and detections near most, too many and too few."""
    generator = np.random.default_rng(seed)
    row = np.repeat(np.arange(images), [*generator.integers(0, 4, images - 1), 2])
    n = len(row)
    side = generator.uniform(20, 160, n)
    place = generator.uniform(0, 300, (n, 1, 2))
    xy = place + side[:, None, None] * generator.uniform(0, 1, (n, 3, 2))
    visibility = (generator.uniform(size=(n, 3)) < 0.8).astype(np.uint8) * 2
    truth = Instances(
        skeleton=Skeleton("three", ("a", "b", "c"), sigmas=tuple(SIGMAS), normalizer=Normalizer("box")),
        images=NoImages(images) if names is None else Named(names),
        image_id=np.arange(images) + 1,
        image_size=np.full((images, 2), (640, 480), np.int32),
        image_row=row,
        annotation_id=np.arange(n),
        xy=xy.astype(np.float32),
        visibility=visibility,
        box_xywh=np.concatenate([place[:, 0], side[:, None], side[:, None] * 0.7], 1).astype(np.float32),
        area=(side * side * 0.7).astype(np.float32),
        crowd=generator.uniform(size=n) < 0.1,
    )
    kept = np.flatnonzero(generator.uniform(size=n) < 0.85)
    found = truth.xy[kept] + side[kept, None, None] * generator.normal(0, 0.08, (len(kept), 3, 2))
    extra = generator.integers(0, images, 5)
    places = generator.uniform(0, 400, (5, 1, 2)) + generator.uniform(0, 90, (5, 3, 2))
    image_row = np.concatenate([row[kept], extra])
    return truth, Detections(image_row, np.concatenate([found, places]), generator.uniform(size=len(image_row)))


def drawn_anew(truth: Instances, detections: Detections, times: np.ndarray) -> tuple[Instances, Detections]:
    """Makes the images so often as they were drawn, each of its own."""
    old = np.repeat(np.arange(len(times)), times)
    rows = [np.flatnonzero(truth.image_row == image) for image in old]
    found = [np.flatnonzero(detections.image_row == image) for image in old]
    new, of_found = (np.repeat(np.arange(len(old)), [len(r) for r in each]) for each in (rows, found))
    more = truth.select(np.concatenate([*rows, np.empty(0, int)]).astype(int))
    more = replace(more, image_row=new, image_id=np.arange(len(old)) + 1, image_size=truth.image_size[old])
    return more, replace(detections.select(np.concatenate([*found, np.empty(0, int)]).astype(int)), image_row=of_found)


@pytest.mark.parametrize("seed", range(6))
def test_ap_of_a_draw_is_ap_of_its_images(seed: int) -> None:
    truth, detections = crowd(seed)
    outcomes = resampled_ap.outcomes(truth, detections, SIGMAS)
    generator = np.random.default_rng(100 + seed)
    draws = [np.ones(9, int), *(np.bincount(generator.integers(0, 9, 9), minlength=9) for _ in range(8))]
    values = resampled_ap.average_precision(outcomes, [np.array(draws)])
    for number, times in enumerate(draws):
        expected = coco.average_precision(*drawn_anew(truth, detections, times), SIGMAS)
        assert set(expected) - set(values) == {"ap_medium", "ap_large", "ar_medium", "ar_large"}
        for name in values:
            value = expected[name]
            found = values[name][number]
            assert math.isnan(found) if value == -1 else found == pytest.approx(value, abs=1e-9), (name, number)


def test_figures_of_draws_are_those_of_their_instances() -> None:
    truth, _ = crowd(3)
    truth = replace(truth, crowd=np.zeros(len(truth), bool))
    moved = truth.xy + np.random.default_rng(1).normal(0, 6, truth.xy.shape)
    keypoints = Keypoints(moved, np.random.default_rng(2).uniform(size=moved.shape[:2]))
    groups = groups_of(truth)
    assert groups.what == "images"
    told = intervals.of_instances(truth, keypoints, metrics.score(truth, keypoints).instance_counts, groups)
    # The same draws, scored one by one by the function that evaluate prints.
    values: dict[str, list[float]] = {}
    for times in np.concatenate(list(bootstrap.draws(groups.count, intervals.RESAMPLES))):
        rows = np.repeat(np.arange(len(truth)), times[groups.of(truth)])
        for name, value in metrics.measure_instances(moved[rows], truth.select(rows)).numbers().items():
            values.setdefault(name, []).append(math.nan if value is None else value)
    assert len(values) == 7
    for name, drawn in values.items():
        assert told["intervals"][name] == pytest.approx(list(bootstrap.interval(np.array(drawn))), rel=1e-4), name


def test_every_figure_with_an_interval_lies_in_it() -> None:
    truth, _ = crowd(3, images=40)
    truth = replace(truth, crowd=np.zeros(len(truth), bool))
    keypoints = Keypoints(
        truth.xy + np.random.default_rng(1).normal(0, 6, truth.xy.shape),
        np.random.default_rng(2).uniform(0.4, 1, truth.xy.shape[:2]),
    )
    scored = metrics.score(truth, keypoints)
    told = intervals.of_instances(truth, keypoints, scored.instance_counts, groups_of(truth))["intervals"]
    numbers = scored.numbers()
    assert set(numbers) - set(told) == {
        "tp",
        "tn",
        "fp",
        "fn",
        *(f"{kind}_{size}" for kind in ("ap", "ar") for size in ("medium", "large")),
    }
    for name, (low, high) in told.items():
        assert low < high, name
        assert low <= numbers[name] <= high, name


def test_the_interval_of_a_mean_is_as_wide_as_the_closed_form_says() -> None:
    # 200 instances alike in groups of ten: 20 groups tell as much as 20 numbers.
    generator = np.random.default_rng(5)
    of_group = generator.normal(10, 2, 20)
    n, group = 200, np.repeat(np.arange(20), 10)
    truth, _ = crowd(1)
    truth = truth.select(np.zeros(n, int))
    truth = replace(
        truth,
        image_row=np.arange(n),
        image_id=np.arange(n),
        image_size=np.full((n, 2), 500, np.int32),
        xy=np.zeros((n, 3, 2), np.float32),
        visibility=np.full((n, 3), 2, np.uint8),
    )
    xy = np.zeros((n, 3, 2))
    xy[..., 0] = of_group[group][:, None]
    by_group = intervals.as_json(truth, xy, Groups(group, 20, "videos"))
    by_image = intervals.as_json(truth, xy, Groups(np.arange(n), n, "images"))
    low, high = by_group["intervals"]["epe"]
    assert high - low == pytest.approx(2 * 1.96 * of_group.std() / math.sqrt(20), rel=0.1)
    lower, higher = by_image["intervals"]["epe"]
    assert (high - low) / (higher - lower) == pytest.approx(math.sqrt(10), rel=0.15)
    assert by_group["resampled"] | {"resamples": 0} == {"what": "videos", "groups": 20, "resamples": 0, "level": 0.95}


def test_one_group_has_no_interval() -> None:
    truth, _ = crowd(1)
    assert intervals.as_json(truth, truth.xy.astype(float), Groups(np.zeros(9, int), 1, "videos")) == {}


@pytest.mark.parametrize(
    ("names", "what", "count"),
    [
        ([f"{i}.png" for i in range(24)], "images", 24),
        ([f"vid{i // 2:02d}_{i % 2}.png" for i in range(24)], "series of names, such as 'vid00'", 12),
        ([f"clip_{i:03d}.png" for i in range(24)], "runs of frames", 10),
    ],
)
def test_what_is_drawn_is_told_by_names(names: list[str], what: str, count: int) -> None:
    truth, _ = crowd(2, images=24)
    truth = replace(truth.select(np.zeros(24, int)), images=Named(names), image_row=np.arange(24))
    groups = groups_of(truth)
    assert (groups.what, groups.count) == (what, count)


def test_results_are_drawn_by_a_field_of_the_images(run: Run, tmp_path: Path) -> None:
    generator = np.random.default_rng(4)
    images = [{"id": i, "file_name": f"{i}.png", "width": 60, "height": 50, "person": i % 12} for i in range(36)]
    points = generator.uniform(5, 40, (36, 2, 2))
    labels = [
        {"id": i + 1, "image_id": i, "category_id": 1, "bbox": [0, 0, 45, 45], "area": 900, "iscrowd": 0}
        | {"keypoints": [*xy[0], 2, *xy[1], 2], "num_keypoints": 2}
        for i, xy in enumerate(points)
    ]
    category = {"id": 1, "name": "thing", "keypoints": ["top", "end"], "sigmas": [0.1, 0.1]}
    truth, results, out = (tmp_path / name for name in ("truth.json", "results.json", "figures.json"))
    truth.write_text(json.dumps({"images": images, "annotations": labels, "categories": [category]}))
    moved = points + generator.normal(0, 3, points.shape)
    found = [
        {"image_id": i, "category_id": 1, "score": 0.9 - i / 100, "keypoints": [*xy[0], 1, *xy[1], 1]}
        for i, xy in enumerate(moved)
    ]
    results.write_text(json.dumps(found))
    code, said, _ = run("evaluate", "--predictions", results, truth, "--json", out)
    figures = json.loads(out.read_text())
    assert code == 0
    assert figures["resampled"]["groups"] == 12
    assert "intervals of 95 %: 12 values of 'person', drawn anew 1000 times" in said
    low, high = figures["intervals"]["ap"]
    assert low < figures["metrics"]["ap"] < high
    code, said, _ = run("evaluate", "--predictions", results, truth, "--group", r"(\d)\.png", "--json", out)
    assert code == 0
    assert json.loads(out.read_text())["resampled"]["groups"] == 10
    code, _, err = run("evaluate", "--predictions", results, truth, "--group", "camera")
    assert code == 2
    assert "--group 'camera'" in err
    assert err.count("\n") == 1
