"""Operators of exported files that say which module they come from: `backbone.blocks.0.conv/Conv`.

torch's exporter keeps the modules as metadata, which runtimes drop; names they keep, also for what they fuse. So names
carry the module, in every runtime and in viewers of such files."""

from __future__ import annotations

import ast
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

SCOPES = "pkg.torch.onnx.name_scopes"
PREFIX = "network/"  # of all operators behind a crop in the file
DETECTOR = "detector"  # the traced module's name for the detector
NORMALISATION, DECODE = "normalisation", "decode"  # what belongs to no module of the network


def by_module(model: onnx.ModelProto) -> None:
    """Renames operators, and values after the operator that makes them, which runtimes call fused ones by; in place. Inputs,
    outputs and weights keep their names, operators inside of branches and loops, too.

    An operator with a weight goes by that: a convolution and the normalisation that became part of it are traced as one.
    The exporter's notes on operators go: with them lines of code and paths of the machine that exported, a tenth of a small file."""
    graph = model.graph
    weights = {value.name for value in graph.initializer}
    kept = {value.name for value in (*graph.input, *graph.output, *graph.initializer)}
    counts: Counter[str] = Counter()
    renamed: dict[str, str] = {}
    for node in graph.node:
        scopes = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "[]")
        traced = (ast.literal_eval(scopes) or [""])[:-1]
        own = [value.removesuffix(".weight") for value in node.input if value in weights and value.endswith(".weight")]
        del node.metadata_props[:]
        name = f"{_part_of((own or traced or [''])[-1])}/{node.op_type}"
        counts[name] += 1
        node.name = name if counts[name] == 1 else f"{name}_{counts[name]}"
        for i, value in enumerate(node.output):
            if value and value not in kept:
                renamed[value] = node.name if i == 0 else f"{node.name}:{i}"
    for node in graph.node:
        node.input[:] = [renamed.get(value, value) for value in node.input]
        node.output[:] = [renamed.get(value, value) for value in node.output]
    for value in graph.value_info:
        value.name = renamed.get(value.name, value.name)


def path_of(name: str) -> str:
    """The module of an operator's name, as a runtime gives it; "" where it has none."""
    path, slash, _ = name.removeprefix("fused ").removeprefix(PREFIX).partition("/")
    return path if slash else ""


def _part_of(module: str) -> str:
    """What the detector does itself is normalisation; what is outside of it is the head's decode."""
    if module == DETECTOR:
        return NORMALISATION
    return module.removeprefix(f"{DETECTOR}.") or DECODE
