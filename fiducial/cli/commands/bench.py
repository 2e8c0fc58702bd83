"""`fiducial bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fiducial.cli.options import JsonOption, PartAloneOption, existing, refuse
from fiducial.cli.output import has_bar, is_printed, print_table, write_figures
from fiducial.errors import UserError

ORDER = 95
AFTER_STOP = "the same command continues"


def bench(
    what: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FOLDER|MODEL]",
            callback=existing,
            help="A folder that --make wrote, to be timed on this device; or an exported file, to be timed many times.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="The table, for search --table; one that was begun is continued."),
    ] = None,
    make: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Only make the files of networks, into this folder; it goes to the device."),
    ] = None,
    place: Annotated[
        str | None, typer.Option("--runtime", help="onnxruntime, openvino, ncnn, ..; RUNTIME:THREADS [onnxruntime:1].")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of the runtime [1].")] = None,
    points: Annotated[int | None, typer.Option(min=1, help="How many points the networks find [17].")] = None,
    methods: Annotated[str | None, typer.Option(help="As compare has them [those that search thinks of].")] = None,
    backbones: Annotated[str | None, typer.Option(help="Comma separated; names hold widths [those of search].")] = None,
    sizes: Annotated[
        str | None, typer.Option(help="Inputs, WIDTHxHEIGHT px, comma separated [96x96,128x128,192x192].")
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Each network in int8, too.")] = False,
    budget: Annotated[str | None, typer.Option(help="Of MODEL: whether it keeps 3ms@onnxruntime:1 each time.")] = None,
    part: PartAloneOption = None,
    json_file: JsonOption = None,
) -> None:
    """Measure what networks take on this device: a table for search. The device itself needs no torch.

    fiducial bench --make networks --points 68 --runtime ncnn

    fiducial bench networks --runtime ncnn --out table.json

    fiducial bench shipped/model.onnx --budget 3ms@onnxruntime:1

    The first makes the files where torch is; the second times them where they are to run. Without a folder both are done here.
    """
    import fiducial

    if what is not None and not (what / "networks.json").is_file():
        refuse(
            "is for networks that are made; a model has its own",
            make=make,
            runtime=place,
            points=points,
            methods=methods,
            backbones=backbones,
            sizes=sizes,
            int8=int8,
            out=out,
        )
        result = fiducial.bench(model=what, budget=budget, threads=threads)
    else:
        refuse("is for a model, bench shipped/model.onnx", budget=budget)
        if what is not None:
            refuse(
                "is for making networks, and FOLDER holds some",
                make=make,
                points=points,
                methods=methods,
                backbones=backbones,
                sizes=sizes,
                int8=int8,
            )
        if make is not None:
            refuse("is for timing, and --make only makes the files", out=out)
        elif out is None:
            raise UserError("--out: missing; expected a file for the table, or --make FOLDER")
        result = fiducial.bench(
            out,
            folder=what,
            make=make,
            runtime=place or "onnxruntime",
            threads=threads,
            points=points or 17,
            methods=methods,
            backbones=backbones,
            sizes=sizes,
            int8=int8,
            progress=has_bar(json_file),
        )
    write_figures(json_file, {name: value for name, value in result.figures.items() if name != "files"})
    if not is_printed(json_file):
        if result.table:
            print_table(result.table)
        for line in [*result.lines, *(f"{name}: {path}" for name, path in result.files.items())]:
            typer.echo(line)
    if result.figures.get("keeps_budget") is False:
        raise typer.Exit(1)
