"""Work that a graph need not do for each picture."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper


def scale_into_weights(model: onnx.ModelProto) -> bool:
    """Divides the first convolution's weights by the deviations that the picture's colours are divided by, and leaves out that
    division; in place. The mean stays a step of its own, since a convolution pads with zeros, which stand for it. Says
    whether there was such a division, straight before a convolution or before its padding."""
    graph = model.graph
    weights = {value.name: value for value in graph.initializer}
    for node in graph.node:
        if node.op_type != "Div" or node.input[1] not in weights:
            continue
        deviation = numpy_helper.to_array(weights[node.input[1]]).reshape(-1)
        first = after = _only_user(graph, node.output[0])
        if after is not None and after.op_type == "Pad":
            after = _only_user(graph, after.output[0])
        if first is None or after is None or after.op_type != "Conv" or after.input[1] not in weights:
            continue
        kernel = numpy_helper.to_array(weights[after.input[1]])
        if sum(after.input[1] in each.input for each in graph.node) > 1 or kernel.shape[1] != len(deviation):
            continue
        scaled = (kernel / deviation[:, None, None]).astype(np.float32)
        weights[after.input[1]].CopyFrom(numpy_helper.from_array(scaled, after.input[1]))
        first.input[0] = node.input[0]
        graph.node.remove(node)
        if not any(node.input[1] in each.input for each in graph.node):
            graph.initializer.remove(weights[node.input[1]])
        return True
    return False


def _only_user(graph: onnx.GraphProto, value: str) -> onnx.NodeProto | None:
    """The one operator that takes a value; None where several do, or it is an answer."""
    users = [node for node in graph.node if value in node.input]
    is_answer = any(output.name == value for output in graph.output)
    return users[0] if len(users) == 1 and not is_answer else None
