"""Where OpenVINO spends a crop's time, by its own counters: one row an operator, as it runs after fusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from fiducial.exporting import node_names
from fiducial.profiling import counting, timing
from fiducial.profiling.parts import Layer, Measured, Shape
from fiducial.profiling.timing import midmean
from fiducial.runtime.cost_worker import noise
from fiducial.runtime.runtimes import openvino_runtime
from fiducial.runtime.runtimes.openvino_runtime import OpenvinoNetwork

CUT_OFF_MS = 0.0005  # its counters cut fractions of a microsecond off: half of one, on average
COMPILED = 5  # times, each with counters of its own: the middle ones of these count
WARM_UP = 10  # runs that are taken out of the counters' means


@dataclass(frozen=True)
class Round:
    """What one compilation of the network has shown."""

    whole_ms: float
    ms: dict[str, float]  # by operator
    kinds: dict[str, str]
    operators: dict[str, Any]  # of the graph that was run


def measure(network: OpenvinoNetwork, threads: int, seconds: float) -> Measured:
    """Its counters are means over all runs, those that another program disturbed among them: where they come to more than
    the whole, they are scaled to it."""
    rounds = [_round(network, threads, seconds / COMPILED) for _ in range(COMPILED)]
    last = rounds[-1]
    whole = midmean([each.whole_ms for each in rounds])
    means = {name: midmean([each.ms.get(name, 0.0) for each in rounds]) for name in last.ms}
    factor = min(1.0, whole / sum(means.values()))
    layers = [_layer(name, last.kinds[name], factor * ms, last.operators.get(name)) for name, ms in means.items()]
    how = "OpenVINO's own counters, half a microsecond an operator added, which they cut off on average" + (
        f"; scaled by {factor:.2f} to the whole, as they hold what other programs took" if factor < 1 else ""
    )
    return Measured(whole, tuple(layers), f"{how}; the whole without them")


def _round(network: OpenvinoNetwork, threads: int, seconds: float) -> Round:
    """The network compiled with counters, and run in turns with the one that has none."""
    openvino = openvino_runtime.library()
    size = network.card.spec.size
    crop = noise(size.h, size.w)
    core = openvino.Core()
    model = core.read_model(network.path)
    model.reshape([1, size.h, size.w, 3])
    settings = openvino_runtime.settings(network.export, threads) | {"PERF_COUNT": True}
    compiled = core.compile_model(model, "CPU", settings)
    request = compiled.create_infer_request()

    def run() -> None:
        request.infer([crop], share_inputs=True)

    for _ in range(WARM_UP):
        run()
    before = request.get_profiling_info()
    clock = timing.clock_for(threads, in_caller=False)
    whole, runs = timing.in_turns(lambda: network.predict(crop), run, seconds, clock=clock)
    after = [entry for entry in request.get_profiling_info() if _has_run(entry)]
    return Round(
        whole,
        _since(before, WARM_UP, after, WARM_UP + timing.runs_made(runs)),
        {entry.node_name: entry.node_type for entry in after},
        {each.get_friendly_name(): each for each in compiled.get_runtime_model().get_ops()},
    )


def _has_run(entry: Any) -> bool:
    """What took less than a microsecond counts as not run there, and still has an implementation."""
    return "EXECUTED" in str(entry.status) or not entry.exec_type.startswith(("undef", "unknown"))


def _since(before: Sequence[Any], runs_before: int, after: Sequence[Any], runs_after: int) -> dict[str, float]:
    """Mean ms of each operator over the runs between two readings of counters that hold means since the start."""
    first = {entry.node_name: entry.real_time.total_seconds() for entry in before}
    found = {}
    for entry in after:
        spent = entry.real_time.total_seconds() * runs_after - first[entry.node_name] * runs_before
        found[entry.node_name] = max(0.0, 1e3 * spent / (runs_after - runs_before)) + CUT_OFF_MS
    return found


def _layer(name: str, kind: str, ms: float, operator: Any) -> Layer:
    """`operator`: None where it is not in the graph that was run."""
    inputs: list[Shape] = [] if operator is None else [tuple(each.get_shape()) for each in operator.inputs()]
    outputs = [] if operator is None else operator.outputs()
    output: Shape = tuple(outputs[0].get_shape()) if outputs else ()
    weight = counting.weight_of(kind, inputs) if inputs else ()
    return Layer(
        node_names.path_of(name),
        name,
        kind,
        ms,
        inputs[0] if inputs else (),
        output,
        _constants(operator) if weight else 0,
        counting.macs_of(kind, inputs, output),
        sum(prod(each.get_shape()) * each.get_element_type().size for each in outputs),
        weight,
    )


def _constants(operator: Any) -> int:
    """How many numbers of the file go into an operator."""
    sources = [(each, each.get_source_output().get_node()) for each in operator.inputs()]
    return sum(prod(each.get_shape()) for each, node in sources if _layer_type(node) == "Const")


def _layer_type(node: Any) -> str:
    return str(node.get_rt_info()["layerType"].astype(str)) if "layerType" in node.get_rt_info() else ""
