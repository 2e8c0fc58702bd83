"""The smallest system on discs that go round: 64 px, one thread, no processes."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("av")
pytest.importorskip("torch")
from motion.discs import disc_frames, write_video

from fiducial.data.augment import AugmentSpec
from fiducial.geometry import Size
from fiducial.motion.dense_motion import DenseMotionSpec
from fiducial.motion.generator import GeneratorSpec
from fiducial.motion.recipes import MotionRecipe, MotionSpec
from fiducial.training.recipe import OptimizerSpec


@pytest.fixture(scope="session")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips to learn from, one that is held out."""
    folder = tmp_path_factory.mktemp("discs")
    for seed, name in enumerate("abc"):
        write_video(folder / f"{name}.mp4", disc_frames(12, seed))
    return folder


@pytest.fixture
def recipe() -> MotionRecipe:
    dense_motion = DenseMotionSpec(width=8, widest=32, blocks=3)
    return MotionRecipe(
        method="motion",
        backbone="hourglass_w8_b3_m32_s2",
        size=Size(64, 64),
        pretrained="no",
        padding=1.0,
        epochs=2,
        batch_size=4,
        precision="fp32",
        memory_format="contiguous",
        workers=0,
        augment=AugmentSpec.none(),
        optimizer=OptimizerSpec(lr=2e-3, weight_decay=0.0, ema_decay=0.9),
        motion=MotionSpec(
            points=4,
            pairs=16,
            scales=(1, 0.5),
            generator=GeneratorSpec(width=8, widest=16, residuals=1, dense_motion=dense_motion),
        ),
    )
