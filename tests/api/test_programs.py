"""Four programs of at most ten lines, as README and docs/python.md promise them: each is run as it stands, and held
against something that knows the answer without us."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from api.conftest import Arrays
from battery.test_parts import HEAD

pytest.importorskip("torch")

import fiducial

# What lets a test see in seconds what a user waits for; a user's program has none of it.
QUICK: dict[str, Any] = {
    "backbone": "test_efficientnet",
    "size": (64, 48),
    "lr": 3e-3,
    "pretrained": "no",
    "preflight": False,
    "workers": 0,
    "precision": "fp32",
    "memory_format": "contiguous",
}


def train_on_own_arrays(images: list[np.ndarray], xy: np.ndarray, out: Path) -> Any:
    data = fiducial.Instances.of(images, xy, names=["red", "green", "blue"], flip_pairs=[])
    run = fiducial.fit(data, out, method="deeppose", epochs=4, batch_size=8, **QUICK)
    points = run.model()(images[0])
    return run, points["red"], points.draw(images[0])


def predict_a_list_in_batches(file: Path, images: list[np.ndarray]) -> Any:
    model = fiducial.load(file)
    found = model.batch(images)
    return [points["green"] for points in found]


def measure_two_arrays(predicted: np.ndarray, truth: np.ndarray, boxes: np.ndarray, areas: np.ndarray) -> Any:
    result = fiducial.evaluate(predicted, truth, boxes=boxes, areas=areas, sigmas=[0.05] * 5)
    return result["ap"], result["nme"], result["pck@0.1"]


def own_head_trained_exported_and_certified(head: Path, data: Path, out: Path) -> Any:
    run = fiducial.fit(data, out / "run", method=f"{head}:Head", epochs=1, batch_size=16, **QUICK)
    file = fiducial.export(run, out / "shipped", to="onnx")
    return file.certificate.max_px, fiducial.evaluate(file, data)["nme"], fiducial.evaluate(run, data)["nme"]


PROGRAMS = (
    train_on_own_arrays,
    predict_a_list_in_batches,
    measure_two_arrays,
    own_head_trained_exported_and_certified,
)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_program_has_ten_lines_at_most(program: Callable[..., Any]) -> None:
    assert len(inspect.getsource(program).splitlines()) <= 10


def test_own_arrays(discs: Arrays, tmp_path: Path, said: list[str]) -> None:
    run, red, drawn = train_on_own_arrays(discs.images, discs.xy, tmp_path / "run")
    assert "val: 4 of 40 images, chosen by the seed 0; give val= for others" in said
    assert (run.folder / "report.html").exists()
    assert 0 < run["nme"] < 1
    assert run.figures["epochs"] == 4
    assert red.shape == (1, 2)
    assert drawn.shape == discs.images[0].shape
    assert (drawn != discs.images[0]).any()


def test_a_list(blob_onnx: Path, discs: Arrays) -> None:
    green = predict_a_list_in_batches(blob_onnx, discs.images)
    model = fiducial.load(blob_onnx)
    expected = [model(image).xy[:, 1] for image in discs.images]
    np.testing.assert_allclose(np.concatenate(green), np.concatenate(expected), atol=1e-4)


def test_two_arrays() -> None:
    """By hand: 20 rows of 5 points on an image each, off by `error` px along x."""
    generator = np.random.default_rng(0)
    truth = generator.uniform(20, 80, (20, 5, 2))
    error = np.linspace(0.3, 19.3, 20)[:, None] * np.ones((1, 5))
    boxes, areas = np.tile([0.0, 0, 100, 100], (20, 1)), np.full(20, 5000.0)
    ap, nme, pck = measure_two_arrays(truth + np.stack([error, 0 * error], -1), truth, boxes, areas)
    assert nme == pytest.approx((error / 100).mean(), rel=1e-5)
    assert pck == pytest.approx((np.arange(20) < 10).mean())
    assert ap == pytest.approx(_ap_by_pycocotools(truth + np.stack([error, 0 * error], -1), truth, boxes, areas))


def _ap_by_pycocotools(predicted: np.ndarray, truth: np.ndarray, boxes: np.ndarray, areas: np.ndarray) -> float:
    """Every row on an image of its own; all scores are 1."""
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    from pycocotools.coco import COCO

    seen = np.full((len(truth), truth.shape[1], 1), 2.0)
    data = COCO()
    data.dataset = {
        "images": [{"id": i + 1} for i in range(len(truth))],
        "categories": [{"id": 1}],
        "annotations": [
            {
                "id": i + 1,
                "image_id": i + 1,
                "category_id": 1,
                "iscrowd": 0,
                "bbox": boxes[i].tolist(),
                "area": areas[i],
                "num_keypoints": truth.shape[1],
                "keypoints": np.concatenate([truth[i], seen[i]], 1).astype(np.float32).astype(float).ravel().tolist(),
            }
            for i in range(len(truth))
        ],
    }
    data.createIndex()
    found = [
        {
            "image_id": i + 1,
            "category_id": 1,
            "score": 1.0,
            "keypoints": np.concatenate([xy, 1 + 0 * xy[:, :1]], 1).ravel().tolist(),
        }
        for i, xy in enumerate(predicted)
    ]
    run = cocoeval.COCOeval(data, data.loadRes(found), "keypoints")
    run.params.kpt_oks_sigmas = np.full(truth.shape[1], 0.05)
    run.evaluate()
    run.accumulate()
    run.summarize()
    return float(run.stats[0])


def test_own_head(blobs: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    head = tmp_path / "my_head.py"
    head.write_text(HEAD)
    max_px, shipped, trained = own_head_trained_exported_and_certified(head, blobs, tmp_path)
    assert max_px < 0.05
    assert shipped == pytest.approx(trained, abs=1e-4)
