"""Operators of LiteRT's files, which say which module they come from: `backbone.blocks.0.conv/CONV_2D`, as those of ONNX files
do (`node_names`). The converter's own names are the classes of all modules around, a third of a small file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from torch import nn

from fiducial.exporting import node_names
from fiducial.exporting.phone_parts import NETWORK

WEIGHTED = {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED"}


@dataclass(frozen=True)
class Operator:
    """An operator of a file."""

    name: str  # of its first output
    kind: str  # of the schema's operators
    signature: str  # the graph that it is in


def by_module(network: bytes, detector: nn.Module) -> bytes:
    """Renames what operators give and the constants that they take, but for the outputs of a graph; those of the graph without
    decode have `network/` in front. An operator with a weight goes by its own module, others by the first that they were traced in."""
    from ai_edge_litert.tools import flatbuffer_utils  # type: ignore[import-not-found]

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(network))
    kinds = _kinds_of(model)
    counts: Counter[str] = Counter()
    for graph in model.subgraphs:
        prefix = node_names.PREFIX if _text(graph.name) == NETWORK else ""
        kept = {*graph.inputs, *graph.outputs}
        for operator in graph.operators:
            kind = kinds[operator.opcodeIndex]
            traced = _paths_of(_text(graph.tensors[operator.outputs[0]].name), detector)
            own = [path for path in traced if kind in WEIGHTED and _has_weight(detector.get_submodule(path))]
            path = (own or traced or [node_names.DECODE])[0] or node_names.NORMALISATION
            name = f"{prefix}{path}/{kind}"
            counts[name] += 1
            name = name if counts[name] == 1 else f"{name}_{counts[name]}"
            for i, output in enumerate(operator.outputs):
                if output not in kept:
                    graph.tensors[output].name = (name if i == 0 else f"{name}:{i}").encode()
                    kept.add(output)
            for i, value in enumerate(operator.inputs):  # what is left of them is constant
                if value >= 0 and value not in kept:
                    graph.tensors[value].name = f"{name}<{i}".encode()
                    kept.add(value)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def operators_of(network: bytes) -> list[Operator]:
    """Lists the operators of all graphs of a file, in their order."""
    from ai_edge_litert.tools import flatbuffer_utils  # type: ignore[import-not-found]

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(network))
    kinds = _kinds_of(model)
    return [
        Operator(_text(graph.tensors[operator.outputs[0]].name), kinds[operator.opcodeIndex], _text(graph.name))
        for graph in model.subgraphs
        for operator in graph.operators
    ]


def _kinds_of(model: Any) -> list[str]:
    from ai_edge_litert import schema_py_generated as schema  # type: ignore[import-not-found]

    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if name.isupper()}
    return [names.get(max(code.builtinCode, code.deprecatedBuiltinCode), "?") for code in model.operatorCodes]


def _paths_of(traced: str, detector: nn.Module) -> list[str]:
    """The modules in a name of the converter's, of what became one: `W/a.B_b/c.D_d;1;;W/a.B_b/c.E_e;` -> `d`, `e`, where `b`
    is the detector, which is "" itself; those of the decode are none."""
    return [_path_of(part.split("/")[2:], detector) for part in traced.split(";") if part.count("/") >= 1]


def _path_of(traced: list[str], detector: nn.Module) -> str:
    """Follows classes and names from the detector on. Lists of modules are not traced, so what is in one may be any of several:
    there the path ends."""
    path = ""
    for part in traced:
        inside = {
            name: module
            for name, module in detector.get_submodule(path).named_modules()
            if name and _traced(name, module) == part
        }
        nearest = min((name.count(".") for name in inside), default=0)
        found = [name for name in inside if name.count(".") == nearest]
        if len(found) != 1:
            break
        path = f"{path}.{found[0]}" if path else found[0]
    return path


def _traced(name: str, module: nn.Module) -> str:
    """What a module is called in the converter's names."""
    kind = type(module)
    return f"{kind.__module__}.{kind.__qualname__}_{name.rpartition('.')[2]}"


def _has_weight(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return weight is not None and weight.ndim > 1


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
