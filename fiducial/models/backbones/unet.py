"""`unet_<timm name>`: a U-Net (Ronneberger et al., MICCAI 2015) that climbs from any encoder of timm back to the
input's own grid, in the form that fastai's DynamicUnet made known: pixel shuffle (Shi et al., CVPR 2016) started
as nearest-neighbour resizing (ICNR: Aitken et al., arXiv 1707.02937), skips that are normalised and concatenated,
and the image itself as the last skip. Every convolution here is followed by BatchNorm, so that random weights train."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from fiducial.errors import UserError
from fiducial.models import pretrained as weights
from fiducial.models.backbones import timm_family
from fiducial.models.contracts import Backbone, Level
from fiducial.models.pretrained import Pretrained

PREFIX = "unet_"
EXAMPLES = ("unet_resnet18", "unet_mobilenetv3_small_100")


def names() -> list[str]:
    """Lists one for each network of timm; those without a pyramid of maps are refused when built."""
    return [PREFIX + name for name in timm_family.names()]


def matches(name: str) -> bool:
    """Says whether the encoder is one of timm's."""
    return name.startswith(PREFIX) and timm_family.matches(name[len(PREFIX) :])


def build(name: str, pretrained: Pretrained = "here") -> UNet:
    """Builds the U-Net on the encoder that the name says; `pretrained` is about the encoder, the rest is random."""
    encoder_name = timm_family.timm_name(name[len(PREFIX) :])
    encoder, initialization = timm_family.encoder(encoder_name, pretrained, last_only=False)
    levels = encoder.levels
    powers = all(level.stride.bit_count() == 1 for level in levels)
    if not powers or not all(coarse.stride == 2 * fine.stride for fine, coarse in pairwise(levels)):
        strides = ", ".join(str(level.stride) for level in levels)
        raise UserError(
            f"backbone {name!r}: the maps of {encoder_name} have strides {strides}, a U-Net needs each to be twice "
            "the one before. Choose an encoder with a pyramid, such as unet_resnet18"
        )
    network = UNet(encoder)
    network.initialization = initialization if initialization == "random" else f"encoder: {initialization}"
    network.normalization = weights.normalization(encoder_name)
    network.licence = weights.licence(encoder_name, initialization)
    return network


class UNet(Backbone):
    """Turns [b, 3, h, w] into one map [b, c, h, w] of the image's own size; any size will do."""

    def __init__(self, encoder: timm_family.Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        levels = encoder.levels
        deepest = levels[-1].channels
        self.middle = nn.Sequential(
            nn.BatchNorm2d(deepest),
            nn.ReLU(inplace=True),
            convolution(deepest, 2 * deepest),
            convolution(2 * deepest, deepest),
        )
        blocks, channels = [], deepest
        for level in reversed(levels[:-1]):
            # The last skip's block halves its channels, as its maps are the largest.
            narrow = level is levels[0]
            blocks.append(Up(channels, level.channels, narrow))
            channels = blocks[-1].outputs
        self.up = nn.ModuleList(blocks)
        doublings = levels[0].stride.bit_length() - 1  # from the finest map to the image
        self.to_image = nn.Sequential(*(Shuffle(channels, channels) for _ in range(doublings)))
        channels += 3
        self.last = Residual(channels)
        self.levels = (Level(channels, 1),)
        self.main = 0

    def forward(self, image: Tensor) -> list[Tensor]:
        *skips, x = self.encoder(image)
        x = self.middle(x)
        for block, skip in zip(self.up, reversed(skips), strict=True):
            x = block(x, skip)
        x = resized(self.to_image(x), image)
        return [self.last(torch.cat([x, image], dim=1))]


def convolution(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    """Builds a convolution, BatchNorm and ReLU, from weights of unit gain (He et al., ICCV 2015)."""
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def resized(x: Tensor, like: Tensor) -> Tensor:
    """Brings x onto the grid of `like`; they differ by a cell where a side of the input was odd on its way down."""
    if x.shape[-2:] == like.shape[-2:]:
        return x
    return functional.interpolate(x, size=like.shape[-2:], mode="nearest")


class Shuffle(nn.Module):
    """Doubles the size: four maps for each of `outputs`, interleaved."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.convolution = convolution(inputs, 4 * outputs, kernel=1)
        self.shuffle = nn.PixelShuffle(2)
        # ICNR: the four start equal, which is a resize without the checkerboard of four independent ones.
        weight = self.convolution.get_parameter("0.weight").data
        weight.copy_(weight[::4].repeat_interleave(4, dim=0))

    def forward(self, x: Tensor) -> Tensor:
        return self.shuffle(self.convolution(x))


class Up(nn.Module):
    """Doubles a map, joined with the encoder's map of that size, and two convolutions on both."""

    def __init__(self, inputs: int, skip: int, narrow: bool) -> None:
        super().__init__()
        self.shuffle = Shuffle(inputs, inputs // 2)
        self.norm = nn.BatchNorm2d(skip)  # encoders leave their maps at any scale
        joined = inputs // 2 + skip
        self.outputs = joined // 2 if narrow else joined
        self.convolutions = nn.Sequential(convolution(joined, self.outputs), convolution(self.outputs, self.outputs))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = resized(self.shuffle(x), skip)
        return self.convolutions(functional.relu(torch.cat([x, self.norm(skip)], dim=1)))


class Residual(nn.Module):
    """Is two 3x3 convolutions and the identity, at the image's size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = convolution(channels, channels)
        self.second = convolution(channels, channels)[:2]  # no ReLU before the sum

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.second(self.first(x)) + x)
