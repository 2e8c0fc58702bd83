"""`fiducial profile`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fiducial.cli.options import JsonOption, PartAloneOption
from fiducial.cli.output import print_table, write_figures
from fiducial.errors import UserError

ORDER = 90


def profile(
    model: Annotated[
        Path | None, typer.Argument(help="A run folder, or a folder or file of `fiducial export`.")
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="Instead of MODEL: of a network with random weights.")] = None,
    method: Annotated[str | None, typer.Option(help="The same; what is not given is the recipe's.")] = None,
    size: Annotated[str | None, typer.Option(help="Its input, WIDTHxHEIGHT px.")] = None,
    points: Annotated[int | None, typer.Option(min=1, help="How many points it finds [17].")] = None,
    by: Annotated[
        str | None, typer.Option(help="module, block, layer or type [block, or layer where blocks are not known].")
    ] = None,
    runtime: Annotated[
        str | None, typer.Option(help="torch, onnxruntime, openvino, ncnn, .., for a run folder [torch].")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of the runtime; one is what figures are compared by.")] = 1,
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="Write a page with a picture of it here.")] = None,
    part: PartAloneOption = None,
    json_file: JsonOption = None,
) -> None:
    """Say where the time of a prediction goes, how near the machine's limits it is, and what to do about it.

    fiducial profile runs/faces --by block --out profile.html

    fiducial profile --backbone resnet18 --method simcc --size 192x256 --runtime openvino
    """
    from fiducial import folders
    from fiducial.profiling import grouping, page, workflow

    grouping.check(by)
    random = (backbone, method, size, points)
    if model is None and backbone is None and method is None:
        raise UserError(
            "expected `fiducial profile MODEL`, or --backbone B --method M for a network with random weights"
        )
    if model is not None and any(value is not None for value in random):
        raise UserError("MODEL has its own network: leave out --backbone, --method, --size and --points, or MODEL")
    with folders.alone_at(out):
        if model is not None:
            found = workflow.profile_model(model, runtime, threads=threads)
        else:
            found = workflow.profile_random(backbone, method, size, points or 17, runtime, threads=threads)
        rows = page.table(found, by)  # refused before anything is written
        write_figures(json_file, page.summary(found, by))
        if out is not None:
            from fiducial.report.page import write_page

            write_page(out, page.page_of(found, by))
    if str(json_file) != "-":
        print_table(rows)
        for line in page.lines(found):
            typer.echo(line)
        if out is not None:
            typer.echo(f"report: {out}")
