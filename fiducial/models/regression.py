"""What methods that regress coordinates share: pooled features to numbers, and losses on shares of the image."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fiducial import geometry
from fiducial.geometry import Size
from fiducial.models import losses

CoordinateLoss = Literal["smooth_l1", "l1", "mse", "wing", "soft_wing", "euclidean"]


class PooledLinear(nn.Linear):
    """Pools a map and turns it into `numbers` a point by a linear layer, in float32 whatever the network runs in
    (in bf16 coordinates beyond the middle of the image would be 1/256 of it apart)."""

    def __init__(self, channels: int, points: int, numbers: int, dropout: float = 0.0) -> None:
        super().__init__(channels, points * numbers)
        self.points, self.numbers = points, numbers
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.weight, std=0.01)
        nn.init.zeros_(self.bias)

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k n"]:  # noqa: A002 - torch's name
        pooled = self.dropout(input.mean((-2, -1)))
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(pooled.to(self.weight.dtype)).unflatten(-1, (self.points, self.numbers))


def coordinate_loss(
    kind: CoordinateLoss,
    predicted: Float[Tensor, "b k 2"],
    target: Float[Tensor, "b k 2"],
    size: Size,
    beta_unit: float = 0.01,
) -> Float[Tensor, "b k"]:
    """Computes a loss of each point, for points in unit: shares of the image's sides. The wing losses, whose constants
    are meant for px, see px of the input."""
    if kind == "smooth_l1":
        return losses.smooth_l1(predicted, target, beta=beta_unit)
    if kind in ("wing", "soft_wing"):
        of_px = losses.wing if kind == "wing" else losses.soft_wing
        return of_px(geometry.spread_to_px(predicted, size), geometry.spread_to_px(target, size))
    return {"l1": losses.l1, "mse": losses.mse, "euclidean": losses.euclidean}[kind](predicted, target)
