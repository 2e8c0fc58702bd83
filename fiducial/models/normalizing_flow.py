"""Residual log-likelihood estimation (RLE): Li et al., "Human pose regression with residual log-likelihood
estimation", ICCV 2021.

How errors are distributed is learnt along with the points: a normalising flow (RealNVP, Dinh et al., ICLR 2017) gives
the density of the error in units of its predicted scale, multiplied by a plain base density (Laplace or Gaussian) so
that the flow has only the residual to learn. It is used in training alone and costs nothing afterwards."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from fiducial.models import losses

Base = Literal["laplace", "gaussian"]
# Standard deviation over mean absolute value of each base density.
DEVIATION: dict[Base, float] = {"laplace": math.sqrt(2), "gaussian": math.sqrt(math.pi / 2)}
# The scale, as a share of the image, that predictions start from, and that a perfect output is given.
FIRST_SCALE, PERFECT_SCALE = 0.1, 0.01


class Likelihood(nn.Module):
    """Learns the density of a head's errors: what it costs to be wrong, and how wrong it expects to be.

    A scale alone says little about that, since the flow may widen or narrow the density for all points: `spread` is the
    standard deviation of error over scale, as the training steps found it (1 until then, and for weights that come
    without it)."""

    spread: Float[Tensor, " 2"]
    observations: Int[Tensor, ""]

    def __init__(self, base: Base = "laplace", residual: bool = True) -> None:
        super().__init__()
        self.base: Base = base
        self.residual = residual
        self.flow = RealNVP()
        self.register_buffer("spread", torch.ones(2))
        self.register_buffer("observations", torch.zeros((), dtype=torch.long))

    def loss(
        self,
        predicted: Float[Tensor, "b k 2"],
        scale_logit: Float[Tensor, "b k 2"],
        target: Float[Tensor, "b k 2"],
        labelled: Float[Tensor, "b k"],
    ) -> Float[Tensor, ""]:
        """Computes the mean over the labelled points. What is not labelled is taken to be where it was found: the flow
        must not meet whatever its target holds."""
        target = torch.where(labelled[..., None] > 0, target, predicted.detach())
        if self.training:
            self._observe((predicted - target).detach() / scale_logit.detach().sigmoid(), labelled)
        each = negative_log_likelihood(predicted, scale_logit, target, self.flow, self.base, self.residual)
        return losses.weighted_mean(each.sum(-1), labelled)

    def deviation(self, scale_logit: Float[Tensor, "b k 2"]) -> Float[Tensor, "b k 2"]:
        """Gives the standard deviation that is expected of each coordinate, in the unit of the points."""
        return scale_logit.sigmoid() * self.spread

    def score(self, scale_logit: Float[Tensor, "b k 2"]) -> Float[Tensor, "b k"]:
        """Computes 1 less the mean deviation, 0 at least; with a spread of 1 as MMPose has it."""
        return (1 - self.deviation(scale_logit).mean(-1)).clamp_min(0)

    def perfect(self, like: Float[Tensor, "b k 2"]) -> Float[Tensor, "b k 2"]:
        """Gives the scale logits of a network that is as sure as a good one is."""
        return (PERFECT_SCALE / self.spread).clamp(1e-6, 1 - 1e-6).logit().to(like).expand_as(like)

    @torch.no_grad()
    def _observe(self, error: Float[Tensor, "b k 2"], labelled: Float[Tensor, "b k"], least: float = 0.05) -> None:
        """Follows mean absolute errors, which a few broken labels change less than squares; a mean over the first
        steps, then over the last 1 / `least`."""
        seen = error.isfinite().all(-1) & (labelled > 0)
        count = seen.sum()
        size = torch.where(seen[..., None], error.abs(), 0).sum((0, 1)) / count.clamp_min(1)
        self.observations += count > 0
        # Without asking how many: on a GPU that would make every step wait.
        share = (1 / self.observations.clamp_min(1)).clamp_min(least) * (count > 0)
        self.spread.lerp_((size * DEVIATION[self.base]).to(self.spread), share.to(self.spread))


def first_scale_logit() -> float:
    """Computes the bias that scales start from."""
    return math.log(FIRST_SCALE / (1 - FIRST_SCALE))


class RealNVP(nn.Module):
    """Models the density of points in the plane: `couplings` affine layers that move one coordinate by what the other
    one is."""

    mask: Float[Tensor, "layers 2"]
    loc: Float[Tensor, " 2"]
    cov: Float[Tensor, "2 2"]

    def __init__(self, couplings: int = 6, hidden: int = 64) -> None:
        super().__init__()
        assert couplings % 2 == 0, "each coordinate is moved as often as the other"
        # Mean and covariance of the latent normal never change; they are kept since the published files hold them.
        self.register_buffer("loc", torch.zeros(2))
        self.register_buffer("cov", torch.eye(2))
        self.register_buffer("mask", torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(couplings // 2, 1))
        self.s = nn.ModuleList(_mlp(hidden, nn.Tanh()) for _ in range(couplings))
        self.t = nn.ModuleList(_mlp(hidden) for _ in range(couplings))

    def latent(self, xy: Float[Tensor, "n 2"]) -> tuple[Float[Tensor, "n 2"], Float[Tensor, " n"]]:
        """Finds where a point comes from in the latent plane, and the logarithm of the map's |determinant| there."""
        log_determinant = xy.new_zeros(len(xy))
        for mask, scale, shift in reversed(list(zip(self.mask, self.s, self.t, strict=True))):
            kept = mask * xy
            s, t = scale(kept) * (1 - mask), shift(kept) * (1 - mask)
            xy = (1 - mask) * (xy - t) * torch.exp(-s) + kept
            log_determinant = log_determinant - s.sum(-1)
        return xy, log_determinant

    def log_probability(self, xy: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
        """Computes the logarithm of the density at each point."""
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
    """Computes the negative log-likelihood of each coordinate of `target` (eq. 8 with the residual, eq. 5 without). The
    scale is sigmoid(scale_logit), in the unit of the points, which should be shares of the image.

    As in MMPose the flow's density, which is one of both coordinates together, counts for each of them, and so does the
    scale for flow and base alike: what is minimised is the likelihood up to such weights, and the scale comes out too
    small or too large by a factor (see `Likelihood.spread`). The gradient of the flow reaches points and scales too.
    All kinds of points share the flow."""
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
            # Little depends on the point at first, as the authors start it.
            nn.init.xavier_uniform_(layer.weight, gain=0.01)
    return sequence
