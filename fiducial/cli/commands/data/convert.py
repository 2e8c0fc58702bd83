"""`fiducial data convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fiducial.cli.options import CategoryOption, DataPath, ImagesOption, JsonOption, StrictOption
from fiducial.cli.output import is_printed, write_figures

ORDER = 60


def convert(
    data: DataPath,
    out: Annotated[
        Path, typer.Argument(help="A folder that is empty or not there; or a file, whose ending tells the format.")
    ],
    to: Annotated[
        str | None, typer.Option(help="coco, yolo, deeplabcut, ..; a wrong name lists all [told by the ending of OUT].")
    ] = None,
    split: Annotated[str | None, typer.Option(help="The only split that is written [all].", show_default=False)] = None,
    copy_images: Annotated[
        bool, typer.Option("--copy-images", help="Copy images also where the format could refer to them.")
    ] = False,
    images: ImagesOption = None,
    category: CategoryOption = None,
    strict: StrictOption = False,
    json_file: JsonOption = None,
) -> None:
    """Write labels in another format, and say what that loses.

    fiducial data convert my-deeplabcut-project/ mice.json

    fiducial data convert faces/ yolo-faces --to yolo
    """
    from fiducial.data.source import Source
    from fiducial.labels import convert as made_of

    made = made_of(
        Source(data, images, category).here(), out, to=to, split=split, copy_images=copy_images, strict=strict
    )
    for line in made.notes[:NAMED]:
        typer.echo(line, err=True)
    if len(made.notes) > NAMED:
        typer.echo(f".. and {len(made.notes) - NAMED} more; --json has all", err=True)
    for line in made.figures["lost"]:
        typer.echo(f"lost: {line}", err=True)
    write_figures(json_file, made.figures)
    if not is_printed(json_file):
        for line in [*made.lines, f"{made.figures['format']}: {out}"]:
            typer.echo(line)


NAMED = 10  # lines about the data that are printed
