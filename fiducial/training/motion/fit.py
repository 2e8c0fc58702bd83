"""`fiducial fit VIDEOS --method motion`: clips in, a run folder out, as of any run and besides

RUN/frames/            the clips' frames as they were learnt from; not needed after training
RUN/generator.*        what animates: the dense motion and the generator"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from fiducial import config
from fiducial.data import clips as clips_of
from fiducial.data import pairs, skeletons
from fiducial.data.clips import Clips
from fiducial.errors import UserError
from fiducial.models import detector as detectors
from fiducial.models.card import Card
from fiducial.models.detector import Detector
from fiducial.models.heads import motion as motion_head
from fiducial.models.motion import perceptual, system
from fiducial.models.motion.discriminator import Discriminator
from fiducial.models.motion.generator import Generator
from fiducial.training import engine
from fiducial.training import fit as fitting
from fiducial.training.motion.objective import Motion
from fiducial.training.motion.scoring import ReconstructionErrors, SpreadWatch
from fiducial.training.recipe import Recipe
from fiducial.training.work import Work
from fiducial.types import Skeleton

Echo = Callable[[str], None]


def fit(
    path: Path, out: Path, recipe: Recipe, *,
    resume: bool = False, devices: int = 1, progress: bool = False, echo: Echo = print,
) -> tuple[Card, Clips]:  # fmt: skip
    """Trains and writes the run folder; returns the best detector's card and the clips."""
    first = int(os.environ.get("LOCAL_RANK", "0")) == 0
    if resume or not first:
        # The frames of the run's own settings must be there, whatever is asked for now.
        begun = config.from_dict(Recipe, config.read_json(_recipe_of(out))["recipe"], str(out / "recipe.json"))
        clips = prepare(path, out, begun)
        recipe = fitting.resumed_recipe(out, recipe if first else None, clips.index.digest)
    else:
        fitting.refuse_other_run(out)
        clips = prepare(path, out, recipe)
        echo(clips.index.used)
        for problem in clips.problems[:10]:
            echo(f"left out: {problem}")
    torch.manual_seed(recipe.seed)
    objective, initialization = build(recipe, echo if first else lambda line: None)
    work = work_of(objective, clips, recipe, echo)
    if first and not resume:
        probe = next(iter(work.train_loader(0, 1)))
        recipe = fitting.with_fastest_step(recipe, objective, probe, engine.pick_device(), echo)
        config.write_json(out / "recipe.json", {"recipe": recipe, "data": clips.index.digest})
    best = engine.run(work, recipe, out, resume=resume, devices=devices, progress=progress, echo=echo)
    metrics = {"val": best.metrics, "epoch": best.epoch, "seed": recipe.seed, "train_clips": len(clips.chosen(False))}
    card = Card(objective.detector.spec, objective.detector.backbone.licence, initialization, metrics)
    if best.is_main_process:
        objective.load_state_dict(best.weights)
        objective.eval()
        system.save(objective.generator, recipe.motion.points, out)
        detectors.save(objective.detector, out, card)
    return card, clips


def prepare(path: Path, out: Path, recipe: Recipe) -> Clips:
    """The clips as the recipe wants them, in RUN/frames."""
    return clips_of.prepare(path, recipe.size, recipe.padding, recipe.motion.clips, out / "frames")


def build(recipe: Recipe, echo: Echo) -> tuple[Motion, str]:
    """The whole system, untrained but for what `--init` gives the detector, and where that came from."""
    spec = recipe.motion
    detector, initialization = fitting.detector_of(recipe, numbered(spec.points), echo)
    check(detector)
    features, said = perceptual.feature_network(None if spec.features is None else Path(spec.features))
    echo(f"pictures are compared by {said}")
    adversary = None if spec.discriminator is None else Discriminator(spec.discriminator, spec.points)
    return Motion(detector, Generator(spec.generator, spec.points), features, spec, adversary), initialization


def check(detector: Detector) -> None:
    """UserError where the method has no points of this kind."""
    if not isinstance(detector.head, motion_head.Head):
        raise UserError(f"method {detector.spec.method!r} can't be taught without labels; use --method motion")


def numbered(points: int) -> Skeleton:
    """Points without names, as nobody knows what they will mark."""
    return Skeleton(f"motion{points}", skeletons.numbered(points))


def work_of(objective: Motion, clips: Clips, recipe: Recipe, echo: Echo) -> Work:
    """Pairs of frames, scored by the reconstruction of held-out clips."""
    workers = engine.worker_count(recipe)

    def train_loader(rank: int, world: int) -> DataLoader:
        return pairs.train_loader(
            clips, recipe.motion.pairs, recipe.batch_size, recipe.augment,
            seed=recipe.seed, workers=workers, rank=rank, world=world,
        )  # fmt: skip

    return Work(
        objective, recipe.motion.pairs, train_loader, lambda: pairs.scored_loader(clips, recipe.batch_size, workers),
        ReconstructionErrors(recipe.size), clips.where, watches=(SpreadWatch(echo),),
    )  # fmt: skip


def _recipe_of(out: Path) -> Path:
    path = out / "recipe.json"
    if not path.exists():
        raise UserError(f"{out}: no run to resume (no recipe.json). Start it without --resume")
    return path
