"""`fiducial runs`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fiducial.cli.options import JsonOption, existing
from fiducial.cli.output import is_printed, print_table, write_figures

ORDER = 78


def runs(
    folder: Annotated[Path, typer.Argument(callback=existing, file_okay=False, help="Where runs lie, at any depth.")],
    data: Annotated[str | None, typer.Option(help="Only runs of data with this in its name.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="Only fit, finder, distill, adapt, compare, study or search.")
    ] = None,
    sort: Annotated[str, typer.Option(help="figure, minutes, ms or path.")] = "figure",
    json_file: JsonOption = None,
) -> None:
    """List every measured run below a folder: what was tried on which data, with which figure, at which cost.

    fiducial runs runs/ --data faces --sort ms
    """
    import fiducial

    result = fiducial.runs(folder, data=data, kind=kind, sort=sort)
    write_figures(json_file, result.figures)
    if not is_printed(json_file):
        if result.table:
            print_table(result.table)
        for line in result.lines:
            typer.echo(line)
