"""`fiducial evaluate`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from fiducial.cli.options import CategoryOption, ImagesOption, JsonOption, PartOption, StrictOption
from fiducial.cli.output import floats, print_figures, print_table, write_figures
from fiducial.errors import UserError
from fiducial.log import logger

if TYPE_CHECKING:
    from fiducial.data.source import Source

ORDER = 40
MOST_SAID = 20  # lines about what was left out


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
    oks_nms: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="With --predictions: drop those with a higher OKS to a better one [off; 0.9]."),
    ] = None,
    images: ImagesOption = None,
    category: CategoryOption = None,
    strict: StrictOption = False,
    json_file: JsonOption = None,
    part: PartOption = None,
) -> None:
    """Measure a detector on a split, or any tool's COCO results.

    fiducial evaluate runs/faces faces/ --split test --per-point

    fiducial evaluate shipped/model.onnx faces/ --report page.html

    fiducial evaluate runs/motion faces/ --linear-map

    fiducial evaluate --predictions predictions.json annotations/test.json
    """
    from fiducial.data.source import Source

    if linear_map:
        _refuse(
            "--linear-map",
            {
                "--predictions": predictions is not None,
                "--flip-test": flip_test,
                "--box-jitter": box_jitter > 0,
                "--sigmas": sigmas is not None,
                "--oks-nms": oks_nms is not None,
            },
        )
        if model is None or data is None:
            raise UserError("expected `fiducial evaluate MODEL DATA --linear-map`")
        summary, shown = _by_linear_map(model, Source(data, images, category).here(), split or "val", strict, report)
    elif predictions is not None:
        from fiducial.evaluation import predictions as any_tools

        _refuse(
            "--predictions",
            {
                "--split": split is not None,
                "--flip-test": flip_test,
                "--box-jitter": box_jitter > 0,
                "--report": report is not None,
                "--images": images is not None,
            },
        )
        truth = data or model
        if truth is None or (data is not None and model is not None):
            raise UserError("evaluate --predictions RESULTS.json TRUTH.json: expected exactly one truth file")
        summary = any_tools.evaluate_results(
            predictions, truth, sigmas=floats(sigmas), category=category, strict=strict, oks_nms=oks_nms
        )
        shown = _Shown()
    else:
        if model is None or data is None:
            raise UserError("expected `fiducial evaluate MODEL DATA`, or --predictions RESULTS.json TRUTH.json")
        if oks_nms is not None:
            raise UserError("--oks-nms: only with --predictions; a model's points are one to an instance of the data")
        _need_pages(report)
        from fiducial.evaluation import evaluate as evaluating

        result = evaluating.evaluate_model(
            model,
            Source(data, images, category).here(),
            split or "test",
            strict=strict,
            flip_test=flip_test,
            box_jitter=box_jitter,
            sigmas=floats(sigmas),
        )
        summary, shown = result.summary, _Shown()
        if report is not None:
            from fiducial.report import detector_report

            detector_report.write_evaluation(report, result, model, data, split or "test")
    _show(summary, shown, per_point=per_point, report=report, json_file=json_file)


class _Shown(NamedTuple):
    """What is printed of a linear map, whose figures are a table of several ways to the points."""

    table: list[dict[str, Any]] | None = None
    answer: Sequence[str] = ()


def _refuse(mode: str, given: dict[str, bool]) -> None:
    """Refuses options that were given and that a mode can't honour."""
    for name, is_given in given.items():
        if is_given:
            raise UserError(f"{name}: not with {mode}; leave one out")


def _need_pages(report: Path | None) -> None:
    """Says at once, before anything is measured, that what makes pages is missing."""
    if report is not None:
        import jinja2  # noqa: F401


def _show(
    summary: dict[str, Any], shown: _Shown, *, per_point: bool, report: Path | None, json_file: Path | None
) -> None:
    """Says what was assumed and left out, writes the figures, prints them, the verdict first."""
    from fiducial.evaluation.floor import Floor

    said = [*summary["notes"], *summary["problems"]]
    for line in said[:MOST_SAID]:
        logger.warning(line)
    if len(said) > MOST_SAID:
        logger.warning(f".. and {len(said) - MOST_SAID} more; --json FILE has them all")
    write_figures(json_file, summary)
    if json_file is not None and str(json_file) == "-":
        return
    ground = Floor.of_summary(summary)
    if ground is not None and (line := ground.verdict(summary["metrics"]["nme"])):
        typer.echo(line)
    if shown.table is not None:
        print_table(shown.table)
    else:
        print_figures(summary["metrics"], {} if ground is None else {"nme": ground.beside()})
    for line in shown.answer:
        typer.echo(line)
    if per_point and summary.get("per_point"):
        print_table(summary["per_point"])
    if report is not None:
        typer.echo(f"report: {report}")


def _by_linear_map(
    model: Path,
    data: Source,
    split: str,
    strict: bool,
    report: Path | None,
) -> tuple[dict[str, Any], _Shown]:
    _need_pages(report)
    from fiducial import motion

    result = motion.evaluate_by_linear_map(
        model,
        data,
        split,
        strict=strict,
        bar=sys.stderr.isatty(),
    )
    if report is not None:
        motion.write_linear_map(report, result)
    shown = _Shown(motion.linear_map_table(result), motion.linear_map_answer(result))
    return motion.linear_map_summary(result), shown
