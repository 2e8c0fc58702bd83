"""How an ONNX file stores its weights, whatever it computes with."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper

LEAST = 64  # numbers; what is smaller stays as it is


def in_halves(model: ModelProto) -> ModelProto:
    """Stores the weights with 16 bits each instead of 32; a Cast behind each makes them floats of 32 bits, which runtimes do once,
    when they load the file. Weights are rounded to 11 binary digits; what no half can hold stays as it is."""
    small = ModelProto()
    small.CopyFrom(model)
    graph, casts = small.graph, []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size < LEAST or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        name, half = tensor.name, f"{tensor.name}/half"
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), half))
        casts.append(helper.make_node("Cast", [half], [name], f"{name}/cast", to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    checker.check_model(small)
    return small
