"""Losses, un-reduced: pure functions that return one value a point, [b, k] (one that returns something else says so).

Weights, hardest points and averages are the caller's: `weighted_mean(wing(predicted, target), labelled)`. Coordinates
may be in any frame; widths such as `omega` are in their unit. Distributions sum to one over their cells or bins.

A point with an input that is not finite has the loss NaN and gives no gradient: under a weight of 0 it is as if it were
not there, under any other the NaN shows. Zeros are fine everywhere: no logarithm sees one."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from fiducial.models import axes

# Inside logarithms of probabilities, as in DSNT: of no weight beside a probability in float32 or bfloat16.
TINY = 1e-24


# ------------------------------------------------------------------------------------------------ reduction


def weighted_mean(each: Float[Tensor, "b k"], weight: Float[Tensor, "b k"]) -> Float[Tensor, ""]:
    """Averages: the sum of weight x each over the sum of the weights, or over 1 where that is less: 0 where nothing is
    labelled.

    Where the weight is 0, `each` may be NaN or infinite: it is never looked at."""
    counted = torch.where(weight != 0, each, 0)
    return (counted * weight).sum() / weight.sum().clamp_min(1)


def hardest(each: Float[Tensor, "b k"], weight: Float[Tensor, "b k"], count: int) -> Float[Tensor, "b k"]:
    """Sets `weight` to 0 for all but the `count` labelled points of each sample whose loss is largest (online hard
    keypoint mining: CPN, Chen et al., CVPR 2018). Carries no gradient."""
    ranked = torch.where(weight != 0, each, -torch.inf)
    index = ranked.topk(min(count, each.shape[-1]), dim=-1).indices
    return weight * torch.zeros_like(weight).scatter(-1, index, 1.0)


def finite(*inputs: Float[Tensor, "b k ..."]) -> tuple[list[Tensor], Float[Tensor, "b k"]]:
    """Replaces the inputs by zeros at the points where any of them is not finite, and gives a gap to add to the loss:
    NaN there, 0 elsewhere.

    The inputs are replaced and not the result: the derivative of a NaN is NaN, and 0 x NaN is NaN too."""
    usable = torch.stack([torch.isfinite(values.reshape(*values.shape[:2], -1)).all(-1) for values in inputs]).all(0)
    replaced = [torch.where(usable.view(*usable.shape, *[1] * (values.ndim - 2)), values, 0) for values in inputs]
    return replaced, torch.where(usable, 0.0, torch.nan).to(inputs[0].dtype)


# ---------------------------------------------------------------------------------------------- coordinates


def mse(predicted: Float[Tensor, "b k 2"], target: Float[Tensor, "b k 2"]) -> Float[Tensor, "b k"]:
    """Computes the squared distance."""
    (predicted, target), gap = finite(predicted, target)
    return ((predicted - target) ** 2).sum(-1) + gap


def l1(predicted: Float[Tensor, "b k 2"], target: Float[Tensor, "b k 2"]) -> Float[Tensor, "b k"]:
    """Computes |dx| + |dy|."""
    (predicted, target), gap = finite(predicted, target)
    return (predicted - target).abs().sum(-1) + gap


def euclidean(predicted: Float[Tensor, "b k 2"], target: Float[Tensor, "b k 2"]) -> Float[Tensor, "b k"]:
    """Computes the distance; its gradient is 0 where the points coincide (DSNT: Nibali et al., arXiv 1801.07372,
    L_euc)."""
    (predicted, target), gap = finite(predicted, target)
    return torch.linalg.vector_norm(predicted - target, dim=-1) + gap


def smooth_l1(
    predicted: Float[Tensor, "b k 2"], target: Float[Tensor, "b k 2"], beta: float = 1.0
) -> Float[Tensor, "b k"]:
    """Computes d^2 / (2 beta) of each coordinate below `beta`, d - beta / 2 from there, summed over x and y (Girshick,
    Fast R-CNN, ICCV 2015, eq. 3, where beta is 1)."""
    (predicted, target), gap = finite(predicted, target)
    return F.smooth_l1_loss(predicted, target, beta=beta, reduction="none").sum(-1) + gap


def wing(
    predicted: Float[Tensor, "b k 2"], target: Float[Tensor, "b k 2"], omega: float = 10.0, epsilon: float = 2.0
) -> Float[Tensor, "b k"]:
    """Computes omega ln(1 + d / epsilon) of each coordinate below `omega`, d - C from there, C such that the two meet;
    summed over x and y (Wing: Feng et al., CVPR 2018, eq. 5). Small errors weigh more than under L1."""
    (predicted, target), gap = finite(predicted, target)
    distance = (predicted - target).abs()
    step = omega - omega * math.log1p(omega / epsilon)
    each = torch.where(distance < omega, omega * (distance / epsilon).log1p(), distance - step)
    return each.sum(-1) + gap


def soft_wing(
    predicted: Float[Tensor, "b k 2"],
    target: Float[Tensor, "b k 2"],
    omega1: float = 2.0,
    omega2: float = 20.0,
    epsilon: float = 0.5,
) -> Float[Tensor, "b k"]:
    """Computes of each coordinate d below `omega1`, omega2 ln(1 + d / epsilon) + B from there, B such that the two
    meet; summed over x and y (Lin et al., Structure-Coherent Deep Feature Learning for Robust Face Alignment, TIP
    2021). Errors of a px or two, which labels have themselves, weigh less than under Wing."""
    (predicted, target), gap = finite(predicted, target)
    distance = (predicted - target).abs()
    step = omega1 - omega2 * math.log1p(omega1 / epsilon)
    each = torch.where(distance < omega1, distance, omega2 * (distance / epsilon).log1p() + step)
    return each.sum(-1) + gap


# ----------------------------------------------------------------------------------------- maps of any height


def map_mse(
    maps: Float[Tensor, "b k h w"],
    target: Float[Tensor, "b k h w"],
    cell_weight: Float[Tensor, "b k h w"] | None = None,
) -> Float[Tensor, "b k"]:
    """Computes the mean squared difference over the cells (Tompson et al., NeurIPS 2014). `cell_weight` multiplies the
    squares; the mean stays that over all cells."""
    (maps, target, *weights), gap = finite(maps, target, *(() if cell_weight is None else (cell_weight,)))
    squared = (maps - target) ** 2
    for weight in weights:
        squared = squared * weight
    return squared.mean((-2, -1)) + gap


def adaptive_wing(
    maps: Float[Tensor, "b k h w"],
    target: Float[Tensor, "b k h w"],
    alpha: float = 2.1,
    omega: float = 14.0,
    epsilon: float = 1.0,
    theta: float = 0.5,
) -> Float[Tensor, "b k"]:
    """Computes Adaptive Wing (Wang et al., ICCV 2019), mean over the cells: omega ln(1 + (d / epsilon)^(alpha -
    target)) below `theta`, A d - C from there, A and C such that values and slopes meet.

    Close to L2 on the background and to Wing on the peak. `alpha` must exceed the highest target by more than 1, else
    the slope at d = 0 is infinite."""
    (maps, target), gap = finite(maps, target)
    distance, power = (maps - target).abs(), alpha - target
    joint = (theta / epsilon) ** power
    slope = omega / (1 + joint) * power * (theta / epsilon) ** (power - 1) / epsilon
    step = theta * slope - omega * joint.log1p()
    # Clamped: a power that overflows would give NaN gradients through the branch that is not taken.
    curved = omega * ((distance.clamp_max(theta) / epsilon) ** power).log1p()
    return torch.where(distance < theta, curved, slope * distance - step).mean((-2, -1)) + gap


def binary_cross_entropy(
    logits: Float[Tensor, "b k *cells"], target: Float[Tensor, "b k *cells"], positive_weight: float = 1.0
) -> Float[Tensor, "b k"]:
    """Computes the mean over the cells of -(w t ln p + (1 - t) ln(1 - p)), p the sigmoid of the logits and w
    `positive_weight`, which makes up for the few cells of a map that are not background. Without cells, [b, k], the
    value itself."""
    (logits, target), gap = finite(logits, target)
    weight = logits.new_tensor(positive_weight)
    each = F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight, reduction="none")
    return each.reshape(*each.shape[:2], -1).mean(-1) + gap


# ------------------------------------------------------------------------------- distributions over the cells


def kl(p: Float[Tensor, "b k h w"], q: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k"]:
    """Computes the Kullback-Leibler divergence sum p ln(p / q) of maps that sum to one, in nats. DSNT's regulariser
    where p is the network's map and q the target's Gaussian (Nibali et al., arXiv 1801.07372). Finite where q is 0."""
    (p, q), gap = finite(p, q)
    return _divergence(p, q) + gap


def js(p: Float[Tensor, "b k h w"], q: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k"]:
    """Computes the Jensen-Shannon divergence of maps that sum to one, 0..ln 2: the mean of both maps' divergences from
    their mean. DSNT's best regulariser (Nibali et al., arXiv 1801.07372)."""
    (p, q), gap = finite(p, q)
    middle = (p + q) / 2
    return (_divergence(p, middle) + _divergence(q, middle)) / 2 + gap


def map_cross_entropy(logits: Float[Tensor, "b k h w"], target: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k"]:
    """Computes -sum target ln(softmax of logits over the cells), in nats; `target` sums to one. Least, and equal to the
    entropy of the target, where the two are equal."""
    (logits, target), gap = finite(logits, target)
    return -(target.flatten(2) * logits.flatten(2).log_softmax(-1)).sum(-1) + gap


def variance(probability: Float[Tensor, "b k h w"], sigma_cells: float) -> Float[Tensor, "b k"]:
    """Computes (var x - sigma^2)^2 + (var y - sigma^2)^2 of maps that sum to one, cells^4 (DSNT's L_var: Nibali et al.,
    arXiv 1801.07372)."""
    (probability,), gap = finite(probability)
    wrong = gap
    for along in (probability.sum(-2), probability.sum(-1)):
        distance = axes.positions(along.shape[-1], along) - axes.mean(along)[..., None]
        wrong = wrong + ((along * distance**2).sum(-1) - sigma_cells**2) ** 2
    return wrong


# ---------------------------------------------------------------------------------- distributions over the bins


def vector_kl(
    logits: Float[Tensor, "b k n"], target: Float[Tensor, "b k n"], beta: float = 1.0, target_beta: float | None = None
) -> Float[Tensor, "b k"]:
    """Computes the divergence of softmax(beta x logits) from the target, sum over the bins, for one axis (SimCC: Li et
    al., ECCV 2022; with both betas 10 RTMPose: Jiang et al., arXiv 2303.07399). `target` is taken as it is, summing to
    one or not, or as softmax(target_beta x target)."""
    (logits, target), gap = finite(logits, target)
    if target_beta is not None:
        target = (target * target_beta).softmax(-1)
    return F.kl_div((logits * beta).log_softmax(-1), target, reduction="none").sum(-1) + gap


def _divergence(p: Tensor, q: Tensor) -> Float[Tensor, "b k"]:
    return (p * ((p + TINY).log() - (q + TINY).log())).sum((-2, -1))
