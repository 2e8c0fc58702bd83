"""The report of one run with a teacher: how far the student is from it on the scored crops, clip by clip, which crops are
worst, and how training went.

    RUN/metrics.json          the figures
    RUN/report.html           with everything below in it
    RUN/pictures/points.png   the teacher's and the student's points, crops evenly over the scored ones
    RUN/pictures/worst.png    the same of the crops on which they are farthest apart"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from fiducial.card import Card
from fiducial.data import sampling
from fiducial.data.source import Source
from fiducial.distillation.data import Material
from fiducial.distillation.scoring import DISTANCE, MEANINGS, OTHER_MEASURE, Distances
from fiducial.distillation.teacher import Teacher, parameters_of
from fiducial.evaluation import evaluate
from fiducial.geometry import Size
from fiducial.models import detector as detectors
from fiducial.models.detector import Detector
from fiducial.report import pictures
from fiducial.report.page import Fact, Gallery, Page, Picture, Section, Table, metric_table, sheet_of, torch_device
from fiducial.report.run_page import page_of_run, read_run, write_run
from fiducial.training.work import Outcome
from fiducial.types import Batch, Skeleton

SHARE = f"{DISTANCE}_share"
HEADLINE = ("jacobian_error", "heatmap_divergence", "nme", "teacher_nme")
CURVES = (
    ("Distance to the teacher, px", [f"val/{DISTANCE}"], "On scored crops after each epoch."),
    ("Loss L1 on scored crops", ["val/l1"], f"{MEANINGS['l1'][0].upper()}{MEANINGS['l1'][1:]}."),
    ("Error against the labels, NME", ["val/nme", "val/teacher_nme"], "The teacher's does not change."),
)
SHOWN = 12  # crops of a sheet
PAIRS = 2  # of teacher and student, side by side


class Crop(NamedTuple):
    """Holds a scored crop."""

    px: float  # mean distance of its points, px of the student's input
    row: int
    image: np.ndarray  # uint8 RGB [h, w, 3], as the student sees it
    teacher_unit: np.ndarray  # [k, 2]
    student_unit: np.ndarray  # [k, 2]


class Scored(NamedTuple):
    """Holds what was found on all scored crops, and some of them to look at."""

    figures: dict[str, float]
    rows: np.ndarray  # [n]
    px: np.ndarray  # [n], of each row
    evenly: list[Crop]
    worst: list[Crop]  # worst first


def write(
    outcome: Outcome, teacher: Teacher, material: Material, distances: Distances, crops: Iterable[Batch], source: Source
) -> dict[str, Any]:
    """Scores the student that a run folder holds on `crops`, all that are scored; writes figures, pictures and the page.

    Gives the figures and where the files are."""
    detector, _ = detectors.load(outcome.out, evaluate.device_name())
    scored = score(detector, material, distances, crops)
    summary = {
        **about(outcome.card, teacher, source),
        "split": material.split,
        "count": len(scored.rows),
        "metrics": scored.figures,
        "clips": clip_rows(scored, material.clips, detector.spec.size),
        "left_out": [str(problem) for problem in material.problems],
    }
    galleries = _galleries(scored, material, teacher.detector.spec.skeleton)
    for name, gallery in zip(("worst", "points"), (galleries[0], galleries[-1]), strict=True):
        pictures.write(outcome.out / "pictures" / f"{name}.png", sheet_of(gallery, PAIRS))
    page = _page(outcome, teacher, material, scored, summary, galleries)
    return write_run(read_run(outcome.out), summary, page)


def figures_without_teacher(outcome: Outcome, teacher: Teacher, source: Source) -> dict[str, Any]:
    """Gives the figures of a student that learnt without the teacher: its points are its own, so no page compares the two."""
    written = {"model": str(outcome.out), "history": str(outcome.out / "history.csv")}
    return {**about(outcome.card, teacher, source), "metrics": outcome.card.metrics["val"], "files": written}


# --------------------------------------------------------------------------------------------------------- figures


def about(card: Card, teacher: Teacher, source: Source) -> dict[str, Any]:
    """Describes a run beside its figures."""
    return {
        "teacher": str(teacher.path),
        "data": str(source),
        "loss": card.metrics.get("loss", "none"),
        "epoch": card.metrics["epoch"],
        "student_parameters": parameters_of(detectors.build(card.spec)),
        "teacher_parameters": parameters_of(teacher.detector),
    }


def score(detector: Detector, material: Material, distances: Distances, crops: Iterable[Batch]) -> Scored:
    """Goes once over the scored crops; images of those alone that are shown stay in memory."""
    all_rows = material.scored.rows
    rows_shown = all_rows[sampling.places(len(all_rows), SHOWN)]
    rows, px = [], []
    evenly: list[Crop] = []
    worst: list[Crop] = []
    for batch in crops:
        here = Batch(*(column.to(detector.mean.device) for column in batch))
        compared = distances.compared(detector, here)
        distances.add(here, compared)
        columns = (compared.parts[DISTANCE], batch.row, batch.image, compared.teacher.xy_unit, compared.student.xy_unit)
        columns = (column.cpu().numpy() for column in columns)
        batch_crops = [
            Crop(float(distance), int(row), image.copy(), *points)  # a view would keep the whole batch
            for distance, row, image, *points in zip(*columns, strict=True)
        ]
        rows += [crop.row for crop in batch_crops]
        px += [crop.px for crop in batch_crops]
        evenly += [crop for crop in batch_crops if crop.row in rows_shown]
        worst = heapq.nlargest(SHOWN, [*worst, *batch_crops], key=lambda crop: crop.px)
    return Scored(distances.scores(), np.array(rows), np.array(px), evenly, worst)


def clip_rows(scored: Scored, clips: Sequence[tuple[str, np.ndarray]], size: Size) -> list[dict[str, Any]]:
    """Gives a row for each scored clip, and one for all still images. size: the student's input."""
    rows = []
    for name, clip in clips:
        px = float(scored.px[np.isin(scored.rows, clip)].mean())
        rows.append({"clip": name, "crops": len(clip), DISTANCE: px, SHARE: px / max(size)})
    return rows


# -------------------------------------------------------------------------------------------------------- pictures


def pair(crop: Crop, skeleton: Skeleton) -> np.ndarray:
    """Draws a crop with the teacher's points, and beside it with the student's."""
    both = [pictures.crop_with_points(crop.image, xy, skeleton) for xy in (crop.teacher_unit, crop.student_unit)]
    return pictures.contact_sheet(both, ["teacher", f"student, {crop.px:.2f} px"], 2)


def _galleries(scored: Scored, material: Material, skeleton: Skeleton) -> list[Gallery]:
    note = "Left the teacher's points, right the student's; the same point has the same colour. {}"
    first, last, count = scored.worst[0], scored.worst[-1], len(scored.rows)
    farthest = f"From {first.px:.2f} px ({material.scored.name(first.row)}) to {last.px:.2f} px."
    shown = {"Worst first": (scored.worst, farthest)}
    if count > SHOWN:
        shown["Evenly over all"] = (scored.evenly, f"{len(scored.evenly)} of {count} scored crops: what to expect.")
    return [
        Gallery(
            title, [Picture(pair(crop, skeleton), material.scored.name(crop.row)) for crop in crops], note.format(words)
        )
        for title, (crops, words) in shown.items()
    ]


# ------------------------------------------------------------------------------------------------------------ page


def _page(
    outcome: Outcome,
    teacher: Teacher,
    material: Material,
    scored: Scored,
    summary: Mapping[str, Any],
    galleries: Sequence[Gallery],
) -> Page:
    run, recipe, figures = read_run(outcome.out), outcome.recipe, scored.figures
    is_taught = recipe.distillation.loss != "none"
    notes = [
        f"All figures are of {material.split}, and the same crops chose the epoch ({summary['epoch'] + 1} of {recipe.epochs}): "
        "on others the student is likely to be farther off."
    ]
    if not is_taught:
        notes.append(
            "This student learnt without the teacher, from labels; the distance only says how alike the two are."
        )
    metrics = metric_table(
        [(name, figures[name], meaning) for name, meaning in MEANINGS.items() if name in figures],
        f"On {material.split}",
        f"{len(scored.rows)} crops; shares and NME are fractions, not percent. " + OTHER_MEASURE,
    )
    columns = ("clip", "crops", "distance px", "% of the side")
    clips = [(row["clip"], row["crops"], row[DISTANCE], 100 * row[SHARE]) for row in summary["clips"]]
    return page_of_run(
        replace(run, recipe=_that_applies(run.recipe, material)),
        title=f"{recipe.backbone} {'taught by' if is_taught else 'beside'} {teacher.detector.spec.backbone}: {run.folder.name}",
        facts=_facts(figures, summary),
        notes=[*([outcome.warning] if outcome.warning else []), *notes],
        metrics=metrics,
        drawn=run.charts(*CURVES),
        shown=galleries,
        details=[Section("Clip by clip", [Table(columns, clips)])],
        data={
            "data": summary["data"],
            "used": material.said,
            "crops to learn from": len(material.learnt),
            "crops scored": len(scored.rows),
            **{f"teacher: {name}": value for name, value in teacher.told().items()},
        },
        problems=summary["left_out"],
        device=torch_device(),
    )


def _that_applies(recipe: Mapping[str, Any], material: Material) -> dict[str, Any]:
    """Leaves out settings that nothing was made with: of clips where there were none, of learning without labels."""
    motion = {"motion": {"clips": recipe["motion"]["clips"]}} if material.clips else {}
    return {**{name: value for name, value in recipe.items() if name != "motion"}, **motion}


def _facts(figures: Mapping[str, float], summary: Mapping[str, Any]) -> list[Fact]:
    student, teacher = summary["student_parameters"], summary["teacher_parameters"]
    times = f"of the student; its teacher has {teacher:,}, {teacher / student:.1f} times as many"
    return [
        Fact(
            "distance to the teacher",
            f"{figures[DISTANCE]:.2f} px",
            f"{100 * figures[SHARE]:.2f} % of the input's side",
        ),
        *(Fact(name.replace("_", " "), figures[name], MEANINGS[name]) for name in HEADLINE if name in figures),
        Fact("parameters", f"{student:,}", times),
    ]
