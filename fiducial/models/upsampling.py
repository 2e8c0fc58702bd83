"""From a backbone's map to a map a point: the networks that heads with maps share.

`separable`: a 1x1 convolution, then bilinear doubling and a depthwise 3x3, at about the price of regression.
`deconvolution`: transposed convolutions of 4x4, the three of SimpleBaseline (Xiao et al., ECCV 2018) on a map of stride
32. `resize`: ReLU and one bilinear resize, ViTPose's simple decoder (Xu et al., NeurIPS 2022). `mixing`: one 1x1
convolution that keeps channels and grid, as H3R has it (Yu & Tao, PAMI 2021). `none`: nothing."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from torch import nn

from fiducial.errors import UserError, expect
from fiducial.geometry import Size
from fiducial.models.contracts import Level

Upsampling = Literal["separable", "deconvolution", "resize", "mixing", "none"]


class Upsampled(NamedTuple):
    """Holds layers, and what comes out of them."""

    layers: nn.Sequential
    channels: int
    grid: Size


def check(channels: int, stride: int | None, kernel: int = 1) -> None:
    """Checks the settings of a head that end here, before there is a network. Raises UserError."""
    expect(channels >= 1, "head.channels", channels, "at least 1")
    expect(stride is None or stride >= 1, "head.stride", stride, "px a cell, at least 1")
    expect(kernel >= 1 and kernel % 2 == 1, "head.kernel", kernel, "an odd number of cells")


def build(
    kind: Upsampling, level: Level, size: Size, *, channels: int, stride: int | None, least_cells: int = 2
) -> Upsampled:
    """Builds layers from `level` to a map of `stride` px a cell (None = 4, or the level's own where that is finer or
    nothing is to be enlarged), for inputs of `size`. UserError where strides or sizes don't fit, or the map has fewer
    than `least_cells` a side: in one cell there is nothing to choose."""
    enlarges = kind in ("separable", "deconvolution", "resize")
    stride = stride or (min(level.stride, 4) if enlarges else level.stride)
    doublings = math.log2(level.stride / stride)
    if doublings != int(doublings) or doublings < 0 or (doublings and not enlarges):
        raise UserError(
            f"head.stride={stride}: the backbone's map has stride {level.stride} and head.upsampling={kind}; expected "
            f"{level.stride}" + (" or that divided by a power of two" if enlarges else "")
        )
    if size.w % level.stride or size.h % level.stride:
        fits = Size(*(max(1, round(side / level.stride)) * level.stride for side in size))
        raise UserError(f"size {size}: heatmaps on this backbone need multiples of {level.stride}, such as {fits}")
    grid = Size(size.w // stride, size.h // stride)
    if min(grid) < least_cells:
        raise UserError(
            f"size {size}: a map of {grid} cells at {stride} px a cell; expected {least_cells} or more a side: give a "
            "larger --size or a smaller head.stride"
        )
    makers = {
        "separable": _separable,
        "deconvolution": _deconvolution,
        "resize": _resize,
        "mixing": _mixing,
        "none": _none,
    }
    width, layers = makers[kind](level.channels, channels, int(doublings))
    sequence = nn.Sequential(*layers)
    _initialise(sequence)
    return Upsampled(sequence, width, grid)


def final(channels: int, maps: int, kernel: int = 1, bias: bool = True) -> nn.Conv2d:
    """Builds the convolution that gives a map a point; it starts near zero, so that no cell is preferred."""
    layer = nn.Conv2d(channels, maps, kernel, padding=kernel // 2, bias=bias)
    nn.init.normal_(layer.weight, std=0.001)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


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


def _resize(inputs: int, channels: int, doublings: int) -> tuple[int, list[nn.Module]]:
    return inputs, [nn.ReLU(), nn.Upsample(scale_factor=2**doublings, mode="bilinear", align_corners=False)]


def _mixing(inputs: int, channels: int, doublings: int) -> tuple[int, list[nn.Module]]:
    return inputs, [nn.Conv2d(inputs, inputs, 1, bias=False), nn.BatchNorm2d(inputs), nn.ReLU(True)]


def _none(inputs: int, channels: int, doublings: int) -> tuple[int, list[nn.Module]]:
    return inputs, []


def _initialise(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, std=0.001)
        elif isinstance(layer, nn.Conv2d):
            # fan_in: a depthwise convolution's fan_out, as torch counts it, is its channels times too large.
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
