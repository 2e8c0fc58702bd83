"""A model's ONNX file in three that run one after the other: what is before the network (finder and crop), the network
alone, and what is behind it (decode, and the way back to px of the picture).

The middle one computes floats alone, from crops that are floats already, so that it can run on a GPU, where whole numbers
of 8 and 64 bits have no place; the others take little time, on the CPU. Together they are the one file, node for node."""

from __future__ import annotations

from collections.abc import Iterable

from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    TypeProto,
    ValueInfoProto,
    checker,
    helper,
    shape_inference,
)

NETWORK, DECODE = "network/", "network/decode/"  # how names of its nodes begin (`onnx_export`)
BRANCH = "points/"  # what is before them in a file with a finder (`finder_graph`)


def split(model: ModelProto) -> tuple[ModelProto, ...]:
    """Splits a file that takes whole pictures. Where one has a finder, the points are no longer in a branch: of no
    instance the first part still gives a crop, the whole picture's, which is not to be looked at. A file whose network
    computes whole numbers (int8), or can't be told from the rest, stays one."""
    flat = _flat(model)
    typed = shape_inference.infer_shapes(flat, strict_mode=True).graph
    types = {value.name: value.type for value in (*typed.value_info, *typed.input, *typed.output)}
    middle = _network(flat.graph, types)
    if not middle:
        return (model,)
    within = {name for node in middle for name in node.output}
    behind: list[NodeProto] = []
    later = set(within)
    before: list[NodeProto] = []
    ours = {id(node) for node in middle}
    for node in flat.graph.node:
        if id(node) in ours:
            continue
        if later & set(_read(node)):
            behind.append(node)
            later |= set(node.output)
        else:
            before.append(node)
    return (
        _part(flat, types, before, [middle, behind]),
        _part(flat, types, middle, [behind]),
        _part(flat, types, behind, []),
    )


def _network(graph: GraphProto, types: dict[str, TypeProto]) -> list[NodeProto]:
    """The nodes of the network that compute floats of floats: all but the decode and the first ones, on bytes, and what is
    computed of shapes alone. None where there are none, or others among them."""
    own = [node for node in graph.node if node.name.removeprefix(BRANCH).startswith(NETWORK)]
    network = [node for node in own if not node.name.removeprefix(BRANCH).startswith(DECODE)]
    made = {name for node in network for name in node.output}
    floats = {name for name in made if _kind(types, name) == TensorProto.FLOAT}
    bytes_in = [node for node in network if any(_kind(types, name) == TensorProto.UINT8 for name in _read(node))]
    kept = [node for node in network if node not in bytes_in]
    return kept if all(node.op_type == "Shape" or set(node.output) <= floats for node in kept) else []


def _kind(types: dict[str, TypeProto], name: str) -> int:
    value = types.get(name)
    return value.tensor_type.elem_type if value is not None else 0


def _flat(model: ModelProto) -> ModelProto:
    """The graph with the points behind the finder, not in a branch; as it is where there is no finder."""
    flat = ModelProto()
    flat.CopyFrom(model)
    branch = next((node for node in flat.graph.node if node.op_type == "If" and _has_branch(node)), None)
    if branch is None:
        return flat
    points = next(helper.get_attribute_value(each) for each in branch.attribute if each.name == "then_branch")
    outer = {inner.name: name for inner, name in zip(points.output, branch.output, strict=True)}
    for node in points.node:
        node.input[:] = [outer.get(name, name) for name in node.input]
        node.output[:] = [outer.get(name, name) for name in node.output]
    place = next(i for i, node in enumerate(flat.graph.node) if node == branch)
    nodes = [*flat.graph.node[:place], *points.node, *flat.graph.node[place + 1 :]]
    initializers = [*flat.graph.initializer, *points.initializer]
    del flat.graph.node[:], flat.graph.initializer[:]
    flat.graph.node.extend(_needed(nodes, [value.name for value in flat.graph.output]))
    flat.graph.initializer.extend(initializers)
    return flat


def _has_branch(node: NodeProto) -> bool:
    branches = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    return "then_branch" in branches and any(each.name.startswith(BRANCH) for each in branches["then_branch"].node)


def _needed(nodes: list[NodeProto], wanted: Iterable[str]) -> list[NodeProto]:
    """Those that something wanted is made of."""
    names, kept = set(wanted), list[NodeProto]()
    for node in reversed(nodes):
        if names & set(node.output):
            kept.append(node)
            names |= set(_read(node))
    return kept[::-1]


def _read(node: NodeProto) -> list[str]:
    """What a node reads, in its branches and loops, too."""
    names = [name for name in node.input if name]
    for each in node.attribute:
        if each.HasField("g"):
            inner = each.g
            own = {value.name for value in (*inner.input, *inner.initializer)}
            own |= {name for part in inner.node for name in part.output}
            read = [name for part in inner.node for name in _read(part)] + [value.name for value in inner.output]
            names += [name for name in read if name not in own]
    return names


def _part(
    model: ModelProto, types: dict[str, TypeProto], nodes: list[NodeProto], others: list[list[NodeProto]]
) -> ModelProto:
    """A file of some of the nodes: what they need from elsewhere goes in, what others or the user need comes out."""
    graph = model.graph
    constants = {each.name: each for each in graph.initializer}
    made = {name for node in nodes for name in node.output}
    read = {name: None for node in nodes for name in _read(node)}  # in order
    asked = {name for part in others for node in part for name in _read(node)}
    asked |= {value.name for value in graph.output}
    given = [name for name in read if name not in made and name not in constants]
    results = [name for node in nodes for name in node.output if name in asked]
    part = helper.make_model(
        helper.make_graph(
            nodes,
            "part",
            [_value(name, types) for name in given],
            [_value(name, types) for name in results],
            [constants[name] for name in read if name in constants],
        ),
        opset_imports=model.opset_import,
    )
    part.ir_version = model.ir_version
    checker.check_model(part)
    return part


def _value(name: str, types: dict[str, TypeProto]) -> ValueInfoProto:
    value = ValueInfoProto()
    value.name = name
    value.type.CopyFrom(types[name])
    return value
