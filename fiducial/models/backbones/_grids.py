"""Maps on a grid of half or twice the cells a side, of any size, for networks that go down and up again."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F


def halved(x: Tensor) -> Tensor:
    """Averages 2x2 cells; of an odd side the last cell stands alone."""
    options: dict[str, Any] = {}
    if x.shape[-1] % 2 or x.shape[-2] % 2:
        options = {"ceil_mode": True, "count_include_pad": False}
    return F.avg_pool2d(x, 2, **options)


def doubled(x: Tensor, like: Tensor) -> Tensor:
    """Repeats each cell four times, on the grid of `like`."""
    return F.interpolate(x, size=like.shape[-2:], mode="nearest")
