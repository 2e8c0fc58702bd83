"""`fiducial export --to ncnn`, beyond the battery of runtimes: settings that are no defaults, what is written, damaged and
missing files, and networks that ncnn does not have."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heard import heard
from settled import SIZE, settled
from torch import Tensor

from fiducial.card import Card, DetectorSpec
from fiducial.errors import UserError
from fiducial.exporting import export, ncnn_export, onnx_export
from fiducial.models import detector as detectors
from fiducial.models.contracts import Backbone, Head, Level
from fiducial.models.detector import Detector
from fiducial.runtime import runtime
from fiducial.runtime.runtimes import ncnn_runtime
from fiducial.types import Keypoints, Skeleton

pytest.importorskip("ncnn")
pytest.importorskip("pnnx")

FILES = ["model.decode.onnx", "model.ncnn.bin", "model.ncnn.json", "model.ncnn.param"]
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "deconvolution": ("heatmap", {"upsampling": "deconvolution", "kernel": 3, "align": "stride", "channels": 32}),
    "maps and scales": ("integral", {"loss": "rle", "debias": "background"}),
    "a map for yes, one for no": ("rounding", {"two_class": True}),
    "attention": ("simcc", {"network": "rtmcc", "hidden": 32}),
}


def crops(count: int) -> Tensor:
    return torch.from_numpy(onnx_export.example_crops(SIZE, count))


@pytest.fixture(scope="module")
def shipped(blob_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`blob_model` for ncnn."""
    folder = tmp_path_factory.mktemp("ncnn")
    return ncnn_export.write(*detectors.load(blob_model), folder).file


@pytest.fixture
def copied(shipped: Path, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    for file in shipped.parent.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path / shipped.name


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_answer_as_in_torch(setting: str, tmp_path: Path) -> None:
    """In float32: half precision, which ncnn takes where it can unless told otherwise, does not pass here."""
    detector = settled(*SETTINGS[setting])
    made = ncnn_export.write(detector, Card(detector.spec), tmp_path)
    found = runtime.load(made.file, threads=1).network.predict(crops(4).numpy())
    expected = detector.predict(crops(4)).numpy()
    assert np.ptp(expected.xy, axis=0).max() > 1, "the points depend on the picture"
    np.testing.assert_allclose(found.xy, expected.xy, atol=5e-3)
    np.testing.assert_allclose(found.score, expected.score, atol=1e-4)
    assert (found.sigma is None) == (expected.sigma is None)
    if expected.sigma is not None:
        np.testing.assert_allclose(found.sigma, expected.sigma, atol=5e-3)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_operators_put_in_place_of_others_are_their_equals() -> None:
    """To the bit; what pnnx does not have is in the network, and is gone."""
    detector = settled(*SETTINGS["attention"])
    planes = torch.randn(1, 3, SIZE.h, SIZE.w, generator=torch.Generator().manual_seed(1))
    plain: Any = torch.jit.trace(ncnn_export.Network(detector).eval(), (planes,), check_trace=False)
    made = ncnn_export.traced(detector)
    assert {"aten::mT", "aten::clamp_min"} <= operators(plain)
    assert not {"aten::mT", "aten::clamp_min"} & operators(made)
    with torch.no_grad():
        for found, expected in zip(made(planes), plain(planes), strict=True):
            assert torch.equal(found, expected)


def operators(traced: Any) -> set[str]:
    return {node.kind() for node in traced.inlined_graph.nodes()}


def test_what_is_written(shipped: Path, copied: Path) -> None:
    """Four files and nothing of pnnx's own; digests of all that ncnn and ONNX Runtime read."""
    assert sorted(path.name for path in shipped.parent.iterdir()) == FILES
    block = json.loads((shipped.parent / "model.ncnn.json").read_text())
    assert sorted(block["files"]) == [name for name in FILES if name != "model.ncnn.json"]
    card = runtime.load(shipped).network.export  # type: ignore[attr-defined]
    assert (card.runtime, card.crop, card.precision, card.outputs) == ("ncnn", "outside", "fp32", ("xy", "score"))
    for file in copied.parent.iterdir():  # all renamed alike are still a model
        file.rename(file.with_name(file.name.replace("model", "face")))
    picture = np.random.default_rng(2).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    renamed = runtime.load(copied.with_name("face.ncnn.param"))(picture)
    np.testing.assert_array_equal(renamed.xy, runtime.load(shipped)(picture).xy)


def test_the_certificate_says_who_runs_what(blob_model: Path, blobs: Path, tmp_path: Path) -> None:
    with heard() as lines:
        file, proof = export.export_model(blob_model, "ncnn", tmp_path / "out", data=blobs)
    assert sorted(path.name for path in file.parent.iterdir()) == sorted([*FILES, "model.certificate.json"])
    assert (proof.runtime, proof.crop, proof.without_torch) == ("ncnn", "outside", True)
    assert proof.max_px is not None
    assert proof.max_px < 0.05
    assert proof.notes == (ncnn_export.NOTE,)
    assert ncnn_export.NOTE in lines
    assert proof.bytes > sum(path.stat().st_size for path in file.parent.iterdir() if path.suffix in (".bin", ".onnx"))


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def to_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "one bit": (flip_a_byte, "was cut short or altered after the export"),
    "cut short": (lambda file: file.write_bytes(file.read_bytes()[:-1]), "was cut short or altered"),
    "empty": (lambda file: file.write_bytes(b""), "was cut short or altered"),
    "missing": (Path.unlink, "is not beside it; copy all files of the export"),
    "a folder": (to_folder, "is not beside it; copy all files of the export"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [name for name in FILES if name != "model.ncnn.json"])
def test_damaged_files_are_refused_before_ncnn_reads_them(name: str, damage: str, copied: Path) -> None:
    change, words = DAMAGES[damage]
    if name == copied.name:
        words = {"missing": "no such file or folder", "a folder": "is a folder, expected a file"}.get(damage, words)
    change(copied.with_name(name))
    with pytest.raises(UserError, match=words) as caught:
        runtime.load(copied)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("digests", [None, [], {}, {"model.ncnn.param": 3}])
def test_digests_that_are_none(digests: Any, copied: Path) -> None:
    about = copied.with_name("model.ncnn.json")
    about.write_text(json.dumps({**json.loads(about.read_text()), "files": digests}))
    with pytest.raises(UserError, match="its digest differs"):
        runtime.load(copied)


def test_the_parts_of_two_exports_do_not_mix(copied: Path, tmp_path: Path) -> None:
    detector = settled("deeppose", {})
    (tmp_path / "other").mkdir()
    ncnn_export.write(detector, Card(detector.spec), tmp_path / "other")
    copied.with_name("model.ncnn.bin").write_bytes((tmp_path / "other" / "model.ncnn.bin").read_bytes())
    with pytest.raises(UserError, match=r"model\.ncnn\.bin: was cut short or altered"):
        runtime.load(copied)


def test_foreign_files(tmp_path: Path) -> None:
    (tmp_path / "yolo.param").write_text("7767517\n1 1\nInput in0 0 1 in0\n")
    with pytest.raises(UserError, match=r"not exported by Fiducial \(no yolo\.ncnn\.json beside it\)"):
        runtime.load(tmp_path / "yolo.param")
    (tmp_path / "yolo.ncnn.json").write_text("[1, 2]")
    with pytest.raises(UserError, match="not exported by Fiducial"):
        runtime.load(tmp_path / "yolo.param")


def test_ncnn_is_asked_in_a_process_that_may_crash(copied: Path) -> None:
    weights = copied.with_name("model.ncnn.bin")
    assert ncnn_runtime.loads_in_a_process_of_its_own(copied, weights)[0]
    copied.write_text(copied.read_text().replace("Convolution ", "Convolutoin ", 1))
    loads, said = ncnn_runtime.loads_in_a_process_of_its_own(copied, weights)
    assert not loads
    assert "Convolutoin" in said


class Symmetric(Backbone):
    """Goes through an operator that pnnx does not have: eigenvalues."""

    levels = (Level(3, 1),)

    def forward(self, image: Tensor) -> list[Tensor]:
        return [torch.linalg.eigvalsh(image @ image.mT)[..., None]]


class EveryFourth(Backbone):
    """Goes through an operator that pnnx passes on and ncnn does not have: slices with a step."""

    levels = (Level(3, 4),)

    def forward(self, image: Tensor) -> list[Tensor]:
        return [image[..., ::4, ::4]]


class Means(Head):
    """One point, at the mean colours."""

    def forward(self, feature: Tensor) -> Tensor:
        return feature.mean((-2, -1))

    def decode(self, raw: Tensor) -> Keypoints:
        return Keypoints(raw[:, None, :2], torch.ones_like(raw[:, :1]))


@pytest.mark.parametrize(
    ("backbone", "words"),
    [
        (Symmetric, "pnnx can't convert it: exit code .*eigvalsh"),
        (EveryFourth, "ncnn can't load what pnnx made of it: "),
    ],
)
def test_a_network_that_ncnn_does_not_have_is_refused_in_a_line(
    backbone: type[Backbone], words: str, tmp_path: Path
) -> None:
    spec = DetectorSpec("hand-made", "means", {}, SIZE, Skeleton("one", ("a",)))
    detector = Detector(spec, backbone(), Means()).eval()
    with pytest.raises(
        onnx_export.NotExportable, match=rf"^means on hand-made: {words}.*Use onnx or openvino$"
    ) as caught:
        ncnn_export.write(detector, Card(spec), tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_missing_packages_name_their_extra(
    blob_model: Path, shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "ncnn", None)
        with pytest.raises(UserError, match=r"^ncnn is not installed: pip install 'fiducial\[ncnn\]'$"):
            runtime.load(shipped)
        with pytest.raises(UserError, match=r"^ncnn is not installed: pip install 'fiducial\[ncnn\]'$"):
            ncnn_export.write(*detectors.load(blob_model), tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"^pnnx is not installed: pip install 'fiducial\[ncnn\]'$"):
        ncnn_export.write(*detectors.load(blob_model), tmp_path)
    assert list(tmp_path.iterdir()) == []
