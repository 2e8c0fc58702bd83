"""`fiducial data check`."""

from __future__ import annotations

import typer

from fiducial.cli.options import CategoryOption, DataPath, ImagesOption, JsonOption
from fiducial.cli.output import is_printed, write_figures

ORDER = 20


def check(
    data: DataPath,
    images: ImagesOption = None,
    category: CategoryOption = None,
    json_file: JsonOption = None,
) -> None:
    """Find what is likely wrong in labels: exchanged sides, moved points, copies, leaks, broken boxes.

    fiducial data check faces/ --json findings.json
    """
    import fiducial
    from fiducial.data.source import Source

    source = Source(data, images, category).here()
    result = fiducial.labels.check(source)
    write_figures(json_file, result.figures)
    if not is_printed(json_file):
        for line in result.lines:
            typer.echo(line)
