"""Images made smaller by a whole factor without aliasing, as the First-Order-Motion model has it (Siarohin et al.,
NeurIPS 2019): a Gaussian blur, then every `factor`-th pixel from the first on."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class AntiAlias(nn.Module):
    """[b, c, h, w] -> [b, c, ceil(h / factor), ceil(w / factor)].

    Pixel i of the result is around px i x factor (`Align` stride): it is *not* the mean of the cell that it covers.
    Outside of the image is black, so borders darken. One strided convolution: the blur is computed only where it is
    kept, 1 / factor^2 of it, with equal numbers."""

    weight: Float[Tensor, "c 1 side side"]

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self.channels, self.factor = channels, factor
        # Computed, not learnt: not a part of files.
        self.register_buffer("weight", kernel(factor).expand(channels, 1, -1, -1).contiguous(), persistent=False)

    def forward(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c _ _"]:
        if self.factor == 1:
            return image
        return F.conv2d(
            image, self.weight, stride=self.factor, padding=self.weight.shape[-1] // 2, groups=self.channels
        )


def kernel(factor: int) -> Float[Tensor, "1 1 side side"]:
    """A Gaussian of standard deviation (factor - 1) / 2 px, of 2 round(4 sigma) + 1 taps a side, that sums to one."""
    sigma_px = (factor - 1) / 2
    if sigma_px == 0:
        return torch.ones(1, 1, 1, 1)
    reach = round(4 * sigma_px)
    taps = torch.exp(-(torch.arange(-reach, reach + 1, dtype=torch.float32) ** 2) / (2 * sigma_px**2))
    square = taps[:, None] * taps[None, :]
    return (square / square.sum())[None, None]
