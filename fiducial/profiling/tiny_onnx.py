"""ONNX files of a few operators written without the `onnx` package, which the base install does not have: known loads to
measure the machine and ONNX Runtime's own profile with.

The format is protobuf; field numbers are those of onnx.proto (ModelProto, GraphProto, NodeProto, TensorProto)."""

from __future__ import annotations

import numpy as np

IR_VERSION, OPSET, FLOAT, INTS = 9, 17, 1, 7


def convolution(channels: int, side: int, kernel: int) -> bytes:
    """x [1, channels, side, side] -> y of the same shape, by a dense convolution."""
    weight = np.full((channels, channels, kernel, kernel), 0.01, np.float32)
    pads = b"".join(_number(8, kernel // 2) for _ in range(4))
    attribute = _field(5, _text(1, "pads") + pads + _number(20, INTS))
    node = _text(1, "x") + _text(1, "w") + _text(2, "y") + _text(4, "Conv") + attribute
    shape = (1, channels, side, side)
    return _model([node], _tensor("w", weight), shape)


def chain(length: int) -> bytes:
    """x [1] -> y [1], through additions that take no time to speak of."""
    names = ["x", *(f"v{i}" for i in range(length - 1)), "y"]
    nodes = [
        _text(1, names[i]) + _text(1, "x") + _text(2, names[i + 1]) + _text(3, f"add{i}") + _text(4, "Add")
        for i in range(length)
    ]
    return _model(nodes, b"", (1,))


def _model(nodes: list[bytes], tensors: bytes, shape: tuple[int, ...]) -> bytes:
    graph = b"".join(_field(1, node) for node in nodes) + _text(2, "graph") + tensors
    graph += _field(11, _value("x", shape)) + _field(12, _value("y", shape))
    return _number(1, IR_VERSION) + _field(7, graph) + _field(8, _number(2, OPSET))


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    dimensions = b"".join(_field(1, _number(1, side)) for side in shape)
    return _text(1, name) + _field(2, _field(1, _number(1, FLOAT) + _field(2, dimensions)))


def _tensor(name: str, values: np.ndarray) -> bytes:
    dimensions = b"".join(_number(1, side) for side in values.shape)
    return _field(5, dimensions + _number(2, FLOAT) + _text(8, name) + _field(9, values.astype("<f4").tobytes()))


def _field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode())


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    """Seven bits a byte, lowest first; the eighth says that more follow."""
    digits = []
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])
