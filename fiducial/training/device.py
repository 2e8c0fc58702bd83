"""Where a run is computed, and by how many processes."""

from __future__ import annotations

import torch

from fiducial import files
from fiducial.training.recipe import Recipe


def pick_device() -> torch.device:
    """Picks the accelerator of this machine, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def worker_count(recipe: Recipe) -> int:
    """Counts the loader processes: the recipe's, else one less than the cores, at most 8, at least one."""
    return recipe.workers if recipe.workers is not None else max(1, min(8, files.cores() - 1))
