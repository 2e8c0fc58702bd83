"""The file that ships: the best run whose exported file keeps the budget, measured many times, certified, and judged on val;
on test once, where there is a test split."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fiducial import files
from fiducial.data import annotations
from fiducial.data.source import Source
from fiducial.errors import Interrupted, UserError
from fiducial.evaluation import evaluate
from fiducial.exporting import export
from fiducial.log import logger, muted
from fiducial.runtime import runtime
from fiducial.searching import bench
from fiducial.searching.budget import Budget
from fiducial.searching.state import State

SHIPPED = "shipped"  # folder in OUT
FACTS = "shipped.json"  # what was measured, so that a search that goes on does not measure again
MAX_DROP = 0.02  # share of NME that int8 may cost
MOST_TRIED = 3  # runs that are exported, where the files of better ones are over the budget


@dataclass(frozen=True)
class Shipped:
    """The file, and what it is worth."""

    run: str  # its name in OUT/runs
    file: str
    ms: tuple[float, ...]  # of repeated measurements
    keeps: bool | None  # all of them are within the budget; None: it is of another device
    val: dict[str, Any]  # what `evaluate` writes of it
    test: dict[str, Any] | None  # None: there is no test split


def ship(state: State, source: Source, out: Path, budget: Budget) -> Shipped:
    """Exports the best run, and the next best ones while their files are over the budget, or can't be certified; measures and
    judges the file. Raises the first error where none of them could be exported."""
    kept = out / FACTS
    if kept.is_file():
        with files.ours(kept):
            values = files.read_object(kept, "run", "file", "ms", "keeps", "val", "test")
            if Path(values["file"]).is_file():
                return Shipped(**{**values, "ms": tuple(values["ms"])})
    tried: list[tuple[float, str, list[float]]] = []
    refused: list[UserError] = []
    for name, _, _ in state.best():
        if len(tried) == MOST_TRIED:
            break
        try:
            file, ms = _exported(state, name, source, out, budget)
        except Interrupted:
            raise
        except UserError as error:
            refused.append(error)
            state.note(f"{name} was not exported: {error}")
            logger.warning(f"{name} is not exported: {error}")
            continue
        tried.append((max(ms), name, ms))
        if state.device or max(ms) <= budget.ms:
            return _judged(name, file, ms, None if state.device else True, source, out)
        state.note(f"{name}: its exported file takes up to {max(ms):.3g} ms, {budget.ms:g} are allowed")
    if not tried:
        raise refused[0]
    _, name, ms = min(tried)
    state.note(f"no file kept the budget in all of {bench.REPEATS} measurements; {name} came nearest")
    file = runtime.resolved(out / SHIPPED)
    if name != tried[-1][1]:
        file, ms = _exported(state, name, source, out, budget)
    return _judged(name, file, ms, max(ms) <= budget.ms, source, out)


def _exported(state: State, name: str, source: Source, out: Path, budget: Budget) -> tuple[Path, list[float]]:
    """The run's file, in int8 where its network keeps the budget so and the accuracy allows it."""
    target = runtime.named(budget.place.runtime).TARGET
    assert target is not None
    int8 = source.path if state.candidate(name).precision == "int8" else None
    file, proof = export.export_model(out / "runs" / name, target, out / SHIPPED, int8=int8, max_drop=MAX_DROP)
    if int8 is not None and proof.precision != "int8":
        state.note(
            f"{name}: int8 was refused by its accuracy or its time, {proof.precision} was written; model.int8.json says why"
        )
    logger.info(f"timing {file} {bench.REPEATS} times")
    ms = bench.repeated_ms(file, budget.place.threads)
    if statistics.median(ms) <= budget.ms < max(ms) and not state.device:
        over = sum(each > budget.ms for each in ms)
        state.note(
            f"{name}: {over} of {bench.REPEATS} measurements of its file were over the budget, up to {max(ms):.3g} ms, and the "
            "median was not: all were made once more"
        )
        ms = bench.repeated_ms(file, budget.place.threads)
    return file, ms


def _judged(name: str, file: Path, ms: list[float], keeps: bool | None, source: Source, out: Path) -> Shipped:
    with muted():
        val = evaluate.evaluate_model(file, source, "val", finder=Path("no")).summary
        test = _on_test(file, source)
    shipped = Shipped(name, str(file), tuple(round(each, 4) for each in ms), keeps, val, test)
    files.write_json(out / FACTS, json.loads(json.dumps(vars(shipped))))
    return shipped


def _on_test(file: Path, source: Source) -> dict[str, Any] | None:
    """Judges the file on the test split; None where there is none."""
    try:
        annotations.load(source, "test", verify=False)
    except UserError:
        return None
    return evaluate.evaluate_model(file, source, "test", finder=Path("no")).summary
