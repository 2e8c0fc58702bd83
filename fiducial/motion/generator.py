"""The driving image from the source and two sets of points: features are moved by the dense motion, hidden where the
source does not show them, and made into an image (First order motion model: Siarohin et al., NeurIPS 2019, section 3.2).
An image can be made this way only if the points tell what moved: that is what teaches the detector."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from fiducial.errors import UserError, expect
from fiducial.geometry import Size
from fiducial.models.backbones.hourglass import Block
from fiducial.models.heads.motion import Frames
from fiducial.motion import grids
from fiducial.motion.dense_motion import DenseMotion, DenseMotionSpec, MotionField


@dataclass(frozen=True)
class GeneratorSpec:
    """Chooses the network; the defaults are the published ones."""

    width: int = 64  # channels at full size; each halving doubles them
    widest: int = 512  # no map is wider
    downs: int = 2  # halvings before the features are moved, and doublings after
    residuals: int = 6  # blocks on the moved features
    dense_motion: DenseMotionSpec = DenseMotionSpec()
    # Where the source shows it, its own pixels are taken, moved (Siarohin et al., "Motion representations for articulated
    # animation", CVPR 2021): training then starts from the copied source instead of from grey. The published model of 2019
    # does not do this.
    shows_source: bool = False

    def __post_init__(self) -> None:
        for name, least in (("width", 1), ("widest", self.width), ("downs", 0), ("residuals", 0)):
            expect(getattr(self, name) >= least, f"generator.{name}", getattr(self, name), f"at least {least}")
        possible = self.dense_motion.occlusion or not self.shows_source
        expect(possible, "generator.shows_source", self.shows_source, "false without dense_motion.occlusion")

    def channels(self, level: int) -> int:
        """Counts the channels of the map that was halved `level` times."""
        return min(self.widest, self.width << level)


class Generated(NamedTuple):
    """Holds what the generator made of a source."""

    prediction: Float[Tensor, "b c h w"]  # 0..1
    deformed: Float[Tensor, "b c h w"]  # the source's own pixels moved by the flow: to look at, no loss needs it
    motion: MotionField


class Generator(nn.Module):
    """Generates the driving image from a source and the points of both."""

    def __init__(self, spec: GeneratorSpec, points: int, channels: int = 3) -> None:
        super().__init__()
        self.spec = spec
        self.dense_motion = DenseMotion(spec.dense_motion, points, channels)
        levels, deepest = range(spec.downs), spec.channels(spec.downs)
        first = nn.Conv2d(channels, spec.width, 7, padding=3)
        self.first = nn.Sequential(OrderedDict(conv=first, norm=nn.BatchNorm2d(spec.width), relu=nn.ReLU()))
        self.down = nn.ModuleList(Block(spec.channels(i), spec.channels(i + 1)) for i in levels)
        self.residuals = nn.Sequential(*(Residual(deepest) for _ in range(spec.residuals)))
        self.up = nn.ModuleList(DoublingBlock(spec.channels(i + 1), spec.channels(i)) for i in reversed(levels))
        self.final = nn.Conv2d(spec.width, channels, 7, padding=3)

    def forward(self, source: Float[Tensor, "b c h w"], of_source: Frames, of_driving: Frames) -> Generated:
        """Takes the source in 0..1 and the points, with their local frames, of both images.

        UserError for sides that the network can't halve, which names a size that it can."""
        size = grids.size_of(source)
        self._check(size)
        motion = self.dense_motion(source, of_source, of_driving)
        feature = self.first(source)
        for block in self.down:
            feature = F.avg_pool2d(block(feature), 2)
        feature = self._moved(feature, motion)
        if motion.occlusion is not None:
            feature = feature * grids.resized(motion.occlusion, grids.size_of(feature))
        feature = self.residuals(feature)
        for block in self.up:
            feature = block(feature)
        prediction, moved = self.final(feature).to(source.dtype).sigmoid(), self._moved(source, motion)
        if self.spec.shows_source and motion.occlusion is not None:
            shown = grids.resized(motion.occlusion, size)
            prediction = shown * moved + (1 - shown) * prediction
        return Generated(prediction, moved, motion)

    def _moved(self, maps: Float[Tensor, "b c h w"], motion: MotionField) -> Float[Tensor, "b c h w"]:
        """Moves maps by the flow, which is resized to them.

        Resized as the published model does it, a flow that moves nothing shifts pixels at the border. Pixels that are
        shown must stay, so `shows_source` aligns the corners."""
        deformation = motion.deformation.permute(0, 3, 1, 2)
        flow = grids.resized(deformation, grids.size_of(maps), align_corners=self.spec.shows_source)
        return grids.sample(maps, flow.permute(0, 2, 3, 1))

    def _check(self, size: Size) -> None:
        step, reduction = 1 << self.spec.downs, self.spec.dense_motion.reduction
        least = max(step, reduction + 1)  # of reduced maps with two cells a side
        fitting = Size(*(max(side // step, -(-least // step)) * step for side in size))
        if fitting != size:
            raise UserError(
                f"an image of {size} px: the generator needs sides that are multiples of {step} "
                f"(generator.downs={self.spec.downs}) and more than {reduction} px (dense_motion.reduction), such as "
                f"{fitting}"
            )


class DoublingBlock(nn.Module):
    """Repeats each cell four times (nearest neighbour), then convolution 3x3, BatchNorm, ReLU: [b, c, h, w] -> [b, outputs,
    2h, 2w].

    Computed as one convolution of the small map that has the four cells of the result as channels. Of the nine cells
    under a kernel of the doubled map several are the same one, so their weights are summed: equal numbers, and the
    doubled map, the largest of the network, is never made (26 ms for 51 at the finest level of a small one)."""

    sums: Float[Tensor, "2 3 3"]

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm = nn.BatchNorm2d(outputs)
        # [first or second cell of a pair, cell of the small map, weight of the kernel]: which weights fall on which cell.
        sums = torch.tensor([[[1.0, 0, 0], [0, 1, 1], [0, 0, 0]], [[0, 0, 0], [1, 1, 0], [0, 0, 1]]])
        self.register_buffer("sums", sums, persistent=False)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b _ _ _"]:
        assert self.conv.bias is not None
        weight = torch.einsum("ymk,xnl,oikl->oyximn", self.sums, self.sums, self.conv.weight)
        weight, bias = weight.flatten(0, 2), self.conv.bias.repeat_interleave(4)
        return F.relu(self.norm(F.pixel_shuffle(F.conv2d(x, weight, bias, padding=1), 2)))


class Residual(nn.Module):
    """Adds to x two convolutions 3x3, each after BatchNorm and ReLU (He et al., Identity mappings, ECCV 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        out = self.conv1(F.relu(self.norm1(x)))
        return x + self.conv2(F.relu(self.norm2(out)))
