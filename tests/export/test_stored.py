"""Weights that take half the space: the same graph, its weights rounded to halves and nothing else."""

from __future__ import annotations

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from fiducial.exporting import stored


def model(weights: np.ndarray, small: np.ndarray, numbers: np.ndarray):
    nodes = [
        helper.make_node("MatMul", ["x", "weights"], ["y"]),
        helper.make_node("Add", ["y", "small"], ["z"]),
        helper.make_node("Gather", ["z", "numbers"], ["out"], axis=1),
    ]
    arrays = {"weights": weights, "small": small, "numbers": numbers}
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, weights.shape[0]))],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, (1, len(numbers)))],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def answer(made, x: np.ndarray) -> np.ndarray:
    return np.asarray(onnxruntime.InferenceSession(made.SerializeToString()).run(None, {"x": x})[0])


def test_weights_are_rounded_to_halves_and_nothing_else():
    random = np.random.default_rng(0)
    weights, small = random.normal(size=(40, 30)).astype(np.float32), random.normal(size=30).astype(np.float32)
    numbers = np.array([3, 29, 0], np.int64)
    plain = model(weights, small, numbers)
    halves = stored.in_halves(plain)
    assert len(halves.SerializeToString()) < 0.65 * len(plain.SerializeToString())
    x = random.normal(size=(1, 40)).astype(np.float32)
    found = answer(halves, x)
    expected = (x @ weights.astype(np.float16).astype(np.float32) + small)[:, numbers]
    assert np.allclose(found, expected, atol=1e-5)
    assert np.abs(expected - (x @ weights + small)[:, numbers]).max() > 1e-5


def test_what_no_half_can_hold_stays_as_it_is():
    weights = np.full((40, 30), 1e6, np.float32)
    halves = stored.in_halves(model(weights, np.zeros(30, np.float32), np.array([1], np.int64)))
    assert answer(halves, np.ones((1, 40), np.float32)).item() == 40e6
