"""Variants of RTMPose's head network that MMPose has and its published models do not use: another activation, a
relative bias, rotary embedding. Ours is `models/heads/_rtmcc.py`."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from fiducial.geometry import Size
from fiducial.models.heads._rtmcc import RTMCC, GatedAttention

Activation = Literal["silu", "relu"]


class RTMCCVariant(RTMCC):
    """Is `RTMCC` whose attention unit is a `VariantAttention`; modules carry the names of MMPose's."""

    def __init__(
        self,
        inputs: int,
        points: int,
        size: Size,
        map_size: Size,
        *,
        kernel: int,
        hidden: int,
        attention: int,
        expansion: float,
        split: float,
        activation: Activation,
        relative_bias: bool,
        rotary: bool,
    ) -> None:
        super().__init__(
            inputs,
            points,
            size,
            map_size,
            kernel=kernel,
            hidden=hidden,
            attention=attention,
            expansion=expansion,
            split=split,
        )
        self.gau = VariantAttention(
            hidden,
            points,
            attention=attention,
            expansion=expansion,
            activation=activation,
            relative_bias=relative_bias,
            rotary=rotary,
        )


class VariantAttention(GatedAttention):
    """Is `GatedAttention` with the options of MMPose's.

    `relative_bias` adds one learnt number for each distance between two of the `tokens` to their likeness; `rotary`
    turns queries and keys by `rotated` before they are compared."""

    def __init__(
        self,
        width: int,
        tokens: int,
        *,
        attention: int,
        expansion: float,
        activation: Activation,
        relative_bias: bool,
        rotary: bool,
    ) -> None:
        super().__init__(width, attention=attention, expansion=expansion)
        self.tokens, self.kind, self.rotary = tokens, activation, rotary
        self.w = nn.Parameter(torch.rand(2 * tokens - 1)) if relative_bias else None

    def activation(self, x: Float[Tensor, "b k d"]) -> Float[Tensor, "b k d"]:
        return F.relu(x) if self.kind == "relu" else F.silu(x)

    def likeness(self, query: Float[Tensor, "b k d"], key: Float[Tensor, "b k d"]) -> Float[Tensor, "b k k"]:
        if self.rotary:
            query, key = rotated(query), rotated(key)
        plain = super().likeness(query, key)
        return plain if self.w is None else plain + self._by_distance(self.w)

    def _by_distance(self, bias: Float[Tensor, " distances"]) -> Float[Tensor, "k k"]:
        """bias[k - 1 + j - i] at row i, column j."""
        index = torch.arange(self.tokens, device=bias.device)
        return bias[self.tokens - 1 + index - index[:, None]]


def rotated(x: Float[Tensor, "b k d"]) -> Float[Tensor, "b k d"]:
    """Turns pairs of channels (m, m + d/2) by an angle that grows with the token's number (Su et al., RoFormer, 2021).

    The angle is number x 10000^(2m/d), as the published RTMPose code has it, and not RoFormer's 10000^(-2m/d): files
    trained with it are only right with the same. Angles of thousands of radians make it inexact in float32."""
    first, second = x.chunk(2, dim=-1)
    half = first.shape[-1]
    rate = 10000 ** (torch.arange(half, device=x.device, dtype=x.dtype) / half)
    angle = torch.arange(x.shape[-2], device=x.device, dtype=x.dtype)[:, None] * rate
    sine, cosine = angle.sin(), angle.cos()
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
