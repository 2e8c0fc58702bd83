"""Flip tests of representations that no head of ours has; see `models/flipping.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from fiducial.geometry import Size
from fiducial.models.flipping import shifted, unflip_maps


def unflip_offsets(
    maps: Float[Tensor, "b k 2 h w"], flip_order: Int[Tensor, " k"], shift_cells: int = 0
) -> Float[Tensor, "b k 2 h w"]:
    """Turns maps of offsets (x, y) back from the mirror: what pointed right points left."""
    signs = maps.new_tensor([-1.0, 1.0])[:, None, None]
    return shifted(maps.flip(-1)[:, flip_order] * signs, shift_cells)


def unflip_combined(
    maps: Float[Tensor, "b k 3 h w"], flip_order: Int[Tensor, " k"], shift_cells: int = 0
) -> Float[Tensor, "b k 3 h w"]:
    """Turns UDP's maps (label, x offset, y offset) back from the mirror."""
    label = unflip_maps(maps[:, :, 0], flip_order, shift_cells)
    return torch.cat([label[:, :, None], unflip_offsets(maps[:, :, 1:], flip_order, shift_cells)], 2)


def average(
    maps: Sequence[Float[Tensor, "b k _ _"]], grid: Size, align: Literal["edge", "corner"] = "edge"
) -> Float[Tensor, "b k h w"]:
    """Averages maps of several sizes over the same image, each brought to `grid` by bilinear interpolation. `align`
    says what coincides when a map is resized: the outer edges or the outermost centres."""
    sides = (grid.h, grid.w)
    resized = [
        part
        if part.shape[-2:] == sides
        else F.interpolate(part, size=sides, mode="bilinear", align_corners=align == "corner")
        for part in maps
    ]
    return torch.stack(resized).mean(0)
