"""`fiducial export`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from fiducial.cli.options import JsonOption, PartOption, a_model, existing
from fiducial.cli.output import print_table, write_figures

ORDER = 80


def export(
    model: Annotated[
        Path,
        typer.Argument(
            callback=a_model,
            help="A run folder, or another project's file of weights; for --to web also an exported .onnx, or `face`.",
        ),
    ],
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder for model.* and model.certificate.json.")],
    to: Annotated[
        str, typer.Option(help="onnx, openvino, ncnn, litert, executorch, coreml, web, ..; a wrong name lists all.")
    ] = "onnx",
    data: Annotated[
        Path | None,
        typer.Option(
            callback=existing,
            help="Labelled pictures for the certificate [those that the run was scored on, else drawn faces].",
        ),
    ] = None,
    crop: Annotated[
        str, typer.Option(help="inside: the file takes images and boxes; outside: crops, for accelerators.")
    ] = "inside",
    decode: Annotated[
        str, typer.Option(help="own: the method's; matmul: by softmax and products alone, for delegates.")
    ] = "own",
    int8: Annotated[
        Path | None,
        typer.Option(
            callback=existing,
            help="Data to try 8-bit whole numbers with: train calibrates, val judges. Kept only where faster.",
        ),
    ] = None,
    max_drop: Annotated[float, typer.Option(min=0, help="With --int8: by what share of itself NME may rise.")] = 0.01,
    json_file: JsonOption = None,
    part: PartOption = None,
) -> None:
    """Export a model to one file that runs without PyTorch, and prove that it finds the same points.

    fiducial export runs/faces --to onnx --out shipped

    fiducial export runs/faces --to openvino --int8 faces/ --max-drop 0.01 --out shipped

    fiducial export runs/faces --to web --out site
    """
    import fiducial
    from fiducial.exporting import certificate

    made = fiducial.export(model, out, to=to, data=data, crop=crop, decode=decode, int8=int8, max_drop=max_drop)
    write_figures(json_file, dataclasses.asdict(made.certificate))
    if str(json_file) != "-":
        if made.certificate.cases:
            print_table(certificate.table(made.certificate))
        for line in certificate.lines(made.certificate):
            typer.echo(line)
        typer.echo(f"file: {made.file}, certificate: {out / 'model.certificate.json'}")
