"""The command line. Thin: each command parses, calls one function of a room, prints; heavy imports stay inside."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import fiducial
from fiducial.errors import UserError

if TYPE_CHECKING:
    from fiducial.training.recipe import Recipe

app = typer.Typer(
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="From annotated images to the best keypoint detector for a device, with proof.\n\n"
    "Start with `fiducial demo`, or `fiducial fit DATA --out RUN` on your own labels.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

DataPath = Annotated[
    Path, typer.Argument(help="Folder with annotations/{train,val,test}.json beside images/, any supported format's root, or one annotation file.")
]  # fmt: skip
ImagesOption = Annotated[Path | None, typer.Option(help="Folder of the images, when DATA is one annotation file.")]
CategoryOption = Annotated[str | None, typer.Option(help="Which category, when DATA has several with points.")]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="Bad samples are errors instead of being skipped and listed.")
]
JsonOption = Annotated[
    Path | None, typer.Option("--json", dir_okay=False, help="Write the figures here as JSON; '-' prints them.")
]


# Typer's words for a wrong option or command; in its own copy of click or in the one that is installed.
USAGE_ERROR: Any = typer.BadParameter.__mro__[1]
STOPPED = 130  # what typer makes of Ctrl-C


def main() -> None:
    """Exit code 2 for a user's mistake, 1 for a failure; one line on stderr, a traceback with --debug only."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    else:
        warnings.showwarning = _show_warning
    try:
        code = app(standalone_mode=False)
    except Exception as error:
        if debug:
            raise
        code = _say(error)
    if code == STOPPED:
        hints = {"fit": "; `fiducial fit` continues exactly with --resume", "compare": "; the same command continues"}
        hint = hints.get(sys.argv[1] if len(sys.argv) > 1 else "", "")
        print(f"fiducial: stopped{hint}", file=sys.stderr)
    sys.exit(code)


def _show_warning(message: Warning | str, category: type, filename: str, *rest: Any) -> None:
    """Our own warnings are for users, one line each; those of libraries are for people who debug."""
    if "fiducial" in Path(filename).parts or Path(filename).parent.name == "fiducial":
        print(f"fiducial: {message}", file=sys.stderr)


def _say(error: BaseException) -> int:
    """The line for the user and the exit code."""
    if isinstance(error, UserError):
        print(f"fiducial: {error}", file=sys.stderr)
        return 2
    if isinstance(error, USAGE_ERROR):
        context = getattr(error, "ctx", None)
        command = "fiducial" if context is None else context.command_path
        said = error.format_message()  # type: ignore[attr-defined]
        print(f"fiducial: {' '.join(said.split())} (`{command} --help` says more)", file=sys.stderr)
        return 2
    if isinstance(error, ModuleNotFoundError) and (extra := _extra_of(error.name or "")):
        print(f"fiducial: {error.name} is not installed: pip install 'fiducial[{extra}]'", file=sys.stderr)
        return 2
    failed = "" if type(error).__name__ == "TrainingFailure" else f"{type(error).__name__}: "
    hint = "" if failed == "" else " (--debug shows where)"
    print(f"fiducial: {failed}{error}{hint}", file=sys.stderr)
    return 1


def _extra_of(module: str) -> str | None:
    extras = {
        "train": ("torch", "lightning", "timm", "safetensors", "matplotlib", "jinja2", "tensorboard"),
        "video": ("av",),
    }
    return next((extra for extra, modules in extras.items() if module.partition(".")[0] in modules), None)


def _version(value: bool) -> None:
    if value:
        typer.echo(fiducial.__version__)
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from (with any command).")] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


@app.command()
def fit(
    data: DataPath,
    out: Annotated[
        Path, typer.Option(file_okay=False, help="Folder of the run: weights, checkpoints, history, report.")
    ],
    method: Annotated[
        str | None, typer.Option(help="heatmap (default), deeppose, rle, integral, simcc, rounding (docs/training.md).")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="mobilenetv3_small_100 (default), hrnet_w32, unet_resnet18, any timm name.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="Input, WIDTHxHEIGHT px [128x128].")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training data [60].")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Of each device.")] = None,
    lr: Annotated[str | None, typer.Option(help="Peak learning rate, or auto for the finder.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random; equal seeds give equal runs [0].")] = None,
    points: Annotated[str | None, typer.Option(help="A subset of the points: 30,40,45 or 36-47.")] = None,
    init: Annotated[
        str | None,
        typer.Option(
            help="Weights to start from: a run folder, or a file of ours or another project (docs/weights.md)."
        ),
    ] = None,
    pretrained: Annotated[
        str | None, typer.Option(help="Backbone weights: auto (where they can be had), yes, no.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out exactly.")] = False,
    recipe: Annotated[
        str | None, typer.Option(help="FILE.py:FUNCTION that returns a Recipe; options are put on top.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting: augment.flip=0, head.loss=mse, ..")
    ] = None,
    devices: Annotated[int, typer.Option(min=1, help="GPUs, or processes on a machine without.")] = 1,
    patience: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many epochs without a better val NME.")
    ] = None,
    preflight: Annotated[bool, typer.Option(help="First overfit one small batch, to see that it can learn.")] = True,
    images: ImagesOption = None,
    category: CategoryOption = None,
    strict: StrictOption = False,
    json_file: JsonOption = None,
) -> None:
    """Train a detector on labelled images.

    fiducial fit faces/ --out runs/faces --backbone mobilenetv3_small_100 --size 128x128 --epochs 60
    """
    from fiducial.training import recipes

    base = recipes.load(recipe) if recipe else recipes.default(resume_from=out if resume else None)
    changes = {
        "method": method, "backbone": backbone, "size": size, "epochs": epochs, "batch_size": batch_size, "seed": seed,
        "points": points, "init": init, "pretrained": pretrained, "patience": patience, "lr": lr,
        "preflight": None if preflight else False, "strict": strict or None,
    }  # fmt: skip
    chosen = recipes.changed(base, {name: value for name, value in changes.items() if value is not None}, set_ or [])
    _fit(data, out, chosen, resume=resume, devices=devices, images=images, category=category, json_file=json_file)


def _fit(
    data: Path,
    out: Path,
    recipe: Recipe,
    *,
    resume: bool,
    devices: int,
    images: Path | None,
    category: str | None,
    json_file: Path | None,
) -> None:
    from fiducial.training import workflow

    quiet = json_file is not None and str(json_file) == "-"
    summary = workflow.fit_and_report(
        data, out, recipe, resume=resume, devices=devices, images=images, category=category,
        progress=sys.stderr.isatty() and not quiet, echo=_note,
    )  # fmt: skip
    if summary is not None:
        _write_figures(json_file, summary)
        if not quiet:
            _print_figures(summary["metrics"])
            for name, path in summary["files"].items():
                typer.echo(f"{name}: {path}")


@app.command()
def evaluate(
    model: Annotated[Path | None, typer.Argument(help="A run folder.")] = None,
    data: Annotated[
        Path | None, typer.Argument(help="As for fit. With --predictions: the truth's annotation file.")
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="COCO results JSON of any tool: evaluated against TRUTH.json; needs no torch.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    flip_test: Annotated[
        bool, typer.Option("--flip-test", help="Average over the picture and its mirror image.")
    ] = False,
    box_jitter: Annotated[
        float, typer.Option(min=0, max=0.5, help="Disturb boxes by up to this share of their sides.")
    ] = 0.0,
    per_point: Annotated[bool, typer.Option("--per-point", help="One row a point.")] = False,
    report: Annotated[Path | None, typer.Option(dir_okay=False, help="Write a page with galleries here.")] = None,
    sigmas: Annotated[str | None, typer.Option(help="OKS sigmas, comma separated, where the data have none.")] = None,
    oks_nms: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="With --predictions: drop those with a higher OKS to a better one [off; 0.9]."),
    ] = None,
    images: ImagesOption = None,
    category: CategoryOption = None,
    strict: StrictOption = False,
    json_file: JsonOption = None,
) -> None:
    """Measure a detector on a split, or any tool's COCO results.

    fiducial evaluate runs/faces faces/ --split test --per-point

    fiducial evaluate --predictions results.json annotations/test.json
    """
    quiet = json_file is not None and str(json_file) == "-"
    if predictions is not None:
        from fiducial.evaluation import results

        truth = data or model
        if truth is None or (data is not None and model is not None):
            raise UserError("evaluate --predictions RESULTS.json TRUTH.json: expected exactly one truth file")
        summary = results.evaluate_results(predictions, truth, sigmas=_floats(sigmas), strict=strict, oks_nms=oks_nms)
    else:
        if model is None or data is None:
            raise UserError("expected `fiducial evaluate MODEL DATA`, or --predictions RESULTS.json TRUTH.json")
        if oks_nms is not None:
            raise UserError("--oks-nms: only with --predictions; a model's points are one to an instance of the data")
        from fiducial.evaluation import workflow

        summary = workflow.evaluate_model(
            model, data, split, images=images, category=category, strict=strict, flip_test=flip_test,
            box_jitter=box_jitter, report=report, sigmas=_floats(sigmas),
        )  # fmt: skip
    for line in summary.pop("problems", []):
        _note(line)
    _write_figures(json_file, summary)
    if not quiet:
        _print_figures(summary["metrics"])
        if per_point and summary.get("per_point"):
            _print_table(summary["per_point"])
        if report is not None:
            typer.echo(f"report: {report}")


@app.command()
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
        progress=sys.stderr.isatty(), echo=_note,
    )  # fmt: skip
    if str(json_file) == "-":
        typer.echo(json.dumps(done.results, allow_nan=False))
    else:
        where = json_file or out / "results.json"
        typer.echo(f"{done.images} images, {done.instances} instances: {where}, pictures in {out}")


@app.command()
def compare(
    data: DataPath,
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder of the comparison: runs, report.html, results.")],
    more: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUN..]", help="Further run folders, after --runs RUN.")
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
        list[str] | None, typer.Option(help="Finished run folders to compare, alone or beside the methods.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time [1, or one a GPU].")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Of every run, as the next ones; see fit.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Of each device.")] = None,
    lr: Annotated[str | None, typer.Option(help="Peak learning rate, or auto for the finder.")] = None,
    points: Annotated[str | None, typer.Option(help="A subset of the points: 30,40,45 or 36-47.")] = None,
    pretrained: Annotated[str | None, typer.Option(help="Backbone weights: auto, yes, no.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="FILE.py:FUNCTION that returns the common Recipe; options are put on top.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting, of every run: augment.flip=0, ..")
    ] = None,
    images: ImagesOption = None,
    category: CategoryOption = None,
    json_file: JsonOption = None,
) -> None:
    """Train methods on the same data under the same budget, and say which is best, and which within how many ms.

    fiducial compare faces/ --out compared --methods deeppose,heatmap,rle --seeds 3 --epochs 60

    Interrupted, the same command continues; methods, backbones, sizes and seeds may be added.
    """
    if more and not runs:
        raise UserError(f"{more[0]}: one DATA is expected; finished runs are given as --runs {more[0]}")
    from fiducial.comparison import workflow

    changes = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "points": points, "pretrained": pretrained}
    plan = workflow.plan_of(
        data, methods=methods, backbones=backbones, sizes=sizes, seeds=seeds, recipe=recipe,
        options={name: value for name, value in changes.items() if value is not None}, settings=set_ or [],
        images=images, category=category,
    )  # fmt: skip
    quiet = json_file is not None and str(json_file) == "-"
    others = [Path(part) for text in runs or [] for part in text.split(",") if part] + (more or [])
    summary = workflow.compare(
        plan, out, others=others, split=split, baseline=baseline, jobs=jobs,
        progress=sys.stderr.isatty() and not quiet, echo=_note,
    )  # fmt: skip
    _write_figures(json_file, summary)
    if not quiet:
        _print_table(workflow.short_table(summary))
        for line in summary["answer"]:
            typer.echo(line)
        for name, path in summary["files"].items():
            typer.echo(f"{name}: {path}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder of everything that comes out.")] = Path("demo"),
    epochs: Annotated[int | None, typer.Option(min=1, help="Fewer are quicker.")] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
) -> None:
    """The main job in minutes, without downloads: drawn faces, training on the CPU, evaluation, a report.

    fiducial demo --out demo
    """
    from fiducial.training import workflow

    summary = workflow.demo(out, epochs=epochs, seed=seed, progress=sys.stderr.isatty(), echo=_note)
    _print_figures(summary["metrics"])
    for name, path in summary["files"].items():
        typer.echo(f"{name}: {path}")


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _floats(text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(item) for item in text.split(","))
    except ValueError:
        raise UserError(f"--sigmas {text!r}: expected numbers separated by commas") from None


def _write_figures(path: Path | None, summary: dict[str, Any]) -> None:
    if path is None:
        return
    from fiducial import config

    if str(path) == "-":
        typer.echo(json.dumps(summary, allow_nan=False))
    else:
        config.write_json(path, summary)


def _print_figures(metrics: dict[str, Any]) -> None:
    for name, value in metrics.items():
        typer.echo(f"{name:>12}  {value:.4f}" if isinstance(value, float) else f"{name:>12}  {value}")


def _print_table(rows: list[dict[str, Any]]) -> None:
    columns = list(rows[0])
    cells = [[f"{row[c]:.4g}" if isinstance(row[c], float) else str(row[c]) for c in columns] for row in rows]
    widths = [max(len(c), *(len(row[i]) for row in cells)) for i, c in enumerate(columns)]
    for line in [columns, *cells]:
        typer.echo("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)))


if __name__ == "__main__":
    main()
