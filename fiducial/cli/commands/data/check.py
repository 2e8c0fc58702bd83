"""`fiducial data check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fiducial.cli.options import CategoryOption, DataPath, ImagesOption, JsonOption, writable
from fiducial.cli.output import has_bar, is_printed, write_figures

ORDER = 20
AFTER_STOP = "the same command continues"


def check(
    data: DataPath,
    report: Annotated[
        Path | None,
        typer.Option(dir_okay=False, callback=writable, help="Page with pictures of what was found, before and after."),
    ] = None,
    fix: Annotated[
        Path | None,
        typer.Option(
            file_okay=False, help="New folder for a corrected set in COCO's form, where a repair is certain, and a log."
        ),
    ] = None,
    deep: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help="Folder: train three models there, each on a third, and tell what labels they contradict.",
        ),
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.5, help="With --deep: that its models together may take.")] = 15.0,
    size: Annotated[
        str | None, typer.Option(help="With --deep: input of the models, WIDTHxHEIGHT px [planned].")
    ] = None,
    images: ImagesOption = None,
    category: CategoryOption = None,
    json_file: JsonOption = None,
) -> None:
    """Find what is likely wrong in labels: exchanged sides, moved points, copies, leaks, broken boxes.

    fiducial data check faces/ --report faces_check.html --json findings.json

    fiducial data check faces/ --fix faces_mended/

    fiducial data check faces/ --deep faces_models/ --minutes 30
    """
    import fiducial
    from fiducial.data.source import Source

    source = Source(data, images, category).here()
    result = fiducial.labels.check(
        source, report=report, fix=fix, deep=deep, minutes=minutes, size=size, progress=has_bar(json_file)
    )
    write_figures(json_file, result.figures)
    if not is_printed(json_file):
        for line in [*result.lines, *(f"{name}: {path}" for name, path in result.files.items())]:
            typer.echo(line)
