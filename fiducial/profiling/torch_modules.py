"""Where torch spends a crop's time, module by module, by hooks around each of them.

A module's own time is that between its hooks less that of the modules inside, so that nothing counts twice: what a forward
does itself (additions, resizes, attention) is its own row. The hooks take time, too: it is measured on modules that
do nothing, and taken off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fiducial.models.detector import Detector
from fiducial.profiling import timing
from fiducial.profiling.parts import Layer, Measured, Shape
from fiducial.profiling.timing import Clock, midmean
from fiducial.runtime.cost_worker import noise
from fiducial.runtime.runtimes.torch_runtime import TorchNetwork

NORMALISATION, DECODE, ANSWER = "normalisation", "decode", "answer"  # parts that are no modules
# They have no code of their own: what they take is their parent's.
TRANSPARENT = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.Identity)
NOTHINGS = 300  # modules that do nothing, to measure the hooks by

Enter = Callable[[str], None]
Leave = Callable[[str, Any, Any], None]  # path, arguments, result


class Tracer:
    """What a clock of any kind (seconds, operations so far) counts in each part and in none of the parts inside it."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.own: dict[str, float] = {}  # by path, in the order in which they began
        self.calls: Counter[str] = Counter()
        self.calls_inside: Counter[str] = Counter()  # of parts directly inside
        self._open: list[list[Any]] = []  # path, start, counted inside

    def clear(self) -> None:
        """For the next run."""
        for counts in (self.own, self.calls, self.calls_inside):
            counts.clear()

    def enter(self, path: str) -> None:
        self.own.setdefault(path, 0.0)
        self._open.append([path, 0.0, 0.0])
        self._open[-1][1] = self.clock()

    def leave(self, path: str, arguments: Any = None, result: Any = None) -> None:
        now = self.clock()
        _, start, inside = self._open.pop()
        self.own[path] += now - start - inside
        self.calls[path] += 1
        if self._open:
            parent = self._open[-1]
            parent[2] += now - start
            self.calls_inside[parent[0]] += 1


@dataclass(frozen=True)
class HookCost:
    """What a pair of hooks adds to its module's own time, and to that of the module around it."""

    inside: float
    outside: float

    def of(self, path: str, tracer: Tracer) -> float:
        """In a part's time of one run."""
        return self.inside * tracer.calls[path] + self.outside * tracer.calls_inside[path]


@dataclass
class Shapes:
    """The first tensor that goes into a part and comes out of it, and the bytes that it makes anew."""

    input: Shape = ()
    output: Shape = ()
    bytes: int = 0


@dataclass
class Recorder:
    """The shapes of each part."""

    shapes: dict[str, Shapes] = field(default_factory=dict)
    _alive: dict[int, Tensor] = field(default_factory=dict)  # by address, so that none is used twice

    def see(self, path: str, arguments: Any, result: Any) -> None:
        own = self.shapes.setdefault(path, Shapes())
        inputs, outputs = tensors_of(arguments), tensors_of(result)
        self._alive |= {tensor.data_ptr(): tensor for tensor in inputs}
        fresh = {tensor.data_ptr(): tensor for tensor in outputs if tensor.data_ptr() not in self._alive}
        self._alive |= fresh
        own.input = own.input or (tuple(inputs[0].shape) if inputs else ())
        own.output = tuple(outputs[0].shape) if outputs else ()
        own.bytes += sum(tensor.numel() * tensor.element_size() for tensor in fresh.values())


def of_network(network: TorchNetwork, threads: int, seconds: float) -> Measured:
    """Profiles a loaded run folder on the CPU."""
    return measure(network.detector.cpu(), threads, seconds)


def measure(detector: Detector, threads: int, seconds: float) -> Measured:
    """A detector on the CPU and in eval mode, for about so many seconds; runs with hooks and without take turns. With one
    thread by CPU time, which hardly minds other programs.

    In a thread of its own: deep in a stack, calls that need another piece of it make hooks take three times as long."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_measure, detector, threads, seconds).result()


def _measure(detector: Detector, threads: int, seconds: float) -> Measured:
    clock = timing.clock_for(threads)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        crop = torch.from_numpy(noise(detector.spec.size.h, detector.spec.size.w))
        shapes, macs = _without_a_clock(detector, crop)
        whole, own, pair_us = _timed(detector, crop, clock, seconds)
    finally:
        torch.set_num_threads(before)
    how = f"hooks around {len(own)} modules, the {pair_us:.1f} µs that a pair of them takes taken off; the whole without hooks"
    return Measured(whole, _layers(detector, shapes, macs, own), how)


@contextmanager
def traced(modules: Mapping[str, nn.Module], enter: Enter, leave: Leave) -> Iterator[None]:
    """`enter` and `leave` around each call of the modules, by their paths."""
    handles = [handle for path, module in modules.items() for handle in _hooked(module, path, enter, leave)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hooked(module: nn.Module, path: str, enter: Enter, leave: Leave) -> tuple[Any, Any]:
    def before(_: nn.Module, arguments: Any) -> None:
        enter(path)

    def after(_: nn.Module, arguments: Any, result: Any) -> None:
        leave(path, arguments, result)

    return module.register_forward_pre_hook(before), module.register_forward_hook(after)


@contextmanager
def traced_detector(detector: Detector, enter: Enter, leave: Leave) -> Iterator[None]:
    """The same for a detector's modules and its decode. Its own code is the normalisation."""
    decode: Any = detector.decode

    def decode_traced(raw: Any) -> Any:
        enter(DECODE)
        found = decode(raw)
        leave(DECODE, raw, found)
        return found

    detector.decode = decode_traced
    try:
        with traced(modules_of(detector), enter, leave):
            yield
    finally:
        del detector.decode  # that of the class is seen again


def modules_of(detector: Detector) -> dict[str, nn.Module]:
    """Those that have code of their own, by path."""
    return {
        path or NORMALISATION: module for path, module in detector.named_modules() if type(module) not in TRANSPARENT
    }


def hook_cost(clock: Clock) -> HookCost:
    """Measured by many calls of a module that does nothing."""
    nothings = {str(i): Nothing() for i in range(NOTHINGS)}
    plain, hooked, inside = [], [], []
    for _ in range(20):
        plain.append(_once(nothings, clock))
        tracer = Tracer(clock)
        with traced(nothings, tracer.enter, tracer.leave):
            hooked.append(_once(nothings, clock))
        inside.append(sum(tracer.own.values()))
    call, both, between = (midmean(times) / NOTHINGS for times in (plain, hooked, inside))
    return HookCost(between - call, both - between)


class Nothing(nn.Module):
    """Hands on what it is given."""

    def forward(self, value: Any) -> Any:
        return value


def tensors_of(value: Any) -> list[Tensor]:
    """All in nested tuples, lists and dataclasses."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (tuple, list)):
        return [tensor for item in value for tensor in tensors_of(item)]
    return tensors_of(list(vars(value).values())) if hasattr(value, "__dataclass_fields__") else []


def _once(nothings: Mapping[str, nn.Module], clock: Clock) -> float:
    start = clock()
    for module in nothings.values():
        module(None)
    return clock() - start


def _without_a_clock(detector: Detector, crop: Tensor) -> tuple[dict[str, Shapes], dict[str, int]]:
    """Shapes and multiply-adds by path. These are counted as `cost.static_cost` does, the decode's products included."""
    recorder, counter = Recorder(), FlopCounterMode(display=False)
    tracer = Tracer(counter.get_total_flops)

    def leave(path: str, arguments: Any, result: Any) -> None:
        tracer.leave(path)
        recorder.see(path, arguments, result)

    with traced_detector(detector, tracer.enter, leave), sdpa_kernel(SDPBackend.MATH), counter:
        detector.predict(crop)
    recorder.shapes[NORMALISATION].output = recorder.shapes["backbone"].input  # the detector's own code ends there
    return recorder.shapes, {path: int(flops) // 2 for path, flops in tracer.own.items()}


def _timed(detector: Detector, crop: Tensor, clock: Clock, seconds: float) -> tuple[float, dict[str, float], float]:
    """ms of the whole without hooks, ms of each part by path, and the µs that a pair of hooks took."""
    tracer = Tracer(clock)

    def hooked() -> dict[str, float]:
        tracer.clear()
        tracer.enter(ANSWER)
        detector.predict(crop).numpy()
        tracer.leave(ANSWER)
        return dict(tracer.own)

    whole, parts = timing.in_turns(
        lambda: detector.predict(crop).numpy(),
        hooked,
        seconds,
        clock=clock,
        instruments=lambda: traced_detector(detector, tracer.enter, tracer.leave),
    )
    hooks = hook_cost(clock)
    times = [1e3 * midmean([run[path] for run in parts]) for path in parts[0]]
    costs = [1e3 * hooks.of(path, tracer) for path in parts[0]]
    corrected, factor = timing.without_instruments(times, costs, whole)
    return whole, dict(zip(parts[0], corrected, strict=True)), 1e6 * factor * (hooks.inside + hooks.outside)


def _layers(
    detector: Detector, shapes: Mapping[str, Shapes], macs: Mapping[str, int], own: Mapping[str, float]
) -> tuple[Layer, ...]:
    """In the order in which they began; then those with parameters that nothing has called, at no time."""
    learnt = Counter[str]()
    shipped = detector.shipped()
    for name, parameter in detector.named_parameters():
        if name in shipped:
            learnt[name.rpartition(".")[0]] += parameter.numel()
    modules = modules_of(detector)
    # The answer begins before the network and the decode after it: rows are in the order of the data.
    paths = [path for path in own if path != ANSWER] + [path for path in learnt if path not in own] + [ANSWER]
    none = Shapes()
    layers = []
    for path in paths:
        seen, module = shapes.get(path, none), modules.get(path)
        weight = getattr(module, "weight", None) if macs.get(path) else None
        layers.append(
            Layer(
                path,
                path,
                path if module is None or module is detector else type(module).__name__,
                own.get(path, 0.0),
                seen.input,
                seen.output,
                learnt[path],
                macs.get(path, 0),
                seen.bytes,
                tuple(weight.shape) if isinstance(weight, Tensor) else (),
            )
        )
    return tuple(layers)
