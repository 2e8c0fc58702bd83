"""What is chosen for a run of method `motion` beyond what every run has."""

from __future__ import annotations

from dataclasses import dataclass

from fiducial.errors import expect
from fiducial.motion.clips import ClipSpec
from fiducial.motion.discriminator import DiscriminatorSpec
from fiducial.motion.generator import GeneratorSpec
from fiducial.motion.warps import WarpSpec
from fiducial.training.recipe import Recipe


@dataclass(frozen=True)
class MotionSpec:
    """Weights are the published ones."""

    points: int = 10  # to be found
    pairs: int = 1000  # of frames, an epoch
    clips: ClipSpec = ClipSpec()
    generator: GeneratorSpec = GeneratorSpec()
    warp: WarpSpec = WarpSpec()
    scales: tuple[float, ...] = (1, 0.5, 0.25, 0.125)  # of the pyramid on which pictures are compared
    features: str | None = None  # file of VGG-19's weights; None = torch hub's cache, else random filters, as is said
    perceptual_weight: float = 1.0  # times 10 for each layer
    value_weight: float = 10.0  # of the points' equivariance
    jacobian_weight: float = 10.0  # of the Jacobians'
    # Of keeping points apart ("keypoint prior", Wang et al., "One-shot free-view neural talking-head synthesis", CVPR 2021,
    # there 10): in short runs most of them settle in one place without it. The model as published in 2019 does without it.
    separation_weight: float = 0.0
    discriminator: DiscriminatorSpec | None = None  # an adversary, for sharper pictures: --set motion.discriminator={}
    adversarial_weight: float = 1.0
    matching_weight: float = 10.0  # of the adversary's features
    teacher: str | None = None  # a run of a larger system, whose points and pictures are learnt too
    points_weight: float = 10.0  # of its points and Jacobians
    taught_weight: float = 10.0  # of its pictures

    def __post_init__(self) -> None:
        for name in ("points", "pairs"):
            expect(getattr(self, name) >= 1, f"motion.{name}", getattr(self, name), "at least 1")
        for name in ("perceptual_weight", "value_weight", "jacobian_weight", "separation_weight", "adversarial_weight",
                     "matching_weight", "points_weight", "taught_weight"):  # fmt: skip
            expect(getattr(self, name) >= 0, f"motion.{name}", getattr(self, name), "0 or more")


@dataclass(frozen=True)
class MotionRecipe(Recipe):
    """What `fiducial fit VIDEOS --method motion` does: a recipe, and what of it is about frames that move."""

    motion: MotionSpec = MotionSpec()
