"""What `fiducial fit VIDEOS --method motion` starts from."""

from __future__ import annotations

from dataclasses import replace

from fiducial.data.augment import AugmentSpec
from fiducial.geometry import Size
from fiducial.motion.dense_motion import DenseMotionSpec
from fiducial.motion.generator import GeneratorSpec
from fiducial.motion.spec import MotionRecipe, MotionSpec
from fiducial.training.recipe import OptimizerSpec


def small() -> MotionRecipe:
    """Two cores, half an hour: 64 px, the published detector's width on a grid of 32x32, and a narrow generator that may
    show the source's pixels. Points are kept apart: in so few steps most would settle in one place."""
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
                width=24, widest=96, downs=1, residuals=3, shows_source=True,
                dense_motion=DenseMotionSpec(width=16, blocks=4, widest=128, reduction=2),
            ),
        ),
    )  # fmt: skip


def full() -> MotionRecipe:
    """The published widths at 256 px, for a GPU."""
    return replace(
        small(), backbone="hourglass", size=Size(256, 256), epochs=100, batch_size=32,
        optimizer=OptimizerSpec(lr=2e-4, weight_decay=0.0), motion=MotionSpec(pairs=10_000),
    )  # fmt: skip
