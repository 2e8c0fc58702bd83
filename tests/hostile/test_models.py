"""Models and weights that are broken or hostile: an answer of finite points or a line, quickly and in little memory.

`pytest -m long tests/hostile/test_models.py` reads 200 mutated models and 200 mutated checkpoints; the default run a
sample by the same seeds."""

from __future__ import annotations

import json
import pickle
import random
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile import limits

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from fiducial import trial  # noqa: E402
from fiducial.errors import UserError  # noqa: E402
from fiducial.models import detector as detectors  # noqa: E402
from fiducial.runtime import export_card, runtime  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory and /proc are Linux's")
TARGETS = {"onnx": "model.onnx", "openvino": "model.xml", "ncnn": "model.ncnn.param"}


def answer(path: str) -> str:
    """Loads a model and asks it about an image; NaN is no answer."""
    image = np.random.default_rng(1).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    points = runtime.load(Path(path))(image)
    assert np.isfinite(points.xy).all()
    return ""


def initialise(path: str) -> str:
    """Loads weights, as `--teacher` and `--init` do."""
    try:
        detectors.load(Path(path))
    except UserError:
        model = Path(path).parent / "network"
        detectors.initialise_from(detectors.load(model)[0], Path(path))
    return ""


def mutated(content: bytes, number: int) -> bytes:
    """Flips some bytes, cuts the end off, or puts a block in another's place."""
    chance = random.Random(number)
    changed = bytearray(content)
    kind = number % 4
    if kind == 0:
        return bytes(changed[: chance.randrange(len(changed))])
    if kind == 1:
        start, other = (chance.randrange(len(changed)) for _ in range(2))
        block = changed[other : other + chance.choice((1, 8, 64, 1024))]
        changed[start : start + len(block)] = block
        return bytes(changed)
    # Where graphs and headers are: at the beginning or the end of a file.
    reach = len(changed) if kind == 2 else min(len(changed), 4096)
    for _ in range(chance.choice((1, 4, 32))):
        at = chance.randrange(reach)
        changed[at if chance.random() < 0.5 else -1 - at] = chance.randrange(256)
    return bytes(changed)


@pytest.fixture(scope="module")
def shipped(blob_model: Path, blob_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same small model for each runtime that is installed."""
    from fiducial.exporting import export

    folders = {"onnx": blob_onnx.parent}
    for target in ("openvino", "ncnn"):
        folder = tmp_path_factory.mktemp(target)
        try:
            export.write(*detectors.load(blob_model), target, folder, crop="outside", decode="own")
            folders[target] = folder
        except UserError:
            continue
    return folders


def mutated_models(shipped: dict[str, Path], out: Path, count: int) -> list[str]:
    """Copies with one file of each mutated; of ncnn the digests are made right again, since a stranger can do so, too."""
    paths = []
    for number in range(count):
        target = list(shipped)[number % len(shipped)]
        folder = out / str(number)
        shutil.copytree(shipped[target], folder)
        files = sorted(folder.iterdir())
        file = files[number // len(shipped) % len(files)]
        file.write_bytes(mutated(file.read_bytes(), number))
        about = folder / "model.ncnn.json"
        if target == "ncnn" and file != about:
            from fiducial.runtime.runtimes import ncnn_runtime

            block = json.loads(about.read_text())
            block["files"] = {name: ncnn_runtime.digest(folder / name) for name in block["files"]}
            about.write_text(json.dumps(block))
        paths.append(str(folder / TARGETS[target]))
    return paths


def check(function: str, paths: list[str]) -> None:
    outcomes = limits.run(f"hostile.test_models:{function}", paths, seconds=20, megabytes=4096)
    assert not limits.faults(outcomes), limits.table(outcomes)


@pytest.mark.parametrize("count", [9, pytest.param(200, marks=pytest.mark.long)])
def test_mutated_models(shipped: dict[str, Path], tmp_path: Path, count: int) -> None:
    check("answer", mutated_models(shipped, tmp_path, count))


@pytest.mark.parametrize("count", [12, pytest.param(200, marks=pytest.mark.long)])
def test_mutated_checkpoints(blob_model: Path, tmp_path: Path, count: int) -> None:
    shutil.copytree(blob_model, tmp_path / "network")
    state = detectors.load(blob_model)[0].state_dict()
    torch.save({"state_dict": state, "meta": {"epoch": np.float64(3)}}, tmp_path / "zip.pth")
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    shutil.copyfile(blob_model / "model.safetensors", tmp_path / "own.safetensors")
    kinds, paths = ("zip.pth", "old.pth", "own.safetensors"), []
    for number in range(count):
        file = tmp_path / f"{number}_{kinds[number % 3]}"
        file.write_bytes(mutated((tmp_path / kinds[number % 3]).read_bytes(), number))
        paths.append(str(file))
    check("initialise", paths)


def graph_of(shipped: dict[str, Path], folder: Path, text: str) -> Path:
    """An ONNX file of this graph with the card of a real one."""
    card = {entry.key: entry.value for entry in onnx.load(shipped["onnx"] / "model.onnx").metadata_props}
    card = export_card.of_metadata(card, Path("a"), "onnxruntime")
    from dataclasses import replace

    model = onnx.parser.parse_model(text)
    onnx.helper.set_model_props(model, export_card.to_metadata(replace(card, crop="outside")))
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


GRAPH = """<ir_version: 9, opset_import: ["" : 20]>
g (uint8[n, 48, 64, 3] crops) => (float[1, 3, 2] xy, float[1, 3] score) {{
    score = Constant <value = float[1, 3] {{1, 1, 1}}> ()
    {body}
}}"""
BODIES = {
    "a constant of 4 TB": (
        "shape = Constant <value = int64[1] {1000000000000}> () big = ConstantOfShape (shape) "
        "six = Constant <value = int64[3] {1, 3, 2}> () sum = ReduceSum (big) xy = Expand (sum, six)",
        "to read and run once|damaged",
    ),
    "a loop without end": (
        "trips = Constant <value = int64 {4611686018427387904}> () go = Constant <value = bool {1}> () "
        "first = Constant <value = float[1, 3, 2] {1, 2, 3, 4, 5, 6}> () xy = Loop (trips, go, first) <body = b "
        "(int64 i, bool c, float[1, 3, 2] x) => (bool d, float[1, 3, 2] y) {d = Identity (c) y = Add (x, x)}>",
        "takes more than 4 s",
    ),
    "NaN": (
        "zero = Constant <value = float[1, 3, 2] {0, 0, 0, 0, 0, 0}> () xy = Div (zero, zero)",
        "not finite for xy",
    ),
    "other points": ("xy = Constant <value = float[1, 2, 2] {0, 0, 0, 0}> ()", r"expected \[1, 3, 2\]"),
}


@pytest.mark.parametrize("name", BODIES)
def test_graphs_of_strangers(shipped: dict[str, Path], tmp_path: Path, name: str) -> None:
    body, reason = BODIES[name]
    text = GRAPH.format(body=body)
    if name == "other points":
        text = text.replace("[1, 3, 2] xy", "[1, 2, 2] xy")
    with pytest.raises(UserError, match=reason) as error:
        runtime.load(graph_of(shipped, tmp_path, text))
    assert "model.onnx: " in str(error.value)


class Bomb:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (Path("ran"),)


def test_pickles_that_want_more_than_they_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    huge = {"a.weight": torch.zeros(1).expand(10**6, 10**6)}
    torch.save({"state_dict": huge}, "expanded.pth")
    torch.save({"state_dict": {"a": torch.zeros(9)}}, "plain.pth")
    with zipfile.ZipFile("plain.pth") as plain, zipfile.ZipFile("bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in plain.namelist():
            bomb.writestr(name, b"\0" * (1 << 30) if name.endswith("data/0") else plain.read(name))
    Path("code.pth").write_bytes(pickle.dumps({"a": Bomb()}))
    Path("header.safetensors").write_bytes((2**62).to_bytes(8, "little") + b'{"a":{}}')
    for file in ("expanded.pth", "bomb.pth", "code.pth", "header.safetensors"):
        with pytest.raises(UserError, match=file):
            detectors.load(Path(file))
    assert not Path("ran").exists()


def test_a_known_file_is_not_tried_again(
    shipped: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    runtime.load(shipped["onnx"])
    monkeypatch.setattr(trial.worker, "call", None)  # a second trial would fail
    assert runtime.load(shipped["onnx"]).network.runtime == "onnxruntime"
