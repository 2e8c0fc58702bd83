"""Training in seconds: three coloured discs, the smallest network, 64x48, one thread, no processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import quick
import torch
from heard import heard

from fiducial.card import Card
from fiducial.data import loading
from fiducial.data.augment import AugmentSpec
from fiducial.training import fit as fitting
from fiducial.training.objective import Supervised
from fiducial.training.recipe import Recipe
from fiducial.types import Batch


@pytest.fixture
def recipe() -> Recipe:
    return quick.RECIPE


@pytest.fixture(scope="session")
def data(blobs: Path) -> fitting.Data:
    return fitting.load_data(blobs, Recipe())


@pytest.fixture
def objective(recipe: Recipe, data: fitting.Data) -> Supervised:
    return objective_of(recipe, data)


@pytest.fixture
def batch(recipe: Recipe, data: fitting.Data) -> Batch:
    """Eight plain crops."""
    return next(iter(loading.loader(data.train, recipe.size, 8, AugmentSpec.none())))


class Run(NamedTuple):
    card: Card
    lines: list[str]  # what was said
    out: Path


Fit = Callable[..., Run]


@pytest.fixture
def fit(tmp_path: Path, data: fitting.Data) -> Fit:
    """A recipe -> its run, in this process."""

    def run(recipe: Recipe, on: fitting.Data = data, name: str = "run", **options: bool) -> Run:
        with heard() as lines:
            card = fitting.fit(on, tmp_path / name, recipe, **options)
        return Run(card, lines, tmp_path / name)

    return run


def objective_of(recipe: Recipe, data: fitting.Data) -> Supervised:
    torch.manual_seed(recipe.seed)
    return Supervised(fitting.build_detector(recipe, data)[0])
