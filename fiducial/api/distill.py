"""`fiducial.distill`: what `fiducial distill` does, a run or a study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fiducial.api.arguments import optional_path, options_of, path_of, settings_of, source_of
from fiducial.api.results import Result, Run
from fiducial.comparison import by_teacher, workflow
from fiducial.comparison.students import Study, losses_of
from fiducial.distillation import distill as train_student
from fiducial.distillation import load_teacher, recipe_of
from fiducial.errors import UserError


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
    resume: bool = False,
    devices: int = 1,
    images: Any = None,
    category: str | None = None,
    progress: bool = False,
    settings: Sequence[str] = (),
    **more: Any,
) -> Run:
    """Trains a small detector on a large one's answers and writes its folder.

    Args:
        teacher: a run, its folder, or another project's file; data: what both look at, labelled or not.
        student: its backbone; loss: L1, L2, L3, KL or none [KL where both have heatmaps, else L1].
        The others are those of `fiducial.fit`."""
    folder, known = path_of(out, "out"), load_teacher(path_of(teacher, "teacher"))
    options = options_of(init=init, size=size, epochs=epochs, batch_size=batch_size, lr=lr, seed=seed, licence=licence)
    recipe = recipe_of(
        known, student, loss, method, options, settings_of(more, settings), resume_from=folder if resume else None
    )
    figures = train_student(
        known,
        source_of(data, images, category),
        folder,
        recipe,
        resume=resume,
        devices=devices,
        progress=progress,
    )
    return Run(figures=figures or {}, folder=folder)


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
    asked = Study(
        teacher=path_of(teacher, "teacher"),
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
    figures = workflow.study(asked, path_of(out, "out"), jobs=jobs, progress=progress)
    return Result(figures=figures, table=by_teacher.short_table(figures), lines=figures["answer"])
