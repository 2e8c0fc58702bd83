"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fiducial.models import outside


def named_parts(files: list[str] | None) -> list[str]:
    """Names files as parts, for this command and the processes that it starts."""
    return [outside.written(file) for file in files or []]


DataPath = Annotated[
    Path,
    typer.Argument(
        help="Folder with annotations/{train,val,test}.json beside images/, any supported format's root, or one annotation file."
    ),
]
ImagesOption = Annotated[Path | None, typer.Option(help="Folder of the images, when DATA is one annotation file.")]
CategoryOption = Annotated[str | None, typer.Option(help="Which category, when DATA has several with points.")]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="Bad samples are errors instead of being skipped and listed.")
]
JsonOption = Annotated[
    Path | None, typer.Option("--json", dir_okay=False, help="Write the figures here as JSON; '-' prints them.")
]
PART_HELP = "The file of the run's own head or backbone, where that is not on the Python path (docs/training.md)."
PartOption = Annotated[
    list[str] | None,
    typer.Option("--part", "--method", metavar="FILE.py", callback=named_parts, help=PART_HELP),
]
# Of commands where --method means something else.
PartAloneOption = Annotated[
    list[str] | None, typer.Option("--part", metavar="FILE.py", callback=named_parts, help=PART_HELP)
]
