"""The LightningModule: an objective's step, AdamW with its schedule, and the val metric."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from fiducial.models.detector import Detector
from fiducial.training._lightning import L
from fiducial.training.objective import Objective
from fiducial.training.recipe import OptimizerSpec, Recipe
from fiducial.training.watch import FiniteLoss
from fiducial.training.work import Scoring

BACKBONE = "detector.backbone."  # what its names in an objective begin with
BLOCK = r"(?:[^.]*[^.\d][^.]*\.)*\d+(?:\.\d+)*(?=\.)"  # of a parameter's name, up to its first numbers


class Training(L.LightningModule):
    """What Lightning's Trainer runs. `val/` + the scoring's metric picks the best checkpoint."""

    def __init__(
        self, recipe: Recipe, objective: Objective, scoring: Scoring, total_steps: int, guard: FiniteLoss
    ) -> None:
        super().__init__()
        self.recipe, self.objective = recipe, objective
        self.scoring, self.total_steps, self.guard = scoring, total_steps, guard
        self.lr = recipe.optimizer.lr  # read and replaced by Lightning's learning-rate finder

    @property
    def detector(self) -> Detector:
        return self.objective.detector

    def on_train_epoch_start(self) -> None:
        self.objective.frozen = self.current_epoch < self.recipe.optimizer.freeze_epochs
        self.objective.train()

    def training_step(self, batch: Any, index: int) -> Float[Tensor, ""]:
        # Whatever a step draws (dropout) depends on seed, step and rank alone, so a resumed run is the same run; the
        # generator's state would not do, since Lightning makes its loaders' iterators at another time when it resumes.
        torch.manual_seed(
            int(np.random.SeedSequence([self.recipe.seed, self.global_step, self.global_rank]).generate_state(1)[0])
        )
        losses = self.objective(batch)
        total = torch.stack(list(losses.values())).sum()
        if not total.isfinite():
            self.guard.judge(self.objective, batch, self.global_step, float(self.lr))
            # A step that follows no sample: a gradient of zero, but one that every rank takes part in.
            return torch.stack([(0 * parameter).sum() for _, parameter in learning(self.objective)]).sum()
        of_epoch = {"on_step": False, "on_epoch": True, "sync_dist": True, "batch_size": len(batch.row)}
        for name, value in losses.items():
            self.log(f"train/{name}", value.detach(), **of_epoch)
        self.log("train/loss", total.detach(), prog_bar=True, **of_epoch)
        return total

    def validation_step(self, batch: Any, index: int) -> None:
        self.scoring.observe(self.objective, batch)

    def on_validation_epoch_end(self) -> None:
        for name, value in self.scoring.scores().items():
            self.log(f"val/{name}", value, prog_bar=name == self.scoring.metric, sync_dist=True)

    def configure_optimizers(self) -> Any:
        spec = self.recipe.optimizer
        optimizer = torch.optim.AdamW(parameter_groups(self.objective, spec, float(self.lr)), lr=float(self.lr))
        factor = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(spec, step / self.total_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": factor, "interval": "step"}}


def learning(objective: Objective) -> Iterator[tuple[str, nn.Parameter]]:
    """Names and parameters that a step changes."""
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad and not (objective.frozen and name.startswith(BACKBONE)):
            yield name, parameter


def parameter_groups(objective: Objective, spec: OptimizerSpec, lr: float) -> list[dict[str, Any]]:
    """Backbone and rest, each with and without weight decay (biases and norm scales have none). With a `layer_decay` every block
    of the backbone is a group of its own."""
    named = [(name, parameter) for name, parameter in objective.named_parameters() if parameter.requires_grad]
    layers = layers_of([name for name, _ in named if name.startswith(BACKBONE)])
    last = max(layers.values(), default=0)
    groups: dict[tuple[bool, float, bool], list[Tensor]] = {}
    for name, parameter in named:
        share = spec.backbone_lr * spec.layer_decay ** (last - layers[name]) if name in layers else 1.0
        groups.setdefault((name in layers, share, parameter.ndim > 1), []).append(parameter)
    return [
        {"params": parameters, "lr": lr * share, "weight_decay": spec.weight_decay if decays else 0.0}
        for (_, share, decays), parameters in groups.items()
    ]


def layers_of(names: Sequence[str]) -> dict[str, int]:
    """Numbers the blocks that parameters belong to, in the order of the network: 0 for its stem. A block is what a name has up to its
    first numbers, `blocks.3.1` of `blocks.3.1.conv.weight`; what has none belongs to the block before it."""
    layers, known = {}, [""]
    for name in names:
        found = re.match(BLOCK, name)
        if found and found[0] not in known:
            known.append(found[0])
        layers[name] = known.index(found[0]) if found else len(known) - 1
    return layers


def schedule(spec: OptimizerSpec, progress: float) -> float:
    """lr as a share of its peak, at `progress` 0..1 of the run. Both rise for `warmup` of it; one_cycle from 1/25 by
    a half cosine (Smith & Topin, 2018), cosine from 0 linearly; then a half cosine falls to `final_lr`."""
    if progress < spec.warmup:
        rise = progress / spec.warmup
        return 0.04 + 0.96 * (1 - math.cos(math.pi * rise)) / 2 if spec.schedule == "one_cycle" else rise
    fall = min(1.0, (progress - spec.warmup) / max(1e-9, 1 - spec.warmup))
    return spec.final_lr + (1 - spec.final_lr) * (1 + math.cos(math.pi * fall)) / 2
