"""The same through the real command line: exit code 0 or 2, one line, no traceback, nothing half-written.

`pytest -m long tests/hostile/test_commands.py` says 40 variations of each command; the default run says one of each."""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile import limits, mutations

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
LONG = 40
TRAINED = (
    "--epochs",
    1,
    "--size",
    "32x32",
    "--pretrained",
    "no",
    "--backbone",
    "test_efficientnet",
    "--set",
    "batch_size=4",
)


def varied(source: Path, path: Path, seed: int) -> Path:
    """A hostile variation of a file of JSON, in a file of its own."""
    data = source.read_bytes()
    mutations.write(path, data, json.loads(data), seed)
    return path


def by_boxes(blobs: Path, model: Path, folder: Path, seed: int) -> list[object]:
    boxes = varied(blobs / "annotations" / "test.json", folder / "boxes.json", seed)
    return ["predict", model, blobs / "images" / "test_0.png", "--boxes", boxes, "--out", folder / "out"]


def by_words(blobs: Path, model: Path, folder: Path, seed: int) -> list[object]:
    dice = random.Random(seed)
    words = mutations.TEXT[dice.randrange(len(mutations.TEXT))]("[[1, 2, 30, 40], [5, 6, 7, 8.5]]", dice).replace(
        "\0", ""
    )
    return ["predict", model, blobs / "images" / "test_0.png", f"--boxes={words[:5000]}", "--out", folder / "out"]


def by_predictions(blobs: Path, model: Path, folder: Path, seed: int) -> list[object]:
    truth = json.loads((blobs / "annotations" / "test.json").read_text())
    results = [{**item, "score": 0.5} for item in truth["annotations"]]
    (folder / "sound.json").write_text(json.dumps(results))
    found = varied(folder / "sound.json", folder / "results.json", seed)
    return ["evaluate", "--predictions", found, blobs / "annotations" / "test.json", "--json", folder / "out.json"]


def by_truth(blobs: Path, model: Path, folder: Path, seed: int) -> list[object]:
    (folder / "annotations").mkdir()
    (folder / "images").symlink_to(blobs / "images")
    varied(blobs / "annotations" / "test.json", folder / "annotations" / "test.json", seed)
    return ["evaluate", model, folder, "--split", "test", "--json", folder / "out.json"]


def by_fit(blobs: Path, model: Path, folder: Path, seed: int) -> list[object]:
    shutil.copytree(blobs / "annotations", folder / "annotations")
    (folder / "images").symlink_to(blobs / "images")
    varied(blobs / "annotations" / "val.json", folder / "annotations" / "train.json", seed)
    return ["fit", folder, "--out", folder / "run", *TRAINED]


def by_set(blobs: Path, model: Path, folder: Path, seed: int) -> list[object]:
    dice = random.Random(seed)
    name = dice.choice(("augment.flip", "optimizer.lr", "head.sigma", "batch_size", "points", "x.y", ""))
    word = str(dice.choice(mutations.VALUES)).replace("\0", "").encode(errors="replace").decode()[:5000]
    return ["fit", blobs, "--out", folder / "run", *TRAINED, "--set", f"{name}={word}", "--set", "epochs=0"]


COMMANDS: dict[str, Callable[[Path, Path, Path, int], list[object]]] = {
    "predict --boxes FILE": by_boxes,
    "predict --boxes WORDS": by_words,
    "evaluate --predictions": by_predictions,
    "evaluate": by_truth,
    "fit": by_fit,
    "fit --set": by_set,
}


def obeyed(name: str, blobs: Path, model: Path, folder: Path, seed: int) -> limits.Outcome:
    folder.mkdir()
    outcome = limits.command(*COMMANDS[name](blobs, model, folder, seed), folder=folder, seconds=120)
    said = outcome.said if outcome.kind != "answered" else ""
    outcome = limits.Outcome([name, seed], outcome.kind, said, outcome.seconds)
    if outcome.kind == "refused":
        left = [path for path in (folder / "out.json", folder / "out" / "results.json") if path.exists()]
        assert not left, (name, seed, left)
    return outcome


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "fit"])
def test_commands(name: str, blobs: Path, blob_onnx: Path, tmp_path: Path) -> None:
    """Of seeds that are refused in most commands."""
    outcome = obeyed(name, blobs, blob_onnx, tmp_path / "a", 7)
    assert not limits.faults([outcome]), limits.table([outcome])


@pytest.mark.long
@pytest.mark.parametrize("name", COMMANDS)
def test_many_commands(
    name: str, blobs: Path, blob_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = [obeyed(name, blobs, blob_onnx, tmp_path / str(seed), seed) for seed in range(LONG)]
    with capsys.disabled():
        print(f"\n{name}: {limits.table(outcomes, 0)}")
    assert not limits.faults(outcomes), limits.table(outcomes)
