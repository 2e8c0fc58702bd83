"""Where ONNX Runtime spends a crop's time, by its own profile: one row an operator, as it runs after fusion.

A fused operator goes by the last one in it. Channels are padded to the width of the processor's registers where ONNX
Runtime does so; parameters and multiply-adds are then those that it runs, a few more than the model's."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fiducial.exporting import node_names
from fiducial.profiling import counting, machine, timing
from fiducial.profiling.parts import Layer, Measured, Shape
from fiducial.profiling.timing import midmean
from fiducial.runtime.cost_worker import noise
from fiducial.runtime.runtimes.onnx_runtime import OnnxNetwork

Event = dict[str, Any]


def measure(network: OnnxNetwork, threads: int, seconds: float) -> Measured:
    size = network.card.spec.size
    crop = noise(size.h, size.w)
    with tempfile.TemporaryDirectory() as folder:
        session = machine.session(str(network.path), threads, f"{folder}/profile")
        profiled = OnnxNetwork(session, network.export, network.path, threads)
        clock = timing.clock_for(threads)
        whole, _ = timing.in_turns(lambda: network.predict(crop), lambda: profiled.predict(crop), seconds, clock=clock)
        operators = by_operator(events_of(session))
        cost_us = _cost_us(folder)
    times = [midmean([event["dur"] for event in events]) for events in operators]
    corrected, factor = timing.without_instruments(times, [cost_us] * len(times), 1e3 * whole)
    has_crop = network.export.crop == "inside"
    layers = tuple(_layer(events[-1], us / 1e3, has_crop) for events, us in zip(operators, corrected, strict=True))
    how = (
        f"ONNX Runtime's own profile, the {factor * cost_us:.1f} µs that it takes an operator taken off; the whole "
        "without it"
    )
    return Measured(whole, layers, how)


def events_of(session: Any) -> list[Event]:
    """The operators' events, in the order in which they ran; ends the profile."""
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    found = [event for event in events if event["cat"] == "Node" and event["name"].endswith("_kernel_time")]
    return list(without_nested(sorted(found, key=lambda event: (event["ts"], -event["dur"]))))


def without_nested(events: Iterable[Event]) -> Iterable[Event]:
    """Without operators of a branch or loop, whose time is in that of the branch, too."""
    end = -1
    for event in events:
        if event["ts"] + event["dur"] > end or event["ts"] >= end:
            end = event["ts"] + event["dur"]
            yield event


def by_operator(events: Sequence[Event]) -> list[list[Event]]:
    """The events of each operator, one a run."""
    found: dict[tuple[str, str], list[Event]] = {}
    for event in events:
        found.setdefault((event["name"], event["args"]["node_index"]), []).append(event)
    return list(found.values())


def _layer(event: Event, ms: float, has_crop: bool) -> Layer:
    about, name = event["args"], event["name"].removesuffix("_kernel_time")
    kind = about["op_name"]
    inputs, outputs = _shapes(about["input_type_shape"]), _shapes(about["output_type_shape"])
    output = outputs[0] if outputs else ()
    weight = counting.weight_of(kind, inputs) if inputs else ()
    path = "crop" if not name and has_crop else node_names.path_of(name)  # the crop's operators have no names
    return Layer(
        path,
        name or f"{kind}_{about['node_index']}",
        kind,
        ms,
        inputs[0] if inputs else (),
        output,
        int(about["parameter_size"]) // 4 if weight else 0,
        counting.macs_of(kind, inputs, output),
        int(about["output_size"]),
        weight,
    )


def _shapes(described: Sequence[dict[str, list[int]]]) -> list[Shape]:
    """[{"float": [1, 3]}] -> [(1, 3)]."""
    return [tuple(shape) for each in described for shape in each.values()]


def _cost_us(folder: str) -> float:
    """What the profile adds to an operator's time: measured on operators that take none."""
    given = {"x": np.zeros(1, np.float32)}
    plain = machine.session(machine.CHAIN, 1)
    profiled = machine.session(machine.CHAIN, 1, f"{folder}/chain")
    ms, _ = timing.in_turns(
        lambda: plain.run(None, given), lambda: profiled.run(None, given), 0.1, clock=timing.clock_for(1)
    )
    between = midmean([midmean([event["dur"] for event in events]) for events in by_operator(events_of(profiled))])
    return max(0.0, between - 1e3 * ms / machine.LINKS)
