"""Method `deeppose`: coordinates by regression (Toshev & Szegedy, CVPR 2014; on MobileNetV3 as in article C).

Global average pooling, one linear layer, Smooth-L1 on `xy_unit`. The cheapest head there is; it has no score."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from fiducial import geometry
from fiducial.geometry import Size
from fiducial.models import contracts
from fiducial.models.contracts import Level
from fiducial.types import Batch, Keypoints


@dataclass(frozen=True)
class Spec:
    """Choices of the method."""

    beta_unit: float = 0.01  # Smooth-L1 is quadratic below this error, as a share of the input's side
    dropout: float = 0.0  # of the pooled features


class Head(contracts.Head):
    """raw: `xy_unit`, outer edges of the input at 0 and 1; not bounded."""

    def __init__(self, spec: Spec, level: Level, points: int, size: Size) -> None:
        super().__init__()
        self.spec, self.size, self.points = spec, size, points
        self.dropout = nn.Dropout(spec.dropout)
        self.linear = nn.Linear(level.channels, points * 2)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.constant_(self.linear.bias, 0.5)  # the middle of the picture

    def forward(self, feature: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k 2"]:
        pooled = self.dropout(feature.mean((-2, -1)))
        # Coordinates come in float32, whatever the network runs in: in bf16 those beyond the middle are 1/256 apart.
        with torch.autocast(feature.device.type, enabled=False):
            return self.linear(pooled.to(self.linear.weight.dtype)).unflatten(-1, (self.points, 2))

    def encode(self, batch: Batch) -> Float[Tensor, "b k 2"]:
        return geometry.px_to_unit(batch.xy, self.size)

    def decode(self, raw: Float[Tensor, "b k 2"]) -> Keypoints:
        """score is 1 everywhere: the method does not say how sure it is."""
        return Keypoints(geometry.unit_to_px(raw, self.size), torch.ones_like(raw[..., 0]))

    def loss(self, raw: Float[Tensor, "b k 2"], batch: Batch) -> dict[str, Float[Tensor, ""]]:
        each = F.smooth_l1_loss(raw, self.encode(batch), beta=self.spec.beta_unit, reduction="none").sum(-1)
        return {"smooth_l1": (each * batch.labelled).sum() / batch.labelled.sum().clamp_min(1)}

    def unflip(self, raw: Float[Tensor, "b k 2"], flip_order: Int[Tensor, " k"]) -> Float[Tensor, "b k 2"]:
        return geometry.mirror_unit(raw[:, flip_order])
