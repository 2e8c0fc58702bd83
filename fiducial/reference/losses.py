"""Losses of other projects, under the laws of `models/losses.py`: un-reduced, one value a point, [b, k], unless the
function says otherwise; a point with an input that is not finite has the loss NaN and gives no gradient."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fiducial.models.losses import finite

Shortfall = Literal["linear", "square", "log"]


def shortfall(share: Float[Tensor, "*any"], kind: Shortfall, epsilon: float = 0.0) -> Float[Tensor, "*any"]:
    """Turns a share in 0..1, where 1 is perfect, into a loss: 1 - share, 1 - share^2, or -ln(share + epsilon)."""
    if kind == "linear":
        return 1 - share
    if kind == "square":
        return 1 - share**2
    return -(share + epsilon).log()


def oks_similarity(
    predicted: Float[Tensor, "b k 2"],
    target: Float[Tensor, "b k 2"],
    area: Float[Tensor, " b"],
    sigmas: Float[Tensor, " k"],
) -> Float[Tensor, "b k"]:
    """Computes COCO's similarity of each point, in 0..1: exp(-d^2 / (2 area (2 sigma)^2)), `area` in the square of the
    coordinates' unit."""
    (predicted, target, area), gap = finite(predicted, target, area[:, None].expand(target.shape[:2]))
    squared = ((predicted - target) ** 2).sum(-1)
    return torch.exp(-squared / (2 * area * (2 * sigmas) ** 2).clamp_min(1e-12)) + gap


def oks(
    predicted: Float[Tensor, "b k 2"],
    target: Float[Tensor, "b k 2"],
    weight: Float[Tensor, "b k"],
    area: Float[Tensor, " b"],
    sigmas: Float[Tensor, " k"],
    kind: Shortfall = "linear",
) -> Float[Tensor, " b"]:
    """Computes one value a *sample*: what its OKS, the weighted mean of its points' similarities, lacks (YOLO-Pose:
    Maji et al., CVPR workshops 2022, eq. 4, `linear`). 0 for a sample whose weights are all 0."""
    similarity = torch.where(weight != 0, oks_similarity(predicted, target, area, sigmas), 0)
    total = weight.sum(-1)
    share = (similarity * weight).sum(-1) / total.clamp_min(1e-12)
    return torch.where(total > 0, shortfall(share, kind, epsilon=1e-12), 0)


def bone_lengths(xy: Float[Tensor, "b k 2"], edges: Int[Tensor, "e 2"]) -> Float[Tensor, "b e"]:
    """Measures the distance between the two ends of each edge. An edge from a point to itself has length and gradient
    0."""
    return torch.linalg.vector_norm(xy[:, edges[:, 0]] - xy[:, edges[:, 1]], dim=-1)


def combined(maps: Float[Tensor, "b k 3 h w"], target: Float[Tensor, "b k 3 h w"]) -> Float[Tensor, "b k"]:
    """Computes UDP's classification with offsets (Huang et al., CVPR 2020): channels are label, x offset, y offset. The
    sum of half the mean squared difference of the three, the offsets' multiplied by the target's label before squaring,
    so that they count only near the point."""
    (maps, target), gap = finite(maps, target)
    label = torch.ones_like(target)
    label[:, :, 1:] = target[:, :, :1]
    return 0.5 * ((label * (maps - target)) ** 2).mean((-2, -1)).sum(-1) + gap


def focal(
    probability: Float[Tensor, "b k h w"], target: Float[Tensor, "b k h w"], alpha: float = 2.0, beta: float = 4.0
) -> Float[Tensor, "b k"]:
    """Computes CornerNet's focal loss (Law & Deng, ECCV 2018, eq. 1), sum over the cells, not yet divided by the number
    of positives. Positive are the cells whose target is exactly 1, so peaks must be drawn on a cell; the others count
    the less the closer to one they are. With one positive a map, `weighted_mean` is the paper's average."""
    (probability, target), gap = finite(probability, target)
    positive = target == 1
    hit = -((1 - probability) ** alpha) * probability.clamp_min(1e-12).log()
    miss = -((1 - target) ** beta) * probability**alpha * (1 - probability).clamp_min(1e-12).log()
    return torch.where(positive, hit, miss).sum((-2, -1)) + gap


def mlecc(
    x: Float[Tensor, "b k n"],
    y: Float[Tensor, "b k m"],
    target_x: Float[Tensor, "b k n"],
    target_y: Float[Tensor, "b k m"],
    kind: Shortfall = "log",
) -> Float[Tensor, "b k"]:
    """Computes the maximum likelihood for coordinate classification (RTMO: Lu et al., CVPR 2024): what the probability
    that both axes' distributions `x` and `y` give to the target, (sum x target_x)(sum y target_y), lacks."""
    (x, y, target_x, target_y), gap = finite(x, y, target_x, target_y)
    probability = (x * target_x).sum(-1) * (y * target_y).sum(-1)
    return shortfall(probability, kind, epsilon=1e-4) + gap
