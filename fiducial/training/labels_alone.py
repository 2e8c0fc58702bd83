"""A run that learnt from images without labels too, held against the same one on labels alone.

That such images hurt is seen in val's error only where it grows, not where it falls more slowly than it would have. So once the run
is over its labels alone are learnt from by the same network from the same start in as many steps, and what val likes better is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fiducial import files
from fiducial.log import logger
from fiducial.training import engine
from fiducial.training.engine import Best
from fiducial.training.nodes import Devices
from fiducial.training.recipe import Recipe
from fiducial.training.work import Rival

FOLDER = "labels_alone"  # in the run's, with its checkpoints
LOSER = "history.with_unlabelled.csv"  # the epochs of the run itself, where labels alone are kept


def better(best: Best, rival: Rival, recipe: Recipe, out: Path, *, devices: Devices, progress: bool) -> Best:
    """Trains the rival and gives the better of the two, after telling the rival's judge. OUT/history.csv is that of what is
    kept."""
    if not rival.is_due():
        return best
    if devices.world > 1:
        logger.warning(
            "unlabelled: on several devices no run on labels alone shows what the unlabelled images were worth"
        )
        return best
    logger.info(
        "unlabelled: now the same on labels alone, to see what the unlabelled images were worth "
        "(--set unlabelled.control=false leaves it out)"
    )
    alone = replace(recipe, unlabelled=None, minutes=None)
    work, folder = rival.work(alone, out), out / FOLDER
    folder.mkdir(exist_ok=True)
    other = engine.run(work, alone, folder, resume=True, devices=devices, progress=progress)
    metric = work.scoring.metric
    rival.judge(best.metrics[metric], other.metrics[metric])
    if not other.metrics[metric] < best.metrics[metric]:
        return best
    files.write_bytes(out / LOSER, (out / "history.csv").read_bytes())
    files.write_bytes(out / "history.csv", (folder / "history.csv").read_bytes())
    return other
