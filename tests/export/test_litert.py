"""LiteRT's and ExecuTorch's files: what is refused, with or without its packages. What they answer is tested for every runtime in
`battery/test_runtimes.py`."""

from __future__ import annotations

import importlib.util
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from settled import SIZE, settled
from torch import nn

from fiducial import trial
from fiducial.card import Card
from fiducial.errors import UserError
from fiducial.exporting import export, litert_export, litert_names, onnx_export
from fiducial.exporting.int8 import layers
from fiducial.exporting.phone_parts import Raw
from fiducial.runtime import card_behind, runtime
from fiducial.runtime.export_card import ExportCard
from fiducial.runtime.runtimes import executorch_runtime, litert_runtime


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Bytes that stand for a network, with a card behind them."""
    path = tmp_path / "model.tflite"
    path.write_bytes(b"\x18\x00\x00\x00TFL3" + bytes(500))
    card = ExportCard(Card(settled("deeppose").spec), litert_runtime.NAME, ("xy", "score"), "outside")
    card_behind.append(path, card)
    return path


def test_a_file_with_our_card_is_known_and_others_are_left_to_the_other_runtime(file: Path, tmp_path: Path) -> None:
    assert runtime.family_of(file).NAME == "litert"
    assert runtime.resolved(tmp_path) == file
    other = tmp_path / "others" / "net.tflite"
    other.parent.mkdir()
    other.write_bytes(file.read_bytes()[:508])
    assert runtime.family_of(other).NAME == "tflite"


def test_a_network_that_was_altered_is_refused_before_its_library_sees_it(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[100] = 1
    file.write_bytes(bytes(data))
    with pytest.raises(UserError, match="altered after the export"):
        runtime.opened(file)


def test_a_file_that_lacks_its_end_is_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(UserError) as caught:
        runtime.opened(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", [None, "0.9.0", "0.11.1"])
def test_a_converter_that_is_missing_or_of_another_version_is_named_with_the_pip_line(
    version: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(name: str) -> str:
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(litert_export.metadata, "version", told)
    detector = settled("deeppose")
    with pytest.raises(UserError) as caught:
        export.write(detector, Card(detector.spec), "litert", tmp_path, crop="inside", decode="own")
    text = str(caught.value)
    assert litert_export.INSTALL in text
    assert ("not installed" if version is None else f"litert-torch {version}: expected 0.10") in text
    assert list(tmp_path.iterdir()) == []


def test_a_program_of_executorch_is_checked_before_its_library_sees_it(tmp_path: Path) -> None:
    path = tmp_path / "model.pte"
    path.write_bytes(bytes(500))
    with pytest.raises(UserError, match="no card that can be read"):
        runtime.opened(path)
    spec = settled("deeppose").spec
    card_behind.append(path, ExportCard(Card(spec), "executorch", ("xy", "score"), "outside"))
    data = bytearray(path.read_bytes())
    data[100] = 1
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match="altered after the export"):
        runtime.opened(path)


@pytest.mark.skipif(importlib.util.find_spec("executorch") is not None, reason="ExecuTorch is installed")
def test_executorch_that_is_missing_is_named_with_the_pip_line(tmp_path: Path) -> None:
    detector = settled("deeppose")
    with pytest.raises(UserError, match=r"pip install 'executorch==1\.5\.1'"):
        export.write(detector, Card(detector.spec), "executorch", tmp_path, crop="inside", decode="own")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long  # half a minute
def test_a_file_has_two_signatures_that_share_their_weights(tmp_path: Path) -> None:
    pytest.importorskip("litert_torch", reason=litert_export.INSTALL)
    detector = settled("heatmap")
    made = export.write(detector, Card(detector.spec), "litert", tmp_path, crop="inside", decode="matmul")
    interpreter = litert_runtime.library().Interpreter(str(made.file))
    signatures = interpreter.get_signature_list()
    assert signatures["points"] == {"inputs": ["crops"], "outputs": sorted(made.card.outputs)}
    assert signatures["network"]["inputs"] == ["crops"]
    weights = sum(parameter.numel() for parameter in detector.parameters()) * 4
    assert made.file.stat().st_size < 1.6 * weights
    operators = litert_names.operators_of(made.file.read_bytes())
    kinds = {operator.kind for operator in operators}
    assert kinds & litert_export.NOT_DELEGATED == set()
    assert "CONV_2D" in kinds
    modules = dict(detector.named_modules())
    for signature in ("points", "network"):
        weighted = [
            each.name for each in operators if each.kind in litert_names.WEIGHTED and each.signature == signature
        ]
        found = [modules[str(layers.module_of(name))] for name in weighted]
        assert all(isinstance(module, (nn.Conv2d, nn.Linear, nn.ConvTranspose2d)) for module in found)
        assert len({id(module) for module in found}) == len(found)


@pytest.mark.long  # half a minute
def test_a_program_has_two_methods_that_share_their_weights(tmp_path: Path) -> None:
    pytest.importorskip("executorch", reason=executorch_runtime.INSTALL)
    detector = settled("rle")
    made = export.write(detector, Card(detector.spec), "executorch", tmp_path, crop="inside", decode="own")
    program = executorch_runtime.library().Runtime.get().load_program(str(made.file))
    assert program.method_names == {"forward", "network"}
    crops = torch.from_numpy(onnx_export.example_crops(SIZE)).float()
    with torch.no_grad():
        expected = Raw(detector)(crops)
    for found, value in zip(program.load_method("network").execute([crops]), expected.values(), strict=True):
        torch.testing.assert_close(found, value, atol=1e-4, rtol=1e-4)
    weights = sum(parameter.numel() for parameter in detector.parameters()) * 4
    assert made.file.stat().st_size < 1.6 * weights + 100_000


@pytest.mark.long  # a minute
def test_maps_in_int8_are_converted(tmp_path: Path) -> None:
    """ExecuTorch 1.5 can't where the layer that gives them is rounded, too."""
    pytest.importorskip("executorch", reason=executorch_runtime.INSTALL)
    detector = settled("heatmap")
    crops = onnx_export.example_crops(SIZE, 4)
    quantizer = runtime.offered(runtime.targets()["executorch"], "INT8")(detector, Card(detector.spec), crops)
    assert "head.final" not in quantizer.groups
    for precision in ("fp32", "int8"):
        (tmp_path / precision).mkdir()
    plain = quantizer.write("fp32", tmp_path / "fp32")
    rounded = quantizer.write("int8", tmp_path / "int8", quantizer.groups)
    assert rounded.file.stat().st_size < plain.file.stat().st_size
    found = [runtime.opened(made.file).network.predict(crops).xy for made in (plain, rounded)]
    assert 0 < np.abs(found[0] - found[1]).mean() < 0.05 * max(SIZE)


def test_what_a_library_takes_to_start_is_allowed_in_a_trial(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ExecuTorch brings torch: with a trial's 4 s alone its files were taken for too slow ones on a busy machine."""
    asked = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(file.parent / "cache"))
    monkeypatch.setattr(runtime, "_is_safe", lambda path: False)
    monkeypatch.setattr(trial.worker, "call", lambda *_, limits, **__: asked.append(limits.cpu_seconds))
    monkeypatch.setattr(runtime, "opened", lambda *_, **__: None)
    runtime.load(file)
    monkeypatch.setattr(litert_runtime, "START_SECONDS", 20, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(file.parent / "another"))
    runtime.load(file)
    assert asked == [4, 24]
    assert executorch_runtime.START_SECONDS > 4
