"""`fiducial data review`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fiducial.cli.options import CategoryOption, ImagesOption, JsonOption, existing
from fiducial.cli.output import finish

ORDER = 30
AFTER_STOP = "the same command continues"
IS_SERVICE = True


def review(
    findings: Annotated[
        Path, typer.Argument(help="JSON of `fiducial data check --json`.", callback=existing, dir_okay=False)
    ],
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder of the answers and the mended labels.")],
    data: Annotated[
        Path | None, typer.Option(help="The set that they are about [as they say].", callback=existing)
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of this machine [a free one].")] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page.")] = True,
    images: ImagesOption = None,
    category: CategoryOption = None,
    json_file: JsonOption = None,
) -> None:
    """Go through findings on a page of this machine: keep a label, take the proposal, drag a point.

    fiducial data review findings.json --out flies_mended

    Each answer is on the disk before the next finding shows; the mended labels are a new COCO set beside the log.
    """
    import fiducial

    result = fiducial.labels.review(
        findings, out, data=data, images=images, category=category, port=port, opens=browser
    )
    finish(result, json_file)
