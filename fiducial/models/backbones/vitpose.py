"""The plain vision transformer of ViTPose (Xu et al., NeurIPS 2022; ViT: Dosovitskiy et al., ICLR 2021): patches of 16
px as tokens, pre-norm blocks, no class token; one map at 1/16 comes out.

Modules carry the names of the published files, which load by key."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.models.backbones import _untrained
from fiducial.models.contracts import Backbone, Level
from fiducial.models.pretrained import Pretrained

PATCH = 16  # px a side
PADDING = 2  # px of zeros around the image, so that patches lie 2 px further up and left than cells of 16 px


@dataclass(frozen=True)
class ViTPoseSpec:
    """Holds the choices of the network; the defaults are those of the base network."""

    width: int = 768  # channels of a token
    depth: int = 12  # blocks
    heads: int = 12  # of the attention
    size: Size = Size(192, 256)  # px: the input whose patches have a learnt position each


SPECS = {
    "vitpose_small": ViTPoseSpec(384, 12, 12),
    "vitpose_base": ViTPoseSpec(768, 12, 12),
    "vitpose_large": ViTPoseSpec(1024, 24, 16),
    "vitpose_huge": ViTPoseSpec(1280, 32, 16),
}
EXAMPLES = ("vitpose_small",)


def names() -> list[str]:
    """Lists the names of all members."""
    return list(SPECS)


def matches(name: str) -> bool:
    """Says whether the family has a backbone of this name."""
    return name in SPECS


def build(name: str, pretrained: Pretrained = "here") -> ViTPose:
    """Builds a member by name, random: weights come from a file (`--init`)."""
    _untrained.announce(name, pretrained)
    return ViTPose(SPECS[name])


class ViTPose(Backbone):
    """Turns [b, 3, h, w] into one map at 1/16. Sides must be multiples of 16; positions are resized to other inputs
    than the one they were learnt for."""

    def __init__(self, spec: ViTPoseSpec) -> None:
        super().__init__()
        self.spec = spec
        self.grid = Size(spec.size.w // PATCH, spec.size.h // PATCH)
        # The first entry belonged to the class token of the pretraining; it is added to every patch.
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.grid.w * self.grid.h, spec.width))
        self.patch_embed = PatchEmbedding(spec.width)
        self.blocks = nn.ModuleList(Block(spec.width, spec.heads) for _ in range(spec.depth))
        self.last_norm = nn.LayerNorm(spec.width, eps=1e-6)
        self.levels = (Level(spec.width, PATCH),)
        self.main = 0
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, image: Tensor) -> list[Tensor]:
        size = Size(image.shape[-1], image.shape[-2])
        if size.w % PATCH or size.h % PATCH:
            fits = Size(*(max(1, round(side / PATCH)) * PATCH for side in size))
            raise UserError(f"size {size}: ViTPose needs multiples of {PATCH}, such as {fits}")
        patches = self.patch_embed(image)
        grid = Size(patches.shape[-1], patches.shape[-2])
        tokens = patches.flatten(2).mT + self._positions(grid) + self.pos_embed[:, :1]
        for block in self.blocks:
            tokens = block(tokens)
        return [self.last_norm(tokens).mT.unflatten(-1, (grid.h, grid.w))]

    def _positions(self, grid: Size) -> Tensor:
        """One vector a patch [1, h * w, c]."""
        own = self.pos_embed[:, 1:]
        if grid == self.grid:
            return own
        maps = own.mT.unflatten(-1, (self.grid.h, self.grid.w))
        return functional.interpolate(maps, size=(grid.h, grid.w), mode="bicubic", align_corners=False).flatten(2).mT


class PatchEmbedding(nn.Module):
    """Gives a vector a patch: a convolution whose windows do not overlap."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, stride=PATCH, padding=PADDING)

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(image)


class Block(nn.Module):
    """Lets tokens look at each other, then each is changed on its own; both normalised before and added after."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Perceptron(width)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class Attention(nn.Module):
    """Is softmax attention in `heads` parts (Vaswani et al., NeurIPS 2017, eq. 1)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        parts = self.qkv(tokens).chunk(3, -1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)  # b heads n d
        seen = functional.scaled_dot_product_attention(query, key, value)
        return self.proj(seen.transpose(1, 2).flatten(2))


class Perceptron(nn.Module):
    """Is two layers, four times as wide between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(tokens)))
