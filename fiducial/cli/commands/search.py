"""`fiducial search`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fiducial.cli.options import (
    CategoryOption,
    DataPath,
    ImagesOption,
    JsonOption,
    PartAloneOption,
    RayOption,
    choices,
    existing,
)
from fiducial.cli.output import finish, has_bar

ORDER = 75
AFTER_STOP = "the same command continues"


@choices(
    *("batch_size", "lr", "seed", "points", "pretrained", "settings"),
    batch_size="Of every run [planned], as the next ones; see fit.",
    settings="Any setting, of every run: augment.flip=0, ..",
)
def search(
    data: DataPath,
    budget: Annotated[
        str, typer.Option(metavar="MSms@RUNTIME:THREADS", help="What an answer may take: 3ms@onnxruntime:1.")
    ],
    out: Annotated[
        Path, typer.Option(file_okay=False, help="Folder of the search: the file that ships, report.html, runs.")
    ],
    minutes: Annotated[float, typer.Option(min=0.5, help="That all may take.")] = 60.0,
    methods: Annotated[
        str | None, typer.Option(help="As compare has them [simcc, integral with DSNT, heatmap, ..].")
    ] = None,
    backbones: Annotated[
        str | None, typer.Option(help="Comma separated [some of many widths, those with weights first].")
    ] = None,
    sizes: Annotated[
        str | None, typer.Option(help="Inputs, WIDTHxHEIGHT px, comma separated [in the boxes' shape].")
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            callback=existing,
            dir_okay=False,
            help="Latencies that `fiducial bench` measured on the device [measured here first].",
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time [1, or one a GPU, or with --ray one a machine].")
    ] = None,
    ray: RayOption = None,
    int8: Annotated[bool, typer.Option(help="Think of networks that keep the budget in int8 alone, too.")] = True,
    distill: Annotated[
        bool, typer.Option(help="At the end, where there is time, a larger network teaches the best one.")
    ] = True,
    images: ImagesOption = None,
    category: CategoryOption = None,
    part: PartAloneOption = None,
    json_file: JsonOption = None,
    **chosen: Any,
) -> None:
    """Find the best detector for a budget of milliseconds: one certified file that keeps it, and what else was tried.

    fiducial search faces/ --budget 3ms@onnxruntime:1 --minutes 60 --out searched

    Interrupted, the same command continues.
    """
    from fiducial.searching.budget import budget_of

    budget_of(budget)  # before what takes seconds to import
    import fiducial
    from fiducial.data.source import Source

    source = Source(data, images, category).here()
    result = fiducial.search(
        source,
        out,
        budget=budget,
        minutes=minutes,
        methods=methods,
        backbones=backbones,
        sizes=sizes,
        table=table,
        jobs=jobs,
        ray=ray,
        int8=int8,
        distill=distill,
        progress=has_bar(json_file),
        **chosen,
    )
    finish(result, json_file)
