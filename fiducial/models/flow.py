"""Residual log-likelihood estimation (RLE): Li et al., "Human pose regression with residual log-likelihood
estimation", ICCV 2021.

How errors are distributed is learnt along with the points: a normalising flow (RealNVP, Dinh et al., ICLR 2017) gives
the density of the error in units of its predicted scale, multiplied by a plain base density (Laplace or Gaussian) so
that the flow has only the residual to learn. It is used in training alone and costs nothing afterwards."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Base = Literal["laplace", "gaussian"]
# Standard deviation of each base density whose scale is 1.
SPREAD: dict[Base, float] = {"laplace": math.sqrt(2), "gaussian": 1.0}


class RealNVP(nn.Module):
    """Density of points in the plane: `couplings` affine layers that move one coordinate by what the other one is."""

    mask: Float[Tensor, "layers 2"]
    loc: Float[Tensor, " 2"]
    cov: Float[Tensor, "2 2"]

    def __init__(self, couplings: int = 6, hidden: int = 64) -> None:
        super().__init__()
        # Mean and covariance of the latent normal never change; they are kept since the published files hold them.
        self.register_buffer("loc", torch.zeros(2))
        self.register_buffer("cov", torch.eye(2))
        self.register_buffer("mask", torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(couplings // 2, 1))
        self.s = nn.ModuleList(_mlp(hidden, nn.Tanh()) for _ in range(couplings))
        self.t = nn.ModuleList(_mlp(hidden) for _ in range(couplings))

    def latent(self, xy: Float[Tensor, "n 2"]) -> tuple[Float[Tensor, "n 2"], Float[Tensor, " n"]]:
        """Where a point comes from in the latent plane, and the logarithm of the map's |determinant| there."""
        log_determinant = xy.new_zeros(len(xy))
        for mask, scale, shift in reversed(list(zip(self.mask, self.s, self.t, strict=True))):
            kept = mask * xy
            s, t = scale(kept) * (1 - mask), shift(kept) * (1 - mask)
            xy = (1 - mask) * (xy - t) * torch.exp(-s) + kept
            log_determinant = log_determinant - s.sum(-1)
        return xy, log_determinant

    def log_probability(self, xy: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
        """Logarithm of the density at each point."""
        z, log_determinant = self.latent(xy)
        return log_determinant - 0.5 * (z**2).sum(-1) - math.log(2 * math.pi)


def negative_log_likelihood(
    predicted: Float[Tensor, "b k 2"],
    scale_logit: Float[Tensor, "b k 2"],
    target: Float[Tensor, "b k 2"],
    flow: RealNVP,
    base: Base = "laplace",
    residual: bool = True,
) -> Float[Tensor, "b k 2"]:
    """Of each coordinate of `target` (eq. 8 with the residual, eq. 5 without). The scale is sigmoid(scale_logit), in
    the unit of the points, which should be shares of the picture.

    As in the authors' code the flow's density, which is one of both coordinates together, counts for each of them. Its
    gradient reaches points and scales too. Any two kinds of points share the flow."""
    scale, log_scale = scale_logit.sigmoid(), F.logsigmoid(scale_logit)
    error = (predicted - target) / (scale + 1e-9)
    log_density = flow.log_probability(error.flatten(0, 1)).view(*error.shape[:2], 1)
    loss = log_scale - log_density
    if not residual:
        return loss
    if base == "laplace":
        return loss + math.log(2) + log_scale + error.abs()
    return loss + 0.5 * math.log(2 * math.pi) + log_scale + error**2 / 2


def _mlp(hidden: int, *last: nn.Module) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(2, hidden), nn.LeakyReLU(), nn.Linear(hidden, hidden), nn.LeakyReLU()]
    sequence = nn.Sequential(*layers, nn.Linear(hidden, 2), *last)
    for layer in sequence:
        if isinstance(layer, nn.Linear):
            # Near the identity at first, as the authors start it.
            nn.init.xavier_uniform_(layer.weight, gain=0.01)
    return sequence
