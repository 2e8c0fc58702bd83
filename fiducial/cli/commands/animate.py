"""`fiducial animate`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from fiducial.cli.output import note
from fiducial.errors import UserError

ORDER = 60


def animate(
    source: Annotated[Path, typer.Argument(help="The picture that is to move, or a video: its first frame.")],
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
            help="COCO JSON with one box for SOURCE, for DRIVING (for all its frames) or both; else the whole picture."
        ),
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Of each picture in the video, WIDTHxHEIGHT px [the network's own].")
    ] = None,
    only: Annotated[
        bool, typer.Option("--only", help="The generated frames alone, without source and driving frames beside them.")
    ] = False,
) -> None:
    """Make a picture move as a video does.

    fiducial animate photo.jpg talking.mp4 --model runs/motion --out moved.mp4
    """
    from fiducial.geometry import Size
    from fiducial.motion import animate as animating

    try:
        side = None if size is None else Size.parse(size)
    except ValueError as error:
        raise UserError(f"--{error}") from None
    with _progress(sys.stderr.isatty()) as advance:
        done = animating.animate(
            model,
            source,
            driving,
            out,
            absolute=absolute,
            boxes=boxes,
            size=side,
            only=only,
            advance=advance,
            echo=note,
        )
    speed = f", {done.frames / done.seconds:.1f} a second" if done.frames > 1 else ""
    scale = "" if done.scale is None else f", motion times {done.scale:.2f}"
    typer.echo(f"{done.frames} frames{speed}{scale}: {done.video}, sheet: {done.sheet}")


@contextmanager
def _progress(shown: bool) -> Iterator[Callable[[int | None], None]]:
    """A bar on a terminal, nothing in a pipe."""
    if not shown:
        yield lambda total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns: Any = (TextColumn("frames"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("frames", total=None)
        yield lambda total: bar.update(task, advance=1, total=total)
