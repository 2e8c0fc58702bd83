"""Means, corrections and suppression on maps, as other projects have them; ours are `models/heatmaps.py` and
`models/integral.py`."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from fiducial import geometry
from fiducial.geometry import Size
from fiducial.models import heatmaps


def suppress(maps: Float[Tensor, "b k h w"], window_cells: int = 5) -> Float[Tensor, "b k h w"]:
    """Leaves of maps their local peaks only: a cell that is not the highest of the odd window around it becomes zero
    (Newell et al., NeurIPS 2017). Of equal cells all stay."""
    highest = F.max_pool2d(maps, window_cells, stride=1, padding=window_cells // 2)
    return maps * (maps == highest)


def blur_vectors(vectors: Float[Tensor, "b k bins"], kernel_bins: int) -> Float[Tensor, "b k bins"]:
    """Blurs vectors as `heatmaps.blur` does maps: zeros outside, then scaled to the old peak."""
    if kernel_bins <= 1:
        return vectors
    blurred = vectors @ heatmaps.band_matrix(heatmaps.blur_kernel(kernel_bins).to(vectors), vectors.shape[-1])
    return blurred * (vectors.amax(-1, keepdim=True) / blurred.amax(-1, keepdim=True).clamp_min(1e-12))


def expectation_share(probability: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k 2"]:
    """Computes the mean position under maps that sum to one as a share of the map's sides: cell j lies at j / W, up to
    (W - 1) / W, as MMPose's integral heads have it. Times the input's size it is px by `align="stride"`."""
    return geometry.px_to_share(heatmaps.expectation(probability), Size(probability.shape[-1], probability.shape[-2]))


def debiased(
    expectation: Float[Tensor, "b k 2"], background: Float[Tensor, "b k"], centre: Float[Tensor, " 2"]
) -> Float[Tensor, "b k 2"]:
    """Corrects a mean: (x - q g) / (1 - q), in any frame in which the mean and the centre g are both given.
    `background` is q; near 1, that is for maps without a peak, the result diverges."""
    background = background[..., None]
    return (expectation - background * centre) / (1 - background)


def background_share(logits: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k"]:
    """Computes q as the derivation has it: the probability of all cells, had all of them logits of 0; 1 over the mean
    of exp(logits)."""
    return cell_share(logits) * (logits.shape[-1] * logits.shape[-2])


def cell_share(logits: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k"]:
    """Computes q as it is often written: the probability of one cell of logit 0; 1 over the sum of exp(logits)."""
    return torch.exp(-logits.logsumexp((-2, -1)))


def centre_share(grid: Size, like: Tensor) -> Float[Tensor, " 2"]:
    """Computes g: the mean of all cells as a share of the map's sides, (W - 1) / 2W and (H - 1) / 2H."""
    return geometry.px_to_share(geometry.unit_to_px(like.new_tensor([0.5, 0.5]), grid), grid)
