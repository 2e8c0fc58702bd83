"""Method `motion`: the First-Order-Motion model's points with a local frame each (Siarohin et al., "First order motion
model for image animation", NeurIPS 2019, section 3.1), which are learnt from video without labels.

A convolution gives each point a map whose softmax at a low temperature has the point as its mean; another gives four
numbers a cell, whose mean under the same map is the point's Jacobian: scale, turn and shear around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fiducial import geometry
from fiducial.errors import UserError, expect
from fiducial.geometry import Size
from fiducial.models import contracts, flipping, heatmaps, losses, rounding, upsampling
from fiducial.models.contracts import Level
from fiducial.models.upsampling import Upsampling
from fiducial.types import Batch, Keypoints


@dataclass(frozen=True)
class Spec:
    """Holds the choices of the method; the defaults are the published ones."""

    upsampling: Upsampling = "separable"  # of maps coarser than 4 px a cell; on an hourglass it does nothing
    channels: int = 128  # width of the upsampling part
    stride: int | None = None  # px a cell; None = 4, or the backbone's own where that is finer
    kernel: int = 7  # cells a side, of both convolutions
    padding: int = 0  # cells of zeros around the map; with less than kernel // 2 the map shrinks
    temperature: float = 0.1  # of the softmax
    jacobian: Literal["own", "shared", "none"] = "own"  # own = a map for each point, shared = one for all

    def __post_init__(self) -> None:
        upsampling.check(self.channels, self.stride, self.kernel)
        expect(0 <= self.padding <= self.kernel // 2, "head.padding", self.padding, f"0 to {self.kernel // 2} cells")
        expect(self.temperature > 0, "head.temperature", self.temperature, "more than 0")


class Raw(NamedTuple):
    """Holds maps, and the Jacobians' numbers row by row (of `j` 0 where there are none, 1 where all points share
    them)."""

    logits: Float[Tensor, "b k h w"]
    jacobian: Float[Tensor, "b j 4 h w"]


class Frames(NamedTuple):
    """Holds points and their local frames as the motion networks take them."""

    xy_corner: Float[Tensor, "b k 2"]
    jacobian: Float[Tensor, "b k 2 2"] | None  # of displacements in corner


class Head(contracts.Head):
    """Finds points with local frames. raw: logits of the cells and the Jacobians' maps. The outermost cells' centres
    lie on the outermost px' centres (`Align` corner), also where the map has shrunk: the network learns where things
    are by that rule."""

    learns_without_labels = True
    taught_by = "fiducial.motion.fit"
    align = "corner"

    def __init__(self, spec: Spec, level: Level, points: int, size: Size) -> None:
        super().__init__()
        self.spec, self.size = spec, size
        shrink = spec.kernel - 1 - 2 * spec.padding
        self.upsample, channels, grid = upsampling.build(
            spec.upsampling, level, size, channels=spec.channels, stride=spec.stride, least_cells=1
        )
        self.grid = Size(grid.w - shrink, grid.h - shrink)
        if min(self.grid) < 2:
            raise UserError(
                f"size {size}: the map has {grid} cells and a convolution of {spec.kernel} cells with head.padding="
                f"{spec.padding} leaves {self.grid}; expected 2 or more a side: a larger --size or head.padding"
            )
        self.heatmap = nn.Conv2d(channels, points, spec.kernel, padding=spec.padding)
        self.matrices = {"own": points, "shared": 1, "none": 0}[spec.jacobian]
        self.jacobian: nn.Conv2d | None = None
        if self.matrices:
            self.jacobian = nn.Conv2d(channels, 4 * self.matrices, spec.kernel, padding=spec.padding)
            nn.init.zeros_(self.jacobian.weight)
            with torch.no_grad():
                assert self.jacobian.bias is not None
                self.jacobian.bias.copy_(torch.tensor([1.0, 0, 0, 1]).repeat(self.matrices))

    def forward(self, feature: Float[Tensor, "b c _ _"]) -> Raw:
        feature = self.upsample(feature)
        logits = self.heatmap(feature)
        if self.jacobian is None:
            return Raw(logits, logits.new_zeros(len(logits), 0, 4, *logits.shape[2:]))
        return Raw(logits, self.jacobian(feature).unflatten(1, (-1, 4)))

    def probability(self, raw: Raw) -> Float[Tensor, "b k h w"]:
        """Computes the maps after their softmax; each sums to one."""
        return heatmaps.spatial_softmax(raw.logits / self.spec.temperature)

    def frames(self, raw: Raw) -> Frames:
        """Computes points and Jacobians in `xy_corner`."""
        probability = self.probability(raw)
        xy_corner = geometry.px_to_corner(heatmaps.expectation(probability), self.grid)
        if self.jacobian is None:
            return Frames(xy_corner, None)
        # [b, k, 4, cells] times [b, k, cells, 1]: a product, which every runtime has.
        jacobian = raw.jacobian.flatten(3) @ probability.flatten(2)[..., None]
        return Frames(xy_corner, jacobian.unflatten(2, (2, 2))[..., 0])

    def decode(self, raw: Raw) -> Keypoints:
        """Reads the points. score: the probability near the point, within half of the convolution. jacobian: of
        displacements in px, against the frame in which the point was learnt; only ratios between two images mean
        something."""
        found = self.frames(raw)
        xy_grid = geometry.corner_to_px(found.xy_corner, self.grid)
        near = heatmaps.mass_near(self.probability(raw), xy_grid, self.spec.kernel / 2)
        jacobian = None if found.jacobian is None else geometry.corner_linear_to_px(found.jacobian, self.size)
        return Keypoints(geometry.corner_to_px(found.xy_corner, self.size), near.clamp(0, 1), None, jacobian)

    def encode(self, batch: Batch) -> Raw:
        """Draws maps of the four cells around each point; identities as Jacobians. Points beyond the outermost cells'
        centres are drawn on them, since no map has its mean there."""
        last = batch.xy.new_tensor([self.grid.w - 1, self.grid.h - 1])
        xy_grid = geometry.px_to_grid(batch.xy, self.size, self.grid, "corner").clamp_min(0).minimum(last)
        logits = rounding.splat(xy_grid, self.grid).clamp_min(1e-30).log() * self.spec.temperature
        ones = logits.new_ones(len(logits), self.matrices, 1, *logits.shape[2:])
        return Raw(logits, ones * logits.new_tensor([1.0, 0, 0, 1])[:, None, None])

    def loss(self, raw: Raw, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Computes of labelled points their mean absolute error as a share of half the image. Jacobians are not
        labelled."""
        target = geometry.px_to_corner(batch.xy, self.size)
        return {"l1": losses.weighted_mean(losses.l1(self.frames(raw).xy_corner, target), batch.labelled)}

    def unflip(self, raw: Raw, flip_order: Int[Tensor, " k"]) -> Raw:
        own = self.spec.jacobian == "own"
        order = flip_order if own else torch.arange(raw.jacobian.shape[1], device=flip_order.device)
        return Raw(flipping.unflip_maps(raw.logits, flip_order), flipping.unflip_linear_maps(raw.jacobian, order))

    def distribution(self, raw: Raw) -> Float[Tensor, "b k h w"]:
        return self.probability(raw)
