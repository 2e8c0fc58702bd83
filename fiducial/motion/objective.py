"""Reconstruction of one frame from another through a few points, which can only succeed if the points follow what moves,
and equivariance: points of a warped picture are the warped points (Siarohin et al., NeurIPS 2019, section 3.3)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.func import functional_call

from fiducial.models.detector import Detector, full_precision
from fiducial.models.heads import motion
from fiducial.models.heads.motion import Frames
from fiducial.motion import discriminator as adversary
from fiducial.motion import perceptual, warps
from fiducial.motion.discriminator import Discriminator
from fiducial.motion.generator import Generated, Generator
from fiducial.motion.pairs import FramePairs
from fiducial.motion.perceptual import FeatureNetwork, Pyramid
from fiducial.motion.recipes import MotionSpec
from fiducial.motion.warps import Warp
from fiducial.training.objective import Objective


class Reconstruction(NamedTuple):
    """Holds what the system made of a batch, and what its losses need."""

    driving: Float[Tensor, "b 3 h w"]  # what was to be made, 0..1
    generated: Generated
    of_source: Frames
    of_driving: Frames
    of_warped: Frames  # of the driving frame, warped
    warp: Warp


class Motion(Objective):
    """Trains the detector and the generator, and the adversary where there is one, all in the same step.

    In the adversary's loss the generated images are detached, so that only the adversary learns from it; in the loss of
    detector and generator the adversary's weights are held fixed."""

    features: FeatureNetwork

    def __init__(
        self,
        detector: Detector,
        generator: Generator,
        features: FeatureNetwork,
        spec: MotionSpec,
        discriminator: Discriminator | None = None,
    ) -> None:
        super().__init__()
        self.detector, self.generator = detector, generator
        self.discriminator, self.spec = discriminator, spec
        object.__setattr__(self, "features", features)  # no submodule: its 50 MB are in no checkpoint
        self.pyramid = Pyramid(3, spec.scales)

    def forward(self, batch: FramePairs) -> dict[str, Float[Tensor, ""]]:
        reconstruction = self.reconstruct(batch, torch.Generator().manual_seed(int(torch.randint(2**31, ()))))
        with torch.autocast(batch.source.device.type, enabled=False):
            return self._losses(reconstruction)

    def reconstruct(self, batch: FramePairs, generator: torch.Generator) -> Reconstruction:
        """Makes the driving frames from the source frames; a still is to become a warped copy of itself. `generator` draws the
        warps."""
        source, driving = self._unit(batch.source), self._unit(batch.driving)
        if batch.still.any():
            moved = Warp.draw(len(source), self.spec.warp, generator, source.device).image(driving)
            driving = torch.where(batch.still[:, None, None, None], moved, driving)
        warp = Warp.draw(len(source), self.spec.warp, generator, source.device)
        # Together, as one batch is quicker than three.
        of_source, of_driving, of_warped = _thirds(self.frames(torch.cat([source, driving, warp.image(driving)])))
        return Reconstruction(
            driving, self.generator(source, of_source, of_driving), of_source, of_driving, of_warped, warp
        )

    def frames(self, image: Float[Tensor, "b 3 h w"]) -> Frames:
        """Finds points and local frames on images in 0..1, with gradients."""
        detector = self.detector
        normalised = (image * 255 - detector.mean) / detector.std
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            feature = detector.backbone(self._ordered(normalised))[detector.backbone.main]
        raw = full_precision(detector.head(feature))
        assert isinstance(detector.head, motion.Head)
        with torch.autocast(image.device.type, enabled=False):
            return detector.head.frames(raw)

    @torch.no_grad()
    def each(self, batch: FramePairs) -> Float[Tensor, " b"]:
        rows = [FramePairs(*(column[i : i + 1] for column in batch)) for i in range(len(batch.row))]
        return torch.stack([torch.stack(list(self(row).values())).sum() for row in rows])

    def _losses(self, reconstruction: Reconstruction) -> dict[str, Float[Tensor, ""]]:
        spec, prediction = self.spec, reconstruction.generated.prediction.float()
        generated, real = self.pyramid(prediction), self.pyramid(reconstruction.driving)
        weight = spec.perceptual_weight
        features = self.features.to(prediction.device)
        losses = {"perceptual": weight * perceptual.perceptual_loss(features, generated, real)}
        if features.pixel_weight:
            losses["pixels"] = weight * features.pixel_weight * perceptual.pixel_loss(generated, real)
        xy, warped = reconstruction.of_driving.xy_corner, reconstruction.of_warped.xy_corner
        losses["value"] = spec.value_weight * warps.value_loss(xy, warped, reconstruction.warp)
        if reconstruction.of_driving.jacobian is not None and reconstruction.of_warped.jacobian is not None:
            turned = warps.jacobian_loss(
                reconstruction.of_driving.jacobian, reconstruction.of_warped.jacobian, warped, reconstruction.warp
            )
            losses["jacobian"] = spec.jacobian_weight * turned
        if spec.separation_weight:
            losses["separation"] = spec.separation_weight * separation(xy)
        if self.discriminator is not None:
            losses |= self._adversarial(self.discriminator, generated, real, xy)
        return losses

    def _adversarial(
        self, network: Discriminator, generated: list[Tensor], real: list[Tensor], xy_corner: Float[Tensor, "b k 2"]
    ) -> dict[str, Float[Tensor, ""]]:
        spec = self.spec
        of_real = network(real, xy_corner)
        fixed = {name: value.detach() for name, value in (*network.named_parameters(), *network.named_buffers())}
        of_generated = functional_call(network, fixed, (generated, xy_corner))
        detached = network([level.detach() for level in generated], xy_corner)
        return {
            "adversarial": spec.adversarial_weight * adversary.adversarial_loss(of_generated),
            "matching": spec.matching_weight * adversary.feature_matching_loss(of_real, of_generated),
            "discriminator": adversary.discriminator_loss(of_real, detached),
        }

    def _unit(self, image: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b 3 h w"]:
        return self._ordered(image.permute(0, 3, 1, 2).to(self.detector.mean.dtype) / 255)

    def _ordered(self, image: Tensor) -> Tensor:
        """In the memory order in which the networks are."""
        order = torch.channels_last if self.detector.channels_last else torch.contiguous_format
        return image.contiguous(memory_format=order)


def separation(xy_corner: Float[Tensor, "b k 2"], least: float = 0.1) -> Float[Tensor, ""]:
    """Measures how much pairs of points are closer than the root of `least`, in squared distance: summed over ordered pairs of
    different points, mean over images (Wang et al., CVPR 2021, appendix: keypoint prior loss, D_t = 0.1)."""
    squared = (xy_corner[:, :, None] - xy_corner[:, None]).square().sum(-1)
    others = ~torch.eye(xy_corner.shape[1], dtype=torch.bool, device=xy_corner.device)
    return ((least - squared).clamp_min(0) * others).sum((1, 2)).mean()


def _thirds(frames: Frames) -> tuple[Frames, Frames, Frames]:
    parts = frames.xy_corner.chunk(3)
    jacobians = (None,) * 3 if frames.jacobian is None else frames.jacobian.chunk(3)
    first, second, third = (Frames(xy, jacobian) for xy, jacobian in zip(parts, jacobians, strict=True))
    return first, second, third
