"""`fiducial compare`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from fiducial.cli.options import CategoryOption, DataPath, ImagesOption, JsonOption, PartAloneOption
from fiducial.cli.output import print_table, write_figures
from fiducial.errors import UserError

ORDER = 70
AFTER_STOP = "the same command continues"


def compare(
    data: DataPath,
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder of the comparison: runs, report.html, results.")],
    more: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUN..]", help="Further ones, after --runs RUN.")
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help="heatmap,deeppose,heatmap:upsampling=deconvolution,@FILE.py:FUNC; LABEL= before one names it."
        ),
    ] = None,
    backbones: Annotated[str | None, typer.Option(help="Comma separated [the recipe's].")] = None,
    sizes: Annotated[str | None, typer.Option(help="Inputs, WIDTHxHEIGHT px, comma separated [the recipe's].")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each, from seed 0 up.")] = 1,
    split: Annotated[str, typer.Option(help="What is scored: val or test.")] = "val",
    baseline: Annotated[str | None, typer.Option(help="Differences are to this method instead of the best.")] = None,
    runs: Annotated[
        list[str] | None, typer.Option(help="Finished runs or exported files to compare, alone or beside the methods.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time [1, or one a GPU].")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Of every run, as the next ones; see fit.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Of each device.")] = None,
    lr: Annotated[str | None, typer.Option(help="Peak learning rate, or auto for the finder.")] = None,
    points: Annotated[str | None, typer.Option(help="A subset of the points: 30,40,45, 36-47, or names.")] = None,
    pretrained: Annotated[str | None, typer.Option(help="Backbone weights: auto, yes, no.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="FILE.py:FUNCTION that returns the common Recipe; options are put on top.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting, of every run: augment.flip=0, ..")
    ] = None,
    images: ImagesOption = None,
    category: CategoryOption = None,
    part: PartAloneOption = None,
    json_file: JsonOption = None,
) -> None:
    """Train methods on the same data under the same budget, and say which is best, and which within how many ms.

    fiducial compare faces/ --out compared --methods deeppose,heatmap,rle --seeds 3 --epochs 60

    Interrupted, the same command continues; methods, backbones, sizes and seeds may be added.
    """
    if more and not runs:
        raise UserError(f"{more[0]}: one DATA is expected; finished runs are given as --runs {more[0]}")
    import fiducial
    from fiducial.data.source import Source

    source = Source(data, images, category).here()  # before what takes seconds to import

    quiet = json_file is not None and str(json_file) == "-"
    others = [Path(part) for text in runs or [] for part in text.split(",") if part] + (more or [])
    result = fiducial.compare(
        source,
        out,
        methods=methods,
        backbones=backbones,
        sizes=sizes,
        seeds=seeds,
        runs=others,
        split=split,
        baseline=baseline,
        jobs=jobs,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        points=points,
        pretrained=pretrained,
        recipe=recipe,
        progress=sys.stderr.isatty() and not quiet,
        settings=set_ or [],
    )
    write_figures(json_file, result.figures)
    if not quiet:
        print_table(result.table)
        for line in result.lines:
            typer.echo(line)
        for name, path in result.files.items():
            typer.echo(f"{name}: {path}")
