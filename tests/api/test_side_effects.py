"""Neither an import nor a call changes the caller's process: what is imported, random numbers, threads, torch's operators."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from api.conftest import Arrays

import fiducial
from fiducial import Instances, UserError

QUICK: dict[str, Any] = {
    "method": "deeppose", "backbone": "mobilenetv3_small_050", "size": (64, 48), "epochs": 1, "batch_size": 8, "lr": 3e-3,
    "pretrained": "no", "workers": 0, "precision": "fp32", "memory_format": "contiguous",
}  # fmt: skip


def said_by(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_the_names_are_there_and_cost_nothing() -> None:
    heavy = "{'torch', 'cv2', 'numpy', 'onnxruntime', 'PIL', 'typer', 'msgspec'}"
    assert said_by(f"import sys, fiducial; dir(fiducial); print(sorted({heavy} & set(sys.modules)))") == "[]"
    best = min(
        float(said_by("import time; start = time.perf_counter(); import fiducial; print(time.perf_counter() - start)"))
        for _ in range(5)
    )
    assert best < 0.05
    for name in fiducial.__all__:
        assert getattr(fiducial, name) is not None
        assert name in dir(fiducial)
    assert sorted(fiducial.__all__) == sorted(fiducial._WHERE)
    with pytest.raises(AttributeError, match="has no attribute 'lode'"):
        _ = fiducial.lode  # type: ignore[attr-defined]


@pytest.mark.parametrize("room", ["export", "predict", "distill"])
def test_a_name_that_is_a_room_can_be_called_whatever_was_imported_first(room: str) -> None:
    before = f"import fiducial.{room}; " if room != "predict" else "import fiducial.predict.predict; "
    for first in ("", before, f"from fiducial import {room}; "):
        code = f"{first}import fiducial, inspect; print('out' in inspect.signature(fiducial.{room}).parameters)"
        assert said_by(code) == "True"


def test_importing_training_gives_torch_no_operators() -> None:
    pytest.importorskip("torch")
    code = (
        "import torch, fiducial.training.run, fiducial.training.fit, fiducial.models.detector;"
        "print(hasattr(torch.ops.torchvision, 'nms'), 'lightning' in __import__('sys').modules)"
    )
    assert said_by(code) == "False False"


def state() -> list[Any]:
    """The caller's random numbers, threads and words."""
    import torch

    numbers = np.random.get_state()
    return [
        random.getstate(), numbers[1].tolist(), numbers[2], torch.get_rng_state().tolist(), torch.get_num_threads(),
        list(sys.argv), torch.get_default_dtype(), torch.is_grad_enabled(), torch.backends.cudnn.benchmark,
        torch.are_deterministic_algorithms_enabled(),
    ]  # fmt: skip


def test_a_call_leaves_the_caller_s_numbers_and_threads(
    discs: Arrays, blobs: Path, blob_model: Path, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    random.seed(3)
    np.random.seed(4)
    torch.manual_seed(5)
    before = state()
    data = Instances.of(discs.images, discs.xy, names=["red", "green", "blue"], flip_pairs=[])
    run = fiducial.fit(data, tmp_path / "run", preflight=True, **QUICK)
    assert state() == before, "fit"
    with pytest.raises(UserError, match="holds a run already"):
        fiducial.fit(data, tmp_path / "run", **QUICK)
    broken = Instances.of(discs.images, discs.xy, names=["red", "green", "blue"])  # no pairs: flipping is refused
    with pytest.raises(UserError, match="flip pairs are unknown"):
        fiducial.fit(broken, tmp_path / "other", **QUICK)
    assert state() == before, "a fit that fails"
    model = fiducial.load(blob_model, threads=1 + torch.get_num_threads())
    model(discs.images[0])
    model.batch(discs.images[:3])
    assert state() == before, "load, with threads"
    with pytest.raises(UserError, match="images"):
        model.batch([discs.images[0], "gone.png"])
    fiducial.evaluate(run, blobs)
    fiducial.evaluate(model, data)
    assert state() == before, "evaluate"


def test_threads_are_those_that_were_asked_for(blob_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    model = fiducial.load(blob_model, threads=3)
    seen = []
    predict = model.network.detector.predict  # type: ignore[attr-defined]
    monkeypatch.setattr(
        model.network.detector,  # type: ignore[attr-defined]
        "predict",
        lambda *given: seen.append(torch.get_num_threads()) or predict(*given),
    )
    model(np.zeros((40, 50, 3), np.uint8))
    assert seen == [3]


def test_nothing_of_the_library_reads_the_caller_s_words() -> None:
    root = Path(fiducial.__file__).parent
    reading = [
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if "sys.argv" in path.read_text(encoding="utf-8")
        and path.relative_to(root).parts[0] not in ("cli", "worker.py")
    ]
    assert reading == []
