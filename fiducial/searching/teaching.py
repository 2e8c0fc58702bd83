"""The last part of a search: a large network that needs no budget learns the same data, and teaches the best small one, which
goes on from what it has learnt by labels. Whether that was worth it, val says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fiducial.comparison.cells import Cell, recipe_arguments
from fiducial.data.source import Source
from fiducial.distillation import load_teacher, recipe_of
from fiducial.geometry import Size
from fiducial.log import logger
from fiducial.models import packaged_weights
from fiducial.progress import duration
from fiducial.searching.space import GRID_PX
from fiducial.searching.state import STUDENT_RUN, Candidate, Lesson, State
from fiducial.searching.training import Training, is_finished, run_of
from fiducial.training import history, plan
from fiducial.training.recipe import Recipe

# Those with ImageNet weights, the cheapest first: a teacher is asked about every crop of its student's, so that one that
# takes ten times as long as the student leaves it few steps. Without weights a larger one from random ones.
TEACHERS = ("tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2", "resnet18")
LARGER = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0)  # times the student's sides
AREA_PX = 1.5 * plan.AREA_PX  # of its input, about
SHARE = 0.4  # of the time for training that teacher and student get together
TEACHER = 0.5  # of that
FEWEST_MINUTES = 6.0  # of both: in less a large network learns too little to teach
TEACHER_RUN = "teacher"  # its folder in OUT/runs
BETTER = 0.97  # of the student's NME that a teacher's may be


def seconds_for(state: State, seconds: float) -> float:
    """Gives how much of the time for training is for teaching; 0 where there is to be none."""
    wanted = SHARE * seconds
    return wanted if state.asked["distill"] and wanted >= 60 * FEWEST_MINUTES else 0.0


def teach(training: Training) -> None:
    """Trains a teacher and the best run's network by it, where there is time; notes in the state what came of it."""
    state, out = training.state, training.out
    lesson = state.lesson
    if lesson is None:
        left = training.left_s
        if not state.asked["distill"] or left < 60 * FEWEST_MINUTES:
            why = "was not wanted" if not state.asked["distill"] else "had no time: more --minutes would give it some"
            state.lesson = Lesson(student=state.best()[0][0], outcome=f"a teacher {why}")
            training.keep()
            return
        name, _, _ = state.best()[0]
        minutes = round(TEACHER * left / 60, 2)
        teacher = replace(_teacher_of(state.candidate(name)), minutes=minutes)
        lesson = Lesson(student=name, teacher=teacher, teacher_minutes=minutes)
        state.lesson = lesson
        training.keep()
    if lesson.outcome:
        return
    small = state.candidate(lesson.student)
    if lesson.teacher_nme is None:
        recipe = lesson.teacher
        assert recipe is not None
        logger.info(
            f"teacher: {recipe.method} on {recipe.backbone} {recipe.size}, {lesson.teacher_minutes:.0f} min; "
            f"{duration(training.clock.left_s)} left"
        )
        cell = run_of("teacher", recipe, TEACHER_RUN, training.source)
        failures = _train(training, cell)
        if failures:
            lesson.outcome = f"the teacher failed: {failures}"
            training.keep()
            return
        lesson.teacher_nme = training.nme(cell)
        lesson.student_minutes = max(0.1, round((training.left_s) / 60, 2))
        training.keep()
    assert lesson.teacher is not None
    own = next(nme for name, nme, _ in state.best() if name == lesson.student)
    if not lesson.teacher_nme < BETTER * own:
        lesson.outcome = (
            f"the teacher, {lesson.teacher.backbone} {lesson.teacher.size}, came to {100 * lesson.teacher_nme:.2f} % in "
            f"{lesson.teacher_minutes:.0f} min, hardly better than its student"
        )
        training.keep()
        return
    cell = _student_cell(small, lesson, training.source, out)
    lesson.commands = (run_of("teacher", lesson.teacher, TEACHER_RUN, training.source).typed(out), cell.typed(out))
    logger.info(
        f"student: {small.label} on {small.recipe.backbone} {small.recipe.size}, {lesson.student_minutes:.0f} min"
    )
    failures = _train(training, cell)
    if failures:
        lesson.outcome = f"the student failed: {failures}"
    else:
        lesson.student_nme = training.nme(cell)
        lesson.epochs = len(history.read(out / cell.folder / "history.csv"))
        word = "better" if lesson.student_nme < own else "no better"
        lesson.outcome = (
            f"taught by {lesson.teacher.backbone} {lesson.teacher.size} ({100 * lesson.teacher_nme:.2f} %) it came to "
            f"{100 * lesson.student_nme:.2f} %, {word} than the {100 * own:.2f} % by labels alone"
        )
    logger.info(lesson.outcome)
    training.keep()


def _teacher_of(small: Candidate) -> Recipe:
    """The recipe of a teacher: the student's with a larger network, and an input of exactly its shape."""
    own = small.recipe
    weights = packaged_weights.here() if own.pretrained != "no" else []
    known = [name for name in TEACHERS if name in weights and name != own.backbone]
    sizes = [Size(round(times * own.size.w), round(times * own.size.h)) for times in LARGER]
    whole = [
        size
        for size in sizes
        if size.w % GRID_PX == size.h % GRID_PX == 0 and size.w * own.size.h == size.h * own.size.w
    ]
    size = min(whole or [own.size], key=lambda size: abs(size.w * size.h - AREA_PX))
    return replace(own, backbone=known[0] if known else TEACHERS[-1], size=size)


def _student_cell(small: Candidate, lesson: Lesson, source: Source, out: Path) -> Cell:
    """The run of `fiducial distill` of the student's network, from what it has learnt by labels."""
    path, init, own = out / "runs" / TEACHER_RUN, str(out / "runs" / small.name), small.recipe
    settings = ["distillation.cache=false"]
    usual = recipe_of(load_teacher(path), own.backbone, None, own.method, {"init": init}, settings)
    here = {"init": init, "pretrained": "no", "points": None, "minutes": lesson.student_minutes}
    recipe = replace(usual, **{**vars(own), **here})
    command = (
        *("distill", "--no-plan", "--teacher", str(path), str(source), "--student", own.backbone, "--init", init),
        *("--set", settings[0]),
        *recipe_arguments(recipe, usual),
        *source.options(),
    )
    return Cell(label="student", recipe=recipe, folder=f"runs/{STUDENT_RUN}", command=command)


def _train(training: Training, cell: Cell) -> str:
    """Trains one run to its end; why it failed, "" where it did not."""
    return training.run([cell], finished=is_finished).get(cell.name, "")
