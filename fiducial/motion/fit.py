"""`fiducial fit VIDEOS --method motion`: clips in, a run folder out, as of any run and besides

RUN/frames/            the clips' frames as they were learnt from; not needed after training
RUN/generator.*        what animates: the dense motion and the generator"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from fiducial import config, files
from fiducial.card import Card
from fiducial.data import checking, skeletons
from fiducial.errors import UserError
from fiducial.models import detector as detectors
from fiducial.models.detector import Detector
from fiducial.models.heads import motion as motion_head
from fiducial.motion import clips as clips_of
from fiducial.motion import pairs, perceptual, system
from fiducial.motion.clips import Clips
from fiducial.motion.discriminator import Discriminator
from fiducial.motion.generator import Generator
from fiducial.motion.objective import Motion
from fiducial.motion.pairs import Pairs
from fiducial.motion.scoring import ReconstructionErrors, SpreadWatch
from fiducial.motion.teacher import Taught
from fiducial.training import engine
from fiducial.training import fit as fitting
from fiducial.training.recipe import Recipe
from fiducial.training.work import Work
from fiducial.types import Skeleton

Echo = Callable[[str], None]


def fit(
    path: Path, out: Path, recipe: Recipe, *,
    resume: bool = False, devices: int = 1, images: Path | None = None, category: str | None = None,
    progress: bool = False, echo: Echo = print,
) -> tuple[Card, Clips]:  # fmt: skip
    """Trains and writes the run folder; returns the best detector's card and the clips."""
    first = int(os.environ.get("LOCAL_RANK", "0")) == 0
    _refuse_what_is_about_labels(path, out, recipe)
    if resume or not first:
        # The frames of the run's own settings must be there, whatever is asked for now.
        begun = recipe_of(out)
        clips = prepare(path, out, begun, images=images, category=category)
        recipe = fitting.resumed_recipe(out, recipe if first else None, clips.index.digest)
        objective, initialization = build(recipe, echo if first else lambda line: None)
    else:
        fitting.refuse_other_run(out)
        objective, initialization = build(recipe, echo)
        _try(objective, recipe)
        clips = prepare(path, out, recipe, images=images, category=category, anew=True)
        _tell(clips, out, echo)
    work = work_of(objective, clips, recipe, echo)
    if first and not resume:
        probe = next(iter(work.train_loader(0, 1)))
        recipe = fitting.with_fastest_step(recipe, objective, probe, engine.pick_device(), echo)
        if recipe.optimizer.lr == "auto":
            lr = engine.find_lr(work_of(objective, clips, recipe, echo), recipe)
            echo(f"learning rate found: {lr:.2g}")
            recipe = replace(recipe, optimizer=replace(recipe.optimizer, lr=lr))
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


def prepare(
    path: Path,
    out: Path,
    recipe: Recipe,
    *,
    images: Path | None = None,
    category: str | None = None,
    anew: bool = False,
) -> Clips:
    """The clips as the recipe wants them, in RUN/frames."""
    folder, spec = out / "frames", recipe.motion.clips
    clips = clips_of.prepare(
        path, recipe.size, recipe.padding, spec, folder, images=images, category=category, anew=anew
    )
    wrong = checking.without_notes(clips.problems)
    if recipe.strict and wrong:
        raise UserError(f"{path}: {len(wrong)} things in it can't be used, first {wrong[0]}; correct or remove them")
    return clips


def build(recipe: Recipe, echo: Echo) -> tuple[Motion, str]:
    """The whole system, untrained but for what `--init` gives the detector, and where that came from."""
    torch.manual_seed(recipe.seed)
    spec = recipe.motion
    detector, initialization = fitting.detector_of(recipe, numbered(spec.points), echo)
    check(detector)
    features, said = perceptual.feature_network(None if spec.features is None else Path(spec.features))
    echo(f"pictures are compared by {said}")
    adversary = None if spec.discriminator is None else Discriminator(spec.discriminator, spec.points)
    generator = Generator(spec.generator, spec.points)
    if spec.teacher is None:
        return Motion(detector, generator, features, spec, adversary), initialization
    teacher = load(Path(spec.teacher))
    return Taught(detector, generator, features, spec, teacher, adversary), initialization


def check(detector: Detector) -> None:
    """UserError where the method has no points of this kind."""
    if not isinstance(detector.head, motion_head.Head):
        raise UserError(f"method {detector.spec.method!r} can't be taught without labels; use --method motion")


def numbered(points: int) -> Skeleton:
    """Points without names, as nobody knows what they will mark."""
    return Skeleton(f"motion{points}", skeletons.numbered(points), named=False)


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
        ReconstructionErrors(recipe.size), clips.where, watches=(SpreadWatch(echo, recipe.motion.points),),
    )  # fmt: skip


def recipe_of(out: Path) -> Recipe:
    """What a run began with."""
    path = out / "recipe.json"
    if not path.exists():
        raise UserError(f"{out}: no run to resume (no recipe.json). Start it without --resume")
    return config.from_dict(Recipe, files.read_json(path)["recipe"], str(path))


def load(out: Path, device: str = "cpu") -> Motion:
    """The whole system of a run folder without its adversary, in eval mode: to be scored and looked at."""
    spec = recipe_of(out).motion
    detector, generator, _ = system.load(out, device)
    return Motion(detector, generator, perceptual.RandomFeatures(), spec).to(device).eval()


def _refuse_what_is_about_labels(path: Path, out: Path, recipe: Recipe) -> None:
    if recipe.points is not None:
        raise UserError(
            "--points picks labelled points, and here they are found without labels: how many is --set motion.points=N"
        )
    if path.resolve() == out.resolve():
        raise UserError(f"--out {out}: is the folder of the videos; give the run one of its own")


@torch.no_grad()
def _try(objective: Motion, recipe: Recipe) -> None:
    """One black pair, so that a size that some part can't take is told before anything is decoded."""
    black = torch.zeros(1, recipe.size.h, recipe.size.w, 3, dtype=torch.uint8)
    with torch.random.fork_rng():
        objective.eval()(Pairs(black, black, torch.tensor([False]), torch.tensor([0])))
    objective.train()


def _tell(clips: Clips, out: Path, echo: Echo) -> None:
    echo(clips.index.used)
    for problem in clips.problems[:10]:
        echo(str(problem))
    if len(clips.problems) > 10:
        echo(f".. and {len(clips.problems) - 10} more, all in {out / 'problems.txt'}")
