"""Gaussians along one axis of cells, and what is read from them: means, their truncation, the mass around a point.

Positions are in cells, centres at integers; outer edges of n cells lie at -0.5 and n - 0.5. Maps are products of two
axes (`heatmaps.py`); SimCC's vectors are axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

FAR = 6.0  # widths from a Gaussian's centre beyond which it is nothing in single precision


def positions(cells: int, like: Tensor) -> Float[Tensor, " n"]:
    """Lists the cells' centres 0, 1, .., cells - 1, of the kind of `like`."""
    return torch.arange(cells, device=like.device, dtype=like.dtype)


def gaussian(centre: Float[Tensor, "*b"], cells: int, sigma_cells: float) -> Float[Tensor, "*b n"]:
    """Weighs the cells under a Gaussian, summing to one however much of it lies outside."""
    return (-((positions(cells, centre) - centre[..., None]) ** 2) / (2 * sigma_cells**2)).softmax(-1)


def mean(weight: Float[Tensor, "*b n"]) -> Float[Tensor, "*b"]:
    """Computes the mean position under weights that sum to one."""
    return (weight * positions(weight.shape[-1], weight)).sum(-1)


def squared(weight: Float[Tensor, "*b n"]) -> Float[Tensor, "*b n"]:
    """Sharpens weights: their squares, which sum to one again."""
    square = weight * weight
    return square / square.sum(-1, keepdim=True)


def deviation(weight: Float[Tensor, "*b n"]) -> Float[Tensor, "*b"]:
    """Computes the standard deviation of the position under weights that sum to one, in cells."""
    away = positions(weight.shape[-1], weight) - mean(weight)[..., None]
    return (weight * away**2).sum(-1).clamp_min(0).sqrt()


def margin(distance: Float[Tensor, "*b n"], round_cells: float | Tensor) -> Float[Tensor, "*b n"]:
    """Measures |distance|, rounded off within `round_cells` so that it has no kink between cells: sqrt(d^2 + r^2) - r."""
    return (distance**2 + round_cells**2).sqrt() - round_cells


def untruncated(
    mean_cells: Float[Tensor, "*b axes"],
    cells: Sequence[int],
    sigma_cells: float | Sequence[float],
    rounds: int = 3,
    margin_weight: float = 0.0,
    power: float = 1.0,
) -> Float[Tensor, "*b axes"]:
    """Finds the centres of the Gaussians whose parts on axes of `cells` cells have these mean positions; widths are of all
    axes, or of each.

    An axis cuts off one side of a Gaussian that is centred near its end, so the mean lies further in than the centre:
    by up to 0.8 sigma on the end itself. Newton's steps from the mean; centres stay on the axis. Both ends are alike, and
    `FAR` widths from an end nothing is cut off: so the steps are made on the part of the axis next to the nearer end.
    `margin_weight`: the peaks are Gaussians times exp(-margin_weight x margin(distance, sigma_cells)). `power`: the means are
    of the peaks to this power."""
    widths = [sigma_cells] * len(cells) if isinstance(sigma_cells, float | int) else list(sigma_cells)
    far = math.ceil(FAR * max(widths))
    at = positions(min(max(cells), 2 * far + 2), mean_cells)
    # Of an axis that is shorter than this part, cells beyond its end have no weight.
    absent = (at > at.new_tensor(cells)[:, None] - 1) * -1e4 if min(cells) < len(at) else 0.0
    sigma, last = (mean_cells.new_tensor(values) for values in (widths, [count - 1 for count in cells]))
    # 1 or -1, from the nearer end; not by `sign`, which not every accelerator has.
    inward = ((last / 2 - mean_cells) * 1e6).clamp(-1, 1)
    depth = torch.minimum(mean_cells, last - mean_cells)
    depth = depth - (depth - far).floor().clamp_min(0)  # by whole cells, which a narrow Gaussian tells apart
    centre = depth
    for _ in range(rounds):
        distance = at - centre[..., None]
        logits = absent - (distance / (sigma * 2**0.5)[:, None]) ** 2
        if margin_weight:
            logits = logits - margin_weight * margin(distance, sigma[:, None])
        weight = (power * logits).softmax(-1)
        found = mean(weight)
        away = at - found[..., None]
        slope = away  # of -logits x sigma^2 by the distance; a constant added to it would change nothing below
        if margin_weight:
            square = sigma[:, None] ** 2
            slope = distance * (1 + margin_weight * square / (distance**2 + square).sqrt())
        # An axis of one cell, or a Gaussian within one, has no variance: its mean is where it is.
        variance = (weight * away * slope).sum(-1).clamp_min(1e-6)
        # The mean's derivative by the centre is power x variance / sigma^2: of a Gaussian 1 inside, 0.36 on the end.
        centre = (centre + (depth - found) * sigma**2 / (power * variance)).clamp(-0.5, far + 1.0)
    return mean_cells + inward * (centre - depth)


def reach(sigma_cells: float) -> float:
    """Gives how far from its centre a peak of this width counts as near, cells: two widths and half a cell."""
    return 2 * sigma_cells + 0.5


def mass_near(probability: Float[Tensor, "*b n"], at: Float[Tensor, "*b"], radius_cells: float) -> Float[Tensor, "*b"]:
    """Sums the probability within `radius_cells` of a position; cells on the edge count in part."""
    return (probability * near(at, probability.shape[-1], radius_cells)).sum(-1)


def near(at: Float[Tensor, "*b"], cells: int, radius_cells: float) -> Float[Tensor, "*b n"]:
    """Measures how much of each cell lies within `radius_cells` of a position: 1 inside, 0 outside."""
    away, within = positions(cells, at) - at[..., None], radius_cells + 0.5
    return torch.minimum(within - away, within + away).clamp(0, 1)
