"""What happens beside the steps: epochs are written down and told, and a run without progress is ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fiducial import files
from fiducial.log import logger
from fiducial.progress import LINE_S, duration
from fiducial.training import history, left_out
from fiducial.training._lightning import L, RichProgressBar
from fiducial.types import Problem


class History(L.Callback):
    """Keeps the logged values of each epoch as rows and writes them to history.csv, and pictures that could not be read to
    problems.txt, behind those that the reading found. Both travel in the checkpoint, so a resumed run's history has no gap
    and no repeats."""

    def __init__(self, out: Path, metric: str, problems: Sequence[Problem] = ()) -> None:
        self.path, self.metric = out / "history.csv", metric
        self.rows: list[dict[str, float]] = []
        self.problems = problems  # of the data as they were read
        self.unread: list[Problem] = []  # in mid-training
        self.began = time.perf_counter()
        self.has_begun = False  # to train, with all that was kept restored

    @property
    def best(self) -> history.Row:
        """The row with the lowest val metric."""
        return history.best_of(self.rows, self.metric)

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.has_begun = True
        if self.unread and trainer.is_global_zero:
            self._write_problems()

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
        known = len(self.unread)
        for problem in loader.dataset.problems() if loader is not None else ():
            logger.warning(f"left out: {problem}")
            if problem not in self.unread:
                self.unread.append(problem)
        if trainer.is_global_zero:
            files.write_text(self.path, files.csv_text(self.rows))
            if len(self.unread) > known:
                self._write_problems()

    def _write_problems(self) -> None:
        left_out.write(self.path.parent, [*self.problems, *self.unread])

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "unread": [(one.file, one.where, one.what) for one in self.unread]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])
        self.unread = [Problem(*parts) for parts in state_dict.get("unread", ())]  # older checkpoints have none


class Told(L.Callback):
    """Says a line after each epoch, and within a long one before the silence gets long: how well it goes, and how long it
    will take. Where there is no terminal, a log is all that whoever waits can look at."""

    def __init__(self, rows: History) -> None:
        self.history = rows
        self.began = self.last = time.perf_counter()
        self.first_step = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.began = self.last = time.perf_counter()
        self.first_step = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if time.perf_counter() - self.last > LINE_S and batch_idx + 1 < trainer.num_training_batches:
            step = f"step {batch_idx + 1} of {trainer.num_training_batches}"
            self._say(trainer, f"{_epoch(trainer)}: {step}{self._left(trainer)}")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        metric, row, best = self.history.metric, self.history.rows[-1], self.history.best
        name = metric.partition("/")[2]
        so_far = "the best so far" if best is row else f"best {best[metric]:.4g} in epoch {int(best['epoch']) + 1}"
        figures = f"val {name} {row[metric]:.4g}, {so_far}, loss {row['train/loss']:.4g}"
        self._say(trainer, f"{_epoch(trainer)}: {figures}; {row['seconds']:.3g} s{self._left(trainer)}")

    def _say(self, trainer: L.Trainer, line: str) -> None:
        self.last = time.perf_counter()
        if trainer.is_global_zero:
            logger.info(line)

    def _left(self, trainer: L.Trainer) -> str:
        """How long the steps that are left will take, by those that this process has made."""
        total = (trainer.max_epochs or 0) * trainer.num_training_batches
        left, done = total - trainer.global_step, trainer.global_step - self.first_step
        if left <= 0 or done <= 0:
            return ""
        seconds = (time.perf_counter() - self.began) / done * left
        return f", about {duration(seconds)} left"


class Bar(RichProgressBar):
    """Draws how far an epoch is, which counts from 1 as everywhere else."""

    def _get_train_description(self, current_epoch: int) -> str:
        return f"epoch {current_epoch + 1} of {self.trainer.max_epochs}"


class Patience(L.Callback):
    """Ends a run after so many epochs without a better one. What has been waited is counted in the history, so that a
    run which is resumed after it had ended goes no epoch further."""

    def __init__(self, rows: History, epochs: int) -> None:
        self.history, self.epochs = rows, epochs

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        if self.history.rows:
            self.on_train_epoch_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        waited = self.history.rows[-1]["epoch"] - self.history.best["epoch"]
        trainer.should_stop = trainer.should_stop or waited >= self.epochs


def _epoch(trainer: L.Trainer) -> str:
    return f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"
