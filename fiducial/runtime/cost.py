"""What a model costs, measured: parameters, multiply-adds, bytes; milliseconds and memory in the runtimes that ship.

Each (model, runtime) has a process of its own, bound to one core and one thread, and all are asked in turn, round after
round, so that whatever else the machine does meets all alike. Compare figures of one call only, by `ratio`."""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from fiducial.errors import Failure, UserError
from fiducial.runtime import cost_worker, runtime
from fiducial.runtime.cost_worker import Part
from fiducial.worker import Worker

if TYPE_CHECKING:
    from fiducial.models.detector import Detector

OF_RUN_FOLDERS = tuple(cost_worker.OF_RUN_FOLDERS)  # exported files have a runtime of their own


@dataclass(frozen=True)
class Cost:
    """What can be told without a clock; None where an exported file does not say it."""

    parameters: int | None
    macs: int | None  # multiply-adds of one crop, network only
    weight_bytes: int  # of the file of weights


@dataclass(frozen=True)
class Latency:
    """One crop at a time, uint8 in, Keypoints out, in one runtime. Where `error` says why there are no figures, they
    are None."""

    runtime: str
    threads: int
    median_ms: float | None = None
    p10_ms: float | None = None
    p90_ms: float | None = None
    cpu_ms: float | None = None  # median of CPU time, all threads together: without what other programs took
    round_ms: tuple[float, ...] = ()  # the median of each round; of CPU time where there is one thread
    memory_bytes: int | None = None  # the most that the process had resident
    base_memory_bytes: int | None = None  # of it, what was there before the model: Python and the runtime
    # outside: the runtime has no form of the decode's operators; the time is its network's and torch's decode added,
    # the memory is the network's.
    decode: Literal["inside", "outside"] = "inside"
    difference_px: float | None = None  # largest distance from torch's answer in x or y
    error: str = ""

    @property
    def model_memory_bytes(self) -> int | None:
        """The model's own share of the memory."""
        if self.memory_bytes is None or self.base_memory_bytes is None:
            return None
        return self.memory_bytes - self.base_memory_bytes


class TimedFile(Protocol):
    """A file that was made of a run folder to be timed: one uint8 crop in; Keypoints out, or of part "network" the raw
    output, whose decode torch then does."""

    @property
    def path(self) -> Path: ...

    @property
    def part(self) -> Part: ...

    @property
    def difference_px(self) -> float:
        """Largest distance from torch's answer in x or y."""
        ...


# Makes the file for ONNX Runtime: (run folder, file to write, part) -> what was written, without its decode where
# ONNX has no form of it. `exporting.onnx_export.of_run_folder` is one; this room makes no files.
Maker = Callable[[Path, Path, Part], TimedFile]


@dataclass(frozen=True)
class Job:
    """A run folder in a runtime, from uint8 crop: `whole` to Keypoints, `network` to raw; `decode` is torch only. Or an
    exported file in its own, always whole."""

    model: Path
    runtime: str
    part: Part = "whole"


def static_cost(detector: Detector) -> Cost:
    """Parameters, multiply-adds and bytes of a detector, without what only training needs (the flow of `rle`).

    Multiply-adds are half of what torch.utils.flop_counter counts: it takes two operations for each, in convolutions,
    linear layers and matrix products, and counts nothing else (no bias, normalisation, activation or resize). Those of
    the network for one crop, without decode."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    size, training = detector.spec.size, detector.training
    crop = torch.zeros(1, size.h, size.w, 3, dtype=torch.uint8, device=detector.get_buffer("mean").device)
    counter = FlopCounterMode(display=False)
    # The counter does not know the CPU's fused attention; in its plain form it is two matrix products.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        detector.eval()(crop)
    detector.train(training)
    shipped, learnt = detector.shipped(), {name for name, _ in detector.named_parameters()}
    return Cost(
        parameters=sum(tensor.numel() for name, tensor in shipped.items() if name in learnt),
        macs=counter.get_total_flops() // 2,
        weight_bytes=sum(tensor.numel() * tensor.element_size() for tensor in shipped.values()),
    )


def exported_cost(path: Path) -> Cost:
    """Weighs an exported file; it does not say its parameters and multiply-adds."""
    return Cost(None, None, sum(file.stat().st_size for file in runtime.files_of(path)))


def ratio(a: Latency, b: Latency) -> float | None:
    """How many times b's time a takes: the median over rounds of one call, as neighbours in time saw the same machine;
    with one thread by CPU time, which hardly minds other programs. None where one of them has an error."""
    pairs = [x / y for x, y in zip(a.round_ms, b.round_ms, strict=False)]
    return statistics.median(pairs) if pairs else None


def runtimes_of(model: Path) -> tuple[str, ...]:
    """Where a model can be timed: a run folder in torch and, made into a file for it, in ONNX Runtime; an exported file
    in the runtime that it was made for. UserError where it is no model."""
    return (runtime.family_of(model).NAME,) if runtime.is_exported(model) else OF_RUN_FOLDERS


def measure(
    model: Path,
    runtimes: Sequence[str] | None = None,
    *,
    make: Maker | None = None,
    threads: int = 1,
    repeats: int = 20,
    rounds: int = 5,
) -> dict[str, Latency]:
    """Times a model in each runtime, None = all of `runtimes_of`: runtime -> Latency. See `measure_jobs`."""
    return measure_many({"": model}, runtimes, make=make, threads=threads, repeats=repeats, rounds=rounds)[""]


def measure_many(
    models: Mapping[str, Path],
    runtimes: Sequence[str] | None = None,
    *,
    make: Maker | None = None,
    threads: int = 1,
    repeats: int = 20,
    rounds: int = 5,
) -> dict[str, dict[str, Latency]]:
    """Times models by name in turns, each in each runtime, None = all of its `runtimes_of`: name -> runtime -> Latency.
    See `measure_jobs`."""
    keys = [(name, each) for name, model in models.items() for each in runtimes or runtimes_of(model)]
    jobs = [Job(models[name], each) for name, each in keys]
    found: dict[str, dict[str, Latency]] = {name: {} for name in models}
    for (name, each), latency in zip(
        keys, measure_jobs(jobs, make=make, threads=threads, repeats=repeats, rounds=rounds), strict=True
    ):
        found[name][each] = latency
    return found


def measure_jobs(
    jobs: Sequence[Job], *, make: Maker | None = None, threads: int = 1, repeats: int = 20, rounds: int = 5
) -> list[Latency]:
    """Times jobs in `rounds` turns of `repeats` runs each: one Latency a job.

    `make` makes the files of run folders for ONNX Runtime. UserError for a runtime that is not known; all else that goes
    wrong is the `error` of the job that it happened to."""
    for job in jobs:
        runtime.named(job.runtime)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        prepared = [_prepare(job, folder / str(i), threads, make) for i, job in enumerate(jobs)]
        # Workers start one after the other: together they would only stand in each other's way.
        workers = [[_Timed(task, stack) for task in plan.tasks] for plan in prepared]
        for _ in range(rounds):
            for each in workers:
                for worker in each:
                    worker.run(repeats)
        return [_combined(plan.latency, each) for plan, each in zip(prepared, workers, strict=True)]


# ------------------------------------------------------------------------------------------------- what is run


@dataclass(frozen=True)
class _Plan:
    """A job as its workers get it. Several tasks: their times are added."""

    latency: Latency
    tasks: tuple[cost_worker.Task, ...] = ()


def _prepare(job: Job, folder: Path, threads: int, make: Maker | None) -> _Plan:
    """The job's tasks. Of a run folder, other runtimes than torch get a file made for them in `folder`."""
    latency = Latency(job.runtime, threads)
    try:
        exported = runtime.is_exported(job.model)
        if exported or job.runtime not in OF_RUN_FOLDERS:
            _refuse_elsewhere(job)
        if exported or job.runtime == "torch":
            return _Plan(latency, (_task(job.runtime, job.model, job.part, threads, exported),))
        if make is None:
            raise UserError(f"{job.model}: no file of it for {job.runtime}; time one that `fiducial export` made")
        folder.mkdir()
        made = make(job.model, folder / "model.onnx", job.part)
    except (UserError, ImportError, RuntimeError, MemoryError) as error:  # RuntimeError: torch's own
        return _Plan(
            replace(
                latency, error=f"{job.runtime}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
            )
        )
    tasks = [_task(job.runtime, made.path, "whole", threads)]
    if job.part == "whole" and made.part == "network":
        latency = replace(latency, decode="outside")
        tasks.append(_task("torch", job.model, "decode", threads))
    return _Plan(replace(latency, difference_px=made.difference_px), tuple(tasks))


def _refuse_elsewhere(job: Job) -> None:
    """A file in another runtime than its own, a part of a file, or a run folder in a runtime that takes files alone."""
    own = runtimes_of(job.model)
    if job.runtime not in own:
        raise UserError(f"{job.model} runs in {' and '.join(own)}; `fiducial export` makes files for other runtimes")
    if job.part != "whole":
        raise UserError(f"{job.model}: an exported file is timed as a whole; its {job.part} alone can't be")


def _task(name: str, model: Path, part: Part, threads: int, exported: bool = False) -> cost_worker.Task:
    """Bound to as many cores as it has threads, always the same ones: workers run one at a time."""
    cores = sorted(os.sched_getaffinity(0))[-threads:] if hasattr(os, "sched_getaffinity") else []
    return cost_worker.Task(name, str(model), part, exported, threads, tuple(cores))


def _combined(latency: Latency, workers: Sequence[_Timed]) -> Latency:
    """The figures of a job's workers; times of one round are added run by run."""
    error = latency.error or next((worker.error for worker in workers if worker.error), "")
    if error or not workers:
        return replace(latency, error=error)
    clock = np.sum([worker.clock for worker in workers], axis=0)  # [rounds, repeats]
    cpu = np.sum([worker.cpu for worker in workers], axis=0)
    p10, median, p90 = (float(value) for value in np.percentile(clock, (10, 50, 90)))
    by_round = np.median(cpu if latency.threads == 1 else clock, axis=1)
    first = workers[0]
    return replace(
        latency,
        median_ms=median,
        p10_ms=p10,
        p90_ms=p90,
        cpu_ms=float(np.median(cpu)),
        round_ms=tuple(float(value) for value in by_round),
        memory_bytes=first.memory_bytes,
        base_memory_bytes=first.base_memory_bytes,
    )


class _Timed:
    """The process of one task. `error` says why it has died."""

    def __init__(self, task: cost_worker.Task, stack: ExitStack) -> None:
        self.task = task
        self.clock: list[list[float]] = []  # ms of each run, by round
        self.cpu: list[list[float]] = []
        self.memory_bytes: int | None = None
        self.base_memory_bytes: int | None = None
        self.error = ""
        # Libraries read these once, when they are imported.
        limits = {f"{name}_NUM_THREADS": str(task.threads) for name in ("OMP", "MKL", "OPENBLAS")}
        worker = Worker("fiducial.runtime.cost_worker:serve", vars(task), environment=limits)
        with self._noted():
            self.worker = stack.enter_context(worker)
            self.base_memory_bytes = self.worker.first["base_memory_bytes"]

    def run(self, repeats: int) -> None:
        """Takes one turn; nothing where the worker has died."""
        if self.error:
            return
        with self._noted():
            answer = self.worker.ask(repeats)
            self.clock.append(answer["ms"])
            self.cpu.append(answer["cpu_ms"])
            self.memory_bytes = answer["memory_bytes"]

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except (Failure, ImportError) as error:
            self.error = f"{self.task.runtime}: {error}"
