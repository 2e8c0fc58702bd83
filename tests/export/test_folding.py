"""A graph divides the first convolution's weights by the colours' deviations, and answers as before."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from fiducial.card import DetectorSpec
from fiducial.exporting import folding, onnx_export
from fiducial.geometry import Size
from fiducial.models import detector as detectors
from fiducial.types import Skeleton

DEVIATION = np.array([58.0, 57.0, 12.0], np.float32)


def graph(*, pad: bool = False, shown: bool = False, twice: bool = False) -> onnx.ModelProto:
    """(x - 100) / deviation, padding perhaps, a convolution; `shown`: the quotient is an answer, too; `twice`: the weights are
    used by another convolution."""
    kernel = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    weights = [
        numpy_helper.from_array(np.array(100, np.float32), "mean"),
        numpy_helper.from_array(DEVIATION.reshape(1, 3, 1, 1), "deviation"),
        numpy_helper.from_array(kernel, "kernel"),
        *([numpy_helper.from_array(np.array([0, 0, 1, 0, 0, 0, 1, 2]), "pads")] if pad else []),
    ]
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "deviation"], ["normal"]),
        *([helper.make_node("Pad", ["normal", "pads"], ["padded"])] if pad else []),
        helper.make_node("Conv", ["padded" if pad else "normal", "kernel"], ["y"], pads=[1, 1, 1, 1]),
        *([helper.make_node("Conv", ["x", "kernel"], ["z"])] if twice else []),
    ]
    names = ["y", *(["normal"] if shown else []), *(["z"] if twice else [])]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 9, 7])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list("nchw")) for name in names],
        weights,
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def answers(model: onnx.ModelProto) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": np.random.default_rng(1).uniform(0, 255, (1, 3, 9, 7)).astype(np.float32)})
    return [np.asarray(each) for each in found]


@pytest.mark.parametrize("pad", [False, True])
def test_the_answer_stays_and_the_division_goes(pad: bool) -> None:
    model = graph(pad=pad)
    before = answers(model)
    assert folding.scale_into_weights(model)
    assert "Div" not in {node.op_type for node in model.graph.node}
    onnx.checker.check_model(model)
    np.testing.assert_allclose(answers(model)[0], before[0], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("reason", ["shown", "twice"])
def test_what_others_need_stays(reason: str) -> None:
    model = graph(**{reason: True})
    before = answers(model)
    assert not folding.scale_into_weights(model)
    for found, expected in zip(answers(model), before, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("backbone", ["mobilenetv3_small_100", "tf_efficientnet_lite0"])
def test_exports_do_not_divide(backbone: str) -> None:
    torch.manual_seed(0)
    spec = DetectorSpec(backbone, "deeppose", {}, Size(64, 64), Skeleton("s", ("a", "b")))
    model, _ = onnx_export.traced(detectors.build(spec).eval(), "network")
    assert "normalisation/Div" not in {node.name for node in model.graph.node}
