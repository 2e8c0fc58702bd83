"""A small motion system taught by a large one: beside the frames themselves it learns the teacher's points, local frames
and generated images (distillation of generators: Li et al., "GAN compression", CVPR 2020)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from fiducial.errors import UserError
from fiducial.models.detector import Detector
from fiducial.models.heads.motion import Frames
from fiducial.motion import perceptual
from fiducial.motion.discriminator import Discriminator
from fiducial.motion.generator import Generator
from fiducial.motion.objective import Motion
from fiducial.motion.pairs import FramePairs
from fiducial.motion.perceptual import FeatureNetwork
from fiducial.motion.recipes import MotionSpec


class Taught(Motion):
    """Trains a system beside a frozen teacher, which is in no checkpoint. Both see the same images in the same batch."""

    teacher: Motion

    def __init__(
        self,
        detector: Detector,
        generator: Generator,
        features: FeatureNetwork,
        spec: MotionSpec,
        teacher: Motion,
        discriminator: Discriminator | None = None,
    ) -> None:
        super().__init__(detector, generator, features, spec, discriminator)
        theirs, ours = (len(side.spec.skeleton.points) for side in (teacher.detector, detector))
        if theirs != ours:
            raise UserError(
                f"motion.teacher has {theirs} points and the student {ours}; use --set motion.points={theirs}"
            )
        if teacher.detector.spec.size != detector.spec.size:
            raise UserError(
                f"motion.teacher looks at {teacher.detector.spec.size} and the student at {detector.spec.size}; use --size "
                f"{teacher.detector.spec.size}"
            )
        object.__setattr__(self, "teacher", teacher.eval().requires_grad_(False))  # no submodule: in no checkpoint

    def forward(self, batch: FramePairs) -> dict[str, Float[Tensor, ""]]:
        student = self.reconstruct(batch, torch.Generator().manual_seed(int(torch.randint(2**31, ()))))
        teacher = self.teacher.to(batch.source.device)
        with torch.no_grad():
            source = self._unit(batch.source)
            of_source, of_driving = teacher.frames(source), teacher.frames(student.driving)
            taught = teacher.generator(source, of_source, of_driving).prediction
        with torch.autocast(batch.source.device.type, enabled=False):
            losses = self._losses(student)
            pairs = ((student.of_source, of_source), (student.of_driving, of_driving))
            points = torch.stack([frames_difference(ours, theirs) for ours, theirs in pairs]).mean()
            losses["points"] = self.spec.points_weight * points
            levels = (self.pyramid(student.generated.prediction.float()), self.pyramid(taught.float()))
            losses["taught"] = self.spec.taught_weight * perceptual.pixel_loss(*levels)
        return losses


def frames_difference(ours: Frames, theirs: Frames) -> Float[Tensor, ""]:
    """Computes the mean squared error of the points in xy_corner, plus that of the Jacobians where both have them."""
    difference = F.mse_loss(ours.xy_corner, theirs.xy_corner)
    if ours.jacobian is None or theirs.jacobian is None:
        return difference
    return difference + F.mse_loss(ours.jacobian, theirs.jacobian)
