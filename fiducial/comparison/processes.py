"""Commands of ours in processes of their own, some at a time: one that fails takes nothing with it.

What a command says goes to a log in its folder, all attempts one after the other. Cores are shared out between those that
run at once, GPUs in turn."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from fiducial import files
from fiducial.errors import Failure
from fiducial.worker import Worker

COMMAND = "fiducial.cli:obey"  # by name: this room is below the command line
POLL_SECONDS = 0.2
STOP_SECONDS = 30  # for a run to end by itself after Ctrl-C


@dataclass(frozen=True)
class Task:
    """One command."""

    name: str
    folder: Path  # log.txt goes there
    arguments: tuple[str, ...]  # after `fiducial`

    @property
    def command(self) -> str:
        """As it can be typed."""
        return shlex.join(["fiducial", *self.arguments])


class Board(Protocol):
    """Hears what happens."""

    def ended(self, task: Task, failure: str, seconds: float, waiting: Sequence[Task], running: Sequence[Task]) -> None:
        """`failure`: why, "" where the process ended well."""
        ...

    def show(self, running: Sequence[Task]) -> None:
        """Called some times a second."""
        ...


def run_all(tasks: Sequence[Task], board: Board, jobs: int) -> None:
    """Runs them, `jobs` at a time. Raises KeyboardInterrupt after Ctrl-C, when all have been told and have ended."""
    devices = gpus()
    waiting, running = list(tasks), dict[int, _Job]()
    try:
        while waiting or running:
            for slot in [slot for slot in range(jobs) if slot not in running][: len(waiting)]:
                running[slot] = _Job.start(waiting.pop(0), jobs, devices[slot % len(devices)] if devices else None)
            for slot, job in list(running.items()):
                if job.worker.has_answered():
                    del running[slot]
                    others = [other.task for other in running.values()]
                    board.ended(job.task, job.failure(), time.monotonic() - job.began, waiting, others)
            board.show([job.task for job in running.values()])
            time.sleep(POLL_SECONDS if running else 0)
    finally:
        _stop(list(running.values()))


def jobs_of(asked: int | None, tasks: int) -> int:
    """How many run at once: what is asked for, else one, or one a GPU; no more than there are."""
    return min(asked or max(1, len(gpus())), max(1, tasks))


def gpus() -> list[str]:
    """Names for CUDA_VISIBLE_DEVICES, of the GPUs that this process may use."""
    import torch

    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [name for name in chosen.split(",") if name] if chosen is not None else None
    count = torch.cuda.device_count()
    return (names if names is not None else [str(i) for i in range(count)])[:count]


def shares(count: int, jobs: int) -> tuple[int, int]:
    """Threads and loader processes of each of `jobs` runs at once on `count` cores, so that they don't fight."""
    own = max(1, count // jobs)
    return own, max(1, min(8, own - 1))


def duration(seconds: float) -> str:
    """`48 s`, `3 min 12 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@dataclass
class _Job:
    task: Task
    worker: Worker
    began: float = field(default_factory=time.monotonic)

    @staticmethod
    def start(task: Task, jobs: int, device: str | None) -> _Job:
        task.folder.mkdir(parents=True, exist_ok=True)
        # OMP_NUM_THREADS is an upper limit where the user has set it, on machines that do other work too.
        asked = os.environ.get("OMP_NUM_THREADS", "")
        threads = str(
            min(shares(files.cores(), jobs)[0], int(asked) if asked.isdigit() and int(asked) else files.cores())
        )
        environment = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        if device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
        log = task.folder / "log.txt"
        with log.open("ab") as file:
            file.write(f"\n$ {task.command}\n".encode())
        # Detached: Ctrl-C reaches this process alone, which passes it on once.
        return _Job(task, Worker(COMMAND, task.arguments, environment=environment, log=log, detached=True))

    def failure(self) -> str:
        """Why it has failed, in a line; "" where it went well."""
        try:
            self.worker.answer()
        except (Failure, ImportError) as error:
            return str(error)
        finally:
            self.worker.end()
        return ""


def _stop(jobs: Sequence[_Job]) -> None:
    """Ends those that are still going, each with its checkpoint written."""
    for job in jobs:
        job.worker.interrupt()
    for job in jobs:
        job.worker.wait(STOP_SECONDS)
        job.worker.end()
