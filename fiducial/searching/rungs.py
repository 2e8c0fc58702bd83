"""Trains candidates rung after rung: each rung continues the runs of the one before, by `fiducial fit --resume`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fiducial import files
from fiducial.comparison import train
from fiducial.comparison.cells import Cell
from fiducial.data.source import Source
from fiducial.errors import counted
from fiducial.log import logger
from fiducial.progress import duration
from fiducial.searching import halving
from fiducial.searching.halving import Limits, Rung
from fiducial.searching.state import STUDENT_RUN, Candidate, Clock, State, Tried
from fiducial.searching.training import Training, is_finished, run_of
from fiducial.training import history

USEFUL_SHARE = 0.1  # of the epochs that a run can use, that the first rung gives at least
WORTH_S = 120.0  # left over, from which on the best run goes on
BESIDE_S = 20.0  # of a run, beside its epochs, before that was measured: imports, scoring, pictures


def climb(training: Training, *, lessons_s: float = 0.0) -> None:
    """Trains what the rungs of the state still lack, and plans further ones while time is left, of which `lessons_s` are
    another's."""
    state, jobs = training.state, training.places.at_once
    while not state.trained:
        if not state.rungs or state.rungs[-1].done:
            planned = _next(state, training.left_s - lessons_s, jobs)
            if not planned:
                state.trained = True
                training.keep()
                return
            runs = _runs_of_next(state)[: planned[0].runs]
            if not state.rungs:
                _leave_out(state, runs)
            begun = state.rungs[-1].epochs if state.rungs else 0
            # The last run gets all the time that is left, whatever the pace is by then.
            left = training.left_s - lessons_s
            minutes = max(0.1, round(left / 60, 2)) if len(planned) == len(runs) == 1 else None
            state.rungs = (*state.rungs, Tried(planned[0].epochs, tuple(runs), begun, minutes))
            training.keep()
            _tell(state, planned, training.clock)
        _train(training, lessons_s)
        training.keep()


def go_on(training: Training) -> None:
    """Trains the best run further in the time that is left over, where that is worth while: once."""
    state = training.state
    if not state.extended:
        name, _, epochs = state.best()[0]
        left_s, last = training.left_s, state.rungs[-1]
        more = int(left_s / (state.candidate(name).pace_s or 1.0)) if name != STUDENT_RUN else 0
        if left_s < WORTH_S or more < 1 or epochs >= state.most_epochs:
            return
        # A run that had minutes counts on from those.
        before = (last.minutes or 0.0) if name in last.runs else 0.0
        rung = Tried(min(epochs + more, state.most_epochs), (name,), epochs, round(before + left_s / 60, 2))
        state.rungs, state.extended = (*state.rungs, rung), True
        training.keep()
        logger.info(f"{duration(left_s)} are left over: {state.candidate(name).title} goes on from epoch {epochs}")
    if not state.rungs[-1].done:
        _train(training)
        training.keep()


def cell_of(candidate: Candidate, epochs: int, source: Source, minutes: float | None = None) -> Cell:
    """Makes the run of a candidate up to so many epochs, or about so many where it has minutes."""
    recipe = replace(candidate.recipe, epochs=epochs, minutes=minutes)
    return run_of(candidate.title, recipe, candidate.name, source)


def is_trained(folder: Path, epochs: int) -> bool:
    """Whether a run has come to its end after so many epochs."""
    return is_finished(folder) and int(files.read_object(folder / "metrics.json").get("epochs", 0)) >= epochs


def _train(training: Training, lessons_s: float = 0.0) -> None:
    """Trains the last rung and notes its figures. Runs that the minutes don't reach for any more, where epochs took longer
    than was foreseen, are left out; the first are begun in any case."""
    state, out, jobs = training.state, training.out, training.places.at_once
    rung = state.rungs[-1]
    cells = [cell_of(state.candidate(name), rung.epochs, training.source, rung.minutes) for name in rung.runs]
    wanted = rung.epochs if rung.minutes is None else rung.begun + 1
    before = {cell.name: _trained(out / cell.folder) for cell in cells}
    began = time.monotonic()
    begun: list[Cell] = []
    late: list[str] = []

    def begins(cell: Cell) -> bool:
        if len(begun) >= jobs and _expected_s(cell, rung, state, out, begun) > training.left_s - lessons_s:
            late.append(cell.name)
            return False
        begun.append(cell)
        return True

    failures = training.run(cells, finished=lambda folder: is_trained(folder, wanted), begins=begins)
    took_s = time.monotonic() - began
    now = {cell.name: _trained(out / cell.folder) for cell in cells}
    made = {name: (now[name][0] - before[name][0], now[name][1] - before[name][1]) for name in now}
    ran = [name for name, (epochs, _) in made.items() if epochs > 0]
    if ran:
        beside = took_s * min(jobs, len(ran)) - sum(made[name][1] for name in ran)
        state.beside_s = max(1.0, beside / len(ran))
    for name in ran:
        state.candidate(name).pace_s = made[name][1] / made[name][0]
    for name in late:
        state.drop(state.candidate(name).title, f"rung {len(state.rungs)}: its turn did not come within the minutes")
    rung.failures = {name: why for name, why in failures.items() if not is_trained(out / "runs" / name, wanted)}
    for name, why in rung.failures.items():
        state.drop(state.candidate(name).title, f"failed: {why}")
    if len(rung.failures) == len(rung.runs) and len(state.rungs) == 1:
        raise train.all_failed(rung.failures)
    rung.nme = {
        cell.name: training.nme(cell) for cell in cells if cell.name not in rung.failures and cell.name not in late
    }
    rung.made = {name: now[name][0] for name in rung.nme}
    rung.done = True


def _expected_s(cell: Cell, rung: Tried, state: State, out: Path, begun: Sequence[Cell]) -> float:
    """What a run of the rung will take, by how much longer than foreseen those before it took."""
    slower = []
    for other in begun:
        rows, pace = history.read(out / other.folder / "history.csv")[rung.begun :], state.candidate(other.name).pace_s
        if rows and pace:
            slower.append(sum(row["seconds"] for row in rows) / len(rows) / pace)
    factor = sum(slower) / len(slower) if slower else 1.0
    beside = BESIDE_S if state.beside_s is None else state.beside_s
    return (rung.epochs - rung.begun) * (state.candidate(cell.name).pace_s or 1.0) * factor + beside


def _next(state: State, seconds: float, jobs: int) -> list[Rung]:
    """The rungs that are to come; [] where there are none."""
    beside = BESIDE_S if state.beside_s is None else state.beside_s
    least = max(1, round(USEFUL_SHARE * state.useful_epochs))
    limits = Limits(seconds=max(0.0, seconds), least=least, most=state.most_epochs, beside_s=beside, jobs=jobs)
    runs = _runs_of_next(state)
    paces = [state.candidate(name).pace_s or 1.0 for name in runs]
    if not state.rungs:
        return halving.plan(paces, limits)
    return halving.further(paces, state.rungs[-1].epochs, limits)


def _runs_of_next(state: State) -> list[str]:
    return state.rungs[-1].ranked() if state.rungs else [each.name for each in state.candidates]


def _leave_out(state: State, runs: Sequence[str]) -> None:
    """Notes which candidates are not begun."""
    for each in state.candidates:
        if each.name not in runs:
            state.drop(each.title, "not begun: the minutes are for fewer", each.ms)


def _tell(state: State, planned: Sequence[Rung], clock: Clock) -> None:
    rung, number = planned[0], len(state.rungs)
    of = number + len(planned) - 1
    before = state.rungs[-1].begun
    runs = counted(rung.runs, "run")
    on = f"from epoch {before} to {rung.epochs}" if before else f"of {rung.epochs} epochs"
    logger.info(f"rung {number} of {of}: {runs} {on}; {duration(clock.used_s)} used, {duration(clock.left_s)} left")


def _trained(folder: Path) -> tuple[int, float]:
    """How many epochs a run has, and the seconds that they took."""
    rows = history.read(folder / "history.csv")
    return len(rows), sum(row.get("seconds", 0.0) for row in rows)
