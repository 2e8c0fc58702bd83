"""Metrics: figures known from the data, closed forms, invariances, what is left out."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fiducial import geometry
from fiducial.data.skeletons import COCO17, IBUG68
from fiducial.errors import UserError
from fiducial.evaluation import keypoint_accuracy, metrics
from fiducial.evaluation.coco_files import Labels, read_truth
from fiducial.geometry import Size
from fiducial.reference import keypoint_accuracy as on_heatmaps
from fiducial.types import Instances, Keypoints, Normalizer, Skeleton


class NoImages:
    """Names only."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def name(self, row: int) -> str:
        return f"picture_{row}.png"

    def read(self, row: int, reduce: int = 1) -> np.ndarray:
        raise AssertionError("metrics look at no pictures")


def instances(seed: int = 5, count: int = 6, points: int = 3) -> Instances:
    generator = np.random.default_rng(seed)
    corner, sides = generator.uniform(0, 40, (count, 2)), generator.uniform(25, 90, (count, 2))
    visibility = generator.choice([0, 1, 2], (count, points), p=[0.2, 0.3, 0.5]).astype(np.uint8)
    visibility[:, 0] = 2
    return Instances(
        skeleton=Skeleton(
            "thing", tuple(f"p{i}" for i in range(points)), sigmas=tuple(0.05 + 0.02 * i for i in range(points))
        ),
        images=NoImages(count),
        image_id=np.arange(count)[::-1] * 3,
        image_size=np.tile([160, 120], (count, 1)).astype(np.int32),
        image_row=np.arange(count),
        annotation_id=np.arange(count) + 71,
        xy=(generator.uniform(corner[:, None], (corner + sides)[:, None], (count, points, 2))).astype(np.float32),
        visibility=visibility,
        box_xywh=np.concatenate([corner, sides], 1).astype(np.float32),
        area=(sides.prod(1) * 0.7).astype(np.float32),
        crowd=np.zeros(count, dtype=bool),
        source="labels.json",
    )


def moved(truth: Instances, dx: float, dy: float) -> Keypoints:
    return Keypoints(truth.xy + np.array([dx, dy], dtype=np.float32), np.full(truth.xy.shape[:2], 0.8))


def mean_shape(train: Labels, test: Labels) -> np.ndarray:
    """The mean of the training shapes in their boxes, placed in each box of the other set: [n, k, 2] px."""
    size = Size(100, 100)

    def to_box(table: Labels) -> np.ndarray:
        return np.array([geometry.crop(box, size) for box in table.instances.box_xywh])

    shape = geometry.transform(to_box(train), train.instances.xy)
    labelled = train.instances.labelled[..., None]
    mean = (shape * labelled).sum(0) / labelled.sum(0)
    return geometry.transform(geometry.invert(to_box(test)), np.broadcast_to(mean, test.instances.xy.shape))


@pytest.mark.parametrize(
    ("name", "skeleton", "metric", "expected"),
    [
        ("faces68", IBUG68, "nme", pytest.approx(0.209, abs=5e-4)),
        ("persons17", COCO17, "pck@0.1", pytest.approx(0.81, abs=5e-3)),
    ],
)
def test_what_the_mean_shape_is_known_to_score(shared: Path, name, skeleton, metric, expected):
    files = [shared / name / "annotations" / f"{split}.json" for split in ("train", "test")]
    if not all(file.exists() for file in files):
        pytest.skip(f"{name} has no test split here")
    train, test = (read_truth(file) for file in files)
    truth = test.instances
    size = test.instances.image_size[truth.image_row]
    found = metrics.measure(
        mean_shape(train, test), truth.xy, truth.labelled, box_xywh=truth.box_xywh, image_size=size, skeleton=skeleton
    )
    assert found.numbers()[metric] == expected


def test_perfect_predictions():
    truth = instances()
    found = metrics.score(truth, moved(truth, 0, 0)).numbers()
    assert [found[name] for name in ("nme", "nmae", "epe", "fr@0.1", "fn")] == [0] * 5
    assert [found[name] for name in ("pck@0.05", "pck@0.1", "auc", "ap", "ar")] == pytest.approx([1] * 5)
    # A confident point where the truth has none is a false positive.
    assert found["fp"] == (~truth.labelled).sum()
    assert found["tp"] == truth.labelled.sum()
    json.dumps(found, allow_nan=False)


def test_a_shift_in_closed_form():
    truth = instances()
    found = metrics.score(truth, moved(truth, 3, -4))
    box = truth.box_xywh.astype(float)
    by_hand = 5 / np.sqrt(box[:, 2] * box[:, 3])
    np.testing.assert_allclose(found.instance_nme, by_hand, rtol=1e-5)
    np.testing.assert_allclose(found.instance_epe, 5, rtol=1e-5)
    assert found.nme == pytest.approx(by_hand.mean(), rel=1e-5)
    assert found.epe == pytest.approx(5, rel=1e-5)
    assert found.nmae == pytest.approx((3 / 160 + 4 / 120) / 2, rel=1e-5)
    assert found.fr_10 == pytest.approx((by_hand > 0.1).mean())
    assert found.auc == pytest.approx(np.maximum(0, 1 - by_hand / 0.1).mean(), rel=1e-4)
    near = (0.1 * box[:, 2:].max(1) > 5)[:, None] & truth.labelled
    assert found.pck_10 == pytest.approx((near.sum(0) / truth.labelled.sum(0)).mean())
    assert [row.name for row in found.points] == ["p0", "p1", "p2"]
    assert [row.count for row in found.points] == truth.labelled.sum(0).tolist()
    assert [row.median for row in found.points] == pytest.approx([5, 5, 5], rel=1e-5)
    assert [row.p95 for row in found.points] == pytest.approx([5, 5, 5], rel=1e-5)


def test_unlabelled_points_do_not_matter():
    truth = instances()
    guess = moved(truth, 2, 1)
    wild = replace(guess, xy=np.where(truth.labelled[..., None], guess.xy, 7777))
    before, after = metrics.score(truth, guess).numbers(), metrics.score(truth, wild).numbers()
    for name in ("nme", "nmae", "epe", "pck@0.05", "pck@0.1", "auc", "fr@0.1", "tp", "fn", "ap50"):
        assert after[name] == before[name]


def test_scale_changes_px_only():
    truth = instances()
    larger = replace(
        truth, xy=truth.xy * 2, box_xywh=truth.box_xywh * 2, image_size=truth.image_size * 2, area=truth.area * 4
    )
    guess = moved(truth, 4, 1)
    one, two = metrics.score(truth, guess), metrics.score(larger, Keypoints(guess.xy * 2, guess.score))
    assert two.epe == pytest.approx(2 * one.epe, rel=1e-6)
    for name in ("nme", "nmae", "pck@0.05", "pck@0.1", "auc", "fr@0.1", "ap"):
        assert two.numbers()[name] == pytest.approx(one.numbers()[name], rel=1e-5), name


def test_left_out_and_counted():
    truth = instances()
    truth.visibility[1] = 0  # no labelled point
    truth.box_xywh[3, 2] = 0  # no normaliser
    truth.crowd[4] = True
    found = metrics.score(truth, moved(truth, 1, 2))
    assert (found.count, found.left_out) == (3, 3)
    assert np.isnan(found.instance_nme).tolist() == [False, True, False, True, True, False]
    assert found.counts is not None
    assert sum((found.counts.tp, found.counts.tn, found.counts.fp, found.counts.fn)) == 3 * 3


def test_normalizers():
    truth = instances()
    arguments = truth.xy, truth.labelled, truth.box_xywh, truth.image_size
    between = metrics.normalizer_px(Normalizer("points", "ends", (0, 2)), *arguments)
    assert (between > 0).tolist() == truth.labelled[:, 2].tolist()
    assert between[truth.labelled[:, 2]] == pytest.approx(
        np.linalg.norm(truth.xy[:, 0] - truth.xy[:, 2], axis=-1)[truth.labelled[:, 2]]
    )
    assert metrics.normalizer_px(Normalizer("image", "image"), *arguments).tolist() == [160] * 6


def test_limits_are_not_beyond_themselves():
    nme = np.array([0.04, 0.1, 0.1, 0.125, np.nan])
    assert metrics.failure_rate(nme, 0.1) == 0.25
    assert metrics.cumulative_errors(nme, np.array([0.04, 0.05, 0.1, 1])).tolist() == [0.25, 0.25, 0.75, 1]
    assert metrics.auc(nme, 0.1) == pytest.approx(0.6 / 4)
    assert metrics.pck(nme[:, None], 0.1).tolist() == [0.25]


def test_no_instances():
    found = metrics.score(instances().select(np.zeros(6, dtype=bool)), Keypoints(np.zeros((0, 3, 2)), np.zeros((0, 3))))
    assert found.count == 0
    assert math.isnan(found.nme)
    assert found.numbers()["nme"] is None


def test_a_detector_that_returns_nan_is_named():
    truth = instances()
    guess = moved(truth, 0, 0)
    guess.xy[2, 1] = np.nan
    with pytest.raises(UserError, match=r"labels.json: annotation 73 \(picture_2.png\): the detector returned NaN"):
        metrics.score(truth, guess)
    errors = metrics.point_errors(guess.xy, truth.xy, np.ones_like(truth.labelled))
    assert errors[2, 1] == np.inf
    with pytest.raises(UserError, match=r"predictions of shape \(2, 3, 2\) for a truth of shape \(6, 3, 2\)"):
        metrics.score(truth, Keypoints(guess.xy[:2], guess.score[:2]))


def test_keypoint_accuracy_of_points():
    """Rows of four: right, too far, not found; then three points that are not there. 256 px are 64 cells."""
    size = Size(256, 128)
    truth = np.array([[[100.0, 50.0]] * 4, [[0.0, 0.0]] * 4])
    predicted = truth + np.array([[[12.0, 0], [12.1, 0], [0, 6.1], [0, 6.0]], [[0.0, 0]] * 4])
    score = np.array([[0.5, 0.9, 0.9, 0.49], [0.5, 0.2, 0.9, 0.49]])
    labelled = np.array([[True] * 4, [False] * 4])
    rows = keypoint_accuracy.of_points(predicted, score, truth, labelled, size)
    assert rows.tolist() == [[1, 0, 2, 1], [0, 2, 2, 0]]
    counts = keypoint_accuracy.Counts.of(rows)
    assert counts.accuracy == pytest.approx(3 / 8)


def test_keypoint_accuracy_looks_at_the_crop():
    """The same error in px of the image is more cells of a smaller crop."""
    truth = instances()
    guess = moved(truth, 6, 0)

    def counts(side: float) -> keypoint_accuracy.Counts | None:
        size = Size(192, 256)
        boxes = np.concatenate([truth.box_xywh[:, :2], np.full((6, 2), side)], 1)
        maps = np.array([geometry.crop(box, size) for box in boxes])
        return metrics.score(truth, guess, maps, size).counts

    wide, tight = counts(129.0), counts(127.0)
    assert wide is not None and tight is not None  # noqa: PT018
    assert (wide.tp, tight.tp) == (truth.labelled.sum(), 0)


def test_heatmap_and_point_forms_agree_on_whole_cells():
    generator = np.random.default_rng(8)
    xy = generator.integers(3, 60, (5, 7, 2)).astype(float)
    found = np.clip(xy + generator.integers(-3, 4, xy.shape), 0, 63)
    height = generator.uniform(0.2, 0.9, (5, 7))
    labelled = generator.random((5, 7)) < 0.7
    away = np.linalg.norm(found - xy, axis=-1)
    found[np.abs(away - 3) < 1e-3] += 1  # exactly 3 is a matter of rounding in the published form
    found = np.clip(found, 0, 63)
    maps = np.zeros((5, 7, 64, 64), dtype=np.float32)
    for i, j in np.ndindex(5, 7):
        maps[i, j, int(found[i, j, 1]), int(found[i, j, 0])] = height[i, j]
    on_maps = on_heatmaps.of_heatmaps(maps, xy, labelled)
    on_points = keypoint_accuracy.of_points(found, height, xy, labelled, Size(64, 64))
    np.testing.assert_array_equal(on_maps, on_points)
    assert (on_maps.sum(0) > 0).all()
