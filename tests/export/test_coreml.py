"""Core ML's packages: what they hold, by a reading of our own (`mil.py`), and how their certificate is finished on a Mac."""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from settled import SIZE, settled

from fiducial.card import Card
from fiducial.errors import UserError
from fiducial.exporting import certificate, coreml_export, export, mac_certificate, onnx_export
from fiducial.exporting.phone_parts import Points, Raw
from fiducial.models import catalog
from fiducial.models import detector as detectors
from fiducial.runtime import runtime
from fiducial.runtime.export_card import ExportCard
from fiducial.runtime.runtime import Runtime
from fiducial.runtime.runtimes import coreml_runtime
from fiducial.runtime.runtimes.torch_runtime import TorchNetwork

ELSEWHERE = "Core ML runs on macOS and iOS alone"


@pytest.fixture
def no_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coreml_runtime, "lacks", lambda: ELSEWHERE)


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("version", [None, "8.3", "10.0"])
def test_a_converter_that_is_missing_or_of_another_version_is_named_with_the_pip_line(
    version: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(name: str) -> str:
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(coreml_export.metadata, "version", told)
    detector = settled("deeppose")
    with pytest.raises(UserError) as caught:
        export.write(detector, Card(detector.spec), "coreml", tmp_path, crop="inside", decode="own")
    assert "pip install 'fiducial[coreml]'" in str(caught.value)
    assert ("not installed" if version is None else f"coremltools {version}: expected 9.x") in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_package_is_known_by_its_folder_and_refused_where_it_can_not_run(tmp_path: Path, no_mac: None) -> None:
    package = some_package(tmp_path)
    assert runtime.family_of(package).NAME == "coreml"
    assert runtime.resolved(tmp_path) == package
    assert runtime.is_exported(package)
    assert [file.name for file in runtime.files_of(package)] == ["model.mlmodel", "Manifest.json"]
    with pytest.raises(UserError, match=f"{ELSEWHERE}.*--to onnx"):
        runtime.opened(package)


# ----------------------------------------------------------------------------------- certificates, and their end


def some_package(folder: Path) -> Path:
    """A folder that stands for a package."""
    package = folder / "model.mlpackage"
    (package / "Data").mkdir(parents=True)
    (package / "Manifest.json").write_text("{}")
    (package / "Data" / "model.mlmodel").write_bytes(bytes(100))
    return package


@pytest.fixture
def unfinished(tmp_path: Path, no_mac: None) -> Path:
    """The folder of an export on another system: a package, with a certificate that was not run."""
    detector = settled("rle")
    card = Card(detector.spec)
    package = some_package(tmp_path)
    made = ExportCard(card, "coreml", ("xy", "score", "sigma"), "outside")
    proof = certificate.certify(Runtime(TorchNetwork(detector, card, tmp_path)), package, made, None)
    assert proof.not_run is not None
    assert proof.not_run.startswith(f"{ELSEWHERE}; copy the folder to a Mac")
    assert (proof.max_px, proof.bytes) == (None, 102)
    (tmp_path / "model.certificate.json").write_text(json.dumps(vars(proof)))
    return tmp_path


def on_a_mac(monkeypatch: pytest.MonkeyPatch, off_px: float = 0.0) -> None:
    """A Mac whose Core ML is torch, or off by so much in x on one crop of each case."""
    detector = settled("rle")

    class Model:
        def __init__(self, path: str, compute_units: str) -> None:
            assert Path(path).is_dir()
            assert compute_units == "cpu"

        def predict(self, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            assert given["crops"].dtype == np.float32
            found = detector.predict(torch.from_numpy(given["crops"].astype(np.uint8))).numpy()
            xy = found.xy.copy()
            xy[0, 0, 0] += off_px
            return {"xy": xy, "score": found.score, "sigma": found.sigma}

    package = SimpleNamespace(
        models=SimpleNamespace(MLModel=Model), ComputeUnit=SimpleNamespace(CPU_ONLY="cpu"), __version__="9.0"
    )
    monkeypatch.setitem(sys.modules, "coremltools", package)
    monkeypatch.setattr(mac_certificate.sys, "platform", "darwin")
    monkeypatch.setattr(mac_certificate.metadata, "version", lambda name: "9.0")


def test_the_script_finishes_the_certificate(
    unfinished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = json.loads((unfinished / "model.certificate.json").read_text())
    script = (unfinished / "model.certify.py").read_text()
    assert "import fiducial" not in script
    assert "from fiducial" not in script
    on_a_mac(monkeypatch)
    assert mac_certificate.main(unfinished) == 0
    after = json.loads((unfinished / "model.certificate.json").read_text())
    assert after.keys() == before.keys()
    assert after["not_run"] is None
    assert after["max_px"] < 0.05
    assert after["max_sigma"] < 0.05
    assert [case["case"] for case in after["cases"]][:2] == ["real", "whole picture"]
    assert after["cases"][0]["instances"] == 40
    assert sum(case["instances"] for case in after["cases"]) > 100
    assert after["runtime_version"].startswith("coremltools 9.0, macOS")
    assert "certified" in capsys.readouterr().out


def test_points_that_are_off_are_not_certified(unfinished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By half a px of the crop, which is more px of pictures that are larger than it: known from their sizes."""
    before = (unfinished / "model.certificate.json").read_bytes()
    on_a_mac(monkeypatch, off_px=0.5)
    assert mac_certificate.main(unfinished) == 1
    assert (unfinished / "model.certificate.json").read_bytes() == before
    recorded = dict(np.load(unfinished / "model.recorded.npz"))
    found = mac_certificate.compared(recorded, mac_certificate.package(unfinished / "model.mlpackage"))
    largest = {case["case"]: case["max_px"] for case in found["cases"]}
    huge = max(4000 / side for side in SIZE)  # the picture's longer side over the crop's, without its padding
    assert largest["huge picture"] == pytest.approx(0.5 * float(recorded["picture_px"][recorded["case"] == 10].max()))
    assert 0.4 * huge < largest["huge picture"] < huge


def test_what_the_script_lacks_is_said(
    unfinished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mac_certificate.sys, "platform", "linux")
    assert mac_certificate.main(unfinished) == 1
    assert capsys.readouterr().err == "Core ML runs on macOS alone; run this script there\n"
    monkeypatch.setattr(mac_certificate.sys, "platform", "darwin")
    monkeypatch.setitem(sys.modules, "coremltools", None)
    assert mac_certificate.main(unfinished) == 1
    assert "pip install 'coremltools==9.0'" in capsys.readouterr().err
    (unfinished / "model.recorded.npz").unlink()
    assert mac_certificate.main(unfinished) == 1
    assert "model.recorded.npz" in capsys.readouterr().err
    assert mac_certificate.main(unfinished / "nothing") == 1
    assert "no .mlpackage here" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------- what packages hold


@pytest.mark.parametrize(
    "method", [pytest.param(name, marks=[] if name == "heatmap" else pytest.mark.long) for name in catalog.methods()]
)
def test_both_functions_say_what_the_detector_does(method: str, tmp_path: Path) -> None:
    """By our own reading of the program, since this machine may have no Core ML."""
    pytest.importorskip("coremltools", reason="pip install 'fiducial[coreml]'")
    from export import mil

    detector = settled(method)
    card = Card(detector.spec, metrics={"nme": 0.05})
    made = export.write(detector, card, "coreml", tmp_path, crop="inside", decode="own")
    assert [file.name for file in tmp_path.iterdir()] == ["model.mlpackage"]
    read = coreml_runtime.card_of(made.file)
    assert (read.card, read.outputs) == (card, made.card.outputs)
    crops = onnx_export.example_crops(SIZE).astype(np.float32)
    for function, part in (("points", Points(detector)), ("network", Raw(detector))):
        with torch.no_grad():
            expected = part(torch.from_numpy(crops))
        found: dict[str, Any] = mil.answers(made.file, function, crops)
        assert list(found) == list(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value.numpy(), atol=0.01, rtol=1e-3, err_msg=f"{function} {name}")
    weights = sum(parameter.numel() for parameter in detector.parameters()) * 4
    assert sum(file.stat().st_size for file in runtime.files_of(made.file)) < 1.6 * weights + 200_000


def test_matmul_is_refused_where_the_decode_picks_cells(tmp_path: Path) -> None:
    pytest.importorskip("coremltools", reason="pip install 'fiducial[coreml]'")
    detector = settled("rounding")
    with pytest.raises(UserError, match="--decode matmul: the file of rounding needs topk"):
        export.write(detector, Card(detector.spec), "coreml", tmp_path, crop="inside", decode="matmul")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_mac")
def test_an_export_says_that_it_was_not_run(blob_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("coremltools", reason="pip install 'fiducial[coreml]'")
    file, proof = export.export_model(blob_model, "coreml", tmp_path / "out")
    assert proof.not_run is not None
    names = {"model.mlpackage", "model.certificate.json", "model.recorded.npz", "model.certify.py"}
    assert {path.name for path in file.parent.iterdir()} == names
    assert coreml_runtime.card_of(file).card.spec == detectors.load(blob_model)[0].spec


def test_a_package_replaces_an_earlier_one(tmp_path: Path) -> None:
    """It is a folder, of which nothing old may stay."""
    out, new = tmp_path / "out", tmp_path / "new"
    (some_package(out) / "Data" / "old.bin").write_bytes(b"old")
    some_package(new)
    export.move(new, out)
    package = out / "model.mlpackage"
    assert [file.name for file in runtime.files_of(package)] == ["model.mlmodel", "Manifest.json"]
    assert list(new.iterdir()) == []
