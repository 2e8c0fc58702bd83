"""`fiducial distill`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fiducial.cli.options import CategoryOption, ImagesOption, JsonOption, PartAloneOption
from fiducial.cli.output import print_run, print_table, write_figures
from fiducial.errors import UserError
from fiducial.log import logger

if TYPE_CHECKING:
    from fiducial.api.results import Result

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

    source = Source(data, images, category).here()  # before what takes seconds to import
    from fiducial.api.distill import distill as distill_one
    from fiducial.api.distill import distill_study

    quiet = json_file is not None and str(json_file) == "-"
    alone = {"--seeds": seeds, "--losses": losses, "--transfer": transfer, "--pretrain-on": pretrain_on, "--jobs": jobs}
    of_one = {"--loss": loss, "--init": init, "--resume": resume or None, "--devices": devices if devices > 1 else None}
    _refuse_of_the_other_kind(of_one if study else alone, study)
    common: dict[str, Any] = {
        "student": student,
        "method": method,
        "size": size,
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "progress": sys.stderr.isatty() and not quiet,
        "settings": set_ or [],
    }
    if study:
        result: Result = distill_study(
            teacher,
            source,
            out,
            losses=losses,
            seeds=seeds or 3,
            first_seed=seed or 0,
            transfer=transfer,
            pretrain_on=pretrain_on,
            jobs=jobs,
            **common,
        )
    else:
        result = distill_one(
            teacher, source, out, loss=loss, init=init, seed=seed, resume=resume, devices=devices, **common
        )
    if result.figures:
        write_figures(json_file, result.figures)
        if not quiet:
            _show(result)


def _refuse_of_the_other_kind(given: dict[str, Any], study: bool) -> None:
    wrong = [name for name, value in given.items() if value is not None]
    if wrong:
        raise UserError(f"{wrong[0]}: is for {'one run, not for --study' if study else '--study alone'}; leave it out")


def _show(result: Result) -> None:
    if result.table:
        print_table(result.table)
        for line in result.lines:
            typer.echo(line)
    else:
        from fiducial.distillation import DISTANCE, MEANINGS

        print_run(result.figures)
        if DISTANCE in result.metrics:
            logger.info(f"{DISTANCE}: {MEANINGS[DISTANCE]}")
    for name, path in result.files.items():
        typer.echo(f"{name}: {path}")
