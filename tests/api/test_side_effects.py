"""Neither an import nor a call changes the caller's process: what is imported, random numbers, threads, torch's operators."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import warmed

import fiducial


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


def test_a_name_is_the_function_whatever_was_imported_first() -> None:
    for name in ("export", "predict", "distill"):
        for first in ("", f"import fiducial.api.{name}; ", "import fiducial.exporting, fiducial.prediction.predict; "):
            facts = f"inspect.isfunction(fiducial.{name}), fiducial.{name}.__module__"
            done = warmed.run(f"{first}import fiducial, inspect; print({facts})")
            assert done.stdout == f"True fiducial.api.{name}\n", done.stderr


def test_importing_training_gives_torch_no_operators() -> None:
    pytest.importorskip("torch")
    code = (
        "import torch, fiducial.training.run, fiducial.training.fit, fiducial.models.detector;"
        "print(hasattr(torch.ops.torchvision, 'nms'), 'lightning' in __import__('sys').modules)"
    )
    assert said_by(code) == "False False"


def test_a_call_leaves_the_caller_s_numbers_and_threads(blobs: Path, blob_model: Path, tmp_path: Path) -> None:
    """In a process of its own: here, beartype draws random numbers to look into lists."""
    pytest.importorskip("torch")
    script = Path(__file__).with_name("leaves_no_trace.py")
    done = subprocess.run(
        [sys.executable, script, blobs, blob_model, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


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
