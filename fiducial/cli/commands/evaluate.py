"""`fiducial evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fiducial.cli.options import CategoryOption, ImagesOption, JsonOption, StrictOption
from fiducial.cli.output import floats, note, print_figures, print_table, write_figures
from fiducial.errors import UserError


def evaluate(
    model: Annotated[Path | None, typer.Argument(help="A run folder, or a file of `fiducial export`.")] = None,
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

    fiducial evaluate shipped/model.onnx faces/ --report page.html

    fiducial evaluate --predictions results.json annotations/test.json
    """
    quiet = json_file is not None and str(json_file) == "-"
    if predictions is not None:
        from fiducial.evaluation import results

        truth = data or model
        if truth is None or (data is not None and model is not None):
            raise UserError("evaluate --predictions RESULTS.json TRUTH.json: expected exactly one truth file")
        summary = results.evaluate_results(predictions, truth, sigmas=floats(sigmas), strict=strict, oks_nms=oks_nms)
    else:
        if model is None or data is None:
            raise UserError("expected `fiducial evaluate MODEL DATA`, or --predictions RESULTS.json TRUTH.json")
        if oks_nms is not None:
            raise UserError("--oks-nms: only with --predictions; a model's points are one to an instance of the data")
        from fiducial.deploy import scoring

        summary = scoring.evaluate_model(
            model, data, split, images=images, category=category, strict=strict, flip_test=flip_test,
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
