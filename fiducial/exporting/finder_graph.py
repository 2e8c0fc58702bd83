"""A finder in front of a detector, in one ONNX graph: a full image in, boxes and points of all that is in it out.

The detector's own graph, crop and way back included, stands in a branch that runs where there is something to look at; the
finder, behind a crop of the whole image, in one that runs where neither boxes nor crops are given. `scene` is the finder's
input as the package cuts it: then the finder alone runs and answers with all that it found there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

import torch
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, checker, helper
from torch import Tensor, nn

from fiducial import geometry
from fiducial.card import DetectorSpec
from fiducial.exporting import crop_graph, node_names, onnx_export
from fiducial.geometry import Size
from fiducial.models.contracts import FinderHead
from fiducial.models.detector import Detector, full_precision

# The outputs that say where instances are, and of what kind (a number; -1 where boxes were given): of a scene as they are, and
# on the image those that count.
BOXES: dict[str, tuple[str | int, ...]] = {
    "found_box": (1, "m", 4),
    "found_score": (1, "m"),
    "found_kind": (1, "m"),
    "box": ("n", 4),
    "box_score": ("n",),
    "box_kind": ("n",),
}
# What is found in a scene, put on the image, and those of it that count: whose middle lies in the image and whose score is
# `min_score` or more. An image of its own size is a scene whose corner is 0 and whose step is 1.
CHOOSE = """
<ir_version: {IR_VERSION}, opset_import: ["" : {OPSET}]>
choose (uint8[height, width, 3] image, float[1, m, 4] found_boxes, float[1, m] found_score, int64[1, m] found_kind, double[1, 2] corner, double[1, 2] step, float[1] least)
  => (float[n, 4] chosen_boxes, float[n] chosen_score, int64[n] chosen_kind)
<int64[1] k0 = {{0}}, int64[1] k1 = {{1}}, int64[1] k2 = {{2}}, int64[1] k4 = {{4}}, int64[2] swap = {{1, 0}}, double none = {{0}}, double two = {{2}}, double half = {{0.5}}, double eighths = {{{EIGHTHS}}}>
{{
  boxes_d = Cast<to={DOUBLE}>(found_boxes)
  flat_boxes = Squeeze(boxes_d, k0)
  flat_score = Squeeze(found_score, k0)
  scene_xy = Slice(flat_boxes, k0, k2, k1)
  scene_wh = Slice(flat_boxes, k2, k4, k1)
  scaled_xy = Mul(scene_xy, step)
  exact_xy = Add(scaled_xy, corner)
  exact_wh = Mul(scene_wh, step)
  exact = Concat<axis=1>(exact_xy, exact_wh)
  in_eighths = Mul(exact, eighths)
  up = Add(in_eighths, half)
  whole_eighths = Floor(up)
  placed = Div(whole_eighths, eighths)
  placed_xy = Slice(placed, k0, k2, k1)
  placed_wh = Slice(placed, k2, k4, k1)
  half_wh = Div(placed_wh, two)
  middle = Add(placed_xy, half_wh)
  shape = Shape(image)
  shape_hw = Slice(shape, k0, k2)
  shape_wh = Gather(shape_hw, swap)
  image_wh = Cast<to={DOUBLE}>(shape_wh)
  after = GreaterOrEqual(middle, none)
  before = LessOrEqual(middle, image_wh)
  within = And(after, before)
  has_area = Greater(placed_wh, none)
  both = And(within, has_area)
  both_x = Slice(both, k0, k1, k1)
  both_y = Slice(both, k1, k2, k1)
  in_image = And(both_x, both_y)
  in_flat = Squeeze(in_image, k1)
  sure = GreaterOrEqual(flat_score, least)
  counts = And(in_flat, sure)
  rows_2d = NonZero(counts)
  rows = Squeeze(rows_2d, k0)
  placed_f = Cast<to={FLOAT}>(placed)
  chosen_boxes = Gather(placed_f, rows)
  chosen_score = Gather(flat_score, rows)
  flat_kind = Squeeze(found_kind, k0)
  chosen_kind = Gather(flat_kind, rows)
}}
"""


class _Graph(nn.Module):
    """What is traced: a finder's whole answer."""

    def __init__(self, finder: Detector) -> None:
        super().__init__()
        self.finder = finder

    def forward(self, scenes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = cast(FinderHead, self.finder.head).decode(full_precision(self.finder(scenes)))
        return found.box_xywh, found.score, found.kind


def finder_model(finder: Detector) -> ModelProto:
    """Traces a finder: `scenes` uint8 [1, h, w, 3] in, `box` float [1, m, 4], `score` [1, m] and `kind` int64 [1, m] out, in px of
    the scene."""
    size = finder.spec.size
    example = torch.zeros(1, size.h, size.w, 3, dtype=torch.uint8)
    with torch.no_grad(), onnx_export.nothing_in_place(finder):
        model = onnx_export.traced_module(
            _Graph(finder).eval(),
            (example,),
            ["scenes"],
            ["box", "score", "kind"],
            None,
            what=f"the finder {finder.spec.method}",
        )
    node_names.by_module(model)
    return model


def chained(
    detector: ModelProto, network: ModelProto, finds: DetectorSpec, nothing: Mapping[str, tuple[int, ...]]
) -> ModelProto:
    """Puts a finder's graph (`finder_model`) and spec in front of a detector's graph with its crop inside
    (`onnx_export.with_crop`): inputs `image` and, which
    may be left out, `boxes`, `crops`, `scene`, `min_score`; outputs those of the detector, `box` [n, 4], `box_score`
    and `box_kind` [n], and of a scene `found_box` [1, m, 4], `found_score` and `found_kind` [1, m]. nothing: the shapes
    of the detector's outputs for no box."""
    size = finds.size
    outputs = [output.name for output in detector.graph.output]
    points = _renamed(detector.graph, "points/", {"image": "image", "boxes": "box", "crops": "crops"})
    constants = {
        "zero": _integers(0),
        "one": helper.make_tensor("one", TensorProto.FLOAT, (), [1.0]),
        "none_found": _nothing("none_found", (1, 0, 4)),
        "none_sure": _nothing("none_sure", (1, 0)),
        "no_kind": helper.make_tensor("no_kind", TensorProto.INT64, (1, 0), []),
        "unknown": helper.make_tensor("unknown", TensorProto.INT64, (), [-1]),
    }
    nodes = [
        *(helper.make_node("Shape", [name], [f"{name}_count"], start=0, end=1) for name in ("boxes", "crops")),
        helper.make_node("Add", ["boxes_count", "crops_count"], ["given_count"]),
        *_is_above("given_count", "is_given"),
        helper.make_node(
            "If",
            ["is_given"],
            list(BOXES),
            then_branch=helper.make_graph(
                [
                    helper.make_node("Identity", ["none_found"], ["given/found_box"]),
                    helper.make_node("Identity", ["none_sure"], ["given/found_score"]),
                    helper.make_node("Identity", ["no_kind"], ["given/found_kind"]),
                    helper.make_node("Identity", ["boxes"], ["given/box"]),
                    helper.make_node("Expand", ["one", "boxes_count"], ["given/box_score"]),
                    helper.make_node("Expand", ["unknown", "boxes_count"], ["given/box_kind"]),
                ],
                "given",
                [],
                [_place(f"given/{name}", name) for name in BOXES],
            ),
            else_branch=_finding(network, size),
        ),
        helper.make_node("Shape", ["box"], ["box_count"], start=0, end=1),
        helper.make_node("Add", ["box_count", "crops_count"], ["asked_count"]),
        *_is_above("asked_count", "is_asked"),
        helper.make_node("If", ["is_asked"], outputs, then_branch=points, else_branch=_no_points(nothing, outputs)),
    ]
    crop_shape = [dim.dim_value for dim in _named(detector.graph.input, "crops").type.tensor_type.shape.dim]
    optional = {
        "boxes": (TensorProto.FLOAT, (None, 4)),
        "crops": (TensorProto.UINT8, (None, *crop_shape[1:])),
        "scene": (TensorProto.UINT8, (None, size.h, size.w, 3)),
    }
    inputs = [helper.make_tensor_value_info("image", TensorProto.UINT8, (None, None, 3))]
    inputs += [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in optional.items()]
    inputs.append(helper.make_tensor_value_info("min_score", TensorProto.FLOAT, (1,)))
    defaults = [helper.make_tensor(name, kind, (0, *shape[1:]), []) for name, (kind, shape) in optional.items()]
    defaults.append(helper.make_tensor("min_score", TensorProto.FLOAT, (1,), [float(finds.head["threshold"])]))
    graph = helper.make_graph(
        nodes,
        "whole",
        inputs,
        [*detector.graph.output, *(_place(name, name) for name in BOXES)],
        [*defaults, *constants.values()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", crop_graph.OPSET)])
    model.ir_version = crop_graph.IR_VERSION
    checker.check_model(model)
    return model


def _finding(network: ModelProto, size: Size) -> GraphProto:
    """The branch that cuts the whole image or takes the scene, finds, and chooses."""
    crop = _renamed(crop_graph.crop_model(size, 1.0).graph, "whole/", {"image": "image", "crops": "scene"})
    finder = _renamed(network.graph, "finder/", {"scenes": "whole/cut"})
    links = {
        "image": "image",
        "found_boxes": "finder/box",
        "found_score": "finder/score",
        "found_kind": "finder/kind",
        "corner": "whole/corner",
        "step": "whole/step",
        "least": "min_score",
    }
    choose = _renamed(crop_graph.parsed(CHOOSE, EIGHTHS=geometry.EIGHTHS).graph, "choose/", links)
    parts = (crop, finder, choose)
    no_boxes = _nothing("whole/boxes", (0, 4))
    given = {no_boxes.name, "scene"}
    return helper.make_graph(
        [node for part in parts for node in part.node],
        "finding",
        [],
        [
            _place("finder/box", "found_box"),
            _place("finder/score", "found_score"),
            _place("finder/kind", "found_kind"),
            _place("choose/chosen_boxes", "box"),
            _place("choose/chosen_score", "box_score"),
            _place("choose/chosen_kind", "box_kind"),
        ],
        [*(each for part in parts for each in part.initializer if each.name not in given), no_boxes],
    )


def _no_points(shapes: Mapping[str, tuple[int, ...]], outputs: list[str]) -> GraphProto:
    """The branch of no instance: no rows of any of the detector's outputs."""
    values = [_nothing(f"none/{name}", shapes[name]) for name in outputs]
    nodes = [helper.make_node("Constant", [], [each.name], value=each) for each in values]
    return helper.make_graph(nodes, "nothing", [], [_value(each.name, tuple(each.dims)) for each in values])


def _is_above(count: str, name: str) -> list[NodeProto]:
    return [
        helper.make_node("Greater", [count, "zero"], [f"{name}_1"]),
        helper.make_node("Squeeze", [f"{name}_1", "zero"], [name]),
    ]


def _integers(*values: int) -> TensorProto:
    return helper.make_tensor("zero", TensorProto.INT64, (len(values),), values)


def _nothing(name: str, shape: tuple[int, ...]) -> TensorProto:
    return helper.make_tensor(name, TensorProto.FLOAT, shape, [])


def _place(name: str, what: str) -> ValueInfoProto:
    """A value under some name that is one of `BOXES`."""
    kind = TensorProto.INT64 if what.endswith("kind") else TensorProto.FLOAT
    return helper.make_tensor_value_info(name, kind, BOXES[what])


def _value(name: str, shape: tuple[str | int, ...]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _named(values: Iterable[ValueInfoProto], name: str) -> ValueInfoProto:
    return next(value for value in values if value.name == name)


def _renamed(graph: GraphProto, prefix: str, links: Mapping[str, str]) -> GraphProto:
    """A copy whose names begin with `prefix`, in branches and loops too, but those of `links`, which are outer ones; its inputs
    are taken from outside."""
    copy = GraphProto()
    copy.CopyFrom(graph)

    def name_of(name: str) -> str:
        return name and links.get(name, prefix + name)

    def rename(part: GraphProto) -> None:
        for values in (part.input, part.output, part.value_info, part.initializer):
            for value in values:
                value.name = name_of(value.name)
        for node in part.node:
            node.name = name_of(node.name)
            node.input[:] = [name_of(name) for name in node.input]
            node.output[:] = [name_of(name) for name in node.output]
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    rename(attribute.g)

    rename(copy)
    copy.ClearField("input")
    kept = [each for each in copy.initializer if each.name not in links.values()]
    copy.ClearField("initializer")
    copy.initializer.extend(kept)
    return copy
