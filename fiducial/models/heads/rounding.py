"""Method `rounding`: heatmap regression by randomised rounding (H3R: Yu & Tao, "Heatmap regression via randomized
rounding", PAMI 2021).

The target is one cell, drawn anew in every step: up or down at random, so that its mean is the exact position. Each
cell is a yes or no (binary cross-entropy); the position is the mean of the few highest cells."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fiducial import geometry
from fiducial.errors import expect
from fiducial.geometry import Align, Size
from fiducial.models import contracts, flipping, heatmaps, losses, rounding, upsampling
from fiducial.models.contracts import Level
from fiducial.models.upsampling import Upsampling
from fiducial.types import Batch, Keypoints


@dataclass(frozen=True)
class Spec:
    """Holds the choices of the method."""

    upsampling: Upsampling = "separable"  # mixing: H3R's own, for backbones whose map is fine enough
    channels: int = 128  # width of the upsampling part
    stride: int | None = None  # px a cell; None = 4, or the backbone's own where that is finer
    positive_weight: float = 100.0  # of the one cell against all the others
    two_class: bool = False  # a map for yes and one for no, as in H3R's released networks; else one map
    top_k: int = 9  # cells that the position is read from
    # chance = cells weighted by the chance that the target was there, which undoes the loss's weighting and is exact;
    # softmax = by the softmax of their logits, as H3R reads them, which draws the point to the likeliest cell.
    decoder: Literal["chance", "softmax"] = "chance"
    align: Align = "edge"  # stride where weights of H3R are used

    def __post_init__(self) -> None:
        upsampling.check(self.channels, self.stride)
        expect(self.top_k >= 1, "head.top_k", self.top_k, "a number of cells, at least 1")
        expect(self.positive_weight > 0, "head.positive_weight", self.positive_weight, "more than 0")


class Head(contracts.Head):
    """Asks of each cell whether the point is there. raw: logits [b, classes, k, h, w]; the last class is "here"."""

    def __init__(self, spec: Spec, level: Level, points: int, size: Size) -> None:
        super().__init__()
        self.align = spec.align
        self.spec, self.size, self.points = spec, size, points
        self.upsample, channels, self.grid = upsampling.build(
            spec.upsampling, level, size, channels=spec.channels, stride=spec.stride
        )
        # A bias lets all other cells be a no from the start; H3R's own head has none.
        bias = not spec.two_class and spec.upsampling != "mixing"
        self.final = upsampling.final(channels, points * (2 if spec.two_class else 1), bias=bias)
        if self.final.bias is not None:
            nn.init.constant_(self.final.bias, math.log(spec.positive_weight / (self.grid.w * self.grid.h)))

    def forward(self, feature: Float[Tensor, "b c _ _"]) -> Float[Tensor, "b n k h w"]:
        return self.final(self.upsample(feature)).unflatten(1, (-1, self.points))

    def encode(self, batch: Batch) -> Float[Tensor, "b n k h w"]:
        """Gives the best answer to targets that are drawn: the logit of each cell's chance, or its logarithm where the
        softmax has to read it, weighted as in the loss."""
        chance = rounding.splat(self._cells(batch), self.grid).clamp_min(1e-30)
        others = (1 - chance).clamp_min(1e-3) if self.spec.decoder == "chance" else 1
        here = (self.spec.positive_weight * chance / others).log()[:, None]
        return torch.cat([torch.zeros_like(here), here], 1) if self.spec.two_class else here

    def decode(self, raw: Float[Tensor, "b n k h w"]) -> Keypoints:
        """Reads the points. score: the probability of the likeliest cell, as the loss weighs it."""
        if self.spec.decoder == "chance":
            xy_grid = rounding.top_k_mean(self._logits(raw), self.spec.top_k, self.spec.positive_weight)
        else:  # of two classes H3R reads the one alone
            xy_grid = rounding.top_k_mean(raw[:, -1], self.spec.top_k)
        score = self._logits(raw).amax((-2, -1)).sigmoid()
        return Keypoints(geometry.grid_to_px(xy_grid, self.size, self.grid, self.spec.align), score)

    def loss(self, raw: Float[Tensor, "b n k h w"], batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Compares with one cell a point, drawn at random in training; in eval mode against each cell's chance."""
        xy_grid = self._cells(batch)
        if self.training:
            target = rounding.one_hot(rounding.rounded(xy_grid, torch.rand_like(xy_grid)), self.grid)
        else:
            target = rounding.splat(xy_grid, self.grid)
        each = losses.binary_cross_entropy(self._logits(raw), target, self.spec.positive_weight)
        return {"rounding": losses.weighted_mean(each, batch.labelled * geometry.inside(xy_grid, self.grid))}

    def unflip(self, raw: Float[Tensor, "b n k h w"], flip_order: Int[Tensor, " k"]) -> Float[Tensor, "b n k h w"]:
        shift_cells = 1 if self.spec.align == "stride" else 0
        return torch.stack([flipping.unflip_maps(maps, flip_order, shift_cells) for maps in raw.unbind(1)], 1)

    def distribution(self, raw: Float[Tensor, "b n k h w"]) -> Float[Tensor, "b k h w"]:
        """Gives what the decoder reads, over all cells: their chances, the loss's weighting undone
        (`rounding.top_k_mean`), divided by their sum; or the softmax of their logits."""
        if self.spec.decoder == "softmax":
            return heatmaps.spatial_softmax(raw[:, -1])
        return heatmaps.normalised((self._logits(raw) - math.log(self.spec.positive_weight)).sigmoid())

    def heatmaps(self, raw: Float[Tensor, "b n k h w"]) -> Float[Tensor, "b k h w"]:
        return self._logits(raw).sigmoid()

    def _logits(self, raw: Float[Tensor, "b n k h w"]) -> Float[Tensor, "b k h w"]:
        """Computes the logits of "here" against "not here": of two classes, the difference is what their softmax
        sees."""
        return raw[:, 1] - raw[:, 0] if self.spec.two_class else raw[:, 0]

    def _cells(self, batch: Batch) -> Float[Tensor, "b k 2"]:
        return geometry.px_to_grid(batch.xy, self.size, self.grid, self.spec.align)
