"""`fiducial.distill`: what `fiducial distill` does, a run or a study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fiducial.api.arguments import optional_path, options_of, path_of, settings_of, source_of
from fiducial.api.results import Result, Run
from fiducial.comparison import by_teacher, workflow
from fiducial.comparison.places import Places
from fiducial.comparison.students import Study, losses_of
from fiducial.distillation import distill as train_student
from fiducial.distillation import (
    gives_points_alone,
    load_point_teacher,
    load_teacher,
    preparation_from_points,
    recipe_of,
)
from fiducial.errors import UserError
from fiducial.training import recipes
from fiducial.training.nodes import Devices
from fiducial.training.plan import given_by

if TYPE_CHECKING:
    from fiducial.data.source import Source
    from fiducial.distillation import PointTeacher


def distill(
    teacher: Any,
    data: Any,
    out: Any,
    *,
    student: str | None = None,
    loss: str | None = None,
    method: str | None = None,
    init: Any = None,
    size: Any = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | str | None = None,
    seed: int | None = None,
    licence: str | None = None,
    plan: bool = True,
    resume: bool = False,
    devices: int = 1,
    node: str | None = None,
    images: Any = None,
    category: str | None = None,
    progress: bool = False,
    settings: Sequence[str] = (),
    **more: Any,
) -> Run:
    """Trains a small detector on a large one's answers and writes its folder.

    Args:
        teacher: a run, its folder, another project's weights, or what gives points alone: a network (.onnx, .tflite) or
            results (.json), see docs/teachers.md; data: what both look at, labelled or not.
        student: its backbone; loss: L1, L2, L3, KL or none [KL where both have heatmaps, else L1].
        plan: decides the number of steps, and of how many each, where they are not chosen. The others are those of `fiducial.fit`."""
    folder, path = path_of(out, "out"), path_of(teacher, "teacher")
    options = options_of(init=init, size=size, epochs=epochs, batch_size=batch_size, lr=lr, seed=seed, licence=licence)
    words = settings_of(more, settings)
    given = given_by(options, words) if plan and not resume else None
    if gives_points_alone(path):
        if loss is not None:
            raise UserError(
                f"--loss {loss}", f"{path} gives points alone, which are learnt as labels are; leave it out"
            )
        return _taught_by_points(
            load_point_teacher(path),
            source_of(data, images, category),
            folder,
            {"method": method, "backbone": student, **options},
            words,
            planned=plan,
            resume=resume,
            devices=Devices.of(devices, node),
            progress=progress,
        )
    known = load_teacher(path)
    recipe = recipe_of(known, student, loss, method, options, words, resume_from=folder if resume else None)
    places = Devices.of(devices, node)
    with places.joined():
        figures = train_student(
            known,
            source_of(data, images, category),
            folder,
            recipe,
            resume=resume,
            given=given,
            devices=places,
            progress=progress,
        )
    return Run(figures=figures or {}, folder=folder)


def _taught_by_points(
    teacher: PointTeacher,
    source: Source,
    out: Path,
    options: dict[str, Any],
    settings: list[str],
    *,
    planned: bool,
    resume: bool,
    devices: Devices,
    progress: bool,
) -> Run:
    """Trains on a teacher's points as `fiducial.fit` does on labels, planned alike."""
    options = {name: value for name, value in options.items() if value is not None}
    recipe = recipes.default(options.get("method"), resume_from=out if resume else None)
    if recipes.learns_without_labels(options.get("method", recipe.method)):
        raise UserError(
            "method", f"{recipe.method!r} learns without labels, so that no teacher's points can be learnt by it"
        )
    recipe = recipes.changed(recipe, options, settings)
    given = given_by(options, settings) if planned and not resume else None
    prepare = preparation_from_points(teacher, source, given, keep_labels=False, bar=progress)
    from fiducial.training import run  # torch, after all words were read

    with devices.joined():
        figures = run.run(prepare, out, recipe, resume=resume, devices=devices, progress=progress)
    return Run(figures=figures or {}, folder=out)


def distill_study(
    teacher: Any,
    data: Any,
    out: Any,
    *,
    student: str | None,
    losses: str | Sequence[str] | None = None,
    seeds: int = 3,
    first_seed: int = 0,
    transfer: Any = None,
    pretrain_on: Any = None,
    method: str | None = None,
    jobs: int | None = None,
    ray: str | None = None,
    images: Any = None,
    category: str | None = None,
    progress: bool = False,
    settings: Sequence[str] = (),
    **options: Any,
) -> Result:
    """Compares losses, initialisations and the student without its teacher; the same call continues.

    The arguments are those of `fiducial distill --study`."""
    if student is None:
        raise UserError("--student: missing; expected a backbone, such as squeeze_unet or mobilenetv3_small_100")
    if transfer is not None and pretrain_on is not None:
        raise UserError("--transfer, --pretrain-on: give one of them: weights, or a labelled set to get them from")
    path = path_of(teacher, "teacher")
    if gives_points_alone(path):
        raise UserError("--study", f"{path} gives points alone, and a study compares more; leave it out")
    asked = Study(
        teacher=path,
        data=source_of(data, images, category),
        student=student,
        losses=losses_of(losses if losses is None or isinstance(losses, str) else ",".join(losses)),
        seeds=seeds,
        first_seed=first_seed,
        transfer=optional_path(transfer, "transfer"),
        pretrain_on=optional_path(pretrain_on, "pretrain_on"),
        method=method,
        options=options_of(**options),
        settings=tuple(settings),
    )
    figures = workflow.study(asked, path_of(out, "out"), places=Places.of(jobs, ray), progress=progress)
    return Result(figures=figures, table=by_teacher.short_table(figures), lines=figures["answer"])
