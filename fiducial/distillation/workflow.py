"""`fiducial distill`: a teacher, a student's name and pictures in, a run folder out, as of any run and besides

RUN/metrics.json, RUN/report.html, RUN/pictures/    how far it is from the teacher: see `report`
RUN/teacher/           the teacher's answers; not needed after training
RUN/frames/            of videos and pictures without labels, as they were learnt from; not needed after training"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader

from fiducial import files
from fiducial.data.source import Source
from fiducial.distillation import data as materials
from fiducial.distillation import recipes, report
from fiducial.distillation.cache import Index, KeptAnswers, kept_answers
from fiducial.distillation.data import Material
from fiducial.distillation.objective import Distillation
from fiducial.distillation.recipes import refuse_unlike
from fiducial.distillation.scoring import DISTANCE, Distances
from fiducial.distillation.signals import (
    Offer,
    Signals,
    Terms,
    common_fields,
    decided,
    distance_px,
    offer_of,
    terms_of,
    why_not,
)
from fiducial.distillation.spec import DistillationRecipe
from fiducial.distillation.teacher import Asked, Teacher, TeacherAnswers, parameters_of
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.log import logger
from fiducial.models import detector as detectors
from fiducial.models.detector import Detector
from fiducial.motion import fit as motion
from fiducial.training import fit as fitting
from fiducial.training import plan, run
from fiducial.training.device import pick_device, worker_count
from fiducial.training.history import ToBeat
from fiducial.training.nodes import Devices
from fiducial.training.objective import Objective, Supervised
from fiducial.training.work import Prepare, Work, nothing
from fiducial.types import Batch


def distill(
    teacher: Teacher,
    source: Source,
    out: Path,
    recipe: DistillationRecipe,
    *,
    resume: bool = False,
    given: Collection[str] | None = None,
    devices: Devices = Devices(),  # noqa: B008
    progress: bool = False,
) -> dict[str, Any] | None:
    """Trains and writes the run folder with its report; returns the figures, as `fiducial.training.run.run` does.

    given: the settings that are not to be planned; None = all."""
    refuse_unlike(recipe, teacher, out)
    prepare = preparation(teacher, source, given, progress=progress)
    return run.run(prepare, out, recipe, resume=resume, devices=devices, progress=progress)


def preparation(
    teacher: Teacher, source: Source, given: Collection[str] | None = None, *, progress: bool = False
) -> Prepare:
    """Gives what makes the work of a student: its network, the data, the teacher's answers to them. given: as `distill`
    has it."""

    def prepare(recipe: DistillationRecipe, out: Path, begins: bool) -> Work:
        if not begins:
            _refuse_other_teacher(out, teacher)
        # Before any image is looked at, so that a wrong name or an impossible pair is told at once.
        detector, initialization = fitting.detector_of(recipe, teacher.detector.spec.skeleton)
        offer = offer_of(detector)
        spec = decided(offer, teacher.offer, recipe.distillation)
        terms = None if spec.loss == "none" else terms_of(offer, teacher.offer, spec)
        recipe = replace(recipe, distillation=spec)
        _tell(detector, teacher, recipe, terms)
        material = materials.material_of(source, out, recipe, teacher, anew=begins, looks=begins)
        if begins and given is not None:
            recipe, choices = plan.plan_of_steps(len(material.learnt), recipe, given)
            for choice in choices:
                logger.info(str(choice))
        else:
            choices = plan.read(out)
        beside = {"teacher": teacher.told(), **({"plan": choices} if choices else {})}
        if terms is None and material.truth is None:
            return replace(_work_by_motion(source, out, recipe, material, teacher, begins), beside=beside)
        ask = asker(teacher, material, out, recipe, progress)
        answers = ask("val", common_fields(offer, teacher.offer), None)
        metric = "nme" if terms is None else DISTANCE  # a student that learns from labels is chosen by them
        distances = Distances(answers, offer, teacher.offer, material.truth, metric)
        objective, watches = _objective(detector, teacher, terms, recipe, ask)

        def validation_loader() -> DataLoader:
            return material.scored.loader(recipe.size, recipe.batch_size, worker_count(recipe))

        return Work(
            recipe=recipe,
            objective=objective,
            samples=len(material.learnt),
            passes=recipe.passes,
            train_loader=partial(material.learnt.train_loader, recipe),
            validation_loader=validation_loader,
            scoring=distances,
            where=material.learnt.where,
            watches=watches,
            fingerprint=material.fingerprint,
            said=(material.said,),
            problems=material.problems,
            beside=beside,
            initialization=initialization,
            data_licences=material.licences,
            derived_from={**fitting.origins_of(recipe, detector), **detectors.origins_of(teacher.path)},
            card_metrics={
                "train_instances": len(material.learnt),
                **fitting.box_share(material.learnt.instances(recipe.size)),
                "loss": spec.loss,
                "teacher": teacher.told(),
            },
            floor=lambda metrics: None if terms is None else _floor(answers, recipe.size),
            calibrate=nothing if material.truth is None else partial(fitting.calibrate, detector, material.truth),
            save=lambda folder, card: detectors.save(detector.eval(), folder, card),
            report=lambda outcome: report.write(outcome, teacher, material, distances, validation_loader(), source),
        )

    return prepare


# ------------------------------------------------------------------------------------------------- what a study shares


@dataclass(frozen=True)
class Shared:
    """Holds what runs with the same teacher, student and data have in common."""

    material: Material
    scored: KeptAnswers  # answers to what is scored
    student: Offer


def student_of(recipe: DistillationRecipe, teacher: Teacher, out: Path) -> tuple[Offer, dict[str, str]]:
    """Finds out what an untrained student has to say, and why the pair can't have each loss, "" where it can."""
    refuse_unlike(recipe, teacher, out, is_study=True)
    detector, _ = fitting.detector_of(replace(recipe, pretrained="no", init=None), teacher.detector.spec.skeleton)
    offer = offer_of(detector)
    return offer, why_not(offer, teacher.offer, recipe.distillation)


def share(
    teacher: Teacher,
    student: Offer,
    source: Source,
    out: Path,
    recipe: DistillationRecipe,
    losses: Sequence[str],
    *,
    progress: bool = False,
) -> Shared:
    """Makes frames and answers in OUT/frames and OUT/teacher, for runs with any of these losses to be linked to."""
    spec = recipe.distillation
    material = materials.material_of(source, out, recipe, teacher)
    logger.info(material.said)
    ask = asker(teacher, material, out, recipe, progress)
    terms = [terms_of(student, teacher.offer, replace(spec, loss=loss)) for loss in losses]  # type: ignore[arg-type]
    if terms and spec.cache:
        fields = tuple(dict.fromkeys(name for of_loss in terms for name in of_loss.fields))
        ask("train", fields, next((of_loss.teacher_level for of_loss in terms if of_loss.attention), None))
    return Shared(material, ask("val", common_fields(student, teacher.offer), None), student)


# ------------------------------------------------------------------------------------------------------------- its parts

Ask = Callable[[Literal["train", "val"], tuple[str, ...], int | None], KeptAnswers]


def asker(teacher: Teacher, material: Material, out: Path, recipe: DistillationRecipe, progress: bool) -> Ask:
    """Gives what asks the teacher about all crops to learn from ("train") or to score on ("val"), once.

    It takes the fields of `Signals` that are wanted and the backbone's level whose map is one of them. The answers are
    kept in OUT/teacher/train and OUT/teacher/val."""
    size = teacher.offer.size
    teacher.detector.to(pick_device())

    def ask(part: Literal["train", "val"], fields: tuple[str, ...], level: int | None) -> KeptAnswers:
        crop_set = material.learnt if part == "train" else material.scored
        wanted = Index(
            teacher=teacher.fingerprint,
            data=material.fingerprint,
            size=size,
            padding=recipe.padding,
            count=len(crop_set),
            held=fields,
            level=level,
        )

        def crops() -> Iterator[Batch]:
            for batch in crop_set.loader(size, recipe.batch_size, worker_count(recipe)):
                yield Batch(*(column.to(teacher.detector.mean.device) for column in batch))

        asked = Asked(teacher.detector, level)
        return kept_answers(out / "teacher" / part, asked, wanted, crops, progress=progress)

    return ask


def _objective(
    detector: Detector, teacher: Teacher, terms: Terms | None, recipe: DistillationRecipe, ask: Ask
) -> tuple[Objective, tuple[Any, ...]]:
    """What is minimised, and what watches over it; `terms` None: by labels, without the teacher."""
    if terms is None:
        from fiducial.training.watch import CollapseWatch

        return Supervised(detector), (CollapseWatch(),)
    answers: TeacherAnswers = Asked(teacher.detector, terms.teacher_level)
    if recipe.distillation.cache:
        answers = ask("train", terms.fields, terms.teacher_level)
    # Anew: reading the images has drawn random numbers, or not, where the answers were there already.
    torch.manual_seed(recipe.seed)
    return Distillation(detector, teacher, answers, terms, recipe.distillation), ()


def _floor(answers: KeptAnswers, size: Size) -> ToBeat:
    """The distance of one answer for all crops, the mean of the teacher's."""
    xy_unit = torch.from_numpy(np.array(answers.columns["xy_unit"]))
    px = float(distance_px(Signals(xy_unit.mean(0, keepdim=True)), Signals(xy_unit), size).mean())
    return ToBeat(px, "the mean of the teacher's points, taken for every crop")


def _work_by_motion(
    source: Source, out: Path, recipe: DistillationRecipe, material: Material, teacher: Teacher, begins: bool
) -> Work:
    """Without the teacher and without labels: what the student finds by itself, in as many steps."""
    if not teacher.detector.head.learns_without_labels:
        raise UserError(
            f"--loss none: there is nothing to learn from: {source} has no labels of the teacher's points, and its method "
            f"{teacher.detector.spec.method!r} needs some; leave the control out, or give labelled data"
        )
    spec = replace(
        recipe.motion, points=teacher.offer.points, pairs=max(1, round(recipe.passes * len(material.learnt)))
    )
    work = motion.preparation(source)(replace(recipe, motion=spec, passes=1), out, begins)
    return replace(
        work,
        report=lambda outcome: report.figures_without_teacher(outcome, teacher, source),
    )


# ------------------------------------------------------------------------------------------ what is refused, and told


def _tell(detector: Detector, teacher: Teacher, recipe: DistillationRecipe, terms: Terms | None) -> None:
    count, teachers_count = parameters_of(detector), parameters_of(teacher.detector)
    times = teachers_count / count
    logger.info(f"student: {count:,} parameters, teacher: {teachers_count:,} ({times:.1f} times as many)")
    if recipe.method == teacher.detector.spec.method and recipes.MOTION_HEAD.items() <= recipe.head.items():
        logger.info(
            "the student's head has 3x3 convolutions; --set head.kernel=7 --set head.padding=0 for the published ones"
        )
    logger.info(f"loss: {recipe.distillation.loss}")
    for word in () if terms is None else terms.words:
        logger.info(word)


def _refuse_other_teacher(out: Path, teacher: Teacher) -> None:
    then = files.read_part(out / "recipe.json", "teacher")
    if then.get("fingerprint") != teacher.fingerprint:
        raise UserError(
            f"{out}: a run is resumed with the teacher that it began with, {then.get('path')}; {teacher.path} has other weights"
        )
