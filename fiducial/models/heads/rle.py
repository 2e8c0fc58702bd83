"""Method `rle`: coordinates by regression under a learnt likelihood (Li et al., ICCV 2021;
`models/normalizing_flow.py`).

The network of `deeppose` with two more numbers a point: how far x and y may be off. At equal cost it is more exact,
and it says how sure it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fiducial import geometry
from fiducial.errors import expect
from fiducial.geometry import Frame, Size
from fiducial.models import contracts, flipping, normalizing_flow, regression
from fiducial.models.contracts import Level
from fiducial.types import Batch, Keypoints


@dataclass(frozen=True)
class Spec:
    """Holds the choices of the method."""

    base: normalizing_flow.Base = "laplace"  # density that the flow refines
    residual: bool = True  # False: the flow alone has to be the density
    dropout: float = 0.0  # of the pooled features
    frame: Frame = "unit"  # of the outputs; share where weights of MMPose are used

    def __post_init__(self) -> None:
        expect(0 <= self.dropout < 1, "head.dropout", self.dropout, "a share of at least 0 and less than 1")


class Raw(NamedTuple):
    """Holds points as shares of the image, and the logit of their scale in the same unit."""

    xy_frame: Float[Tensor, "b k 2"]
    scale_logit: Float[Tensor, "b k 2"]


class Head(contracts.Head):
    """Regresses points and the scale of their errors, which are the raw."""

    training_only = ("likelihood.flow",)

    def __init__(self, spec: Spec, level: Level, points: int, size: Size) -> None:
        super().__init__()
        self.spec, self.size = spec, size
        self.linear = regression.PooledLinear(level.channels, points, 4, spec.dropout)
        start = normalizing_flow.first_scale_logit()
        self.linear.bias.data = torch.tensor([0.5, 0.5, start, start]).repeat(points)
        self.likelihood = normalizing_flow.Likelihood(spec.base, spec.residual)

    def forward(self, feature: Float[Tensor, "b c h w"]) -> Raw:
        return Raw(*self.linear(feature).split(2, -1))

    def encode(self, batch: Batch) -> Raw:
        """Gives the true points, each as sure as a good network is."""
        xy_frame = geometry.px_to_frame(batch.xy, self.size, self.spec.frame)
        return Raw(xy_frame, self.likelihood.perfect(xy_frame))

    def decode(self, raw: Raw) -> Keypoints:
        """Reads the points. sigma: standard deviation that is expected of x and y, px. score: 1 less its mean share of
        the image."""
        sigma = geometry.spread_to_px(self.spread(raw), self.size)
        xy = geometry.frame_to_px(raw.xy_frame, self.size, self.spec.frame)
        return Keypoints(xy, self.likelihood.score(raw.scale_logit), sigma)

    def spread(self, raw: Raw) -> Float[Tensor, "b k 2"]:
        """Gives the standard deviation that is learnt with the points."""
        return self.likelihood.deviation(raw.scale_logit)

    def loss(self, raw: Raw, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        target = geometry.px_to_frame(batch.xy, self.size, self.spec.frame)
        return {"rle": self.likelihood.loss(raw.xy_frame, raw.scale_logit, target, batch.labelled)}

    def unflip(self, raw: Raw, flip_order: Int[Tensor, " k"]) -> Raw:
        mirrored = flipping.unflip_coordinates(raw.xy_frame, flip_order, self.size, self.spec.frame)
        return Raw(mirrored, raw.scale_logit[:, flip_order])
