"""`fiducial distill`: a teacher, a student's name and pictures in, a run folder out, as of any run and besides

RUN/metrics.json, RUN/report.html, RUN/pictures/    how far it is from the teacher: see `report`
RUN/teacher/           the teacher's answers; not needed after training
RUN/frames/            of videos and pictures without labels, as they were learnt from; not needed after training"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from fiducial import config, files
from fiducial.card import Card
from fiducial.distill import cache, choices, report
from fiducial.distill import data as materials
from fiducial.distill import teacher as teachers
from fiducial.distill.cache import Index
from fiducial.distill.choices import refuse_unlike, spec_of
from fiducial.distill.data import Material
from fiducial.distill.objective import Distillation
from fiducial.distill.scoring import DISTANCE, Distances
from fiducial.distill.signals import Offer, Terms, decided, offer_of, terms_of, why_not
from fiducial.distill.spec import DistillationSpec
from fiducial.distill.teacher import Answers, Asked, Teacher
from fiducial.errors import UserError
from fiducial.models import detector as detectors
from fiducial.models.detector import Detector
from fiducial.motion import fit as motion
from fiducial.training import engine, recipes
from fiducial.training import fit as fitting
from fiducial.training.objective import Objective, Supervised
from fiducial.training.recipe import Recipe
from fiducial.training.watch import CollapseWatch
from fiducial.training.work import Work

Echo = Callable[[str], None]


def distill(
    teacher: Teacher, path: Path, out: Path, recipe: Recipe, *,
    resume: bool = False, devices: int = 1, images: Path | None = None, category: str | None = None,
    progress: bool = False, echo: Echo = print,
) -> dict[str, Any] | None:  # fmt: skip
    """Trains and writes the run folder; returns its figures, None in the helper processes of a run on several devices."""
    first = int(os.environ.get("LOCAL_RANK", "0")) == 0
    say = echo if first else lambda line: None
    asked, begins = recipe, first and not resume
    refuse_unlike(asked, teacher, out)
    if begins:
        fitting.refuse_other_run(out)
    else:
        recipe = _begun(out)
    student = _student(recipe, teacher, say)
    recipe = replace(recipe, distillation=student.spec)
    material = materials.material_of(path, out, recipe, teacher, images=images, category=category, anew=begins)
    say(material.said)
    for problem in material.problems[:10]:
        say(str(problem))
    options: dict[str, Any] = {"resume": resume, "devices": devices, "progress": progress, "echo": echo}
    if student.terms is None and material.truth is None:
        card = _by_motion(path, out, asked, material, teacher, images=images, category=category, **options)
        files = {"model": str(out), "history": str(out / "history.csv")}
        return {**_about(card, teacher, path), "metrics": card.metrics["val"], "files": files} if first else None
    if not begins:
        recipe = fitting.resumed_recipe(out, asked if first else None, material.fingerprint)
        _refuse_other_teacher(out, teacher)
    distances = _distances(student, teacher, material, out, recipe, progress, say)
    work = _work(student, teacher, material, distances, out, recipe, progress, say)
    if begins:
        recipe = _settle(recipe, work, say)
        told = {"recipe": recipe, "data": material.fingerprint, "teacher": teacher.told()}
        config.write_json(out / "recipe.json", told)
    best = engine.run(work, recipe, out, **options)
    metrics = {
        "val": best.metrics, "epoch": best.epoch, "seed": recipe.seed, "train_instances": work.samples,
        "loss": spec_of(recipe).loss, "teacher": teacher.told(),
    }  # fmt: skip
    card = Card(student.detector.spec, _licence(student.detector, teacher), student.initialization, metrics)
    if not best.is_main_process:
        return None
    work.objective.load_state_dict(best.weights)
    detectors.save(student.detector.eval(), out, card)
    about = _about(card, teacher, path)
    return report.write(out, recipe, teacher, material, distances, work.validation_loader(), about=about)


@dataclass(frozen=True)
class Shared:
    """What runs with the same teacher, student and pictures have in common."""

    material: Material
    scored: cache.Kept  # answers to what is scored
    student: Offer


def student_of(recipe: Recipe, teacher: Teacher, out: Path, echo: Echo) -> tuple[Offer, dict[str, str]]:
    """What an untrained student has to say, and each loss with why it can't be for the pair, "" where it can."""
    refuse_unlike(recipe, teacher, out, is_study=True)
    detector, _ = fitting.detector_of(replace(recipe, pretrained="no", init=None), teacher.detector.spec.skeleton, echo)
    offer = offer_of(detector)
    return offer, why_not(offer, teacher.offer, spec_of(recipe))


def share(
    teacher: Teacher, student: Offer, path: Path, out: Path, recipe: Recipe, losses: Sequence[str], *,
    images: Path | None = None, category: str | None = None, progress: bool = False, echo: Echo = print,
) -> Shared:  # fmt: skip
    """Frames and answers in OUT/frames and OUT/teacher, for runs with any of these losses to be linked to."""
    spec = spec_of(recipe)
    material = materials.material_of(path, out, recipe, teacher, images=images, category=category)
    echo(material.said)
    terms = [terms_of(student, teacher.offer, replace(spec, loss=loss)) for loss in losses]  # type: ignore[arg-type]
    if terms and spec.cache:
        held = tuple(dict.fromkeys(name for each in terms for name in _of_terms(each)))
        level = next((each.teacher_level for each in terms if each.attention), None)
        _answers(teacher, material, out, recipe, held, level, scored=False, progress=progress, echo=echo)
    both = _of_both(student, teacher.offer)
    scored = _answers(teacher, material, out, recipe, both, None, scored=True, progress=progress, echo=echo)
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


def _student(recipe: Recipe, teacher: Teacher, echo: Echo) -> Student:
    """Before any picture is looked at, so that a wrong name or an impossible pair is told at once."""
    torch.manual_seed(recipe.seed)
    detector, initialization = fitting.detector_of(recipe, teacher.detector.spec.skeleton, echo)
    offer = offer_of(detector)
    spec = decided(offer, teacher.offer, spec_of(recipe))
    terms = None if spec.loss == "none" else terms_of(offer, teacher.offer, spec)
    own, theirs = (teachers.parameters_of(each) for each in (detector, teacher.detector))
    echo(f"student: {own:,} parameters, teacher: {theirs:,} ({theirs / own:.1f} times as many)")
    if recipe.method == teacher.detector.spec.method and choices.MOTION_HEAD.items() <= recipe.head.items():
        echo("the student's head has 3x3 convolutions; --set head.kernel=7 --set head.padding=0 for the published ones")
    echo(f"loss: {spec.loss}")
    for word in () if terms is None else terms.words:
        echo(word)
    return Student(detector, initialization, offer, spec, terms)


def _distances(
    student: Student, teacher: Teacher, material: Material, out: Path, recipe: Recipe, progress: bool, echo: Echo
) -> Distances:
    """To the teacher's answers to what is scored; a student that learns from labels is chosen by them."""
    both = _of_both(student.offer, teacher.offer)
    scored = _answers(teacher, material, out, recipe, both, None, scored=True, progress=progress, echo=echo)
    metric = "nme" if student.terms is None else DISTANCE
    return Distances(scored, student.offer, teacher.offer, material.truth, metric)


def _work(
    student: Student, teacher: Teacher, material: Material, distances: Distances, out: Path, recipe: Recipe,
    progress: bool, echo: Echo,
) -> Work:  # fmt: skip
    """Crops, what is minimised on them, and the distance to the teacher's answers as the score."""
    spec, terms = spec_of(recipe), student.terms
    watches: tuple[Any, ...] = ()
    if terms is None:
        objective: Objective = Supervised(student.detector)
        watches = (CollapseWatch(),)
    else:
        answers: Answers = Asked(teacher.detector, terms.teacher_level)
        if spec.cache:
            answers = _answers(
                teacher, material, out, recipe, _of_terms(terms), terms.teacher_level,
                scored=False, progress=progress, echo=echo,
            )  # fmt: skip
        # Anew: reading the pictures has drawn random numbers, or not, where the answers were there already.
        torch.manual_seed(recipe.seed)
        objective = Distillation(student.detector, teacher, answers, terms, spec)

    def train_loader(rank: int, world: int) -> DataLoader:
        return material.train_loader(recipe, rank, world)

    def validation_loader() -> DataLoader:
        return material.plain_loader(True, recipe.size, recipe.batch_size, engine.worker_count(recipe))

    count = len(material.rows(False))
    return Work(objective, count, train_loader, validation_loader, distances, material.where, watches=watches)


def _of_both(student: Offer, teacher: Offer) -> tuple[str, ...]:
    """What is scored: all that both have."""
    names = {"xy_unit": True, "jacobian": student.jacobians and teacher.jacobians,
             "maps": student.cells is not None and teacher.cells is not None}  # fmt: skip
    return tuple(name for name, there in names.items() if there)


def _of_terms(terms: Terms) -> tuple[str, ...]:
    names = {"xy_unit": True, "jacobian": terms.jacobians, "maps": terms.heatmaps, "feature": terms.attention}
    return tuple(name for name, there in names.items() if there)


def _answers(
    teacher: Teacher, material: Material, out: Path, recipe: Recipe, held: tuple[str, ...], level: int | None, *,
    scored: bool, progress: bool, echo: Echo,
) -> cache.Kept:  # fmt: skip
    """Of all crops that are scored, or of those that are learnt from."""
    size = teacher.offer.size
    rows = material.rows(scored)
    wanted = Index(teacher.fingerprint, material.fingerprint, size, recipe.padding, len(rows), held, level)
    teacher.detector.to(engine.pick_device())
    asked = Asked(teacher.detector, level)

    def crops() -> Any:
        for batch in material.plain_loader(scored, size, recipe.batch_size, engine.worker_count(recipe)):
            yield type(batch)(*(column.to(teacher.detector.mean.device) for column in batch))

    folder = out / "teacher" / ("val" if scored else "train")
    return cache.kept(folder, asked, wanted, crops, progress=progress, echo=echo)


def _settle(recipe: Recipe, work: Work, echo: Echo) -> Recipe:
    """Replaces every "auto" by what is fastest or best here."""
    if "auto" in (recipe.precision, recipe.memory_format):
        probe = next(iter(work.train_loader(0, 1)))
        recipe = fitting.with_fastest_step(recipe, work.objective, probe, engine.pick_device(), echo)
    if recipe.optimizer.lr == "auto":
        lr = engine.find_lr(work, recipe)
        echo(f"learning rate found: {lr:.2g}")
        recipe = replace(recipe, optimizer=replace(recipe.optimizer, lr=lr))
    return recipe


def _by_motion(path: Path, out: Path, recipe: Recipe, material: Material, teacher: Teacher, **options: Any) -> Card:
    """Without the teacher and without labels: what the student finds by itself, in as many steps."""
    if not teacher.detector.head.learns_without_labels:
        raise UserError(
            f"--loss none: there is nothing to learn from: {path} has no labels of the teacher's points, and its method "
            f"{teacher.detector.spec.method!r} needs some; leave the control out, or give labelled data"
        )
    spec = replace(recipe.motion, points=teacher.offer.points, pairs=len(material.rows(False)))
    card, _ = motion.fit(path, out, replace(recipe, motion=spec), **options)
    return card


# ------------------------------------------------------------------------------------------ what is refused, and told


def _begun(out: Path) -> Recipe:
    if not (out / "recipe.json").exists():
        raise UserError(f"{out}: no run to resume (no recipe.json). Start it without --resume")
    return recipes.default(resume_from=out)


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
