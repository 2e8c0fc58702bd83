"""Trains the cells of a plan: `fiducial fit` in a process each, some at a time; what has been done is kept.

    OUT/runs/<cell>/        the run folder that `fiducial fit` makes
    OUT/runs/<cell>/log.txt what it said, all attempts one after the other

A cell is finished when its folder has a model.json; one that has a recipe.json was begun and is resumed exactly."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from fiducial.comparison.plan import Cell, Plan, fit_arguments
from fiducial.errors import UserError
from fiducial.models import detector as detectors
from fiducial.training import history

Echo = Callable[[str], None]
CHILD = (sys.executable, "-m", "fiducial.comparison.child")
POLL_SECONDS = 0.2
STOP_SECONDS = 30  # for a run to end by itself after Ctrl-C


def folder_of(out: Path, cell: Cell) -> Path:
    return out / "runs" / cell.name


def is_finished(folder: Path) -> bool:
    """The card is written last; weights that were deleted since are trained again."""
    return all((folder / name).exists() for name in ("model.json", "model.safetensors"))


def command_of(plan: Plan, cell: Cell, out: Path) -> list[str]:
    """The cell's run as it can be typed: `fiducial fit ..`, without --resume."""
    arguments = ["fiducial", "fit", str(plan.data), "--out", str(folder_of(out, cell)), *fit_arguments(cell.recipe)]
    if plan.images is not None:
        arguments += ["--images", str(plan.images)]
    return [*arguments, "--category", plan.category] if plan.category is not None else arguments


def train(
    plan: Plan, out: Path, *, jobs: int | None = None, progress: bool = False, echo: Echo = print
) -> dict[str, str]:
    """Trains what is not finished, `jobs` cells at a time (default: one, or one a GPU): cell's name -> why it failed.

    Cores are shared out between the jobs, GPUs in turn. Raises KeyboardInterrupt after Ctrl-C, when all runs have
    written where they are."""
    devices = gpus()
    jobs = jobs or max(1, len(devices))
    waiting = [cell for cell in plan.cells if not is_finished(folder_of(out, cell))]
    kept = len(plan.cells) - len(waiting)
    if kept:
        echo(f"{kept} of {len(plan.cells)} runs are finished already")
    board = _Board(plan, out, jobs, progress, echo)
    slots = list(range(min(jobs, max(1, len(waiting)))))
    running: dict[int, _Job] = {}
    try:
        while waiting or running:
            for slot in [slot for slot in slots if slot not in running][: len(waiting)]:
                running[slot] = _start(
                    plan, waiting.pop(0), out, jobs, devices[slot % len(devices)] if devices else None
                )
            for slot, job in list(running.items()):
                if job.process.poll() is not None:
                    del running[slot]
                    board.ended(job, waiting, [other.cell for other in running.values()])
            board.show([job.cell for job in running.values()])
            time.sleep(POLL_SECONDS if running else 0)
    finally:
        _stop(list(running.values()))
        board.close()
    return board.failures


def gpus() -> list[str]:
    """Names for CUDA_VISIBLE_DEVICES, of the GPUs that this process may use."""
    import torch

    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [name for name in chosen.split(",") if name] if chosen is not None else None
    count = torch.cuda.device_count()
    return (names if names is not None else [str(i) for i in range(count)])[:count]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shares(count: int, jobs: int) -> tuple[int, int]:
    """Threads and loader processes of each of `jobs` runs at once on `count` cores, so that they don't fight."""
    own = max(1, count // jobs)
    return own, max(1, min(8, own - 1))


def _asked_threads() -> int | None:
    """OMP_NUM_THREADS where the user has set it: an upper limit, on machines that do other work too."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    return int(text) if text.isdigit() and int(text) > 0 else None


def seconds_left(
    cells: Sequence[Cell], histories: Mapping[str, Sequence[Mapping[str, float]]], jobs: int
) -> float | None:
    """For what is left of `cells`, by the speed measured so far: of the same method, backbone and size where it has
    run, else of all. histories: cell's name -> rows of its history.csv, of all cells. None before the first epoch."""
    speeds: dict[str, list[float]] = {}
    for name, rows in histories.items():
        speeds.setdefault(name.rpartition("-s")[0], []).extend(row["seconds"] for row in rows)
    known = {kind: sum(seconds) / len(seconds) for kind, seconds in speeds.items() if seconds}
    if not known:
        return None
    usual = sum(known.values()) / len(known)
    total = 0.0
    for cell in cells:
        left = cell.recipe.epochs - len(histories.get(cell.name, ()))
        total += max(0, left) * known.get(cell.name.rpartition("-s")[0], usual)
    return total / min(jobs, max(1, len(cells)))


def duration(seconds: float) -> str:
    """`48 s`, `3 min 12 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@contextmanager
def alone(out: Path) -> Any:
    """Only one comparison at a time works in a folder; a second one is refused. Given up with the process."""
    try:
        import fcntl
    except ImportError:  # not on this system: the user must look out for it
        yield
        return
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"{out}: another `fiducial compare` is at work there; wait for it or end it") from None
        yield


# ------------------------------------------------------------------------------------------------------ one run


@dataclass
class _Job:
    cell: Cell
    folder: Path
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    log_start: int
    began: float = field(default_factory=time.monotonic)

    def failure(self) -> str:
        """Its last line; "" where it went well. Whoever is killed can't say so itself."""
        self.process.wait()
        self.log.close()
        if self.process.returncode == 0:
            return ""
        with (self.folder / "log.txt").open("rb") as file:
            file.seek(self.log_start)
            lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
        if self.process.returncode < 0:
            name = signal.Signals(-self.process.returncode).name
            return f"killed by {name}" + (", as happens when memory runs out" if name == "SIGKILL" else "")
        said = lines[-1] if lines else ""
        return said.removeprefix("fiducial: ") or f"ended with code {self.process.returncode}"


def _start(plan: Plan, cell: Cell, out: Path, jobs: int, device: str | None) -> _Job:
    folder = folder_of(out, cell)
    folder.mkdir(parents=True, exist_ok=True)
    threads, workers = shares(cores(), jobs)
    threads = min(threads, _asked_threads() or threads)
    if cell.recipe.workers is None and jobs > 1:
        cell = replace(cell, recipe=replace(cell.recipe, workers=workers))  # says nothing about what is learnt
    arguments = command_of(plan, cell, out)[1:]
    if (folder / "recipe.json").exists():
        arguments.append("--resume")
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    if device is not None:
        environment["CUDA_VISIBLE_DEVICES"] = device
    log = (folder / "log.txt").open("ab")
    log.write(f"\n$ {shlex.join(['fiducial', *arguments])}\n".encode())
    log.flush()
    # A session of its own: Ctrl-C reaches this process alone, which passes it on once.
    process = subprocess.Popen(
        [*CHILD, *arguments],
        stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, start_new_session=True,
    )  # fmt: skip
    return _Job(cell, folder, process, log, log.tell())


def _stop(jobs: Sequence[_Job]) -> None:
    """Ends runs that are still going, each with its checkpoint written."""
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


class _Board:
    """Says what happens: a line a cell, and on a terminal a bar of epochs."""

    def __init__(self, plan: Plan, out: Path, jobs: int, progress: bool, echo: Echo) -> None:
        self.plan, self.out, self.jobs, self.echo = plan, out, jobs, echo
        self.failures: dict[str, str] = {}
        self.count = sum(is_finished(folder_of(out, cell)) for cell in plan.cells)
        self.bar: Any = None
        if progress:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            columns = (
                TextColumn("{task.fields[runs]}"), BarColumn(20), TextColumn("{task.fields[left]}"),
                TextColumn("{task.description}", markup=False),
            )  # fmt: skip
            self.bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self.task = self.bar.add_task("", total=sum(cell.recipe.epochs for cell in plan.cells), left="", runs="")
            self.bar.start()

    def ended(self, job: _Job, waiting: Sequence[Cell], running: Sequence[Cell]) -> None:
        failure, self.count = job.failure(), self.count + 1
        took = duration(time.monotonic() - job.began)
        head = f"[{self.count} of {len(self.plan.cells)}] {job.cell.name}"
        if failure and not is_finished(job.folder):
            self.failures[job.cell.name] = failure
            line = f"{head}: failed after {took}: {failure}"
        else:
            card = detectors.load_card(job.folder)
            nme = card.metrics["val"]["nme"]
            line = f"{head}: val NME {100 * nme:.2f} %, {took}" + (f"; after training: {failure}" if failure else "")
        left = self._left([*waiting, *running])
        self._say(line + (f"; {left} left" if left and (waiting or running) else ""))

    def show(self, running: Sequence[Cell]) -> None:
        if self.bar is None:
            return
        rows = self._histories()
        done = sum(cell.recipe.epochs if is_finished(folder_of(self.out, cell)) else len(rows[cell.name])
                   for cell in self.plan.cells)  # fmt: skip
        unfinished = [cell for cell in self.plan.cells
                      if cell.name not in self.failures and not is_finished(folder_of(self.out, cell))]  # fmt: skip
        names = ", ".join(
            f"{cell.method} seed {cell.recipe.seed}: {len(rows[cell.name])}/{cell.recipe.epochs}" for cell in running
        )
        ended = len(self.plan.cells) - len(unfinished)
        left, runs = self._left(unfinished), f"{ended} of {len(self.plan.cells)} runs"
        self.bar.update(self.task, completed=done, description=names, left=left, runs=runs)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()

    def _left(self, cells: Sequence[Cell]) -> str:
        seconds = seconds_left(cells, self._histories(), self.jobs)
        return "" if seconds is None else f"about {duration(seconds)}"

    def _histories(self) -> dict[str, list[dict[str, float]]]:
        return {cell.name: history.read(folder_of(self.out, cell) / "history.csv") for cell in self.plan.cells}

    def _say(self, line: str) -> None:
        if self.bar is not None:
            self.bar.console.print(line, highlight=False, markup=False, soft_wrap=True)
        else:
            self.echo(line)
