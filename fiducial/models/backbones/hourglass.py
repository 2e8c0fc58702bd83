"""`hourglass`: the U-Net of the First-Order-Motion model's detector (Siarohin et al., NeurIPS 2019), on the image made
smaller; `hourglass_w8_b3_s2` is one of width 8 with 3 blocks at half the image's size.

Down: convolution, BatchNorm, ReLU, pooling, as often as there are blocks, each of twice the width up to the widest. Up:
doubled, convolution, BatchNorm, ReLU, joined with the map of that size on the way down; the last of these is the image
itself. `depthwise_hourglass` has depthwise-separable convolutions (Howard et al., 2017) in their place."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fiducial.card import Normalization
from fiducial.errors import expect
from fiducial.models.antialias import AntiAlias
from fiducial.models.backbones import _untrained
from fiducial.models.backbones._grids import doubled, halved
from fiducial.models.contracts import Backbone, Level
from fiducial.models.pretrained import Pretrained

EXAMPLES = ("hourglass_w8_b3_m32", "depthwise_hourglass_w8_b3_m32")
_NAME = re.compile(r"(depthwise_)?hourglass(?:_w(\d+))?(?:_b(\d+))?(?:_m(\d+))?(?:_s(\d+))?")


@dataclass(frozen=True)
class HourglassSpec:
    """Holds the choices of the network; the defaults are the published ones."""

    width: int = 32  # of the map that comes out; the first block down has twice as much
    blocks: int = 5  # down, and as many up
    widest: int = 1024  # no block is wider
    reduction: int = 4  # px of the input a cell of the network's own grid
    depthwise: bool = False

    def __post_init__(self) -> None:
        for name, letter in (("width", "w"), ("blocks", "b"), ("widest", "m"), ("reduction", "s")):
            expect(getattr(self, name) >= 1, f"hourglass's {name} (_{letter}N)", getattr(self, name), "at least 1")

    @property
    def name(self) -> str:
        """Gives the backbone's name, without what is as published."""
        usual = HourglassSpec()
        parts = (("w", "width"), ("b", "blocks"), ("m", "widest"), ("s", "reduction"))
        changed = (f"_{key}{getattr(self, part)}" for key, part in parts if getattr(self, part) != getattr(usual, part))
        return ("depthwise_" if self.depthwise else "") + "hourglass" + "".join(changed)

    def channels(self, level: int) -> int:
        """Counts the channels of the map that was halved `level` times."""
        return min(self.widest, self.width << level)


def names() -> list[str]:
    """Lists the published one, and small ones."""
    return ["hourglass", "hourglass_w16", "depthwise_hourglass", *EXAMPLES]


def matches(name: str) -> bool:
    """Says whether the name follows hourglass[_wWIDTH][_bBLOCKS][_mWIDEST][_sREDUCTION]."""
    return _NAME.fullmatch(name) is not None


def build(name: str, pretrained: Pretrained = "here") -> Hourglass:
    """Builds a network by name, random: weights come from a file of a whole detector (`--init`)."""
    found = _NAME.fullmatch(name)
    assert found is not None
    _untrained.announce(name, pretrained)
    parts = ("width", "blocks", "widest", "reduction")
    given = {part: int(value) for part, value in zip(parts, found.groups()[1:], strict=True) if value}
    return Hourglass(HourglassSpec(**given, depthwise=found[1] is not None))


class Hourglass(Backbone):
    """Turns [b, 3, h, w] in 0..1 into the decoder's map with the small image joined to it, and the deepest map, any
    size."""

    normalization = Normalization(mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0))
    main = 0

    def __init__(self, spec: HourglassSpec, inputs: int = 3) -> None:
        super().__init__()
        self.spec = spec
        self.reduce = AntiAlias(inputs, spec.reduction)
        self.network = EncoderDecoder(spec, inputs)
        self.levels = (
            Level(self.network.outputs, spec.reduction),
            Level(spec.channels(spec.blocks), spec.reduction << spec.blocks),
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        return list(self.network(self.reduce(image)))


class EncoderDecoder(nn.Module):
    """Is the network itself: maps [b, inputs, h, w] -> ([b, outputs, h, w], the deepest map)."""

    def __init__(self, spec: HourglassSpec, inputs: int) -> None:
        super().__init__()
        levels = range(spec.blocks)
        down_inputs = [inputs if i == 0 else spec.channels(i) for i in levels]
        # What comes to the i-th finest block up: the coarser map, and what was joined to it.
        up_inputs = [spec.channels(i + 1) * (1 if i == spec.blocks - 1 else 2) for i in levels]
        self.down = nn.ModuleList(Block(down_inputs[i], spec.channels(i + 1), spec.depthwise) for i in levels)
        self.up = nn.ModuleList(Block(up_inputs[i], spec.channels(i), spec.depthwise) for i in reversed(levels))
        self.outputs = spec.width + inputs

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        skips = [x]
        for block in self.down:
            skips.append(halved(block(skips[-1])))
        x = deepest = skips.pop()
        for block in self.up:
            skip = skips.pop()
            x = torch.cat([block(doubled(x, skip)), skip], dim=1)
        return x, deepest


class Block(nn.Module):
    """Is a 3x3 convolution, BatchNorm and ReLU."""

    def __init__(self, inputs: int, outputs: int, depthwise: bool = False) -> None:
        super().__init__()
        self.conv: nn.Module = nn.Conv2d(inputs, outputs, 3, padding=1)
        if depthwise:
            each = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
            self.conv = nn.Sequential(each, nn.Conv2d(inputs, outputs, 1))
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))
