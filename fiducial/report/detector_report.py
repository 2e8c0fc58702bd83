"""The page of one model on one split: figures, curves, worst first, heatmaps of truth beside prediction.

A model of any runtime is an `About`; nothing here imports torch until a detector of torch is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from fiducial.card import Card
from fiducial.evaluation import found, intervals, spread, visibility
from fiducial.evaluation.evaluate import Evaluation, ModelEvaluation
from fiducial.evaluation.floor import Floor
from fiducial.evaluation.mistakes import KINDS, Mistakes
from fiducial.report import charts
from fiducial.report.charts import number_text
from fiducial.report.galleries import evaluation_galleries, heatmap_gallery, mistake_galleries
from fiducial.report.page import Fact, Gallery, Section, Table, metric_table, torch_device, write_images, write_page
from fiducial.report.plot import Chart
from fiducial.report.run_page import page_of_run, read_run
from fiducial.runtime import runtime
from fiducial.runtime.runtime import Exported, Network
from fiducial.runtime.runtimes.torch_runtime import TorchNetwork

if TYPE_CHECKING:
    from fiducial.models.detector import Detector

HEADLINE = ("nme", "epe", "pck@0.05", "fr@0.1")
MEANINGS = {
    "nme": "mean error over the {normalizer}: the figure of papers",
    "nmae": "mean error of a coordinate over the side of the image",
    "epe": "mean error, px of the image",
    "pck@0.05": "share of points nearer than 5 % of the box's longest side",
    "pck@0.1": "share of points nearer than 10 % of the box's longest side",
    "auc": "area under the curve of cumulative NME up to 0.1; 1 is perfect",
    "fr@0.1": "share of instances with an NME above 0.1",
    "kp_acc": "share of points found within 3 of 64 cells with a score of 0.5, or rightly not found",
    "tp": "points found within 3 of 64 cells",
    "tn": "points without a label that were rightly not found",
    "fp": "points found farther off, or without a label",
    "fn": "points with a label that were not found",
    "ap": "COCO average precision over OKS thresholds .50 to .95",
    "ar": "COCO average recall over OKS thresholds .50 to .95",
}


@dataclass(frozen=True)
class About:
    """What the page says of the model itself."""

    facts: Mapping[str, Any]  # name -> value, of the table of data
    device: str  # where it ran
    galleries: Sequence[Gallery] = field(default=())  # what a model of its kind alone can show


def about_detector(detector: Detector, card: Card, evaluation: Evaluation) -> About:
    """Describes a detector of torch, with what its heatmaps look like."""
    facts = {
        "parameters": sum(p.numel() for p in detector.parameters()),
        "backbone weights before training": card.initialization,
        "licence of the weights": card.terms,
    }
    shown = heatmap_gallery(detector, evaluation.instances, evaluation.keypoints, evaluation.metrics.instance_nme)
    return About(facts, torch_device(), shown)


def about_network(network: Network, evaluation: Evaluation) -> About:
    """Describes a model of any runtime."""
    if isinstance(network, TorchNetwork):
        return about_detector(network.detector, network.card, evaluation)
    spec, export = network.card.spec, cast(Exported, network).export
    facts = {
        "runtime": network.runtime,
        "precision": export.precision,
        "method": spec.method,
        "backbone": spec.backbone,
        "input": str(spec.size),
        "backbone weights before training": network.card.initialization,
        "licence of the weights": network.card.terms,
    }
    return About(facts, f"{network.runtime} {runtime.version_of(network)}")


def write_evaluation(path: Path, result: ModelEvaluation, model: Path, data: Path, split: str) -> Path:
    """Writes the page of `fiducial evaluate MODEL DATA`."""
    return write(
        path,
        result.evaluation,
        about_network(result.network, result.evaluation),
        folder=model,
        title=f"{model.name} on {split} of {data.name}",
        data=str(data),
        split=split,
        problems=result.summary["problems"],
        notes=result.summary["notes"],
        ground=result.floor,
        explained=None if result.mistakes is None else (result.mistakes, result.summary["errors"]),
        drawn=result.summary,
        in_whole_images=result.summary.get("found"),
    )


def write(
    path: Path,
    evaluation: Evaluation,
    about: About,
    *,
    folder: Path,
    title: str,
    data: str,
    split: str,
    problems: Sequence[str] = (),
    notes: Sequence[str] = (),
    ground: Floor | None = None,
    explained: tuple[Mistakes, Mapping[str, Any]] | None = None,
    drawn: Mapping[str, Any] | None = None,
    in_whole_images: Mapping[str, Any] | None = None,
) -> Path:
    """Writes the page, and its pictures as JPEGs in a folder `pictures` beside it.

    folder: the run that holds the model, whose recipe and curves are shown; one without them, as of an exported file,
    is a page without them. data, split: what was evaluated, in words. explained: the kinds of errors, and their figures. drawn: what
    `intervals.as_json` tells. in_whole_images: what the model's finder is worth (`evaluation/found.py`)."""
    shown = [
        *evaluation_galleries(evaluation.instances, evaluation.keypoints, evaluation.metrics.instance_nme),
        *about.galleries,
        *(mistake_galleries(evaluation.instances, evaluation.keypoints, explained[0]) if explained else []),
    ]
    write_images(path.parent / "pictures", shown)
    metrics, skeleton, run = evaluation.metrics, evaluation.instances.skeleton, read_run(folder)
    numbers = metrics.numbers()
    meanings = {name: meaning.format(normalizer=metrics.normalizer) for name, meaning in MEANINGS.items()}
    ends = intervals.beside(drawn or {})
    rows = [
        (name, value, " ".join(text for text in (ends.get(name), meanings.get(name)) if text))
        for name, value in numbers.items()
    ]
    if ground is not None:
        rows[1:1] = _ground_rows(ground)
        line = ground.verdict(numbers["nme"])
        is_said = any("mean shape" in note for note in notes)  # by what training says of the run
        notes = [*([line] if line and not is_said else []), *notes]
    page = page_of_run(
        run,
        title=title,
        facts=[*_facts(numbers, meanings, ground), Fact("instances", f"{metrics.count}", f"of {split}, measured")],
        notes=notes,
        metrics=metric_table(
            rows,
            f"On {split}",
            " ".join([f"{metrics.count} instances, fractions, not percent.", *_sentence(intervals.line(drawn or {}))]),
        ),
        drawn=[
            *run.charts(
                ("NME on val", ["val/nme"], "After each epoch."),
                ("Share of points believed", ["unlabelled/kept"], "Of those found on unlabelled crops."),
            ),
            charts.cumulative_errors({split: metrics.instance_nme.tolist()}),
            charts.point_bars(skeleton, [point.nme for point in metrics.points], name="NME"),
            *_radii(evaluation, split),
            *_seen(evaluation),
        ],
        shown=shown,
        details=[
            *(_errors(explained[1]) if explained else []),
            *([_found(in_whole_images)] if in_whole_images else []),
            Section("Points", [_points(evaluation)]),
        ],
        data={
            "data": data,
            "split": split,
            "instances": metrics.count,
            "left out": metrics.left_out,
            "points": len(skeleton.points),
            **about.facts,
        },
        problems=problems,
        device=about.device,
    )
    return write_page(path, page)


def _sentence(line: str) -> list[str]:
    """A line as a sentence, "" as none."""
    return [f"In brackets: {line}."] if line else []


def _facts(numbers: Mapping[str, float | None], meanings: Mapping[str, str], ground: Floor | None) -> list[Fact]:
    """Makes the headline, its NME beside what no image is needed for."""
    shown: dict[str, Any] = {**numbers, "epe": f"{number_text(numbers['epe'])} px"}
    nme, *others = (Fact(name.upper(), shown[name], meanings[name]) for name in HEADLINE)
    if ground is not None:
        nme = replace(nme, meaning=f"{nme.meaning}; {number_text(ground.nme)} is the mean shape's, its floor")
    return [nme, *others]


def _ground_rows(ground: Floor) -> list[tuple[str, float | None, str]]:
    """Makes the rows that stand beside the NME."""
    rows: list[tuple[str, float | None, str]] = [
        ("nme of the mean shape", ground.nme, f"its floor: {ground.of}'s mean points in each box, no image seen")
    ]
    return rows if ground.human is None else [*rows, ("nme of people", ground.human, ground.human_from)]


def _radii(evaluation: Evaluation, split: str) -> list[Chart]:
    """Draws what the model's own word on its errors is worth; nothing where it gives none."""
    tested = spread.coverage(evaluation.keypoints, evaluation.instances)
    if not tested:
        return []
    columns = [
        np.array(column) for column in zip(*((each.covered, each.low, each.high) for each in tested), strict=True)
    ]
    own = "Nothing is tested here: radii were measured on this split." if split == "val" else ""
    drawn = charts.reliability([each.share for each in tested], *columns, note=own)
    if not evaluation.keypoints.spread or not evaluation.keypoints.spread.knows(0.9):
        return [drawn]
    return [drawn, charts.needed_radii(*spread.by_size(evaluation.keypoints, evaluation.instances))]


def _seen(evaluation: Evaluation) -> list[Chart]:
    """Draws what the model's word on visibility is worth; nothing where it gives none."""
    figures = visibility.as_json(evaluation.keypoints, evaluation.instances).get("visibility", {})
    drawn = []
    for state in visibility.STATES:
        if state in figures:
            rows = figures[state]["calibration"]
            drawn.append(charts.said_and_found([row["told"] for row in rows], [row["found"] for row in rows], state))
    return drawn


def _errors(figures: Mapping[str, Any]) -> list[Section]:
    """Makes the section of the kinds of errors."""
    said = f"Judged by {figures['judged_by']}. Worth: what NME loses, or AP gains, where these points are put right."
    rows = [
        (row["kind"], row["points"], row["share"], row.get("nme_worth"), row.get("ap_worth"), KINDS[row["kind"]])
        for row in figures["kinds"]
    ]
    columns = ("kind", "points", "share", "NME worth", "AP worth", "what it is")
    by_point = [tuple(row.values()) for row in figures["by_point"]]
    return [
        Section(
            "Kinds of errors",
            [
                said,
                Table(columns, rows, "What the errors are", last_below=True),
                Table(("point", *KINDS), by_point, "Point by point"),
            ],
        )
    ]


def _points(evaluation: Evaluation) -> Table:
    columns = ("point", "labelled", "NME", "EPE px", "median px", "95th percentile px", "PCK@0.1")
    return Table(columns, [tuple(asdict(point).values()) for point in evaluation.metrics.points], "Point by point")


def _found(figures: Mapping[str, Any]) -> Section:
    """Tells what is found in whole images, beside the true boxes."""
    rows = [(name, figures[name], text) for name, text in found.MEANINGS.items() if figures.get(name) is not None]
    by_size = [(name, size["instances"], size["missed"], size["false"]) for name, size in figures["by_size"].items()]
    images = (
        f"{figures['images']} images; {figures['sigmas']}" if "sigmas" in figures else f"{figures['images']} images"
    )
    return Section(
        "Found in whole images",
        [
            metric_table(rows, "Boxes and points", images),
            Table(("size of the box", "instances", "missed", "false"), by_size),
        ],
    )
