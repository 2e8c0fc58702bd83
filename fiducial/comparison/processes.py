"""Commands of ours in processes of their own, some at a time: one that fails takes nothing with it.

What a command says goes to a log in its folder, all attempts one after the other. Cores are shared out between those that
run at once, GPUs in turn."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from fiducial.comparison.run import CHILD, POLL_SECONDS, STOP_SECONDS, cores, duration, gpus, shares
from fiducial.errors import UserError

Echo = Callable[[str], None]


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


def run_all(
    tasks: Sequence[Task], outcome: Callable[[Task], str], *, jobs: int | None = None, echo: Echo = print
) -> dict[str, str]:
    """Runs them, `jobs` at a time (default: one, or one a GPU): name -> why it failed.

    `outcome` puts what a finished task has come to into words, "" where it has not come to anything. Raises
    KeyboardInterrupt after Ctrl-C, when all have been told and have ended."""
    devices = gpus()
    jobs = min(jobs or max(1, len(devices)), max(1, len(tasks)))
    waiting, running = list(tasks), dict[int, _Job]()
    failures: dict[str, str] = {}
    seconds: list[float] = []
    try:
        while waiting or running:
            for slot in [slot for slot in range(jobs) if slot not in running][: len(waiting)]:
                running[slot] = _Job.start(waiting.pop(0), jobs, devices[slot % len(devices)] if devices else None)
            for slot, job in list(running.items()):
                if job.process.poll() is None:
                    continue
                del running[slot]
                failure, took = job.failure(), time.monotonic() - job.began
                reached = outcome(job.task)
                if not reached:
                    failures[job.task.name] = failure or "ended without a result"
                seconds.append(took)
                left = sum(seconds) / len(seconds) * (len(waiting) + len(running) / 2) / jobs
                head = f"[{len(tasks) - len(waiting) - len(running)} of {len(tasks)}] {job.task.name}"
                line = f"{head}: {reached or f'failed: {failures[job.task.name]}'}, {duration(took)}"
                echo(line + (f"; about {duration(left)} left" if waiting or running else ""))
            time.sleep(POLL_SECONDS if running else 0)
    finally:
        _stop(list(running.values()))
    return failures


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Only one command at a time works in a folder; a second one is refused. Given up with the process."""
    try:
        import fcntl
    except ImportError:  # not on this system: the user must look out for it
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"{folder}: another command is at work there; wait for it or end it") from None
        yield


@dataclass
class _Job:
    task: Task
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    log_start: int
    began: float = field(default_factory=time.monotonic)

    @staticmethod
    def start(task: Task, jobs: int, device: str | None) -> _Job:
        task.folder.mkdir(parents=True, exist_ok=True)
        asked = os.environ.get("OMP_NUM_THREADS", "")
        threads = str(min(shares(cores(), jobs)[0], int(asked) if asked.isdigit() and int(asked) else cores()))
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        if device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
        log = (task.folder / "log.txt").open("ab")
        log.write(f"\n$ {task.command}\n".encode())
        log.flush()
        # A session of its own: Ctrl-C reaches this process alone, which passes it on once.
        process = subprocess.Popen(
            [*CHILD, *task.arguments], stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment,
            start_new_session=True,
        )  # fmt: skip
        return _Job(task, process, log, log.tell())

    def failure(self) -> str:
        """Its last line; "" where it went well. Whoever is killed can't say so itself."""
        self.process.wait()
        self.log.close()
        if self.process.returncode == 0:
            return ""
        if self.process.returncode < 0:
            name = signal.Signals(-self.process.returncode).name
            return f"killed by {name}" + (", as happens when memory runs out" if name == "SIGKILL" else "")
        with (self.task.folder / "log.txt").open("rb") as file:
            file.seek(self.log_start)
            lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
        said = lines[-1] if lines else ""
        return said.removeprefix("fiducial: ") or f"ended with code {self.process.returncode}"


def _stop(jobs: Sequence[_Job]) -> None:
    """Ends those that are still going, each with its checkpoint written."""
    for job in jobs:
        with suppress(ProcessLookupError):
            job.process.send_signal(signal.SIGINT)
    for job in jobs:
        try:
            job.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            job.process.kill()
            job.process.wait()
        job.log.close()
