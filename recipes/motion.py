"""Points without labels, from video: `fiducial fit VIDEOS --out RUN --recipe recipes/motion.py:full`.

`small` is also what `fiducial fit VIDEOS --out RUN --method motion` starts from."""

from __future__ import annotations

from fiducial.motion import recipes
from fiducial.training.recipe import Recipe


def small() -> Recipe:
    """Two cores, 128 px."""
    return recipes.small()


def full() -> Recipe:
    """The published widths at 256 px, for a GPU."""
    return recipes.full()
