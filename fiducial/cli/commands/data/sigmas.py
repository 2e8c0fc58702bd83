"""`fiducial data sigmas`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fiducial.cli.options import CategoryOption, DataPath, ImagesOption, JsonOption
from fiducial.cli.output import finish, has_bar

ORDER = 40
AFTER_STOP = "the same command continues"


def sigmas(
    data: DataPath,
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder of the models and the page.")],
    again: Annotated[
        Path | None, typer.Option(help="Another annotator's labels of the same images; no model is trained then.")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.5, help="That the three models together may take.")] = 15.0,
    size: Annotated[str | None, typer.Option(help="Input of the models, WIDTHxHEIGHT px [planned].")] = None,
    backbone: Annotated[str | None, typer.Option(help="Of the models [as fiducial fit].")] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    images: ImagesOption = None,
    category: CategoryOption = None,
    json_file: JsonOption = None,
) -> None:
    """Estimate the OKS sigma of each point: how far careful labels of it spread.

    fiducial data sigmas flies/ --out flies_sigmas --minutes 20

    From labels given twice where there are any; else from models that have not seen the labels, their own share taken out.
    """
    import fiducial
    from fiducial.data.source import Source

    result = fiducial.labels.sigmas(
        Source(data, images, category).here(),
        out,
        again=again,
        minutes=minutes,
        seed=seed,
        size=size,
        backbone=backbone,
        progress=has_bar(json_file),
    )
    finish(result, json_file)
