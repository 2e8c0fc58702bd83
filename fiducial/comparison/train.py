"""Trains the cells of a plan, each by its command in a process of its own, some at a time; what has been done is kept.

A cell is finished when its folder has a card and weights; one that has a recipe.json was begun and is resumed exactly.
One that fails takes nothing with it. What a command says goes to a log in its folder, all attempts one after the other.
Cores are shared out between those that run at once, GPUs taken in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fiducial.comparison.cells import Cell, typed
from fiducial.comparison.places import STOP_SECONDS, Places
from fiducial.errors import Failure, Interrupted
from fiducial.log import logger
from fiducial.models import detector as detectors
from fiducial.progress import LINE_S, duration
from fiducial.training import history
from fiducial.training.failure import TrainingFailure

POLL_SECONDS = 0.2

Outcome = Callable[[Mapping[str, float]], str]  # a run's figures on val -> what it has come to, in words


def is_finished(folder: Path) -> bool:
    """Says whether a run folder has its card, which is written last, and its weights, which may be deleted since."""
    return all((folder / name).exists() for name in ("model.json", "model.safetensors"))


def train(
    cells: Sequence[Cell],
    out: Path,
    outcome: Outcome,
    *,
    places: Places = Places(),  # noqa: B008
    progress: bool = False,
    finished: Callable[[Path], bool] = is_finished,
    begins: Callable[[Cell], bool] = lambda cell: True,
) -> dict[str, str]:
    """Trains what is not finished, some cells at a time, and returns cell's name -> why it failed.

    places: how many at a time, and where. finished: whether a cell's folder has all that its command makes. begins: whether a cell is
    to be trained still, asked when its turn comes. Raises KeyboardInterrupt after Ctrl-C, when all runs have written where they are."""
    waiting = [cell for cell in cells if not finished(out / cell.folder)]
    if len(waiting) < len(cells):
        logger.info(f"{len(cells) - len(waiting)} of {len(cells)} runs are finished already")
    devices = places.gpus
    jobs = min(places.at_once, max(1, len(waiting)))
    board, running = _Board(cells, out, outcome, jobs, progress, finished), dict[int, _Job]()
    try:
        while waiting or running:
            for slot in [slot for slot in range(jobs) if slot not in running][: len(waiting)]:
                cell, device = waiting.pop(0), devices[slot % len(devices)] if devices else None
                if begins(cell):
                    running[slot] = _Job(cell, out, places, jobs, device)
                else:
                    board.cells = [each for each in board.cells if each is not cell]
            for slot, job in list(running.items()):
                if job.worker.has_answered():
                    del running[slot]
                    board.ended(job.cell, job.failure(), time.monotonic() - job.began)
            board.show([job.cell for job in running.values()])
            time.sleep(POLL_SECONDS if running else 0)
    finally:
        _stop(list(running.values()))
        board.close()
    return board.failures


def all_failed(failures: Mapping[str, str]) -> TrainingFailure:
    """Makes the error of a comparison that has nothing to compare, naming the first failure."""
    name, reason = next(iter(failures.items()))
    return TrainingFailure(f"all {len(failures)} runs failed; {name}: {reason}")


def arguments_of(cell: Cell, out: Path, workers: int | None = None) -> list[str]:
    """Gives the command that trains a cell, after `fiducial`, resuming it where it was begun.

    workers: loader processes, where the recipe leaves them open; they change nothing that is learnt."""
    folder = out / cell.folder
    chosen = ["--set", f"workers={workers}"] if workers is not None and cell.recipe.workers is None else []
    resumed = ["--resume"] if (folder / "recipe.json").exists() else []
    return [*cell.command, "--out", str(folder), *chosen, *resumed]


def seconds_left(
    cells: Sequence[Cell],
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    jobs: int,
    beside_s: float = 0.0,
) -> float | None:
    """Estimates what is left of `cells` from the speed so far: of the same kind where one has run, else of all.

    histories: cell's name -> rows of its history.csv, of all cells. beside_s: what a cell takes beside its epochs. None
    before the first epoch."""
    speeds: dict[str, list[float]] = {}
    for name, rows in histories.items():
        speeds.setdefault(_kind(name), []).extend(row["seconds"] for row in rows)
    known = {kind: sum(seconds) / len(seconds) for kind, seconds in speeds.items() if seconds}
    if not known:
        return None
    usual = sum(known.values()) / len(known)
    total = 0.0
    for cell in cells:
        epochs_left = cell.recipe.epochs - len(histories.get(cell.name, ()))
        total += max(0, epochs_left) * known.get(_kind(cell.name), usual) + beside_s
    return total / min(jobs, max(1, len(cells)))


def _kind(name: str) -> str:
    """A cell's name without its seed."""
    return name.rpartition("-s")[0]


class _Job:
    """The process of a cell."""

    def __init__(self, cell: Cell, out: Path, places: Places, jobs: int, device: str | None) -> None:
        self.cell, self.began = cell, time.monotonic()
        folder = (out / cell.folder).resolve()
        arguments = arguments_of(cell, out, places.workers(jobs) if jobs > 1 else None)
        log = folder / "log.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            file.write(f"\n$ {typed(arguments)}\n".encode())
        self.worker = places.start(arguments, folder, log, device, jobs)

    def failure(self) -> str:
        """Says in a line why it has failed; "" where it went well. Raises Interrupted where that is the machine's fault:
        the others would fare no better."""
        try:
            self.worker.answer()
        except Interrupted as error:
            raise Interrupted(self.cell.name, str(error)) from error
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


class _Board:
    """Says what happens: a line a cell; how far those are that run: on a terminal a bar, else a line before it gets silent."""

    def __init__(
        self,
        cells: Sequence[Cell],
        out: Path,
        outcome: Outcome,
        jobs: int,
        progress: bool,
        finished: Callable[[Path], bool] = is_finished,
    ) -> None:
        self.cells, self.out, self.outcome, self.jobs, self.finished = list(cells), out, outcome, jobs, finished
        self.failures: dict[str, str] = {}
        self.beside_s: list[float] = []  # of each cell that has ended, what it took beside its epochs
        self.said = time.monotonic()
        self.bar: Any = None
        if progress:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            runs, left = TextColumn("{task.fields[runs]}"), TextColumn("{task.fields[left]}")
            description = TextColumn("{task.description}", markup=False)
            self.bar = Progress(runs, BarColumn(20), left, description, console=Console(stderr=True), transient=True)
            self.task = self.bar.add_task("", total=sum(cell.recipe.epochs for cell in cells), left="", runs="")
            self.bar.start()

    def ended(self, cell: Cell, failure: str, seconds: float) -> None:
        """Says what a cell has come to. `failure`: why, "" where its process ended well."""
        folder, took = self.out / cell.folder, duration(seconds)
        if self.finished(folder):
            reached = self.outcome(detectors.load_card(folder).metrics["val"])
            line = f"{reached}, {took}" + (f"; after training: {failure}" if failure else "")
        else:
            self.failures[cell.name] = failure or "ended without a result"
            line = f"failed after {took}: {self.failures[cell.name]}"
        to_do, histories = self._to_do(), self._histories()
        self.beside_s.append(max(0.0, seconds - sum(row["seconds"] for row in histories[cell.name])))
        left = self._left(to_do, histories)
        line = f"[{len(self.cells) - len(to_do)} of {len(self.cells)}] {cell.name}: {line}" + (
            left and f"; {left} left"
        )
        if self.bar is not None:
            self.bar.console.print(line, highlight=False, markup=False, soft_wrap=True)
        else:
            self._say(line)

    def show(self, running: Sequence[Cell]) -> None:
        """Draws the bar or says how far it is; is called some times a second."""
        if self.bar is None and time.monotonic() - self.said < LINE_S:
            return
        rows, to_do = self._histories(), self._to_do()
        names = ", ".join(
            f"{cell.label} seed {cell.recipe.seed}: {len(rows[cell.name])}/{cell.recipe.epochs}" for cell in running
        )
        done = sum(len(rows[cell.name]) if cell in to_do else cell.recipe.epochs for cell in self.cells)
        runs = f"{len(self.cells) - len(to_do)} of {len(self.cells)} runs"
        left = self._left(to_do, rows)
        if self.bar is None:
            self._say(f"{runs} done; epochs of {names}" + (left and f"; {left} left"))
        else:
            self.bar.update(self.task, completed=done, description=names, left=left, runs=runs)

    def _say(self, line: str) -> None:
        self.said = time.monotonic()
        logger.info(line)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()

    def _to_do(self) -> list[Cell]:
        """Those that have neither finished nor failed."""
        return [c for c in self.cells if c.name not in self.failures and not self.finished(self.out / c.folder)]

    def _left(self, cells: Sequence[Cell], histories: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
        beside_s = sum(self.beside_s) / max(1, len(self.beside_s))
        seconds = seconds_left(cells, histories, self.jobs, beside_s) if cells else None
        return "" if seconds is None else f"about {duration(seconds)}"

    def _histories(self) -> dict[str, list[dict[str, float]]]:
        return {cell.name: history.read(self.out / cell.folder / "history.csv") for cell in self.cells}
