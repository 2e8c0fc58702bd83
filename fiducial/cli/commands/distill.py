"""`fiducial distill`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fiducial.cli.options import CategoryOption, ImagesOption, JsonOption, PartAloneOption
from fiducial.cli.output import print_run, print_table, write_figures
from fiducial.errors import UserError
from fiducial.log import logger

ORDER = 30
AFTER_STOP = "--resume continues exactly, a study the same command"


def distill(
    data: Annotated[
        Path,
        typer.Argument(
            help="What both look at: a labelled set (its labels only score), or videos, folders of frames, pictures."
        ),
    ],
    teacher: Annotated[Path, typer.Option(help="The model to learn from: a run folder, or another project's file.")],
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
    method: Annotated[str | None, typer.Option(help="The student's method [the teacher's].")] = None,
    init: Annotated[
        str | None, typer.Option(help="Weights to start from: a run folder, or a file of ours or another project.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="The student's input, WIDTHxHEIGHT px [the teacher's].")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the pictures [60].")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Of each device [64].")] = None,
    lr: Annotated[str | None, typer.Option(help="Peak learning rate, or auto for the finder.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random; equal seeds give equal runs [0].")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting: distillation.cache=false (nearer, slower), ..")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out exactly.")] = False,
    devices: Annotated[int, typer.Option(min=1, help="GPUs, or processes on a machine without.")] = 1,
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
    images: ImagesOption = None,
    category: CategoryOption = None,
    part: PartAloneOption = None,
    json_file: JsonOption = None,
) -> None:
    """Teach a small detector by a large one: its answers are the labels.

    fiducial distill --teacher runs/motion videos/ --student squeeze_unet --out runs/student

    fiducial distill --teacher runs/motion videos/ --student squeeze_unet --study --seeds 3 --out study

    Interrupted, a study is continued by the same command; losses, seeds and an initialisation may be added.
    """
    from fiducial.data.source import Source

    source = Source(data, images, category).here()
    quiet = json_file is not None and str(json_file) == "-"
    progress = sys.stderr.isatty() and not quiet
    options = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "size": size}
    alone = {"--seeds": seeds, "--losses": losses, "--transfer": transfer, "--pretrain-on": pretrain_on, "--jobs": jobs}
    of_one = {"--loss": loss, "--init": init, "--resume": resume or None, "--devices": devices if devices > 1 else None}
    _refuse_of_the_other_kind(of_one if study else alone, study)
    if study:
        from fiducial.comparison import workflow
        from fiducial.comparison.students import Study, losses_of

        if student is None:
            raise UserError("--student: missing; expected a backbone, such as squeeze_unet or mobilenetv3_small_100")
        if transfer is not None and pretrain_on is not None:
            raise UserError("--transfer, --pretrain-on: give one of them: weights, or a labelled set to get them from")
        asked = Study(
            teacher=teacher,
            data=source,
            student=student,
            losses=losses_of(losses),
            seeds=seeds or 3,
            first_seed=seed or 0,
            transfer=transfer,
            pretrain_on=pretrain_on,
            method=method,
            options={name: value for name, value in options.items() if value is not None},
            settings=tuple(set_ or ()),
        )
        summary: dict[str, Any] | None = workflow.study(asked, out, jobs=jobs, progress=progress)
    else:
        from fiducial import distill as room

        known = room.load_teacher(teacher)
        recipe = room.recipe_of(
            known, student, loss, method, {**options, "init": init, "seed": seed}, set_ or [],
            resume_from=out if resume else None,
        )  # fmt: skip
        summary = room.distill(
            known,
            source,
            out,
            recipe,
            resume=resume,
            devices=devices,
            progress=progress,
        )
    if summary is not None:
        write_figures(json_file, summary)
        if not quiet:
            _show(summary)


def _refuse_of_the_other_kind(given: dict[str, Any], study: bool) -> None:
    wrong = [name for name, value in given.items() if value is not None]
    if wrong:
        raise UserError(f"{wrong[0]}: is for {'one run, not for --study' if study else '--study alone'}; leave it out")


def _show(summary: dict[str, Any]) -> None:
    if "rows" in summary:
        from fiducial.comparison import by_teacher

        print_table(by_teacher.short_table(summary))
        for line in summary["answer"]:
            typer.echo(line)
    else:
        from fiducial.distill import DISTANCE, MEANINGS

        print_run(summary)
        if DISTANCE in summary["metrics"]:
            logger.info(f"{DISTANCE}: {MEANINGS[DISTANCE]}")
    for name, path in summary["files"].items():
        typer.echo(f"{name}: {path}")
