"""The report of one run with a teacher: how far the student is from it on the scored crops, clip by clip, which crops are
worst, and how training went.

    RUN/metrics.json          the figures
    RUN/report.html           with everything below in it
    RUN/pictures/points.png   the teacher's and the student's points, crops evenly over the scored ones
    RUN/pictures/worst.png    the same of the crops on which they are farthest apart"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fiducial import config
from fiducial.data import sampling
from fiducial.distill.choices import spec_of
from fiducial.distill.data import Material
from fiducial.distill.scoring import DISTANCE, MEANINGS, Distances
from fiducial.distill.teacher import Teacher
from fiducial.evaluation import evaluate
from fiducial.files import command_line
from fiducial.geometry import Size
from fiducial.models import detector as detectors
from fiducial.models.detector import Detector
from fiducial.motion import sheets as motion_sheets
from fiducial.report import charts, pictures
from fiducial.report.charts import Chart
from fiducial.report.page import Fact, Gallery, Picture, Report, Section, Table, write_report
from fiducial.training import history
from fiducial.training.recipe import Recipe
from fiducial.types import Batch, Skeleton

SHARE = f"{DISTANCE}_share"
HEADLINE = ("jacobian_error", "heatmap_divergence", "nme", "teacher_nme")
SHOWN = 12  # crops of a picture
PAIRS = 2  # of teacher and student, side by side


class Crop(NamedTuple):
    """A scored crop."""

    px: float  # mean distance of its points, px of the student's input
    row: int
    image: np.ndarray  # uint8 RGB [h, w, 3], as the student sees it
    teacher_unit: np.ndarray  # [k, 2]
    student_unit: np.ndarray  # [k, 2]


class Scored(NamedTuple):
    """All scored crops."""

    figures: dict[str, float]
    rows: np.ndarray  # [n]
    px: np.ndarray  # [n], of each row
    evenly: list[Crop]
    worst: list[Crop]  # worst first


def write(
    out: Path, recipe: Recipe, teacher: Teacher, material: Material, distances: Distances, crops: Iterable[Batch], *,
    about: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Scores the student that RUN holds, writes figures, pictures and the page, and returns the figures and where the
    files are. `about`: what else is known of the run, for the figures."""
    detector, _ = detectors.load(out, evaluate.device_name())
    scored = score(detector, material, distances, crops)
    clips = clip_rows(scored, material.clips, detector.spec.size)
    summary = {
        **about, "split": material.split, "count": len(scored.rows), "metrics": scored.figures, "clips": clips,
        "left_out": [str(problem) for problem in material.problems],
    }  # fmt: skip
    skeleton = teacher.detector.spec.skeleton
    sheets = {
        name: sheet(some, material, skeleton) for name, some in (("points", scored.evenly), ("worst", scored.worst))
    }
    files = {
        "model": out, "history": out / "history.csv", "figures": out / "metrics.json", "report": out / "report.html",
        "pictures": out / "pictures",
    }  # fmt: skip
    for name, image in sheets.items():
        motion_sheets.write_png(files["pictures"] / f"{name}.png", image)
    write_report(files["report"], _page(out, recipe, teacher, material, scored, summary, sheets))
    config.write_json(files["figures"], summary)
    return {**summary, "files": {name: str(path) for name, path in files.items()}}


# --------------------------------------------------------------------------------------------------------- figures


def score(detector: Detector, material: Material, distances: Distances, crops: Iterable[Batch]) -> Scored:
    """One pass over the scored crops; pictures of those alone that are shown stay in memory."""
    scored = material.rows(scored=True)
    chosen = scored[sampling.places(len(scored), SHOWN)]
    rows, px = [], []
    shown: list[Crop] = []
    worst: list[Crop] = []
    for batch in crops:
        here = Batch(*(column.to(detector.mean.device) for column in batch))
        found = distances.compared(detector, here)
        distances.add(here, found)
        columns = (found.parts[DISTANCE], batch.row, batch.image, found.teacher.xy_unit, found.student.xy_unit)
        columns = (column.cpu().numpy() for column in columns)
        some = [
            Crop(float(apart), int(row), image.copy(), *points)  # a view would keep the whole batch
            for apart, row, image, *points in zip(*columns, strict=True)
        ]
        rows += [crop.row for crop in some]
        px += [crop.px for crop in some]
        shown += [crop for crop in some if crop.row in chosen]
        worst = heapq.nlargest(SHOWN, [*worst, *some], key=lambda crop: crop.px)
    return Scored(distances.scores(), np.array(rows), np.array(px), shown, worst)


def clip_rows(scored: Scored, groups: Sequence[tuple[str, np.ndarray]], size: Size) -> list[dict[str, Any]]:
    """A row for each scored clip, and one for all still pictures. size: the student's input."""
    rows = []
    for name, some in groups:
        px = float(scored.px[np.isin(scored.rows, some)].mean())
        rows.append({"clip": name, "crops": len(some), DISTANCE: px, SHARE: px / max(size)})
    return rows


# -------------------------------------------------------------------------------------------------------- pictures


def sheet(crops: Sequence[Crop], material: Material, skeleton: Skeleton) -> np.ndarray:
    """Pairs: the crop with the teacher's points, named, and with the student's, and how far they are from those."""
    tiles, captions = [], []
    for crop in crops:
        tiles += [pictures.crop_with_points(crop.image, xy, skeleton) for xy in (crop.teacher_unit, crop.student_unit)]
        captions += [motion_sheets.tail(material.where(crop.row, scored=True), 24), f"student, {crop.px:.2f} px"]
    return pictures.contact_sheet(tiles, captions, 2 * PAIRS)


# ------------------------------------------------------------------------------------------------------------ page


def _page(
    out: Path, recipe: Recipe, teacher: Teacher, material: Material, scored: Scored, summary: Mapping[str, Any],
    sheets: Mapping[str, np.ndarray],
) -> Report:  # fmt: skip
    figures, loss = scored.figures, spec_of(recipe).loss
    taught = "beside" if loss == "none" else "taught by"
    return Report(
        title=f"{recipe.backbone} {taught} {teacher.detector.spec.backbone}: {out.name}",
        summary=_facts(figures, summary),
        command=command_line.get(),
        notes=_notes(material, summary, recipe, loss),
        metrics=Table(
            ("metric", "value", "what it is"),
            [(name, figures[name], meaning) for name, meaning in MEANINGS.items() if name in figures],
            f"On {material.split}", f"{len(scored.rows)} crops; shares and NME are fractions, not percent.",
        ),
        charts=_charts(history.read(out / "history.csv")),
        galleries=_galleries(scored, material, sheets),
        sections=_clip_by_clip(summary["clips"]),
        data={
            "data": summary["data"], "used": material.said, "crops to learn from": len(material.rows(scored=False)),
            "crops scored": len(scored.rows), **{f"teacher: {name}": value for name, value in teacher.told().items()},
        },
        problems=summary["left_out"],
        recipe=config.to_dict(recipe),
        made_by=evaluate.made_by(),
    )  # fmt: skip


def _facts(figures: Mapping[str, float], summary: Mapping[str, Any]) -> list[Fact]:
    own, theirs = summary["student_parameters"], summary["teacher_parameters"]
    return [
        Fact(_words(DISTANCE), f"{figures[DISTANCE]:.2f} px, {100 * figures[SHARE]:.2f} %",
             f"{MEANINGS[DISTANCE]}; %: {MEANINGS[SHARE]}"),
        *(Fact(_words(name), figures[name], MEANINGS[name]) for name in HEADLINE if name in figures),
        Fact("parameters", f"{own:,}", f"of the student; its teacher has {theirs:,}, {theirs / own:.1f} times as many"),
    ]  # fmt: skip


def _words(name: str) -> str:
    return name.replace("_", " ")


def _notes(material: Material, summary: Mapping[str, Any], recipe: Recipe, loss: str) -> list[str]:
    """What a reader must know before believing the figures."""
    notes = [
        f"All figures are of {material.split}, and the same crops chose the epoch ({summary['epoch'] + 1} of {recipe.epochs}): "
        "on others the student is likely to be farther off."
    ]
    if loss == "none":
        notes.append(
            "This student learnt without the teacher, from labels; the distance only says how alike the two are."
        )
    return notes


def _charts(rows: Sequence[Mapping[str, float]]) -> list[Chart]:
    chart = partial(charts.over_epochs, rows)
    return [
        *charts.losses(rows),
        *chart("Distance to the teacher, px", [f"val/{DISTANCE}"], "On scored crops after each epoch."),
        *chart("Loss L1 on scored crops", ["val/l1"], f"{MEANINGS['l1'][0].upper()}{MEANINGS['l1'][1:]}."),
        *chart("Error against the labels, NME", ["val/nme", "val/teacher_nme"], "The teacher's does not change."),
        *chart("Learning rate", ["lr"]),
    ]


def _galleries(scored: Scored, material: Material, sheets: Mapping[str, np.ndarray]) -> list[Gallery]:
    note = "Left the teacher's points, right the student's; the same point has the same colour. {}"
    first, last = scored.worst[0], scored.worst[-1]
    farthest = f"From {first.px:.2f} px ({material.where(first.row, scored=True)}) to {last.px:.2f} px."
    return [
        Gallery(
            "Worst first", [Picture(sheets["worst"], f"The {len(scored.worst)} crops with the largest distances")],
            note.format(farthest), wide=True,
        ),
        Gallery(
            "Evenly over all", [Picture(sheets["points"], f"{len(scored.evenly)} of {len(scored.rows)} scored crops")],
            note.format("What to expect."), wide=True,
        ),
    ]  # fmt: skip


def _clip_by_clip(rows: Sequence[Mapping[str, Any]]) -> list[Section]:
    if not rows:
        return []
    cells = [(row["clip"], row["crops"], row[DISTANCE], 100 * row[SHARE]) for row in rows]
    return [Section("Clip by clip", tables=[Table(("clip", "crops", "distance px", "% of the side"), cells)])]
