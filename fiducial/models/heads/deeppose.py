"""Method `deeppose`: coordinates by regression (Toshev & Szegedy, CVPR 2014).

Global average pooling and one linear layer. The cheapest head there is; it has no score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fiducial import geometry
from fiducial.errors import expect
from fiducial.geometry import Frame, Size
from fiducial.models import contracts, flipping, losses, regression
from fiducial.models.contracts import Level
from fiducial.types import Batch, Keypoints


@dataclass(frozen=True)
class Spec:
    """Holds the choices of the method."""

    loss: Literal["smooth_l1", "l1", "mse", "wing", "soft_wing"] = "smooth_l1"
    beta_unit: float = 0.01  # smooth_l1 is quadratic below this error, as a share of the input's side
    dropout: float = 0.0  # of the pooled features
    frame: Frame = "unit"  # of the outputs; share where weights of MMPose are used

    def __post_init__(self) -> None:
        expect(0 <= self.dropout < 1, "head.dropout", self.dropout, "a share of at least 0 and less than 1")
        expect(self.beta_unit > 0, "head.beta_unit", self.beta_unit, "more than 0")


class Head(contracts.Head):
    """Regresses coordinates. raw: shares of the input's sides in the spec's frame; not bounded."""

    def __init__(self, spec: Spec, level: Level, points: int, size: Size) -> None:
        super().__init__()
        self.spec, self.size = spec, size
        self.linear = regression.PooledLinear(level.channels, points, 2, spec.dropout)
        torch.nn.init.constant_(self.linear.bias, 0.5)  # the middle of the image

    def forward(self, feature: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k 2"]:
        return self.linear(feature)

    def encode(self, batch: Batch) -> Float[Tensor, "b k 2"]:
        return geometry.px_to_frame(batch.xy, self.size, self.spec.frame)

    def decode(self, raw: Float[Tensor, "b k 2"]) -> Keypoints:
        """Reads the points; the score is 1 everywhere, since the method does not say how sure it is."""
        return Keypoints(geometry.frame_to_px(raw, self.size, self.spec.frame), torch.ones_like(raw[..., 0]))

    def loss(self, raw: Float[Tensor, "b k 2"], batch: Batch) -> dict[str, Float[Tensor, ""]]:
        kind = self.spec.loss
        each = regression.coordinate_loss(kind, raw, self.encode(batch), self.size, beta_unit=self.spec.beta_unit)
        return {kind: losses.weighted_mean(each, batch.labelled)}

    def unflip(self, raw: Float[Tensor, "b k 2"], flip_order: Int[Tensor, " k"]) -> Float[Tensor, "b k 2"]:
        return flipping.unflip_coordinates(raw, flip_order, self.size, self.spec.frame)
