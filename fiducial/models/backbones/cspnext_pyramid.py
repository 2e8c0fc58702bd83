"""CSPNeXt with the neck of RTMW (Jiang et al., "RTMW: Real-time multi-person 2D and 3D whole-body pose estimation", arXiv
2407.08634): its last three maps are joined from coarse to fine and back again (path aggregation: Liu et al., CVPR 2018).

Two maps of it are wanted, at 1/16 and 1/32, and a backbone has one main map: the finer one lies before the coarser one in
its channels, the four cells of each coarse cell one after the other (`pixel_unshuffle`), so that nothing is lost.

Modules carry the names of the published files, which load by key."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.models.backbones import _untrained
from fiducial.models.backbones.cspnext import SPECS, Convolution, CrossStage, CSPNeXt, CSPNeXtSpec
from fiducial.models.contracts import Level
from fiducial.models.pretrained import Pretrained

ENDING = "_pyramid"
STRIDE = 32  # px a cell of the coarsest map
BLOCKS = 2  # of each stage of the neck
EXAMPLES = ("cspnext_tiny_pyramid",)


def names() -> list[str]:
    """Lists the names of all members."""
    return [f"{name}{ENDING}" for name in SPECS]


def matches(name: str) -> bool:
    """Says whether the family has a backbone of this name."""
    return name in names()


def build(name: str, pretrained: Pretrained = "here") -> CSPNeXtPyramid:
    """Builds a member by name, random: weights come from a file (`--init`)."""
    _untrained.announce(name, pretrained)
    return CSPNeXtPyramid(SPECS[name.removesuffix(ENDING)])


class CSPNeXtPyramid(CSPNeXt):
    """Turns [b, 3, h, w] into one map at 1/32 that holds two, as said above. Sides must be multiples of 32."""

    def __init__(self, spec: CSPNeXtSpec) -> None:
        super().__init__(spec)
        widths = spec.channels[2:]
        self.neck = Neck(*widths)
        self.levels = (Level(4 * widths[1] + widths[2], STRIDE),)

    def forward(self, image: Tensor) -> list[Tensor]:
        size = Size(image.shape[-1], image.shape[-2])
        if size.w % STRIDE or size.h % STRIDE:
            fits = Size(*(max(1, round(side / STRIDE)) * STRIDE for side in size))
            raise UserError(f"size {size}: CSPNeXt's pyramid needs multiples of {STRIDE}, such as {fits}")
        fine = self.stage2(self.stage1(self.stem(image)))
        middle = self.stage3(fine)
        middle, coarse = self.neck(fine, middle, self.stage4(middle))
        return [torch.cat([functional.pixel_unshuffle(middle, 2), coarse], dim=1)]


class Neck(nn.Module):
    """Joins maps of 1/8, 1/16 and 1/32 down to the finest and back, and gives those of 1/16 and 1/32, of as many channels
    as came in."""

    def __init__(self, fine: int, middle: int, coarse: int) -> None:
        super().__init__()
        self.reduce_layers = nn.ModuleList([Convolution(coarse, middle), Convolution(middle, fine)])
        self.top_down_blocks = nn.ModuleList([_stage(2 * middle, middle), _stage(2 * fine, fine)])
        self.downsamples = nn.ModuleList([Convolution(fine, fine, 3, 2), Convolution(middle, middle, 3, 2)])
        self.bottom_up_blocks = nn.ModuleList([_stage(2 * fine, middle), _stage(2 * middle, coarse)])

    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
        coarse = self.reduce_layers[0](coarse)
        middle = self.reduce_layers[1](self.top_down_blocks[0](torch.cat([_doubled(coarse), middle], dim=1)))
        fine = self.top_down_blocks[1](torch.cat([_doubled(middle), fine], dim=1))
        middle = self.bottom_up_blocks[0](torch.cat([self.downsamples[0](fine), middle], dim=1))
        return middle, self.bottom_up_blocks[1](torch.cat([self.downsamples[1](middle), coarse], dim=1))


def _stage(inputs: int, channels: int) -> CrossStage:
    return CrossStage(channels, BLOCKS, residual=False, inputs=inputs, attention=False)


def _doubled(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")
