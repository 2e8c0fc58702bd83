"""What a search has decided and done so far, OUT/state.json: it goes on from there, after a kill too, and decides the same.

OUT/state.json     what was asked, the plan, candidates, rungs with their figures
OUT/clock.json     the seconds that were used up, written every few seconds
OUT/table.json     the latencies that were measured for it
OUT/runs/<name>/   the runs, each one of `fiducial fit`"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fiducial import config, files
from fiducial.errors import UserError
from fiducial.runtime.export_card import Precision
from fiducial.training.recipe import Recipe

FILE = "state.json"
CLOCK, TABLE = "clock.json", "table.json"
STUDENT_RUN = "student"  # folder in OUT/runs of what was taught
EVERY_S = 5.0
MAY_CHANGE = ("minutes",)  # of what was asked, when a search goes on


@dataclass
class Candidate:
    """A network that may keep the budget, and how it is trained."""

    name: str  # of its folder in OUT/runs
    label: str
    recipe: Recipe
    ms: float
    high_ms: float
    precision: Precision = "fp32"  # in which it keeps the budget; it is trained in fp32
    pace_s: float | None = None  # of an epoch, foretold and then measured

    @property
    def title(self) -> str:
        """Names it as people read it."""
        precision = "" if self.precision == "fp32" else f", {self.precision}"
        return f"{self.label} on {self.recipe.backbone} {self.recipe.size}{precision}"


@dataclass
class Tried:
    """One rung: which runs it trained to how many epochs, and what they came to."""

    epochs: int  # of the last run, which has minutes: as many as were foreseen
    runs: tuple[str, ...]
    begun: int = 0  # epochs that its runs had before
    minutes: float | None = None  # of the last run: its epochs follow the pace at which they come
    done: bool = False
    nme: dict[str, float] = field(default_factory=dict)  # run -> val NME of its best epoch so far
    made: dict[str, int] = field(default_factory=dict)  # run -> its epochs in the end
    failures: dict[str, str] = field(default_factory=dict)

    def ranked(self) -> list[str]:
        """Lists the runs that have a figure, best first."""
        return sorted(self.nme, key=lambda name: (self.nme[name], self.runs.index(name)))


@dataclass
class Dropped:
    """What was not trained, or not to the end, and why."""

    what: str
    why: str
    ms: float | None = None


@dataclass
class Lesson:
    """A teacher, and the best run's network taught by it."""

    student: str  # the run whose network it is, and from whose weights it begins
    teacher: Recipe | None = None
    teacher_minutes: float = 0.0
    teacher_nme: float | None = None  # on val
    student_minutes: float = 0.0
    student_nme: float | None = None
    epochs: int = 0
    commands: tuple[str, ...] = ()
    outcome: str = ""  # what came of it, in words; "" = it is not over


@dataclass
class State:
    """Everything that was decided."""

    asked: dict[str, Any]
    data: str = ""  # fingerprint of the labels
    plan: tuple[str, ...] = ()  # in lines
    useful_epochs: int = 0
    most_epochs: int = 0
    candidates: tuple[Candidate, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    chosen: bool = False  # the candidates are complete
    rungs: tuple[Tried, ...] = ()
    trained: bool = False  # no rung comes after those, but that of the time that is left over
    extended: bool = False  # which has been planned
    device: str = ""  # that the latencies are of, where that is another machine than this
    lesson: Lesson | None = None
    beside_s: float | None = None  # of a run, beside its epochs; measured
    notes: tuple[str, ...] = ()

    def drop(self, what: str, why: str, ms: float | None = None) -> None:
        """Notes what is left out, once."""
        if all(each.what != what for each in self.dropped):
            self.dropped = (*self.dropped, Dropped(what, why, ms))

    def note(self, line: str) -> None:
        """Notes what must be known before the result is believed, once."""
        self.notes = tuple(dict.fromkeys((*self.notes, line)))

    def candidate(self, name: str) -> Candidate:
        """Gives a candidate by its name; of the taught student that whose network it is."""
        if name == STUDENT_RUN and self.lesson is not None:
            own = self.candidate(self.lesson.student)
            return replace(own, name=name, label=f"{own.label}, taught")
        return next(each for each in self.candidates if each.name == name)

    def best(self) -> list[tuple[str, float, int]]:
        """Lists (run, val NME, epochs) of all that were trained, best first; each by its last rung."""
        last: dict[str, tuple[str, float, int]] = {}
        for rung in self.rungs:
            last |= {name: (name, nme, rung.made.get(name, rung.epochs)) for name, nme in rung.nme.items()}
        if self.lesson is not None and self.lesson.student_nme is not None:
            last[STUDENT_RUN] = (STUDENT_RUN, self.lesson.student_nme, self.lesson.epochs)
        return sorted(last.values(), key=lambda each: each[1])


def keep(out: Path, state: State) -> None:
    """Writes OUT/state.json."""
    config.write_json(out / FILE, state)


def begun(out: Path, asked: dict[str, Any]) -> State:
    """Reads what a search in OUT has decided, or begins. UserError where OUT holds another search, or something else."""
    path = out / FILE
    if not path.exists():
        # Before there are candidates nothing is decided, and the latencies hold for other words too.
        if any(path.name not in (CLOCK, TABLE) for path in out.glob("*.json")):
            raise UserError(out, "holds something else than a search; give another --out")
        return State(asked)
    state = config.from_dict(State, files.read_object(path, "asked"), str(path))
    differing = [
        f"{name} was {state.asked.get(name)} and is now {value}"
        for name, value in asked.items()
        if name not in MAY_CHANGE and state.asked.get(name) != value
    ]
    if differing:
        raise UserError(out, f"holds another search: {'; '.join(differing[:4])}. Give the same words, or another --out")
    state.asked = asked
    return state


class Clock:
    """Counts the seconds of a search over all its processes."""

    def __init__(self, used_s: float, minutes: float) -> None:
        self.before_s, self.limit_s, self.began = used_s, 60 * minutes, time.monotonic()

    @property
    def used_s(self) -> float:
        return self.before_s + time.monotonic() - self.began

    @property
    def left_s(self) -> float:
        return max(0.0, self.limit_s - self.used_s)


@contextmanager
def ticking(out: Path, minutes: float) -> Iterator[Clock]:
    """Counts on from what was used up before, and writes it down every few seconds."""
    path = out / CLOCK
    used = float(files.read_object(path, "used_s")["used_s"]) if path.exists() else 0.0
    clock, ended = Clock(used, minutes), threading.Event()

    def write() -> None:
        config.write_json(path, {"used_s": round(clock.used_s, 1)})

    def tick() -> None:
        while not ended.wait(EVERY_S):
            write()

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield clock
    finally:
        ended.set()
        thread.join()
        write()
