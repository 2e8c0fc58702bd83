"""What a graph's operators are called, and which of them stay or become int8 together.

Exported operators get the name of the module that they came from (`backbone.encoder.layer1.0.conv1/Conv_3`), so that
tables speak of what a reader of the network knows, in all runtimes alike."""

from __future__ import annotations

import ast
from collections.abc import Iterable

import onnx

GROUPS = 40  # at most: each takes a run of its own to tell what it costs
SCOPES = "pkg.torch.onnx.name_scopes"  # a node's modules, the outermost first, then its own name
NETWORK = ("backbone", "head")  # a detector's modules; normalisation and decode belong to neither
OUTSIDE = "outside"


def name_by_module(model: onnx.ModelProto) -> None:
    """Names every node MODULE/OPERATOR_NUMBER, in place; MODULE is `outside` for normalisation and decode.

    A node's module is that of its weight, which tells a convolution from the normalisation that became part of it."""
    weights = {each.name for each in model.graph.initializer}
    for number, node in enumerate(model.graph.node):
        own = [name.rpartition(".")[0] for name in node.input if name in weights and name.endswith(".weight")]
        module = own[0] if own else _scope(node)
        node.name = f"{_without_root(module)}/{node.op_type}_{number}"


def module_of(operator: str) -> str | None:
    """The module of an operator named so, whatever a runtime has appended; None where it is outside of the network."""
    module, slash, _ = operator.partition("/")
    return module if slash and module.partition(".")[0] in NETWORK else None


def grouped(operators: Iterable[str], weighted: Iterable[str], limit: int = GROUPS) -> dict[str, tuple[str, ...]]:
    """Operators of the network, given in the order of the graph, by group: each module with a weight of its own, or, where
    these are more than `limit`, their parents. What has no weight (sums, activations) joins the group before it, unless its
    module is in one."""
    modules = list(dict.fromkeys(filter(None, map(module_of, weighted))))
    depth = max((len(module.split(".")) for module in modules), default=1)
    while len(heads := {_cut(module, depth) for module in modules}) > limit and depth > 1:
        depth -= 1
    found: dict[str, list[str]] = {}
    last = None
    for operator in operators:
        module = module_of(operator)
        if module is None:
            continue
        own = _cut(module, depth)
        last = own if own in heads else last
        if last is not None:
            found.setdefault(last, []).append(operator)
    return {name: tuple(members) for name, members in found.items()}


def _cut(module: str, depth: int) -> str:
    return ".".join(module.split(".")[:depth])


def _scope(node: onnx.NodeProto) -> str:
    """The innermost module that a node was traced in."""
    text = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "['', '']")
    return ["", *ast.literal_eval(text)][-2]


def _without_root(module: str) -> str:
    """`detector.backbone.x` -> `backbone.x`; `outside` for what is neither backbone nor head."""
    inner = module.removeprefix("detector.")
    return inner if inner.partition(".")[0] in NETWORK else OUTSIDE
