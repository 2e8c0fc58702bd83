"""Mean positions without the pull of the map's background (Gu et al., "Removing the bias of integral pose regression",
ICCV 2021).

A softmax over H W cells gives the background, where the logits are 0, its share of the probability however high the
peak is: q = 1/C, C the mean of exp(logits); and this share has its mean at the map's centre g. With p the peak's
position the plain mean is x = (1 - q) p + q g, so p = (x - q g) / (1 - q), which is C/(C - 1) (x - g/C). C is often
written as the *sum* of exp(logits), as in article and MMPose: then the correction is H W times too small and moves
nothing. Both are here, named."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from fiducial import geometry
from fiducial.geometry import Size
from fiducial.models import heatmaps


def expectation_share(probability: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k 2"]:
    """Mean position under maps that sum to one as a share of the map's sides: cell j lies at j / W, up to
    (W - 1) / W, as MMPose's integral heads have it. Times the input's size it is px by `align="stride"`."""
    return geometry.px_to_share(heatmaps.expectation(probability), _grid(probability))


def debiased(
    expectation: Float[Tensor, "b k 2"], background: Float[Tensor, "b k"], centre: Float[Tensor, " 2"]
) -> Float[Tensor, "b k 2"]:
    """(x - q g) / (1 - q), in any frame in which the mean and the centre g are both given. `background` is q; near 1,
    that is for maps without a peak, the result diverges."""
    background = background[..., None]
    return (expectation - background * centre) / (1 - background)


def background_share(logits: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k"]:
    """q as the derivation has it: the probability of all cells, had all of them logits of 0; 1 over the mean of
    exp(logits)."""
    return cell_share(logits) * (logits.shape[-1] * logits.shape[-2])


def cell_share(logits: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k"]:
    """q as it is often written: the probability of one cell of logit 0; 1 over the sum of exp(logits)."""
    return torch.exp(-logits.logsumexp((-2, -1)))


def centre_share(grid: Size, like: Tensor) -> Float[Tensor, " 2"]:
    """g: the mean of all cells as a share of the map's sides, (W - 1) / 2W and (H - 1) / 2H."""
    return geometry.px_to_share(geometry.unit_to_px(like.new_tensor([0.5, 0.5]), grid), grid)


def article_debiased(
    expectation_grid: Float[Tensor, "b k 2"], logits: Float[Tensor, "b k h w"]
) -> Float[Tensor, "b k 2"]:
    """The correction as it is often written, with the sum and the centre at half of the sides; xy_grid to xy_grid.

    On a map of zeros but for one peak it moves x by 1 / 8H of a cell at most, y by 1 / 8W: it is here to show that."""
    grid = _grid(logits)
    share = geometry.px_to_share(expectation_grid, grid)
    return geometry.share_to_px(debiased(share, cell_share(logits), share.new_tensor([0.5, 0.5])), grid)


def background_free_expectation(logits: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k 2"]:
    """Mean position, as xy_grid, under exp(logits) - 1: the softmax's map less its background.

    The same as `debiased` by the `background_share` and the map's centre: C - 1 is the mean of expm1(logits), C x - g
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


def _grid(maps: Float[Tensor, "b k h w"]) -> Size:
    return Size(maps.shape[-1], maps.shape[-2])
