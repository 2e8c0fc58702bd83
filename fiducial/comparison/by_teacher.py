"""Judges students by their teacher: the distance between their points on crops that none has learnt from, beside NME
where there are labels, and what can be said of points without comparing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from fiducial import geometry
from fiducial.comparison import galleries, page, table
from fiducial.comparison.costs import VariantCost
from fiducial.comparison.runs import Run, Variant
from fiducial.comparison.students import CONTROL, Study, kind_of
from fiducial.comparison.table import NME, Comparison, Contrast, Measure, Row
from fiducial.data import sampling
from fiducial.distillation import (
    DISTANCE,
    MEANINGS,
    OTHER_MEASURE,
    Distances,
    Shared,
    Teacher,
    parameters_of,
    unlabelled_scores,
)
from fiducial.evaluation import evaluate
from fiducial.files import finite
from fiducial.geometry import Size
from fiducial.models import detector as detectors
from fiducial.models.detector import Detector
from fiducial.report.page import Fact, Figure, Section, Table, gallery_sections
from fiducial.runtime.cost import Cost
from fiducial.types import Batch

BATCH = 32
LOOKED_AT = 64  # crops on which points are judged without a teacher
SHOWN = 6  # crops in the page's pictures
PX = Measure(
    name=DISTANCE, title="distance px", unit="px", less="nearer to the teacher", more="farther from the teacher"
)
MEASURES = (
    PX,
    Measure(name="jacobian_error", title="Jacobian error", unit="", digits=3),
    Measure(name="heatmap_divergence", title="heatmap divergence", unit="", digits=3),
    NME,
)


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """The crops that are scored, as the students see them."""

    batches: Sequence[Batch]
    shown: np.ndarray  # [p, h, w, 3] uint8
    shown_rows: np.ndarray  # [p] which of all they are
    looked_at: torch.Tensor  # uint8 [m, h, w, 3]
    count: int


def held_out(shared: Shared, size: Size) -> HeldOut:
    """Cuts the held-out crops in a size."""
    batches = list(shared.material.scored.loader(size, BATCH))
    images = torch.cat([batch.image for batch in batches])
    shown, looked_at = (sampling.places(len(images), count) for count in (SHOWN, LOOKED_AT))
    return HeldOut(
        batches=batches,
        shown=images[shown].numpy(),
        shown_rows=shown,
        looked_at=images[looked_at],
        count=len(images),
    )


def comparison_of(
    asked: Study,
    teacher: Teacher,
    shared: Shared,
    size: Size,
    variants: Sequence[Variant],
    failures: Mapping[str, str],
    notes: Sequence[str],
) -> Comparison:
    """Measures the students, of input `size`, and makes their comparison, with its words, columns, charts and pictures."""
    crops = held_out(shared, size)
    beside = teacher_row(shared, teacher, crops, size)
    rows = table.ranked([row_of(variant, shared, teacher, crops) for variant in variants], PX)
    contrasts = contrasts_of(rows)
    nme = beside.mean(NME)
    about = {
        "teacher": str(asked.teacher),
        "student": asked.student,
        "data": str(asked.data),
        "held_out_crops": crops.count,
        "of_teacher": {
            "parameters": beside.cost.static.parameters,
            "alone": dict(beside.figures[0]),
            **({"nme": finite(nme)} if beside.errors else {}),
        },
        "used": shared.material.said,
    }
    pictures = galleries.side_by_side(
        [beside, *rows], crops.shown, crops.shown_rows, crops.count, teacher.detector.spec.skeleton, PX
    )
    return Comparison(
        title=f"{asked.student} taught by {teacher.detector.spec.backbone}",
        answer=answer(rows, contrasts),
        notes=[*_notes(rows, crops), *notes],
        measures=MEASURES,
        rows=rows,
        contrasts=contrasts,
        failures=failures,
        about=about,
        lines=[line for row in rows for line in _lines(row)],
        beside=[beside],
        scored_on="held-out crops",
        columns={
            "% of the side": lambda row: page.figure(_share_of_side(row), "{:.2f}"),
            "unsteadiness px": lambda row: page.figure(row.about.get("unsteadiness_px"), "{:.3f}"),
            "best epoch": _best_epochs,
        },
        column_note="Jacobian error: mean |1 - J_t^-1 J_s|. Heatmap divergence: Jensen-Shannon, 0 to 0.69. Unsteadiness: by "
        "how much the held-out distance changes from epoch to epoch in the second half of training. " + OTHER_MEASURE,
        facts=_facts(rows[0], beside),
        curves=[
            (f"val/{DISTANCE}", "Distance to the teacher", "px", 1.0),
            ("val/l1", "Loss L1, of points and Jacobians, whatever they were trained by", "mean squared error", 1.0),
            ("val/nme", "Error against the labels", NME.title, NME.factor),
        ],
        evidence=[*gallery_sections([pictures]), _alone_section([beside, *rows])],
        measured=[
            "Every run has the same student, images, order of images (by its seed) and number of steps. Each run's best epoch "
            "on held-out crops is measured, with averaged weights.",
            "Losses: L1 = mean squared error of points and of Jacobians, in -1..1; L2 = L1 and that of heatmaps that sum to "
            "one; L3 = L2 and that of attention maps of the two networks' coarsest levels; KL = L1 and the divergence of the "
            "student's heatmaps from the teacher's. The recipe below has their weights.",
        ],
        data={name: value for name, value in about.items() if isinstance(value, (str, int))},
    )


# -------------------------------------------------------------------------------------------------------- the rows


def row_of(variant: Variant, shared: Shared, teacher: Teacher, crops: HeldOut) -> Row:
    """Measures the runs of one loss and start on the held-out crops."""
    kind = kind_of(variant.label)
    finds_its_own = kind["loss"] == "none" and shared.material.truth is None
    errors, figures, points, parameters = [], [], [], 0
    for run in variant.runs:
        detector = detectors.load(run.path, evaluate.device_name())[0]
        parameters = parameters_of(detector)
        errors.append({} if finds_its_own else _errors(detector, shared, teacher, crops))
        figures.append(_alone(detector, crops, detector.spec.size))
        points.append(_points(detector, crops))
    row = Row(
        name=variant.label,
        variant=variant,
        errors={name: np.stack([of_seed[name] for of_seed in errors]) for name in errors[0]},
        figures=figures,
        predicted=np.stack(points),
        cost=VariantCost(Cost(parameters, None, 0), {}),
    )
    means = {name: [finite(mean) for mean in table.Spread.of(of_seeds).seeds] for name, of_seeds in row.errors.items()}
    by_run = [
        {"arm": run.name, "seed": run.seed, "epoch": run.card.metrics["epoch"]}
        | {name: of_seeds[i] for name, of_seeds in means.items()}
        for i, run in enumerate(variant.runs)
    ]
    alone = {name: row.figure(name) for name in figures[0]}
    return replace(row, about={**kind, "alone": alone, "unsteadiness_px": unsteadiness_px(variant), "runs": by_run})


def teacher_row(shared: Shared, teacher: Teacher, crops: HeldOut, size: Size) -> Row:
    """Measures the teacher itself, in px of `size`, the students'."""
    crops = crops if teacher.offer.size == size else held_out(shared, teacher.offer.size)
    spec, errors = teacher.detector.spec, {}
    if shared.material.truth is not None:
        evaluation = evaluate.evaluate_detector(teacher.detector, shared.material.truth)
        errors[NME.name] = evaluation.metrics.instance_nme[None]
    run = Run("the teacher", teacher.path, teacher.card, None, None)
    return Row(
        name=run.name,
        variant=Variant(run.name, spec.backbone, spec.size, (run,)),
        errors=errors,
        figures=[_alone(teacher.detector, crops, size)],
        predicted=_points(teacher.detector, crops)[None],
        cost=VariantCost(Cost(parameters_of(teacher.detector), None, 0), {}),
    )


def unsteadiness_px(variant: Variant) -> float | None:
    """Averages the change of the held-out distance from epoch to epoch in the second half of training, over seeds."""
    changes: list[float] = []
    for run in variant.runs:
        values = [epoch[f"val/{DISTANCE}"] for epoch in run.history() if f"val/{DISTANCE}" in epoch]
        changes += np.abs(np.diff(values[len(values) // 2 :])).tolist()
    return float(np.mean(changes)) if changes else None


@torch.no_grad()
def _errors(detector: Detector, shared: Shared, teacher: Teacher, crops: HeldOut) -> dict[str, np.ndarray]:
    """[n] each: the distance and the like, of each crop."""
    device, parts = detector.mean.device, []
    distances = Distances(shared.scored, shared.student, teacher.offer, None)
    for batch in crops.batches:
        compared = distances.compared(detector, Batch(*(column.to(device) for column in batch)))
        parts.append({name: value.cpu().numpy() for name, value in compared.parts.items()})
    errors = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if shared.material.truth is not None:
        errors[NME.name] = evaluate.evaluate_detector(detector, shared.material.truth).metrics.instance_nme
    return errors


def _alone(detector: Detector, crops: HeldOut, size: Size) -> dict[str, float | None]:
    scores: dict[str, Any] = unlabelled_scores(detector, crops.looked_at.to(detector.mean.device))
    scores["equivariance_px"] *= size.w / detector.spec.size.w
    return scores


def _points(detector: Detector, crops: HeldOut) -> np.ndarray:
    image = torch.from_numpy(crops.shown).to(detector.mean.device)
    return geometry.px_to_unit(detector.predict(image).numpy().xy, detector.spec.size)


# ------------------------------------------------------------------------------------------------------- in words


def contrasts_of(rows: Sequence[Row]) -> list[Contrast]:
    """Holds losses against L1 from the same start, transfer against random of the same loss, the best against no teacher."""
    by_kind = {(kind["loss"], kind["start"]): row for row in rows for kind in [kind_of(row.name)]}
    pairs = []
    for (loss, start), row in by_kind.items():
        if loss not in ("L1", "none"):
            pairs.append((row, by_kind.get(("L1", start)), PX))
    for (loss, start), row in by_kind.items():
        if start == "transfer":
            pairs.append((row, by_kind.get((loss, "random")), PX))
    taught = [row for row in rows if row.name != CONTROL]
    if taught:
        pairs += [(taught[0], by_kind.get(("none", "random")), measure) for measure in (PX, NME)]
    contrasts = [table.contrast(row, other, measure) for row, other, measure in pairs if other is not None]
    order = {row.name: i for i, row in enumerate(rows)}
    return sorted((one for one in contrasts if one is not None), key=lambda one: order[one.name])


def answer(rows: Sequence[Row], contrasts: Sequence[Contrast]) -> list[str]:
    """Says which loss and start bring the student nearest, and what each difference is worth: sentences."""
    best = next((row for row in rows if row.name != CONTROL and row.spread(PX) is not None), None)
    if best is None:
        return ["No run with the teacher has finished."]
    line = f"Nearest to its teacher: {best.name} weights, {PX.text(best.mean(PX))} px ({_share_of_side(best):.2f} % of the side)."
    return [line, *(f"{contrast.words}." for contrast in contrasts)]


def _notes(rows: Sequence[Row], crops: HeldOut) -> list[str]:
    lines = [f"{DISTANCE}: {MEANINGS[DISTANCE]}."]
    if any(row.spread(PX) is None for row in rows):
        lines.append(
            f"The student {CONTROL} found points of its own: they need not mark what the teacher's do, so their distance to "
            "them means nothing and is not given. What can be compared is under Without comparing."
        )
    lines.append(
        f"Held-out crops also chose each run's best epoch. Intervals are over the {crops.count} crops; those of one clip are "
        "alike, so that they are too narrow for what other clips would say."
    )
    if all(len(row.variant.runs) == 1 for row in rows if row.variant is not None):
        lines.append("One seed each: how much another seed changes is not known. --seeds 3 says.")
    return lines


def _facts(best: Row, teacher: Row) -> list[Fact]:
    own, theirs = (row.cost.static.parameters or 0 for row in (best, teacher))
    meaning = f"of the student; its teacher has {theirs / max(own, 1):.1f} times as many"
    facts = [Fact("Parameters", f"{page.quantity(own)} of {page.quantity(theirs)}", meaning)]
    if best.spread(PX) is None:
        return facts
    return [Fact(DISTANCE, f"{PX.text(best.mean(PX))} px", f"{best.name}: {MEANINGS[DISTANCE]}"), *facts]


# ------------------------------------------------------------------------------------------------------ in figures


def _lines(row: Row) -> list[dict[str, Any]]:
    """Those of results.csv: one a run."""
    assert row.variant is not None
    lines = []
    for run, by_run, figures in zip(row.variant.runs, row.about["runs"], row.figures, strict=True):
        own = dict(by_run)
        line = {"arm": own.pop("arm"), "loss": row.about["loss"], "start": row.about["start"]}
        line |= {name: own.pop(name) for name in ("seed", "epoch")}
        seconds = round(sum(epoch.get("seconds", 0.0) for epoch in run.history()), 1)
        lines.append(
            line | {"parameters": row.cost.static.parameters, "training_seconds": seconds} | own | dict(figures)
        )
    return lines


def short_table(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Makes a few columns of results.json for the terminal."""
    shown = [measure for measure in MEASURES if any(measure.name in row["metrics"] for row in figures["rows"])]

    def mean(row: Mapping[str, Any], measure: Measure) -> str:
        return f"{row['metrics'][measure.name]['mean']:.3f}" if measure.name in row["metrics"] else "-"

    return [
        {
            "": row["name"],
            **{measure.title.removesuffix(" %"): mean(row, measure) for measure in shown},
            "equivariance px": f"{row['alone']['equivariance_px']:.2f}",
            "seeds": len(row["runs"]),
        }
        for row in figures["rows"]
    ]


def _share_of_side(row: Row) -> float:
    assert row.variant is not None
    return 100 * row.mean(PX) / max(row.variant.size)


def _best_epochs(row: Row) -> Figure:
    runs = row.variant.runs if row.variant is not None else ()
    epochs = [run.card.metrics.get("epoch") for run in runs]
    return Figure(", ".join(page.NONE.text if epoch is None else str(epoch + 1) for epoch in epochs))


def _alone_section(rows: Sequence[Row]) -> Section:
    """What can be said of any points."""
    names = ("equivariance_px", "spread", "nearest", "occupancy", "moving")
    lines = [(row.name, *(page.figure(row.figure(name), "{:.3f}") for name in names)) for row in rows]
    words = [
        f"Equivariance: {MEANINGS['equivariance_px']}; the smaller the better a point keeps to what it marks. It can be had "
        "without marking anything, by points that lie anywhere and move with the whole image.",
        "Spread: standard deviation of a crop's points around their middle; nearest: mean distance of a point to the next one, "
        "both as shares of the side. Occupancy: cells of 8x8 with a point in them, of as many as there could be. Moving: share "
        "of the points that move from crop to crop.",
    ]
    columns = ("", *(name.replace("_", " ") for name in names))
    return Section("Without comparing", [*words, Table(columns, lines, "Mean over seeds")])
