"""Arguments and options that several commands have; what the runs of `fit`, `compare` and `distill` choose is one list."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from fiducial.errors import UserError, nothing_at
from fiducial.files import refuse_unwritable
from fiducial.models import outside


def named_parts(files: list[str] | None) -> list[str]:
    """Names files as parts, for this command and the processes that it starts."""
    return [outside.written(file) for file in files or []]


def writable(file: Path | None) -> Path | None:
    """Refuses a file that could not be written at the end, when all work is done."""
    if file is not None and str(file) != "-":
        refuse_unwritable(str(file), file.parent)
    return file


def existing(path: Path | None) -> Path | None:
    """Refuses a path with nothing at it, before anything heavy is imported to read it."""
    if path is not None and not path.exists():
        raise nothing_at(path)
    return path


def refuse(why: str, **given: Any) -> None:
    """Refuses options that were given, neither None nor False, and that can't be honoured: "not with --linear-map"."""
    for name, value in given.items():
        if value is not None and value is not False:
            raise UserError(f"--{name.replace('_', '-')}: {why}; leave it out")


def a_model(path: Path | None) -> Path | None:
    """Refuses what no model lies at, nor comes along by that name, before anything heavy is imported."""
    from fiducial.runtime import bundled

    return path if path is not None and bundled.file_of(path) is not None else existing(path)


DataPath = Annotated[
    Path,
    typer.Argument(
        help="Folder with annotations/{train,val,test}.json beside images/, any supported format's root, or one annotation file."
    ),
]
ImagesOption = Annotated[Path | None, typer.Option(help="Folder of the images, when DATA is one annotation file.")]
CategoryOption = Annotated[
    str | None,
    typer.Option(help="Which category, when DATA has several with points; A,B: both, with the points of both."),
]
AlsoOption = Annotated[
    list[Path] | None,
    typer.Option(help="Another labelled set to learn from as well, with the points of both. May be repeated."),
]
GroupOption = Annotated[
    str | None,
    typer.Option(
        help="What belongs together: not in two splits, where DATA has no val, and drawn together for intervals. A field of the "
        "images (video, person), or a pattern on their names [found by itself]."
    ),
]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="Bad samples are errors instead of being skipped and listed.")
]
RayOption = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS|local", help="Train on the machines of a Ray cluster, which see the same folders."),
]
JsonOption = Annotated[
    Path | None,
    typer.Option("--json", dir_okay=False, callback=writable, help="Write the figures here as JSON; '-' prints them."),
]
PART_HELP = "The file of the run's own head or backbone, where that is not on the Python path (docs/training.md)."
PartOption = Annotated[
    list[str] | None,
    typer.Option("--part", "--method", metavar="FILE.py", callback=named_parts, help=PART_HELP),
]
# Of commands where --method means something else.
PartAloneOption = Annotated[
    list[str] | None, typer.Option("--part", metavar="FILE.py", callback=named_parts, help=PART_HELP)
]


def _choices(
    method: Annotated[
        str | None,
        typer.Option(
            help="heatmap (default), deeppose, rle, integral, simcc, rounding, motion: points without labels, from video "
            "(docs/training.md)."
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="tf_efficientnet_lite0_stride16, mobilenetv3_small_100, hrnet_w32, unet_resnet18, any timm name [the first "
            "where its weights are on this disk, else the second]."
        ),
    ] = None,
    size: Annotated[str | None, typer.Option(help="Input, WIDTHxHEIGHT px [planned].")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training data [planned].")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Of each device [planned].")] = None,
    lr: Annotated[str | None, typer.Option(help="Peak learning rate, or auto for the finder.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random; equal seeds give equal runs [0].")] = None,
    points: Annotated[str | None, typer.Option(help="A subset of the points: 30,40,45, 36-47, or names.")] = None,
    init: Annotated[
        str | None,
        typer.Option(
            help="Weights to start from: a run folder, or a file of ours or another project (docs/weights.md)."
        ),
    ] = None,
    pretrained: Annotated[
        str | None,
        typer.Option(
            help="Backbone weights: here (those on this disk, the default), auto (fetched where they can be), yes (or an error), no."
        ),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(help="Of the weights, in words; it goes with them [the data's, where they state one]."),
    ] = None,
    patience: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many epochs without a better val NME.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.1, help="That all may take; as many steps are made as fit.")
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="So many runs, each judged on the part of DATA that it has not seen, and one model of all (docs/training.md).",
        ),
    ] = None,
    plan: Annotated[
        bool, typer.Option(help="What no option says is planned by the data and the machine (docs/training.md).")
    ] = True,
    plan_only: Annotated[
        bool, typer.Option("--plan-only", help="Print the plan and train nothing; --out is not needed.")
    ] = False,
    check: Annotated[bool, typer.Option(help="First look for labels that would waste the run (docs/check.md).")] = True,
    preflight: Annotated[bool, typer.Option(help="First overfit one small batch, to see that it can learn.")] = True,
    recipe: Annotated[
        str | None, typer.Option(help="FILE.py:FUNCTION that returns a Recipe; options are put on top.")
    ] = None,
    settings: Annotated[list[str], typer.Option("--set", help="Any setting: augment.flip=0, head.loss=mse, ..")] = [],  # noqa: B006
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out exactly.")] = False,
    devices: Annotated[int, typer.Option(min=1, help="GPUs, or processes on a machine without.")] = 1,
    node: Annotated[
        str | None,
        typer.Option(
            metavar="K/N@HOST:PORT",
            help="This is machine K, from 0, of N that train one run, the first of which is at HOST; --out is a folder that "
            "they share (docs/training.md).",
        ),
    ] = None,
) -> None:
    """Lists what a run may choose, as keywords of the API and flags of the command line."""


def choices(*names: str, **helps: str) -> Callable[[Any], Any]:
    """Gives a command these choices of a run as flags, before its `--images`; the function gets them as `**chosen`.

    helps: what --help says of one, where that differs."""
    known = inspect.signature(_choices, eval_str=True).parameters

    def of(name: str) -> inspect.Parameter:
        kind, option = get_args(known[name].annotation)
        option = typer.models.OptionInfo(**{**vars(option), "help": helps.get(name, option.help)})
        return known[name].replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[kind, option])

    def decorated(command: Any) -> Any:
        signature = inspect.signature(command, eval_str=True)
        own = [parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
        place = [parameter.name for parameter in own].index("images")
        own = [parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in own]
        own[place:place] = [of(name) for name in names]
        command.__signature__ = signature.replace(parameters=own)
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in own}
        return command

    return decorated
