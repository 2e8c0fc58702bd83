"""What a run of `fiducial distill` begins with, and what would let student and teacher look at different things."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from fiducial import config
from fiducial.data.augment import AugmentSpec
from fiducial.distillation import teacher as teachers
from fiducial.distillation.spec import TAUGHT, DistillationRecipe, DistillationSpec
from fiducial.distillation.teacher import Teacher
from fiducial.errors import UserError
from fiducial.motion.recipes import MotionSpec, small
from fiducial.training import recipes

LOSSES = (*TAUGHT, "none")
# Only light and colours of what the student sees: the teacher's answer to the plain crop stays right.
COLOURS = AugmentSpec(
    shift=0.0, scale=(1.0, 1.0), rotation_degrees=0.0, rotation_probability=0.0, flip=0.0, occlusion=0.0
)
# Where the teacher is asked about each crop anew, crops are moved as well.
MOVED = AugmentSpec(
    shift=0.08, scale=(0.8, 1.25), rotation_degrees=20.0, rotation_probability=0.6, flip=None, occlusion=0.0
)
# The published 7x7 convolutions are most of what a small student would cost. At the published temperature of 0.1 random maps
# are peaks, and a mean under a peak has no gradient that would move it: such students stay a quarter of the side away.
MOTION_HEAD = {"kernel": 3, "padding": 1, "temperature": 1.0}


def recipe_of(
    teacher: Teacher,
    student: str | None,
    loss: str | None,
    method: str | None,
    options: dict[str, Any],
    settings: list[str],
    *,
    resume_from: Path | None = None,
) -> DistillationRecipe:
    """Makes the recipe that a run begins with: the teacher's method, points, size and padding, with options and `--set`s on top.

    `resume_from`: a run folder whose recipe takes the place of the teacher's. Raises UserError for a loss of another name,
    and without a `student` where none is resumed."""
    if loss is not None and loss not in LOSSES:
        raise UserError(f"--loss {loss!r}: expected {', '.join(LOSSES)} (none = without the teacher, for comparison)")
    if resume_from is not None and (resume_from / "recipe.json").exists():
        base = recipes.of_run(resume_from, DistillationRecipe)
    elif student is None:
        raise UserError("--student: missing; expected a backbone, such as squeeze_unet or mobilenetv3_small_100")
    else:
        base = _usual(teacher, method or teacher.detector.spec.method)
    if loss is not None:
        base = replace(base, distillation=replace(base.distillation, loss=loss))  # type: ignore[arg-type]
    options = {"backbone": student, "method": method, **options}
    options = {name: value for name, value in options.items() if value is not None}
    recipe = recipes.changed(base, options, settings)
    if resume_from is None and not recipe.distillation.cache:
        recipe = recipes.changed(replace(base, augment=MOVED), options, settings)
    return recipe


def _usual(teacher: Teacher, method: str) -> DistillationRecipe:
    spec = teacher.detector.spec
    head: dict[str, Any] = {}
    if teacher.detector.head.learns_without_labels and method == spec.method:
        head = {**MOTION_HEAD, "jacobian": spec.head["jacobian"]}  # what a Jacobian is, is the teacher's to say
    of_teacher = teachers.settings_of_run(teacher.path).get("motion")
    motion = small().motion if of_teacher is None else config.from_dict(MotionSpec, of_teacher, str(teacher.path))
    return DistillationRecipe(
        method=method,
        size=spec.size,
        padding=spec.padding,
        head=head,
        augment=COLOURS,
        preflight=False,
        distillation=DistillationSpec(),
        motion=motion,
    )


def refuse_unlike(recipe: DistillationRecipe, teacher: Teacher, out: Path, *, is_study: bool = False) -> None:
    """Refuses what would let student and teacher look at different parts of an image, and folders that are taken."""
    spec, augment, theirs = recipe.distillation, recipe.augment, teacher.offer.size
    if recipe.size.w * theirs.h != recipe.size.h * theirs.w:
        raise UserError(
            f"--size {recipe.size}: the teacher looks at {theirs}; expected the same shape, so that both see the same part "
            "of a picture"
        )
    if recipe.padding != teacher.detector.spec.padding:
        raise UserError(
            f"--set padding={recipe.padding}: the teacher's boxes are enlarged by {teacher.detector.spec.padding}; expected "
            "the same, so that both see the same part of a picture"
        )
    if recipe.points is not None:
        raise UserError("points: the student finds the teacher's points, all of them; leave the setting out")
    moves = {
        "shift": augment.shift,
        "rotation_degrees": augment.rotation_degrees * augment.rotation_probability,
        "flip": augment.flip is None or augment.flip,
        "scale": augment.scale != (1.0, 1.0),
    }
    moving = [name for name, moved in moves.items() if moved]
    if moving and spec.cache and spec.loss != "none":
        raise UserError(
            f"augment.{moving[0]} moves the crops, and the teacher's answers are kept for crops that are not moved; "
            "--set distillation.cache=false asks it about each crop anew"
        )
    if (out / "study.json").exists() and not is_study:
        raise UserError(f"--out {out}: holds a study; give another --out, or --study to continue it")
    if out.resolve() == teacher.path.resolve():
        raise UserError(f"--out {out}: is the teacher's folder; give the student one of its own")
