"""`fiducial fit`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from fiducial.cli.options import CategoryOption, ImagesOption, JsonOption, StrictOption
from fiducial.cli.output import print_run, write_figures

ORDER = 20
AFTER_STOP = "`fiducial fit` continues exactly with --resume"


def fit(
    data: Annotated[
        Path,
        typer.Argument(
            help="Folder with annotations/{train,val,test}.json beside images/, any supported format's root, or one "
            "annotation file. With --method motion: videos, folders of frames, pictures, or any of the former."
        ),
    ],
    out: Annotated[
        Path, typer.Option(file_okay=False, help="Folder of the run: weights, checkpoints, history, report.")
    ],
    method: Annotated[
        str | None,
        typer.Option(
            help="heatmap (default), deeppose, rle, integral, simcc, rounding, motion: points without labels, from video "
            "(docs/training.md)."
        ),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="mobilenetv3_small_100 (default), hrnet_w32, unet_resnet18, any timm name.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="Input, WIDTHxHEIGHT px [128x128].")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training data [60].")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Of each device.")] = None,
    lr: Annotated[str | None, typer.Option(help="Peak learning rate, or auto for the finder.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random; equal seeds give equal runs [0].")] = None,
    points: Annotated[str | None, typer.Option(help="A subset of the points: 30,40,45, 36-47, or names.")] = None,
    init: Annotated[
        str | None,
        typer.Option(
            help="Weights to start from: a run folder, or a file of ours or another project (docs/weights.md)."
        ),
    ] = None,
    pretrained: Annotated[
        str | None, typer.Option(help="Backbone weights: auto (where they can be had), yes, no.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out exactly.")] = False,
    recipe: Annotated[
        str | None, typer.Option(help="FILE.py:FUNCTION that returns a Recipe; options are put on top.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting: augment.flip=0, head.loss=mse, ..")
    ] = None,
    devices: Annotated[int, typer.Option(min=1, help="GPUs, or processes on a machine without.")] = 1,
    patience: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many epochs without a better val NME.")
    ] = None,
    preflight: Annotated[bool, typer.Option(help="First overfit one small batch, to see that it can learn.")] = True,
    images: ImagesOption = None,
    category: CategoryOption = None,
    strict: StrictOption = False,
    json_file: JsonOption = None,
) -> None:
    """Train a detector on labelled images, or on videos without labels.

    fiducial fit faces/ --out runs/faces --backbone mobilenetv3_small_100 --size 128x128 --epochs 60

    fiducial fit videos/ --out runs/motion --method motion
    """
    import fiducial
    from fiducial.data.source import Source

    source = Source(data, images, category).here()  # before what takes seconds to import

    quiet = json_file is not None and str(json_file) == "-"
    run = fiducial.fit(
        source,
        out,
        method=method,
        backbone=backbone,
        size=size,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        seed=seed,
        points=points,
        init=init,
        pretrained=pretrained,
        patience=patience,
        preflight=preflight,
        strict=strict,
        recipe=recipe,
        resume=resume,
        devices=devices,
        progress=sys.stderr.isatty() and not quiet,
        settings=set_ or [],
    )
    if run.figures:  # the helper processes of several devices have none
        write_figures(json_file, run.figures)
        if not quiet:
            print_run(run.figures)
            for name, path in run.files.items():
                typer.echo(f"{name}: {path}")
