"""`fiducial.bench`: what `fiducial bench` does."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fiducial import config, folders
from fiducial.api.arguments import names_of, path_of
from fiducial.api.results import Result
from fiducial.errors import UserError
from fiducial.log import logger
from fiducial.runtime import runtime as runtimes
from fiducial.searching import bench as benches
from fiducial.searching.budget import Place, budget_of, place_of
from fiducial.searching.table import Network, Table

SIZES = "96x96,128x128,192x192"


def bench(
    out: Any = None,
    *,
    model: Any = None,
    budget: str | None = None,
    folder: Any = None,
    make: Any = None,
    runtime: str = "onnxruntime",
    threads: int | None = None,
    points: int = 17,
    methods: str | Sequence[str] | None = None,
    backbones: str | Sequence[str] | None = None,
    sizes: str | Sequence[Any] | None = None,
    int8: bool = False,
    progress: bool = False,
) -> Result:
    """Measures what networks of random weights take on this device, and writes the table that `fiducial.search` reads.

    Args:
        out: the table's file; one that was begun is continued.
        make: a folder, into which the networks' files are only made. folder: such a folder, whose files are timed; that needs
            no torch. Without either both are done here.
        runtime, threads: where; points, methods, backbones, sizes: of the networks, as `fiducial.search` has them; int8:
            each in int8 besides.
        model: an exported file, which is timed again and again instead, and held against `budget` where one is given.

    `result.table` has a row a network."""
    if model is not None:
        return _of_model(path_of(model, "model"), budget, threads)
    place = place_of(runtime, "--runtime")
    place = place if threads is None else replace(place, threads=threads)
    if folder is None:
        if int8 and not getattr(runtimes.named(place.runtime), "INT8", None):
            raise UserError("--int8", f"no int8 files are made for {place.runtime}; leave it out")
        wanted = _networks(names_of(methods), names_of(backbones), names_of(sizes) or SIZES, points, int8)
        if make is not None:
            return _made(wanted, place, path_of(make, "make"), progress)
        with tempfile.TemporaryDirectory(prefix="fiducial-") as work:
            _made(wanted, place, Path(work), progress)
            return _timed(Path(work), place, path_of(out, "out"), progress)
    return _timed(path_of(folder, "folder"), place, path_of(out, "out"), progress)


def _networks(methods: str | None, backbones: str | None, sizes: str, points: int, int8: bool) -> list[Network]:
    from fiducial.searching import space  # torch

    return space.networks_of(methods, backbones, sizes, points, int8=int8)


def _made(wanted: Sequence[Network], place: Place, folder: Path, progress: bool) -> Result:
    from fiducial.searching import networks  # torch

    with folders.alone(folder):
        logger.info(f"making {len(wanted)} networks for {place.runtime}")
        listing = networks.make_folder(wanted, place.runtime, folder, bar=progress)
    made = [each for each in listing.networks if each.file]
    lines = [
        f"{len(made)} networks for {place.runtime}; on the device: fiducial bench {folder} --runtime {place} --out table.json"
    ]
    figures = {
        "networks": len(made),
        "left_out": {each.network.key: each.error for each in listing.networks if each.error},
    }
    return Result(figures={**figures, "files": {"folder": str(folder)}}, lines=lines)


def _timed(folder: Path, place: Place, out: Path, progress: bool) -> Result:
    with folders.alone_at(out):
        table = benches.table_of_folder(folder, place, out, bar=progress)
    return Result(
        figures={**config.to_dict(table), "files": {"table": str(out)}},
        table=rows_of(table),
        lines=[f"on {table.device}"],
    )


def rows_of(table: Table) -> list[dict[str, Any]]:
    """Makes the rows of a printed table, the quickest first."""
    entries = sorted(table.entries, key=lambda entry: float("inf") if entry.ms is None else entry.ms)
    return [
        {
            "method": entry.network.method
            + "".join(f":{k}={config.as_setting(v)}" for k, v in entry.network.head.items()),
            "backbone": entry.network.backbone,
            "size": str(entry.network.size),
            "points": entry.network.points,
            "precision": entry.network.precision,
            "ms": "-" if entry.ms is None else f"{entry.ms:.3f}",
            "rounds": entry.error or f"{entry.low_ms:.3f} to {entry.high_ms:.3f}",
            "MiB": "-" if entry.memory_bytes is None else f"{entry.memory_bytes / 2**20:.0f}",
        }
        for entry in entries
    ]


def _of_model(model: Path, budget: str | None, threads: int | None) -> Result:
    """Times an exported file again and again."""
    if not runtimes.is_exported(runtimes.resolved(model)):
        raise UserError(model, "expected a file of `fiducial export`, or a folder that `fiducial bench --make` wrote")
    asked = None if budget is None else budget_of(budget)
    name = runtimes.family_of(model).NAME
    if asked is not None and asked.place.runtime != name:
        raise UserError(f"--budget {budget}", f"{model} is for {name}; expected a budget of {name}")
    if asked is not None and threads is not None and threads != asked.place.threads:
        raise UserError(f"--threads {threads}", f"the budget is of {asked.place.threads}; leave one of them out")
    count = threads or (1 if asked is None else asked.place.threads)
    ms = benches.repeated_ms(runtimes.resolved(model), count)
    figures: dict[str, Any] = {"model": str(model), "runtime": name, "threads": count, "ms": ms}
    line = f"{len(ms)} times: median {statistics.median(ms):.3f} ms, {min(ms):.3f} to {max(ms):.3f}, in {name}:{count}"
    if asked is not None:
        figures |= {"budget_ms": asked.ms, "keeps_budget": max(ms) <= asked.ms}
        over = sum(each > asked.ms for each in ms)
        line += (
            f"; {asked.ms:g} ms are kept each time" if not over else f"; {over} of {len(ms)} are over {asked.ms:g} ms"
        )
    return Result(figures=figures, lines=[line])
