"""The network of RTMPose's head: each point is a token, tokens look at each other, and each becomes two rows of bins
(Jiang et al., "RTMPose: Real-time multi-person pose estimation based on MMPose", arXiv 2303.07399, section 3.3).

The tokens' mixer is the gated attention unit (Hua et al., "Transformer quality in linear time", ICML 2022, eq. 3-4),
normalised by `ScaleNorm` (Nguyen & Salazar, 2019). Modules carry the names of the published files, which load by key."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from fiducial.geometry import Size

Activation = Literal["silu", "relu"]


class RTMCC(nn.Module):
    """A map of `map_size` cells -> logits of the bins along x and along y, `split` bins a px of an input of `size`."""

    def __init__(
        self,
        inputs: int,
        points: int,
        size: Size,
        map_size: Size,
        *,
        kernel: int = 7,
        hidden: int = 256,
        attention: int = 128,
        expansion: float = 2,
        activation: Activation = "silu",
        relative_bias: bool = False,
        rotary: bool = False,
        split: float = 2.0,
    ) -> None:
        super().__init__()
        self.final_layer = nn.Conv2d(inputs, points, kernel, padding=kernel // 2)
        self.mlp = nn.Sequential(ScaleNorm(), nn.Linear(map_size.w * map_size.h, hidden, bias=False))
        self.gau = GatedAttention(
            hidden, points, attention=attention, expansion=expansion, activation=activation,
            relative_bias=relative_bias, rotary=rotary,
        )  # fmt: skip
        self.cls_x = nn.Linear(hidden, round(size.w * split), bias=False)
        self.cls_y = nn.Linear(hidden, round(size.h * split), bias=False)
        nn.init.normal_(self.final_layer.weight, std=0.001)
        nn.init.zeros_(self.final_layer.get_parameter("bias"))
        for layer in (self.cls_x, self.cls_y):
            nn.init.normal_(layer.weight, std=0.01)

    def forward(self, feature: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b k x"], Float[Tensor, "b k y"]]:
        tokens = self.gau(self.mlp(self.final_layer(feature).flatten(2)))
        return self.cls_x(tokens), self.cls_y(tokens)


class ScaleNorm(nn.Module):
    """Vectors divided by the root of their mean square, times one learnt number."""

    def __init__(self, smallest: float = 1e-5) -> None:
        super().__init__()
        self.smallest = smallest
        self.g = nn.Parameter(torch.ones(1))

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        root_mean_square = torch.linalg.vector_norm(x, dim=-1, keepdim=True) * x.shape[-1] ** -0.5
        return x / root_mean_square.clamp_min(self.smallest) * self.g


class Scale(nn.Module):
    """A learnt factor for each channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        return x * self.scale


class GatedAttention(nn.Module):
    """Attention and gate in one: values weighted by squared ReLU of the tokens' likeness (no softmax), times a gate.

    `tokens` counts them, for the relative bias: one learnt number for each distance between tokens, added to their
    likeness. `width` channels come in and go out; `attention` is the width of queries and keys."""

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
        super().__init__()
        self.parts = [round(width * expansion), round(width * expansion), attention]  # gate, value, base
        self.activation = {"silu": F.silu, "relu": F.relu}[activation]
        self.tokens, self.rotary = tokens, rotary
        # Queries and keys are the same projection, scaled and shifted each in its own way.
        self.gamma = nn.Parameter(torch.rand(2, attention))
        self.beta = nn.Parameter(torch.rand(2, attention))
        self.w = nn.Parameter(torch.rand(2 * tokens - 1)) if relative_bias else None
        self.o = nn.Linear(self.parts[0], width, bias=False)
        # Without a softmax the attention is a sum over all points: it joins in from nothing, or the first logits are huge.
        nn.init.zeros_(self.o.weight)
        self.uv = nn.Linear(width, sum(self.parts), bias=False)
        self.ln = ScaleNorm()
        self.res_scale = Scale(width)
        nn.init.xavier_uniform_(self.uv.weight)

    def forward(self, x: Float[Tensor, "b k d"]) -> Float[Tensor, "b k d"]:
        gate, value, base = self.activation(self.uv(self.ln(x))).split(self.parts, dim=-1)
        query, key = base * self.gamma[0] + self.beta[0], base * self.gamma[1] + self.beta[1]
        if self.rotary:
            query, key = rotated(query), rotated(key)
        likeness = query @ key.mT
        if self.w is not None:
            likeness = likeness + self._by_distance(self.w)
        weight = F.relu(likeness / math.sqrt(self.parts[2])).square()
        return self.res_scale(x) + self.o(gate * (weight @ value))

    def _by_distance(self, bias: Float[Tensor, " distances"]) -> Float[Tensor, "k k"]:
        """bias[k - 1 + j - i] at row i, column j."""
        index = torch.arange(self.tokens, device=bias.device)
        return bias[self.tokens - 1 + index - index[:, None]]


def rotated(x: Float[Tensor, "b k d"]) -> Float[Tensor, "b k d"]:
    """Pairs of channels (m, m + d/2) turned by an angle that grows with the token's number (Su et al., RoFormer, 2021).

    The angle is number x 10000^(2m/d), as the published RTMPose code has it, and not RoFormer's 10000^(-2m/d): files
    trained with it are only right with the same. Angles of thousands of radians make it inexact in float32."""
    first, second = x.chunk(2, dim=-1)
    half = first.shape[-1]
    rate = 10000 ** (torch.arange(half, device=x.device, dtype=x.dtype) / half)
    angle = torch.arange(x.shape[-2], device=x.device, dtype=x.dtype)[:, None] * rate
    sine, cosine = angle.sin(), angle.cos()
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
