"""What one run works on: what is minimised, on which batches, and how an epoch is scored. The engine sees nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch.utils.data import DataLoader

from fiducial.training.objective import Objective


@runtime_checkable
class Scoring(Protocol):
    """Scores an epoch on batches that training does not see."""

    metric: str  # of `scores`; the epoch with its lowest value is kept

    def observe(self, objective: Objective, batch: Any) -> None:
        """Takes in one batch, without gradients, in eval mode."""
        ...

    def scores(self) -> dict[str, float]:
        """Of all batches since the last call."""
        ...


class Loader(Protocol):
    """Makes the training's batches for one of `world` devices; its sampler has `set_epoch`."""

    def __call__(self, rank: int, world: int) -> DataLoader: ...


@dataclass(frozen=True)
class Work:
    """A run's work."""

    objective: Objective
    samples: int  # an epoch
    train_loader: Loader
    validation_loader: Callable[[], DataLoader]
    scoring: Scoring
    where: Callable[[int], str]  # `batch.row` -> which sample that is, for messages
    watches: tuple[Any, ...] = ()  # Lightning callbacks that stop a run that is worth nothing
