"""Tiny networks of "another project" whose answers are known: blobs of red, green and blue in an image are its three points."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 32
COUNT = 24  # images of train in `blob_set`


def write_card(file: Path, **values: Any) -> Path:
    """Writes the card beside a network's file."""
    card = {"name": "blobs", "input": {"size": [SIDE, SIDE]}, "names": ["red", "green", "blue"], **values}
    path = file.with_name(file.name.partition(".")[0] + ".card.json")
    path.write_text(json.dumps(card))
    return path


def centroids(file: Path, scale: float = 1.0, offset: float = 0.0) -> Path:
    """Writes an ONNX network [1, h, w, 3] -> [1, 3, 2]: the centroid of each channel, px, times `scale` plus `offset`."""
    column = np.arange(SIDE, dtype=np.float32)
    weights = np.stack(np.broadcast_arrays(column[None, :], column[:, None]), -1).reshape(1, -1, 1, 2)  # [1, hw, 1, 2]
    constants = {
        "flat": np.array([1, SIDE * SIDE, 3, 1], np.int64),
        "weights": weights,
        "axes": np.array([1], np.int64),
        "small": np.array(1e-6, np.float32),
        "scale": np.array(scale, np.float32),
        "offset": np.array(offset, np.float32),
    }
    nodes = [
        helper.make_node("Reshape", ["crop", "flat"], ["mass"]),
        helper.make_node("Mul", ["mass", "weights"], ["moments"]),
        helper.make_node("ReduceSum", ["moments", "axes"], ["first"], keepdims=0),
        helper.make_node("ReduceSum", ["mass", "axes"], ["total"], keepdims=0),
        helper.make_node("Add", ["total", "small"], ["safe"]),
        helper.make_node("Div", ["first", "safe"], ["px"]),
        helper.make_node("Mul", ["px", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["points"]),
    ]
    return _write(file, nodes, constants, {"points": [1, 3, 2]})


def colours_as_maps(file: Path) -> Path:
    """Writes an ONNX network whose heatmaps are the channels, and whose bins are their maxima over rows and columns."""
    nodes = [
        helper.make_node("Transpose", ["crop"], ["maps"], perm=[0, 3, 1, 2]),
        helper.make_node("ReduceMax", ["maps", "rows"], ["bins_x"], keepdims=0),
        helper.make_node("ReduceMax", ["maps", "columns"], ["bins_y"], keepdims=0),
    ]
    constants = {"rows": np.array([2], np.int64), "columns": np.array([3], np.int64)}
    shapes = {"maps": [1, 3, SIDE, SIDE], "bins_x": [1, 3, SIDE], "bins_y": [1, 3, SIDE]}
    return _write(file, nodes, constants, shapes)


def glutton(file: Path) -> Path:
    """Writes an ONNX network of a few hundred bytes that wants 40 GB when it is run."""
    nodes = [
        helper.make_node("ConstantOfShape", ["many"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["nothing"], keepdims=0),
        helper.make_node("ReduceMax", ["crop", "axes"], ["colours"], keepdims=0),
        helper.make_node("Add", ["colours", "nothing"], ["six"]),
        helper.make_node("Concat", ["six", "six"], ["points"], axis=1),
    ]
    constants = {"many": np.array([10**10], np.int64), "axes": np.array([1, 2], np.int64)}
    return _write(file, nodes, constants, {"points": [1, 6]})


def _write(file: Path, nodes: list[Any], constants: dict[str, np.ndarray], shapes: dict[str, list[int]]) -> Path:
    graph = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info("crop", TensorProto.FLOAT, [1, SIDE, SIDE, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    onnx.save(model, str(file))
    return file


def tflite(file: Path) -> Path:
    """Writes a TFLite network [1, h, w, 3] -> the same, RELU: its output is a heatmap of each channel.

    Table by table, by the numbers of the fields in TensorFlow's `schema.fbs`."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)

    def vector(items: list[int], put: Any, width: int) -> int:
        builder.StartVector(width, len(items), width)
        for item in reversed(items):
            put(item)
        return builder.EndVector()

    def numbers(items: list[int]) -> int:
        return vector(items, builder.PrependInt32, 4)

    def tables(items: list[int]) -> int:
        return vector(items, builder.PrependUOffsetTRelative, 4)

    def table(count: int, *fields: tuple[int, Any]) -> int:
        builder.StartObject(count)
        for slot, add in fields:
            add(slot)
        return builder.EndObject()

    def offset(value: int) -> Any:
        return lambda slot: builder.PrependUOffsetTRelativeSlot(slot, value, 0)

    tensors = []
    for name in ("crop", "maps"):
        shape, text = numbers([1, SIDE, SIDE, 3]), builder.CreateString(name)
        buffer = (2, lambda slot: builder.PrependUint32Slot(slot, 0, 1))
        tensors.append(table(8, (0, offset(shape)), buffer, (3, offset(text))))
    relu = 19
    code = table(
        4,
        (0, lambda slot: builder.PrependInt8Slot(slot, relu, 0)),
        (2, lambda slot: builder.PrependInt32Slot(slot, 1, 0)),
        (3, lambda slot: builder.PrependInt32Slot(slot, relu, 0)),
    )
    ins, outs = numbers([0]), numbers([1])
    operator = table(9, (1, offset(ins)), (2, offset(outs)))
    tensor_list, in_list, out_list, operators = tables(tensors), numbers([0]), numbers([1]), tables([operator])
    graph = table(5, (0, offset(tensor_list)), (1, offset(in_list)), (2, offset(out_list)), (3, offset(operators)))
    codes, graphs, buffers = tables([code]), tables([graph]), tables([table(3)])
    version = (0, lambda slot: builder.PrependUint32Slot(slot, 3, 0))
    model = table(8, version, (1, offset(codes)), (2, offset(graphs)), (4, offset(buffers)))
    builder.Finish(model, file_identifier=b"TFL3")
    file.write_bytes(bytes(builder.Output()))
    return file


def blobs(xy: np.ndarray, width: int = 120, height: int = 90) -> np.ndarray:
    """Draws a red, a green and a blue blob at xy [3, 2] px."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    squared = (x[..., None] - xy[:, 0]) ** 2 + (y[..., None] - xy[:, 1]) ** 2
    return np.rint(255 * np.exp(-squared / (2 * 4.0**2))).astype(np.uint8)


def blob_set(root: Path, names: Sequence[str], labelled: int = COUNT) -> Path:
    """Writes a set of images of three blobs, one an image, 24 in train and 8 in val; of train the first `labelled` are
    labelled, the others have a box alone. Field `truth` has the points of all."""
    rng = np.random.default_rng(0)
    (root / "images").mkdir()
    (root / "annotations").mkdir()
    category = {"id": 1, "name": "blobs", "keypoints": list(names), "skeleton": []}
    for split, first, count in (("train", 1, COUNT), ("val", 101, 8)):
        images, annotations = [], []
        for i in range(first, first + count):
            turn = np.exp(1j * rng.uniform(-0.4, 0.4)) * rng.uniform(0.8, 1.2)
            corners = np.array([-14 - 9j, 15 - 11j, 1 + 14j]) * turn
            xy = np.stack([corners.real, corners.imag], -1) + rng.uniform((45, 35), (75, 55))
            cv2.imwrite(str(root / "images" / f"{i}.png"), blobs(xy)[..., ::-1])
            images.append({"id": i, "file_name": f"{i}.png", "width": 120, "height": 90})
            is_labelled = split == "val" or i < first + labelled
            points = np.column_stack([xy, np.full(3, 2)]) if is_labelled else np.zeros((3, 3))
            low, high = xy.min(0) - 9.5, xy.max(0) + 10.5
            about = {"id": i - first + 1, "image_id": i, "category_id": 1, "iscrowd": 0, "area": 900.0}
            about |= {"bbox": [*low.tolist(), *(high - low).tolist()], "truth": xy.tolist()}
            annotations.append({**about, "keypoints": points.ravel().tolist()})
        content = {"images": images, "annotations": annotations, "categories": [category]}
        (root / "annotations" / f"{split}.json").write_text(json.dumps(content))
    return root
