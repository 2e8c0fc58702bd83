"""Many images: the loop's answers, in order, from several threads, and errors that name the image."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from api.conftest import Arrays

import fiducial
from fiducial import Keypoints, UserError
from fiducial.report import pictures
from fiducial.runtime import batch


@pytest.fixture(scope="module", params=["onnx", "torch", "openvino", "ncnn"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    if request.param == "onnx":
        return fiducial.load(request.getfixturevalue("blob_onnx"))
    run = request.getfixturevalue("blob_model")
    if request.param == "torch":
        return fiducial.load(run)
    pytest.importorskip(request.param)
    from fiducial.exporting import export

    folder = tmp_path_factory.mktemp(request.param)
    return fiducial.load(
        export.write(*export.load_detector(run), request.param, folder, crop="outside", decode="own").file
    )


def boxes_of(images: list[np.ndarray]) -> list[np.ndarray | None]:
    """None, no box at all, one, and more than go together."""
    generator = np.random.default_rng(1)
    counts = [None, 0, 1, 2, batch.CROPS + 3]
    return [
        None if count is None else np.concatenate([generator.uniform(0, 20, (count, 2)), np.full((count, 2), 30.0)], 1)
        for count in (counts[i % len(counts)] for i in range(len(images)))
    ]


def test_answers_are_the_loop_s(model: Any, discs: Arrays) -> None:
    boxes = boxes_of(discs.images)
    for found, expected in [
        (model.batch(discs.images), [model(image) for image in discs.images]),
        (model.batch(discs.images, boxes), [model(*pair) for pair in zip(discs.images, boxes, strict=True)]),
    ]:
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert one.xy.shape == other.xy.shape
            np.testing.assert_allclose(one.xy, other.xy, atol=1e-4)
            np.testing.assert_allclose(one.score, other.score, atol=1e-5)
            assert one.skeleton == other.skeleton == model.skeleton
    assert model.batch([]) == []


def test_eight_threads_ask_at_a_time(model: Any, discs: Arrays) -> None:
    expected = [model(image).xy for image in discs.images]
    with ThreadPoolExecutor(8) as pool:
        one_by_one = list(pool.map(lambda i: model(discs.images[i % 40]).xy, range(320)))
        in_batches = list(pool.map(lambda _: [points.xy for points in model.batch(discs.images)], range(8)))
    for i, xy in enumerate(one_by_one):
        np.testing.assert_allclose(xy, expected[i % 40], atol=1e-4)
    for found in in_batches:
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_paths_are_read(blob_onnx: Path, discs: Arrays, tmp_path: Path) -> None:
    model = fiducial.load(blob_onnx)
    for row, image in enumerate(discs.images[:3]):
        cv2.imwrite(str(tmp_path / f"{row}.png"), image[:, :, ::-1])
    found = model.batch([tmp_path / "0.png", str(tmp_path / "1.png"), discs.images[2]])
    np.testing.assert_array_equal([points.xy for points in found], [model(image).xy for image in discs.images[:3]])


def test_wrong_input_names_the_image(blob_onnx: Path, discs: Arrays) -> None:
    model, images = fiducial.load(blob_onnx), discs.images[:3]
    for wrong, boxes, message in [
        ([images[0], images[1][..., 0]], None, r"images\[1\]: image: expected .* got uint8 \[56, 64\]"),
        ([images[0].astype(float)], None, r"images\[0\]: image: expected .* got float64"),
        ([np.zeros((4, 4, 4), np.uint8)], None, r"images\[0\]: image: expected .* \[4, 4, 4\]"),
        ([images[0], Path("gone.png")], None, r"images\[1\]: gone.png: can't be read"),
        (images[0], None, r"images: expected a list of images .* got an array of shape \[48, 80, 3\]"),
        (Path("a.png"), None, "images: expected a list of images"),
        (images, [None], r"boxes: expected one \[n, 4\] or None for each of the 3 images, got 1"),
        (images, [None, [[1, 2, 3]], None], r"images\[1\]: boxes: expected \[n, 4\]"),
        (images, [None, None, [[1, 2, np.nan, 4]]], r"images\[2\]: box .* expected finite"),
    ]:
        with pytest.raises(UserError, match=message):
            model.batch(wrong, boxes)


def test_points_by_name_and_by_instance(blob_onnx: Path, discs: Arrays) -> None:
    model = fiducial.load(blob_onnx)
    points = model(discs.images[0], [[2.0, 2, 30, 30], [20, 10, 30, 30]])
    assert len(points) == 2
    np.testing.assert_array_equal(points["green"], points.xy[:, 1])
    one, other = points
    np.testing.assert_array_equal(other["blue"], points.xy[1, 2])
    np.testing.assert_array_equal(points[1].xy, other.xy)
    assert len(points[np.array([False, True])]) == 1
    assert len(one) == 1
    assert "Keypoints of 2 instances, 3 points each" in repr(points)
    assert "red (" in repr(points)
    assert len(repr(Keypoints(np.zeros((0, 3, 2)), np.zeros((0, 3))))) > 0
    with pytest.raises(UserError, match=r"points\['gren'\]: no such point. Did you mean 'green'"):
        _ = points["gren"]


def test_drawing_and_entries_are_those_of_predict(blob_onnx: Path, discs: Arrays, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), discs.images[0][:, :, ::-1])
    done = fiducial.predict(blob_onnx, tmp_path / "a.png", tmp_path / "out")
    points = fiducial.load(blob_onnx)(discs.images[0])
    assert points.to_coco(1, file_name="a.png") == done.results
    pictures.write(tmp_path / "own.jpg", points.draw(discs.images[0]))
    assert (tmp_path / "own.jpg").read_bytes() == (tmp_path / "out" / "a.png.jpg").read_bytes()
    boxes = [[2.0, 2, 30, 30]]
    assert fiducial.load(blob_onnx)(discs.images[0], boxes).to_coco(7, boxes=boxes)[0]["bbox"] == boxes[0]
    with pytest.raises(UserError, match="boxes: 2 boxes for 1 instances"):
        points.to_coco(1, boxes=boxes * 2)
