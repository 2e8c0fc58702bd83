"""`fiducial adapt`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fiducial.cli.options import CategoryOption, GroupOption, ImagesOption, JsonOption, StrictOption, a_model
from fiducial.cli.output import finish, has_bar

ORDER = 35


def adapt(
    model: Annotated[
        Path,
        typer.Argument(
            callback=a_model,
            help="A network that is there: another project's (.onnx, .tflite, .task), an exported model, or one that comes along: "
            "face.",
        ),
    ],
    data: Annotated[Path, typer.Argument(help="Labelled data as for fit; fifty labels are enough, five the least.")],
    out: Annotated[
        Path, typer.Option(file_okay=False, help="A new folder: the network's file with the map beside it.")
    ],
    views: Annotated[
        int,
        typer.Option(
            min=1, max=100, help="Of each crop, whose answers' mean is taken: nearer, and as many times as slow."
        ),
    ] = 1,
    images: ImagesOption = None,
    category: CategoryOption = None,
    group: GroupOption = None,
    strict: StrictOption = False,
    json_file: JsonOption = None,
) -> None:
    """Give a network your own points by a linear map from its points, learnt from a few labels in seconds.

    fiducial adapt face_landmark.tflite faces/ --out mine

    fiducial predict mine photo.jpg
    """
    import fiducial
    from fiducial.data.source import Source

    source = Source(data, images, category, (), group).here()
    finish(fiducial.adapt(model, source, out, views=views, strict=strict, progress=has_bar(json_file)), json_file)
