"""The page of one model on one split: figures, curves, worst first, heatmaps of truth beside prediction.

A model of any runtime is an `About`; nothing here imports torch until a detector of torch is one."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fiducial.card import Card
from fiducial.data import sampling
from fiducial.evaluation.evaluate import Evaluation
from fiducial.report import charts, pictures
from fiducial.report.page import Fact, Gallery, Picture, Report, Table, evaluation_galleries, write_report
from fiducial.types import Batch, Instances
from fiducial.version import __version__

if TYPE_CHECKING:
    from fiducial.models.detector import Detector

MEANINGS = {
    "nme": "mean error over the {normalizer}: the figure of papers",
    "nmae": "mean error of a coordinate over the side of the image",
    "epe": "mean error, px of the image",
    "pck@0.05": "share of points nearer than 5 % of the box's longest side",
    "pck@0.1": "share of points nearer than 10 % of the box's longest side",
    "auc": "area under the curve of cumulative NME up to 0.1; 1 is perfect",
    "fr@0.1": "share of instances with an NME above 0.1",
    "kp_acc": "share of points found within 3 of 64 cells with a score of 0.5, or rightly not found",
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
    """A detector of torch, with what its maps look like."""
    import torch

    facts = {
        "parameters": sum(p.numel() for p in detector.parameters()),
        "backbone weights before training": card.initialization,
    }
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return About(facts, device, heatmap_gallery(detector, evaluation.instances, evaluation.metrics.instance_nme))


def report_of(
    evaluation: Evaluation,
    about: About,
    *,
    title: str,
    data: str,
    split: str,
    command: str = "",
    history: Sequence[Mapping[str, float]] = (),
    recipe: Mapping[str, Any] | None = None,
    problems: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Report:
    """Everything that is known of a model on a split, ready to be written."""
    found, skeleton = evaluation.metrics, evaluation.instances.skeleton
    numbers = found.numbers()
    rows = [
        (name, value, MEANINGS.get(name, "").format(normalizer=found.normalizer)) for name, value in numbers.items()
    ]
    instances = evaluation.instances
    drawn = [charts.cumulative_errors({split: found.instance_nme.tolist()}, name="NME")]
    if history:
        columns = {
            name: [row.get(name) for row in history] for name in dict.fromkeys(k for row in history for k in row)
        }
        drawn = [*charts.training_curves(columns, losses=("train/loss",), metrics=("val/nme",)), *drawn]
    drawn.append(charts.point_bars(skeleton, [point.nme for point in found.points], name="NME"))
    points = Table(
        ("point", "labelled", "NME", "EPE px", "median px", "95th percentile px"),
        [tuple(asdict(point).values()) for point in found.points],
        "Point by point",
    )
    galleries = evaluation_galleries(instances, evaluation.keypoints, found.instance_nme)
    return Report(
        title=title,
        summary=[Fact(name.upper(), numbers[name], MEANINGS[name].format(normalizer=found.normalizer)) for name in HEADLINE],
        command=command,
        notes=notes,
        metrics=Table(("metric", "value", "what it is"), rows, f"On {split}", f"{found.count} instances, fractions, not percent."),
        charts=drawn,
        galleries=[*galleries, *about.galleries],
        points=points,
        data={
            "data": data, "split": split, "instances": found.count, "left out": found.left_out,
            "points": len(skeleton.points), **about.facts,
        },
        problems=list(problems),
        recipe=recipe or {},
        made_by=f"Fiducial {__version__}, {datetime.datetime.now():%Y-%m-%d %H:%M}, {about.device}",
    )  # fmt: skip


HEADLINE = ("nme", "epe", "pck@0.05", "fr@0.1")


def heatmap_gallery(detector: Detector, instances: Instances, errors: np.ndarray, count: int = 6) -> list[Gallery]:
    """Image, truth's heatmaps merged, prediction's merged, and the separate ones (articles D and E), from the best
    instance to the worst; nothing for methods without maps."""
    import torch

    from fiducial.data import loading
    from fiducial.models.detector import full_precision

    order = np.argsort(np.where(np.isnan(errors), np.inf, errors), kind="stable")[: int(np.isfinite(errors).sum())]
    chosen = order[sampling.places(len(order), count)]
    if not len(chosen):
        return []
    some = instances.select(chosen)
    spec = detector.spec
    batch = next(iter(loading.loader(some, spec.size, len(some), None, padding=spec.padding)))
    batch = Batch(*(column.to(detector.mean.device) for column in batch))
    with torch.inference_mode():
        predicted = detector.head.heatmaps(full_precision(detector(batch.image)))
        truth = detector.head.heatmaps(detector.head.encode(batch))
    if predicted is None or truth is None:
        return []
    truth = truth * batch.labelled[..., None, None]
    colours = pictures.point_colours(some.skeleton)
    shown = []
    for i, row in enumerate(batch.row.tolist()):
        name = some.images.name(int(some.image_row[row]))
        panel = pictures.heatmap_panel(
            batch.image[i].cpu().numpy(), truth[i].cpu().numpy(), predicted[i].cpu().numpy(), some.skeleton.points,
            colours=colours,
        )  # fmt: skip
        shown.append(Picture(panel, f"{Path(name).name}, NME {errors[chosen[row]]:.4f}"))
    note = "From the best instance to the worst. Above: picture, truth, prediction; below: each point's own map."
    return [Gallery("Heatmaps", shown, note, wide=True)]


def write(path: Path, report: Report) -> Path:
    """The page, and its pictures as JPEGs in a folder `pictures` beside it."""
    write_report(path, report)
    folder = path.parent / "pictures"
    for gallery in report.galleries:
        name = gallery.title.lower().replace(" ", "_")
        tiles = [picture.image for picture in gallery.pictures]
        captions = [picture.caption for picture in gallery.pictures]
        columns = 1 if gallery.wide else 4
        pictures.write_jpeg(folder / f"{name}.jpg", pictures.contact_sheet(tiles, captions, columns))
    return path
