"""`fiducial animate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from fiducial.cli.options import PartAloneOption
from fiducial.errors import UserError

ORDER = 60


def animate(
    source: Annotated[Path, typer.Argument(help="The image that is to move, or a video: its first frame.")],
    driving: Annotated[Path, typer.Argument(help="The video that it moves by, or a folder of frames.")],
    model: Annotated[
        Path,
        typer.Option(
            help="The folder of a run of `fit VIDEOS --method motion`, or a published checkpoint of the First-Order-Motion "
            "model (vox-cpk.pth.tar)."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The video to write, .mp4; a sheet of frames comes beside it as .png.")],
    absolute: Annotated[
        bool,
        typer.Option(
            "--absolute/--relative",
            help="Take the driving points themselves, or their motion since the first frame, scaled to the source.",
            show_default="relative",
        ),
    ] = False,
    boxes: Annotated[
        Path | None,
        typer.Option(
            help="COCO JSON with one box for SOURCE, for DRIVING (for all its frames) or both; else the whole image."
        ),
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Of each image in the video, WIDTHxHEIGHT px [the network's own].")
    ] = None,
    only: Annotated[
        bool, typer.Option("--only", help="The generated frames alone, without source and driving frames beside them.")
    ] = False,
    part: PartAloneOption = None,
) -> None:
    """Make an image move as a video does.

    fiducial animate photo.jpg talking.mp4 --model runs/motion --out moved.mp4
    """
    from fiducial import motion
    from fiducial.geometry import Size

    try:
        tile = None if size is None else Size.parse(size)
    except ValueError as error:
        raise UserError(f"--{error}") from None
    bar = sys.stderr.isatty()
    done = motion.animate(model, source, driving, out, absolute=absolute, boxes=boxes, size=tile, only=only, bar=bar)
    speed = f", {done.frames / done.seconds:.1f} a second" if done.frames > 1 else ""
    scale = "" if done.scale is None else f", motion times {done.scale:.2f}"
    typer.echo(f"{done.frames} frames{speed}{scale}: {done.video}, sheet: {done.sheet}")
