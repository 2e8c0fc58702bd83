"""Models and weights that are broken or hostile: an answer of finite points or a line, within 10 s and 1 GB.

The limit of memory is what is allocated above the imports: torch's alone map more than 1 GB of addresses.

`pytest -m long tests/hostile/test_models.py` reads 200 mutated models, checkpoints and cards each; the default run a
sample by the same seeds."""

from __future__ import annotations

import hashlib
import json
import pickle
import random
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from command_line import Run
from hostile import limits, mutations

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from fiducial import trial  # noqa: E402
from fiducial.errors import UserError  # noqa: E402
from fiducial.models import checkpoints  # noqa: E402
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
    """Loads weights, as `--teacher`, `--init` and, of a checkpoint, `--resume` do."""
    if path.endswith(".ckpt"):
        from fiducial.training.checkpoints import WholeFiles

        WholeFiles().load_checkpoint(Path(path))
        return ""
    try:
        detectors.load(Path(path))
    except UserError:
        model = Path(path).parent / "network"
        detectors.initialise_from(detectors.load(model)[0], Path(path))
    return ""


def read_run(folder: str) -> str:
    """Reads a run folder by everything that reads one; each must answer or refuse."""
    from fiducial.comparison import runs
    from fiducial.distillation import teacher
    from fiducial.exporting import export
    from fiducial.geometry import Size
    from fiducial.report import run_page
    from fiducial.training import recipes

    run, said = Path(folder), ""
    network = Path(folder).parent / "network"
    skeleton = detectors.load_card(network).spec.skeleton
    detector = detectors.build(detectors.load_card(network).spec)
    points = skeleton.points
    readers: list[Callable[[], Any]] = [
        lambda: answer(folder),
        lambda: checkpoints.initialise(
            detector, run, backbone="test_efficientnet", method="deeppose", size=Size(64, 48), points=points
        ),
        lambda: runs.read(run).history(),
        lambda: recipes.of_run(run),
        lambda: teacher.settings_of_run(run),
        lambda: export.scored_on(run, skeleton),
        lambda: run_page.read_run(run),
    ]
    for reader in readers:
        try:
            reader()
        except UserError as error:
            said = str(error)
            if not limits.is_line(said):
                break
    if said:
        raise UserError(said)
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
    """Copies with one file of each mutated, or the card in it; all digests are made right again, since a stranger can
    do so, too."""
    paths = []
    for number in range(count):
        target = list(shipped)[number % len(shipped)]
        folder = out / str(number)
        shutil.copytree(shipped[target], folder)
        files = sorted(folder.iterdir())
        if target == "onnx" and number % 2:
            with_another_card(folder / "model.onnx", number)
            paths.append(str(folder / "model.onnx"))
            continue
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


def with_another_card(file: Path, number: int) -> None:
    """Changes values of an ONNX file's card, with a digest that fits them."""
    model = onnx.load(file)
    block = {entry.key: entry.value for entry in model.metadata_props}
    card = mutations.structured(json.loads(block[export_card.KEY]), random.Random(number))
    text = json.dumps(card).encode("utf-8", "replace").decode()
    onnx.helper.set_model_props(
        model, {export_card.KEY: text, export_card.DIGEST: hashlib.sha256(text.encode()).hexdigest()}
    )
    onnx.save(model, file)


def check(function: str, paths: list[str], sound: Path) -> None:
    """`sound` is read first, since that imports what takes seconds on a busy machine."""
    outcomes = limits.run(f"hostile.test_models:{function}", paths, seconds=10, megabytes=1024, warm=[str(sound)])
    if len(paths) > 100:
        print(f"\n{function}: {limits.table(outcomes, 0)}")
    assert not limits.faults(outcomes), limits.table(outcomes)


@pytest.mark.parametrize("count", [9, pytest.param(200, marks=pytest.mark.long)])
def test_mutated_models(shipped: dict[str, Path], tmp_path: Path, count: int) -> None:
    check("answer", mutated_models(shipped, tmp_path, count), shipped["onnx"] / "model.onnx")


@pytest.mark.parametrize("count", [12, pytest.param(200, marks=pytest.mark.long)])
def test_mutated_checkpoints(blob_model: Path, tmp_path: Path, count: int) -> None:
    shutil.copytree(blob_model, tmp_path / "network")
    state = detectors.load(blob_model)[0].state_dict()
    torch.save({"state_dict": state, "meta": {"epoch": np.float64(3)}}, tmp_path / "zip.pth")
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.save(
        {"state_dict": state, "loops": {"epoch": 3}, "callbacks": {"History": {"rows": [{"epoch": 1.0}]}}},
        tmp_path / "last.ckpt",
    )
    shutil.copyfile(blob_model / "model.safetensors", tmp_path / "own.safetensors")
    kinds, paths = ("zip.pth", "old.pth", "own.safetensors", "last.ckpt"), []
    for number in range(count):
        kind = kinds[number // 4 % 4]  # `mutated` has four ways
        file = tmp_path / f"{number}_{kind}"
        file.write_bytes(mutated((tmp_path / kind).read_bytes(), number))
        paths.append(str(file))
    check("initialise", paths, tmp_path / "zip.pth")


@pytest.mark.parametrize("count", [6, pytest.param(200, marks=pytest.mark.long)])
def test_mutated_run_folders(blob_model: Path, tmp_path: Path, count: int) -> None:
    """One of the files that a run holds beside its weights, changed."""
    from fiducial import config
    from fiducial.training.recipe import Recipe

    shutil.copytree(blob_model, tmp_path / "network")
    recipe = {"recipe": config.to_dict(Recipe(backbone="test_efficientnet", method="deeppose")), "data": "0" * 16}
    texts = {
        "model.json": (blob_model / "model.json").read_text(),
        "recipe.json": json.dumps({**recipe, "epochs_before": [3]}),
        "metrics.json": json.dumps({"data": str(tmp_path), "metrics": {"nme": 0.1}}),
        "history.csv": "epoch,lr,seconds,val/nme\n0,0.1,2.5,0.3\n1,0.1,2.5,0.2\n",
    }
    paths = []
    for number in range(count):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "model.safetensors").symlink_to(blob_model / "model.safetensors")
        changed = list(texts)[number % len(texts)]
        for name, text in texts.items():
            if name == changed:
                value = json.loads(text) if name.endswith(".json") else None
                mutations.write(folder / name, text.encode(), value, number)
            else:
                (folder / name).write_text(text)
        paths.append(str(folder))
    check("read_run", paths, tmp_path / "network")


# What is said of tensors that lie beside an ONNX file: entry -> value.
EXTERNAL: dict[str, dict[str, str]] = {
    "missing": {"location": "nowhere.bin"},
    "outside of the folder": {"location": "../outside.bin"},
    "of the system": {"location": "/etc/passwd"},
    "a folder": {"location": "."},
    "without an end": {"location": "/dev/zero"},
    "behind its end": {"location": "beside.bin", "offset": str(2**62)},
    "before its beginning": {"location": "beside.bin", "offset": "-8"},
    "longer than the file": {"location": "beside.bin", "offset": "0", "length": str(2**50)},
    "no numbers": {"location": "beside.bin", "offset": "x"},
}


@pytest.mark.parametrize("name", EXTERNAL)
def test_tensors_beside_an_onnx_file(shipped: dict[str, Path], tmp_path: Path, name: str) -> None:
    """`export` writes none; a stranger's may lie anywhere, and none is read outside of the model's folder."""
    folder = tmp_path / "model"
    folder.mkdir()
    model = onnx.load(shipped["onnx"] / "model.onnx")
    tensor = next(item for item in model.graph.initializer if len(item.raw_data) > 1000)
    for file in (folder / "beside.bin", tmp_path / "outside.bin"):
        file.write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in EXTERNAL[name].items():
        tensor.external_data.add(key=key, value=value)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=r"model\.onnx") as error:
        runtime.load(folder / "model.onnx")
    assert limits.is_line(str(error.value))


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


BRIGHT = (
    "pixels = Cast <to = 1> (crops) mean = ReduceMean <keepdims = 0> (pixels) limit = Constant <value = float {200}> () "
    "left = Sub (limit, mean) root = Sqrt (left) none = Sub (root, root) "
    "first = Constant <value = float[1, 3, 2] {10, 20, 30, 40, 50, 30}> () xy = Add (first, none)"
)

BOX = ("--boxes", "10,10,20,15")  # enlarged, still within the image: no black border darkens the crop


def test_an_answer_that_turns_bad(shipped: dict[str, Path], tmp_path: Path, run: Run) -> None:
    """A model that gives NaN for bright images: they are left out and said, one by one; nothing is half-written."""
    model, folder = graph_of(shipped, tmp_path, GRAPH.format(body=BRIGHT)), tmp_path / "images"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    for number in range(10):
        cv2.imwrite(str(folder / f"{number}.png"), np.full_like(noise, 250) if number in (3, 7) else noise)
    code, _, err = run("predict", model, folder, *BOX, "--out", tmp_path / "found")
    assert code == 0
    entries = json.loads((tmp_path / "found" / "results.json").read_text())
    assert [entry["file_name"] for entry in entries] == [
        f"{number}.png" for number in range(10) if number not in (3, 7)
    ]
    assert [line.split(": ")[0].split()[-1] for line in err.splitlines() if "not finite" in line] == ["3.png", "7.png"]
    code, _, err = run("predict", model, folder, *BOX, "--out", tmp_path / "strict", "--strict")
    assert code == 2
    assert "3.png: no points of it" in err.splitlines()[-1]
    left = sorted(path.name for path in (tmp_path / "strict").iterdir())
    assert left in (["0.png.jpg", "1.png.jpg", "2.png.jpg"], ["0.jpg", "1.jpg", "2.jpg"])
    assert "drawings that are there are whole, no results" in err
    code, _, err = run("predict", model, folder / "3.png", *BOX, "--out", tmp_path / "alone")
    assert (code, (tmp_path / "alone").exists()) == (2, False)
    assert "not finite" in err


class Bomb:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (Path("ran"),)


def test_pickles_that_want_more_than_they_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    huge = {"a.weight": torch.zeros(1).expand(10**6, 10**6)}
    torch.save({"state_dict": huge}, "expanded.pth")
    torch.save({"state_dict": {"a": torch.zeros(9)}}, "plain.pth")
    with (
        zipfile.ZipFile("plain.pth") as plain,
        zipfile.ZipFile("bomb.pth", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bomb,
    ):
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
