"""`fiducial data next --try DATA`: whether choosing images pays, tried on a labelled set: error against the number of labelled
images, chosen by the model of the step before and drawn by chance."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import folders
from fiducial.api.arguments import path_of, source_of
from fiducial.api.fit import fit
from fiducial.api.results import Result
from fiducial.checks.finding import Labelled
from fiducial.comparison.statistics import Spread, paired_bootstrap
from fiducial.data import annotations
from fiducial.errors import UserError
from fiducial.evaluation import evaluate as evaluating
from fiducial.evaluation import floor
from fiducial.labels import reading
from fiducial.labels.choosing import Seen, choose, see
from fiducial.labels.unseen import apart_for_epochs
from fiducial.log import logger
from fiducial.report import charts
from fiducial.report.charts import Band
from fiducial.report.page import Charts, Page, Section, Table, write_page
from fiducial.runtime import runtime
from fiducial.types import Instances

CHOSEN, CHANCE = "chosen", "chance"
TESTED = 3  # one image of so many is measured on, where the set has no other split


def next_curve(
    data: Any,
    out: Any,
    *,
    counts: Sequence[int] = (20, 40, 80),
    seeds: int = 3,
    minutes: float | None = 2.0,
    images: Any = None,
    category: str | None = None,
    progress: bool = False,
    **choices: Any,
) -> Result:
    """Trains on so many images of a labelled set, chosen one way and the other, and measures on the rest of it.

    Both ways begin with the same images, drawn by the seed; at each further count the one adds those that the model of the
    count before would have labelled next, the other draws. Measured on test, else val, else a third of the images that
    neither draws from. minutes: of each training, None: as long as the others say; choices: further arguments of
    `fiducial.fit`. `out` keeps the runs and gets a page; asked again, finished runs are taken."""
    folder = path_of(out, "out")
    steps = sorted(set(counts))
    with folders.alone(folder):
        source = source_of(data, images, category)
        labelled, said = reading.read(source)
        pool, tested = _pool_and_test(labelled)
        room = len(np.unique(pool.image_row))
        if len(steps) < 2 or steps[0] < 2 or steps[-1] > room:
            raise UserError("counts", f"{steps}: expected two or more numbers of images from 2 to the {room} there are")
        errors: dict[tuple[str, int], list[np.ndarray]] = {
            (way, count): [] for way in (CHOSEN, CHANCE) for count in steps
        }
        for seed in range(seeds):
            order = np.random.default_rng(seed).permutation(np.unique(pool.image_row))
            taken = {CHOSEN: list(order[: steps[0]]), CHANCE: list(order[: steps[0]])}
            for before, count in itertools.pairwise([0, *steps]):
                for way in (CHOSEN, CHANCE):
                    run = folder / f"{way if before else 'start'}_{count}_seed_{seed}"
                    if before:
                        last = folder / f"{way if before != steps[0] else 'start'}_{before}_seed_{seed}"
                        taken[way] += _more(way, last, pool, taken[way], count - before, order)
                    part = pool.select(np.isin(pool.image_row, taken[way]))
                    errors[way, count].append(_error(run, part, tested, minutes, seed, progress, choices))
        rows = [_row(count, errors[CHOSEN, count], errors[CHANCE, count]) for count in steps]
        ground = floor.floor_of(tested, pool)
        figures = {"data": str(source), "seeds": seeds, "floor": ground.as_json(), "counts": rows, "notes": said}
        page = _write_page(folder / "report.html", figures, errors, steps)
    figures["files"] = {"report": str(page)}
    return Result(figures=figures, table=[_short(row) for row in rows], lines=[answer(row) for row in rows[:0:-1]])


def _pool_and_test(labelled: Labelled) -> tuple[Instances, Instances]:
    """What is chosen from, and what is measured on."""
    usable = {
        name: part.select(part.labelled.any(1) & ~part.crowd)
        for name, part in sorted(labelled.instances, key=lambda pair: annotations.SPLITS.index(pair[0]))
    }
    first, *others = usable.values()
    if others:
        return first, others[-1]
    rows = np.unique(first.image_row)
    is_tested = np.isin(first.image_row, np.random.default_rng(0).permutation(rows)[: len(rows) // TESTED])
    return first.select(~is_tested), first.select(is_tested)


def _more(way: str, run: Path, pool: Instances, taken: list[int], count: int, order: np.ndarray) -> list[int]:
    """Image rows to add."""
    rest = [row for row in order.tolist() if row not in set(taken)]
    if way == CHANCE:
        return rest[:count]
    network = runtime.load(run)

    def seen(row: int) -> Seen:
        boxes = pool.box_xywh[pool.image_row == row].astype(np.float64)
        image = pool.images.read(row)
        return see(network, image, boxes, network(image, boxes))

    chosen = choose([seen(row) for row in rest], count, [seen(row) for row in taken])
    return [rest[place] for place in chosen]


def _error(
    run: Path,
    part: Instances,
    tested: Instances,
    minutes: float | None,
    seed: int,
    progress: bool,
    choices: dict[str, Any],
) -> np.ndarray:
    """[n] error of each instance that is measured on, of a run that is trained where it is not there."""
    if not (run / "metrics.json").exists():
        logger.info(f"{run.name}: {len(part)} instances")
        train, val = apart_for_epochs(part)
        fit(
            train,
            run,
            val=val,
            minutes=minutes,
            seed=seed,
            preflight=False,
            resume=run.exists(),
            progress=progress,
            **{"finder": "no", **choices},  # boxes are the labels'
        )
    looked = evaluating.evaluate_network(runtime.load(run).network, tested)
    error = np.full(len(tested), np.nan)
    error[looked.row] = looked.metrics.instance_nme
    return error


def _row(count: int, chosen: list[np.ndarray], chance: list[np.ndarray]) -> dict[str, Any]:
    apart = paired_bootstrap(np.array(chosen), np.array(chance))
    return {
        "images": count,
        CHOSEN: Spread.of(np.array(chosen)).seeds,
        CHANCE: Spread.of(np.array(chance)).seeds,
        "difference": apart.mean,
        "low": apart.low,
        "high": apart.high,
        "within_noise": apart.within_noise,
    }


def answer(row: dict[str, Any]) -> str:
    """Says in a sentence whether choosing pays at a count."""
    chosen, chance = float(np.mean(row[CHOSEN])), float(np.mean(row[CHANCE]))
    figures = f"{100 * chosen:.2f} % against {100 * chance:.2f} % by chance at {row['images']} images, difference "
    figures += f"{100 * row['difference']:+.2f} ({100 * row['low']:+.2f} to {100 * row['high']:+.2f})"
    if row["within_noise"] and not row["low"] <= 0 <= row["high"]:
        return f"Choosing and chance differ by no more than seeds do here: NME {figures}."
    if row["low"] <= 0 <= row["high"]:
        return f"Choosing makes no difference that shows here: NME {figures}."
    return f"Choosing {'pays' if row['difference'] < 0 else 'harms'} here: NME {figures}."


def _short(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "images": row["images"],
        **{way: f"{100 * np.mean(row[way]):.2f} %" for way in (CHOSEN, CHANCE)},
        "difference": f"{100 * row['difference']:+.2f} ({100 * row['low']:+.2f} to {100 * row['high']:+.2f})",
    }


def _write_page(path: Path, figures: dict[str, Any], errors: Any, steps: Sequence[int]) -> Path:
    bands = [
        Band(
            way,
            np.array(steps, float),
            np.array(
                [[100 * np.nanmean(errors[way, count][seed]) for count in steps] for seed in range(figures["seeds"])]
            ),
            number,
        )
        for number, way in enumerate((CHOSEN, CHANCE))
    ]
    chart = charts.bands(
        "Error against labelled images",
        bands,
        "labelled images",
        "NME, %",
        "line: mean over seeds; band: lowest to highest",
    )
    rows = [tuple(_short(row).values()) for row in figures["counts"]]
    return write_page(
        path,
        Page(
            title=f"Choosing images of {figures['data']}",
            answer=[answer(row) for row in figures["counts"][:0:-1]],
            notes=figures["notes"],
            sections=[
                Section(
                    "Error",
                    [
                        Charts([chart]),
                        Table(
                            ("images", CHOSEN, CHANCE, "difference"),
                            rows,
                            note="NME, mean over seeds; difference with its interval of 95 % over instances that are measured on.",
                        ),
                    ],
                )
            ],
        ),
    )
