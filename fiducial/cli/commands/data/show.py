"""`fiducial data show`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fiducial.cli.options import CategoryOption, DataPath, GroupOption, ImagesOption, JsonOption, writable
from fiducial.cli.output import is_printed, write_figures

ORDER = 10


def show(
    data: DataPath,
    report: Annotated[
        Path | None,
        typer.Option(dir_okay=False, callback=writable, help="Page with a sheet of labelled images and all figures."),
    ] = None,
    images: ImagesOption = None,
    category: CategoryOption = None,
    group: GroupOption = None,
    json_file: JsonOption = None,
) -> None:
    """Look at a labelled set: counts, sizes, points, splits and how they were made, licences.

    fiducial data show faces/ --report faces.html
    """
    import fiducial
    from fiducial.data.source import Source

    result = fiducial.labels.show(Source(data, images, category, (), group).here(), report=report)
    write_figures(json_file, result.figures)
    if not is_printed(json_file):
        for line in [*result.lines, *(f"{name}: {path}" for name, path in result.files.items())]:
            typer.echo(line)
