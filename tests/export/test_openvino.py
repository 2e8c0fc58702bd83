"""What the battery of runtimes does not ask of OpenVINO: precisions, names, and files that are not whole or not ours."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from fiducial.errors import UserError
from fiducial.exporting import openvino_export
from fiducial.exporting.int8 import layers
from fiducial.models import detector as detectors
from fiducial.runtime import runtime
from fiducial.runtime.export_card import Made

openvino = pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def made(blob_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return openvino_export.write(*detectors.load(blob_model), tmp_path_factory.mktemp("openvino"))


def hint(file: Path) -> str:
    """What a loaded file is computed in."""
    return (
        runtime.load(file, threads=1)
        .network.compiled.get_property(  # type: ignore[attr-defined]
            "INFERENCE_PRECISION_HINT"
        )
        .to_string()
    )


def test_fp32_is_computed_so_and_weights_are_kept_so(made: Made, blob_model: Path) -> None:
    """OpenVINO's own choice is bf16 where the CPU has it, and half precision when it saves."""
    assert hint(made.file) == "f32"
    weights = detectors.load(blob_model)[0].state_dict()
    learnt = sum(each.numel() for name, each in weights.items() if name.endswith((".weight", ".bias")))
    kept = {
        each.get_element_type().to_string()
        for each in openvino.Core().read_model(made.file).get_ops()
        if each.get_type_name() == "Constant" and "weight" in each.friendly_name
    }
    assert kept == {"f32"}
    assert made.file.with_suffix(".bin").stat().st_size > 0.9 * 4 * learnt


def test_bf16_is_the_same_weights_computed_otherwise(made: Made, blob_model: Path, tmp_path: Path) -> None:
    other = openvino_export.write(*detectors.load(blob_model), tmp_path, precision="bf16")
    assert other.file.with_suffix(".bin").read_bytes() == made.file.with_suffix(".bin").read_bytes()
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has no bf16")
    assert hint(other.file) == "bf16"
    crops = np.random.default_rng(0).integers(0, 256, (4, 48, 64, 3), dtype=np.uint8)
    off = np.abs(runtime.load(other.file).network.predict(crops).xy - runtime.load(made.file).network.predict(crops).xy)
    assert 0 < off.max() < 1


def test_operators_bear_the_names_of_their_modules(made: Made, blob_model: Path) -> None:
    """Those, too, that one operator of ONNX became several of."""
    modules = dict(detectors.load(blob_model)[0].named_modules())
    operators = [
        each
        for each in openvino.Core().read_model(made.file).get_ops()
        if each.get_type_name() not in ("Constant", "Parameter", "Result")
    ]
    assert all("/" in each.friendly_name for each in operators)
    weighted = [each for each in operators if "Convolution" in each.get_type_name()]
    assert len(weighted) > 10
    assert all(layers.module_of(each.friendly_name) in modules for each in weighted)


def test_what_is_not_ours_or_not_whole_is_refused(made: Made, tmp_path: Path) -> None:
    def copy(name: str) -> Path:
        (tmp_path / name).mkdir()
        return Path(shutil.copytree(made.file.parent, tmp_path / name, dirs_exist_ok=True)) / made.file.name

    alone = copy("alone")
    alone.with_suffix(".bin").unlink()
    with pytest.raises(UserError, match=r"its weights model.bin are not beside it"):
        runtime.load(alone)
    altered = copy("altered")
    altered.write_text(altered.read_text().replace("deeppose", "heatmap"))
    with pytest.raises(UserError, match="altered after the export"):
        runtime.load(altered)
    foreign = tmp_path / "foreign.xml"
    given = openvino.opset13.parameter([1, 48, 64, 3], np.uint8)
    openvino.save_model(openvino.Model([openvino.opset13.abs(given)], [given]), foreign)
    with pytest.raises(UserError, match="not exported by Fiducial"):
        runtime.load(foreign)


def test_where_it_is_missing_the_command_that_installs_it_is_said(
    made: Made, blob_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match=r"pip install 'fiducial\[openvino\]'"):
        runtime.load(made.file)
    with pytest.raises(UserError, match=r"pip install 'fiducial\[openvino\]'"):
        openvino_export.write(*detectors.load(blob_model), tmp_path)
