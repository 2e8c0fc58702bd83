"""Comparisons in seconds: plans of tiny networks, and run folders whose networks are as they were initialised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import quick
import torch

from fiducial import config, files
from fiducial.card import Card
from fiducial.comparison.cells import Plan
from fiducial.comparison.methods import methods_of, plan_of
from fiducial.data.source import Source
from fiducial.geometry import Size
from fiducial.models import detector as detectors
from fiducial.runtime import cost
from fiducial.runtime.cost import Latency
from fiducial.training import fit as fitting

QUICK = replace(quick.RECIPE, method="heatmap", size=Size(64, 64))


def quick_plan(data: Path, methods: str = "deeppose,heatmap", seeds: int = 1, **options: Any) -> Plan:
    """Seconds of training for `blobs`."""
    return plan_of(Source(data), methods_of(methods, QUICK, options, []), seeds=seeds)


def write_run(folder: Path, data: Path, method: str, seed: int, **changes: Any) -> Path:
    """A run folder as `fit` would leave it, untrained; `changes` are of its recipe."""
    recipe = replace(QUICK, method=method, seed=seed, **changes)
    loaded = fitting.load_data(data, recipe)
    torch.manual_seed(seed)
    detector, _ = fitting.build_detector(recipe, loaded)
    card = Card(detector.spec, metrics={"val": {"nme": 0.3}, "train_instances": len(loaded.train)})
    detectors.save(detector.eval(), folder, card)
    config.write_json(folder / "recipe.json", {"recipe": recipe, "data": loaded.fingerprint})
    rows = "".join(f"{epoch},{0.3 - 0.05 * epoch},{2 + seed}\n" for epoch in range(3))
    files.write_text(folder / "history.csv", f"epoch,val/nme,seconds\n{rows}")
    return folder


def untimed(models: Mapping[str, Path], make: object = None, threads: int = 1) -> dict[str, dict[str, Latency]]:
    """Stands in for `cost.measure_many`: the first model is said to be the quickest, and not to run in PyTorch."""
    return {
        name: {
            runtime: Latency(runtime, threads, error="torch: no memory")
            if runtime == "torch" and i == 0
            else Latency(
                runtime,
                threads,
                median_ms=2.5 + i,
                p10_ms=2.4 + i,
                p90_ms=2.6 + i,
                cpu_ms=1.5 + i,
                round_ms=(1.5 + i,),
                memory_bytes=9 << 20,
                base_memory_bytes=4 << 20,
                difference_px=0.0,
            )
            for runtime in cost.runtimes_of(models[name])
        }
        for i, name in enumerate(models)
    }
