"""The two checkpoints of a run: `last.ckpt`, from which it is resumed, and `best.ckpt`, the epoch that is kept.

Both are written in the run's own folder, beside their place, and renamed into it, so that a kill at any moment leaves the
one of the epoch before or the new one, whole. `best.ckpt` is never written by itself: it is `last.ckpt` under a second
name. A kill between the two is therefore mended by giving that name again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch

from fiducial import files
from fiducial.errors import UserError
from fiducial.models.checkpoints import _reader as weights
from fiducial.training._lightning import Checkpoint, L, TorchCheckpointIO
from fiducial.training.callbacks import History


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all. Lightning's own way leads through the system's temporary folder, from
    which a file can't be renamed where that is another file system.

    Reads tensors and plain values alone: a run folder from elsewhere brings no code along."""

    def load_checkpoint(self, path: Any, *_: Any, **options: Any) -> dict[str, Any]:
        try:
            return weights.nested(Path(path))
        except UserError as error:
            raise unusable(Path(path), error.what or str(error)) from error

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        with files.replacing(Path(path)) as partial, partial.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())  # else a power cut could leave the name without its content


def unusable(path: Path, why: str) -> UserError:
    """Makes the error of a checkpoint from which the run can't go on."""
    advice = "Begin another run with --init and this one's folder, which keeps its best weights"
    return UserError(path, f"the run can't go on from it: {why}. {advice}")


class Checkpoints(Checkpoint):
    """Keeps the newest epoch and the best one. Which that is, the history says, which travels in the checkpoint."""

    def __init__(self, folder: Path, history: History) -> None:
        super().__init__()
        self.last, self.best, self.history = folder / "last.ckpt", folder / "best.ckpt", history

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        if not trainer.is_global_zero:
            return
        for partial in self.last.parent.glob(".*.ckpt"):  # of a run that was killed while it wrote one
            partial.unlink()
        self._name_the_best()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        trainer.save_checkpoint(self.last)
        if trainer.is_global_zero:
            self._name_the_best()

    def _name_the_best(self) -> None:
        """Gives `last.ckpt` the name `best.ckpt` too where the newest epoch is the best."""
        rows = self.history.rows
        if not rows or self.history.best["epoch"] != rows[-1]["epoch"]:
            return
        with files.replacing(self.best) as partial:
            partial.unlink()
            try:
                os.link(self.last, partial)
            except OSError:  # a file system without second names
                shutil.copyfile(self.last, partial)
