"""From points to a flow for every cell: each point proposes the motion around it to first order, and a network says
where which proposal holds, and what the source does not show (First order motion model: Siarohin et al., NeurIPS 2019,
section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from fiducial.errors import expect
from fiducial.geometry import Size
from fiducial.models.antialias import AntiAlias
from fiducial.models.backbones.hourglass import EncoderDecoder, HourglassSpec
from fiducial.models.heads.motion import Frames
from fiducial.motion import grids


@dataclass(frozen=True)
class DenseMotionSpec:
    """Chooses the network; the defaults are the published ones."""

    width: int = 64  # of its hourglass; the first block down has twice as much
    blocks: int = 5  # down, and as many up
    widest: int = 1024  # no block is wider
    reduction: int = 4  # px of the source a cell of the flow
    variance: float = 0.01  # of the points' Gaussians, in xy_corner
    occlusion: bool = True  # whether it tells what the source does not show

    def __post_init__(self) -> None:
        for name in ("width", "blocks", "widest", "reduction"):
            expect(getattr(self, name) >= 1, f"dense_motion.{name}", getattr(self, name), "at least 1")
        expect(self.variance > 0, "dense_motion.variance", self.variance, "more than 0")


class MotionField(NamedTuple):
    """Holds a motion and what it was made of. Proposal 0 is the background's, which does not move."""

    sparse_motion: Float[Tensor, "b p h w 2"]  # backward flow of each of the 1 + k proposals, in corner
    sparse_deformed: Float[Tensor, "b p c h w"]  # the reduced source moved by each
    mask: Float[Tensor, "b p h w"]  # share of each; they sum to one
    deformation: Float[Tensor, "b h w 2"]  # backward flow, in corner
    occlusion: Float[Tensor, "b 1 h w"] | None  # 1 = the source shows it, 0 = it must be made up


class DenseMotion(nn.Module):
    """Predicts the motion from a source to a driving image, on the reduced grid."""

    def __init__(self, spec: DenseMotionSpec, points: int, channels: int = 3) -> None:
        super().__init__()
        self.spec = spec
        self.reduce = AntiAlias(channels, spec.reduction)
        hourglass = HourglassSpec(spec.width, spec.blocks, spec.widest, reduction=1)
        self.network = EncoderDecoder(hourglass, inputs=(points + 1) * (channels + 1))
        self.mask = nn.Conv2d(self.network.outputs, points + 1, 7, padding=3)
        self.occlusion = nn.Conv2d(self.network.outputs, 1, 7, padding=3) if spec.occlusion else None

    def forward(self, source: Float[Tensor, "b c _ _"], of_source: Frames, of_driving: Frames) -> MotionField:
        """Takes the source in 0..1 and the points, with their local frames, of both images."""
        small = self.reduce(source)
        size = grids.size_of(small)
        heat = gaussian_differences(of_source, of_driving, size, self.spec.variance)
        # Products of coordinates in bf16 would move everything by a quarter of a px.
        with torch.autocast(source.device.type, enabled=False):
            moved = sparse_motion(of_source, of_driving, size)
        # One sampling of a source that is not copied: the proposals' flows lie one below the other.
        deformed = grids.sample(small, moved.flatten(1, 2))
        deformed = deformed.unflatten(2, moved.shape[1:3]).transpose(1, 2)
        feature, _ = self.network(torch.cat([heat, deformed], 2).flatten(1, 2))
        logits, occlusion = self._heads(feature)
        mask = logits.softmax(1)
        return MotionField(moved, deformed, mask, (mask[..., None] * moved).sum(1), occlusion)

    def _heads(self, feature: Tensor) -> tuple[Tensor, Tensor | None]:
        """Both convolutions as one: a convolution of a single map costs as much as one of sixteen."""
        if self.occlusion is None:
            return self.mask(feature), None
        assert self.mask.bias is not None
        assert self.occlusion.bias is not None
        weight = torch.cat([self.mask.weight, self.occlusion.weight])
        bias = torch.cat([self.mask.bias, self.occlusion.bias])
        maps = F.conv2d(feature, weight, bias, padding=3)
        return maps[:, :-1], maps[:, -1:].sigmoid()


def gaussian_differences(
    of_source: Frames, of_driving: Frames, size: Size, variance: float
) -> Float[Tensor, "b p 1 h w"]:
    """Draws where each point is in the driving image, less where it was in the source; zeros for the background."""
    driving = grids.gaussians(of_driving.xy_corner, size, variance)
    difference = driving - grids.gaussians(of_source.xy_corner, size, variance)
    return torch.cat([torch.zeros_like(difference[:, :1]), difference], 1)[:, :, None]


def sparse_motion(of_source: Frames, of_driving: Frames, size: Size) -> Float[Tensor, "b p h w 2"]:
    """Computes each point's motion to first order: s + J_s J_d^-1 (z - d), with s and d its places in source and driving image
    and J its Jacobians there (eq. 4). Before them comes the grid itself: the background, which does not move. Without
    Jacobians J_s J_d^-1 = 1."""
    grid = corner = grids.corner_grid(size, of_source.xy_corner)
    places = corner - of_driving.xy_corner[:, :, None, None]
    if of_source.jacobian is not None and of_driving.jacobian is not None:
        # Where the driving Jacobian is nearly singular, its inverse is one that is large and finite: see grids.inverse.
        matrices = of_source.jacobian @ grids.inverse(of_driving.jacobian)
        places = (places.flatten(2, 3) @ matrices.mT).view_as(places)
    places = places + of_source.xy_corner[:, :, None, None]
    return torch.cat([grid.expand(len(places), 1, *grid.shape), places], 1)
