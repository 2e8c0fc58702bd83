"""Points as numbers and as vectors of bins, the ways MMPose 1.x has them, for weights that were trained with these.

Regression: shares of the image's sides. SimCC (Li et al., ECCV 2022): one vector of bins an axis, bin i at px
i / `bins_per_px`. What `visible` and weights mean is said in `codecs.py`."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fiducial import geometry
from fiducial.geometry import Size
from fiducial.reference import maps
from fiducial.reference.codecs import Found


class Shares(NamedTuple):
    """Holds targets of regression."""

    xy_share: Float[Tensor, "b k 2"]
    weight: Float[Tensor, "b k"]


class Vectors(NamedTuple):
    """Holds targets of SimCC."""

    x: Float[Tensor, "b k bins_x"]
    y: Float[Tensor, "b k bins_y"]
    weight: Float[Tensor, "b k"]


# ----------------------------------------------------------------------------------------------- regression


def regression_encode(xy: Float[Tensor, "b k 2"], visible: Float[Tensor, "b k"], size: Size) -> Shares:
    """Encodes points as shares, with weight 1 for those that are more than half visible and between the centres of the
    first and the last px, else 0. Positions are given for all points."""
    inside = ((xy >= 0) & (xy <= xy.new_tensor([size.w - 1, size.h - 1]))).all(-1)
    return Shares(geometry.px_to_share(xy, size), (inside & (visible > 0.5)).to(xy.dtype))


def regression_decode(predicted: Float[Tensor, "b k numbers"], size: Size) -> Found:
    """Decodes two or four numbers a point: of two (x, y: shares) the score is 1; of four (also the scales of x and y) 1
    - their mean."""
    xy = geometry.share_to_px(predicted[..., :2], size)
    if predicted.shape[-1] == 2:
        return Found(xy, torch.ones_like(predicted[..., 0]))
    return Found(xy, 1 - predicted[..., 2:4].mean(-1))


# ---------------------------------------------------------------------------------------------------- simcc


def simcc_encode(
    xy: Float[Tensor, "b k 2"],
    visible: Float[Tensor, "b k"],
    size: Size,
    bins_per_px: float,
    sigma_bins: tuple[float, float],
    density: bool = True,
) -> Vectors:
    """Draws Gaussians around the nearest bin (halves go to the even one), as densities or with peak 1. A point outside
    keeps its tail, and its weight, as long as three sigma reach the image on both axes."""
    bins, at = _bins(size, bins_per_px), _px_to_bins(xy, bins_per_px)
    radius = at.new_tensor(sigma_bins) * 3
    inside = ((at - radius < at.new_tensor(bins)) & (at + radius + 1 >= 0)).all(-1)
    vectors = []
    for axis in (0, 1):
        sigma = sigma_bins[axis]
        squares = (torch.arange(bins[axis], device=xy.device, dtype=xy.dtype) - at[..., axis : axis + 1]) ** 2
        height = 1 / (sigma * math.sqrt(2 * math.pi)) if density else 1.0
        vectors.append(height * torch.exp(-squares / (2 * sigma**2)))
    return _vectors(vectors[0], vectors[1], visible, inside)


def simcc_one_hot_encode(
    xy: Float[Tensor, "b k 2"], visible: Float[Tensor, "b k"], size: Size, bins_per_px: float, smoothing: float = 0.0
) -> Vectors:
    """Draws a one at the nearest bin; or 1 - `smoothing` there and the rest spread evenly over the other bins. Points
    outside get weight 0."""
    bins, at = _bins(size, bins_per_px), _px_to_bins(xy, bins_per_px)
    inside = ((at >= 0) & (at < at.new_tensor(bins))).all(-1)
    vectors = []
    for axis in (0, 1):
        here = torch.arange(bins[axis], device=xy.device) == at[..., axis : axis + 1]
        vectors.append(torch.where(here, 1 - smoothing, smoothing / (bins[axis] - 1)).to(xy.dtype))
    return _vectors(vectors[0], vectors[1], visible, inside)


def simcc_highest(
    x: Float[Tensor, "b k bins_x"], y: Float[Tensor, "b k bins_y"]
) -> tuple[Float[Tensor, "b k 2"], Float[Tensor, "b k"]]:
    """Finds the highest bin on each axis, and the lesser of the two values; (-1, -1) where that is not positive."""
    value_x, at_x = x.max(-1)
    value_y, at_y = y.max(-1)
    lesser = torch.minimum(value_x, value_y)
    return torch.where(lesser[..., None] > 0, torch.stack([at_x, at_y], -1).to(x.dtype), -1.0), lesser


def simcc_decode(x: Float[Tensor, "b k bins_x"], y: Float[Tensor, "b k bins_y"], bins_per_px: float) -> Found:
    """Reads the highest bins. Score: the lesser value, as it is."""
    at, score = simcc_highest(x, y)
    return Found(_bins_to_px(at, bins_per_px), score)


def simcc_dark_decode(
    x: Float[Tensor, "b k bins_x"],
    y: Float[Tensor, "b k bins_y"],
    bins_per_px: float,
    sigma_bins: tuple[float, float],
) -> Found:
    """Reads the highest bins and, along each axis, a Newton step on the log of the blurred vector from there (DARK)."""
    at, score = simcc_highest(x, y)
    steps = [_newton_step(v, at[..., axis], _dark_kernel(sigma_bins[axis])) for axis, v in enumerate((x, y))]
    refined = torch.where(at < 0, at, at + torch.stack(steps, -1))
    return Found(_bins_to_px(refined, bins_per_px), score)


def simcc_visibility(
    x: Float[Tensor, "b k bins_x"],
    y: Float[Tensor, "b k bins_y"],
    sigma_bins: tuple[float, float],
    beta: float = 150.0,
) -> Float[Tensor, "b k"]:
    """Computes softmax's highest probability, of the two axes the lesser; the values are sharpened by beta and the
    width of their target before. RTMPose's stand-in for visibility."""
    # In float64: logits of a thousand are known to 1e-4 in float32, and the softmax shows it.
    along_x, along_y = ((v * beta).double() * sigma for v, sigma in zip((x, y), sigma_bins, strict=True))
    return torch.minimum(along_x.softmax(-1).amax(-1), along_y.softmax(-1).amax(-1)).to(x.dtype)


def simcc_normalised(vectors: Float[Tensor, "b k bins"]) -> Float[Tensor, "b k bins"]:
    """Scales vectors to 0..1: negative values become 0, vectors with a peak above 1 are divided by it."""
    positive = vectors.clamp_min(0)
    return positive / positive.amax(-1, keepdim=True).clamp_min(1)


def _bins(size: Size, bins_per_px: float) -> Size:
    return Size(round(size.w * bins_per_px), round(size.h * bins_per_px))


def _px_to_bins(xy: Float[Tensor, "b k 2"], bins_per_px: float) -> Float[Tensor, "b k 2"]:
    """Nearest bins. `px_to_grid(.., "stride")` differs where a side has no whole number of bins."""
    return (xy * bins_per_px).round()


def _bins_to_px(xy_bins: Float[Tensor, "b k 2"], bins_per_px: float) -> Float[Tensor, "b k 2"]:
    return xy_bins / bins_per_px


def _vectors(
    x: Float[Tensor, "b k bins_x"],
    y: Float[Tensor, "b k bins_y"],
    visible: Float[Tensor, "b k"],
    inside: Bool[Tensor, "b k"],
) -> Vectors:
    seen = visible >= 0.5
    drawn = (seen & inside)[..., None]
    return Vectors(torch.where(drawn, x, 0.0), torch.where(drawn, y, 0.0), torch.where(seen & ~inside, 0.0, visible))


def _dark_kernel(sigma_bins: float) -> int:
    """Bins of the blur, odd, for targets of this width: that of which OpenCV's automatic sigma is the width."""
    bins = int((sigma_bins * 20 - 7) // 3)
    return bins - 1 if bins % 2 == 0 else bins


def _newton_step(
    vectors: Float[Tensor, "b k bins"], at: Float[Tensor, "b k"], kernel_bins: int
) -> Float[Tensor, "b k"]:
    """-f'/f'' of the log of the blurred vector, from the bins next to `at` and the ones after these. Every point moves,
    however far; beyond the ends the last bins go on."""
    logs = maps.blur_vectors(vectors, kernel_bins).clamp(1e-3, 50).log()

    def value(offset: int) -> Float[Tensor, "b k"]:
        index = (at.long() + offset).clamp(0, vectors.shape[-1] - 1)
        return logs.gather(-1, index[..., None])[..., 0]

    slope = 0.5 * (value(1) - value(-1))
    curvature = 0.25 * (value(2) - 2 * value(0) + value(-2)) + 1e-9
    return -slope / curvature
