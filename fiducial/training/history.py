"""What happened, epoch by epoch: kept in the checkpoints, written to history.csv after each epoch."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L

from fiducial import files


class History(L.Callback):
    """Rows of logged values. They travel in the checkpoint, so a resumed run's history has no gap and no repeats
    (Lightning's own CSV logger starts a new file)."""

    def __init__(self, out: Path, echo: Callable[[str], None]) -> None:
        self.path, self.echo = out / "history.csv", echo
        self.rows: list[dict[str, float]] = []
        self.began = time.perf_counter()

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
            files.write_text(self.path, as_csv(self.rows))

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])


def as_csv(rows: list[dict[str, float]]) -> str:
    """One line a row, all names of all rows as columns."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def read(path: Path) -> list[dict[str, float]]:
    """The rows of a history.csv; none where there is no file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
