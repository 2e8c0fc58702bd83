"""How fast this machine trains a network on given data: a few steps of it, with what loading a batch takes."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

from fiducial import files
from fiducial.training import preflight
from fiducial.training.device import pick_device, worker_count
from fiducial.training.objective import Objective
from fiducial.training.recipe import Recipe

VALIDATING = 0.4  # of what a training step of as many crops takes: no gradients, but images are decoded whole
SECONDS = 15.0  # that timing may take, but for the first step of each variant


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast a machine trains a network, seconds, and how it does so fastest."""

    step: float
    validation: float  # of the whole of val, once
    precision: str
    memory_format: str


def pace_of(objective: Objective, loader: Any, validated: int, recipe: Recipe) -> Pace:
    """Times a few steps of training. loader: of its batches, without processes; validated: instances of val. Leaves the
    objective and torch's random numbers as they were."""
    device = pick_device()
    batch = next(iter(loader))  # the first one opens files
    began = time.perf_counter()
    batch = next(iter(loader))
    loading_seconds = time.perf_counter() - began
    variants = preflight.variants_of(recipe)
    variant, seconds = preflight.fastest_variant(objective, batch, device, variants, SECONDS)
    workers = worker_count(recipe)
    if device.type == "cuda" or files.cores() > workers > 0:  # loading is done while the network learns
        step = max(seconds[variant], loading_seconds / max(1, workers))
    else:
        step = seconds[variant] + loading_seconds
    return Pace(
        step=step,
        validation=VALIDATING * step * math.ceil(validated / recipe.batch_size),
        precision=variant[0],
        memory_format=variant[1],
    )
