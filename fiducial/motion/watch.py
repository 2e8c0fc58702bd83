"""A run whose points collapse says so while it goes on."""

from __future__ import annotations

import re

from fiducial.log import logger
from fiducial.motion.scoring import Spread, warnings_of
from fiducial.training._lightning import L


class SpreadWatch(L.Callback):
    """Says when the points collapse, each complaint once, from the third epoch on: before, all sit in the middle."""

    def __init__(self, points: int, epochs: int = 3) -> None:
        self.points, self.epochs = points, epochs
        self.said: set[str] = set()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch + 1 < self.epochs or not trainer.is_global_zero:
            return
        found = Spread(*(float(trainer.callback_metrics[f"val/{name}"]) for name in Spread._fields))
        for line in warnings_of(found, self.points):
            kind = re.sub(r"[\d.]+", "", line)
            if kind not in self.said:
                self.said.add(kind)
                logger.warning(
                    f"after epoch {trainer.current_epoch + 1}: {line}; more epochs, or a higher --set motion.value_weight "
                    "or another --seed may help"
                )
