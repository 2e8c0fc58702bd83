"""`fiducial distill`: a teacher, a student's name and pictures in, a run folder out, as of any run and besides

RUN/metrics.json, RUN/report.html, RUN/pictures/    how far it is from the teacher: see `report`
RUN/teacher/           the teacher's answers; not needed after training
RUN/frames/            of videos and pictures without labels, as they were learnt from; not needed after training"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from fiducial import files
from fiducial.card import Card
from fiducial.data.source import Source
from fiducial.distill import cache, choices, report
from fiducial.distill import data as materials
from fiducial.distill import teacher as teachers
from fiducial.distill.cache import Index
from fiducial.distill.choices import refuse_unlike
from fiducial.distill.data import Material
from fiducial.distill.objective import Distillation
from fiducial.distill.scoring import DISTANCE, Distances
from fiducial.distill.signals import Offer, Signals, Terms, decided, distance_px, offer_of, terms_of, why_not
from fiducial.distill.spec import DistillationRecipe, DistillationSpec
from fiducial.distill.teacher import Asked, Teacher, TeacherAnswers
from fiducial.errors import UserError
from fiducial.log import logger
from fiducial.models import detector as detectors
from fiducial.models.detector import Detector
from fiducial.motion import fit as motion
from fiducial.training import fit as fitting
from fiducial.training import run
from fiducial.training.device import pick_device, worker_count
from fiducial.training.history import ToBeat
from fiducial.training.objective import Objective, Supervised
from fiducial.training.work import Outcome, Prepare, Work


def distill(
    teacher: Teacher,
    source: Source,
    out: Path,
    recipe: DistillationRecipe,
    *,
    resume: bool = False,
    devices: int = 1,
    progress: bool = False,
) -> dict[str, Any] | None:
    """Trains and writes the run folder with its report; returns the figures, as `fiducial.training.run.run` does."""
    refuse_unlike(recipe, teacher, out)
    prepare = preparation(teacher, source, progress=progress)
    return run.run(prepare, out, recipe, resume=resume, devices=devices, progress=progress)


def preparation(teacher: Teacher, source: Source, *, progress: bool = False) -> Prepare:
    """Gives what makes the work of a student: its network, the data, the teacher's answers to them."""

    def prepare(recipe: DistillationRecipe, out: Path, begins: bool) -> Work:
        if not begins:
            _refuse_other_teacher(out, teacher)
        student = _student(recipe, teacher)
        recipe = replace(recipe, distillation=student.spec)
        material = materials.material_of(source, out, recipe, teacher, anew=begins)
        if student.terms is None and material.truth is None:
            recipe = _by_motion(source.path, recipe, material, teacher)
            work = motion.preparation(source)(recipe, out, begins)
            return replace(
                work, beside={"teacher": teacher.told()}, report=lambda outcome: _figures(outcome, teacher, source.path)
            )
        distances = _distances(student, teacher, material, out, recipe, progress)
        return _work(student, teacher, material, distances, out, recipe, source.path, progress)

    return prepare


@dataclass(frozen=True)
class Shared:
    """What runs with the same teacher, student and pictures have in common."""

    material: Material
    scored: cache.Kept  # answers to what is scored
    student: Offer


def student_of(recipe: DistillationRecipe, teacher: Teacher, out: Path) -> tuple[Offer, dict[str, str]]:
    """What an untrained student has to say, and each loss with why it can't be for the pair, "" where it can."""
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
    """Frames and answers in OUT/frames and OUT/teacher, for runs with any of these losses to be linked to."""
    spec = recipe.distillation
    material = materials.material_of(source, out, recipe, teacher)
    logger.info(material.said)
    terms = [terms_of(student, teacher.offer, replace(spec, loss=loss)) for loss in losses]  # type: ignore[arg-type]
    if terms and spec.cache:
        held = tuple(dict.fromkeys(name for each in terms for name in _of_terms(each)))
        level = next((each.teacher_level for each in terms if each.attention), None)
        _answers(teacher, material, out, recipe, held, level, scored=False, progress=progress)
    both = _of_both(student, teacher.offer)
    scored = _answers(teacher, material, out, recipe, both, None, scored=True, progress=progress)
    return Shared(material, scored, student)


# --------------------------------------------------------------------------------------------------- what is trained


@dataclass(frozen=True)
class Student:
    """What is trained, by which loss, and what of the teacher it is held against (None: it learns without)."""

    detector: Detector
    initialization: str
    offer: Offer
    spec: DistillationSpec
    terms: Terms | None


def _student(recipe: DistillationRecipe, teacher: Teacher) -> Student:
    """Before any picture is looked at, so that a wrong name or an impossible pair is told at once."""
    detector, initialization = fitting.detector_of(recipe, teacher.detector.spec.skeleton)
    offer = offer_of(detector)
    spec = decided(offer, teacher.offer, recipe.distillation)
    terms = None if spec.loss == "none" else terms_of(offer, teacher.offer, spec)
    own, theirs = (teachers.parameters_of(each) for each in (detector, teacher.detector))
    logger.info(f"student: {own:,} parameters, teacher: {theirs:,} ({theirs / own:.1f} times as many)")
    if recipe.method == teacher.detector.spec.method and choices.MOTION_HEAD.items() <= recipe.head.items():
        logger.info(
            "the student's head has 3x3 convolutions; --set head.kernel=7 --set head.padding=0 for the published ones"
        )
    logger.info(f"loss: {spec.loss}")
    for word in () if terms is None else terms.words:
        logger.info(word)
    return Student(detector, initialization, offer, spec, terms)


def _distances(
    student: Student,
    teacher: Teacher,
    material: Material,
    out: Path,
    recipe: DistillationRecipe,
    progress: bool,
) -> Distances:
    """To the teacher's answers to what is scored; a student that learns from labels is chosen by them."""
    both = _of_both(student.offer, teacher.offer)
    scored = _answers(teacher, material, out, recipe, both, None, scored=True, progress=progress)
    metric = "nme" if student.terms is None else DISTANCE
    return Distances(scored, student.offer, teacher.offer, material.truth, metric)


def _work(
    student: Student,
    teacher: Teacher,
    material: Material,
    distances: Distances,
    out: Path,
    recipe: DistillationRecipe,
    path: Path,
    progress: bool,
) -> Work:
    """Crops, what is minimised on them, and the distance to the teacher's answers as the score."""
    spec, terms = recipe.distillation, student.terms
    watches: tuple[Any, ...] = ()
    if terms is None:
        from fiducial.training.watch import CollapseWatch

        objective: Objective = Supervised(student.detector)
        watches = (CollapseWatch(),)
    else:
        answers: TeacherAnswers = Asked(teacher.detector, terms.teacher_level)
        if spec.cache:
            held, level = _of_terms(terms), terms.teacher_level
            answers = _answers(teacher, material, out, recipe, held, level, scored=False, progress=progress)
        # Anew: reading the images has drawn random numbers, or not, where the answers were there already.
        torch.manual_seed(recipe.seed)
        objective = Distillation(student.detector, teacher, answers, terms, spec)

    def train_loader(rank: int, world: int) -> DataLoader:
        return material.train_loader(recipe, rank, world)

    def validation_loader() -> DataLoader:
        return material.plain_loader(True, recipe.size, recipe.batch_size, worker_count(recipe))

    def write_report(outcome: Outcome) -> dict[str, Any]:
        about = _about(outcome.card, teacher, path)
        crops = validation_loader()
        return report.write(
            outcome.out, outcome.recipe, teacher, material, distances, crops, about=about, warning=outcome.warning
        )

    count = len(material.rows(False))
    return Work(
        recipe=recipe,
        objective=objective,
        samples=count,
        train_loader=train_loader,
        validation_loader=validation_loader,
        scoring=distances,
        where=material.where,
        watches=watches,
        fingerprint=material.fingerprint,
        said=(material.said,),
        problems=material.problems,
        beside={"teacher": teacher.told()},
        initialization=student.initialization,
        licence=_licence(student.detector, teacher),
        card_metrics={"train_instances": count, "loss": spec.loss, "teacher": teacher.told()},
        floor=lambda metrics: _floor(distances),
        save=lambda folder, card: detectors.save(student.detector.eval(), folder, card),
        report=write_report,
    )


def _floor(distances: Distances) -> ToBeat | None:
    """The distance of one answer for all crops, the mean of the teacher's; None where labels are the score."""
    if distances.metric != DISTANCE or not isinstance(distances.answers, cache.Kept):
        return None
    xy_unit = torch.from_numpy(np.array(distances.answers.columns["xy_unit"]))
    constant = Signals(xy_unit.mean(0, keepdim=True))
    px = float(distance_px(constant, Signals(xy_unit), distances.student.size).mean())
    return ToBeat(px, "the mean of the teacher's points, taken for every crop")


def _of_both(student: Offer, teacher: Offer) -> tuple[str, ...]:
    """What is scored: all that both have."""
    names = {"xy_unit": True, "jacobian": student.jacobians and teacher.jacobians,
             "maps": student.cells is not None and teacher.cells is not None}  # fmt: skip
    return tuple(name for name, there in names.items() if there)


def _of_terms(terms: Terms) -> tuple[str, ...]:
    names = {"xy_unit": True, "jacobian": terms.jacobians, "maps": terms.heatmaps, "feature": terms.attention}
    return tuple(name for name, there in names.items() if there)


def _answers(
    teacher: Teacher, material: Material, out: Path, recipe: DistillationRecipe, held: tuple[str, ...], level: int | None, *,
    scored: bool, progress: bool,
) -> cache.Kept:  # fmt: skip
    """Of all crops that are scored, or of those that are learnt from."""
    size = teacher.offer.size
    rows = material.rows(scored)
    wanted = Index(teacher.fingerprint, material.fingerprint, size, recipe.padding, len(rows), held, level)
    teacher.detector.to(pick_device())
    asked = Asked(teacher.detector, level)

    def crops() -> Any:
        for batch in material.plain_loader(scored, size, recipe.batch_size, worker_count(recipe)):
            yield type(batch)(*(column.to(teacher.detector.mean.device) for column in batch))

    folder = out / "teacher" / ("val" if scored else "train")
    return cache.kept(folder, asked, wanted, crops, progress=progress)


def _by_motion(path: Path, recipe: DistillationRecipe, material: Material, teacher: Teacher) -> DistillationRecipe:
    """Without the teacher and without labels: what the student finds by itself, in as many steps."""
    if not teacher.detector.head.learns_without_labels:
        raise UserError(
            f"--loss none: there is nothing to learn from: {path} has no labels of the teacher's points, and its method "
            f"{teacher.detector.spec.method!r} needs some; leave the control out, or give labelled data"
        )
    spec = replace(recipe.motion, points=teacher.offer.points, pairs=len(material.rows(False)))
    return replace(recipe, motion=spec)


def _figures(outcome: Outcome, teacher: Teacher, path: Path) -> dict[str, Any]:
    """Of a student that learnt without the teacher: its points are its own, so that no page compares the two."""
    written = {"model": str(outcome.out), "history": str(outcome.out / "history.csv")}
    return {**_about(outcome.card, teacher, path), "metrics": outcome.card.metrics["val"], "files": written}


# ------------------------------------------------------------------------------------------ what is refused, and told


def _refuse_other_teacher(out: Path, teacher: Teacher) -> None:
    then = files.read_json(out / "recipe.json").get("teacher", {})
    if then.get("fingerprint") != teacher.fingerprint:
        raise UserError(
            f"{out}: a run is resumed with the teacher that it began with, {then.get('path')}; {teacher.path} has other weights"
        )


def _licence(detector: Detector, teacher: Teacher) -> str:
    own, theirs = detector.backbone.licence, teacher.card.licence
    return own if own == theirs else f"{own}; taught by a model of licence: {theirs}"


def _about(card: Card, teacher: Teacher, path: Path) -> dict[str, Any]:
    """What is known of a run besides its figures."""
    return {
        "teacher": str(teacher.path), "data": str(path), "loss": card.metrics.get("loss", "none"),
        "epoch": card.metrics["epoch"],
        "student_parameters": teachers.parameters_of(detectors.build(card.spec)),
        "teacher_parameters": teachers.parameters_of(teacher.detector),
    }  # fmt: skip
