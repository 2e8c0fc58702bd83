"""`squeeze_unet`: a U-Net of fire modules (Beheshti & Johnsson, "Squeeze U-Net", CVPR workshops 2020; fire modules are
SqueezeNet's: Iandola et al., arXiv 1602.07360) on the image made smaller, to learn from an hourglass, whose grids it
has; `squeeze_unet_w32_s2` is one of half the width, on half the image's size.

Down: a convolution of stride two, then three times pooled, with two fire modules each of twice the width. Up: doubled,
a fire module, joined with the map of that size on the way down; the last of these is the image itself. Most cells are
on the two finest grids, so the way down has no fire module there and the way up one each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fiducial.card import Normalization
from fiducial.errors import expect
from fiducial.models.antialias import AntiAlias
from fiducial.models.backbones import _untrained
from fiducial.models.backbones._grids import doubled, halved
from fiducial.models.contracts import Backbone, Level
from fiducial.models.pretrained import Pretrained

EXAMPLES = ("squeeze_unet_w16",)
HALVINGS = 4
_NAME = re.compile(r"squeeze_unet(?:_w(\d+))?(?:_s(\d+))?")


@dataclass(frozen=True)
class SqueezeUNetSpec:
    """Holds the choices of the network."""

    width: int = 64  # channels of the map halved once; half of it on the finest grid, eight times it on the coarsest
    reduction: int = 4  # px of the input a cell of the network's own grid

    def __post_init__(self) -> None:
        fits = self.width >= 4 and self.width % 4 == 0
        expect(fits, "squeeze_unet's width (_wN)", self.width, "a multiple of 4")
        expect(self.reduction >= 1, "squeeze_unet's reduction (_sN)", self.reduction, "at least 1")

    def channels(self, halvings: int) -> int:
        """Counts the channels of the map that was halved so often."""
        return (self.width << halvings) // 2

    def squeezed(self, outputs: int) -> int:
        """Counts the channels inside of a fire module: an eighth of what comes out, as in SqueezeNet, or a quarter of
        the width where that is more: on the finest grids an eighth would be four."""
        return max(outputs // 8, self.width // 4)


def names() -> list[str]:
    """Lists the usual one, and small ones."""
    return ["squeeze_unet", "squeeze_unet_w32", "squeeze_unet_w32_s2", *EXAMPLES]


def matches(name: str) -> bool:
    """Says whether the name follows squeeze_unet[_wWIDTH][_sREDUCTION]."""
    return _NAME.fullmatch(name) is not None


def build(name: str, pretrained: Pretrained = "here") -> SqueezeUNet:
    """Builds a network by name, random: weights come from a file of a whole detector (`--init`)."""
    found = _NAME.fullmatch(name)
    assert found is not None
    _untrained.announce(name, pretrained)
    given = {part: int(value) for part, value in zip(("width", "reduction"), found.groups(), strict=True) if value}
    return SqueezeUNet(SqueezeUNetSpec(**given))


class SqueezeUNet(Backbone):
    """Turns [b, 3, h, w] in 0..1 into the decoder's map with the small image joined to it, and the deepest map, any
    size."""

    normalization = Normalization(mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0))
    main = 0

    def __init__(self, spec: SqueezeUNetSpec, inputs: int = 3) -> None:
        super().__init__()
        self.spec = spec
        channels = [spec.channels(halvings) for halvings in range(HALVINGS + 1)]
        self.reduce = AntiAlias(inputs, spec.reduction)
        self.first = _convolution(inputs, channels[1], 3, stride=2)
        self.down = nn.ModuleList(
            nn.Sequential(Fire(fine, spec.squeezed(coarse), coarse), Fire(coarse, spec.squeezed(coarse), coarse))
            for fine, coarse in pairwise(channels[1:])
        )
        # From the second on, what comes up is as wide as what was joined to it.
        self.up = nn.ModuleList(
            Fire(coarse if coarse == channels[-1] else 2 * coarse, spec.squeezed(fine), fine)
            for coarse, fine in pairwise(reversed(channels))
        )
        self.levels = (
            Level(channels[0] + inputs, spec.reduction),
            Level(channels[-1], spec.reduction << HALVINGS),
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        small = self.reduce(image)
        skips = [small, self.first(small)]
        for block in self.down:
            skips.append(block(halved(skips[-1])))
        x = deepest = skips.pop()
        for block in self.up:
            skip = skips.pop()
            x = torch.cat([block(x, skip), skip], dim=1)
        return [x, deepest]


class Fire(nn.Module):
    """Is a 1x1 convolution to few channels, then a 1x1 and a 3x3 convolution side by side, each to half of
    `outputs`."""

    def __init__(self, inputs: int, squeezed: int, outputs: int) -> None:
        super().__init__()
        self.squeeze = _convolution(inputs, squeezed, 1)
        self.expand_1x1 = _convolution(squeezed, outputs // 2, 1)
        self.expand_3x3 = _convolution(squeezed, outputs // 2, 3)

    def forward(self, x: Float[Tensor, "b c h w"], skip: Tensor | None = None) -> Float[Tensor, "b d _ _"]:
        """Computes the map on x's own grid, or doubled onto that of `skip`."""
        x = self.squeeze(x)
        if skip is not None:
            # Only now: a 1x1 convolution of equal cells gives equal cells, so this is the same for a quarter of the work.
            x = doubled(x, skip)
        return torch.cat([self.expand_1x1(x), self.expand_3x3(x)], dim=1)


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """With BatchNorm and ReLU; the centres of its cells are those of the map it looks at."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
