"""A detector in ONNX answers as in torch, decode included; where ONNX has no form of an operator, that is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from settled import SIZE, settled
from torch import Tensor

from fiducial.card import Card, DetectorSpec, Normalization
from fiducial.exporting import onnx_export
from fiducial.models.contracts import Backbone, Head, Level
from fiducial.models.detector import Detector
from fiducial.runtime import runtime
from fiducial.runtime.runtime import Runtime
from fiducial.runtime.runtimes.torch_runtime import TorchNetwork
from fiducial.types import Keypoints, Skeleton


class Pixels(Backbone):
    """The picture itself, its colours in 0..1."""

    levels = (Level(3, 1),)
    normalization = Normalization((0, 0, 0), (255, 255, 255))

    def forward(self, image: Tensor) -> list[Tensor]:
        return [image]


class Symmetric(Backbone):
    """Goes through an operator that ONNX does not have: eigenvalues."""

    levels = (Level(3, 1),)

    def forward(self, image: Tensor) -> list[Tensor]:
        return [eigenvalues(image)[..., None]]


class Means(Head):
    """One point, at the mean colours of the picture's halves."""

    def forward(self, feature: Tensor) -> Tensor:
        return feature.mean((-2, -1))

    def decode(self, raw: Tensor) -> Keypoints:
        return Keypoints(raw[:, None, :2] * 10, torch.ones_like(raw[:, :1]))


class EigenMeans(Means):
    """The same through an operator that ONNX does not have."""

    def decode(self, raw: Tensor) -> Keypoints:
        vectors = raw[:, None, :2, None]
        return Keypoints(eigenvalues(vectors)[..., -1:] * raw[:, None, :2], torch.ones_like(raw[:, :1]))


def eigenvalues(matrices: Tensor) -> Tensor:
    """Of m m^T."""
    return torch.linalg.eigvalsh(matrices @ matrices.mT)


def detector_of(backbone: Backbone, head: Head) -> Detector:
    return Detector(DetectorSpec("hand-made", "means", {}, SIZE, Skeleton("one", ("a",))), backbone, head).eval()


@pytest.mark.parametrize("method", ["heatmap", "rle"])
def test_a_file_for_one_crop_answers_as_in_torch(method: str, tmp_path: Path) -> None:
    """The form that is timed; the battery of runtimes has every method, in the form that is shipped."""
    detector = settled(method)
    in_place = [getattr(module, "inplace", None) for module in detector.modules()]
    made = onnx_export.onnx_of(detector, tmp_path / "model.onnx")
    assert [getattr(module, "inplace", None) for module in detector.modules()] == in_place, "as it was"
    assert made.part == "whole", "its decode is in the file"
    assert made.outputs[:2] == ("xy", "score")
    crop = np.random.default_rng(3).integers(0, 256, (1, SIZE.h, SIZE.w, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(str(made.path))
    assert [(given.name, given.type, given.shape) for given in session.get_inputs()] == [
        ("crops", "tensor(uint8)", list(crop.shape))
    ]
    found = dict(zip(made.outputs, session.run(None, {"crops": crop}), strict=True))
    expected = detector.predict(torch.from_numpy(crop)).numpy()
    np.testing.assert_allclose(found["xy"], expected.xy, atol=0.05)
    np.testing.assert_allclose(found["score"], expected.score, atol=1e-3)
    np.testing.assert_allclose(found["sigma"], expected.sigma, atol=0.05)
    assert made.difference_px < 0.05


def test_a_difference_from_torch_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is made of a head whose points lie 0.75 px further right than those it gives later."""
    detector = detector_of(Pixels(), Means())
    with monkeypatch.context() as patch:
        own = Means.decode
        patch.setattr(Means, "decode", lambda self, raw: Keypoints(own(self, raw).xy + 0.75, own(self, raw).score))
        made = onnx_export.export(detector, tmp_path / "model.onnx", "whole")
    crops = torch.from_numpy(onnx_export.example_crops(SIZE, 2))
    assert made.difference_px < 1e-4
    assert onnx_export.difference_px(detector, made.path, "whole", crops) == pytest.approx(0.75, abs=1e-4)


def test_a_decode_that_onnx_does_not_have_stays_outside(tmp_path: Path) -> None:
    detector = detector_of(Pixels(), EigenMeans())
    made = onnx_export.onnx_of(detector, tmp_path / "model.onnx")
    assert (made.part, made.outputs) == ("network", ("raw",))
    crop = onnx_export.example_crops(SIZE)
    (raw,) = onnxruntime.InferenceSession(str(made.path)).run(None, {"crops": crop})
    np.testing.assert_allclose(raw, crop.mean((1, 2)) / 255, atol=1e-5)
    assert made.difference_px < 1e-3


def test_a_network_that_onnx_does_not_have_is_refused_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(onnx_export.NotExportable, match=r"the network of means on hand-made .*_linalg_eigh") as caught:
        onnx_export.onnx_of(detector_of(Symmetric(), Means()), tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)


class Surer(Means):
    """Surer the further right its point lies: the score is computed from xy, which is an output too."""

    def decode(self, raw: Tensor) -> Keypoints:
        xy = raw[:, None, :2] * 10
        return Keypoints(xy, xy[..., 0].sigmoid())


def test_a_score_that_is_computed_from_the_points(tmp_path: Path) -> None:
    """With the crop in front: points on the crop and on the image have names of their own."""
    detector = detector_of(Pixels(), Surer())
    made = onnx_export.write(detector, Card(detector.spec), tmp_path, crop="inside", decode="own")
    picture = np.random.default_rng(4).integers(0, 256, (120, 150, 3), dtype=np.uint8)
    box = np.array([[20, 10, 90, 70]], np.float32)
    expected = Runtime(TorchNetwork(detector, Card(detector.spec), tmp_path))(picture, box)
    found = runtime.load(made.file).network.full(picture, box)  # type: ignore[attr-defined]
    np.testing.assert_allclose(found.xy, expected.xy, atol=1e-3)
    np.testing.assert_allclose(found.score, expected.score, atol=1e-5)


def test_a_file_says_nothing_of_the_machine_that_made_it(blob_onnx: Path) -> None:
    """The exporter's notes hold lines of code and where they lie."""
    data = blob_onnx.read_bytes()
    assert str(Path(onnx_export.__file__).parents[1]).encode() not in data
    assert b"stack_trace" not in data
