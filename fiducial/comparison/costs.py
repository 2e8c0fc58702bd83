"""What each variant costs: parameters and multiply-adds; milliseconds and memory in each runtime that it has; time to
train.

Measured by `deploy/cost.py`, all variants in turn in one call, after all training. Kept in OUT/costs.json and measured
anew, all together, when a variant joins, weights change, or the machine or a library is another one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from fiducial import config, files
from fiducial.comparison.runs import NAMES, Run, Variant
from fiducial.models import detector as detectors
from fiducial.profiling.machine import processor
from fiducial.runtime import cost
from fiducial.runtime.cost import Cost, Latency
from fiducial.version import __version__

THREADS = 1


@dataclass(frozen=True)
class VariantCost:
    """One variant; training_seconds is the mean over its runs, of training and validation alone."""

    static: Cost
    latency: dict[str, Latency]  # by runtime; exported files have one
    training_seconds: float | None

    def milliseconds(self, runtime: str) -> float:
        """For one crop: of CPU time, which other programs on the machine don't lengthen. NaN where not measured."""
        latency = self.latency.get(runtime)
        if latency is None:
            return math.nan
        time = latency.median_ms if latency.cpu_ms is None else latency.cpu_ms
        return math.nan if time is None else time


def measure(
    variants: Mapping[str, Variant], cache: Path, echo: Callable[[str], None] = print
) -> dict[str, VariantCost]:
    """By name. The first run of each stands for its seeds: they are the same network."""
    firsts = {name: variant.runs[0] for name, variant in variants.items()}
    used = {runtime for first in firsts.values() for runtime in cost.runtimes_of(first.path)}
    runtimes = [runtime for runtime in NAMES if runtime in used]
    measured_on = {"machine": machine(runtimes), "models": {name: first.digest for name, first in firsts.items()}}
    kept = files.read_json(cache) if cache.exists() else None
    if kept is None or kept["measured_on"] != measured_on:
        echo(f"timing {len(firsts)} models in {', '.join(NAMES[runtime] for runtime in runtimes)}")
        static = {name: _static(first) for name, first in firsts.items()}
        latency = cost.measure_many({name: first.path for name, first in firsts.items()}, threads=THREADS)
        kept = {
            "measured_on": measured_on,
            "static": {name: asdict(each) for name, each in static.items()},
            "latency": {name: {key: asdict(value) for key, value in own.items()} for name, own in latency.items()},
        }
        config.write_json(cache, kept)
    found = {}
    for name, variant in variants.items():
        latency = {key: config.from_dict(Latency, value, str(cache)) for key, value in kept["latency"][name].items()}
        static = config.from_dict(Cost, kept["static"][name], str(cache))
        found[name] = VariantCost(static, latency, _training_seconds(variant))
    return found


def _static(run: Run) -> Cost:
    return cost.exported_cost(run.path) if run.export else cost.static_cost(detectors.load(run.path)[0])


def machine(runtimes: Sequence[str]) -> dict[str, Any]:
    """What the milliseconds depend on. A runtime's name is that of its package, too."""
    return {
        "processor": processor(),
        "threads": THREADS,
        "fiducial": __version__,
        **{name: metadata.version(name) for name in runtimes},
    }


def _training_seconds(variant: Variant) -> float | None:
    seconds = [sum(row["seconds"] for row in run.history()) for run in variant.runs if run.history()]
    return sum(seconds) / len(seconds) if seconds else None
