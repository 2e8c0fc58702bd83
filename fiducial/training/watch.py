"""Training cannot fail silently: losses that are not finite, heatmaps that sink to zero, and unlabelled images that do
harm are caught in the epoch in which they do, and the annotation or the setting to blame is named."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from fiducial.log import logger
from fiducial.training._lightning import L, WeightAveraging
from fiducial.training.callbacks import History
from fiducial.training.failure import TrainingFailure
from fiducial.training.history import ToBeat
from fiducial.training.objective import Objective
from fiducial.training.recipe import UnlabelledSpec
from fiducial.training.unlabelled import Calibration, SelfTaught
from fiducial.types import Batch


class FiniteLoss:
    """Judges a loss that is not finite: some annotations' fault (training goes on without them) or the weights'."""

    def __init__(self, where: Callable[[int], str], limit: int = 20) -> None:
        self.where, self.limit = where, limit  # `where` says which sample a row is
        self.blamed: set[int] = set()  # rows
        self.unexplained = 0  # steps whose loss was not finite though that of every sample alone was

    def judge(self, objective: Objective, batch: Any, step: int, lr: float) -> None:
        """Names the samples to blame, each once. TrainingFailure where they are not the cause, or too many."""
        bad = (~losses_in_evaluation(objective, batch).isfinite()).nonzero()[:, 0].tolist()
        if len(bad) == len(batch.row):
            raise TrainingFailure(
                f"the loss is not finite for any sample at step {step}: the weights have diverged. Lower the learning "
                f"rate (peak {lr:.2g}: --lr), or train in full precision (--set precision=fp32)"
            )
        if not bad:
            self._note_unexplained(step, lr)
        for row in sorted({int(batch.row[i]) for i in bad} - self.blamed):
            self.blamed.add(row)
            logger.warning(f"{self.where(row)}: its loss is not finite; steps with it are left out")
        if len(self.blamed) > self.limit:
            raise TrainingFailure(
                f"more than {self.limit} samples gave losses that are not finite, first "
                f"{self.where(min(self.blamed))}. Look at their labels, or lower --lr (peak {lr:.2g})"
            )

    def _note_unexplained(self, step: int, lr: float) -> None:
        self.unexplained += 1
        if self.unexplained == 1:
            logger.warning(
                f"step {step}: the batch's loss is not finite, but of no sample alone; such steps are left out"
            )
        if self.unexplained > self.limit:
            raise TrainingFailure(
                f"the loss was not finite at {self.unexplained} steps, though of no sample alone. Lower the learning "
                f"rate (peak {lr:.2g}: --lr), or train in full precision (--set precision=fp32)"
            )


class CollapseWatch(L.Callback):
    """Stops runs whose heatmaps sink to zero everywhere, which a falling loss does not show.

    Under a mean squared error the all-zero map is a resting place: nearly all cells of the target are zero. Healthy
    runs first come to the best constant answer, the mean of the targets, whose peak depends on how widely the points
    lie about (0.02 to 0.3), and rise from there; a run that has sunk has peaks far below even that. Judged at the end
    of an epoch, over its last fifth, once `min_steps` steps have been made; maps that are distributions can't sink."""

    def __init__(self, min_steps: int = 40, share: float = 0.2, floor: float = 0.01) -> None:
        self.min_steps, self.share, self.floor = min_steps, share, floor
        self.reset()

    def reset(self) -> None:
        self.peaks: list[float] = []
        self.targets: Tensor | None = None  # [k, h, w] summed
        self.labelled: Tensor | None = None  # [k] how many

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.reset()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        peak = pl_module.objective.mean_peak
        if peak is not None and batch_idx >= 0.8 * float(trainer.num_training_batches) - 1:
            self.peaks.append(float(peak))
            self._add_targets(pl_module.detector.head, batch)

    @torch.no_grad()
    def _add_targets(self, head: Any, batch: Batch) -> None:
        maps = head.heatmaps(head.encode(batch)) * batch.labelled[..., None, None]
        total, count = maps.sum(0), batch.labelled.sum(0)
        self.targets = total if self.targets is None else self.targets + total
        self.labelled = count if self.labelled is None else self.labelled + count

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if self.targets is None or self.labelled is None:
            return
        peak = sum(self.peaks) / len(self.peaks)
        pl_module.log("train/mean_peak", peak)
        constant = float((self.targets.amax((-2, -1)) / self.labelled.clamp_min(1)).mean())
        if trainer.global_step >= self.min_steps and peak < max(self.floor, self.share * constant):
            head = pl_module.detector.spec.head
            raise TrainingFailure(
                f"the heatmaps have collapsed to zero: after epoch {trainer.current_epoch + 1} the mean peak at labelled "
                f"points is {peak:.3f}, where 1 is wanted and the mean of the targets has {constant:.2f}. With "
                f"head.loss={head.get('loss')!r} empty maps are a resting place. Use --set head.loss=cross_entropy or "
                f"head.loss=foreground, a wider target (head.sigma_cells, now {head.get('sigma_cells')}), or another "
                f"--lr (peak {float(pl_module.lr):.2g})"
            )


class FloorWatch(L.Callback):
    """Says at a tenth of a run that val is not below its floor yet, and at a third that it should be: healthy runs have
    been seen to pass it anywhere between."""

    MOMENTS = (0.1, 1 / 3)  # of all steps

    def __init__(self, history: History, floor: Callable[[Mapping[str, float]], ToBeat | None]) -> None:
        self.history, self.floor = history, floor
        self.passed = 0  # moments

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        share = trainer.global_step / pl_module.total_steps
        if self.passed == len(self.MOMENTS) or not self.MOMENTS[self.passed] <= share < 1 or not self.history.rows:
            return
        first, self.passed = self.passed == 0, sum(share >= moment for moment in self.MOMENTS)
        metric = self.history.metric
        best = {name.removeprefix("val/"): value for name, value in self.history.best.items()}
        name = metric.removeprefix("val/")
        floor = self.floor(best)
        if floor is None or best[name] < floor.value or not trainer.is_global_zero:
            return
        line = f"{100 * share:.0f} % of the run are done and val {name} is {best[name]:.4g}, where {floor.words} has {floor.value:.4g}"
        if first:
            logger.warning(f"{line}: not below its floor yet")
        else:
            logger.warning(
                f"{line}: a run that is not below its floor by now is seldom worth its time. Ctrl-C, then more steps "
                "(--epochs, --minutes, a smaller --batch-size), another --lr, or a look at the labels"
            )

    def state_dict(self) -> dict[str, Any]:
        return {"passed": self.passed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.passed = state_dict["passed"]


class Teaching(L.Callback):
    """Lets the averaged weights teach on unlabelled crops, and ends that where val says that it hurts.

    It begins once a share of the steps is made and there are scores that say which points are right. It ends for good
    where the error on val, instance by instance, is above that of the best epoch by more than two standard errors in
    `patience` validations one after the other."""

    def __init__(self, objective: SelfTaught, calibration: Calibration, spec: UnlabelledSpec, crops: int) -> None:
        self.objective, self.calibration, self.spec, self.crops = objective, calibration, spec, crops
        self.began = self.ended = 0  # number of the first epoch that was taught, and of the last one; 0 = none
        self.first_step: int | None = None  # of the first one
        self.behind = 0  # validations
        self.best: Tensor | None = None  # [n] errors of val's instances in the best epoch
        self.kept: list[float] = []  # share of the points that were believed, by epoch
        self.judged: tuple[float, float] | None = None  # val's error with the unlabelled images, and on labels alone

    @property
    def teaches(self) -> bool:
        """Says whether unlabelled crops are of use now."""
        return self.objective.sure_from is not None

    def told(self) -> dict[str, Any]:
        """Gives what the results say of it; epochs count from 1."""
        kept = self.kept[-1] if self.kept else 0.0
        epochs = {"first_epoch": self.began or None, "last_epoch": self.ended or None}
        told = {"crops": self.crops, **epochs, "kept": kept}
        if self.judged is None:
            return told
        taught, alone = self.judged
        return {**told, "val": taught, "val_labels_alone": alone, "labels_alone_kept": self.is_beaten}

    @property
    def is_beaten(self) -> bool:
        """Says whether labels alone were better."""
        return self.judged is not None and self.judged[1] < self.judged[0]

    def judge(self, taught: float, alone: float) -> None:
        """Takes val's error with the unlabelled images, and on labels alone, and says which is kept."""
        self.judged = taught, alone
        logger.info(self._verdict())

    def _verdict(self) -> str:
        taught, alone = self.judged or (math.nan, math.nan)
        which = "labels alone are better, and are kept" if self.is_beaten else "what they taught is kept"
        which = "they changed nothing" if taught == alone else which
        return f"unlabelled images: val {taught:.4g} with them, {alone:.4g} on labels alone: {which}"

    def said(self) -> str:
        """Says it in a line."""
        if not self.began:
            return f"nothing was learnt from the {self.crops} unlabelled crops: no epoch was good enough to teach"
        line = f"{self.crops} unlabelled crops were learnt from, from epoch {self.began} on"
        if self.kept:
            line = f"{line}, with {100 * self.kept[-1]:.0f} % of the points found on them"
        line = f"{line}; epoch {self.ended} was the last, since val got worse by it" if self.ended else line
        return line if self.judged is None else f"{self._verdict()} ({line})"

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        averaging = next(callback for callback in trainer.callbacks if isinstance(callback, WeightAveraging))  # type: ignore[attr-defined]
        average: Any = averaging._average_model
        object.__setattr__(self.objective, "teacher", average.module.objective.detector.eval())

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self._shares: list[Tensor] = []

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self.first_step is not None:
            made, steps = 1 + trainer.global_step - self.first_step, self.spec.rise * pl_module.total_steps
            self.objective.weight = self.spec.weight * min(1.0, made / max(1.0, steps))

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.objective.kept is not None:
            self._shares.append(self.objective.kept)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        number = trainer.current_epoch + 1
        kept = float(torch.stack(self._shares).mean()) if self._shares else 0.0
        taught = kept > 0
        pl_module.log("unlabelled/kept", kept)
        if taught:
            self.kept.append(kept)
            self.began = self.began or number
        if self.ended:
            return
        error = torch.from_numpy(self.calibration.instance_nme)
        self.behind = self.behind + 1 if taught and self._is_behind(error) else 0
        if self.best is None or error.nanmean() < self.best.nanmean():
            self.best = error
        if trainer.global_step < self.spec.start * pl_module.total_steps and not self.began:
            return
        self.objective.sure_from = self.calibration.sure_from
        if self.first_step is None and self.objective.sure_from is not None:
            self.first_step = trainer.global_step
        if self.behind >= self.spec.patience:
            self.ended, self.objective.sure_from = number, None
            logger.warning(
                f"unlabelled: in {self.behind} epochs one after the other val is worse than in its best one, by more than "
                "chance: from here on labels alone are learnt from"
            )

    def _is_behind(self, error: Tensor) -> bool:
        assert self.best is not None
        worse = error - self.best
        worse = worse[worse.isfinite()]
        return len(worse) > 1 and float(worse.mean()) > 2 * float(worse.std()) / len(worse) ** 0.5

    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if trainer.is_global_zero:
            logger.info(self.said())

    def state_dict(self) -> dict[str, Any]:
        names = ("began", "ended", "first_step", "behind", "best", "kept")
        return {**{name: getattr(self, name) for name in names}, "sure_from": self.objective.sure_from}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        state = dict(state_dict)
        self.objective.sure_from = state.pop("sure_from")
        for name, value in state.items():
            setattr(self, name, value)


def losses_in_evaluation(objective: Objective, batch: Any) -> Tensor:
    """[b]: the loss of each sample alone in eval mode, in which no sample touches another or the norm statistics."""
    training = objective.training
    objective.eval()
    try:
        return objective.each(batch)
    finally:
        objective.train(training)
