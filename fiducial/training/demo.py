"""The demo: the main job in minutes on a CPU, on faces that are drawn."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from fiducial.drawnfaces import procedural_faces
from fiducial.geometry import Size
from fiducial.log import logger
from fiducial.training import fit, run
from fiducial.training.recipe import OptimizerSpec, Recipe

SIZE = Size(128, 128)
TRAIN, VALIDATION, TEST = 2000, 200, 300  # faces


def recipe() -> Recipe:
    """Gives what the demo trains: minutes on two cores."""
    optimizer = OptimizerSpec(lr=4e-3)
    return Recipe(pretrained="no", epochs=12, batch_size=32, size=SIZE, padding=1.15, optimizer=optimizer)


def demo(out: Path, *, epochs: int | None = None, seed: int = 0, progress: bool = False) -> dict[str, Any] | None:
    """Trains on drawn faces, chooses the epoch by some that it does not learn from, and reports on others that no step
    and no choice has seen. Returns the figures of these, as `run` does."""
    train, validation, test = (
        procedural_faces(count, seed + offset, SIZE)
        for count, offset in ((TRAIN, 0), (VALIDATION, 10_000), (TEST, 20_000))
    )
    logger.info(f"{len(train)} drawn faces to train on, {len(validation)} for choosing, {len(test)} for the test")
    chosen = replace(recipe(), seed=seed, epochs=epochs or recipe().epochs)
    prepare = partial(fit.work_of, fit.Data(train, validation, []), source="drawn faces", reported=(test, "test"))
    return run.run(prepare, out, chosen, progress=progress)
