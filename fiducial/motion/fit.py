"""`fiducial fit VIDEOS --method motion`: clips in, a run folder out, as of any run and besides

RUN/frames/            the clips' frames as they were learnt from; not needed after training
RUN/generator.*        what animates: the dense motion and the generator"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from fiducial.card import Card
from fiducial.data import checking, skeletons
from fiducial.data.source import Source
from fiducial.errors import UserError
from fiducial.evaluation import evaluate
from fiducial.log import logger
from fiducial.models import detector as detectors
from fiducial.models.detector import Detector
from fiducial.models.heads import motion as motion_head
from fiducial.motion import clips as clips_of
from fiducial.motion import pairs, perceptual, report, system
from fiducial.motion import recipes as motion_recipes
from fiducial.motion.clips import Clips
from fiducial.motion.discriminator import Discriminator
from fiducial.motion.generator import Generator
from fiducial.motion.objective import Motion
from fiducial.motion.pairs import FramePairs
from fiducial.motion.recipes import MotionRecipe
from fiducial.motion.scoring import ReconstructionErrors
from fiducial.motion.teacher import Taught
from fiducial.training import fit as fitting
from fiducial.training import recipes
from fiducial.training.device import worker_count
from fiducial.training.history import ToBeat
from fiducial.training.work import Outcome, Prepare, Work
from fiducial.types import Skeleton


def preparation(source: Source) -> Prepare:
    """Gives what makes the work of a run on the clips of `source`."""

    def prepare(recipe: MotionRecipe, out: Path, begins: bool) -> Work:
        _refuse_what_is_about_labels(source.path, out, recipe)
        objective, initialization = build(recipe)
        if begins:
            _try(objective, recipe)
        clips = clips_for(source, out, recipe, anew=begins)
        return work_of(objective, clips, recipe, initialization, source=str(source))

    return prepare


def clips_for(source: Source, out: Path, recipe: MotionRecipe, *, anew: bool = False) -> Clips:
    """Makes the clips that the recipe asks for in RUN/frames, or opens them there. UserError for a `strict` recipe where some
    can't be read; `anew` replaces those of other videos."""
    folder, spec = out / "frames", recipe.motion.clips
    clips = clips_of.prepare(source, recipe.size, recipe.padding, spec, folder, anew=anew)
    wrong = checking.without_notes(clips.problems)
    if recipe.strict and wrong:
        raise UserError(f"{source}: {len(wrong)} things in it can't be used, first {wrong[0]}; correct or remove them")
    return clips


def usual_recipe() -> MotionRecipe:
    """Gives what the method starts from: what two cores learn in half an hour."""
    return motion_recipes.small()


def build(recipe: MotionRecipe) -> tuple[Motion, str]:
    """Builds the whole system, untrained but for what `--init` gives the detector, and says where that came from."""
    torch.manual_seed(recipe.seed)
    spec = recipe.motion
    detector, initialization = fitting.detector_of(recipe, numbered(spec.points))
    check(detector)
    features, said = perceptual.feature_network(None if spec.features is None else Path(spec.features))
    logger.info(f"pictures are compared by {said}")
    adversary = None if spec.discriminator is None else Discriminator(spec.discriminator, spec.points)
    generator = Generator(spec.generator, spec.points)
    if spec.teacher is None:
        return Motion(detector, generator, features, spec, adversary), initialization
    teacher = load(Path(spec.teacher))
    return Taught(detector, generator, features, spec, teacher, adversary), initialization


def check(detector: Detector) -> None:
    """Raises UserError where the method has no points of this kind."""
    if not isinstance(detector.head, motion_head.Head):
        raise UserError(f"method {detector.spec.method!r} can't be taught without labels; use --method motion")


def numbered(points: int) -> Skeleton:
    """Makes a skeleton of points without names: nobody knows what they will mark."""
    return Skeleton(f"motion{points}", skeletons.numbered(points), named=False)


def work_of(objective: Motion, clips: Clips, recipe: MotionRecipe, initialization: str, *, source: str = "") -> Work:
    """Makes the work of a run on pairs of frames, scored by the reconstruction of held-out clips."""
    from fiducial.motion.watch import SpreadWatch

    workers, spec = worker_count(recipe), recipe.motion

    def train_loader(rank: int, world: int) -> DataLoader:
        return pairs.train_loader(
            clips,
            spec.pairs,
            recipe.batch_size,
            recipe.augment,
            seed=recipe.seed,
            workers=workers,
            rank=rank,
            world=world,
        )

    def save(out: Path, card: Card) -> None:
        system.save(objective.generator, spec.points, out)
        detectors.save(objective.detector, out, card)

    def write_report(outcome: Outcome) -> dict[str, Any]:
        best = load(outcome.out, evaluate.device_name())
        return report.write(outcome.out, outcome.recipe, clips, best, data=source, warning=outcome.warning)

    return Work(
        recipe=recipe,
        objective=objective,
        samples=spec.pairs,
        train_loader=train_loader,
        validation_loader=lambda: pairs.scored_loader(clips, recipe.batch_size, workers),
        scoring=ReconstructionErrors(recipe.size),
        where=clips.where,
        watches=(SpreadWatch(spec.points),),
        fingerprint=clips.index.digest,
        said=(clips.index.used,),
        problems=clips.problems,
        initialization=initialization,
        derived_from=fitting.origins_of(recipe, objective.detector),
        card_metrics={"train_clips": len(clips.chosen(held_out=False))},
        floor=lambda metrics: ToBeat(metrics["copy"], "the first frame, taken for all others"),
        save=save,
        report=write_report,
    )


def load(out: Path, device: str = "cpu") -> Motion:
    """Loads the whole system of a run folder without its adversary, in eval mode: to be scored and looked at."""
    spec = recipes.of_run(out, MotionRecipe).motion
    detector, generator, _ = system.load(out, device)
    return Motion(detector, generator, perceptual.RandomFeatures(), spec).to(device).eval()


def _refuse_what_is_about_labels(path: Path, out: Path, recipe: MotionRecipe) -> None:
    if recipe.points is not None:
        raise UserError(
            "--points picks labelled points, and here they are found without labels: how many is --set motion.points=N"
        )
    if recipe.passes != 1:
        raise UserError(
            f"--set passes={recipe.passes}: an epoch has as many pairs of frames as --set motion.pairs=N says"
        )
    if path.resolve() == out.resolve():
        raise UserError(f"--out {out}: is the folder of the videos; give the run one of its own")


@torch.no_grad()
def _try(objective: Motion, recipe: MotionRecipe) -> None:
    """One black pair, so that a size that some part can't take is told before anything is decoded."""
    black = torch.zeros(1, recipe.size.h, recipe.size.w, 3, dtype=torch.uint8)
    with torch.random.fork_rng():
        objective.eval()(FramePairs(black, black, torch.tensor([False]), torch.tensor([0])))
    objective.train()
