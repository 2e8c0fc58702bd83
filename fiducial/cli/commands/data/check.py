"""`fiducial data check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fiducial.cli.options import CategoryOption, DataPath, ImagesOption, JsonOption, writable
from fiducial.cli.output import finish

ORDER = 20


def check(
    data: DataPath,
    report: Annotated[
        Path | None,
        typer.Option(dir_okay=False, callback=writable, help="Page with pictures of what was found, before and after."),
    ] = None,
    fix: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Folder for a corrected set in COCO's form, where a repair is certain, and a log."),
    ] = None,
    images: ImagesOption = None,
    category: CategoryOption = None,
    json_file: JsonOption = None,
) -> None:
    """Find what is likely wrong in labels: exchanged sides, moved points, copies, leaks, broken boxes.

    fiducial data check faces/ --report faces_check.html

    fiducial data check faces/ --fix faces_mended/
    """
    import fiducial
    from fiducial.data.source import Source

    source = Source(data, images, category).here()
    finish(fiducial.labels.check(source, report=report, fix=fix), json_file)
