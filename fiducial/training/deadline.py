"""A run that has minutes, not epochs: its number of epochs follows the pace at which they really come.

The plan foresees a pace from a few steps; what else the machine does changes it. The schedule of the learning rate is that
of the number of epochs that there will be, so it ends low whenever the run ends."""

from __future__ import annotations

import time
from typing import Any

from fiducial.log import logger
from fiducial.training._lightning import L
from fiducial.training.plan import AFTER_TRAINING_SECONDS

LATE, EARLY = 0.02, 0.05  # of all its time, by which a run may foresee to miss its end before its epochs change
MANY = 8  # epochs to come, of which the first says too little


class Deadline(L.Callback):
    """Adds or takes epochs, none beyond `most_epochs`. What it has decided, and the time that is used up, travel in the
    checkpoint."""

    def __init__(self, minutes: float, *, steps_an_epoch: int, most_epochs: int, used_seconds: float) -> None:
        self.limit = 60 * minutes - AFTER_TRAINING_SECONDS
        self.steps_an_epoch, self.most_epochs = steps_an_epoch, most_epochs
        self.used, self.epochs = used_seconds, 0  # used before the steps of this process; 0 = as many as foreseen
        self.foreseen = 0  # when it was decided; a run that goes on for more decides anew
        self.began, self.first_epoch, self.first_took = time.perf_counter(), 0, 0.0

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        foreseen = trainer.max_epochs or 0
        if self.epochs and self.foreseen in (0, foreseen):
            self._set(trainer, pl_module, self.epochs)
        self.foreseen = foreseen

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.began, self.first_epoch = time.perf_counter(), trainer.current_epoch

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        done, total = trainer.current_epoch + 1, trainer.max_epochs or 0
        here, now = done - self.first_epoch, time.perf_counter() - self.began
        # The first epoch of a process is slower: loaders start, files are read for the first time.
        self.first_took = now if here == 1 else self.first_took
        pace = now if here == 1 else (now - self.first_took) / (here - 1)
        left = self.limit - self.used - now
        late = (total - done) * pace - left
        tells = here > 1 or total - done < MANY or left < pace  # not even one more would be in time
        if tells and (late > LATE * self.limit or (late < -EARLY * self.limit and here > 1)):
            self._change(trainer, pl_module, min(self.most_epochs, done + round(left / pace)))
        trainer.should_stop = trainer.should_stop or done >= (trainer.max_epochs or 0)

    def _change(self, trainer: L.Trainer, pl_module: Any, epochs: int) -> None:
        foreseen, done = trainer.max_epochs or 0, trainer.current_epoch + 1
        epochs = max(done, int(trainer.strategy.broadcast(epochs)))
        if epochs != foreseen:
            logger.info(f"epochs: {epochs} where {foreseen} were foreseen, by the pace so far")
            self._set(trainer, pl_module, epochs)

    def _set(self, trainer: L.Trainer, pl_module: Any, epochs: int) -> None:
        self.epochs = trainer.fit_loop.max_epochs = epochs
        pl_module.total_steps = epochs * self.steps_an_epoch

    def state_dict(self) -> dict[str, Any]:
        return {
            "epochs": self.epochs,
            "foreseen": self.foreseen,
            "seconds": self.used + time.perf_counter() - self.began,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs, self.used = state_dict["epochs"], self.used + state_dict["seconds"]
        self.foreseen = state_dict.get("foreseen", 0)
