"""`fiducial search`: from data and a budget to the file that ships, with its page.

OUT/report.html, search.json     the answer and all it rests on
OUT/shipped/                     the file and its certificate
OUT/table.json, runs/, state.json    what it goes on from (see `state`)"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fiducial import folders
from fiducial.comparison.cells import Cell, Plan
from fiducial.comparison.methods import methods_of, plan_of, sizes_of
from fiducial.comparison.places import Places
from fiducial.data.facts import facts_of
from fiducial.data.source import Source
from fiducial.errors import UserError
from fiducial.log import logger
from fiducial.models import catalog, packaged_weights
from fiducial.progress import duration
from fiducial.searching import candidates, page, rungs, shipping, space, state, teaching
from fiducial.searching.budget import Budget
from fiducial.searching.space import Timed
from fiducial.searching.state import Clock, State
from fiducial.searching.table import Table
from fiducial.searching.training import Training
from fiducial.training import fit as fitting
from fiducial.training import label_check, recipes
from fiducial.training import plan as run_plan
from fiducial.training.fit import Data
from fiducial.training.plan import given_by
from fiducial.training.recipe import Recipe

RESERVE_S, RESERVE = 60.0, 0.03  # of the end, and of all the time: export, certificate, measurements, scores, the page


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is asked for."""

    data: Source
    budget: Budget
    minutes: float
    methods: str | None = None  # None: the usual ones
    backbones: str | None = None
    sizes: str | None = None
    table: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)  # of every run, as `fit` has them
    settings: Sequence[str] = ()
    places: Places = field(default_factory=Places)  # that runs are trained in
    int8: bool = True  # networks that keep the budget in int8 alone are thought of, too
    distill: bool = True  # from a larger teacher at the end, where there is time

    def written(self) -> dict[str, Any]:
        """Gives what must be the same when it goes on, and the minutes."""
        return {
            "data": str(self.data.path.resolve()),
            "images": None if self.data.images is None else str(self.data.images.resolve()),
            "category": self.data.category,
            "budget": str(self.budget),
            "minutes": self.minutes,
            "methods": self.methods,
            "backbones": self.backbones,
            "sizes": self.sizes,
            "table": None if self.table is None else str(self.table.resolve()),
            **{name: str(value) for name, value in self.options.items()},
            "settings": list(self.settings),
            "int8": self.int8,
            "distill": self.distill,
        }


def search(asked: Search, out: Path, *, progress: bool = False) -> dict[str, Any]:
    """Finds the best detector within the budget, or goes on with that; writes OUT and returns what search.json holds, and
    `files`."""
    with folders.alone(out):
        now = state.begun(out, asked.written())
        data, common, choices = _planned(asked)
        if now.data and now.data != data.fingerprint:
            raise UserError(
                out, "the labels differ from those that the search began with; give the same, or another --out"
            )
        points = len(data.train.skeleton.points)
        plan = (
            Plan(data=asked.data) if now.chosen else _space(asked, common)
        )  # what is wrong is said before anything is there
        table = (
            None if now.chosen or asked.table is None else candidates.read_table(asked.table, asked.budget, points, now)
        )
        with state.ticking(out, asked.minutes) as clock:
            if not now.data:
                _begin(now, asked, data, common, choices)
            elif (out / shipping.FACTS).exists():
                logger.info("this search has ended; for more minutes give another --out")
            elif clock.used_s > 1:
                logger.info(f"going on: {duration(clock.used_s)} of {asked.minutes:g} min are used")
            if not now.chosen:
                _choose(now, asked, data, common, plan, table, out, clock)
            reserve = RESERVE_S + RESERVE * clock.limit_s
            training = Training(now, asked.data, out, clock, reserve, asked.places, progress)
            rungs.climb(training, lessons_s=teaching.seconds_for(now, training.left_s))
            teaching.teach(training)
            rungs.go_on(training)
            shipped = shipping.ship(now, asked.data, out, asked.budget)
            state.keep(out, now)
            used_s = clock.used_s
        return page.write(now, shipped, asked.budget, asked.data, out, used_s)


def _planned(asked: Search) -> tuple[Data, Recipe, list[str]]:
    """The data, and what all runs have in common: planned by the data alone, as `compare` plans."""
    base = recipes.changed(Recipe(), dict(asked.options), list(asked.settings))
    data = fitting.load_data(asked.data, base)
    facts = facts_of(data.train)
    given = given_by(asked.options, asked.settings) | {"backbone"}
    common, choices = run_plan.plan_of(facts, base, given, weights=packaged_weights.here())
    common = replace(common, precision="fp32" if common.precision == "auto" else common.precision)
    return data, common, [facts.told(), *(str(choice).removeprefix("plan: ") for choice in choices)]


def _begin(now: State, asked: Search, data: Data, common: Recipe, choices: list[str]) -> None:
    """Notes the plan, once the labels have been looked at."""
    label_check.look({"train": data.train, "val": data.validation}, common, asked.data)
    for line in choices:
        logger.info(f"plan: {line}")
    instances = len(data.train)
    steps = run_plan.steps_of(replace(common, epochs=1), instances)
    now.data, now.plan = data.fingerprint, tuple(choices)
    now.useful_epochs = max(1, round(run_plan.useful_steps(instances, common.batch_size) / steps))
    now.most_epochs = max(now.useful_epochs, run_plan.most_steps(instances, common.batch_size) // steps)


def _choose(
    now: State,
    asked: Search,
    data: Data,
    common: Recipe,
    plan: Plan,
    table: Table | None,
    out: Path,
    clock: Clock,
) -> None:
    """Decides on candidates by their latencies."""
    points, budget = len(data.train.skeleton.points), asked.budget
    if table is None:
        logger.info(f"measuring latencies on {budget.place}, {len(plan.cells)} networks to choose from")
        latency = candidates.latency_here(out, budget, points)
    else:
        latency = candidates.latency_of(table, points)
        for note in now.notes:
            logger.warning(note)
    seconds = candidates.SHARE * clock.limit_s
    found, over = candidates.find(plan, budget, latency, now, seconds)
    if asked.int8 and asked.data == Source(asked.data.path):  # `export --int8` takes a path alone
        found += candidates.find_int8(plan, budget, latency, now, candidates.INT8_SHARE * clock.limit_s)
    if not found:
        raise candidates.nothing(over, budget, now)
    weights = [] if common.pretrained == "no" else packaged_weights.here()
    found = candidates.likeliest(found, common.size, weights, now)
    names = ", ".join(f"{space.title_of(each.cell)} {each.entry.ms:.3g} ms{_in(each)}" for each in found)
    logger.info(f"{len(found)} candidates within {budget}: {names}; {len(now.dropped)} dropped")
    now.candidates = tuple(candidates.timed_candidates(found, data, asked.places, now))
    now.chosen = True
    state.keep(out, now)


def _space(asked: Search, common: Recipe) -> Plan:
    """All cells that are thought of."""
    plain = replace(common, check=False, preflight=False)
    methods = methods_of(asked.methods or space.METHODS, plain, dict(asked.options), asked.settings)
    named = [name.strip() for name in (asked.backbones or "").split(",")]
    backbones = [name for name in dict.fromkeys(named) if name]
    weights = [] if common.pretrained == "no" else packaged_weights.here()
    cells: list[Cell] = []
    for backbone in backbones or space.backbones_here(weights):
        sizes = sizes_of(asked.sizes) or space.sizes_around(common.size, space.grid_of(backbone))
        cells += plan_of(asked.data, methods, backbones=[backbone], sizes=sizes).cells
    for recipe in {(cell.label, cell.recipe.backbone): cell.recipe for cell in cells}.values():
        catalog.check(recipe.backbone, recipe.method, recipe.head)
    return Plan(data=asked.data, cells=tuple(cells))


def _in(timed: Timed) -> str:
    precision = timed.entry.network.precision
    return "" if precision == "fp32" else f" in {precision}"
