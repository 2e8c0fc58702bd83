"""What happened, epoch by epoch: kept in the checkpoints, written to history.csv after each epoch."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L

from fiducial import files


class History(L.Callback):
    """Rows of logged values. They travel in the checkpoint, so a resumed run's history has no gap and no repeats
    (Lightning's own CSV logger starts a new file)."""

    def __init__(self, out: Path, metric: str, echo: Callable[[str], None]) -> None:
        self.path, self.metric, self.echo = out / "history.csv", metric, echo
        self.rows: list[dict[str, float]] = []
        self.began = time.perf_counter()

    @property
    def best(self) -> dict[str, float]:
        """The row with the lowest val metric, the first of equal ones."""
        return best_of(self.rows, self.metric)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.began = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        row: dict[str, float] = {
            "epoch": trainer.current_epoch,
            "lr": max(group["lr"] for group in trainer.optimizers[0].param_groups),
            "seconds": round(time.perf_counter() - self.began, 2),
        }
        row |= {name: float(value) for name, value in trainer.callback_metrics.items() if "/" in name}
        self.rows.append(row)
        loader = trainer.train_dataloader
        for problem in loader.dataset.problems() if loader is not None else ():
            self.echo(f"left out: {problem}")
        if trainer.is_global_zero:
            files.write_text(self.path, files.csv_text(self.rows))

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])


class Patience(L.Callback):
    """Ends a run after so many epochs without a better one. What has been waited is counted in the history, so that a
    run which is resumed after it had ended goes no epoch further."""

    def __init__(self, history: History, epochs: int) -> None:
        self.history, self.epochs = history, epochs

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        if self.history.rows:
            self.on_train_epoch_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        waited = self.history.rows[-1]["epoch"] - self.history.best["epoch"]
        trainer.should_stop = trainer.should_stop or waited >= self.epochs


def best_of(rows: list[dict[str, float]], metric: str) -> dict[str, float]:
    """Picks the row with the lowest `metric`, the first of equal ones; one that is no number is worse than any."""
    return min(rows, key=lambda row: math.inf if math.isnan(row[metric]) else row[metric])


def read(path: Path) -> list[dict[str, float]]:
    """The rows of a history.csv; none where there is no file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
