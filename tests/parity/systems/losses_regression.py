"""Coordinate losses. The reference multiplies prediction and target by the weights first, and its means are over all
points, labelled or not. Names carry constants: `wing_w5_e05` is omega 5, epsilon 0.5. Two are taken as recovered where
neither names nor configuration state them: the weighted losses were made with a factor of 3, the soft one without empty
points with a beta of 2."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from parity.golden import Case, Tolerance
from torch import Tensor

from fiducial.models import losses
from fiducial.reference import losses as others

LOSS_WEIGHT, SOFT_BETA = 3.0, {"empty": 1.0, "noempty": 2.0}
TOLERANCE = {"*.loss": Tolerance(absolute=1e-8, relative=1e-5), "*.grad": Tolerance(relative=1e-4, of_largest=1e-4)}


def run(case: Case) -> dict[str, Tensor]:
    results = {}
    for key in case.expected:
        name, _, what = key.rpartition(".")
        if what == "loss":
            predicted = case.given["pred"].clone().requires_grad_()
            value = loss_of(name, case)(predicted)
            results[f"{name}.loss"] = value
            results[f"{name}.grad"] = torch.autograd.grad(value, predicted)[0]
    return results


def loss_of(name: str, case: Case) -> Callable[[Tensor], Tensor]:
    """By its name in the golden."""
    target, weights, areas = case.given["target"], case.given["weights"], case.given["areas"]
    if name.startswith("soft_smooth_l1"):
        kind = name.rpartition("_")[2]
        beta = case.config.first(f"beta_{kind}", "soft_beta", default=SOFT_BETA[kind])
        return partial(softly_weighted, target=target, weights=weights, kind=kind, beta=beta)
    if name == "bone":
        return partial(bone, target=target)
    if name.startswith("oks_"):
        return partial(oks, target=target, areas=areas, weights=weights, kind=name.removeprefix("oks_"))
    plain = name.removesuffix("_w")
    weight, factor = (
        (weights, case.config.first("loss_weight", default=LOSS_WEIGHT))
        if name.endswith("_w")
        else (torch.ones_like(weights), 1.0)
    )
    each, reduce = COORDINATES[plain] if plain in COORDINATES else (wing_of(plain), sum_over_points)
    return lambda predicted: factor * reduce(each(predicted * weight, target * weight))


def softly_weighted(predicted: Tensor, target: Tensor, weights: Tensor, kind: str, beta: float) -> Tensor:
    """Over all coordinates, or over the points of weight above 0."""
    each = losses.smooth_l1(predicted, target, beta) * weights[..., 0]
    return each.sum() / (weights.numel() if kind == "empty" else (weights[..., 0] > 0).sum())


def bone(predicted: Tensor, target: Tensor) -> Tensor:
    """Over the chain 0-1-2-..; lengths are averaged over the batch before they are compared."""
    points = torch.arange(1, predicted.shape[1])
    edges = torch.stack([points, points - 1], -1)
    return (others.bone_lengths(predicted, edges) - others.bone_lengths(target, edges)).mean(0).abs().mean()


def oks(predicted: Tensor, target: Tensor, areas: Tensor, weights: Tensor, kind: str) -> Tensor:
    """Without sigmas: ours of 0.5 have no effect. `normw` divides by the sum of the weights, the others by K."""
    sigmas = torch.full(predicted.shape[1:2], 0.5)
    if kind == "normw":
        return others.oks(predicted, target, weights[..., 0], areas, sigmas).mean()
    similarity = others.oks_similarity(predicted, target, areas, sigmas)
    return others.shortfall((similarity * weights[..., 0]).mean(-1), cast(others.Shortfall, kind)).mean()


def wing_of(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    found = re.fullmatch(r"wing_w(\d+)_e(\d+)", name)
    assert found is not None, name
    return partial(losses.wing, omega=number(found[1]), epsilon=number(found[2]))


def number(digits: str) -> float:
    """ "5" is 5, "05" is 0.5."""
    return float(f"0.{digits[1:]}") if digits.startswith("0") and len(digits) > 1 else float(digits)


def mean_over_coordinates(each: Tensor) -> Tensor:
    return each.mean() / 2


def sum_over_points(each: Tensor) -> Tensor:
    return each.sum(-1).mean()


COORDINATES = {
    "smooth_l1": (losses.smooth_l1, mean_over_coordinates),
    "l1": (losses.l1, mean_over_coordinates),
    "mse": (losses.mse, mean_over_coordinates),
    "mpjpe": (losses.euclidean, Tensor.mean),
    "wing": (losses.wing, sum_over_points),
    "soft_wing": (losses.soft_wing, sum_over_points),
}
