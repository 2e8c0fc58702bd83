"""Every measured run below a folder, read from the files that runs write: what was tried on which data, with which figure
and at which cost. Nothing here imports torch.

    fit, distill        recipe.json, metrics.json, history.csv, model.json
    adapt               NAME.map.json, metrics.json
    compare, study      results.json beside plan.json or study.json
    search              search.json beside state.json"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fiducial import card, files
from fiducial.errors import UserError, did_you_mean

NOT_RUNS = ("checkpoints", "tensorboard", "pictures", "predictions", "teacher", "frames", "shipped")  # folders in runs
FIGURES = ("nme", "student_teacher_distance", "gain", "ap", "box_ap")  # the first that is there stands for a run
SORTS = ("figure", "minutes", "ms", "path")


@dataclass(frozen=True, kw_only=True)
class Record:
    """One measured run."""

    path: str  # below the folder that was asked about
    kind: str  # fit, finder, distill, adapt, compare, study, search
    data: str | None = None  # as the command named it
    labels: str | None = None  # fingerprint of the labels that were learnt from
    what: str = ""  # method on backbone at size; of several runs the best
    figure: str | None = None  # its name: nme, ..
    value: float | None = None  # a fraction, or px
    split: str | None = None
    interval: tuple[float, float] | None = None
    floor: float | None = None  # of the same figure: what looks at no image has
    minutes: float | None = None  # of training
    ms: dict[str, float] = field(default_factory=dict)  # by runtime, where it was timed
    epochs: int | None = None
    runs: int = 1  # that it is of
    state: str = "finished"  # or unfinished


@dataclass(frozen=True, kw_only=True)
class Records:
    """What lies below a folder."""

    runs: tuple[Record, ...]
    unreadable: dict[str, str]  # path -> why

    @property
    def data(self) -> list[str]:
        """Lists the sets that the runs are of: figures of one of them alone can be compared."""
        return sorted({data_of(run, self.runs) for run in self.runs})


def read(folder: Path) -> Records:
    """Reads all runs below a folder. UserError where there are none."""
    if not folder.is_dir():
        raise UserError(folder, "no such folder; expected one that holds runs")
    runs: list[Record] = []
    unreadable: dict[str, str] = {}
    ms_of: dict[Path, dict[str, float]] = {}
    for place in _folders(folder):
        name = os.path.relpath(place, folder)
        try:
            with files.ours(place):
                found = _of_folder(place, name, ms_of)
        except UserError as error:
            unreadable[name] = error.about(place)
            continue
        runs += [] if found is None else [found]
    if not runs and not unreadable:
        raise UserError(folder, "no run below it; expected folders that fit, compare, distill or search made")
    timed = [replace(run, ms=run.ms or ms_of.get((folder / run.path).resolve(), {})) for run in runs]
    return Records(runs=tuple(timed), unreadable=unreadable)


def chosen(records: Records, *, data: str | None = None, kind: str | None = None, sort: str = "figure") -> Records:
    """Picks the runs whose data have `data` in their name and that are of a `kind`, and sorts them, best first. Without
    `sort` by path those of one set stand together."""
    if sort not in SORTS:
        raise UserError(f"--sort {sort!r}", f"no such order.{did_you_mean(sort, SORTS)}")
    kinds = sorted({run.kind for run in records.runs})
    if kind is not None and kind not in kinds:
        raise UserError(f"--kind {kind!r}", f"no run is of that kind.{did_you_mean(kind, kinds)}")
    picked = [
        run
        for run in records.runs
        if (kind is None or run.kind == kind) and (data is None or data in data_of(run, records.runs))
    ]
    if not picked and records.runs:
        raise UserError(f"--data {data!r}", f"no run is of such data.{did_you_mean(data or '', records.data)}")
    keys = {
        "figure": lambda run: (data_of(run, records.runs), run.figure or "~", _last(run.value)),
        "minutes": lambda run: (data_of(run, records.runs), _last(run.minutes)),
        "ms": lambda run: (data_of(run, records.runs), _last(min(run.ms.values(), default=None))),
        "path": lambda run: run.path,
    }
    return replace(records, runs=tuple(sorted(picked, key=keys[sort])))


def data_of(run: Record, among: Sequence[Record]) -> str:
    """Names a run's data: its folder, and which labels where others of that name were other ones."""
    if run.data is None:
        return "not known"
    name = Path(run.data).name or run.data
    same = {
        other.labels for other in among if other.data and Path(other.data).name == Path(run.data).name and other.labels
    }
    return f"{name} ({run.labels[:6]})" if len(same) > 1 and run.labels else name


def rows(records: Records) -> list[dict[str, Any]]:
    """Makes the rows of a printed table."""
    runtimes = list(dict.fromkeys(name for run in records.runs for name in run.ms))
    return [
        {
            "run": run.path,
            "kind": run.kind,
            "data": data_of(run, records.runs),
            "what": run.what,
            "figure": _text(run),
            "floor": "" if run.floor is None else _number(run.figure, run.floor),
            "split": run.split or "",
            "minutes": "" if run.minutes is None else f"{run.minutes:.1f}",
            **{f"ms {name}": f"{run.ms[name]:.2f}" if name in run.ms else "" for name in runtimes},
        }
        for run in records.runs
    ]


def as_json(records: Records) -> dict[str, Any]:
    """Makes what `--json` writes."""
    return {
        "runs": [{**asdict(run), "of": data_of(run, records.runs)} for run in records.runs],
        "data": records.data,
        "unreadable": records.unreadable,
    }


def lines(records: Records) -> list[str]:
    """Says what must be known of the table."""
    said = []
    if len(records.data) > 1:
        said.append(
            f"{len(records.data)} sets of data: {', '.join(records.data)}; figures of different ones can't be compared (--data)"
        )
    unfinished = [run.path for run in records.runs if run.state != "finished"]
    if unfinished:
        said.append(f"not finished: {', '.join(unfinished)}")
    said += [f"{path}: can't be read: {why}" for path, why in records.unreadable.items()]
    return said


# ------------------------------------------------------------------------------------------------------ one folder


def _folders(folder: Path) -> Iterator[Path]:
    for place, names, _ in os.walk(folder):
        names[:] = sorted(name for name in names if not name.startswith(".") and name not in NOT_RUNS)
        yield Path(place)


def _of_folder(place: Path, name: str, ms_of: dict[Path, dict[str, float]]) -> Record | None:
    """The run of a folder itself; None where it is none. `ms_of` gets what comparisons and searches say of their runs."""
    if (place / "state.json").is_file():
        return _of_search(place, name, ms_of)
    for kind, plan in (("compare", "plan.json"), ("study", "study.json")):
        if (place / plan).is_file():
            return _of_comparison(place, name, kind, plan, ms_of)
    if (place / "recipe.json").is_file():
        return _of_run(place, name)
    if (place / "metrics.json").is_file() and list(place.glob(f"*{card.MAP}")):
        summary = files.read_object(place / "metrics.json", "metrics", "model", "map")
        about = {
            "what": f"{Path(summary['model']).name}, {summary['map']}",
            "data": summary.get("data"),
            "split": summary.get("split"),
        }
        return Record(path=name, kind="adapt", **about, **_figure(summary))
    return None


def _of_run(place: Path, name: str) -> Record:
    values = files.read_object(place / "recipe.json", "recipe")
    recipe = values["recipe"]
    kind = "distill" if recipe.get("distillation") or values.get("teacher") else "fit"
    history = files.csv_numbers(place / "history.csv")
    own = Record(
        path=name,
        kind=kind,
        labels=values.get("data"),
        what=_what(recipe["method"], recipe["backbone"], recipe["size"]),
        minutes=sum(row.get("seconds", 0.0) for row in history) / 60 if history else None,
        epochs=len(history) or None,
    )
    if not (place / "metrics.json").is_file():
        if (place / "model.json").is_file():
            raise UserError(place / "metrics.json", "is missing, though the run has a model; its figures are not known")
        return replace(own, state="unfinished")
    card.read(place / "model.json")
    summary = files.read_object(place / "metrics.json", "metrics")
    found = _figure(summary)
    kind = "finder" if found.get("figure") == "box_ap" else kind
    return replace(own, kind=kind, data=summary.get("data"), split=summary.get("split"), **found)


def _of_comparison(place: Path, name: str, kind: str, plan: str, ms_of: dict[Path, dict[str, float]]) -> Record:
    data = files.read_object(place / plan, "cells")
    own = Record(path=name, kind=kind, data=data.get("data"), runs=len(data["cells"]))
    if not (place / "results.json").is_file():
        return replace(own, state="unfinished")
    results = files.read_object(place / "results.json", "rows")
    for row in results["rows"]:
        for run in row["runs"]:
            ms_of[Path(run).resolve()] = _ms(row)
            ms_of[(place / "runs" / Path(run).name).resolve()] = _ms(row)  # where the folder was moved
    best = results["rows"][0]
    nme = best.get("nme") or {}
    seconds = [row["training_seconds"] * len(row["runs"]) for row in results["rows"] if row.get("training_seconds")]
    measured = {"figure": "nme", "value": nme["mean"]} if nme.get("mean") is not None else _first(best["metrics"])
    return replace(
        own,
        split=results.get("split"),
        what=f"best of {len(results['rows'])}: {best['name']}",
        floor=(results.get("floor") or {}).get("nme") if measured.get("figure") == "nme" else None,
        minutes=sum(seconds) / 60 if seconds else None,
        ms=_ms(best),
        **measured,
    )


def _of_search(place: Path, name: str, ms_of: dict[Path, dict[str, float]]) -> Record:
    begun = files.read_object(place / "state.json", "asked")
    own = Record(path=name, kind="search", data=begun["asked"].get("data"), labels=begun.get("data") or None)
    if not (place / "search.json").is_file():
        return replace(own, state="unfinished")
    found = files.read_object(place / "search.json", "winner", "metrics", "tried", "budget")
    runtime, winner = found["budget"]["runtime"], found["winner"]
    for row in found["tried"]:
        ms_of[(place / "runs" / row["name"]).resolve()] = {runtime: row["ms"]}
    budget = f"{found['budget']['ms']:g}ms@{runtime}:{found['budget']['threads']}"
    return replace(
        own,
        split=found["split"],
        what=f"{budget}: {_what(winner['method'], winner['backbone'], winner['size'])}",
        minutes=found["minutes"]["used"],
        ms={runtime: winner["median_ms"]},
        runs=len(found["tried"]),
        **_figure(found),
    )


def _figure(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The figure that stands for a run, with its interval and floor where they are there."""
    found = _first(summary["metrics"])
    interval = (summary.get("intervals") or {}).get(found.get("figure"))
    floor = (summary.get("floor") or {}).get(found.get("figure"))
    return {**found, "interval": None if interval is None else tuple(interval), "floor": floor}


def _first(metrics: Mapping[str, Any]) -> dict[str, Any]:
    for name in FIGURES:
        value = metrics.get(name)
        value = value.get("mean") if isinstance(value, dict) else value
        if isinstance(value, (int, float)):
            return {"figure": name, "value": float(value)}
    return {}


def _ms(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: one["ms"] for name, one in row.get("latency", {}).items() if one.get("ms") is not None}


def _what(method: str, backbone: str, size: Any) -> str:
    return f"{method} on {backbone} {size if isinstance(size, str) else 'x'.join(map(str, size))}"


def _text(run: Record) -> str:
    if run.value is None:
        return run.state if run.state != "finished" else "–"
    between = "" if run.interval is None else " ({} to {})".format(*(_number(run.figure, v) for v in run.interval))
    return f"{run.figure} {_number(run.figure, run.value)}{between}"


def _number(figure: str | None, value: float) -> str:
    return f"{100 * value:.2f} %" if figure == "nme" else f"{value:.4g}"


def _last(value: float | None) -> float:
    return float("inf") if value is None else value
