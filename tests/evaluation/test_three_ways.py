"""One model has one set of figures: of the run folder, of the exported file, and of `predict --boxes` scored as any tool's
results, on real sets and on one whose ids, names and sizes differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from command_line import Run
from quick import smallest

pytest.importorskip("torch")

from fiducial.card import Card, DetectorSpec
from fiducial.data import annotations
from fiducial.evaluation import evaluate
from fiducial.geometry import Size
from fiducial.models import detector as detectors
from fiducial.runtime import runtime

SAME = 1e-6
ASIDE = {"kp_acc", "tp", "tn", "fp", "fn"}  # are counted on the model's own crop


def figures(run: Run, path: Path, *words: object) -> dict[str, Any]:
    code, _, err = run(*words, "--json", path)
    assert code == 0, err
    return json.loads(path.read_text())


def assert_same_in_three_ways(run: Run, model: Path, root: Path, split: str, folder: Path) -> dict[str, Any]:
    truth = root / "annotations" / f"{split}.json"
    own = figures(run, folder / "own.json", "evaluate", model, root, "--split", split)
    assert run("predict", model, root / "images", "--boxes", truth, "--out", folder / "out")[0] == 0
    other = figures(run, folder / "other.json", "evaluate", "--predictions", folder / "out" / "results.json", truth)
    assert set(other["metrics"]) == set(own["metrics"]) - ASIDE
    assert other["metrics"] == pytest.approx({name: own["metrics"][name] for name in other["metrics"]}, abs=SAME)
    assert other["paired"] == own["count"]
    assert [row["nme"] for row in other["per_point"]] == pytest.approx(
        [row["nme"] for row in own["per_point"]], abs=SAME
    )
    return own


def oriented_jpeg(image: np.ndarray, orientation: int) -> bytes:
    """A JPEG with an EXIF segment that holds nothing but the orientation."""
    jpeg = cv2.imencode(".jpg", image)[1].tobytes()
    tiff = b"II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00" + bytes([orientation, 0, 0, 0]) + bytes(4)
    segment = b"Exif\x00\x00" + tiff
    return jpeg[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + jpeg[2:]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory, blob_model: Path) -> Path:
    """Text ids in falling order, images turned by EXIF that were labelled on stored or on turned pixels, sizes all
    different, names alike in two folders, crowds, and boxes without points; the labels are the model's own points, moved by
    so much that some match at each threshold of OKS."""
    root = tmp_path_factory.mktemp("data") / "odd"
    generator = np.random.default_rng(8)
    (root / "annotations").mkdir(parents=True)
    images, labels = [], []
    for i in range(12):
        width, height = 90 + 7 * i, 70 + 5 * (i % 5)
        folder = root / "images" / ("a" if i % 2 else "b")
        folder.mkdir(parents=True, exist_ok=True)
        image = cv2.resize(generator.integers(0, 256, (7, 9, 3), dtype=np.uint8), (width, height))
        turned = i % 3 == 1
        name = f"{folder.name}/{i // 2:03d}.jpg"
        (root / "images" / name).write_bytes(oriented_jpeg(image, 6 if turned else 1))
        declared = (height, width) if turned and i % 2 else (width, height)
        images.append({"id": f"im-{40 - i}", "file_name": name, "width": declared[0], "height": declared[1]})
        for j in range(1 + i % 3):
            box = [4.25 + 20.5 * j, 3.5 + 2 * j, 40.75 + i, 35.5 + i / 3]
            labels.append({"id": f"{i}/{j}", "image_id": f"im-{40 - i}", "bbox": box, "category_id": 7})
    file: dict[str, Any] = {
        "images": images,
        "categories": [{"id": 7, "name": "blobs", "keypoints": ["red", "green", "blue"], "sigmas": [0.05, 0.08, 0.06]}],
    }
    for label in labels:
        x, y, w, h = label["bbox"]
        label |= {"keypoints": [x + 1, y + 1, 2, x + w, y + h, 2, x, y, 1], "area": w * h / 2, "iscrowd": 0}
    path = root / "annotations" / "test.json"
    path.write_text(json.dumps({**file, "annotations": labels}))
    network = runtime.load(blob_model).network
    found = evaluate.evaluate_network(network, annotations.load(root, "test")[0]).keypoints.xy
    for row, label in enumerate(labels):
        moved = found[row] + generator.normal(0, 0.4 + row % 7, (3, 2))
        label["keypoints"] = [v for x, y in moved.round(3).tolist() for v in (x, y, 2)]
        if row % 6 == 5:
            label |= {"keypoints": [0] * 9, "num_keypoints": 0}
    labels.append({**labels[0], "id": "crowd", "iscrowd": 1, "bbox": [0, 0, 60, 50]})
    for split in ("train", "val", "test"):
        (root / "annotations" / f"{split}.json").write_text(json.dumps({**file, "annotations": labels}))
    return root


@pytest.mark.parametrize("way", ["run", "file"])
def test_a_set_whose_ids_names_and_sizes_differ(
    run: Run, odd: Path, blob_model: Path, blob_onnx: Path, tmp_path: Path, way: str
) -> None:
    own = assert_same_in_three_ways(run, blob_model if way == "run" else blob_onnx, odd, "test", tmp_path)
    assert 0.02 < own["metrics"]["ap"] < 0.98
    assert own["metrics"]["nme"] > 0.005
    assert own["left_out"] > 1
    assert own["problems"] == []


def test_an_exported_file_is_scored_as_its_run(
    run: Run, odd: Path, blob_model: Path, blob_onnx: Path, tmp_path: Path
) -> None:
    by_run, by_file = (figures(run, tmp_path / "f.json", "evaluate", model, odd) for model in (blob_model, blob_onnx))
    assert by_file["metrics"] == pytest.approx(by_run["metrics"], abs=1e-5)
    assert by_file["floor"] == by_run["floor"]


def test_the_report_of_a_run_has_the_same_figures(run: Run, odd: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = smallest(size="48x36", epochs=1, batch_size=8, lr="1e-3", check=False)  # train and val are the same
    code, _, err = run("fit", odd, "--out", out, *options)
    assert code == 0, err
    own = figures(run, tmp_path / "own.json", "evaluate", out, odd, "--split", "val")
    reported = json.loads((out / "metrics.json").read_text())
    for part in ("metrics", "floor", "count", "left_out"):
        assert reported[part] == (pytest.approx(own[part], abs=SAME) if part == "metrics" else own[part])


@pytest.mark.parametrize("name", ["faces68_mini", "coco_mini17"])
def test_real_sets(run: Run, shared: Path, tmp_path: Path, name: str) -> None:
    import torch

    root = shared / name
    if not root.exists():
        pytest.skip(f"no {name} beside the checkout")
    skeleton = annotations.load(root, "test", verify=False)[0].skeleton
    torch.manual_seed(2)
    detector = detectors.build(DetectorSpec("test_efficientnet", "heatmap", {}, Size(64, 96), skeleton)).eval()
    detectors.save(detector, tmp_path / "run", Card(detector.spec))
    own = assert_same_in_three_ways(run, tmp_path / "run", root, "test", tmp_path)
    assert own["floor"]["of"] == "train"
    assert ("human" in own["floor"]) == (name == "coco_mini17")
