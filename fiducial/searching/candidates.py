"""Candidates of a search: latencies from a table or measured here, what is over the budget dropped before any training, and
what an epoch of each of the others takes on this machine."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from fiducial import files
from fiducial.comparison.cells import Cell, Plan
from fiducial.comparison.places import Places, shares
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.log import logger, muted
from fiducial.runtime import runtime
from fiducial.runtime.export_card import Precision
from fiducial.searching import bench, networks, space
from fiducial.searching import table as tables
from fiducial.searching.budget import Budget
from fiducial.searching.space import Timed, Walk, title_of
from fiducial.searching.state import TABLE, Candidate, State
from fiducial.searching.table import Entry, Table
from fiducial.training import fit as fitting
from fiducial.training.fit import Data

UNKNOWN = "not in the table"
Latency = Callable[[Cell, Precision], Entry]  # tells what a cell's network takes in a precision
INT8_TIMES = 2.5  # the budget that a network may take in fp32, for int8 to be tried
MOST_INT8 = 3  # candidates that keep the budget in int8 alone
INT8_SHARE = 0.08  # of the minutes, to measure them
MOST = 12  # candidates: more of them would each get too little
MOST_PAIRS = 30  # of backbone and method, among which they are chosen
EVERY_S = 15.0  # a line
SHARE = 0.15  # of the minutes that measuring may take
FEWEST = 2  # candidates, for which measuring goes on beyond that


def latency_here(out: Path, budget: Budget, points: int) -> Latency:
    """Gives what tells a cell's latency on this machine: kept in OUT/table.json, else measured and added to it."""
    path = out / TABLE
    table = _own_table(path, budget)

    def latency(cell: Cell, precision: Precision) -> Entry:
        nonlocal table
        network = space.network_of(cell, points, precision)
        if (known := table.find(network)) is not None:
            return known
        with tempfile.TemporaryDirectory(prefix="fiducial-") as folder, muted():
            made = networks.make(network, budget.place.runtime, Path(folder))
            entry = next(iter(bench.entries_of(Path(folder), [made], budget.place)))
        table = table.with_entries([entry])
        tables.write(path, table)
        return entry

    return latency


def latency_of(table: Table, points: int) -> Latency:
    """Gives what looks a cell's latency up in a table that was made elsewhere."""

    def latency(cell: Cell, precision: Precision) -> Entry:
        network = space.network_of(cell, points, precision)
        return table.find(network) or Entry(network, error=UNKNOWN)

    return latency


def read_table(path: Path, budget: Budget, points: int, state: State) -> Table:
    """Reads a table for a budget. UserError where none of it is of the budget's runtime, threads and number of points; what
    it was measured on is noted where that is not this machine."""
    table = tables.read(path)
    if table.device.place != budget.place:
        raise UserError(
            f"--table {path}", f"is of {table.device.place}, the budget of {budget.place}; make one by `fiducial bench`"
        )
    counts = sorted({entry.network.points for entry in table.entries})
    if points not in counts:
        raise UserError(
            f"--table {path}",
            f"is of networks with {', '.join(map(str, counts))} points, the data have {points}; make one by "
            f"`fiducial bench --points {points}`",
        )
    here = tables.this_device(budget.place)
    if differing := tables.unlike(table.device, here):
        is_elsewhere = tables.is_elsewhere(table.device, here)
        whose = "another machine" if is_elsewhere else "other versions"
        state.note(f"the latencies in {path.name} are of {whose}: {'; '.join(differing)} here")
        if is_elsewhere:
            state.device = str(table.device)
            state.note(
                "the file is timed on this machine, which says nothing of that device: run `fiducial bench FILE --budget "
                f"{budget}` there"
            )
    return table


def find(plan: Plan, budget: Budget, latency: Latency, state: State, seconds: float) -> tuple[list[Timed], list[Timed]]:
    """Finds cells that keep the budget, the likeliest first, and those that were timed and are over it, which are noted in
    `state` as dropped. Ends when there are enough, or `seconds` are used up and there are some."""
    began = said = time.monotonic()
    measured = 0

    def told(cell: Cell) -> Entry:
        nonlocal said, measured
        entry, measured = latency(cell, "fp32"), measured + 1
        if time.monotonic() - said > EVERY_S:
            said = time.monotonic()
            known = "" if entry.ms is None else f", {entry.ms:.3g} ms"
            logger.info(f"latencies: {measured} known, {len(within)} keep the budget; last {title_of(cell)}{known}")
        return entry

    walk = Walk(budget.ms, told)
    pairs = space.by_pair(plan)
    within: list[Timed] = []
    smaller: list[Timed] = []
    over: list[Timed] = []
    for number, cells in enumerate(pairs, 1):
        timed = list(walk.within(cells))
        fits = sorted((each for each in timed if walk.keeps(each.entry)), key=lambda each: each.entry.ms or 0.0)
        within += fits[-1:]
        smaller += reversed(fits[:-1])
        for each in timed:
            if each.entry.error:
                state.drop(title_of(each.cell), each.entry.error)
            elif not walk.keeps(each.entry):
                over.append(each)
                state.drop(title_of(each.cell), _over(each.entry, budget), each.entry.ms)
        used = time.monotonic() - began
        if len(within) >= MOST_PAIRS or (used > seconds and len(within) >= FEWEST):
            for left in pairs[number:]:
                why = "enough others keep the budget" if len(within) >= MOST_PAIRS else "no time was left to measure it"
                state.drop(f"{left[0].label} on {left[0].recipe.backbone}", why)
            break
    return [*within, *smaller], over


def likeliest(found: Sequence[Timed], planned: Size, weights: Sequence[str], state: State) -> list[Timed]:
    """Picks the likeliest of those that keep the budget and puts them first; the others are noted as dropped."""
    order = sorted(found, key=lambda each: space.doubt(each.cell, planned, weights))
    for each in order[MOST:]:
        state.drop(title_of(each.cell), "keeps the budget, but others are likelier to be the best", each.entry.ms)
    return order[:MOST]


def find_int8(plan: Plan, budget: Budget, latency: Latency, state: State, seconds: float) -> list[Timed]:
    """Finds cells that keep the budget in int8 and not in fp32: of a pair the smallest that is over it, the likeliest first.

    Of those whose latency in fp32 is known, until `seconds` are used up; none where int8 is not made for the runtime."""
    family, walk, began = (
        runtime.named(budget.place.runtime),
        Walk(budget.ms, lambda cell: latency(cell, "int8")),
        time.monotonic(),
    )
    if not getattr(family, "INT8", None):
        return []
    over = {each.what: each.ms for each in state.dropped if each.ms is not None}
    found: list[Timed] = []
    for cells in space.by_pair(plan):
        near = next(
            (cell for cell in cells if budget.ms < over.get(title_of(cell), 0.0) <= INT8_TIMES * budget.ms), None
        )
        if near is None:
            continue
        if len(found) >= MOST_INT8 or time.monotonic() - began > seconds:
            break
        entry = latency(near, "int8")
        if walk.keeps(entry):
            found.append(Timed(near, entry))
            state.dropped = tuple(each for each in state.dropped if each.what != title_of(near))
        elif entry.error != UNKNOWN:
            took = entry.error or f"{entry.ms:.3g} ms"
            state.drop(f"{title_of(near)}, int8", f"{space.OVER} in int8 too: {took}", entry.ms)
    return found


def timed_candidates(found: Sequence[Timed], data: Data, places: Places, state: State) -> list[Candidate]:
    """Times a few steps of training of each, and makes candidates of them. What can't be trained is noted as dropped."""
    candidates = []
    threads, _ = shares(files.cores(), places.at_once)
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, threads))
    said = time.monotonic()
    try:
        for number, each in enumerate(found, 1):
            recipe = each.cell.recipe
            try:
                pace = fitting.pace_here(data, recipe)
            except (UserError, RuntimeError) as error:
                state.drop(title_of(each.cell), f"can't be trained: {str(error).splitlines()[0]}", each.entry.ms)
                continue
            steps = max(1, round(recipe.passes * max(1, len(data.train) // recipe.batch_size)))
            assert each.entry.ms is not None
            assert each.entry.high_ms is not None
            candidates.append(
                Candidate(
                    name=each.cell.name,
                    label=each.cell.label,
                    recipe=replace(recipe, precision=pace.precision, memory_format=pace.memory_format),  # type: ignore[arg-type]
                    ms=each.entry.ms,
                    high_ms=each.entry.high_ms,
                    precision=each.entry.network.precision,
                    pace_s=steps * pace.step + pace.validation,
                )
            )
            if time.monotonic() - said > EVERY_S:
                said = time.monotonic()
                logger.info(f"pace: {number} of {len(found)} candidates")
    finally:
        torch.set_num_threads(before)
    if not candidates:
        raise UserError(f"none of {len(found)} candidates can be trained; the first: {state.dropped[-1].why}")
    return candidates


def _own_table(path: Path, budget: Budget) -> Table:
    """The table that was begun for this search; a new one where it is of another state of this machine."""
    here = tables.this_device(budget.place)
    if path.exists():
        table = tables.read(path)
        differing = tables.unlike(table.device, here)
        if not differing and table.device.place == budget.place:
            return table
        logger.warning(f"{path}: is of another device ({'; '.join(differing)}); latencies are measured anew")
    return Table(here)


def _over(entry: Entry, budget: Budget) -> str:
    return f"{space.OVER}: {entry.ms:.3g} ms ({entry.low_ms:.3g} to {entry.high_ms:.3g}), {space.ROOM * budget.ms:.3g} allowed"


def nothing(over: Sequence[Timed], budget: Budget, state: State) -> UserError:
    """Makes the error of a budget that nothing keeps, with what comes nearest."""
    if not over:
        first = state.dropped[0] if state.dropped else None
        return UserError(
            f"--budget {budget}",
            "none of the networks could be timed" + ("" if first is None else f"; {first.what}: {first.why}"),
        )
    near = min(over, key=lambda each: each.entry.high_ms or 0.0)
    high = near.entry.high_ms or 0.0
    enough = f"{_rounded_up(high / space.ROOM):g}ms@{budget.place}"
    return UserError(
        f"--budget {budget}",
        f"no network keeps it; the nearest is {title_of(near.cell)}, {near.entry.ms:.3g} ms (up to {high:.3g}). "
        f"--budget {enough} would do, or name smaller ones with --backbones, --methods and --sizes",
    )


def _rounded_up(value: float) -> float:
    """Two digits that matter, never less: 0.2141 -> 0.22."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return round(math.ceil(value / unit) * unit, 12)
