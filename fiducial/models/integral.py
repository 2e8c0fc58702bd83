"""Mean positions without the pull of the map's background (Gu et al., "Removing the bias of integral pose regression",
ICCV 2021).

A softmax over H W cells gives the background, where the logits are 0, its share of the probability however high the
peak is: q = 1/C, C the mean of exp(logits); and this share has its mean at the map's centre g. With p the peak's
position the plain mean is x = (1 - q) p + q g, so p = (x - q g) / (1 - q), which is C/(C - 1) (x - g/C). C is often
written as the *sum* of exp(logits), as in MMPose: then the correction is H W times too small and moves nothing
(`benchmarks/debias.py` shows it)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from fiducial.models import heatmaps


def background_free_expectation(logits: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k 2"]:
    """Computes the mean position, as xy_grid, under exp(logits) - 1: the softmax's map less its background.

    The same as C/(C - 1) (x - g/C): C - 1 is the mean of expm1(logits), C x - g
    that of position times expm1(logits). In this form nothing cancels and nothing overflows for logits of at
    least 0, which the caller provides; below, cells count for less than nothing and the sum may vanish. A map of zeros
    has its mean at its centre."""
    highest = logits.amax((-2, -1), keepdim=True).clamp_min(0).detach()
    # expm1(l) e^-m without overflow: for l > 0 it is (1 - e^-l) e^(l - m).
    above = -torch.expm1(-logits.clamp_min(0)) * torch.exp(logits.clamp_min(0) - highest)
    below = torch.expm1(logits.clamp_max(0)) * torch.exp(-highest)
    weight = torch.where(logits > 0, above, below)
    # So little that only a map of zeros feels it.
    weight = weight + torch.exp(-highest) * (1e-9 / (logits.shape[-1] * logits.shape[-2]))
    return heatmaps.expectation(weight / weight.sum((-2, -1), keepdim=True))
