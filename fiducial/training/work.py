"""What one run is about, as the life of a run (`run`) and the engine see it; `fit` and other rooms make it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch.utils.data import DataLoader

from fiducial.card import Card
from fiducial.training.history import ToBeat
from fiducial.training.objective import Objective
from fiducial.training.recipe import Recipe
from fiducial.types import Problem


@runtime_checkable
class Scoring(Protocol):
    """Scores an epoch on batches that training does not see."""

    metric: str  # of `scores`; the epoch with its lowest value is kept

    def observe(self, objective: Objective, batch: Any) -> None:
        """Takes in one batch, without gradients, in eval mode."""
        ...

    def scores(self) -> dict[str, float]:
        """Gives the figures of all batches since the last call."""
        ...


@runtime_checkable
class Loader(Protocol):
    """Makes the training's batches for one of `world` devices; its sampler has `set_epoch`."""

    def __call__(self, rank: int, world: int) -> DataLoader: ...


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A run that has come to its end: what was kept, and what is to be said of it."""

    out: Path
    recipe: Any  # of what taught it
    card: Card
    epochs: int  # that were trained
    warning: str  # why the result is worth little; "" where nothing speaks against it
    unread: Sequence[Problem] = ()  # pictures that could not be read in mid-training
    beside: Callable[[], Mapping[str, Any]] = (
        dict  # makes what belongs beside the model, which may take long; its figures
    )

    def told(self) -> dict[str, Any]:
        """What metrics.json says of the run. Epochs count from 1 for people, from 0 in history.csv and the card."""
        warning = {"warning": self.warning} if self.warning else {}
        return {**warning, "best_epoch": self.card.metrics["epoch"] + 1, "epochs": self.epochs}


def no_floor(metrics: Mapping[str, float]) -> ToBeat | None:
    """Says that nothing is known which a run must get below."""
    return None


def nothing() -> None:
    """Calibrates nothing: there are no labels to do so."""


class Rival(NamedTuple):
    """Another way to learn the same, which is tried after a run: the better one is kept."""

    is_due: Callable[[], bool]  # asked after the run
    work: Callable[[Any, Path], Work]  # of a recipe, in a run's folder
    judge: Callable[[float, float], None]  # takes val's metric of the run and of the rival


@dataclass(frozen=True, kw_only=True)
class Work:
    """One run's work."""

    recipe: Recipe  # with what could only be decided once the data and the networks were there
    objective: Objective
    samples: int  # a pass
    passes: float = 1  # an epoch
    train_loader: Loader
    validation_loader: Callable[[], DataLoader]
    scoring: Scoring
    where: Callable[[int], str]  # `batch.row` -> which sample that is, for messages
    watches: tuple[Any, ...] = ()  # Lightning callbacks that stop a run that is worth nothing
    preflight: Callable[[float, torch.device], str] | None = None  # learning rate, device -> a line, or TrainingFailure
    fingerprint: str  # changes with the data
    said: tuple[str, ...] = ()  # lines on the data, for people
    problems: Sequence[Problem] = ()  # of the data
    beside: Mapping[str, Any] = field(default_factory=dict)  # what recipe.json holds besides recipe and data
    initialization: str  # where the weights came from
    data_licences: tuple[str, ...] = ()  # that the data state
    derived_from: Mapping[str, str]  # what else goes into the weights -> its licence
    card_metrics: Mapping[str, Any]  # what the card says besides the best epoch's figures
    floor: Callable[[Mapping[str, float]], ToBeat | None] = no_floor  # for the best epoch's figures
    rival: Rival | None = None
    calibrate: Callable[[], None] = nothing  # measures on labels how far the kept model's points may be off
    save: Callable[[Path, Card], None]  # writes what is kept into the run's folder
    report: Callable[[Outcome], dict[str, Any]]  # scores what was kept, writes the page; the figures, and "files"


@runtime_checkable
class Prepare(Protocol):
    """Makes the work of a run by its recipe: networks under the run's seed, data in OUT where they are kept there.

    `begins`: the run is new, and older data in OUT may be replaced. Raises UserError before anything is made in OUT
    where the networks or the data can't be what the recipe says."""

    def __call__(self, recipe: Any, out: Path, begins: bool) -> Work: ...
