"""`fiducial data next`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fiducial.cli.options import CategoryOption, ImagesOption, JsonOption, a_model, existing, refuse
from fiducial.cli.output import finish, has_bar
from fiducial.errors import UserError

ORDER = 50
AFTER_STOP = "the same command continues"


def next(  # noqa: A001  the command's name
    out: Annotated[
        Path, typer.Option(file_okay=False, help="Folder of the chosen images, the pre-labels and the page.")
    ],
    model: Annotated[Path | None, typer.Argument(help="A run folder or an exported file.", callback=a_model)] = None,
    pool: Annotated[list[Path] | None, typer.Argument(help="Images, folders and videos without labels.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Images to choose.")] = 50,
    labelled: Annotated[
        Path | None,
        typer.Option(help="The set that is labelled already, which they should be unlike.", callback=existing),
    ] = None,
    boxes: Annotated[Path | None, typer.Option(help="COCO JSON with the boxes to look in.", callback=existing)] = None,
    try_on: Annotated[
        Path | None,
        typer.Option("--try", help="Instead of choosing: try on this labelled set whether it pays.", callback=existing),
    ] = None,
    counts: Annotated[str, typer.Option(help="With --try: numbers of labelled images, comma separated.")] = "20,40,80",
    seeds: Annotated[int, typer.Option(min=1, help="With --try: repetitions.")] = 3,
    minutes: Annotated[float, typer.Option(min=0.1, help="With --try: of each training.")] = 2.0,
    images: ImagesOption = None,
    category: CategoryOption = None,
    json_file: JsonOption = None,
) -> None:
    """Choose the images that are most worth labelling next, with the model's points to begin from.

    fiducial data next runs/flies videos/ --labelled flies/ --count 100 --out next

    `--try DATA` measures on your own labelled set whether that is better than choosing by chance.
    """
    import fiducial

    if try_on is not None:
        refuse("not with --try", labelled=labelled, boxes=boxes)
        from fiducial.data.source import Source

        try:
            steps = [int(number) for number in counts.split(",")]
        except ValueError:
            raise UserError(f"--counts {counts!r}: expected whole numbers separated by commas") from None
        source = Source(try_on, images, category)
        result = fiducial.labels.next_curve(
            source, out, counts=steps, seeds=seeds, minutes=minutes, progress=has_bar(json_file)
        )
    else:
        refuse("only with --try", images=images, category=category)
        if model is None or not pool:
            raise UserError("MODEL and POOL are expected: fiducial data next runs/flies videos/ --out next")
        for path in pool:
            existing(path)
        result = fiducial.labels.next_images(
            model, pool, out, count=count, labelled=labelled, boxes=boxes, bar=has_bar(json_file)
        )
    finish(result, json_file)
