"""The network of RTMPose's head: each point is a token, tokens look at each other, and each becomes two rows of bins
(Jiang et al., "RTMPose: Real-time multi-person pose estimation based on MMPose", arXiv 2303.07399, section 3.3).

The tokens' mixer is the gated attention unit (Hua et al., "Transformer quality in linear time", ICML 2022, eq. 3-4),
normalised by `ScaleNorm` (Nguyen & Salazar, 2019). Modules carry the names of the published files, which load by
key."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from fiducial.errors import expect
from fiducial.geometry import Size


class RTMCC(nn.Module):
    """Turns a map of `map_size` cells into logits of the bins along x and along y, `split` bins a px of an input of
    `size`."""

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
        split: float = 2.0,
    ) -> None:
        super().__init__()
        self.final_layer = nn.Conv2d(inputs, points, kernel, padding=kernel // 2)
        self.mlp = nn.Sequential(ScaleNorm(), nn.Linear(map_size.w * map_size.h, hidden, bias=False))
        self.gau = GatedAttention(hidden, attention=attention, expansion=expansion)
        self.cls_x = nn.Linear(hidden, round(size.w * split), bias=False)
        self.cls_y = nn.Linear(hidden, round(size.h * split), bias=False)
        nn.init.normal_(self.final_layer.weight, std=0.001)
        nn.init.zeros_(self.final_layer.get_parameter("bias"))
        for layer in (self.cls_x, self.cls_y):
            nn.init.normal_(layer.weight, std=0.01)

    def forward(self, feature: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b k x"], Float[Tensor, "b k y"]]:
        tokens = self.gau(self.mlp(self.final_layer(feature).flatten(2)))
        return self.cls_x(tokens), self.cls_y(tokens)


class RTMW(nn.Module):
    """Turns two maps that lie in one, as `backbones/cspnext_pyramid.py` gives it, into logits of the bins: half of a
    point's features are read from the coarser map, half from the finer one with the coarser one spread over it (Jiang et
    al., arXiv 2407.08634)."""

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
        split: float = 2.0,
    ) -> None:
        super().__init__()
        self.width = inputs // 3  # channels of the coarser map; the finer one has half, four times
        expect(
            inputs % 12 == 0 and hidden % 2 == 0,
            "head.network",
            "rtmw",
            "a backbone of two maps in one (cspnext_m_pyramid) and an even head.hidden",
        )
        cells = map_size.w * map_size.h
        self.conv_dec = NormedConvolution(self.width // 4, self.width // 4, kernel)
        self.final_layer = NormedConvolution(self.width, points, kernel)
        self.final_layer2 = NormedConvolution(self.width // 4 + self.width // 2, points, kernel)
        self.mlp = nn.Sequential(ScaleNorm(), nn.Linear(cells, hidden // 2, bias=False))
        self.mlp2 = nn.Sequential(ScaleNorm(), nn.Linear(4 * cells, hidden // 2, bias=False))
        self.gau = GatedAttention(hidden, attention=attention, expansion=expansion)
        self.cls_x = nn.Linear(hidden, round(size.w * split), bias=False)
        self.cls_y = nn.Linear(hidden, round(size.h * split), bias=False)
        for layer in (self.cls_x, self.cls_y):
            nn.init.normal_(layer.weight, std=0.01)

    def forward(self, feature: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b k x"], Float[Tensor, "b k y"]]:
        fine, coarse = feature.split([feature.shape[1] - self.width, self.width], dim=1)
        spread = self.conv_dec(F.pixel_shuffle(coarse, 2))
        finer = self.final_layer2(torch.cat([spread, F.pixel_shuffle(fine, 2)], dim=1))
        coarser = self.final_layer(coarse)
        tokens = self.gau(torch.cat([self.mlp(coarser.flatten(2)), self.mlp2(finer.flatten(2))], dim=-1))
        return self.cls_x(tokens), self.cls_y(tokens)


class NormedConvolution(nn.Module):
    """Is a convolution without bias, BatchNorm and ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        return F.relu(self.bn(self.conv(x)))


class ScaleNorm(nn.Module):
    """Divides vectors by the root of their mean square, times one learnt number."""

    def __init__(self, smallest: float = 1e-5) -> None:
        super().__init__()
        self.smallest = smallest
        self.g = nn.Parameter(torch.ones(1))

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        root_mean_square = torch.linalg.vector_norm(x, dim=-1, keepdim=True) * x.shape[-1] ** -0.5
        return x / root_mean_square.clamp_min(self.smallest) * self.g


class Scale(nn.Module):
    """Multiplies each channel by a learnt factor."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        return x * self.scale


class GatedAttention(nn.Module):
    """Is attention and gate in one: values weighted by squared ReLU of the tokens' likeness (no softmax), times a gate.

    `width` channels come in and go out; gate and value are `expansion` times as wide; `attention` is the width of
    queries and keys."""

    def __init__(self, width: int, *, attention: int, expansion: float) -> None:
        super().__init__()
        self.parts = [round(width * expansion), round(width * expansion), attention]  # gate, value, base
        # Queries and keys are the same projection, scaled and shifted each in its own way.
        self.gamma = nn.Parameter(torch.rand(2, attention))
        self.beta = nn.Parameter(torch.rand(2, attention))
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
        weight = F.relu(self.likeness(query, key) / math.sqrt(self.parts[2])).square()
        return self.res_scale(x) + self.o(gate * (weight @ value))

    def activation(self, x: Float[Tensor, "b k d"]) -> Float[Tensor, "b k d"]:
        """Bends gate, value and base."""
        return F.silu(x)

    def likeness(self, query: Float[Tensor, "b k d"], key: Float[Tensor, "b k d"]) -> Float[Tensor, "b k k"]:
        """Compares each token's query with each token's key."""
        return query @ key.mT
