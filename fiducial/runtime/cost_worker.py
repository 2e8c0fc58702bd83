"""One model in one runtime, timed when asked, in a process that `cost.py` starts (`worker.py`).

Little is imported up here, and nothing before the process is bound to its cores."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Step = Callable[[], Any]
Part = Literal["whole", "network", "decode"]
WARM_UP = 5  # runs before the first answer: memory is laid out, kernels are chosen
WARM_UP_TURN = 2  # runs before each turn: the caches hold what the other workers did


@dataclass(frozen=True)
class Task:
    """What a worker is given."""

    runtime: str
    model: str  # a run folder for torch, a file for other runtimes
    part: Part
    exported: bool  # a file of `fiducial export`; else what `cost.py` made of a run folder
    threads: int
    cores: tuple[int, ...]  # the process stays on these; () = anywhere


def import_torch(task: Task) -> None:
    """torch and all that the model's network needs, timm among it where it is from there."""
    import torch

    from fiducial.models import catalog
    from fiducial.models import detector as detectors

    torch.set_num_threads(task.threads)
    spec = detectors.load_card(Path(task.model)).spec
    catalog.head_module(spec.method)
    any(family.matches(spec.backbone.replace("-", "_")) for family in catalog.families())


def load_torch(task: Task) -> Step:
    """Eager torch. whole: uint8 crop to Keypoints in numpy; network: to raw; decode: raw to Keypoints."""
    import torch

    from fiducial.models import detector as detectors

    detector, _ = detectors.load(Path(task.model))
    crop = torch.from_numpy(noise(detector.spec.size.h, detector.spec.size.w))

    def whole() -> Any:
        return detector.predict(crop).numpy()

    def network() -> Any:
        with torch.inference_mode():
            return detectors.full_precision(detector(crop))

    if task.part == "decode":
        raw = network()

        def decode() -> Any:
            with torch.inference_mode():
                return detector.decode(raw).numpy()

        return decode
    return whole if task.part == "whole" else network


def import_onnxruntime(task: Task) -> None:
    import onnxruntime  # noqa: F401


def load_onnxruntime(task: Task) -> Step:
    """A file with a uint8 crop as its only input; what it gives out is the file's affair."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = task.threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(task.model, options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    crop = noise(*given.shape[1:3])
    return lambda: session.run(None, {given.name: crop})


def import_exported(task: Task) -> None:
    """A runtime's name is that of its module, too. Where that is missing, loading the file says what to install."""
    importlib.import_module("fiducial.runtime.runtime")
    with suppress(ModuleNotFoundError):
        importlib.import_module(task.runtime)


def load_exported(task: Task) -> Step:
    """As `fiducial.load` has it: uint8 crop to Keypoints in numpy."""
    from fiducial.runtime import runtime

    network = runtime.opened(Path(task.model), threads=task.threads).network
    crop = noise(network.card.spec.size.h, network.card.spec.size.w)
    return lambda: network.predict(crop)


def noise(height: int, width: int) -> Any:
    """A crop of all colours, the same for all: [1, h, w, 3] uint8."""
    import numpy as np

    return np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)


# How a task is prepared: its imports, which are not the model's own memory; then the model, ready to run.
Preparation = tuple[Callable[[Task], None], Callable[[Task], Step]]
OF_RUN_FOLDERS: dict[str, Preparation] = {
    "torch": (import_torch, load_torch),
    "onnxruntime": (import_onnxruntime, load_onnxruntime),
}
OF_EXPORTED: Preparation = (import_exported, load_exported)


def peak_memory_bytes() -> int | None:
    """The most memory that this process has had resident; None where the system does not say.

    Linux hands getrusage's figure on from parent to child, so a small child of a large process would look large;
    VmHWM starts anew with the program."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def times_ms(step: Step, repeats: int) -> tuple[list[float], list[float]]:
    """Each of `repeats` runs: by the clock, and of the CPU, which leaves out what other programs took."""
    clock, cpu = [], []
    for _ in range(repeats):
        start, start_cpu = time.perf_counter(), time.process_time()
        step()
        clock.append(1e3 * (time.perf_counter() - start))
        cpu.append(1e3 * (time.process_time() - start_cpu))
    # Windows counts CPU time in steps of 16 ms.
    return clock, clock if sys.platform == "win32" else cpu


def serve(values: dict[str, Any]) -> Generator[dict[str, Any], int, None]:
    """Loads the task's model and says {"base_memory_bytes"}; then answers each number of runs by {"ms": [..],
    "cpu_ms": [..], "memory_bytes"}: for `worker.Worker`."""
    task = Task(**{**values, "cores": tuple(values["cores"])})
    if task.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, task.cores)
    imports, load = OF_EXPORTED if task.exported else OF_RUN_FOLDERS[task.runtime]
    imports(task)
    base = peak_memory_bytes()
    step = load(task)
    times_ms(step, WARM_UP)
    repeats = yield {"base_memory_bytes": base}
    while True:
        times_ms(step, WARM_UP_TURN)
        clock, cpu = times_ms(step, repeats)
        repeats = yield {"ms": clock, "cpu_ms": cpu, "memory_bytes": peak_memory_bytes()}
