"""`fiducial predict`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from fiducial.cli.options import StrictOption
from fiducial.cli.output import note


def predict(
    model: Annotated[Path, typer.Argument(help="A run folder.")],
    sources: Annotated[list[str], typer.Argument(help="Images, folders, videos, or camera:0.")],
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder for the pictures and results.json.")],
    boxes: Annotated[
        Path | None, typer.Option(help="COCO JSON whose annotations have boxes; else the whole image.")
    ] = None,
    flip_test: Annotated[
        bool, typer.Option("--flip-test", help="Average over the picture and its mirror image.")
    ] = False,
    oks_nms: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Of boxes that hold the same instance keep the best: OKS above this [off; 0.9]."
        ),
    ] = None,
    strict: StrictOption = False,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", dir_okay=False, help="COCO results here instead of OUT/results.json; '-' prints them."),
    ] = None,
) -> None:
    """Find points in images and videos; the same with points and COCO results JSON come out.

    fiducial predict runs/faces photo.jpg holiday/ clip.mp4 --out found
    """
    from fiducial.deploy import predict as prediction

    done = prediction.predict_sources(
        model, sources, out, boxes=boxes, flip_test=flip_test, oks_nms=oks_nms, strict=strict, json_file=json_file,
        progress=sys.stderr.isatty(), echo=note,
    )  # fmt: skip
    if str(json_file) == "-":
        typer.echo(json.dumps(done.results, allow_nan=False))
    else:
        where = json_file or out / "results.json"
        typer.echo(f"{done.images} images, {done.instances} instances: {where}, pictures in {out}")
