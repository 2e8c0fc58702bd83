"""Every runtime of the folder that has exported files, with every method: it answers as torch does, crops in a batch as one
by one, carries its card, and refuses what is not its own. A new runtime is tested before its author writes a test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from settled import SIZE, SKELETON, settled
from web import browsing

from fiducial.card import Card
from fiducial.errors import UserError
from fiducial.exporting import export
from fiducial.models import catalog
from fiducial.models.detector import Detector
from fiducial.runtime import export_card, runtime
from fiducial.runtime.runtime import Family, Runtime
from fiducial.runtime.runtimes.torch_runtime import TorchNetwork

EXPORTED = [
    # litert-torch and ExecuTorch take half a minute for each network
    pytest.param(family, id=family.NAME, marks=[pytest.mark.long] if family.NAME in ("litert", "executorch") else [])
    for family in runtime.targets().values()
]
MODULES = {
    "litert": "litert_torch",
    "coreml": "coremltools",
}  # that must be there, where they are not named as the runtime
BOXES = np.array([[60.5, 40.25, 90, 120], [-30, 100, 100, 90], [200, 10, 30, 30]], np.float32)


def usual() -> Detector:
    return settled("rle", backbone="mobilenetv3_small_050")


def picture() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (240, 320, 3), dtype=np.uint8)


@pytest.fixture(scope="module", params=EXPORTED)
def family(request: pytest.FixtureRequest) -> Iterator[Family]:
    """What a runtime needs: its package, or a browser and what is fetched for pages; and a machine that can run its files."""
    if request.param.TARGET != "web":
        name = str(request.param.NAME)
        pytest.importorskip(MODULES.get(name, name))
        lacks = runtime.offered(request.param, "LACKS")
        if lacks is not None and (why := lacks()) is not None:
            pytest.skip(why)
        yield request.param
        return
    browsing.need_browser()
    with pytest.MonkeyPatch.context() as patch:
        browsing.need_ort(patch)
        yield request.param


@pytest.fixture(scope="module")
def made(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of a usual backbone in a file of the runtime."""
    detector = usual()
    card = Card(detector.spec, "CC0", metrics={"nme": 0.05}, derived_from={"data": "CC BY 4.0"})
    folder = tmp_path_factory.mktemp(family.NAME)
    return export.write(detector, card, str(family.TARGET), folder, crop="inside", decode="own").file


@pytest.mark.parametrize(
    ("method", "head"), [*((method, {}) for method in catalog.methods()), ("heatmap", {"outside": True})], ids=str
)
def test_every_method_answers_as_in_torch(family: Family, method: str, head: dict[str, Any], tmp_path: Path) -> None:
    detector = settled(method, head)
    card = Card(detector.spec)
    file = export.write(detector, card, str(family.TARGET), tmp_path, crop="inside", decode="own").file
    run = runtime.load(file, threads=1)
    assert run.network.runtime == family.NAME
    expected = Runtime(TorchNetwork(detector, card, tmp_path))(picture(), BOXES)
    answers = [run(picture(), BOXES)]
    inside = run.network.full(picture(), BOXES)  # type: ignore[attr-defined]
    for found in [*answers, *([] if inside is None else [inside])]:
        np.testing.assert_allclose(found.xy, expected.xy, atol=0.05)
        np.testing.assert_allclose(found.score, expected.score, atol=1e-3)
        np.testing.assert_allclose(found.sigma, expected.sigma, atol=0.05)
    np.testing.assert_allclose(answers[0].radius(), expected.radius(), atol=0.1)


def test_a_batch_is_each_alone_and_no_box_is_no_point(made: Path) -> None:
    run = runtime.load(made, threads=1)
    together = run(picture(), BOXES)
    expected = Runtime(TorchNetwork(usual(), run.card, made.parent))(picture(), BOXES)
    np.testing.assert_allclose(together.xy, expected.xy, atol=0.05)
    for i in range(len(BOXES)):
        np.testing.assert_allclose(run(picture(), BOXES[i : i + 1]).xy[0], together.xy[i], atol=1e-3)
    none = run(picture(), np.zeros((0, 4)))
    assert none.xy.shape == (0, 5, 2)
    assert none.score.shape == (0, 5)
    assert run(picture()).xy.shape == (1, 5, 2)


def test_the_card_travels(made: Path) -> None:
    run = runtime.load(made)
    spec = run.card.spec
    assert (spec.method, spec.size, spec.skeleton) == ("rle", SIZE, SKELETON)
    assert run.card.terms == "CC0; derived from data (CC BY 4.0)"
    assert run.card.metrics == {"nme": 0.05}
    assert run.network.export.outputs == ("xy", "score", "sigma")  # type: ignore[attr-defined]


def test_a_mirrored_test_is_refused(made: Path) -> None:
    with pytest.raises(UserError, match="--flip-test needs the run folder"):
        runtime.load(made, flip_test=True)


@pytest.mark.parametrize("change", ["altered", "newer", "no JSON", "missing", "another runtime's"])
def test_a_strange_block_of_metadata_is_refused(change: str) -> None:
    detector = settled("deeppose")
    block = export_card.to_metadata(export_card.ExportCard(Card(detector.spec), "onnxruntime", ("xy", "score")))
    assert export_card.of_metadata(block, Path("f.onnx"), "onnxruntime").card.spec == detector.spec
    values = json.loads(block["fiducial"])
    words = {
        "altered": "were altered",
        "newer": "export version 99",
        "no JSON": "are no JSON",
        "missing": "not exported by",
        "another runtime's": "those of a file of onnxruntime, not of ncnn",
    }
    changed: dict[str, dict[str, Any]] = {
        "altered": {**block, "fiducial": block["fiducial"].replace("deeppose", "heatmap")},
        "newer": {**block, "fiducial": json.dumps({**values, "export_version": 99})},
        "no JSON": {**block, "fiducial": block["fiducial"][:-5]},
        "missing": {"other": "text"},
        "another runtime's": block,
    }
    runtime_name = "ncnn" if change == "another runtime's" else "onnxruntime"
    with pytest.raises(UserError, match=words[change]):
        export_card.of_metadata(changed[change], Path("f.onnx"), runtime_name)


def test_files_cut_short_or_of_others_are_refused_in_a_line(made: Path, tmp_path: Path) -> None:
    for file in made.parent.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()[: -(file.stat().st_size // 3)])
    with pytest.raises(UserError) as caught:
        runtime.load(tmp_path / made.name)
    assert "\n" not in str(caught.value)
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / made.name).write_bytes(b"something else")
    with pytest.raises(UserError) as caught:
        runtime.load(alone / made.name)
    assert "\n" not in str(caught.value)
