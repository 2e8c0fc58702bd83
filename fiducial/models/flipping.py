"""Back from the mirror: what a network says of the mirrored image -> as if of the image itself, so that the two can
be averaged. One function a representation; `flip_order` is `Skeleton.flip_order`.

Reversing an axis of n cells sends cell i to n - 1 - i. That is the mirror where cells and px share their edges or their
outermost centres (`Align` edge and corner in `geometry.py`). Under `stride`, where cell i is px i x stride, the mirror
of px x = W - 1 - x is cell n - i - 1 / stride: 1 - 1 / stride cells further right, so all that is reversed moves right
by `shift_cells` whole cells: 1 for maps of stride 2 and more, 1 - m for m bins a px."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fiducial import geometry
from fiducial.geometry import Frame, Size


def unflip_maps(
    maps: Float[Tensor, "b k h w"], flip_order: Int[Tensor, " k"], shift_cells: int = 0
) -> Float[Tensor, "b k h w"]:
    """Turns heatmaps, probabilities or logits of cells back from the mirror. Columns that the shift leaves empty repeat
    their neighbour."""
    return shifted(maps.flip(-1)[:, flip_order], shift_cells)


def unflip_coordinates(
    xy_frame: Float[Tensor, "b k 2"], flip_order: Int[Tensor, " k"], size: Size, frame: Frame
) -> Float[Tensor, "b k 2"]:
    """Turns coordinates in unit or share of an input of `size` back from the mirror."""
    return geometry.mirror_frame(xy_frame[:, flip_order], size, frame)


def unflip_linear_maps(maps: Float[Tensor, "b k 4 h w"], flip_order: Int[Tensor, " k"]) -> Float[Tensor, "b k 4 h w"]:
    """Turns maps of 2x2 matrices, row by row, back from the mirror: what turned right turns left, so what is off the
    diagonal changes its sign."""
    signs = maps.new_tensor([1.0, -1.0, -1.0, 1.0])[:, None, None]
    return maps.flip(-1)[:, flip_order] * signs


def unflip_vectors(
    x: Float[Tensor, "b k n"], y: Float[Tensor, "b k m"], flip_order: Int[Tensor, " k"], shift_bins: int = 0
) -> tuple[Float[Tensor, "b k n"], Float[Tensor, "b k m"]]:
    """Turns SimCC's vectors back from the mirror: x is reversed, y only changes names. SimCC's own bins lie `stride`: m
    bins a px need a `shift_bins` of 1 - m to be exact; the published flip tests leave it at 0."""
    return shifted(x.flip(-1)[:, flip_order], shift_bins), y[:, flip_order]


def shifted(values: Float[Tensor, "*any"], cells: int) -> Float[Tensor, "*any"]:
    """Moves values right by `cells` along the last axis (left where negative); the outermost value is repeated."""
    last = values.shape[-1] - 1
    source = torch.arange(last + 1, device=values.device) - cells
    return values[..., source.clamp(0, last)]
