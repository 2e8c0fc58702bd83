"""Self-calibrated convolutions (Liu et al., CVPR 2020, doi 10.1109/CVPR42600.2020.01011), as a block of timm's ResNets.

The bottleneck has two halves: a plain 3x3 convolution, and one that is weighed, place by place, by what a look at an image
reduced four times says of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fiducial.errors import UserError

REDUCED = 4  # times, each side, where the half that is weighed looks wider


class SelfCalibrated(nn.Module):
    """Turns [b, c, h, w] into [b, c, h / stride, w / stride]. Names of parts are those of the published weights."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.k2 = nn.Sequential(nn.AvgPool2d(REDUCED, REDUCED), *_convolution(channels, channels))
        self.k3 = nn.Sequential(*_convolution(channels, channels))
        self.k4 = nn.Sequential(*_convolution(channels, channels, stride), nn.ReLU())

    def forward(self, maps: Tensor) -> Tensor:
        if min(maps.shape[2:]) < REDUCED:
            raise UserError(
                f"self-calibrated convolutions reduce their maps {REDUCED} times, and these have {maps.shape[3]}x{maps.shape[2]} cells; "
                f"give images of {32 * REDUCED}x{32 * REDUCED} or more (--size)"
            )
        wide = functional.interpolate(self.k2(maps), maps.shape[2:])
        return self.k4(self.k3(maps) * (maps + wide).sigmoid())


class Bottleneck(nn.Module):
    """Takes the place of timm's bottleneck; what timm says of groups, attention and the like is not for it."""

    expansion = 4

    def __init__(
        self, inplanes: int, planes: int, stride: int = 1, downsample: nn.Module | None = None, **others: Any
    ) -> None:
        super().__init__()
        half, out = planes // 2, planes * self.expansion
        self.conv1, self.bn1 = nn.Conv2d(inplanes, half, 1, bias=False), nn.BatchNorm2d(half)
        self.k1 = nn.Sequential(*_convolution(half, half, stride), nn.ReLU())
        self.conv2, self.bn2 = nn.Conv2d(inplanes, half, 1, bias=False), nn.BatchNorm2d(half)
        self.scconv = SelfCalibrated(half, stride)
        self.conv3, self.bn3 = nn.Conv2d(2 * half, out, 1, bias=False), nn.BatchNorm2d(out)
        self.downsample = downsample
        self.act = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        plain = self.k1(self.act(self.bn1(self.conv1(maps))))
        weighed = self.scconv(self.act(self.bn2(self.conv2(maps))))
        joined = self.bn3(self.conv3(torch.cat([plain, weighed], 1)))
        return self.act(joined + (maps if self.downsample is None else self.downsample(maps)))

    def zero_init_last(self) -> None:
        """Lets the block begin as the identity; timm asks for it."""
        nn.init.zeros_(self.bn3.weight)


def _convolution(inputs: int, outputs: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
