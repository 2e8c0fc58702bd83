"""The adversary that the generator may be trained against, with its losses: it judges patches of an image, and whether they
fit the points, at several scales (First order motion model, Siarohin et al., NeurIPS 2019, and its published code;
losses: LSGAN, Mao et al., ICCV 2017; feature matching: pix2pixHD, Wang et al., CVPR 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from fiducial.errors import UserError, expect
from fiducial.motion import grids

_CUT = 3  # cells that a convolution 4x4 without padding takes from a side


@dataclass(frozen=True)
class DiscriminatorSpec:
    """Chooses the network; the defaults are the published ones."""

    width: int = 32  # half of the first block's channels; each block doubles them
    widest: int = 512  # no block is wider
    blocks: int = 4
    scales: int = 1  # levels of the pyramid that are judged, the finest first, each by a network of its own
    conditioned: bool = True  # whether it sees where the driving points are
    variance: float = 0.01  # of the points' Gaussians, in xy_corner
    spectral: bool = True  # spectral normalisation of the convolutions (Miyato et al., ICLR 2018)

    def __post_init__(self) -> None:
        for name in ("width", "widest", "blocks", "scales"):
            expect(getattr(self, name) >= 1, f"discriminator.{name}", getattr(self, name), "at least 1")
        expect(self.variance > 0, "discriminator.variance", self.variance, "more than 0")


class Judgement(NamedTuple):
    """Holds what is said of an image at one scale."""

    features: tuple[Float[Tensor, "b _ _ _"], ...]  # what each block made of the image
    score: Float[Tensor, "b 1 _ _"]  # of each patch; 1 = real, 0 = generated


class Discriminator(nn.Module):
    """Judges the levels of an image's pyramid, from the finest on, given the points of the driving image.

    It does not teach the points: they would learn to be where it is easily fooled. For the adversary's own loss, detach the
    generated images."""

    def __init__(self, spec: DiscriminatorSpec, points: int, channels: int = 3) -> None:
        super().__init__()
        self.spec = spec
        inputs = channels + (points if spec.conditioned else 0)
        self.scales = nn.ModuleList(Patches(spec, inputs) for _ in range(spec.scales))

    def forward(
        self, pyramid: Sequence[Float[Tensor, "b c _ _"]], xy_corner: Float[Tensor, "b k 2"]
    ) -> list[Judgement]:
        """Gives a judgement for each scale; UserError where the pyramid has fewer levels."""
        if len(pyramid) < self.spec.scales:
            raise UserError(f"discriminator.scales={self.spec.scales}: expected at most {len(pyramid)}, the pyramid's")
        return [network(self._seen(level, xy_corner)) for network, level in zip(self.scales, pyramid, strict=False)]

    def _seen(self, level: Float[Tensor, "b c h w"], xy_corner: Float[Tensor, "b k 2"]) -> Float[Tensor, "b _ h w"]:
        if not self.spec.conditioned:
            return level
        heat = grids.gaussians(xy_corner.detach(), grids.size_of(level), self.spec.variance)
        return torch.cat([level, heat], 1)


class Patches(nn.Module):
    """Judges one scale: blocks of a convolution 4x4, instance norm, leaky ReLU and pooling, then a score."""

    def __init__(self, spec: DiscriminatorSpec, inputs: int) -> None:
        super().__init__()
        widths = [min(spec.widest, spec.width << (i + 1)) for i in range(spec.blocks)]
        pairs = zip([inputs, *widths], widths, strict=False)
        self.convolutions = nn.ModuleList(_convolution(before, after, 4, spec.spectral) for before, after in pairs)
        # The first block sees the colours themselves, not only their contrast.
        self.norms = nn.ModuleList([nn.Identity(), *(nn.InstanceNorm2d(width, affine=True) for width in widths[1:])])
        self.score = _convolution(widths[-1], 1, 1, spec.spectral)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Judgement:
        _check_side(min(x.shape[-2:]), len(self.norms))
        features: list[Tensor] = []
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            # Halved between the blocks, not after the last one.
            x = F.avg_pool2d(x, 2) if features else x
            x = F.leaky_relu(norm(convolution(x)), 0.2)
            features.append(x)
        return Judgement(tuple(features), self.score(x))


def discriminator_loss(real: Sequence[Judgement], generated: Sequence[Judgement]) -> Float[Tensor, ""]:
    """Adds up, over the scales, the means of (1 - score)^2 of real patches and score^2 of generated ones: teaches the
    adversary."""
    pairs = zip(real, generated, strict=True)
    return torch.stack(
        [((1 - of_real.score) ** 2).mean() + (of_generated.score**2).mean() for of_real, of_generated in pairs]
    ).sum()


def adversarial_loss(generated: Sequence[Judgement]) -> Float[Tensor, ""]:
    """Adds up, over the scales, the mean of (1 - score)^2 of generated patches: teaches the generator."""
    return torch.stack([((1 - of_generated.score) ** 2).mean() for of_generated in generated]).sum()


def feature_matching_loss(real: Sequence[Judgement], generated: Sequence[Judgement]) -> Float[Tensor, ""]:
    """Adds up, over blocks and scales, the mean absolute difference of the features; the real image's are the target."""
    pairs = [
        (target.detach(), feature)
        for of_real, of_generated in zip(real, generated, strict=True)
        for target, feature in zip(of_real.features, of_generated.features, strict=True)
    ]
    return torch.stack([(target - feature).abs().mean() for target, feature in pairs]).sum()


def _convolution(inputs: int, outputs: int, kernel: int, spectral: bool) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, kernel)
    return parametrizations.spectral_norm(convolution) if spectral else convolution


def _check_side(side: int, blocks: int) -> None:
    """The last instance norm needs two cells."""
    least = 2 + _CUT
    for _ in range(blocks - 1):
        least = 2 * least + _CUT
    if side < least:
        raise UserError(
            f"an image of {side} px a side: {blocks} blocks of the discriminator need {least}; use fewer "
            "discriminator.blocks or discriminator.scales"
        )
