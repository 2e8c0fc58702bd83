"""Method `heatmap`: one map a point, trained towards a Gaussian, read between the cells.

Two networks of equal output: `separable` (1x1 convolution, then bilinear doubling and a depthwise 3x3, at about
the price of regression) and `deconvolution`, the classic three transposed convolutions of SimpleBaseline (Xiao et
al., ECCV 2018). On a backbone whose main map is fine enough already (HRNet, U-Net) both are one 1x1 convolution.

Cells and px share their outer edges (see `geometry.px_to_grid`), so encoding commutes with flipping and resizing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from fiducial import geometry
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.models import contracts, heatmaps
from fiducial.models.contracts import Level
from fiducial.types import Batch, Keypoints


@dataclass(frozen=True)
class Spec:
    """Choices of the method."""

    upsampling: Literal["separable", "deconvolution"] = "separable"
    channels: int = 128  # width of the upsampling part (SimpleBaseline: 256)
    stride: int | None = None  # px a cell; None = 4, or the backbone's own where that is finer
    sigma_cells: float = 1.5  # width of the target
    # mse on maps of peak 1; foreground = mse with cells weighted by 1 + `foreground_weight` x target, against the
    # all-zero map; cross_entropy = softmax over the map against the Gaussian as a distribution.
    loss: Literal["cross_entropy", "mse", "foreground"] = "cross_entropy"
    foreground_weight: float = 20.0
    # soft = mean position; over the whole map for cross_entropy, through a window at the peak else.
    decoder: Literal["argmax", "quarter", "dark", "soft"] = "soft"
    blur_cells: int = 11  # kernel of DARK's smoothing, odd, 1 = none

    def __post_init__(self) -> None:
        if self.blur_cells < 1 or self.blur_cells % 2 == 0:
            raise UserError(f"head.blur_cells={self.blur_cells}: expected an odd number of cells, 1 for no smoothing")
        if self.sigma_cells <= 0:
            raise UserError(f"head.sigma_cells={self.sigma_cells}: expected the width of the target, more than 0 cells")
        if self.stride is not None and self.stride < 1:
            raise UserError(f"head.stride={self.stride}: expected px a cell, at least 1")


class Head(contracts.Head):
    """raw: map values, or logits of the cells when the loss is the cross-entropy."""

    def __init__(self, spec: Spec, level: Level, points: int, size: Size) -> None:
        super().__init__()
        stride = spec.stride or min(level.stride, 4)
        doublings = math.log2(level.stride / stride)
        if doublings != int(doublings) or doublings < 0:
            raise UserError(
                f"head.stride={stride}: the backbone's map has stride {level.stride}; "
                f"expected {level.stride} or that divided by a power of two"
            )
        self.spec, self.size = spec, size
        self.may_collapse = not self._is_distribution
        if size.w % level.stride or size.h % level.stride:
            fits = Size(*(max(1, round(side / level.stride)) * level.stride for side in size))
            raise UserError(f"size {size}: heatmaps on this backbone need multiples of {level.stride}, such as {fits}")
        self.grid = Size(size.w // stride, size.h // stride)
        build = {"separable": _separable, "deconvolution": _deconvolution}[spec.upsampling]
        channels, layers = build(level.channels, spec.channels, int(doublings))
        self.upsample = nn.Sequential(*layers)
        self.final = nn.Conv2d(channels, points, 1)
        _initialise(self.upsample)
        nn.init.normal_(self.final.weight, std=0.001)
        nn.init.zeros_(self.final.get_parameter("bias"))

    def forward(self, feature: Float[Tensor, "b c _ _"]) -> Float[Tensor, "b k h w"]:
        return self.final(self.upsample(feature))

    def encode(self, batch: Batch) -> Float[Tensor, "b k h w"]:
        """Gaussians of peak 1; logits of the same for the cross-entropy, where only differences count."""
        maps = heatmaps.draw_gaussians(self._cells(batch), self.grid, self.spec.sigma_cells)
        return maps.clamp_min(1e-30).log() if self._is_distribution else maps

    def decode(self, raw: Float[Tensor, "b k h w"]) -> Keypoints:
        """score: the peak for map losses; for the cross-entropy the probability near the point, within two widths of
        the target and half a cell: 0.9 and more for a perfect map, less where the map is wide or has two peaks."""
        maps = heatmaps.spatial_softmax(raw) if self._is_distribution else raw
        xy_grid, peak = self._read(maps)
        near = 2 * self.spec.sigma_cells + 0.5
        score = heatmaps.mass_near(maps, xy_grid, near) if self._is_distribution else peak
        return Keypoints(geometry.grid_to_px(xy_grid, self.size, self.grid), score.clamp(0, 1))

    def loss(self, raw: Float[Tensor, "b k h w"], batch: Batch) -> dict[str, Float[Tensor, ""]]:
        xy_grid = self._cells(batch)
        weight = batch.labelled * heatmaps.inside(xy_grid, self.grid)
        target = heatmaps.draw_gaussians(xy_grid, self.grid, self.spec.sigma_cells)
        if self._is_distribution:
            log_probability = raw.flatten(2).log_softmax(-1)
            each = -(heatmaps.normalised(target).flatten(2) * log_probability).sum(-1)
        else:
            each = F.mse_loss(raw, target, reduction="none")
            if self.spec.loss == "foreground":
                each = each * (1 + self.spec.foreground_weight * target)
            each = each.mean((-2, -1))
        return {self.spec.loss: (each * weight).sum() / weight.sum().clamp_min(1)}

    def unflip(self, raw: Float[Tensor, "b k h w"], flip_order: Int[Tensor, " k"]) -> Float[Tensor, "b k h w"]:
        return raw.flip(-1)[:, flip_order]

    def heatmaps(self, raw: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
        if not self._is_distribution:
            return raw.clamp(0, 1)
        probability = heatmaps.spatial_softmax(raw)
        return probability / probability.amax((-2, -1), keepdim=True)

    def _read(self, maps: Float[Tensor, "b k h w"]) -> tuple[Float[Tensor, "b k 2"], Float[Tensor, "b k"]]:
        """xy_grid by the spec's decoder, and the height of the peak."""
        cell, peak = heatmaps.argmax(maps)
        sigma_cells = self.spec.sigma_cells
        if self.spec.decoder == "quarter":
            return heatmaps.quarter(maps, cell), peak
        if self.spec.decoder == "dark":
            return heatmaps.dark(maps, cell, self.spec.blur_cells), peak
        if self.spec.decoder == "argmax":
            return cell, peak
        if self._is_distribution:
            return heatmaps.untruncated(heatmaps.expectation(maps), self.grid, sigma_cells), peak
        return heatmaps.windowed_mean(maps, cell, sigma_cells), peak

    @property
    def _is_distribution(self) -> bool:
        return self.spec.loss == "cross_entropy"

    def _cells(self, batch: Batch) -> Float[Tensor, "b k 2"]:
        return geometry.px_to_grid(batch.xy, self.size, self.grid)


def _separable(inputs: int, channels: int, doublings: int) -> tuple[int, list[nn.Module]]:
    if doublings == 0:
        return inputs, []
    layers: list[nn.Module] = [nn.Conv2d(inputs, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(True)]
    for _ in range(doublings):
        layers += [
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(True),
        ]
    return channels, layers


def _deconvolution(inputs: int, channels: int, doublings: int) -> tuple[int, list[nn.Module]]:
    layers: list[nn.Module] = []
    for _ in range(doublings):
        layers += [
            nn.ConvTranspose2d(inputs, channels, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(True),
        ]
        inputs = channels
    return inputs, layers


def _initialise(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, std=0.001)
        elif isinstance(layer, nn.Conv2d):
            # fan_in: a depthwise convolution's fan_out, as torch counts it, is its channels times too large.
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
