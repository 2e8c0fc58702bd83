"""What each variant costs: parameters and multiply-adds; milliseconds and memory in each runtime that it has.

Measured by `runtime/cost.py`, all variants in turn in one call, after all training. Kept in OUT/costs.json and measured
anew, all together, when a variant joins, weights change, or the machine or a library is another one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from fiducial import config, files
from fiducial.comparison.runs import NAMES, Run, Variant
from fiducial.exporting import onnx_export
from fiducial.log import logger
from fiducial.models import detector as detectors
from fiducial.profiling.machine import processor
from fiducial.runtime import cost
from fiducial.runtime.cost import Cost, Latency
from fiducial.version import __version__

THREADS = 1


@dataclass(frozen=True)
class VariantCost:
    """One variant without its training."""

    static: Cost
    latency: dict[str, Latency]  # by runtime; exported files have one; none where the variant was not timed

    def milliseconds(self, runtime: str) -> float:
        """For one crop: of CPU time, which other programs on the machine don't lengthen. NaN where not measured."""
        latency = self.latency.get(runtime)
        if latency is None:
            return math.nan
        time = latency.median_ms if latency.cpu_ms is None else latency.cpu_ms
        return math.nan if time is None else time


def measure(variants: Mapping[str, Variant], cache: Path) -> dict[str, VariantCost]:
    """Measures variants by name. The first run of each stands for its seeds: they are the same network."""
    firsts = {name: variant.runs[0] for name, variant in variants.items()}
    used = {runtime for first in firsts.values() for runtime in cost.runtimes_of(first.path)}
    runtimes = [runtime for runtime in NAMES if runtime in used]
    measured_on = {"machine": machine(runtimes), "models": {name: first.digest for name, first in firsts.items()}}
    kept = files.read_object(cache) if cache.exists() else {}
    if kept.get("measured_on") != measured_on:
        logger.info(f"timing {len(firsts)} models in {', '.join(NAMES[runtime] for runtime in runtimes)}")
        static = {name: _static(first) for name, first in firsts.items()}
        latency = cost.measure_many(
            {name: first.path for name, first in firsts.items()}, make=onnx_export.of_run_folder, threads=THREADS
        )
        kept = {
            "measured_on": measured_on,
            "static": {name: asdict(value) for name, value in static.items()},
            "latency": {
                name: {key: asdict(value) for key, value in by_runtime.items()} for name, by_runtime in latency.items()
            },
        }
        config.write_json(cache, kept)
    costs = {}
    with files.ours(cache):
        for name in variants:
            times = kept["latency"][name].items()
            latency = {key: config.from_dict(Latency, value, str(cache)) for key, value in times}
            static = config.from_dict(Cost, kept["static"][name], str(cache))
            costs[name] = VariantCost(static, latency)
    return costs


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
