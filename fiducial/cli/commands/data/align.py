"""`fiducial data align`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fiducial.cli.options import CategoryOption, DataPath, ImagesOption, JsonOption, a_model
from fiducial.cli.output import finish, has_bar

ORDER = 55


def align(
    data: DataPath,
    to: Annotated[Path, typer.Option(help="Your own set, whose places are meant.")],
    model: Annotated[
        Path,
        typer.Option(
            callback=a_model,
            help="Finds the points of both, and has not learnt from DATA: a run on your set, a model in a file.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(file_okay=False, help="A folder that is empty or not there, for the moved labels.")
    ],
    images: ImagesOption = None,
    category: CategoryOption = None,
    json_file: JsonOption = None,
) -> None:
    """Move another set's labels so that a point's name means the same place as in your own set.

    fiducial fit mine/ --out runs/mine

    fiducial data align theirs/ --to mine/ --model runs/mine --out theirs_as_mine

    fiducial fit mine/ --also theirs_as_mine/ --out runs/both
    """
    import fiducial
    from fiducial.data.source import Source

    source = Source(data, images, category).here()
    made = fiducial.labels.align(source, Source(to).here(), model, out, progress=has_bar(json_file))
    finish(made, json_file)
