"""`fiducial evaluate`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from fiducial.cli.options import CategoryOption, ImagesOption, JsonOption, StrictOption
from fiducial.cli.output import floats, note, print_figures, print_table, write_figures
from fiducial.errors import UserError

ORDER = 40


def evaluate(
    model: Annotated[Path | None, typer.Argument(help="A run folder, or a file of `fiducial export`.")] = None,
    data: Annotated[
        Path | None, typer.Argument(help="As for fit. With --predictions: the truth's annotation file.")
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="COCO results JSON of any tool: evaluated against TRUTH.json; needs no torch.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="train, val or test [test; with --linear-map val].", show_default=False)
    ] = None,
    linear_map: Annotated[
        bool,
        typer.Option(
            "--linear-map",
            help="For points that were learnt without labels, or are others: fit a linear map from them to the labelled "
            "ones on train, score it, beside the mean shape and random weights.",
        ),
    ] = False,
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

    fiducial evaluate shipped/model.onnx faces/ --report page.html

    fiducial evaluate runs/motion faces/ --linear-map

    fiducial evaluate --predictions predictions.json annotations/test.json
    """
    quiet = json_file is not None and str(json_file) == "-"
    if linear_map:
        wrong = {"--predictions": predictions is not None, "--flip-test": flip_test, "--box-jitter": box_jitter > 0,
                 "--sigmas": sigmas is not None, "--oks-nms": oks_nms is not None}  # fmt: skip
        if any(wrong.values()):
            raise UserError(
                f"{next(name for name, given in wrong.items() if given)}: not with --linear-map; leave one out"
            )
        if model is None or data is None:
            raise UserError("expected `fiducial evaluate MODEL DATA --linear-map`")
        _by_linear_map(
            model,
            data,
            split or "val",
            images,
            category,
            strict,
            per_point=per_point,
            report=report,
            json_file=json_file,
        )
        return
    if predictions is not None:
        from fiducial.evaluation import predictions as any_tools

        truth = data or model
        if truth is None or (data is not None and model is not None):
            raise UserError("evaluate --predictions RESULTS.json TRUTH.json: expected exactly one truth file")
        summary = any_tools.evaluate_results(predictions, truth, sigmas=floats(sigmas), strict=strict, oks_nms=oks_nms)
    else:
        if model is None or data is None:
            raise UserError("expected `fiducial evaluate MODEL DATA`, or --predictions RESULTS.json TRUTH.json")
        if oks_nms is not None:
            raise UserError("--oks-nms: only with --predictions; a model's points are one to an instance of the data")
        from fiducial.evaluation import scoring

        summary = scoring.evaluate_model(
            model, data, split or "test", images=images, category=category, strict=strict, flip_test=flip_test,
            box_jitter=box_jitter, report=report, sigmas=floats(sigmas),
        )  # fmt: skip
    for line in summary.pop("problems", []):
        note(line)
    write_figures(json_file, summary)
    if not quiet:
        print_figures(summary["metrics"])
        if per_point and summary.get("per_point"):
            print_table(summary["per_point"])
        if report is not None:
            typer.echo(f"report: {report}")


def _by_linear_map(
    model: Path, data: Path, split: str, images: Path | None, category: str | None, strict: bool, *,
    per_point: bool, report: Path | None, json_file: Path | None,
) -> None:  # fmt: skip
    from fiducial.evaluation import scoring

    quiet = json_file is not None and str(json_file) == "-"
    with _progress(sys.stderr.isatty() and not quiet) as advance:
        summary = scoring.evaluate_by_linear_map(
            model, data, split, images=images, category=category, strict=strict, report=report, advance=advance
        )
    for line in summary.pop("problems"):
        note(line)
    table, answer = summary.pop("table"), summary.pop("answer")
    write_figures(json_file, summary)
    if quiet:
        return
    print_table(table)
    for line in answer:
        typer.echo(line)
    if per_point:
        print_table(summary["per_point"])
    if report is not None:
        typer.echo(f"report: {report}")


@contextmanager
def _progress(shown: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, nothing in a pipe."""
    if not shown:
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns: Any = (TextColumn("crops"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("crops", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
