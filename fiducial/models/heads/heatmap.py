"""Method `heatmap`: one map a point, trained towards a Gaussian, read between the cells.

Two networks of equal output (`models/upsampling.py`): `separable`, at about the price of regression, and
`deconvolution`, SimpleBaseline's. On a backbone whose main map is fine enough already (HRNet, U-Net) both are one 1x1
convolution.

Cells and px share their outer edges, so encoding commutes with flipping and resizing; `align` has the other two ways
(UDP's commutes too)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fiducial import geometry
from fiducial.errors import expect
from fiducial.geometry import Align, Size
from fiducial.models import axes, contracts, flipping, heatmaps, losses, upsampling
from fiducial.models.contracts import Level
from fiducial.models.upsampling import Upsampling
from fiducial.types import Batch, Keypoints

SURE = 12.0  # logit of what is known to be in the crop, or not


@dataclass(frozen=True)
class Spec:
    """Holds the choices of the method."""

    upsampling: Upsampling = "separable"
    channels: int = 128  # width of the upsampling part (SimpleBaseline: 256)
    stride: int | None = None  # px a cell; None = 4, or the backbone's own where that is finer
    sigma_cells: float = 1.5  # width of the target
    # mse on maps of peak 1; foreground = mse with cells weighted by 1 + `foreground_weight` x target, against the
    # all-zero map; ohkm = mse of the `hardest_points` of each sample alone; adaptive_wing (Wang et al., ICCV 2019);
    # cross_entropy = softmax over the map against the Gaussian as a distribution.
    loss: Literal["cross_entropy", "mse", "foreground", "ohkm", "adaptive_wing"] = "cross_entropy"
    # Of cross_entropy: how much more a cell must lose to the truth for each cell that it is away, in its logit. 0 = no
    # margin; else the structured (max-margin) loss with loss-augmented inference by log-sum-exp, whose temperature is
    # in the logits' scale (Yang & Yeh, Heatmap Regression without Soft-Argmax, ICCV 2025).
    margin: float = 0.0
    # Of cross_entropy: one more cell, for points outside of the crop, so that the score tells whether a point is in it; labels
    # that lie outside are learnt from then.
    outside: bool = False
    foreground_weight: float = 20.0
    hardest_points: int = 8
    # soft = mean position; over the whole map for cross_entropy, through a window at the peak else. square = the same, but for
    # cross_entropy under the map's square, in which a second, lower peak weighs little.
    decoder: Literal["argmax", "quarter", "dark", "dark_udp", "soft", "square"] = "square"
    blur_cells: int = 11  # kernel of DARK's smoothing, odd, 1 = none
    kernel: int = 1  # of the last convolution, odd
    align: Align = "edge"  # of cells on px: stride, corner where weights were trained so (HRNet's; UDP, ViTPose)

    def __post_init__(self) -> None:
        upsampling.check(self.channels, self.stride, self.kernel)
        blur, sigma, weight = self.blur_cells, self.sigma_cells, self.foreground_weight
        expect(blur >= 1 and blur % 2 == 1, "head.blur_cells", blur, "an odd number of cells, 1 for no smoothing")
        expect(sigma > 0, "head.sigma_cells", sigma, "the width of the target, more than 0 cells")
        expect(weight >= 0, "head.foreground_weight", weight, "0 or more")
        expect(self.margin >= 0, "head.margin", self.margin, "0 or more")
        expect(self.margin == 0 or self.loss == "cross_entropy", "head.margin", self.margin, "0 for this loss")
        expect(not self.outside or self.loss == "cross_entropy", "head.outside", self.outside, "false for this loss")
        expect(self.hardest_points >= 1, "head.hardest_points", self.hardest_points, "a number of points, at least 1")


class Head(contracts.Head):
    """Draws a map a point. raw: map values, or logits of the cells when the loss is the cross-entropy."""

    def __init__(self, spec: Spec, level: Level, points: int, size: Size) -> None:
        super().__init__()
        self.align = spec.align
        self.spec, self.size = spec, size
        self.may_collapse = not self._is_distribution
        self.upsample, channels, self.grid = upsampling.build(
            spec.upsampling, level, size, channels=spec.channels, stride=spec.stride
        )
        self.final = upsampling.final(channels, points, spec.kernel)

    def forward(self, feature: Float[Tensor, "b c _ _"]) -> Float[Tensor, "b k h w"]:
        return self.final(self.upsample(feature))

    def encode(self, batch: Batch) -> Float[Tensor, "b k h w"]:
        """Draws Gaussians of peak 1; logits of the same for the cross-entropy, where only differences count, and with a cell
        for points outside that of the point's own."""
        maps = heatmaps.draw_gaussians(self._cells(batch), self.grid, self.spec.sigma_cells)
        if not self._is_distribution:
            return maps
        logits = maps.clamp_min(1e-30).log() - self._margins(self._cells(batch))
        inside = geometry.inside(self._cells(batch), self.grid)[..., None, None]
        return torch.where(inside, logits + SURE, logits - SURE) if self.spec.outside else logits

    def decode(self, raw: Float[Tensor, "b k h w"]) -> Keypoints:
        """Reads the points. score: the peak for map losses; for the cross-entropy the probability near the point,
        within two widths of the target and half a cell: 0.9 and more for a perfect map, less where the map is wide or
        has two peaks."""
        maps = heatmaps.spatial_softmax(raw) if self._is_distribution else raw
        xy_grid, peak = self._read(maps)
        near = axes.reach(self.spec.sigma_cells)
        score = heatmaps.mass_near(maps, xy_grid, near) if self._is_distribution else peak
        if self.spec.outside:
            score = score * heatmaps.presence(raw).sigmoid()
        return Keypoints(geometry.grid_to_px(xy_grid, self.size, self.grid, self.spec.align), score.clamp(0, 1))

    def loss(self, raw: Float[Tensor, "b k h w"], batch: Batch) -> dict[str, Float[Tensor, ""]]:
        xy_grid = self._cells(batch)
        inside = geometry.inside(xy_grid, self.grid)
        target = heatmaps.draw_gaussians(xy_grid, self.grid, self.spec.sigma_cells)
        each = self._map_loss(raw + self._margins(xy_grid) if self._is_distribution else raw, target)
        weight = batch.labelled * inside
        if self.spec.loss == "ohkm":
            weight = losses.hardest(each, weight, self.spec.hardest_points)
        found = {self.spec.loss: losses.weighted_mean(each, weight)}
        if self.spec.outside:
            known = losses.binary_cross_entropy(heatmaps.presence(raw), inside.to(raw.dtype))
            found["outside"] = losses.weighted_mean(known, batch.labelled)
        return found

    def unflip(self, raw: Float[Tensor, "b k h w"], flip_order: Int[Tensor, " k"]) -> Float[Tensor, "b k h w"]:
        return flipping.unflip_maps(raw, flip_order, shift_cells=1 if self.spec.align == "stride" else 0)

    def distribution(self, raw: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
        """Computes the softmax of logits; of maps of peak 1 what is above zero, divided by its sum. A map without
        anything above zero is even."""
        if self._is_distribution:
            return heatmaps.spatial_softmax(raw)
        return heatmaps.normalised(raw.clamp_min(0) + 1e-9)

    def heatmaps(self, raw: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"] | None:
        """Scales logits to peaks of 1; maps of a peak of 1 are shown as they are."""
        return super().heatmaps(raw) if self._is_distribution else raw.clamp(0, 1)

    def _read(self, maps: Float[Tensor, "b k h w"]) -> tuple[Float[Tensor, "b k 2"], Float[Tensor, "b k"]]:
        """Reads xy_grid by the spec's decoder, and the height of the peak."""
        cell, peak = heatmaps.argmax(maps)
        sigma_cells = self.spec.sigma_cells
        if self.spec.decoder == "quarter":
            return heatmaps.quarter(maps, cell), peak
        if self.spec.decoder == "dark":
            return heatmaps.dark(maps, cell, self.spec.blur_cells), peak
        if self.spec.decoder == "dark_udp":
            return heatmaps.dark_udp(maps, cell, self.spec.blur_cells), peak
        if self.spec.decoder == "argmax":
            return cell, peak
        if self._is_distribution:
            power = 2 if self.spec.decoder == "square" else 1
            mean = heatmaps.expectation(heatmaps.squared(maps) if power == 2 else maps)
            return axes.untruncated(mean, self.grid, sigma_cells, margin_weight=self.spec.margin, power=power), peak
        return heatmaps.windowed_mean(maps, cell, sigma_cells), peak

    def _map_loss(self, raw: Float[Tensor, "b k h w"], target: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k"]:
        """Computes the loss of each map, against Gaussians of peak 1."""
        if self.spec.loss == "cross_entropy":
            return losses.map_cross_entropy(raw, heatmaps.normalised(target))
        if self.spec.loss == "adaptive_wing":
            return losses.adaptive_wing(raw, target)
        if self.spec.loss == "foreground":
            return losses.map_mse(raw, target, 1 + self.spec.foreground_weight * target)
        return losses.map_mse(raw, target)

    @property
    def _is_distribution(self) -> bool:
        return self.spec.loss == "cross_entropy"

    def _margins(self, xy_grid: Float[Tensor, "b k 2"]) -> Tensor | float:
        return (
            self.spec.margin * heatmaps.margins(xy_grid, self.grid, self.spec.sigma_cells) if self.spec.margin else 0.0
        )

    def _cells(self, batch: Batch) -> Float[Tensor, "b k 2"]:
        return geometry.px_to_grid(batch.xy, self.size, self.grid, self.spec.align)
