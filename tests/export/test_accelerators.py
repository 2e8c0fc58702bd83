"""What exported graphs ask of accelerators, against the lists of their makers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from fiducial.card import Card, DetectorSpec
from fiducial.exporting import accelerators, onnx_export
from fiducial.geometry import Size
from fiducial.models import detector as detectors
from fiducial.models.detector import Detector
from fiducial.types import Skeleton

# Method, its settings, and what RKNN's list lacks of its own decode; the other two lists have everything.
OWN: list[tuple[str, dict[str, Any], list[str]]] = [
    ("deeppose", {}, []),
    ("rle", {}, []),
    ("heatmap", {}, []),
    ("heatmap", {"margin": 0.5}, []),
    ("heatmap", {"loss": "mse"}, ["Neg"]),
    ("integral", {}, []),
    ("simcc", {}, []),
    ("simcc", {"network": "rtmcc"}, ["ReduceL2"]),
    ("rounding", {}, ["TopK"]),
]


def detector_of(method: str, settings: dict[str, Any], backbone: str = "test_efficientnet") -> Detector:
    torch.manual_seed(0)
    spec = DetectorSpec(backbone, method, settings, Size(64, 64), Skeleton("s", ("a", "b", "c")))
    return detectors.build(spec).eval()


def operators(model: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in model.graph.node}


@pytest.mark.parametrize(("method", "settings", "rknn"), OWN, ids=str)
def test_each_method_asks_for_what_is_listed(method: str, settings: dict[str, Any], rknn: list[str]) -> None:
    detector = detector_of(method, settings)
    model = onnx_export.model_of(detector, Card(detector.spec), crop="outside")
    expected = {"TensorRT 8.5": [], "RKNN Toolkit 2.1": rknn, "OpenVINO GPU": []}
    assert accelerators.not_listed(operators(model)) == expected
    # Nothing in the graph branches on data, and no other domain than ONNX's own is needed.
    assert {each.domain for each in model.opset_import} == {""}


@pytest.mark.parametrize(("method", "backbone"), [("heatmap", "mobilenetv3_small_100"), ("simcc", "resnet18")])
def test_products_alone_on_other_backbones(method: str, backbone: str) -> None:
    detector = detector_of(method, {}, backbone)
    model = onnx_export.model_of(detector, Card(detector.spec), crop="outside", decode="matmul")
    assert accelerators.note(operators(model)) is None
    assert not operators(model) & onnx_export.NOT_DELEGATED


def test_the_crop_in_the_file_is_not_for_accelerators(tmp_path: Path) -> None:
    """Branches and loops are what RKNN's list lacks; a file with its crop inside says nothing, as it is for the CPU."""
    detector = detector_of("rounding", {})
    inside = onnx_export.write(detector, Card(detector.spec), tmp_path, crop="inside", decode="own")
    assert "If" in (accelerators.not_listed(operators(onnx.load(inside.file)))["RKNN Toolkit 2.1"])
    assert inside.notes == ()
    outside = onnx_export.write(detector, Card(detector.spec), tmp_path, crop="outside", decode="own")
    assert [note for note in outside.notes if "RKNN Toolkit 2.1 does not list TopK" in note]


def test_lists_name_operators_that_onnx_has() -> None:
    known = {schema.name for schema in onnx.defs.get_all_schemas()}
    for name, listed in accelerators.LISTED.items():
        assert listed - known <= {"Mish"}, name


def test_openvino_turns_them_into_what_its_gpu_page_lists() -> None:
    """The graph as OpenVINO's own converter reads it: operations that run on each of its devices' lists."""
    openvino = pytest.importorskip("openvino")
    listed = {
        *(
            "Abs",
            "Add",
            "Broadcast",
            "Clamp",
            "Concat",
            "Constant",
            "Convert",
            "Convolution",
            "Divide",
            "Floor",
            "Gather",
        ),
        *(
            "GroupConvolution",
            "HSwish",
            "HardSigmoid",
            "Interpolate",
            "MatMul",
            "Maximum",
            "Minimum",
            "Multiply",
            "Parameter",
        ),
        *(
            "Power",
            "ReduceMean",
            "ReduceSum",
            "Relu",
            "Reshape",
            "Result",
            "ShapeOf",
            "Sigmoid",
            "Slice",
            "Softmax",
            "Split",
        ),
        *("Squeeze", "Subtract", "Transpose", "Unsqueeze", "VariadicSplit"),
    }
    for method in ("rle", "heatmap"):
        detector = detector_of(method, {})
        model = onnx_export.model_of(detector, Card(detector.spec), crop="outside", decode="matmul")
        core = openvino.Core()
        read = core.read_model(model.SerializeToString())
        found = {operation.get_type_name() for operation in read.get_ops()}
        assert found <= listed, (method, found - listed)
        # Static, as NPUs want it, it still gives the points.
        read.reshape([1, 64, 64, 3])
        crops = onnx_export.example_crops(Size(64, 64))
        xy = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([crops])[0]
        with torch.no_grad():
            np.testing.assert_allclose(xy, detector.predict(torch.from_numpy(crops)).xy, atol=0.02)
