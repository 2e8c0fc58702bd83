"""Images made smaller by a whole factor without aliasing, as the First-Order-Motion model has it (Siarohin et al.,
NeurIPS 2019): a Gaussian blur, then every `factor`-th pixel from the first on."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class AntiAlias(nn.Module):
    """Reduces [b, c, h, w] to [b, c, ceil(h / factor), ceil(w / factor)].

    Pixel i of the result is around px i x factor (`Align` stride): it is *not* the mean of the cell that it covers.
    Outside of the image is black, so borders darken. A Gaussian is the product of two rows of taps, so there are two
    convolutions, along x and along y, each of which computes only what is kept."""

    taps: Float[Tensor, "c 1 1 side"]

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self.channels, self.factor = channels, factor
        # Computed, not learnt: not a part of files.
        self.register_buffer("taps", taps(factor).expand(channels, 1, 1, -1).contiguous(), persistent=False)

    def forward(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c _ _"]:
        if self.factor == 1:
            return image
        if torch.is_autocast_enabled(image.device.type):
            # An image has as many bits as bf16 has for a number, and depthwise convolutions gain nothing by it.
            with torch.autocast(image.device.type, enabled=False):
                return self(image.float())
        reach = self.taps.shape[-1] // 2
        image = F.conv2d(image, self.taps, stride=(1, self.factor), padding=(0, reach), groups=self.channels)
        return F.conv2d(image, self.taps.mT, stride=(self.factor, 1), padding=(reach, 0), groups=self.channels)


def taps(factor: int) -> Float[Tensor, " side"]:
    """Makes a Gaussian of standard deviation (factor - 1) / 2 px, of 2 round(4 sigma) + 1 taps that sum to one."""
    sigma_px = (factor - 1) / 2
    if sigma_px == 0:
        return torch.ones(1)
    reach = round(4 * sigma_px)
    weights = torch.exp(-(torch.arange(-reach, reach + 1, dtype=torch.float32) ** 2) / (2 * sigma_px**2))
    return weights / weights.sum()
