"""Trains the cells of a plan: `fiducial fit` in a process each, some at a time; what has been done is kept.

    OUT/runs/<cell>/        the run folder that `fiducial fit` makes
    OUT/runs/<cell>/log.txt what it said, all attempts one after the other

A cell is finished when its folder has a model.json; one that has a recipe.json was begun and is resumed exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fiducial.comparison import processes
from fiducial.comparison.plan import Cell, Plan, fit_arguments
from fiducial.comparison.processes import Task, duration
from fiducial.models import detector as detectors
from fiducial.training import history

Echo = Callable[[str], None]


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
    Raises KeyboardInterrupt after Ctrl-C, when all runs have written where they are."""
    waiting = [cell for cell in plan.cells if not is_finished(folder_of(out, cell))]
    kept = len(plan.cells) - len(waiting)
    if kept:
        echo(f"{kept} of {len(plan.cells)} runs are finished already")
    jobs = processes.jobs_of(jobs, len(waiting))
    board = _Board(plan, out, jobs, progress, echo)
    try:
        processes.run_all([_task_of(plan, cell, out, jobs) for cell in waiting], board, jobs)
    finally:
        board.close()
    return board.failures


def _task_of(plan: Plan, cell: Cell, out: Path, jobs: int) -> Task:
    """The cell's command; resumed where it was begun."""
    folder = folder_of(out, cell)
    if cell.recipe.workers is None and jobs > 1:
        workers = processes.shares(processes.cores(), jobs)[1]
        cell = replace(cell, recipe=replace(cell.recipe, workers=workers))  # says nothing about what is learnt
    resumes = ["--resume"] if (folder / "recipe.json").exists() else []
    return Task(cell.name, folder, (*command_of(plan, cell, out)[1:], *resumes))


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

    def ended(self, task: Task, failure: str, seconds: float, waiting: Sequence[Task], running: Sequence[Task]) -> None:
        self.count += 1
        took = duration(seconds)
        head = f"[{self.count} of {len(self.plan.cells)}] {task.name}"
        if failure and not is_finished(task.folder):
            self.failures[task.name] = failure
            line = f"{head}: failed after {took}: {failure}"
        else:
            nme = detectors.load_card(task.folder).metrics["val"]["nme"]
            line = f"{head}: val NME {100 * nme:.2f} %, {took}" + (f"; after training: {failure}" if failure else "")
        left = self._left(self._cells([*waiting, *running]))
        self._say(line + (f"; {left} left" if left and (waiting or running) else ""))

    def show(self, running: Sequence[Task]) -> None:
        if self.bar is None:
            return
        rows = self._histories()
        done = sum(cell.recipe.epochs if is_finished(folder_of(self.out, cell)) else len(rows[cell.name])
                   for cell in self.plan.cells)  # fmt: skip
        unfinished = [cell for cell in self.plan.cells
                      if cell.name not in self.failures and not is_finished(folder_of(self.out, cell))]  # fmt: skip
        names = ", ".join(
            f"{cell.method} seed {cell.recipe.seed}: {len(rows[cell.name])}/{cell.recipe.epochs}"
            for cell in self._cells(running)
        )
        ended = len(self.plan.cells) - len(unfinished)
        left, runs = self._left(unfinished), f"{ended} of {len(self.plan.cells)} runs"
        self.bar.update(self.task, completed=done, description=names, left=left, runs=runs)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()

    def _cells(self, tasks: Sequence[Task]) -> list[Cell]:
        names = {task.name for task in tasks}
        return [cell for cell in self.plan.cells if cell.name in names]

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
