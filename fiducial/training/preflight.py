"""Before the run: can this network learn this data at all, and in which precision does it learn fastest here?"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from fiducial.training.failure import TrainingFailure
from fiducial.training.objective import Objective, Supervised, losses_of_rows
from fiducial.training.recipe import Recipe
from fiducial.types import Batch, Instances

Variant = tuple[str, str]  # (precision, memory format)


def overfit(
    objective: Supervised,
    batch: Batch,
    instances: Instances,
    *,
    lr: float,
    device: torch.device | str = "cpu",
    max_steps: int = 150,
    max_seconds: float = 60,
) -> str:
    """Trains a copy on one small batch; returns a line for the log.

    The excess of the loss over that of perfect outputs must fall to a third of what a typical sample's is at first.
    TrainingFailure where it does not, naming the annotation that resists if one stands out. Stops as soon as it has
    passed, and gives no verdict where `max_seconds` run out first. Leaves the objective and torch's random numbers as
    they were."""
    with torch.random.fork_rng():
        trial = copy.deepcopy(objective).to(device)
        trial.train()
        batch = Batch(*(column.to(device) for column in batch))
        return _overfit(trial, batch, instances, lr, max_steps, max_seconds)


def _overfit(
    trial: Supervised, batch: Batch, instances: Instances, lr: float, max_steps: int, max_seconds: float
) -> str:
    # Batch statistics of eight samples are noisy; a copy in float32 with its own optimizer touches nothing.
    optimizer = torch.optim.AdamW(trial.parameters(), lr=lr, weight_decay=0.0)
    head = trial.detector.head
    # In eval mode targets are not drawn, and nothing is observed: a perfect output is no example.
    head.eval()
    with torch.no_grad():
        perfect = head.encode(batch)
        floors = losses_of_rows(head, perfect, batch)
        floor = sum(float(value) for value in head.loss(perfect, batch).values())
    head.train()
    # The typical sample's start, not the mean: a label far outside would raise the bar that it has to clear.
    start, best, began = float((trial.each(batch) - floors).median()), float("inf"), time.perf_counter()
    for step in range(max_steps):
        loss = _total(trial, batch)
        if not torch.isfinite(loss):
            bad = (~trial.each(batch).isfinite()).nonzero()[:, 0].tolist()
            raise TrainingFailure(
                f"pre-flight: the loss is not finite at step {step} for {len(bad)} of {len(batch.row)} samples, first "
                f"{instances.where(int(batch.row[bad[0] if bad else 0]))}. Look at its labels, or lower the learning "
                f"rate (now {lr:.2g}: --lr)"
            )
        best = min(best, float(loss.detach()) - floor)
        if step > 5 and best < start / 3:
            fell = f"loss over its floor {start:.4g} to {best:.4g}"
            return f"pre-flight: one batch of {len(batch.row)} learnt in {step} steps ({fell})"
        if time.perf_counter() - began > max_seconds:
            return f"pre-flight: no verdict in {max_seconds:.0f} s ({step + 1} steps, {start:.4g} to {best:.4g})"
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trial.parameters(), 5.0)
        optimizer.step()
    raise TrainingFailure(
        f"pre-flight: {max_steps} steps on one batch of {len(batch.row)} samples took the loss (over its floor) only from "
        f"{start:.4g} to {best:.4g}; it should fall to a third. {_suspect(trial.each(batch) - floors, batch, instances)} Settings to try: "
        f"--lr (now {lr:.2g}), head.loss, head.sigma_cells; --no-preflight skips this check"
    )


def variants_of(recipe: Recipe) -> list[Variant]:
    """Lists the precisions and memory formats that a recipe leaves open."""
    precisions = ["fp32", "bf16"] if recipe.precision == "auto" else [recipe.precision]
    formats = ["channels_last", "contiguous"] if recipe.memory_format == "auto" else [recipe.memory_format]
    return [(precision, layout) for precision in precisions for layout in formats]


def fastest_variant(
    objective: Objective, batch: Any, device: torch.device, variants: list[Variant], max_seconds: float = 20
) -> tuple[Variant, dict[Variant, float]]:
    """Seconds a training step for each variant, the best of four rounds in which they take turns (what else a machine
    does then meets them all). The first variant is kept unless another is a tenth faster. Leaves everything as it was,
    as `overfit` does."""
    with torch.random.fork_rng():
        seconds = _seconds_a_step(objective, batch, device, variants, max_seconds)
    best = min(seconds, key=lambda variant: seconds[variant])
    return (best if seconds[best] < 0.9 * seconds[variants[0]] else variants[0]), seconds


def _seconds_a_step(
    objective: Objective, batch: Any, device: torch.device, variants: list[Variant], max_seconds: float
) -> dict[Variant, float]:
    batch = type(batch)(*(column.to(device) for column in batch))
    began = time.perf_counter()
    steps: dict[Variant, Callable[[], None]] = {}
    for variant in variants:
        trial = copy.deepcopy(objective).to(device)
        trial.train()
        trial.detector.channels_last = variant[1] == "channels_last"
        if trial.detector.channels_last:
            trial = trial.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        steps[variant] = _step_of(trial, batch, device, variant[0])
        steps[variant]()  # warms up
        if time.perf_counter() - began > max_seconds / 2:
            break
    seconds = {variant: _timed(step, device) for variant, step in steps.items()}
    for _ in range(3):
        if time.perf_counter() - began > max_seconds:
            break
        seconds = {variant: min(seconds[variant], _timed(step, device)) for variant, step in steps.items()}
    return seconds


def _step_of(trial: Objective, batch: Any, device: torch.device, precision: str) -> Callable[[], None]:
    cast = torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()

    def step() -> None:
        with cast:
            loss = _total(trial, batch)
        loss.backward()
        trial.zero_grad()

    return step


def _timed(step: Callable[[], None], device: torch.device) -> float:
    began = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def _total(objective: Objective, batch: Any) -> Float[Tensor, ""]:
    return torch.stack(list(objective(batch).values())).sum()


def _suspect(excess: Tensor, batch: Batch, instances: Instances) -> str:
    """The sample that resists, if one stands out; else a word on the batch."""
    worst = int(excess.argmax())
    others = torch.cat([excess[:worst], excess[worst + 1 :]])
    where = instances.where(int(batch.row[worst]))
    if len(others) and excess[worst] > 3 * others.median():
        return f"One sample resists, look at its labels: {where}."
    return f"No sample stands out (highest loss: {where})."
