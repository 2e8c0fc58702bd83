"""Lightning's Trainer, set up for a recipe: precision, averaging, checkpoints, logs, devices. No loop of our own."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fiducial.data.loading import batches_an_epoch
from fiducial.errors import Failure, to_json
from fiducial.log import muted
from fiducial.training._lightning import L, Tuner, WeightAveraging
from fiducial.training.callbacks import Bar, History, Patience, Told
from fiducial.training.checkpoints import Checkpoints, WholeFiles, unusable
from fiducial.training.deadline import Deadline
from fiducial.training.device import pick_device
from fiducial.training.history import Row
from fiducial.training.module import Training
from fiducial.training.nodes import Devices
from fiducial.training.plan import most_steps
from fiducial.training.recipe import Recipe
from fiducial.training.trackers import trackers_of
from fiducial.training.watch import FiniteLoss, FloorWatch
from fiducial.training.work import Work
from fiducial.types import Problem


@dataclass(frozen=True)
class Best:
    """The best epoch of a run."""

    weights: dict[str, Tensor]  # of the objective: those of the detector begin with `detector.`
    metrics: dict[str, float]
    epoch: int  # from 0
    rows: list[Row]  # of all epochs
    problems: list[Problem]  # pictures that could not be read, of all epochs
    epochs: int  # that were to be trained
    is_main_process: bool


class Loaders(L.LightningDataModule):
    """Loaders are made inside the process that uses them: only there is its rank known."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self.work = work

    def train_dataloader(self) -> Any:
        trainer = self.trainer
        assert trainer is not None
        loader = self.work.train_loader(trainer.global_rank, trainer.world_size)
        # Lightning tells the sampler each new epoch, but begins to iterate before it does so where a run is resumed.
        # `trainer.current_epoch` is then one behind: a checkpoint is written before its epoch counts as completed.
        loader.sampler.set_epoch(trainer.fit_loop.epoch_progress.current.processed)  # type: ignore[attr-defined]
        return loader

    def val_dataloader(self) -> Any:
        # Every rank scores the whole of val: with parts of unequal length DDP would wait for a rank that has finished.
        return self.work.validation_loader()


def run(
    work: Work,
    recipe: Recipe,
    out: Path,
    *,
    resume: bool,
    devices: Devices,
    progress: bool,
    used_seconds: float = 0.0,
) -> Best:
    """Trains to the end of the recipe (or until patience or the recipe's minutes, of which some are used up, run out) and
    returns the best epoch by val's metric."""
    objective, metric = work.objective, f"val/{work.scoring.metric}"
    steps_an_epoch = batches_an_epoch(work.samples, recipe.batch_size, devices.world, work.passes)
    guard = FiniteLoss(work.where)
    module = Training(recipe, objective, work.scoring, steps_an_epoch * recipe.epochs, guard)
    objective.detector.channels_last = recipe.memory_format == "channels_last"
    if recipe.memory_format == "channels_last":
        module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    history = History(out, metric, work.problems)
    checkpoints = Checkpoints(out / "checkpoints", history)
    callbacks = [_averaging(recipe), *work.watches, history, checkpoints]
    if recipe.patience is not None:
        callbacks.append(Patience(history, recipe.patience))
    if recipe.minutes is not None:
        most = most_steps(work.samples, recipe.batch_size) // steps_an_epoch
        callbacks.append(
            Deadline(
                recipe.minutes,
                steps_an_epoch=steps_an_epoch,
                most_epochs=max(most, recipe.epochs),
                used_seconds=used_seconds,
            )
        )
    callbacks.append(FloorWatch(history, work.floor))
    callbacks.append(Told(history))
    if progress:  # how far an epoch is; above it the lines of those that are over, and how long the rest will take
        callbacks.append(Bar())
    trainer = _trainer(
        recipe,
        devices,
        max_epochs=recipe.epochs,
        default_root_dir=out,
        enable_progress_bar=progress,
        callbacks=[callback for callback in callbacks if callback is not None],
        logger=trackers_of(recipe, out),
        plugins=[WholeFiles()],
    )
    start = checkpoints.last if resume and checkpoints.last.exists() else None
    try:
        with _quiet():
            trainer.fit(
                module,
                datamodule=Loaders(work),
                ckpt_path=start,
            )
    except (SystemExit, Exception) as error:
        # Lightning's way to end after Ctrl-C or SIGTERM; or a loader process was told to end before this one was.
        told = isinstance(error, RuntimeError) and trainer.received_sigterm
        if trainer.interrupted and (isinstance(error, SystemExit) or told):
            raise KeyboardInterrupt from None
        if start is not None and not history.has_begun and not isinstance(error, (SystemExit, Failure, OSError)):
            raise unusable(start, f"it does not fit the run ({to_json(error)['what']})") from error
        raise
    return _best_of(checkpoints, trainer.max_epochs or recipe.epochs, trainer.is_global_zero)


def find_lr(work: Work, recipe: Recipe) -> float:
    """Learning-rate finder (Smith, 2015), as Lightning has it: steepest fall of the loss on a rising rate."""
    objective = work.objective
    started = replace(recipe, optimizer=replace(recipe.optimizer, lr=1e-3))
    module = Training(started, objective, work.scoring, 10**6, FiniteLoss(work.where))
    options = {"max_epochs": 100, "logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fiducial-"))  # for the weights that it keeps
        stack.enter_context(_quiet())
        stack.enter_context(muted())
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))  # its own bar can't be switched off
        trainer = _trainer(recipe, Devices(), default_root_dir=folder, **options)
        found = Tuner(trainer).lr_find(
            module,
            datamodule=Loaders(work),
            min_lr=1e-6,
            max_lr=0.1,
            num_training=100,
            attr_name="lr",
        )
    objective.load_state_dict(before)
    rate = None if found is None else suggested_rate(np.array(found.results["lr"]), np.array(found.results["loss"]))
    return 1e-3 if rate is None else rate


def suggested_rate(rates: np.ndarray, losses: np.ndarray) -> float | None:
    """Where the loss [n] falls most steeply over the logarithm of the rates [n], before its lowest point.

    Smoothed over a fifth of the range first, and without the first tenth, whose losses are of single batches: taken
    from the raw losses, as Lightning's own suggestion is, the answer is wherever noise happened to fall. None where
    there is too little to go by, or no rate makes the loss fall."""
    finite = np.isfinite(losses)
    count = len(losses) if finite.all() else int(np.argmin(finite))
    first = count // 10
    if count < 10:
        return None
    window = np.hanning(max(3, len(losses) // 5) + 2)
    padded = np.pad(losses[:count], len(window) // 2, mode="edge")
    smooth = np.convolve(padded, window / window.sum(), mode="same")[len(window) // 2 :][:count]
    lowest = first + int(np.argmin(smooth[first:]))
    if lowest < first + 2 or smooth[lowest] > 0.98 * smooth[first]:
        return None
    slope = np.gradient(smooth, np.log(rates[:count]))
    return float(rates[first + np.argmin(slope[first : lowest + 1])])


def _trainer(recipe: Recipe, devices: Devices, **options: Any) -> L.Trainer:
    # Parameters of a frozen backbone get no gradient at first, which plain DDP takes for an error.
    unused = recipe.optimizer.freeze_epochs > 0
    strategy = "auto" if devices.world == 1 else "ddp_find_unused_parameters_true" if unused else "ddp"
    with _quiet():
        return L.Trainer(
            accelerator=pick_device().type,
            devices=devices.each,
            num_nodes=devices.nodes,
            strategy=strategy,
            sync_batchnorm=devices.world > 1 and pick_device().type == "cuda",
            precision="bf16-mixed" if recipe.precision == "bf16" else "32-true",
            gradient_clip_val=recipe.optimizer.clip_norm or None,
            use_distributed_sampler=False,  # ours knows images with several people, and resumes
            num_sanity_val_steps=0,
            enable_model_summary=False,
            **options,
        )


def _averaging(recipe: Recipe) -> WeightAveraging | None:
    """Exponential moving average of weights and norm statistics. Its decay rises with the steps made, since the
    weights of the start are worth nothing: min(decay, (1 + n) / (10 + n)), as TensorFlow's has it."""
    if recipe.optimizer.ema_decay == 0:
        return None

    @torch.no_grad()
    def update(averaged: Any, current: Any, count: Any) -> None:
        decay = min(recipe.optimizer.ema_decay, (1 + int(count)) / (10 + int(count)))
        # torch hands over groups of one dtype each; counters of norms are taken as they are.
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - decay)  # type: ignore[attr-defined]
        else:
            torch._foreach_copy_(averaged, current)  # type: ignore[attr-defined]

    return WeightAveraging(multi_avg_fn=update)


def _best_of(checkpoints: Checkpoints, epochs: int, is_main_process: bool) -> Best:
    saved = WholeFiles().load_checkpoint(checkpoints.best)
    prefix = "objective."
    weights = {
        name.removeprefix(prefix): value for name, value in saved["state_dict"].items() if name.startswith(prefix)
    }
    epoch = int(saved["epoch"])
    row = next(row for row in checkpoints.history.rows if row["epoch"] == epoch)
    metrics = {name.removeprefix("val/"): value for name, value in row.items() if name.startswith("val/")}
    kept = checkpoints.history
    return Best(weights, metrics, epoch, list(kept.rows), list(kept.unread), epochs, is_main_process)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leaves out Lightning's advice on loggers and workers: it is for those who write loops; ours are chosen."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for text in (
                ".*does not have many workers.*",
                ".*exists and is not empty.*",
                ".*tensorboardX.*",
                ".*isinstance.treespec.*",
                ".*callbacks used to create the checkpoint.*",
            ):
                warnings.filterwarnings("ignore", text)
            if not sys.stderr.isatty():
                warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        logger.setLevel(level)
