"""Finder `centres`: a map of how much each cell is the middle of an instance, and from each cell the way to the four sides.

Anchor-free (Zhou et al., Objects as Points, arXiv 1904.07850; the sides learnt around the middle, weighted by the same
Gaussian: Liu et al., Training-Time-Friendly Network, AAAI 2020). An instance is a cell that is above its neighbours; boxes
are compared with each other only where `apart` asks for it. Where a box lies does not depend on which of its cells is highest, since every cell
tells the sides from where it stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from fiducial import geometry
from fiducial.errors import UserError, expect
from fiducial.geometry import Size
from fiducial.models import contracts, finding_losses
from fiducial.models.contracts import Level
from fiducial.types import Found, Scenes

SURE = 1 - 1e-4  # what a perfect map says of a middle; 1 minus it of a cell far away
PRIOR = 0.01  # what an untrained map says of every cell, so that the many that are empty do not drown the few
FARTHEST = 10.0  # log of cells: exp of what lies above is of no use, and no number soon after
NEAREST = 0.02  # cells: a side that is nearer is taken to be so near
LEAST_SHARE = 0.1  # of a Gaussian's peak: farther out a cell does not tell the sides


@dataclass(frozen=True)
class Spec:
    """Holds the choices of the method."""

    stride: int = 8  # px a cell
    channels: int = 64
    coarser: int = (
        0  # maps that are made behind the backbone's, each of half the size, for instances that fill the image
    )
    most: int = 100  # instances in an image
    width: float = 0.1  # of the target's Gaussian, as a share of the box's sides: sigma
    least_width_cells: float = 0.4  # sigma of small boxes
    box_weight: float = 2.0  # of the boxes' loss beside that of the middles
    # How far small boxes count as much as large ones in that loss, though fewer cells tell their sides: 0 = each cell counts, 1 = each
    # instance does. More where some fill the image and others are tiny.
    evened: float = 0.0
    # Share of the smaller box's area above which a surer box takes another one's place; 1 = boxes are not compared. Less where
    # instances never lie in one another, and some are so large that the map has several peaks in one.
    apart: float = 1.0
    threshold: float = 0.3  # score from which on an instance counts; measured on val after training

    def __post_init__(self) -> None:
        expect(self.stride >= 1, "head.stride", self.stride, "px a cell, at least 1")
        expect(self.channels >= 1, "head.channels", self.channels, "at least 1")
        expect(0 <= self.coarser <= 4, "head.coarser", self.coarser, "0 to 4 maps")
        expect(1 <= self.most <= 1000, "head.most", self.most, "1 to 1000 instances")
        expect(0 < self.width <= 1, "head.width", self.width, "a share of the box's sides")
        expect(self.least_width_cells > 0, "head.least_width_cells", self.least_width_cells, "more than 0 cells")
        expect(self.box_weight >= 0, "head.box_weight", self.box_weight, "0 or more")
        expect(0 <= self.evened <= 1, "head.evened", self.evened, "a number, 0 to 1")
        expect(0 < self.apart <= 1, "head.apart", self.apart, "a share, more than 0")
        expect(0 <= self.threshold <= 1, "head.threshold", self.threshold, "a score, 0 to 1")


class Raw(NamedTuple):
    """What the network gives."""

    middle: Tensor  # [b, kinds, h, w] logits
    sides: Tensor  # [b, 4, h, w] log of the cells to the left, top, right and bottom side


class Head(contracts.FinderHead):
    """Joins the backbone's maps from coarse to fine, and reads middles and sides from the last one."""

    def __init__(self, spec: Spec, levels: Sequence[Level], kinds: int, size: Size) -> None:
        super().__init__()
        self.spec, self.size = spec, size
        self.used = [i for i, level in enumerate(levels) if level.stride >= spec.stride]
        if not self.used:
            strides = ", ".join(str(level.stride) for level in levels)
            raise UserError(
                f"head.stride={spec.stride}: the backbone's maps have strides {strides}; expected one of them"
            )
        coarsest = max(levels[i].stride for i in self.used) * 2**spec.coarser
        if size.w % coarsest or size.h % coarsest:
            raise UserError(f"size {size}: a finder on this backbone needs multiples of {coarsest}")
        self.stride = min(levels[i].stride for i in self.used)
        self.grid = Size(size.w // self.stride, size.h // self.stride)
        width = spec.channels
        self.lateral = nn.ModuleList(_joined(levels[i].channels, width, 1) for i in self.used)
        self.coarser = nn.ModuleList(_separable(width, stride=2) for _ in range(spec.coarser))
        self.smooth = nn.ModuleList(_separable(width) for _ in range(len(self.used) + spec.coarser - 1))
        self.tower = nn.Sequential(_separable(width), _separable(width))
        self.middle, self.sides = nn.Conv2d(width, kinds, 1), nn.Conv2d(width, 4, 1)
        nn.init.constant_(self.middle.bias, torch.logit(torch.tensor(PRIOR)).item())  # type: ignore[arg-type]
        nn.init.constant_(self.sides.bias, 1.0)  # type: ignore[arg-type]

    def forward(self, feature: Sequence[Float[Tensor, "b _ _ _"]]) -> Raw:  # type: ignore[override]
        maps = [layer(feature[i]) for layer, i in zip(self.lateral, self.used, strict=True)]
        for layer in self.coarser:
            maps.append(layer(maps[-1]))
        joined = maps[-1]
        for finer, smooth in zip(reversed(maps[:-1]), self.smooth, strict=True):
            if finer.shape[-1] != joined.shape[-1]:
                joined = F.interpolate(joined, scale_factor=finer.shape[-1] / joined.shape[-1], mode="nearest")
            joined = smooth(finer + joined)
        joined = self.tower(joined)
        return Raw(self.middle(joined), self.sides(joined))

    def encode(self, batch: Scenes) -> Raw:  # type: ignore[override]
        """Draws Gaussians around the cells that hold the middles, and from every cell the way to the sides of the instance
        that it is most of."""
        shares, sides = self._target(batch)
        middle = self._by_kind(shares, batch).clamp(1 - SURE, SURE).logit()
        return Raw(middle, sides.clamp_min(NEAREST).log())

    def decode(self, raw: Raw) -> Found:  # type: ignore[override]
        """Reads the `most` highest of the cells that are above their neighbours; score: what the map says there, 0 of boxes that
        are another one's double (`apart`)."""
        score = raw.middle.sigmoid()
        peak = F.max_pool2d(score, 3, stride=1, padding=1)
        score = torch.where(score == peak, score, torch.zeros_like(score))
        kinds, cells = score.shape[1], self.grid.w * self.grid.h
        best, index = score.flatten(1).topk(min(self.spec.most, kinds * cells), dim=1)
        kind, cell = torch.div(index, cells, rounding_mode="floor"), index % cells
        at = cell[:, None].expand(-1, 4, -1)
        sides = raw.sides.clamp_max(FARTHEST).exp().flatten(2).gather(2, at).transpose(1, 2) * self.stride
        column, row = cell % self.grid.w, torch.div(cell, self.grid.w, rounding_mode="floor")
        xy = geometry.grid_to_px(torch.stack([column, row], -1).to(sides.dtype), self.size, self.grid)
        found = Found(torch.cat(geometry.box_of_sides(xy, sides[..., :2], sides[..., 2:]), -1), best, kind)
        return found if self.spec.apart == 1 else self._apart(found)

    def _apart(self, found: Found) -> Found:
        """Takes from all boxes that lie mostly in a surer one of their kind, or around it, their score."""
        box, score, kind = found.box_xywh, found.score, found.kind
        alike = (geometry.box_share(box[:, :, None], box[:, None]) > self.spec.apart) & (
            kind[:, :, None] == kind[:, None]
        )
        number = torch.arange(box.shape[1], device=box.device)
        surer = number[None] < number[:, None]
        score = torch.where((alike & surer).any(2), torch.zeros_like(score), score)
        score, order = score.topk(score.shape[1], dim=1)
        return Found(box.gather(1, order[..., None].expand(-1, -1, 4)), score, kind.gather(1, order))

    def loss(self, raw: Raw, batch: Scenes) -> dict[str, Float[Tensor, ""]]:  # type: ignore[override]
        """Computes the focal loss of the middles, with less weight where a Gaussian is high beside the middle, nothing
        where an ignored box is; and the generalised IoU of the boxes around the middles (Rezatofighi et al., CVPR 2019)."""
        shares, sides = self._target(batch)
        count = batch.present.sum().clamp_min(1)
        target = self._by_kind(shares, batch)
        asked = 1 - self._ignored(batch)[:, None] * (target < 1)
        middle = (finding_losses.centre_focal(raw.middle, target) * asked).sum() / count
        weight = self._telling(shares * batch.present[..., None, None])
        overlap = finding_losses.sides_giou(raw.sides.clamp_max(FARTHEST).exp(), sides)
        # Of boxes that are far too large or small the overlap says hardly where to go; the logarithms do.
        apart = F.smooth_l1_loss(raw.sides, sides.clamp_min(NEAREST).log(), reduction="none").mean(1)
        box = ((1 - overlap + apart) * weight).sum() / weight.sum().clamp_min(1e-6)
        return {"middle": middle, "box": self.spec.box_weight * box}

    def _telling(self, shares: Float[Tensor, "b n h w"]) -> Float[Tensor, "b h w"]:
        """How much each cell counts that tells the sides of the instance that it is most of."""
        weight, owner = shares.max(1)
        weight = weight * (weight >= LEAST_SHARE)
        if self.spec.evened == 0:
            return weight
        cells = torch.zeros_like(shares).scatter(1, owner[:, None], weight[:, None]).sum((2, 3))
        of_owner = cells.gather(1, owner.flatten(1)).view_as(weight)
        return weight / of_owner.clamp_min(LEAST_SHARE) ** self.spec.evened

    def unflip(self, raw: Raw, flip_order: Int[Tensor, " k"]) -> Raw:
        """Mirrors the maps; left and right sides change places."""
        return Raw(raw.middle.flip(-1), raw.sides.flip(-1)[:, [2, 1, 0, 3]])

    def _by_kind(self, shares: Float[Tensor, "b n h w"], batch: Scenes) -> Float[Tensor, "b kinds h w"]:
        """The highest of the Gaussians of each kind's instances."""
        kinds = range(self.middle.out_channels)
        return torch.stack(
            [(shares * (batch.present * (batch.kind == kind))[..., None, None]).amax(1) for kind in kinds], 1
        )

    def _target(self, batch: Scenes) -> tuple[Float[Tensor, "b n h w"], Float[Tensor, "b 4 h w"]]:
        """Gaussians of peak 1 at the cells that hold the middles, and from each cell the way to the sides, in cells, of the
        instance whose Gaussian is highest there, the smaller one where two are alike."""
        middle, extent = geometry.box_middle(batch.box_xywh), batch.box_xywh[..., 2:]
        cell = geometry.px_to_grid(middle, self.size, self.grid).round()
        last = cell.new_tensor([self.grid.w - 1, self.grid.h - 1])
        cell = torch.minimum(cell.clamp_min(0), last)
        sigma = (extent * self.spec.width / self.stride).clamp_min(self.spec.least_width_cells)
        columns = torch.arange(self.grid.w, device=cell.device, dtype=cell.dtype)
        rows = torch.arange(self.grid.h, device=cell.device, dtype=cell.dtype)
        across = torch.exp(-((columns - cell[..., :1]) ** 2) / (2 * sigma[..., :1] ** 2))
        down = torch.exp(-((rows - cell[..., 1:]) ** 2) / (2 * sigma[..., 1:] ** 2))
        shares = down[..., :, None] * across[..., None, :]
        size = extent.prod(-1).sqrt()
        preferred = (
            shares - 1e-6 * (size / (size + self.size.w))[..., None, None] - 2 * (1 - batch.present)[..., None, None]
        )
        owner = preferred.argmax(1)
        xy = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)
        px = geometry.grid_to_px(xy, self.size, self.grid)
        of_each = torch.cat(geometry.sides_from(px[None], batch.box_xywh[:, :, None, None]), -1) / self.stride
        index = owner[:, None, :, :, None].expand(-1, 1, -1, -1, 4)
        return shares, of_each.gather(1, index)[:, 0].permute(0, 3, 1, 2)

    def _ignored(self, batch: Scenes) -> Float[Tensor, "b h w"]:
        columns = torch.arange(self.grid.w, device=batch.box_xywh.device, dtype=batch.box_xywh.dtype)
        rows = torch.arange(self.grid.h, device=batch.box_xywh.device, dtype=batch.box_xywh.dtype)
        px = geometry.grid_to_px(torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1), self.size, self.grid)
        inside = (torch.cat(geometry.sides_from(px[None], batch.box_xywh[:, :, None, None]), -1) >= 0).all(-1)
        return (inside * batch.ignored[..., None, None]).amax(1).to(batch.box_xywh.dtype)


def _joined(channels: int, width: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, kernel, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True))


def _separable(width: int, stride: int = 1) -> nn.Sequential:
    """A depthwise 5x5 and a 1x1 convolution."""
    return nn.Sequential(
        nn.Conv2d(width, width, 5, stride, padding=2, groups=width, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )
