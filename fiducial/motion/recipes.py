"""What is chosen for a run of method `motion` beyond what every run has, and what such runs start from."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from fiducial.data.augment import AugmentSpec
from fiducial.errors import expect
from fiducial.geometry import Size
from fiducial.motion.clips import ClipSpec
from fiducial.motion.dense_motion import DenseMotionSpec
from fiducial.motion.discriminator import DiscriminatorSpec
from fiducial.motion.generator import GeneratorSpec
from fiducial.motion.warps import WarpSpec
from fiducial.training.recipe import OptimizerSpec, Recipe


@dataclass(frozen=True)
class MotionSpec:
    """Chooses what is learnt and how; the weights of the losses are the published ones."""

    points: int = 10  # that are found
    pairs: int = 1000  # of frames, an epoch
    clips: ClipSpec = ClipSpec()
    generator: GeneratorSpec = GeneratorSpec()
    warp: WarpSpec = WarpSpec()
    scales: tuple[float, ...] = (1, 0.5, 0.25, 0.125)  # of the pyramid on which images are compared
    features: str | None = None  # file of VGG-19's weights; None = torch hub's cache, else random filters, as is said
    perceptual_weight: float = 1.0  # times 10 for each layer
    value_weight: float = 10.0  # of the points' equivariance
    jacobian_weight: float = 10.0  # of the Jacobians'
    # Keeps points apart ("keypoint prior", Wang et al., "One-shot free-view neural talking-head synthesis", CVPR 2021,
    # there 10): in short runs most of them settle in one place without it. The model as published in 2019 does without it.
    separation_weight: float = 0.0
    discriminator: DiscriminatorSpec | None = None  # an adversary, for sharper pictures: --set motion.discriminator={}
    adversarial_weight: float = 1.0
    matching_weight: float = 10.0  # of the adversary's features
    teacher: str | None = None  # run of a larger system, whose points and images are learnt too
    points_weight: float = 10.0  # of its points and Jacobians
    taught_weight: float = 10.0  # of its images

    def __post_init__(self) -> None:
        for name in ("points", "pairs"):
            expect(getattr(self, name) >= 1, f"motion.{name}", getattr(self, name), "at least 1")
        for name in (field.name for field in fields(self) if field.name.endswith("_weight")):
            expect(getattr(self, name) >= 0, f"motion.{name}", getattr(self, name), "0 or more")


@dataclass(frozen=True)
class MotionRecipe(Recipe):
    """Holds what `fiducial fit VIDEOS --method motion` does: a recipe, and what of it is about frames that move."""

    motion: MotionSpec = MotionSpec()


def small() -> MotionRecipe:
    """Makes what two cores learn in half an hour: 64 px, the published detector's width on a grid of 32x32, and a narrow
    generator that may show the source's pixels. Points are kept apart: in so few steps most would settle in one place."""
    return MotionRecipe(
        method="motion",
        backbone="hourglass_b4_m256_s2",
        size=Size(64, 64),
        pretrained="no",
        epochs=24,
        batch_size=8,
        optimizer=OptimizerSpec(lr=4e-4, weight_decay=0.0, ema_decay=0.995),
        augment=replace(AugmentSpec(), blur=0.0, noise=0.0, occlusion=0.0),
        motion=MotionSpec(
            pairs=4000,
            separation_weight=2.0,
            generator=GeneratorSpec(
                width=24,
                widest=96,
                downs=1,
                residuals=3,
                shows_source=True,
                dense_motion=DenseMotionSpec(width=16, blocks=4, widest=128, reduction=2),
            ),
        ),
    )


def full() -> MotionRecipe:
    """Makes what a GPU learns: the published widths at 256 px."""
    return replace(
        small(),
        backbone="hourglass",
        size=Size(256, 256),
        epochs=100,
        batch_size=32,
        optimizer=OptimizerSpec(lr=2e-4, weight_decay=0.0),
        motion=MotionSpec(pairs=10_000),
    )
