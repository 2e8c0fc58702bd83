"""One detector taught by another, larger one: what it says of an image is the target.

    teacher, signals        the frozen network, and what can be compared between two detectors
    data                    labelled crops or frames of clips, to learn from and to score on
    cache                   the teacher's answers, asked once
    spec, recipes           what is chosen for a run, and what a run begins with
    transfer, objective     what is minimised
    scoring, report         how far the student is from its teacher
    workflow                a run
    point_teachers, point_map, pseudo_labels    teachers from elsewhere, of whom points are all that is known
    adapting                such a network itself, with a map to one's own points

Other rooms use the names below, nothing else; each is imported when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fiducial import lazy

if TYPE_CHECKING:
    from fiducial.distillation.adapting import adapt as adapt
    from fiducial.distillation.data import look_at_labels as look_at_labels
    from fiducial.distillation.point_teachers import PointTeacher as PointTeacher
    from fiducial.distillation.point_teachers import is_one as gives_points_alone  # noqa: F401
    from fiducial.distillation.point_teachers import load as load_point_teacher  # noqa: F401
    from fiducial.distillation.pseudo_labels import lesson_of as lesson_of
    from fiducial.distillation.pseudo_labels import preparation as preparation_from_points  # noqa: F401
    from fiducial.distillation.recipes import recipe_of as recipe_of
    from fiducial.distillation.scoring import DISTANCE as DISTANCE
    from fiducial.distillation.scoring import MEANINGS as MEANINGS
    from fiducial.distillation.scoring import OTHER_MEASURE as OTHER_MEASURE
    from fiducial.distillation.scoring import Distances as Distances
    from fiducial.distillation.scoring import unlabelled_scores as unlabelled_scores
    from fiducial.distillation.spec import TAUGHT as TAUGHT
    from fiducial.distillation.spec import DistillationRecipe as DistillationRecipe
    from fiducial.distillation.teacher import Teacher as Teacher
    from fiducial.distillation.teacher import load as load_teacher  # noqa: F401
    from fiducial.distillation.teacher import parameters_of as parameters_of
    from fiducial.distillation.workflow import Shared as Shared
    from fiducial.distillation.workflow import distill as distill
    from fiducial.distillation.workflow import share as share
    from fiducial.distillation.workflow import student_of as student_of

_WHERE = {
    "DISTANCE": "scoring.DISTANCE",
    "MEANINGS": "scoring.MEANINGS",
    "OTHER_MEASURE": "scoring.OTHER_MEASURE",
    "TAUGHT": "spec.TAUGHT",
    "DistillationRecipe": "spec.DistillationRecipe",
    "Distances": "scoring.Distances",
    "PointTeacher": "point_teachers.PointTeacher",
    "Shared": "workflow.Shared",
    "Teacher": "teacher.Teacher",
    "adapt": "adapting.adapt",
    "distill": "workflow.distill",
    "gives_points_alone": "point_teachers.is_one",
    "lesson_of": "pseudo_labels.lesson_of",
    "load_point_teacher": "point_teachers.load",
    "load_teacher": "teacher.load",
    "look_at_labels": "data.look_at_labels",
    "parameters_of": "teacher.parameters_of",
    "preparation_from_points": "pseudo_labels.preparation",
    "recipe_of": "recipes.recipe_of",
    "share": "workflow.share",
    "student_of": "workflow.student_of",
    "unlabelled_scores": "scoring.unlabelled_scores",
}

__getattr__, __dir__ = lazy.door(__name__, _WHERE)
