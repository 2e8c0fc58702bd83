"""What a model costs: multiply-adds by hand; workers are bound, take turns, and a death is a line in the result.

Nothing here asserts a time. A made-up `onnxruntime` on the workers' path shows what they do."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fiducial.card import DetectorSpec, Normalization
from fiducial.errors import UserError
from fiducial.exporting import onnx_export
from fiducial.geometry import Size
from fiducial.models.contracts import Backbone, Head, Level
from fiducial.models.detector import Detector
from fiducial.runtime import cost
from fiducial.runtime.cost import Job, Latency
from fiducial.types import Keypoints, Skeleton

SIZE = Size(24, 16)


class Known(Backbone):
    """Each kind of layer that counts, once: plain, depthwise and transposed convolution; and one that does not."""

    levels = (Level(5, 1),)
    normalization = Normalization((0, 0, 0), (1, 1, 1))

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2, padding=1),  # 16x24 -> 8x12
            nn.BatchNorm2d(4),
            nn.Conv2d(4, 4, 5, padding=2, groups=4, bias=False),
            nn.ConvTranspose2d(4, 5, 4, stride=2, padding=1, bias=False),  # 8x12 -> 16x24
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        return [self.layers(image)]


class Attending(Head):
    """Two tokens that look at each other, of a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 2 * 6)

    def forward(self, feature: Tensor) -> Tensor:
        tokens = self.linear(feature.mean((-2, -1))).view(-1, 1, 2, 6)
        return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)[:, 0]

    def decode(self, raw: Tensor) -> Keypoints:
        return Keypoints(raw[..., :2] @ torch.eye(2), raw[..., 2])


# Multiply-adds: outputs x kernel area x channels into each; a transposed convolution's are those of its inputs.
CONVOLUTIONS = 4 * 8 * 12 * 9 * 3 + 4 * 8 * 12 * 25 + 4 * 8 * 12 * 16 * 5
LINEAR, ATTENTION = 5 * 12, 2 * (2 * 2 * 6)


def known() -> Detector:
    spec = DetectorSpec("known", "attending", {}, SIZE, Skeleton("two", ("a", "b")))
    return Detector(spec, Known(), Attending())


def test_static_cost_by_hand() -> None:
    found = cost.static_cost(known())
    assert found.macs == CONVOLUTIONS + LINEAR + ATTENTION
    assert found.parameters == (4 * 3 * 9 + 4) + (4 + 4) + 4 * 25 + 4 * 5 * 16 + (5 * 12 + 12)
    # Statistics of the BatchNorm and its int64 counter are in the file, too.
    assert found.weight_bytes == 4 * (found.parameters + 4 + 4) + 8


@pytest.mark.parametrize("training", [True, False])
def test_static_cost_leaves_the_detector_as_it_was(training: bool) -> None:
    detector = known().train(training)
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    cost.static_cost(detector)
    assert detector.training is training
    assert all(torch.equal(before[name], value) for name, value in detector.state_dict().items())


def test_both_runtimes_of_a_run_folder(blob_model: Path) -> None:
    found = cost.measure(blob_model, make=onnx_export.of_run_folder, repeats=3, rounds=2)
    assert list(found) == ["torch", "onnxruntime"]
    for runtime, latency in found.items():
        assert (latency.runtime, latency.threads, latency.error, latency.decode) == (runtime, 1, "", "inside")
        assert 0 < latency.p10_ms <= latency.median_ms <= latency.p90_ms
        assert len(latency.round_ms) == 2
        assert latency.cpu_ms > 0
        assert 0 < latency.model_memory_bytes < latency.memory_bytes
        json.dumps(asdict(latency), allow_nan=False)
    assert found["torch"].difference_px is None
    assert found["onnxruntime"].difference_px < 0.05
    assert cost.ratio(found["torch"], found["torch"]) == 1


def test_parts_of_a_model(blob_model: Path) -> None:
    jobs = [
        Job(blob_model, "torch", "network"),
        Job(blob_model, "torch", "decode"),
        Job(blob_model, "onnxruntime", "network"),
    ]
    found = cost.measure_jobs(jobs, make=onnx_export.of_run_folder, repeats=2, rounds=1)
    assert [latency.error for latency in found] == ["", "", ""]
    assert found[2].difference_px < 0.05


def test_an_exported_file_in_its_runtime(blob_onnx: Path) -> None:
    found = cost.measure(blob_onnx, repeats=2, rounds=2)
    assert list(found) == ["onnxruntime"]
    latency = found["onnxruntime"]
    assert (latency.error, latency.decode, len(latency.round_ms)) == ("", "inside", 2)
    assert 0 < latency.p10_ms <= latency.median_ms
    assert 0 < latency.model_memory_bytes < latency.memory_bytes
    assert cost.exported_cost(blob_onnx) == cost.Cost(None, None, blob_onnx.stat().st_size)


def test_where_a_model_does_not_run_is_an_error_of_its_own(blob_model: Path, blob_onnx: Path) -> None:
    jobs = [Job(blob_onnx, "torch"), Job(blob_onnx, "onnxruntime", "decode"), Job(blob_model, "openvino")]
    words = ["runs in onnxruntime", "timed as a whole", "runs in torch and onnxruntime; `fiducial export` makes files"]
    for latency, expected in zip(
        cost.measure_jobs(jobs, make=onnx_export.of_run_folder, repeats=1, rounds=1), words, strict=True
    ):
        assert expected in latency.error
        assert latency.median_ms is None


def test_a_missing_runtime_says_what_to_install(
    blob_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file of OpenVINO, by its name; in the worker the package is not there."""
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "openvino.py").write_text("raise ModuleNotFoundError('no', name='openvino')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))
    (tmp_path / "model.xml").write_text("<net/>")
    found = cost.measure(tmp_path / "model.xml", repeats=1, rounds=1)["openvino"]
    assert found.error == "openvino: openvino is not installed: pip install 'fiducial[openvino]'"


def test_an_unknown_runtime_is_refused_by_name(blob_model: Path) -> None:
    with pytest.raises(UserError, match=r"'onnx': no such name. Did you mean 'onnxruntime'\?"):
        cost.measure(blob_model, ["onnx"])


def test_a_model_that_can_not_be_read_is_an_error_of_its_own(blob_model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model.json").write_bytes((blob_model / "model.json").read_bytes())
    (broken / "model.safetensors").write_bytes(b"not weights")
    found = cost.measure_many(
        {"broken": broken, "good": blob_model}, make=onnx_export.of_run_folder, repeats=1, rounds=1
    )
    for latency in found["broken"].values():
        assert f"{broken / 'model.safetensors'}: can't be read" in latency.error
        assert "\n" not in latency.error
        assert latency.median_ms is None
        assert latency.model_memory_bytes is None
        assert cost.ratio(latency, found["good"]["torch"]) is None
    assert all(not latency.error for latency in found["good"].values())


# ------------------------------------------------------------------------------- workers with a made-up runtime

FAKE = """
import json, os, signal
LOG = os.environ["FAKE_LOG"]
def note(**what):
    with open(LOG, "a") as file: print(json.dumps(what), file=file)
cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
note(cores=cores, omp=os.environ["OMP_NUM_THREADS"])
print("chatter on stdout")
class SessionOptions: pass
class Image: name, shape = "image", [1, 16, 24, 3]
class InferenceSession:
    def __init__(self, path, options, providers):
        self.path, self.runs = path, 0
        note(threads=options.intra_op_num_threads)
    def get_inputs(self): return [Image]
    def run(self, outputs, inputs):
        crop = inputs["image"]
        assert (crop.dtype, crop.shape) == ("uint8", (1, 16, 24, 3))
        note(run=self.path)
        self.runs += 1
        if "killed" in self.path and self.runs > 8: os.kill(os.getpid(), signal.SIGKILL)
        if "fails" in self.path: raise MemoryError("no room for 7 bytes")
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up onnxruntime for the workers, and no export: run folders stand for their files. Returns its log."""
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "onnxruntime.py").write_text(FAKE)
    log = tmp_path / "log.jsonl"
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))
    monkeypatch.setenv("FAKE_LOG", str(log))
    monkeypatch.setattr("fiducial.models.detector.load", lambda folder: (folder, None))
    made = onnx_export.Exported(Path(), "whole", ("xy", "score"), 0.0)
    monkeypatch.setattr(onnx_export, "onnx_of", lambda folder, path: replace(made, path=folder))
    return log


def entries(log: Path, key: str) -> list:
    return [entry[key] for entry in map(json.loads, log.read_text().splitlines()) if key in entry]


def fake_models(*names: str) -> dict[str, Path]:
    return {name: Path("runs") / name for name in names}


def test_workers_are_bound_and_take_turns(fake: Path) -> None:
    found = cost.measure_many(
        fake_models("a", "b"), ["onnxruntime"], make=onnx_export.of_run_folder, repeats=3, rounds=2
    )
    assert all(not latency["onnxruntime"].error for latency in found.values())
    assert entries(fake, "omp") == ["1", "1"]
    assert entries(fake, "threads") == [1, 1]
    cores = entries(fake, "cores")
    assert cores[0] is None or (len(cores[0]) == 1 and cores[0] == cores[1])
    runs = [Path(path).name for path in entries(fake, "run")]
    first = next(i for i in range(len(runs)) if runs[i:].count("a") == runs[i:].count("b") and "b" in runs[:i])
    turns = [name for i, name in enumerate(runs[first:]) if i == 0 or runs[first + i - 1] != name]
    assert turns == ["a", "b", "a", "b"]
    assert len(found["a"]["onnxruntime"].round_ms) == 2


def test_more_threads_are_asked_for_everywhere(fake: Path) -> None:
    found = cost.measure_many(
        fake_models("a"), ["onnxruntime"], make=onnx_export.of_run_folder, threads=2, repeats=1, rounds=1
    )
    assert found["a"]["onnxruntime"].threads == 2
    assert (entries(fake, "omp"), entries(fake, "threads")) == (["2"], [2])


def test_a_worker_that_dies_leaves_the_others_their_turns(fake: Path) -> None:
    found = cost.measure_many(
        fake_models("killed", "fails", "good"), ["onnxruntime"], make=onnx_export.of_run_folder, repeats=3, rounds=2
    )
    killed, fails, good = (found[name]["onnxruntime"] for name in ("killed", "fails", "good"))
    assert killed.error == "onnxruntime: killed by SIGKILL (out of memory?)"
    assert fails.error == "onnxruntime: MemoryError: no room for 7 bytes"
    assert killed.median_ms is None
    assert fails.median_ms is None
    assert len(good.round_ms) == 2
    assert not good.error


def test_a_runtime_that_is_not_installed(fake: Path) -> None:
    (fake.parent / "fake" / "onnxruntime.py").write_text("raise ImportError('No module named onnxruntime')")
    found = cost.measure_many(fake_models("a"), ["onnxruntime"], make=onnx_export.of_run_folder, repeats=1, rounds=1)
    assert found["a"]["onnxruntime"].error == "onnxruntime: ImportError: No module named onnxruntime"


def test_memory_of_a_small_worker_of_a_large_parent_is_small(fake: Path) -> None:
    """Linux's getrusage would hand the parent's on."""
    large = np.ones(2**26)  # 512 MiB, touched
    found = cost.measure_many(fake_models("a"), ["onnxruntime"], make=onnx_export.of_run_folder, repeats=1, rounds=1)[
        "a"
    ]["onnxruntime"]
    assert found.base_memory_bytes <= found.memory_bytes < large.nbytes // 2


def test_a_decode_outside_is_added_run_by_run_and_said(blob_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a head whose decode ONNX does not have."""
    monkeypatch.setattr(onnx_export, "onnx_of", lambda detector, path: onnx_export.export(detector, path, "network"))
    answers = iter([[1.0, 2.0, 3.0], [10.0, 30.0, 20.0], [2.0, 2.0, 2.0], [20.0, 20.0, 50.0]])
    run = cost._Timed.run

    def run_as_told(worker: cost._Timed, repeats: int) -> None:
        run(worker, repeats)
        assert not worker.error
        worker.clock[-1] = next(answers)
        worker.cpu[-1] = [ms / 2 for ms in worker.clock[-1]]

    monkeypatch.setattr(cost._Timed, "run", run_as_told)
    found = cost.measure(blob_model, ["onnxruntime"], make=onnx_export.of_run_folder, repeats=3, rounds=2)[
        "onnxruntime"
    ]
    assert found.decode == "outside"
    assert (found.median_ms, found.cpu_ms) == (22.5, 11.25)  # 11 32 23; 22 22 52
    assert found.round_ms == (11.5, 11.0)
    assert found.difference_px < 0.05


def test_ratio_is_of_neighbours_in_time() -> None:
    """A machine that becomes three times as slow in the middle changes no ratio."""
    a, b = Latency("torch", 1, round_ms=(2, 6, 6)), Latency("torch", 1, round_ms=(1, 3, 2.9))
    assert cost.ratio(a, b) == 2
