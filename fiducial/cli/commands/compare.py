"""`fiducial compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fiducial.cli.options import CategoryOption, DataPath, ImagesOption, JsonOption, PartAloneOption, RayOption, choices
from fiducial.cli.output import finish, has_bar
from fiducial.errors import UserError

ORDER = 70
AFTER_STOP = "the same command continues"


@choices(
    *("epochs", "batch_size", "lr", "points", "pretrained", "plan", "recipe", "settings"),
    epochs="Of every run, as the next ones; see fit.",
    plan="What no option says is planned by the data, for all runs alike (docs/training.md).",
    recipe="FILE.py:FUNCTION that returns the common Recipe; options are put on top.",
    settings="Any setting, of every run: augment.flip=0, ..",
)
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
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time [1, or one a GPU, or with --ray one a machine].")
    ] = None,
    ray: RayOption = None,
    images: ImagesOption = None,
    category: CategoryOption = None,
    part: PartAloneOption = None,
    json_file: JsonOption = None,
    **chosen: Any,
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
        ray=ray,
        progress=has_bar(json_file),
        **chosen,
    )
    finish(result, json_file)
