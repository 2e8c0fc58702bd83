"""The three files of a page are the one file, and what may run on a GPU computes floats alone."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, shape_inference
from settled import settled

from fiducial.card import Card
from fiducial.exporting import onnx_export, web_split
from fiducial.models import catalog


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def answers(model: onnx.ModelProto, pool: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    run = session(model)
    names = [value.name for value in run.get_outputs()]
    feed = {value.name: pool[value.name] for value in run.get_inputs() if value.name in pool}
    return dict(zip(names, map(np.asarray, run.run(names, feed)), strict=True))


@pytest.mark.parametrize("method", catalog.methods())
def test_three_files_are_the_one(method: str) -> None:
    detector = settled(method)
    whole = onnx_export.model_of(detector, Card(detector.spec))
    parts = web_split.split(whole)
    image = np.random.default_rng(3).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    boxes = np.array([[60.5, 40.25, 90, 120], [-30, 100, 100, 90]], np.float32)
    pool = {"image": image, "boxes": boxes, "crops": np.zeros((0, 96, 64, 3), np.uint8)}
    expected = answers(whole, pool)
    for part in parts:
        pool |= answers(part, pool)
    for name, value in expected.items():
        np.testing.assert_array_equal(pool[name], value)
    assert sum(len(part.SerializeToString()) for part in parts) < 1.1 * len(whole.SerializeToString())
    network = shape_inference.infer_shapes(parts[1], strict_mode=True).graph
    kinds = {
        value.name: value.type.tensor_type.elem_type for value in (*network.value_info, *network.input, *network.output)
    }
    computed = {name for node in network.node if node.op_type != "Shape" for name in node.output}
    assert {kinds[name] for name in (*computed, *(value.name for value in network.input))} == {TensorProto.FLOAT}
    assert not {node.op_type for node in network.node} & onnx_export.NOT_DELEGATED
    assert any("Conv" in node.op_type for node in network.node)


def test_a_network_of_whole_numbers_stays_one_file() -> None:
    """As int8 has them; and one whose nodes have other names."""
    detector = settled("deeppose")
    whole = onnx_export.model_of(detector, Card(detector.spec))
    other = onnx.ModelProto()
    other.CopyFrom(whole)
    for node in other.graph.node:
        node.name = ""
    assert web_split.split(other) == (other,)
    conv = next(node for node in whole.graph.node if node.op_type == "Conv")
    place = list(whole.graph.node).index(conv)
    for i, (kind, to, name) in enumerate((("Cast", TensorProto.INT8, "down"), ("Cast", TensorProto.FLOAT, "up"))):
        source = conv.input[0] if i == 0 else "down"
        whole.graph.node.insert(place + i, onnx.helper.make_node(kind, [source], [name], f"network/{name}", to=to))
    conv.input[0] = "up"
    assert len(web_split.split(whole)) == 1
