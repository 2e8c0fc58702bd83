"""Method `simcc`: x and y each as a choice between bins finer than a pixel (SimCC: Li et al., ECCV 2022).

The targets are smoothed to Gaussians over the bins and the loss is the Kullback-Leibler divergence. Networks: `plain`,
a map a point and a linear layer for each axis; `rtmcc`, RTMPose's, in which the points look at each other (Jiang et
al., 2023); `rtmw`, RTMW's, which does so on two maps and stands on `cspnext_m_pyramid` and its like (2024)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fiducial import geometry
from fiducial.errors import expect
from fiducial.geometry import Align, Size
from fiducial.models import axes, contracts, flipping, losses, resizing, upsampling
from fiducial.models.contracts import Level
from fiducial.models.heads._rtmcc import RTMCC, RTMW
from fiducial.models.resizing import Cells
from fiducial.types import Batch, Keypoints

MOST_BINS = 1 << 14


@dataclass(frozen=True)
class Spec:
    """Holds the choices of the method."""

    network: Literal["plain", "rtmcc", "rtmw"] = "plain"
    split: float = 2.0  # bins a px
    # Width of the targets at `split` 2 for an input of 192x256 is (4.9, 5.66) bins; None = the root of an eighth of
    # the side in px, which gives these, times split / 2.
    sigma_bins: tuple[float, float] | None = None
    # soft = mean position; square = the same under the bins' squares, in which a second, lower peak weighs little
    decoder: Literal["argmax", "soft", "square"] = "square"
    beta: float = 1.0  # logits are multiplied by it in the loss and when they are read (RTMPose: 10)
    kernel: int = 1  # of the convolution that makes a map a point (RTMPose: 7)
    hidden: int = 256  # rtmcc, rtmw: width of a point's features
    align: Align = "edge"  # stride where weights of MMPose are used

    def __post_init__(self) -> None:
        upsampling.check(1, None, self.kernel)
        expect(self.hidden >= 1, "head.hidden", self.hidden, "at least 1")
        for name in ("split", "beta"):
            expect(getattr(self, name) > 0, f"head.{name}", getattr(self, name), "more than 0")
        if self.sigma_bins is not None:
            expect(min(self.sigma_bins) > 0, "head.sigma_bins", self.sigma_bins, "widths along x and y, more than 0")


class Raw(NamedTuple):
    """Holds the logits of the bins along each axis."""

    x: Float[Tensor, "b k bins_x"]
    y: Float[Tensor, "b k bins_y"]


class Head(contracts.Head):
    """Chooses a bin along each axis. raw: logits of the bins."""

    def __init__(self, spec: Spec, level: Level, points: int, size: Size) -> None:
        super().__init__()
        self.spec, self.size = spec, size
        self.bins = Size(round(size.w * spec.split), round(size.h * spec.split))
        few, many = min(self.bins), max(self.bins)
        expect(
            few >= 2 and many <= MOST_BINS, "head.split", spec.split, f"2 to {MOST_BINS} bins a side, not {self.bins}"
        )
        self.sigma_bins = spec.sigma_bins or tuple((side / 8) ** 0.5 * spec.split / 2 for side in size)
        cells = upsampling.build("none", level, size, channels=level.channels, stride=None, least_cells=1).grid
        if spec.network != "plain":
            self.network: nn.Module = (RTMCC if spec.network == "rtmcc" else RTMW)(
                level.channels, points, size, cells, kernel=spec.kernel, hidden=spec.hidden, split=spec.split
            )
        else:
            self.network = Plain(level.channels, points, cells, self.bins, spec.kernel)

    def forward(self, feature: Float[Tensor, "b c h w"]) -> Raw:
        return Raw(*self.network(feature))

    def encode(self, batch: Batch) -> Raw:
        """Gives the logits of Gaussians around the points."""
        return Raw(*((target.clamp_min(1e-30).log() / self.spec.beta) for target in self._targets(batch)))

    def decode(self, raw: Raw) -> Keypoints:
        """Reads the points. score: the probability near the point, within two widths of the target; of the two axes the
        lesser."""
        probability = [(logits * self.spec.beta).softmax(-1) for logits in raw]
        xy_bins = self._read(probability)
        scores = [
            axes.mass_near(along, xy_bins[..., axis], axes.reach(self.sigma_bins[axis]))
            for axis, along in enumerate(probability)
        ]
        xy = geometry.grid_to_px(xy_bins, self.size, self.bins, self.spec.align)
        return Keypoints(xy, torch.minimum(*scores).clamp(0, 1))

    def loss(self, raw: Raw, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        xy_bins = geometry.px_to_grid(batch.xy, self.size, self.bins, self.spec.align)
        weight = batch.labelled * geometry.inside(xy_bins, self.bins)
        each = [
            losses.vector_kl(logits, target, beta=self.spec.beta)
            for logits, target in zip(raw, self._targets(batch), strict=True)
        ]
        return {"kl": losses.weighted_mean(each[0] + each[1], weight)}

    def unflip(self, raw: Raw, flip_order: Int[Tensor, " k"]) -> Raw:
        shift_bins = 1 - round(self.spec.split) if self.spec.align == "stride" else 0
        return Raw(*flipping.unflip_vectors(raw.x, raw.y, flip_order, shift_bins))

    def spread(self, raw: Raw) -> Float[Tensor, "b k 2"]:
        """Computes the standard deviation over the bins of each axis."""
        along = [axes.deviation((logits * self.spec.beta).softmax(-1)) / logits.shape[-1] for logits in raw]
        return torch.stack(along, -1)

    def correlation(self, raw: Raw) -> None:
        """Tells nothing: the axes' choices are made apart."""
        return

    def distribution(self, raw: Raw) -> Float[Tensor, "b k h w"]:
        """Multiplies the axes' softmaxes, each brought from its bins onto the input's own cells of 4 px."""
        bins = Cells(self.size, self.bins, self.spec.align)
        cells = Cells(self.size, Size(*(max(1, side // 4) for side in self.size)), self.align)
        along_x, along_y = (
            resizing.resized_axis((logits * self.spec.beta).softmax(-1), bins, cells, axis)
            for axis, logits in enumerate(raw)
        )
        return along_y[..., :, None] * along_x[..., None, :]

    def heatmaps(self, raw: Raw) -> Float[Tensor, "b k h w"]:
        """Shows what the two axes say together, on the input's own cells of 4 px, peak 1."""
        along_x, along_y = (
            torch.nn.functional.adaptive_max_pool1d((logits * self.spec.beta).softmax(-1), max(1, side // 4))
            for logits, side in zip(raw, self.size, strict=True)
        )
        maps = along_y[..., :, None] * along_x[..., None, :]
        return maps / maps.amax((-2, -1), keepdim=True).clamp_min(1e-12)

    def _targets(self, batch: Batch) -> tuple[Float[Tensor, "b k bins_x"], Float[Tensor, "b k bins_y"]]:
        """Draws Gaussians over the bins that sum to one, also of points outside, which the loss leaves out."""
        xy_bins = geometry.px_to_grid(batch.xy, self.size, self.bins, self.spec.align)
        along_x, along_y = (
            axes.gaussian(xy_bins[..., axis], self.bins[axis], self.sigma_bins[axis]) for axis in (0, 1)
        )
        return along_x, along_y

    def _read(self, probability: Sequence[Float[Tensor, "b k _"]]) -> Float[Tensor, "b k 2"]:
        """Reads the positions along x and y, in bins."""
        if self.spec.decoder == "argmax":
            return torch.stack([along.argmax(-1).to(along.dtype) for along in probability], -1)
        power = 2 if self.spec.decoder == "square" else 1
        mean = torch.stack([axes.mean(axes.squared(along) if power == 2 else along) for along in probability], -1)
        return axes.untruncated(mean, self.bins, self.sigma_bins, power=power)


class Plain(nn.Module):
    """Gives a map a point by a convolution, and turns it by two linear layers into the bins of the axes."""

    def __init__(self, channels: int, points: int, cells: Size, bins: Size, kernel: int) -> None:
        super().__init__()
        self.final = upsampling.final(channels, points, kernel)
        nn.init.kaiming_normal_(self.final.weight, mode="fan_in")
        self.linear_x = nn.Linear(cells.w * cells.h, bins.w)
        self.linear_y = nn.Linear(cells.w * cells.h, bins.h)

    def forward(
        self, feature: Float[Tensor, "b c h w"]
    ) -> tuple[Float[Tensor, "b k bins_x"], Float[Tensor, "b k bins_y"]]:
        maps = self.final(feature).flatten(2)
        return self.linear_x(maps), self.linear_y(maps)
