"""Trains the cells of a plan, each by its command in a process of its own, some at a time; what has been done is kept.

A cell is finished when its folder has a model.json; one that has a recipe.json was begun and is resumed exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fiducial import files
from fiducial.comparison import processes
from fiducial.comparison.cells import Cell
from fiducial.comparison.processes import Task, duration
from fiducial.log import logger
from fiducial.models import detector as detectors
from fiducial.training import history
from fiducial.training.failure import TrainingFailure

Outcome = Callable[[Mapping[str, float]], str]  # a run's figures on val -> what it has come to, in words


def is_finished(folder: Path) -> bool:
    """Says whether a run folder has its card, which is written last, and its weights, which may be deleted since."""
    return all((folder / name).exists() for name in ("model.json", "model.safetensors"))


def task_of(cell: Cell, out: Path, workers: int | None = None) -> Task:
    """Gives the process that trains a cell, resuming it where it was begun.

    workers: loader processes, where the recipe leaves them open; they change nothing that is learnt."""
    folder = out / cell.folder
    arguments = [*cell.command, "--out", str(folder)]
    if workers is not None and cell.recipe.workers is None:
        arguments += ["--set", f"workers={workers}"]
    return Task(cell.name, folder, (*arguments, *(["--resume"] if (folder / "recipe.json").exists() else [])))


def train(
    cells: Sequence[Cell],
    out: Path,
    outcome: Outcome,
    *,
    jobs: int | None = None,
    progress: bool = False,
) -> dict[str, str]:
    """Trains what is not finished, `jobs` cells at a time, and returns cell's name -> why it failed.

    jobs: None = one, or one a GPU. Raises KeyboardInterrupt after Ctrl-C, when all runs have written where they are."""
    waiting = [cell for cell in cells if not is_finished(out / cell.folder)]
    finished = len(cells) - len(waiting)
    if finished:
        logger.info(f"{finished} of {len(cells)} runs are finished already")
    jobs = processes.jobs_of(jobs, len(waiting))
    workers = processes.shares(files.cores(), jobs)[1] if jobs > 1 else None
    board = _Board(cells, out, outcome, jobs, progress)
    try:
        processes.run_all([task_of(cell, out, workers) for cell in waiting], board, jobs)
    finally:
        board.close()
    return board.failures


def all_failed(failures: Mapping[str, str]) -> TrainingFailure:
    """Makes the error of a comparison that has nothing to compare, naming the first failure."""
    name, reason = next(iter(failures.items()))
    return TrainingFailure(f"all {len(failures)} runs failed; {name}: {reason}")


def seconds_left(
    cells: Sequence[Cell], histories: Mapping[str, Sequence[Mapping[str, float]]], jobs: int
) -> float | None:
    """Estimates what is left of `cells` from the speed so far: of the same kind where one has run, else of all.

    histories: cell's name -> rows of its history.csv, of all cells. None before the first epoch."""
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
        total += max(0, epochs_left) * known.get(_kind(cell.name), usual)
    return total / min(jobs, max(1, len(cells)))


def _kind(name: str) -> str:
    """A cell's name without its seed."""
    return name.rpartition("-s")[0]


class _Board:
    """Says what happens: a line a cell, and on a terminal a bar of epochs."""

    def __init__(self, cells: Sequence[Cell], out: Path, outcome: Outcome, jobs: int, progress: bool) -> None:
        self.cells, self.out, self.outcome, self.jobs = cells, out, outcome, jobs
        self.failures: dict[str, str] = {}
        self.count = sum(self._is_finished(cell) for cell in cells)
        self.bar: Any = None
        if progress:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            runs, left = TextColumn("{task.fields[runs]}"), TextColumn("{task.fields[left]}")
            description = TextColumn("{task.description}", markup=False)
            self.bar = Progress(runs, BarColumn(20), left, description, console=Console(stderr=True), transient=True)
            self.task = self.bar.add_task("", total=sum(cell.recipe.epochs for cell in cells), left="", runs="")
            self.bar.start()

    def ended(self, task: Task, failure: str, seconds: float, waiting: Sequence[Task], running: Sequence[Task]) -> None:
        self.count += 1
        took = duration(seconds)
        line = f"[{self.count} of {len(self.cells)}] {task.name}: "
        if is_finished(task.folder):
            reached = self.outcome(detectors.load_card(task.folder).metrics["val"])
            line += f"{reached}, {took}" + (f"; after training: {failure}" if failure else "")
        else:
            self.failures[task.name] = failure or "ended without a result"
            line += f"failed after {took}: {self.failures[task.name]}"
        left = self._left(self._cells_of([*waiting, *running]))
        self._say(line + (f"; {left} left" if left and (waiting or running) else ""))

    def show(self, running: Sequence[Task]) -> None:
        if self.bar is None:
            return
        rows = self._histories()
        unfinished = [cell for cell in self.cells if cell.name not in self.failures and not self._is_finished(cell)]
        done = sum(cell.recipe.epochs if self._is_finished(cell) else len(rows[cell.name]) for cell in self.cells)
        names = ", ".join(
            f"{cell.label} seed {cell.recipe.seed}: {len(rows[cell.name])}/{cell.recipe.epochs}"
            for cell in self._cells_of(running)
        )
        runs = f"{len(self.cells) - len(unfinished)} of {len(self.cells)} runs"
        self.bar.update(self.task, completed=done, description=names, left=self._left(unfinished), runs=runs)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()

    def _is_finished(self, cell: Cell) -> bool:
        return is_finished(self.out / cell.folder)

    def _cells_of(self, tasks: Sequence[Task]) -> list[Cell]:
        names = {task.name for task in tasks}
        return [cell for cell in self.cells if cell.name in names]

    def _left(self, cells: Sequence[Cell]) -> str:
        seconds = seconds_left(cells, self._histories(), self.jobs)
        return "" if seconds is None else f"about {duration(seconds)}"

    def _histories(self) -> dict[str, list[dict[str, float]]]:
        return {cell.name: history.read(self.out / cell.folder / "history.csv") for cell in self.cells}

    def _say(self, line: str) -> None:
        if self.bar is not None:
            self.bar.console.print(line, highlight=False, markup=False, soft_wrap=True)
        else:
            logger.info(line)
