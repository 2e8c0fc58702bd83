"""What `fiducial fit VIDEOS --method motion` starts from."""

from __future__ import annotations

from dataclasses import replace

from fiducial.data.augment import AugmentSpec
from fiducial.geometry import Size
from fiducial.models.motion.dense_motion import DenseMotionSpec
from fiducial.models.motion.generator import GeneratorSpec
from fiducial.training.motion.spec import MotionSpec
from fiducial.training.recipe import OptimizerSpec, Recipe


def small() -> Recipe:
    """Two cores, 128 px: the published detector on the same 64x64 grid, and a narrow generator."""
    return Recipe(
        method="motion",
        backbone="hourglass_s2",
        size=Size(128, 128),
        pretrained="no",
        padding=1.0,
        epochs=20,
        batch_size=8,
        optimizer=OptimizerSpec(lr=5e-4, weight_decay=0.0, ema_decay=0.995),
        augment=replace(AugmentSpec(), blur=0.0, noise=0.0, occlusion=0.0),
        motion=MotionSpec(
            pairs=1000,
            generator=GeneratorSpec(
                width=16, widest=64, residuals=3, dense_motion=DenseMotionSpec(width=16, widest=128, blocks=4)
            ),
        ),
    )


def full() -> Recipe:
    """The published widths at 256 px, for a GPU."""
    return replace(
        small(), backbone="hourglass", size=Size(256, 256), epochs=100, batch_size=32,
        optimizer=OptimizerSpec(lr=2e-4, weight_decay=0.0), motion=MotionSpec(pairs=10_000),
    )  # fmt: skip
