"""Map losses. The reference's weights multiply maps or squares, and its means are over all points, labelled or not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from parity.golden import Case, Tolerance
from torch import Tensor

from fiducial.models import losses
from fiducial.reference import losses as others

TOLERANCE = {"*.loss": Tolerance(absolute=1e-8, relative=1e-5), "*.grad": Tolerance(relative=1e-4, of_largest=1e-4)}


def run(case: Case) -> dict[str, Tensor]:
    given = case.given
    maps, target, weight = given["pred"], given["target"], given["weights"]
    ones, topk, loss_weight = torch.ones_like(weight), case.config["topk"], case.config["loss_weight"]
    label_weight = torch.stack([weight, ones, ones], -1)[..., None, None]

    def weighted(each: Tensor, weight: Tensor = ones) -> Tensor:
        return (each * weight).mean()

    def hardest(each: Tensor) -> Tensor:
        return ((each * losses.hardest(each, ones, topk)).sum(-1) / topk).mean()

    def twice(maps: Tensor, loss: Callable[[Tensor, Tensor], Tensor], weight: Tensor = ones) -> Tensor:
        """The weight on both maps, so that it counts twice."""
        return loss(maps * weight[..., None, None], target * weight[..., None, None])

    def focal(probability: Tensor, weight: Tensor = ones) -> Tensor:
        positives = ((target == 1) * weight[..., None, None]).sum()
        return (others.focal(probability, target, **case.config.get("focal", {})) * weight).sum() / (
            positives if positives > 0 else 1
        )

    def combined(maps: Tensor) -> Tensor:
        maps, target = (part.unflatten(1, (-1, 3)) * label_weight for part in (maps, given["targetc"]))
        return others.combined(maps, target).mean(0).sum() / target.shape[1]

    mse, awing = losses.map_mse, partial(losses.adaptive_wing, **case.config.get("awing", {}))
    occupied = weight * (target.flatten(2) != 0).any(-1)
    names = {
        "mse": (maps, lambda m: weighted(mse(m, target))),
        "mse_w": (maps, lambda m: loss_weight * weighted(mse(m, target), weight)),
        "mse_pix": (maps, lambda m: weighted(mse(m, target, given["wpix"]))),
        "mse_mask": (maps, lambda m: weighted(mse(m, target, given["mask"] * weight[..., None, None]))),
        "mse_skip": (maps, lambda m: weighted(mse(m, target), occupied)),
        "combined": (given.get("predc"), combined),
        "ohkm": (maps, lambda m: hardest(twice(m, mse))),
        "ohkm_w": (maps, lambda m: loss_weight * hardest(twice(m, mse, weight))),
        "awing": (maps, lambda m: weighted(twice(m, awing))),
        "awing_w": (maps, lambda m: loss_weight * weighted(twice(m, awing, weight))),
        "focal": (given.get("prob"), focal),
        "focal_w": (given.get("prob"), lambda p: focal(p, weight)),
        "hrnet_joints_mse": (maps, lambda m: 0.5 * weighted(twice(m, mse, weight))),
        "hrnet_joints_ohkm": (maps, lambda m: 0.5 * hardest(twice(m, mse, weight))),
    }
    found: dict[str, Tensor] = {}
    for name, (values, loss) in names.items():
        if f"{name}.loss" in case.expected:
            found |= graded(name, values, loss)
    return found


def graded(name: str, values: Tensor, loss: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """The loss of `values` and its gradient."""
    values = values.clone().requires_grad_()
    result = loss(values)
    return {f"{name}.loss": result, f"{name}.grad": torch.autograd.grad(result, values)[0]}
