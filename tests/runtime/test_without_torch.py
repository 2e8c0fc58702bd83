"""Exported models need nothing of the extra `train`: here it can't be imported; where it is not installed: test_wheel.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

TRAIN = (
    "torch",
    "torchvision",
    "lightning",
    "timm",
    "safetensors",
    "jaxtyping",
    "onnx",
    "onnxscript",
    "matplotlib",
    "tensorboard",
    "yaml",
    "jinja2",
)

# Runs `fiducial ..`, or code; says last which modules of torch there are, though none could be imported.
PRELUDE = f"""
import sys
class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {TRAIN}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Refused())
import atexit
atexit.register(lambda: print([name for name in {TRAIN} if name in sys.modules], file=sys.stderr))
"""
COMMAND = PRELUDE + "from fiducial.cli import main\nmain()\n"


def call(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=300
    )


def test_the_refusal_works() -> None:
    done = call(PRELUDE + "import torch")
    assert done.returncode == 1
    assert "ModuleNotFoundError: No module named 'torch'" in done.stderr


def test_predict(blobs: Path, blob_onnx: Path, tmp_path: Path) -> None:
    boxes = blobs / "annotations" / "test.json"
    done = call(COMMAND, "predict", blob_onnx, blobs / "images", "--boxes", boxes, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())) == 16
    assert len(list((tmp_path / "out").rglob("*.jpg")) + list((tmp_path / "out").rglob("*.png"))) == 16


def test_evaluate(blobs: Path, blob_onnx: Path) -> None:
    done = call(COMMAND, "evaluate", blob_onnx, blobs, "--json", "-", "--box-jitter", "0.1")
    assert done.returncode == 0
    assert "no AP: no sigmas" in done.stderr
    assert done.stderr.splitlines()[1:] == ["[]"]
    assert json.loads(done.stdout)["count"] == 16


def test_load(blobs: Path, blob_onnx: Path) -> None:
    code = """
import cv2, fiducial
image = cv2.imread(sys.argv[2])[:, :, ::-1]
print(fiducial.load(sys.argv[1])(image).xy.shape, fiducial.load(sys.argv[1])(image, [[6, 4, 60, 48]] * 3).xy.shape)
"""
    done = call(PRELUDE + code, blob_onnx, blobs / "images" / "test_0.png")
    assert (done.stdout, done.stderr) == ("(1, 3, 2) (3, 3, 2)\n", "[]\n")


def test_a_page_says_what_it_needs(blobs: Path, blob_onnx: Path, tmp_path: Path) -> None:
    """Jinja2 makes the pages; nothing is written without it."""
    done = call(COMMAND, "evaluate", blob_onnx, blobs, "--report", tmp_path / "page.html")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "fiducial: jinja2 is not installed: pip install 'fiducial[report]'"
    assert not list(tmp_path.iterdir())


def test_a_run_folder_says_what_it_needs(blobs: Path, blob_model: Path) -> None:
    done = call(COMMAND, "evaluate", blob_model, blobs)
    assert done.returncode == 2
    assert "is not installed: pip install 'fiducial[train]'" in done.stderr
