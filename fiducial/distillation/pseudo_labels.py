"""A student of points alone: what a teacher from elsewhere finds are the labels.

    fiducial fit DATA --from TEACHER          labels stay labels; the teacher labels the instances of train that have none
    fiducial distill DATA --teacher TEACHER   the teacher labels all of train; labels only make the map, and score

The teacher's points become the data's by `point_map`; of images without labels the student learns the teacher's own points.
What it learns from is written to RUN/teacher/points.json as COCO results."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import files, geometry
from fiducial.data import annotations, carving, media
from fiducial.data.arrays import GivenImages
from fiducial.data.images import upright_size
from fiducial.data.source import Source
from fiducial.data.together import JoinedImages
from fiducial.distillation import point_map
from fiducial.distillation.point_map import PRESENT
from fiducial.distillation.point_teachers import PointTeacher, nothing
from fiducial.errors import UserError
from fiducial.evaluation import floor, metrics
from fiducial.files import finite
from fiducial.prediction import outputs
from fiducial.runtime.point_map import PointMap
from fiducial.training import fit as fitting
from fiducial.training.fit import Data, Pool
from fiducial.training.recipe import Recipe
from fiducial.training.work import Prepare, Work
from fiducial.types import NOTE, Instances, Keypoints, Problem, Skeleton

VISIBLE = 2
WORSE = 1.1  # times the mean shape's error, from which a teacher's is larger by more than chance


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """Holds what a student learns from, and what is to be said of it."""

    data: Data
    taught: np.ndarray  # [n] bool, of data.train: labelled by the teacher
    scores: np.ndarray  # [n, k] of those that are; 0 elsewhere
    said: tuple[str, ...]
    told: dict[str, Any]  # for recipe.json and the student's card


def preparation(
    teacher: PointTeacher,
    source: Source,
    given: Collection[str] | None,
    *,
    keep_labels: bool,
    pool: Pool | None = None,
    bar: bool = False,
) -> Prepare:
    """Gives what asks the teacher and makes the work of a student that learns its points. `given` and `pool` as of
    `training.fit.preparation`; `keep_labels`: what is labelled keeps its labels."""

    def prepare(recipe: Recipe, out: Path, begins: bool) -> Work:
        def read_more(skeleton: Skeleton) -> Instances | None:
            return None if pool is None else pool(skeleton, recipe, out, begins)

        lesson = lesson_of(teacher, source, recipe, keep_labels=keep_labels, read_more=read_more, bar=bar)
        work = fitting.planned_work(lesson.data, recipe, out, begins, source=source, given=given)
        if begins:
            _keep(lesson, out / "teacher" / "points.json")
        return replace(
            work,
            said=(*work.said, *lesson.said),
            beside={**work.beside, "teacher": lesson.told},
            derived_from={**work.derived_from, teacher.name: teacher.licence},
            card_metrics={**work.card_metrics, "teacher": lesson.told},
        )

    return prepare


def lesson_of(
    teacher: PointTeacher,
    source: Source,
    recipe: Recipe,
    *,
    keep_labels: bool,
    read_more: Callable[[Skeleton], Instances | None] = lambda skeleton: None,
    bar: bool = False,
) -> Lesson:
    """Reads DATA and asks the teacher about it. `read_more` gives instances without labels from elsewhere, to learn from too."""
    if not annotations.is_labelled(source.path):
        return _of_images(teacher, source, recipe.padding, keep_labels=keep_labels, bar=bar)
    data = fitting.load_data(source, recipe, unlabelled=True)
    more = read_more(data.train.skeleton)
    train = data.train if more is None else joined(data.train, more)
    labelled = np.asarray(train.labelled.any(1))
    data = fitting.with_note(data, train.select(~labelled), str(source))
    if keep_labels and labelled.all():
        raise UserError(
            f"--from: all {len(train)} instances of train in {source} are labelled, so there is nothing to teach; expected "
            "instances with a box and no labelled point, or --unlabelled. `fiducial adapt` keeps the network itself and maps its points "
            "to yours; `fiducial distill` learns from the teacher alone"
        )
    found, of_val = teacher.points_of(train, bar=bar), teacher.points_of(data.validation, bar=bar)
    to_ours = point_map.learn(found.select(labelled), train.select(labelled), teacher.skeleton)
    mapped = to_ours(found, train.box_xywh)
    by_people = train.select(labelled)
    is_taught = ~labelled if keep_labels else np.ones(len(train), bool)
    train, scores = _with_points(train, mapped, is_taught)
    chosen = np.asarray(train.labelled.any(1))
    if not (chosen & is_taught).any():
        raise UserError(
            f"{teacher.told()['path']}: gives no point with a score of {PRESENT} or more for the {len(train)} instances of train "
            f"in {source}; of results, each must be of such an image: by its file_name, or its image_id"
        )
    figures = _figures(to_ours, of_val, data.validation, by_people)
    doubt = _doubt(teacher, figures, recipe, is_sure=len(by_people) > 0)
    share = train.labelled[is_taught & chosen].mean()
    counts = (
        f"{int((is_taught & chosen).sum())} of {int(is_taught.sum())} instances of train, {share:.0%} of their points"
    )
    beside = f", beside {int(labelled.sum())} labelled ones" if keep_labels else ""
    return Lesson(
        data=replace(data, train=train.select(chosen), by_people=by_people, problems=[*doubt, *data.problems]),
        taught=is_taught[chosen],
        scores=scores[chosen],
        said=(f"taught by {teacher.name}: {counts}{beside}", *_said(to_ours, figures)),
        told={**teacher.told(), "map": to_ours.told(), "taught": int((is_taught & chosen).sum()), "val": figures},
    )


def _figures(to_ours: PointMap, of_val: Keypoints, truth: Instances, by_people: Instances) -> dict[str, float | None]:
    """The NME of the teacher's points on val through the map, where it found some, and that of the mean shape of people's
    labels on the same ones: of train's, and where it has none val's own."""
    mapped = to_ours(of_val, truth.box_xywh)
    is_found = mapped.score > 0
    rows = is_found.any(1)
    visibility = np.where(is_found, truth.visibility, 0).astype(np.uint8)
    found = replace(truth, visibility=visibility).select(rows)
    return {
        "nme": finite(metrics.measure_instances(mapped.xy[rows], found).nme),
        "instances": int(rows.sum()),
        "cross_validated": finite(to_ours.cross_validated),
        "mean_shape": finite(floor.floor_of(found, by_people if len(by_people) else None).nme),
    }


def _doubt(teacher: PointTeacher, figures: dict[str, float | None], recipe: Recipe, *, is_sure: bool) -> list[Problem]:
    """Says of a teacher that is no better than the mean shape that it isn't. Raises UserError where it is worse by more than
    chance, unless the recipe lets everything pass; `is_sure`: the mean shape is that of other labels than those of val."""
    nme, ground, count = figures["nme"], figures["mean_shape"], figures["instances"] or 0
    if nme is None or ground is None or nme < ground:
        return []
    where = teacher.told()["path"]
    said = f"an NME of {nme:.4f} on {count:.0f} instances of val, where the mean shape, which looks at no image, has {ground:.4f}"
    advice = (
        "give another teacher, or more labels to learn the map of its points from; `fiducial adapt` shows what a network's points "
        "are worth with such a map"
    )
    if recipe.check and is_sure and nme > WORSE * ground and count >= point_map.LEAST:
        raise UserError(
            where, f"is worse than the mean shape: {said}; {advice}; --set check=false learns from it all the same"
        )
    return [Problem(where, NOTE, f"no better than the mean shape: {said}. A student learns its errors: {advice}")]


def _said(to_ours: PointMap, figures: dict[str, float | None]) -> list[str]:
    def text(value: float | None) -> str:
        return "unknown" if value is None else f"{value:.4f}"

    beside = f"mean shape {text(figures['mean_shape'])}"
    if to_ours.cross_validated is not None:
        beside += f", cross-validated on train {text(to_ours.cross_validated)}"
    return [
        f"the teacher's points become the data's: {to_ours.told()}",
        f"the teacher itself on val: NME {text(figures['nme'])} on {figures['instances']} instances ({beside})",
    ]


def _with_points(instances: Instances, found: Keypoints, rows: np.ndarray) -> tuple[Instances, np.ndarray]:
    """Instances whose labels, in `rows` [n] bool, are the points that the teacher is sure of; and their scores."""
    sure = rows[:, None] & (found.score >= PRESENT) & np.isfinite(found.xy).all(-1)
    xy = np.where(rows[:, None, None], np.where(sure[..., None], found.xy, 0), instances.xy).astype(np.float32)
    visibility = np.where(rows[:, None], np.where(sure, VISIBLE, 0), instances.visibility).astype(np.uint8)
    taught = replace(instances, xy=xy, visibility=visibility, ignored=instances.crowd | ~(visibility > 0).any(1))
    return taught, np.where(sure, found.score, 0.0)


def joined(first: Instances, second: Instances) -> Instances:
    """Joins the instances of two sets of the same points, the second's after the first's."""
    names = ("image_id", "image_size", "annotation_id", "xy", "visibility", "box_xywh", "area", "crowd", "ignored")
    columns = {name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in names}
    image_row = np.concatenate([first.image_row, second.image_row + len(first.images)])
    return replace(first, images=JoinedImages([first.images, second.images]), image_row=image_row, **columns)


# -------------------------------------------------------------------------------------------------- without labels


def _of_images(teacher: PointTeacher, source: Source, padding: float, *, keep_labels: bool, bar: bool) -> Lesson:
    """Images of a folder, each whole: the student learns the teacher's own points. A tenth of them is val."""
    if keep_labels:
        raise UserError(f"--from: {source} has no labels; expected a labelled set. `fiducial distill` needs none")
    instances, problems = whole_images(source.path, teacher.skeleton, padding)
    found = teacher.points_of(instances, bar=bar)
    taught, scores = _with_points(instances, found, np.ones(len(instances), bool))
    is_val = np.array([carving.tenth(instances.images.name(int(row))) == 8 for row in instances.image_row])
    sure = np.asarray(taught.labelled.any(1))
    if not (sure & is_val).any() or not (sure & ~is_val).any():
        raise UserError(
            f"{source}: {teacher.name} is sure of {int(sure.sum())} of {len(sure)} images, {int((sure & is_val).sum())} of them "
            "among the tenth for val; expected some in both. Give more images, or boxes: a labelled set's without labels"
        )
    train, validation = taught.select(sure & ~is_val), taught.select(sure & is_val)
    return Lesson(
        data=Data(train, validation, problems),
        taught=np.ones(len(train), bool),
        scores=scores[sure & ~is_val],
        said=(
            f"taught by {teacher.name}: {len(train)} images, and val is {len(validation)} more, chosen by a hash of their "
            "names: every error is a distance from the teacher, not from labels",
        ),
        told={**teacher.told(), "map": "its own points", "taught": len(train)},
    )


def whole_images(path: Path, skeleton: Skeleton, padding: float) -> tuple[Instances, list[Problem]]:
    """Makes an instance without labels of each image in a folder, or of one file; its box, enlarged by `padding`, is the
    whole image."""
    files_in = sorted(path.rglob("*")) if path.is_dir() else [path]
    paths, sizes, problems = [], [], []
    for file in files_in:
        if not file.is_file() or media.kind_by_name(file) != "image" or file.name.startswith("."):
            continue
        try:
            sizes.append(upright_size(file))
            paths.append(file)
        except UserError as error:
            problems.append(Problem(str(file), "", error.about(file)))
    if not paths:
        raise UserError(path, f"no images in it{f', first {problems[0]}' if problems else ''}; expected photographs")
    count = len(paths)
    middle = np.array([0.5, 0.5, 1 / padding, 1 / padding])
    boxes = geometry.box_from_unit(middle, np.array(sizes)).astype(np.float32)
    none = nothing(count, len(skeleton.points))
    return Instances(
        skeleton=skeleton,
        images=GivenImages(paths),
        image_id=np.arange(1, count + 1),
        image_size=np.array(sizes, np.int32),
        image_row=np.arange(count),
        annotation_id=np.arange(1, count + 1),
        xy=none.xy.astype(np.float32),
        visibility=none.score.astype(np.uint8),
        box_xywh=boxes,
        area=boxes[:, 2] * boxes[:, 3],
        crowd=np.zeros(count, bool),
        source=str(path),
    ), problems


def _keep(lesson: Lesson, path: Path) -> None:
    """Writes what the teacher taught as COCO results."""
    train, made = lesson.data.train, []
    for row in np.flatnonzero(lesson.taught).tolist():
        image_row = int(train.image_row[row])
        points = Keypoints(train.xy[row : row + 1], lesson.scores[row : row + 1])
        (entry,) = outputs.of_keypoints(
            points, _plain(train.image_id[image_row]), train.images.name(image_row), train.box_xywh[row : row + 1]
        )
        made.append({**entry, "annotation_id": _plain(train.annotation_id[row])})
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, made)


def _plain(number: Any) -> Any:
    return number.item() if isinstance(number, np.generic) else number
