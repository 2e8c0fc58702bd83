"""Suppression of repeats, on cases that can be done by hand; the golden has the large ones."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from fiducial import cli, geometry
from fiducial.data.images import ArrayImages
from fiducial.errors import UserError
from fiducial.evaluation import coco, suppression
from fiducial.evaluation.predictions import evaluate_results
from fiducial.prediction import predict
from fiducial.prediction.pipeline import Choices
from fiducial.runtime import runtime
from fiducial.types import Instances, Keypoints, Skeleton

SIGMAS = np.array([0.05, 0.06, 0.08])
SHAPE = np.array([[20.0, 30], [61, 44], [35, 71]])
AREA = 41.0 * 41


def copies(*shifts: float) -> np.ndarray:
    """The shape, moved to the right by so many px: [n, 3, 2]."""
    return np.array([SHAPE + np.array([shift, 0]) for shift in shifts])


def similarity(shift: float) -> float:
    """OKS of two copies that are `shift` px apart."""
    return float(np.mean([math.exp(-(shift**2) / (2 * AREA * (2 * sigma) ** 2)) for sigma in SIGMAS]))


def areas(count: int) -> np.ndarray:
    return np.full(count, AREA)


def test_oks_of_two_detections_takes_the_mean_of_their_areas():
    xy = copies(0, 5)
    found = suppression.oks_with(0, np.array([1]), xy, np.array([AREA / 2, AREA * 3 / 2]), SIGMAS)
    assert found == pytest.approx([similarity(5)])
    assert suppression.oks_with(1, np.array([0]), xy, np.array([AREA / 2, AREA * 3 / 2]), SIGMAS) == found


def test_only_points_that_count_in_both():
    xy = copies(0, 5)
    counted = np.array([[True, True, False], [True, False, True]])
    found = suppression.oks_with(0, np.array([1]), xy, areas(2), SIGMAS, counted)
    assert found == pytest.approx([math.exp(-25 / (2 * AREA * 0.1**2))])
    assert suppression.oks_with(0, np.array([1]), xy, areas(2), SIGMAS, ~counted & counted[::-1]) == [0]


def test_oks_nms_keeps_the_best_of_each_instance():
    xy = copies(3, 0, 200, 1, 202)
    score = np.array([0.6, 0.5, 0.7, 0.9, 0.2])
    assert suppression.oks_nms(xy, score, areas(5), SIGMAS, 0.9).tolist() == [3, 2]
    assert suppression.oks_nms(xy, score, areas(5), SIGMAS, 0.97).tolist() == [3, 2, 0, 4]


def test_a_chain_is_not_one_instance():
    """The last is like the middle one only, which goes: so the last stays."""
    limit = (similarity(4) + similarity(8)) / 2
    kept = suppression.oks_nms(copies(0, 4, 8), np.array([0.9, 0.8, 0.7]), areas(3), SIGMAS, limit)
    assert kept.tolist() == [0, 2]


def test_an_oks_of_exactly_the_limit_stays():
    xy = copies(0, 4)
    limit = float(suppression.oks_with(0, np.array([1]), xy, areas(2), SIGMAS)[0])
    assert suppression.oks_nms(xy, np.array([0.9, 0.8]), areas(2), SIGMAS, limit).tolist() == [0, 1]
    below = np.nextafter(limit, 0)
    assert suppression.oks_nms(xy, np.array([0.9, 0.8]), areas(2), SIGMAS, below).tolist() == [0]


def test_equal_scores_keep_their_order():
    assert suppression.oks_nms(copies(0, 1, 200), np.full(3, 0.5), areas(3), SIGMAS).tolist() == [0, 2]


def test_nothing_in_nothing_out():
    none, no_score = np.empty((0, 3, 2)), np.empty(0)
    for kept in (
        suppression.oks_nms(none, no_score, no_score, SIGMAS),
        suppression.oks_nms_of_images(no_score.astype(int), none, no_score, no_score, SIGMAS),
    ):
        assert kept.shape == (0,)
        assert kept.dtype == np.int64


@pytest.mark.parametrize(
    ("sigmas", "limit", "said"), [(SIGMAS[:2], 0.9, "2 sigmas for 3 points"), (SIGMAS, 0, "limit")]
)
def test_arguments_that_can_not_be(sigmas: np.ndarray, limit: float, said: str):
    with pytest.raises(UserError, match=said):
        suppression.oks_nms(copies(0, 1), np.ones(2), areas(2), sigmas, limit)


def test_images_do_not_mix():
    xy = copies(0, 0, 1, 1, 200)
    image, score = np.array([7, 2, 7, 2, 7]), np.array([0.5, 0.8, 0.6, 0.9, 0.1])
    assert suppression.oks_nms_of_images(image, xy, score, areas(5), SIGMAS).tolist() == [2, 3, 4]


def test_one_formula_of_oks():
    """A detection against a truth of the same area is a detection against a detection."""
    rows = np.zeros(1, int)
    truth = Instances(
        skeleton=Skeleton("three", ("a", "b", "c")),
        images=ArrayImages([]),
        image_id=rows,
        image_size=np.zeros((1, 2), np.int32),
        image_row=rows,
        annotation_id=rows,
        xy=SHAPE[None],
        visibility=np.full((1, 3), 2, np.uint8),
        box_xywh=np.array([[15.0, 25, 70, 40]]),
        area=np.array([AREA]),
        crowd=np.zeros(1, bool),
    )
    detections = coco.Detections(np.array([0]), copies(5), np.array([0.5]))
    assert coco.similarities(truth, detections, SIGMAS).oks == pytest.approx([similarity(5)], rel=1e-12)


# --------------------------------------------------------------------------------------------------- for users


def written(folder: Path, sigmas: list[float] | None) -> tuple[Path, Path]:
    """A truth of one instance, and three detections of it: two alike and one far off."""
    points = [[value for x, y in shape.tolist() for value in (x, y, 2)] for shape in copies(0, 1, 2, 90)]
    category = {"id": 1, "name": "mouse", "keypoints": ["a", "b", "c"]} | ({"sigmas": sigmas} if sigmas else {})
    instance = {
        "id": 1,
        "image_id": 4,
        "category_id": 1,
        "keypoints": points[0],
        "bbox": [15, 25, 70, 50],
        "area": AREA,
    }
    truth = {"images": [{"id": 4, "width": 120, "height": 90}], "annotations": [instance], "categories": [category]}
    entries = [
        {"image_id": 4, "category_id": 1, "keypoints": keypoints, "score": score}
        for keypoints, score in zip(points[1:], (0.7, 0.9, 0.8), strict=True)
    ]
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(entries))
    return folder / "results.json", folder / "truth.json"


def test_evaluation_without_repeats(tmp_path: Path):
    results, truth = written(tmp_path, SIGMAS.tolist())
    assert evaluate_results(results, truth)["detections"] == 3
    report = evaluate_results(results, truth, oks_nms=0.9)
    assert report["detections"] == 2
    assert any("1 of 3 detections left out by OKS-NMS at 0.9" in note for note in report["notes"])


def test_suppression_without_sigmas_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"--oks-nms needs sigmas.*--sigmas"):
        evaluate_results(*written(tmp_path, None), oks_nms=0.9)


def test_the_command_drops_repeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    results, truth = written(tmp_path, SIGMAS.tolist())
    command = ["fiducial", "evaluate", "--predictions", str(results), str(truth), "--json", "-"]
    for more, count in (([], 3), (["--oks-nms", "0.9"], 2)):
        monkeypatch.setattr(sys, "argv", command + more)
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert not stopped.value.code
        assert json.loads(capsys.readouterr().out)["detections"] == count


class TwoPointsOfABox:
    """A runtime whose points are corners of the box and whose score is the box's height in hundreds."""

    finder = None

    skeleton = Skeleton("corners", ("a", "b"), sigmas=(0.05, 0.05))
    card = SimpleNamespace(spec=SimpleNamespace(skeleton=skeleton, spread=None))

    def __call__(self, image: np.ndarray, boxes_xywh: np.ndarray | None = None) -> Keypoints:
        assert boxes_xywh is not None
        corners = np.stack([geometry.box_corners(box)[[0, 2]] for box in boxes_xywh])
        return Keypoints(corners, np.repeat(boxes_xywh[:, 3:] / 100, 2, axis=1))


BOXES = [[1, 2, 20, 30], [1, 3, 20, 31], [20, 2, 10, 25]]  # the second holds what the first does, and is surer of it


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    """Names of two pictures of which only the second has more than one box, and of the boxes' file."""
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.full((45, 38, 3), 90, np.uint8))
    images = [{"id": 11, "file_name": "a.png"}, {"id": 12, "file_name": "b.png"}]
    boxes = [(11, BOXES[0]), *((12, box) for box in BOXES)]
    annotations = [
        {"id": i, "image_id": image, "bbox": box, "category_id": 3 + i} for i, (image, box) in enumerate(boxes)
    ]
    (tmp_path / "boxes.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return [str(tmp_path / name) for name in ("a.png", "b.png", "boxes.json")]


def test_prediction_keeps_the_best_box_of_an_instance(
    pictures: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(runtime, "load", lambda *_, **__: TwoPointsOfABox())
    for limit, kept in ((None, BOXES), (0.5, BOXES[1:])):
        done = predict.predict_sources(
            tmp_path,
            pictures[:2],
            tmp_path / "out",
            boxes=Path(pictures[2]),
            choices=Choices(oks_nms=limit),
        )
        assert [entry["bbox"] for entry in done.results] == [BOXES[0], *kept]
        assert [entry["category_id"] for entry in done.results] == [3, *range(7 - len(kept), 7)]
        assert [entry["keypoints"][0] for entry in done.results] == [entry["bbox"][0] - 0.5 for entry in done.results]


def test_prediction_refuses_what_it_can_not_compare(pictures: list[str], blob_model: Path, tmp_path: Path):
    for boxes, said in ((None, "give them by --boxes"), (Path(pictures[2]), "'blobs' of .* has none")):
        with pytest.raises(UserError, match=said):
            predict.predict_sources(
                blob_model, pictures[:2], tmp_path / "out", boxes=boxes, choices=Choices(oks_nms=0.9)
            )
        assert not (tmp_path / "out").exists()
