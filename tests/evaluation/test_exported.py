"""`evaluate` of an exported file: torch's figures, of crops cut as the runtime cuts them; what is left out and refused."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run

pytest.importorskip("torch")

from fiducial.data import annotations
from fiducial.data.instance_crops import InstanceCrops
from fiducial.errors import UserError
from fiducial.evaluation import evaluate
from fiducial.evaluation.evaluate import Evaluation
from fiducial.runtime import runtime
from fiducial.types import Images, Instances


def evaluated(model: Path, truth: Instances, box_jitter: float = 0.0) -> Evaluation:
    return evaluate.evaluate_network(runtime.load(model).network, truth, box_jitter=box_jitter)


@pytest.fixture
def truth(blobs: Path) -> Instances:
    return annotations.load(blobs, "test")[0]


@dataclass(frozen=True)
class Damaged:
    """Pictures of which some can't be read."""

    images: Images
    broken: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.images)

    def name(self, row: int) -> str:
        return self.images.name(row)

    def read(self, row: int, reduce: int = 1) -> np.ndarray:
        if row in self.broken:
            raise UserError(f"{self.name(row)}: the PNG is cut off")
        return self.images.read(row, reduce)


# -------------------------------------------------------------------------------------------------------- figures


@pytest.mark.parametrize("box_jitter", [0.0, 0.2])
def test_figures_are_those_of_the_run_folder(
    truth: Instances, blob_model: Path, blob_onnx: Path, box_jitter: float
) -> None:
    by_torch, by_file = (evaluated(model, truth, box_jitter) for model in (blob_model, blob_onnx))
    np.testing.assert_allclose(by_file.keypoints.xy, by_torch.keypoints.xy, atol=0.01)
    np.testing.assert_allclose(by_file.image_to_crop, by_torch.image_to_crop, rtol=1e-5, atol=1e-4)
    assert by_file.metrics.numbers() == pytest.approx(by_torch.metrics.numbers(), abs=1e-4)
    assert 0.01 < by_file.metrics.nme < 10


def test_points_are_those_of_the_runtime_box_by_box(truth: Instances, blob_onnx: Path) -> None:
    loaded = runtime.load(blob_onnx)
    found = evaluated(blob_onnx, truth)
    for row in range(len(truth)):
        alone = loaded(truth.images.read(int(truth.image_row[row])), truth.box_xywh[row][None])
        np.testing.assert_allclose(found.keypoints.xy[row], alone.xy[0], atol=1e-3)
        np.testing.assert_allclose(found.keypoints.score[row], alone.score[0], atol=1e-5)


def test_batches_change_nothing(truth: Instances, blob_onnx: Path) -> None:
    spec = runtime.load(blob_onnx).card.spec
    batches = [list(InstanceCrops(instances=truth, spec=spec, box_jitter=0.1, batch_size=size)) for size in (64, 3)]
    assert [len(batch) for batch in batches[0]] == [16]
    assert [len(batch) for batch in batches[1]] == [3, 3, 3, 3, 3, 1]
    for column in ("row", "image", "image_to_crop"):
        one, other = (np.concatenate([getattr(batch, column) for batch in each]) for each in batches)
        np.testing.assert_array_equal(one, other)


# ------------------------------------------------------------------------------------------------------- left out


def test_pictures_that_can_not_be_read_are_left_out_and_named_once(truth: Instances, blob_onnx: Path) -> None:
    """Picture 1 has three instances."""
    shared = replace(truth.select(np.array([0, 1, 2, 3, 4, 4])), image_row=np.array([0, 1, 1, 1, 3, 3]))
    damaged = replace(shared, images=Damaged(shared.images, (1, 3)))
    found = evaluated(blob_onnx, damaged)
    assert found.instances.annotation_id.tolist() == [truth.annotation_id[0]]
    assert found.problems == tuple(
        f"{truth.images.name(row)}: image {row + 1}: {truth.images.name(row)}: the PNG is cut off" for row in (1, 3)
    )
    whole = evaluated(blob_onnx, truth)
    np.testing.assert_allclose(found.keypoints.xy[0], whole.keypoints.xy[0], atol=1e-3)
    with pytest.raises(UserError, match=r"none of its pictures can be read, first .*: the PNG is cut off"):
        evaluated(blob_onnx, damaged.select(np.array([1, 2, 4])))


def test_a_picture_of_another_size_than_declared(truth: Instances, blob_onnx: Path) -> None:
    declared = truth.image_size.copy()
    declared[2] = (80, 56)
    found = evaluated(blob_onnx, replace(truth, image_size=declared))
    assert len(found.instances) == len(truth) - 1
    assert found.problems == (f"{truth.images.name(2)}: image 3: the picture is 72x56, but the annotations say 80x56",)


# ------------------------------------------------------------------------------------------------ the command line


def test_the_command_gives_the_same_json_and_page(
    run: Run, blobs: Path, blob_model: Path, blob_onnx: Path, tmp_path: Path
) -> None:
    figures: list[dict[str, Any]] = []
    for model in (blob_model, blob_onnx):
        json_file, page = tmp_path / "figures.json", tmp_path / "page.html"
        code, out, err = run("evaluate", model, blobs, "--per-point", "--json", json_file, "--report", page)
        assert code == 0
        assert "no AP: no sigmas" in err
        assert [line.split()[0] for line in out.splitlines()[-4:]] == ["red", "green", "blue", "report:"]
        figures.append(json.loads(json_file.read_text()))
    by_torch, by_file = figures
    assert list(by_file) == list(by_torch)
    assert by_file.pop("model") == str(blob_onnx)
    assert by_file["metrics"] == pytest.approx(by_torch["metrics"], abs=1e-4)
    assert [row["epe"] for row in by_file["per_point"]] == pytest.approx(
        [row["epe"] for row in by_torch["per_point"]], abs=0.01
    )
    text = (tmp_path / "page.html").read_text()
    assert all(words in text for words in ("model.onnx on test of blobs", "onnxruntime", "test_efficientnet", "fp32"))
    assert {path.stem for path in (tmp_path / "pictures").iterdir()} >= {"all_instances"}


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("model.onnx", ["--flip-test"], "--flip-test needs the run folder"),
        ("other.onnx", [], "a text file, not an ONNX network"),
        ("notes.txt", [], "not a model that Fiducial can run"),
        ("missing.onnx", [], "no such file or folder"),
    ],
)
def test_what_is_refused(
    run: Run, blobs: Path, blob_onnx: Path, tmp_path: Path, name: str, arguments: list[str], words: str
) -> None:
    model = blob_onnx if name == blob_onnx.name else tmp_path / name
    if not name.startswith("m"):
        model.write_bytes(b"no model")
    code, _, err = run("evaluate", model, blobs, *arguments, "--report", tmp_path / "page.html")
    assert code == 2
    assert words in err
    assert err.count("\n") == 1
    assert not (tmp_path / "page.html").exists()
