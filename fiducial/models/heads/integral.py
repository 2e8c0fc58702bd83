"""Method `integral`: the mean position under a map, trained by the error of the mean itself (Sun et al., "Integral
human pose regression", ECCV 2018), at about regression's price.

A regulariser may shape the map (DSNT: Nibali et al., 2018); `debias` takes out the pull of the map's background towards
its centre (Gu et al., ICCV 2021); `loss=rle` learns the likelihood of the error too (Li et al., ICCV 2021). All of them
can be combined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fiducial import geometry
from fiducial.errors import expect
from fiducial.geometry import Size
from fiducial.models import (
    axes,
    contracts,
    flipping,
    heatmaps,
    integral,
    losses,
    normalizing_flow,
    regression,
    rounding,
    upsampling,
)
from fiducial.models.contracts import Level
from fiducial.models.upsampling import Upsampling
from fiducial.types import Batch, Keypoints


@dataclass(frozen=True)
class Spec:
    """Holds the choices of the method."""

    upsampling: Upsampling = "separable"  # none: the maps are a 1x1 convolution of the backbone's own
    channels: int = 128  # width of the upsampling part
    stride: int | None = None  # px a cell; None = 4, or the backbone's own where that is finer or nothing is enlarged
    sharpness: float = (
        1.0  # logits are this times the network's output (16 where IPR, RLE and DSNT are combined on MobileNetV3)
    )
    debias: Literal["none", "background"] = "none"  # background = mean of the map less its background
    loss: Literal["smooth_l1", "l1", "euclidean", "rle"] = "l1"  # rle learns a scale of the error, for sigma and score
    beta_unit: float = 0.01  # smooth_l1 is quadratic below this error, as a share of the input's side
    dsnt: Literal["none", "js", "kl", "variance"] = "none"  # what keeps the map a peak
    dsnt_weight: float = 1.0
    sigma_cells: float = 1.0  # width of that peak

    def __post_init__(self) -> None:
        upsampling.check(self.channels, self.stride)
        for name in ("sharpness", "sigma_cells", "beta_unit"):
            expect(getattr(self, name) > 0, f"head.{name}", getattr(self, name), "more than 0")
        expect(self.dsnt_weight >= 0, "head.dsnt_weight", self.dsnt_weight, "0 or more")


class Raw(NamedTuple):
    """Holds maps, and the logit of each coordinate's scale (of length 0 where the method learns none)."""

    logits: Float[Tensor, "b k h w"]
    scale_logit: Float[Tensor, "b k s"]


class Head(contracts.Head):
    """Gives the mean of a map. raw: logits of the cells, and of the scales."""

    training_only = ("likelihood.flow",)

    def __init__(self, spec: Spec, level: Level, points: int, size: Size) -> None:
        super().__init__()
        self.spec, self.size = spec, size
        self.upsample, channels, self.grid = upsampling.build(
            spec.upsampling, level, size, channels=spec.channels, stride=spec.stride
        )
        self.final = upsampling.final(channels, points)
        self.scale: regression.PooledLinear | None = None
        self.likelihood: normalizing_flow.Likelihood | None = None
        if spec.loss == "rle":
            self.scale = regression.PooledLinear(level.channels, points, 2)
            torch.nn.init.constant_(self.scale.bias, normalizing_flow.first_scale_logit())
            self.likelihood = normalizing_flow.Likelihood()

    def forward(self, feature: Float[Tensor, "b c _ _"]) -> Raw:
        logits = self.final(self.upsample(feature)) * self.spec.sharpness
        return Raw(logits, logits.new_zeros(*logits.shape[:2], 0) if self.scale is None else self.scale(feature))

    def encode(self, batch: Batch) -> Raw:
        """Draws maps of the four cells around each point, whose mean is exactly the point; points beyond the outermost
        cells' centres are drawn on them, since no map has its mean there."""
        last = batch.xy.new_tensor([self.grid.w - 1, self.grid.h - 1])
        xy_grid = geometry.px_to_grid(batch.xy, self.size, self.grid).clamp_min(0).minimum(last)
        # 10 above: `debias` measures the peak against logits of 0.
        logits = rounding.splat(xy_grid, self.grid).clamp_min(1e-30).log() + 10
        return Raw(logits, batch.xy[..., :0] if self.likelihood is None else self.likelihood.perfect(batch.xy))

    def decode(self, raw: Raw) -> Keypoints:
        """Reads the points. score: the probability near the point, or as in `rle` where a scale is learnt; sigma, px,
        is there then."""
        xy_grid = self._mean(raw.logits)
        xy = geometry.grid_to_px(xy_grid, self.size, self.grid)
        if self.likelihood is None:
            near = axes.reach(self.spec.sigma_cells)
            score = heatmaps.mass_near(heatmaps.spatial_softmax(raw.logits), xy_grid, near)
            return Keypoints(xy, score.clamp(0, 1))
        sigma = geometry.spread_to_px(self.likelihood.deviation(raw.scale_logit), self.size)
        return Keypoints(xy, self.likelihood.score(raw.scale_logit), sigma)

    def spread(self, raw: Raw) -> Float[Tensor, "b k 2"] | None:
        """Gives the standard deviation that is learnt with the points, else that of the map."""
        return super().spread(raw) if self.likelihood is None else self.likelihood.deviation(raw.scale_logit)

    def correlation(self, raw: Raw) -> Float[Tensor, "b k"] | None:
        """Gives that of the map, unless the deviations are learnt with the points, along x and y each."""
        return super().correlation(raw) if self.likelihood is None else None

    def loss(self, raw: Raw, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        xy_grid = self._mean(raw.logits)
        found = geometry.px_to_unit(xy_grid, self.grid)
        target = geometry.px_to_unit(batch.xy, self.size)
        if self.likelihood is not None:
            named = {"rle": self.likelihood.loss(found, raw.scale_logit, target, batch.labelled)}
        else:
            kind = self.spec.loss
            assert kind != "rle"
            each = regression.coordinate_loss(kind, found, target, self.size, self.spec.beta_unit)
            named = {kind: losses.weighted_mean(each, batch.labelled)}
        if self.spec.dsnt != "none":
            target_grid = geometry.unit_to_px(target, self.grid)
            shape = self._shape_loss(heatmaps.spatial_softmax(raw.logits), target_grid)
            weight = batch.labelled * geometry.inside(target_grid, self.grid)
            named[self.spec.dsnt] = self.spec.dsnt_weight * losses.weighted_mean(shape, weight)
        return named

    def unflip(self, raw: Raw, flip_order: Int[Tensor, " k"]) -> Raw:
        return Raw(flipping.unflip_maps(raw.logits, flip_order), raw.scale_logit[:, flip_order])

    def distribution(self, raw: Raw) -> Float[Tensor, "b k h w"]:
        """Computes the softmax whose mean is the point, before any `debias`."""
        return heatmaps.spatial_softmax(raw.logits)

    def _mean(self, logits: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k 2"]:
        """Computes xy_grid of each map. The background is its lowest cell's, so that no cell counts for less than
        nothing."""
        if self.spec.debias == "background":
            return integral.background_free_expectation(logits - logits.amin((-2, -1), keepdim=True))
        return heatmaps.expectation(heatmaps.spatial_softmax(logits))

    def _shape_loss(
        self, probability: Float[Tensor, "b k h w"], target_grid: Float[Tensor, "b k 2"]
    ) -> Float[Tensor, "b k"]:
        """Measures how far each map is from a Gaussian peak at its target; of `variance`, from its width alone."""
        if self.spec.dsnt == "variance":
            return losses.variance(probability, self.spec.sigma_cells)
        gaussian = heatmaps.normalised(heatmaps.draw_gaussians(target_grid, self.grid, self.spec.sigma_cells))
        return (losses.js if self.spec.dsnt == "js" else losses.kl)(probability, gaussian)
