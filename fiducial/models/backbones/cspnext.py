"""CSPNeXt: stages that send half of their channels through residual blocks with a depthwise 5x5, the other half past
them, and weigh the channels of both (Lyu et al., "RTMDet", arXiv 2212.07784; cross-stage partial: Wang et al., CVPR
Workshops 2020). Five sizes, as RTMPose uses them; one map at 1/32 comes out.

Modules carry the names of the published files, which load by key."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fiducial.models.backbones import _untrained
from fiducial.models.contracts import Backbone, Level
from fiducial.models.pretrained import Pretrained

BLOCKS = (3, 6, 6, 3)  # residual blocks of the four stages, at depth 1
WIDTHS = (64, 128, 256, 512, 1024)  # channels of stem and stages, at width 1
POOLS = (5, 9, 13)  # cells: windows of the pooling in the last stage


@dataclass(frozen=True)
class CSPNeXtSpec:
    """Says how much of the full network: factors on the number of blocks and of channels."""

    depth: float = 1.0
    width: float = 1.0

    @property
    def blocks(self) -> tuple[int, ...]:
        """Counts the blocks of the four stages, at least one each."""
        return tuple(max(round(count * self.depth), 1) for count in BLOCKS)

    @property
    def channels(self) -> tuple[int, ...]:
        """Counts the channels of the stem and the four stages."""
        return tuple(int(count * self.width) for count in WIDTHS)


SPECS = {
    "cspnext_tiny": CSPNeXtSpec(0.167, 0.375),
    "cspnext_s": CSPNeXtSpec(0.33, 0.5),
    "cspnext_m": CSPNeXtSpec(0.67, 0.75),
    "cspnext_l": CSPNeXtSpec(1.0, 1.0),
    "cspnext_x": CSPNeXtSpec(1.33, 1.25),
}
EXAMPLES = ("cspnext_tiny",)


def names() -> list[str]:
    """Lists the names of all members."""
    return list(SPECS)


def matches(name: str) -> bool:
    """Says whether the family has a backbone of this name."""
    return name in SPECS


def build(name: str, pretrained: Pretrained = "here") -> CSPNeXt:
    """Builds a member by name, random: weights come from a file (`--init`)."""
    _untrained.announce(name, pretrained)
    return CSPNeXt(SPECS[name])


class CSPNeXt(Backbone):
    """Turns [b, 3, h, w] into one map at 1/32; sides that 32 does not divide are rounded up."""

    def __init__(self, spec: CSPNeXtSpec) -> None:
        super().__init__()
        self.spec = spec
        stem, *widths = spec.channels
        half = stem // 2
        self.stem = nn.Sequential(Convolution(3, half, 3, 2), Convolution(half, half, 3), Convolution(half, stem, 3))
        inputs = (stem, *widths[:3])
        self.stage1, self.stage2, self.stage3 = (
            nn.Sequential(Convolution(inputs[i], widths[i], 3, 2), CrossStage(widths[i], spec.blocks[i]))
            for i in range(3)
        )
        self.stage4 = nn.Sequential(
            Convolution(inputs[3], widths[3], 3, 2),
            PyramidPooling(widths[3]),
            CrossStage(widths[3], spec.blocks[3], residual=False),
        )
        self.levels = (Level(widths[3], 32),)
        self.main = 0

    def forward(self, image: Tensor) -> list[Tensor]:
        x = self.stem(image)
        for stage in (self.stage1, self.stage2, self.stage3, self.stage4):
            x = stage(x)
        return [x]


class Convolution(nn.Module):
    """Is a convolution without bias, BatchNorm and SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return functional.silu(self.bn(self.conv(x)))


class Separable(nn.Module):
    """Filters each channel alone by a 5x5, then mixes channels cell by cell; both normalised and activated."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise_conv = Convolution(channels, channels, 5, groups=channels)
        self.pointwise_conv = Convolution(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise_conv(self.depthwise_conv(x))


class Block(nn.Module):
    """Is a 3x3 and a separable 5x5, and the identity where `residual`."""

    def __init__(self, channels: int, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.conv1 = Convolution(channels, channels, 3)
        self.conv2 = Separable(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.conv1(x))
        return x + y if self.residual else y


class ChannelAttention(nn.Module):
    """Multiplies each channel by a factor in 0..1 that is read from the means of all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * functional.hardsigmoid(self.fc(x.mean((-2, -1), keepdim=True)))


class CrossStage(nn.Module):
    """Sends half of the channels through `count` blocks, half past them; then both, weighed where there is attention,
    and mixed. `inputs` channels come in, None = as many as go out."""

    def __init__(
        self, channels: int, count: int, residual: bool = True, inputs: int | None = None, attention: bool = True
    ) -> None:
        super().__init__()
        half = channels // 2
        self.main_conv = Convolution(inputs or channels, half)
        self.short_conv = Convolution(inputs or channels, half)
        self.final_conv = Convolution(2 * half, channels)
        self.blocks = nn.Sequential(*(Block(half, residual) for _ in range(count)))
        self.attention = ChannelAttention(2 * half) if attention else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([self.blocks(self.main_conv(x)), self.short_conv(x)], dim=1)
        return self.final_conv(self.attention(both))


class PyramidPooling(nn.Module):
    """Puts the map beside its maxima over windows of three sizes (He et al., ECCV 2014), between two 1x1
    convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = Convolution(channels, half)
        self.conv2 = Convolution(half * (1 + len(POOLS)), channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        pooled = [functional.max_pool2d(x, window, stride=1, padding=window // 2) for window in POOLS]
        return self.conv2(torch.cat([x, *pooled], dim=1))
