"""`fiducial evaluate`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fiducial.cli.options import CategoryOption, GroupOption, ImagesOption, JsonOption, PartOption, StrictOption, refuse
from fiducial.cli.output import floats, print_figures, print_table, write_figures
from fiducial.errors import UserError

if TYPE_CHECKING:
    from fiducial.api.results import Result

ORDER = 40


def evaluate(
    model: Annotated[
        Path | None, typer.Argument(help="A run folder, or a folder or file of `fiducial export`.")
    ] = None,
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
    sigmas: Annotated[
        str | None,
        typer.Option(help="OKS sigmas where the data have none: one for all points, or one each, comma separated."),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Say of each error what it is (jitter, miss, left for right, another instance, box, label), and what "
            "each kind costs.",
        ),
    ] = False,
    finder: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN|no",
            help="The model whose finder is judged beside true boxes [the model's own, if it has one].",
        ),
    ] = None,
    oks_nms: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="With --predictions: drop those with a higher OKS to a better one [off; 0.9]."),
    ] = None,
    images: ImagesOption = None,
    category: CategoryOption = None,
    group: GroupOption = None,
    strict: StrictOption = False,
    json_file: JsonOption = None,
    part: PartOption = None,
) -> None:
    """Measure a detector on a split, or any tool's COCO results.

    fiducial evaluate runs/faces faces/ --split test --per-point

    fiducial evaluate shipped/model.onnx faces/ --report page.html

    fiducial evaluate runs/faces faces/ --explain --report page.html

    fiducial evaluate runs/motion faces/ --linear-map

    fiducial evaluate --predictions predictions.json annotations/test.json
    """
    import fiducial

    if linear_map:
        alone = {
            "explain": explain,
            "flip_test": flip_test,
            "box_jitter": box_jitter or None,
            "sigmas": sigmas,
            "oks_nms": oks_nms,
            "finder": finder,
        }
        refuse("not with --linear-map", predictions=predictions, **alone)
        if model is None or data is None:
            raise UserError("expected `fiducial evaluate MODEL DATA --linear-map`")
    elif predictions is not None:
        about_models = {"flip_test": flip_test, "box_jitter": box_jitter or None, "report": report, "images": images}
        about_models["finder"] = finder
        refuse("not with --predictions", split=split, **about_models)
        truth = data or model
        if truth is None or (data is not None and model is not None):
            raise UserError("evaluate --predictions RESULTS.json TRUTH.json: expected exactly one truth file")
        model, data = predictions, truth
    else:
        if model is None or data is None:
            raise UserError("expected `fiducial evaluate MODEL DATA`, or --predictions RESULTS.json TRUTH.json")
        if oks_nms is not None:
            raise UserError("--oks-nms: only with --predictions; a model's points are one to an instance of the data")
    from fiducial.data.source import Source

    truth = data if predictions is not None else Source(data, images, category, (), group).here()
    result = fiducial.evaluate(
        model,
        truth,
        split,
        results=predictions is not None,
        flip_test=flip_test,
        box_jitter=box_jitter,
        sigmas=floats(sigmas),
        report=report,
        linear_map=linear_map,
        oks_nms=oks_nms,
        explain=explain,
        finder=finder,
        category=category if predictions is not None else None,
        group=group if predictions is not None else None,
        strict=strict,
        progress=sys.stderr.isatty(),
    )
    _show(result, per_point=per_point, report=report, json_file=json_file)


def _show(result: Result, *, per_point: bool, report: Path | None, json_file: Path | None) -> None:
    """Writes the figures and prints them, the verdict first."""
    from fiducial.evaluation import intervals
    from fiducial.evaluation.floor import Floor

    write_figures(json_file, result.figures)
    if json_file is not None and str(json_file) == "-":
        return
    ground = Floor.of_summary(result.figures)
    if ground is not None and (line := ground.verdict(result.metrics["nme"])):
        typer.echo(line)
    if result.table:
        print_table(result.table)
    else:
        beside = intervals.beside(result.figures)
        if ground is not None:
            beside["nme"] = "  ".join([*([beside["nme"]] if "nme" in beside else []), ground.beside()])
        print_figures(result.metrics, beside)
    for line in result.lines:
        typer.echo(line)
    _show_errors(result.figures)
    if per_point and result.figures.get("per_point"):
        print_table(result.figures["per_point"])
    if report is not None:
        typer.echo(f"report: {report}")


def _show_errors(figures: Mapping[str, Any]) -> None:
    """Prints what kinds of errors there are, where they were explained, and where to look first."""
    errors = figures.get("errors")
    if errors is None:
        return
    typer.echo(f"kinds of errors, judged by {errors['judged_by']}; worth: what NME or AP gains without them")
    print_table(errors["kinds"])
    for name, value in errors.get("instances", {}).items():
        typer.echo(
            f"{name.replace('_', ' ')}: {value:.4g}"
            if isinstance(value, float)
            else f"{name.replace('_', ' ')}: {value}"
        )
    for kind in dict.fromkeys(each["kind"] for each in errors["worst"]):
        first = next(each for each in errors["worst"] if each["kind"] == kind)
        place = f"{first['point']} of annotation {first['annotation_id']} in {first['image']}"
        typer.echo(f"worst {kind}: {place}, {first['distance_px']:.1f} px off")
