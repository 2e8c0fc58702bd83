"""`predict --boxes` by the rules of `fit` and `evaluate`: ids as they were, images at their declared size, the same
figures."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from heard import heard

from fiducial.errors import UserError
from fiducial.evaluation import evaluate, predictions
from fiducial.prediction import boxes as boxes_files
from fiducial.prediction.predict import predict_sources

Change = Callable[[dict[str, Any]], None]


def copied(blobs: Path, folder: Path, change: Change) -> tuple[Path, Path]:
    """The test split of `blobs` in a folder of its own: the images' folder and the changed annotations."""
    content = json.loads((blobs / "annotations" / "test.json").read_text())
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    for image in content["images"]:
        shutil.copy(blobs / "images" / image["file_name"], folder / "images")
    content["categories"][0]["sigmas"] = [0.4, 0.5, 0.6]
    change(content)
    (folder / "annotations" / "test.json").write_text(json.dumps(content))
    return folder / "images", folder / "annotations" / "test.json"


def with_ids(content: dict[str, Any]) -> None:
    """Text, large and float ids, that run against the order of names."""
    for place, (image, annotation) in enumerate(zip(content["images"], content["annotations"], strict=True)):
        image["id"] = annotation["image_id"] = [f"img {99 - place}", 2**65 - place, 500.5 - place][place % 3]
        annotation.update(id=f"a{place}", category_id="blob")
    content["categories"][0]["id"] = "blob"


def without_extras(content: dict[str, Any]) -> None:
    for annotation in content["annotations"]:
        for field in ("bbox", "area", "iscrowd", "id"):
            del annotation[field]


def with_several(content: dict[str, Any]) -> None:
    """A second instance in each image, a crowd, one without points, and a box of an unknown image."""
    for place, annotation in enumerate(list(content["annotations"])):
        shifted = [value + 4 * (index % 3 == 0) for index, value in enumerate(annotation["keypoints"])]
        content["annotations"].append({**annotation, "id": 500 + place, "keypoints": shifted, "bbox": [9, 5, 55, 45]})
    content["annotations"][3]["iscrowd"] = 1
    content["annotations"][5].update(keypoints=[0] * 9, num_keypoints=0)
    content["annotations"].append({**content["annotations"][0], "id": 900, "image_id": 77})


@pytest.mark.parametrize("change", [lambda content: None, with_ids, without_extras, with_several])
def test_the_model_and_its_results_have_one_score(blobs: Path, blob_onnx: Path, tmp_path: Path, change: Change) -> None:
    images, truth = copied(blobs, tmp_path / "set", change)
    expected = evaluate.evaluate_model(blob_onnx, tmp_path / "set", "test").summary["metrics"]
    predict_sources(blob_onnx, [str(images)], tmp_path / "out", boxes=truth)
    found = predictions.evaluate_results(tmp_path / "out" / "results.json", truth)["metrics"]
    assert 0 < expected["ap"] < 1
    for name in ("nme", "epe", "auc", "ap", "ar", "ap50", "ap75"):
        assert found[name] == pytest.approx(expected[name], abs=1e-6), name


def test_ids_come_back_as_they_were(blobs: Path, blob_onnx: Path, tmp_path: Path) -> None:
    images, truth = copied(blobs, tmp_path / "set", with_ids)
    results = predict_sources(blob_onnx, [str(images)], tmp_path / "out", boxes=truth).results
    content = json.loads(truth.read_text())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    expected = [(item["image_id"], item["id"], "blob", names[item["image_id"]]) for item in content["annotations"]]
    found = [(entry["image_id"], entry["annotation_id"], entry["category_id"], entry["file_name"]) for entry in results]
    assert sorted(found, key=str) == sorted(expected, key=str)


def test_whole_images_are_matched_by_name(blobs: Path, blob_onnx: Path, tmp_path: Path) -> None:
    """Without boxes predict counts images itself; each detection still meets its own image."""
    images, truth = copied(blobs, tmp_path / "set", with_ids)
    results = predict_sources(blob_onnx, [str(images)], tmp_path / "out").results
    content = json.loads(truth.read_text())
    owner = {image["file_name"]: image["id"] for image in content["images"]}
    (tmp_path / "by_id.json").write_text(
        json.dumps([{**entry, "image_id": owner[entry["file_name"]], "category_id": "blob"} for entry in results])
    )
    by_name = predictions.evaluate_results(tmp_path / "out" / "results.json", truth)
    by_id = predictions.evaluate_results(tmp_path / "by_id.json", truth)
    assert by_name["paired"] == 16
    assert by_name["metrics"] == by_id["metrics"]


def turned_jpeg(image: np.ndarray, orientation: int) -> bytes:
    """A JPEG whose EXIF says how it is to be turned."""
    data = cv2.imencode(".jpg", image)[1].tobytes()
    tiff = b"II*\0" + struct.pack("<I", 8) + struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", 2 + 6 + len(tiff)) + b"Exif\0\0" + tiff + data[2:]


def test_labels_of_stored_pixels(blobs: Path, blob_onnx: Path, tmp_path: Path) -> None:
    """Declared sizes are the stored ones, which EXIF would turn: boxes are laid on stored pixels, as evaluate reads them.
    An image of another size is left out with a line."""
    images, truth = copied(blobs, tmp_path / "set", lambda content: None)
    for file in sorted(images.iterdir()):
        image = cv2.imread(str(file))
        assert image is not None
        file.write_bytes(turned_jpeg(image, 6))  # the name ends in .png still; its bytes say what it is
    content = json.loads(truth.read_text())
    content["images"][2].update(width=70)
    truth.write_text(json.dumps(content))
    with heard() as said:
        predict_sources(blob_onnx, [str(images)], tmp_path / "out", boxes=truth)
    assert any("test_2.png: the image is 56x72, but the boxes file says 70x56" in line for line in said)
    found = predictions.evaluate_results(tmp_path / "out" / "results.json", truth)
    expected = evaluate.evaluate_model(blob_onnx, tmp_path / "set", "test").summary
    assert found["paired"] == expected["count"] == 15
    assert found["metrics"]["nme"] == pytest.approx(expected["metrics"]["nme"], abs=1e-6)


def test_one_file_of_two_ids_is_looked_at_in_the_boxes_of_both(blobs: Path, blob_onnx: Path, tmp_path: Path) -> None:
    def twice(content: dict[str, Any]) -> None:
        content["images"] = [{"id": number, "file_name": "test_0.png"} for number in (8, "b")]
        boxes = [(8, [5, 4, 50, 40]), ("b", [9, 3, 44, 41])]
        content["annotations"] = [{"id": 1, "image_id": number, "bbox": box} for number, box in boxes]

    images, truth = copied(blobs, tmp_path / "set", twice)
    done = predict_sources(blob_onnx, [str(images / "test_0.png")], tmp_path / "out", boxes=truth)
    assert [(entry["image_id"], entry["bbox"]) for entry in done.results] == [
        (8, [5, 4, 50, 40]),
        ("b", [9, 3, 44, 41]),
    ]


def test_boxes_of_a_detector(tmp_path: Path) -> None:
    """Without categories and points; what was assumed is told apart from what was left out."""
    entries = [{"image_id": 1, "bbox": [5, 4, 50, 40]}, {"image_id": 1, "bbox": [5, 4, 0, 40]}]
    (tmp_path / "b.json").write_text(json.dumps({"images": [{"id": 1, "file_name": "a.png"}], "annotations": entries}))
    found = boxes_files.read(tmp_path / "b.json")
    assert found.boxes[0].xywh == [[5, 4, 50, 40]]
    assert found.boxes[0].category_ids == [1]
    assert "annotation 2: its box [5.0, 4.0, 0.0, 40.0] has no area" in found.problems[0]
    assert "of 2 annotations 2 have no id: they are numbered" in found.notes[0]


@pytest.mark.parametrize("words", ["6,4,60,48", " 6, 4, 60, 48 ", "[6,4,60,48]", "[[6, 4, 60, 48.0]]"])
def test_boxes_written_out_are_those_of_a_file(blobs: Path, blob_onnx: Path, tmp_path: Path, words: str) -> None:
    """All images of the set have this box in its file."""
    images, file = copied(blobs, tmp_path, lambda content: None)
    by_file = predict_sources(blob_onnx, [str(images)], tmp_path / "file", boxes=file).json_file
    by_words = predict_sources(blob_onnx, [str(images)], tmp_path / "words", boxes=Path(words)).json_file
    ours, theirs = json.loads(by_words.read_text()), json.loads(by_file.read_text())
    assert len(ours) == len(theirs) > 3
    fields = ("file_name", "keypoints", "score", "bbox")
    assert [[item[field] for field in fields] for item in ours] == [
        [item[field] for field in fields] for item in theirs
    ]
    assert sorted({item["image_id"] for item in ours}) == list(range(1, len(ours) + 1))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("1,2,3", "boxes: expected [[x, y, width, height], ..] in px"),
        ("1,2,0,4", "positive width and height"),
        ("[[1,2,3,4],[1,2,3,nan]]", "boxes: expected"),
        ("1,2,3,1e400", "boxes"),
        ("nowhere.json", "nowhere.json: can't be read: No such file"),
        ("x,y,w,h", "x,y,w,h: can't be read: No such file"),
    ],
)
def test_boxes_that_are_none(blobs: Path, blob_onnx: Path, tmp_path: Path, words: str, said: str) -> None:
    with pytest.raises(UserError) as raised:
        predict_sources(blob_onnx, [str(blobs / "images")], tmp_path / "out", boxes=Path(words))
    assert said in str(raised.value)
    assert not (tmp_path / "out").exists()
