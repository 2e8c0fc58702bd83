"""`fiducial distill`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fiducial.cli.options import (
    CategoryOption,
    ImagesOption,
    JsonOption,
    PartAloneOption,
    RayOption,
    a_model,
    choices,
    refuse,
)
from fiducial.cli.output import finish, has_bar, is_printed
from fiducial.log import logger

if TYPE_CHECKING:
    from fiducial.api.results import Result

ORDER = 30
AFTER_STOP = "--resume continues exactly, a study the same command"


@choices(
    *("method", "init", "size", "epochs", "batch_size", "lr", "seed", "licence", "plan", "settings"),
    *("resume", "devices", "node"),
    method="The student's method [the teacher's].",
    size="The student's input, WIDTHxHEIGHT px [the teacher's].",
    epochs="Passes over the pictures [as many as they can use; of a study 60].",
    batch_size="Of each device [by how many pictures there are; of a study 64].",
    settings="Any setting: distillation.cache=false (nearer, slower), ..",
)
def distill(
    data: Annotated[
        Path,
        typer.Argument(
            help="What both look at: a labelled set (its labels only score), or videos, folders of frames, pictures."
        ),
    ],
    teacher: Annotated[
        Path,
        typer.Option(
            callback=a_model,
            help="The model to learn from: a run folder, another project's weights, or what gives points alone: a network "
            "(.onnx, .tflite) or results (.json), docs/teachers.md.",
        ),
    ],
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder of the student's run, or of the study.")],
    student: Annotated[
        str | None, typer.Option(help="Backbone: squeeze_unet, mobilenetv3_small_100, any timm name.")
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            help="L1 = points and Jacobians, L2 = and heatmaps, L3 = and attention, KL = L1 and the heatmaps' divergence; "
            "none = without the teacher [KL where both have heatmaps, else L1]."
        ),
    ] = None,
    study: Annotated[
        bool, typer.Option("--study", help="Compare losses, initialisations and the student without the teacher.")
    ] = False,
    seeds: Annotated[int | None, typer.Option(min=1, help="Study: runs of each, from --seed up [3].")] = None,
    losses: Annotated[str | None, typer.Option(help="Study: some of L1,L2,L3,KL [all that the pair can have].")] = None,
    transfer: Annotated[
        Path | None, typer.Option(help="Study: weights of the student's backbone to start from, against random ones.")
    ] = None,
    pretrain_on: Annotated[
        Path | None, typer.Option(help="Study: a labelled set on which such weights are learnt first.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Study: runs at a time [1, or one a GPU].")] = None,
    ray: RayOption = None,
    images: ImagesOption = None,
    category: CategoryOption = None,
    part: PartAloneOption = None,
    json_file: JsonOption = None,
    **chosen: Any,
) -> None:
    """Teach a small detector by a large one: its answers are the labels.

    fiducial distill --teacher runs/motion videos/ --student squeeze_unet --out runs/student

    fiducial distill --teacher runs/motion videos/ --student squeeze_unet --study --seeds 3 --out study

    fiducial distill --teacher pose_landmark_full.tflite persons/ --out runs/student

    Interrupted, a study is continued by the same command; losses, seeds and an initialisation may be added.
    """
    from fiducial.data.source import Source

    source = Source(data, images, category).here()  # before what takes seconds to import
    from fiducial.api.distill import distill as distill_one
    from fiducial.api.distill import distill_study
    from fiducial.distillation import DISTANCE, MEANINGS

    chosen |= {"student": student, "progress": has_bar(json_file)}
    of_studies = {"seeds": seeds, "losses": losses, "transfer": transfer, "pretrain_on": pretrain_on}
    of_studies |= {"jobs": jobs, "ray": ray}
    if study:
        of_one = {"loss": loss, **{name: chosen.pop(name) for name in ("init", "resume", "devices", "node")}}
        chosen.pop("plan")
        refuse("not with --study", **{**of_one, "devices": of_one["devices"] > 1 or None})
        of_studies |= {"seeds": seeds or 3, "first_seed": chosen.pop("seed") or 0}
        result: Result = distill_study(teacher, source, out, **of_studies, **chosen)
    else:
        refuse("is for --study alone", **of_studies)
        result = distill_one(teacher, source, out, loss=loss, **chosen)
    finish(result, json_file)
    if DISTANCE in result.metrics and not is_printed(json_file):
        logger.info(f"{DISTANCE}: {MEANINGS[DISTANCE]}")
