"""`fiducial distill --study`: trains what is missing, measures everything on the same held-out crops, writes the page and
its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fiducial import distill, folders, geometry
from fiducial.comparison import page, results, runs, students, train
from fiducial.comparison.cells import Cell
from fiducial.comparison.costs import VariantCost
from fiducial.comparison.results import NME, Comparison, Contrast, Measure, Row, Taught
from fiducial.comparison.runs import Run, Variant
from fiducial.comparison.scores import Scores
from fiducial.comparison.students import CONTROL, Study, kind_of
from fiducial.comparison.train import is_finished
from fiducial.data import sampling
from fiducial.distill import DISTANCE, MEANINGS, TAUGHT, Shared, Teacher, parameters_of
from fiducial.errors import UserError
from fiducial.evaluation import evaluate
from fiducial.files import finite
from fiducial.geometry import Size
from fiducial.log import logger, muted
from fiducial.models import detector as detectors
from fiducial.models.detector import Detector
from fiducial.runtime.cost import Cost
from fiducial.types import Batch

BATCH = 32
LOOKED_AT = 64  # crops on which points are judged without a teacher
SHOWN = 6  # crops in the page's pictures
MEASURES = (
    Measure(
        name=DISTANCE, title="distance px", unit="px", less="nearer to the teacher", more="farther from the teacher"
    ),
    Measure(name="jacobian_error", title="Jacobian error", unit="", digits=3),
    Measure(name="heatmap_divergence", title="heatmap divergence", unit="", digits=3),
    NME,
)


def study(asked: Study, out: Path, *, jobs: int | None = None, progress: bool = False) -> dict[str, Any]:
    """Trains the runs that are not finished, writes OUT/report.html, results.json and results.csv; returns what
    results.json holds, and `files`."""
    teacher = distill.load_teacher(asked.teacher)
    recipe = students.recipe_of(asked, teacher, "L1")
    with muted():
        offer, why_not = distill.student_of(recipe, teacher, out)
    losses = _possible(asked.losses, why_not)
    students.refuse_useless_weights(asked)
    with folders.alone(out):
        plan = students.plan_of(asked, teacher, losses, out, with_control=True)
        students.keep(out, asked, teacher, plan)
        shared = distill.share(
            teacher,
            offer,
            asked.data,
            out,
            recipe,
            losses,
            progress=progress,
        )
        has_control = shared.material.truth is not None or teacher.detector.head.learns_without_labels
        planned = [cell for cell in plan.cells if has_control or cell.label != CONTROL]
        notes = _left_out(asked, teacher, has_control)
        for note in notes:
            logger.warning(note)
        failures = _train(asked, teacher, planned, out, jobs, progress)
        finished = [(cell, out / cell.folder) for cell in planned if is_finished(out / cell.folder)]
        if not finished:
            raise train.all_failed(failures)
        variants = runs.of_cells([(cell, runs.read(folder, cell.name)) for cell, folder in finished])
        comparison = _comparison(asked, teacher, shared, recipe.size, variants, failures, notes)
        return page.write(comparison, out, planned, results.run_lines(comparison))


def short_table(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Makes a few columns of results.json for the terminal."""
    titles = {measure.name: measure.title for measure in MEASURES}
    names = [name for name in titles if any(name in row["metrics"] for row in figures["rows"])]
    return [
        {
            "": row["name"],
            **{titles[name].removesuffix(" %"): _mean_of(row["metrics"].get(name)) for name in names},
            "equivariance px": f"{row['alone']['equivariance_px']:.2f}",
            "seeds": len(row["runs"]),
        }
        for row in figures["rows"]
    ]


def _mean_of(spread: Mapping[str, float] | None) -> str:
    return "-" if spread is None else f"{spread['mean']:.3f}"


# ----------------------------------------------------------------------------------------------------- the training


def _possible(asked: tuple[str, ...] | None, why_not: dict[str, str]) -> tuple[str, ...]:
    possible = tuple(loss for loss, reason in why_not.items() if not reason)
    impossible = [loss for loss in asked or TAUGHT if loss not in possible]
    if impossible and (asked is not None or not possible):
        raise UserError(
            f"--losses: {impossible[0]}: {why_not[impossible[0]]}. Possible for this pair: {', '.join(possible) or 'none'}"
        )
    for loss in impossible:
        logger.warning(f"{loss} is left out: {why_not[loss]}")
    return tuple(loss for loss in asked or TAUGHT if loss in possible)


def _left_out(asked: Study, teacher: Teacher, has_control: bool) -> list[str]:
    """What could be compared and is not."""
    lines = []
    if not asked.transfers:
        lines.append("initialisations are not compared: give --transfer WEIGHTS, or --pretrain-on a labelled set")
    if not has_control:
        lines.append(
            "what the student learns without the teacher is not there: the data have no labels of its points, and method "
            f"{teacher.detector.spec.method!r} needs some"
        )
    return lines


def _train(
    asked: Study, teacher: Teacher, planned: Sequence[Cell], out: Path, jobs: int | None, progress: bool
) -> dict[str, str]:
    """Cell's name -> why it failed."""
    failures: dict[str, str] = {}
    waiting = [cell for cell in planned if not is_finished(out / cell.folder)]
    transferred = [cell for cell in waiting if kind_of(cell.label)["start"] == "transfer"]
    if transferred and asked.transfer is None and not is_finished(out / "pretrained"):
        logger.info(f"pre-training {asked.student} on {asked.pretrain_on}")
        failures = train.train([students.pretraining_of(asked, teacher)], out, _outcome, progress=progress)
        if failures:
            reason = f"there are no weights to start from: {failures['pretrained']}"
            failures |= {cell.name: reason for cell in transferred}
    begun = [cell for cell in planned if cell.name not in failures]
    for cell in begun:
        if cell in waiting:
            students.link(out, out / cell.folder)
    return failures | train.train(begun, out, _outcome, jobs=jobs, progress=progress)


def _outcome(val: Mapping[str, float]) -> str:
    if DISTANCE in val:
        return f"{val[DISTANCE]:.2f} px from the teacher"
    return f"val NME {100 * val['nme']:.2f} %" if "nme" in val else "learnt points of its own"


# -------------------------------------------------------------------------------------------------------- the scores


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """The crops that are scored, as the students see them."""

    batches: Sequence[Batch]
    shown: np.ndarray  # [p, h, w, 3] uint8
    shown_rows: np.ndarray  # [p] which of all they are
    looked_at: torch.Tensor  # uint8 [m, h, w, 3]

    @property
    def count(self) -> int:
        return sum(len(batch.row) for batch in self.batches)


def held_out(shared: Shared, size: Size) -> HeldOut:
    """Cuts the held-out crops in a size."""
    batches = list(shared.material.plain_loader(True, size, BATCH))
    images = torch.cat([batch.image for batch in batches])
    shown, looked_at = (sampling.places(len(images), count) for count in (SHOWN, LOOKED_AT))
    return HeldOut(batches=batches, shown=images[shown].numpy(), shown_rows=shown, looked_at=images[looked_at])


def row_of(variant: Variant, shared: Shared, teacher: Teacher, crops: HeldOut) -> Row:
    """Measures the runs of one loss and start on the held-out crops."""
    kind = kind_of(variant.label)
    finds_its_own = kind["loss"] == "none" and shared.material.truth is None
    errors, figures, shown, parameters = [], [], [], 0
    for run in variant.runs:
        detector = detectors.load(run.path, evaluate.device_name())[0]
        parameters = parameters_of(detector)
        errors.append({} if finds_its_own else _errors(detector, shared, teacher, crops))
        figures.append(_alone(detector, crops, detector.spec.size))
        shown.append(_shown(detector, crops))
    stacked = {name: np.stack([of_seed[name] for of_seed in errors]) for name in errors[0]}
    row = Row(
        name=variant.label,
        variant=variant,
        scores=Scores(errors=stacked, figures=figures, predicted=np.stack(shown)),
        cost=VariantCost(Cost(parameters, None, 0), {}),
    )
    return with_about(row)


def with_about(row: Row) -> Row:
    """Adds what results.json has of a study's row besides."""
    means = {
        name: [finite(value) for value in spread.values] for name in row.scores.errors if (spread := row.spread(name))
    }
    runs_json = [
        {
            "arm": run.name,
            "seed": run.seed,
            "epoch": run.card.metrics["epoch"],
            **{n: own[i] for n, own in means.items()},
        }
        for i, run in enumerate(row.variant.runs)
    ]
    alone = {name: row.figure(name) for name in row.scores.figures[0]}
    about = {**kind_of(row.variant.label), "alone": alone, "unsteadiness_px": unsteadiness_px(row), "runs": runs_json}
    return replace(row, about=about)


def unsteadiness_px(row: Row) -> float | None:
    """Averages the change of the held-out distance from epoch to epoch in the second half of training, over seeds."""
    changes: list[float] = []
    for run in row.variant.runs:
        values = [epoch[f"val/{DISTANCE}"] for epoch in run.history() if f"val/{DISTANCE}" in epoch]
        changes += np.abs(np.diff(values[len(values) // 2 :])).tolist()
    return float(np.mean(changes)) if changes else None


def teacher_row(shared: Shared, teacher: Teacher, crops: HeldOut, size: Size) -> Row:
    """Measures the teacher itself, in px of `size`, the students'."""
    crops = crops if teacher.offer.size == size else held_out(shared, teacher.offer.size)
    spec = teacher.detector.spec
    errors = {}
    if shared.material.truth is not None:
        errors["nme"] = evaluate.evaluate_detector(teacher.detector, shared.material.truth).metrics.instance_nme[None]
    run = Run("the teacher", teacher.path, teacher.card, None, None)
    figures = [_alone(teacher.detector, crops, size)]
    return Row(
        name=run.name,
        variant=Variant(run.name, spec.backbone, spec.size, (run,)),
        scores=Scores(errors=errors, figures=figures, predicted=_shown(teacher.detector, crops)[None]),
        cost=VariantCost(Cost(parameters_of(teacher.detector), None, 0), {}),
    )


@torch.no_grad()
def _errors(detector: Detector, shared: Shared, teacher: Teacher, crops: HeldOut) -> dict[str, np.ndarray]:
    """[n] each: the distance and the like, of each crop."""
    device, parts = detector.mean.device, []
    distances = distill.Distances(shared.scored, shared.student, teacher.offer, None)
    for batch in crops.batches:
        compared = distances.compared(detector, Batch(*(column.to(device) for column in batch)))
        parts.append({name: value.cpu().numpy() for name, value in compared.parts.items()})
    errors = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if shared.material.truth is not None:
        errors["nme"] = evaluate.evaluate_detector(detector, shared.material.truth).metrics.instance_nme
    return errors


def _alone(detector: Detector, crops: HeldOut, size: Size) -> dict[str, float | None]:
    scores: dict[str, Any] = distill.unlabelled_scores(detector, crops.looked_at.to(detector.mean.device))
    scores["equivariance_px"] *= size.w / detector.spec.size.w
    return scores


def _shown(detector: Detector, crops: HeldOut) -> np.ndarray:
    image = torch.from_numpy(crops.shown).to(detector.mean.device)
    return geometry.px_to_unit(detector.predict(image).numpy().xy, detector.spec.size)


# -------------------------------------------------------------------------------------------------------- the answer


def contrasts_of(rows: Sequence[Row]) -> list[Contrast]:
    """Holds losses against L1 from the same start, transfer against random of the same loss, the best against no teacher."""
    by_kind = {(kind["loss"], kind["start"]): row for row in rows for kind in [kind_of(row.variant.label)]}
    pairs = []
    for (loss, start), row in by_kind.items():
        if loss not in ("L1", "none"):
            pairs.append((row, by_kind.get(("L1", start)), MEASURES[0]))
    for (loss, start), row in by_kind.items():
        if start == "transfer":
            pairs.append((row, by_kind.get((loss, "random")), MEASURES[0]))
    taught = [row for row in rows if row.name != CONTROL]
    if taught:
        pairs += [(taught[0], by_kind.get(("none", "random")), measure) for measure in (MEASURES[0], NME)]
    contrasts = [results.contrast(row, other, measure) for row, other, measure in pairs if other is not None]
    order = {row.name: i for i, row in enumerate(rows)}
    return sorted((each for each in contrasts if each is not None), key=lambda each: order[each.name])


def answer(rows: Sequence[Row], contrasts: Sequence[Contrast]) -> list[str]:
    """Says which loss and start bring the student nearest, and what each difference is worth: sentences."""
    best = next((row for row in rows if row.name != CONTROL and row.spread(DISTANCE) is not None), None)
    spread = None if best is None else best.spread(DISTANCE)
    if best is None or spread is None:
        return ["No run with the teacher has finished."]
    share = 100 * spread.mean / max(best.variant.size)
    line = f"Nearest to its teacher: {best.name} weights, {spread.mean:.2f} px ({share:.2f} % of the side)."
    return [line, *(f"{contrast.words}." for contrast in contrasts)]


def _comparison(
    asked: Study,
    teacher: Teacher,
    shared: Shared,
    size: Size,
    variants: Sequence[Variant],
    failures: dict[str, str],
    notes: Sequence[str],
) -> Comparison:
    crops = held_out(shared, size)
    of_teacher = teacher_row(shared, teacher, crops, size)
    rows = results.ranked([row_of(variant, shared, teacher, crops) for variant in variants], MEASURES[0])
    contrasts = contrasts_of(rows)
    nme = of_teacher.spread("nme")
    return Comparison(
        title=f"{asked.student} taught by {teacher.detector.spec.backbone}",
        answer=answer(rows, contrasts),
        notes=[*_notes(rows, crops), *notes],
        measures=MEASURES,
        rows=rows,
        contrasts=contrasts,
        failures=failures,
        about={
            "teacher": str(asked.teacher),
            "student": asked.student,
            "data": str(asked.data),
            "held_out_crops": crops.count,
            "of_teacher": {
                "parameters": of_teacher.cost.static.parameters,
                "alone": dict(of_teacher.scores.figures[0]),
                **({} if nme is None else {"nme": finite(nme.mean)}),
            },
            "used": shared.material.said,
        },
        taught=Taught(
            teacher=of_teacher,
            skeleton=teacher.detector.spec.skeleton,
            count=crops.count,
            shown=crops.shown,
            shown_rows=crops.shown_rows,
        ),
    )


def _notes(rows: Sequence[Row], crops: HeldOut) -> list[str]:
    lines = [f"{DISTANCE}: {MEANINGS[DISTANCE]}."]
    if any(row.spread(DISTANCE) is None for row in rows):
        lines.append(
            f"The student {CONTROL} found points of its own: they need not mark what the teacher's do, so their distance to "
            "them means nothing and is not given. What can be compared is under Without comparing."
        )
    lines.append(
        f"Held-out crops also chose each run's best epoch. Intervals are over the {crops.count} crops; those of one clip are "
        "alike, so that they are too narrow for what other clips would say."
    )
    if all(len(row.variant.runs) == 1 for row in rows):
        lines.append("One seed each: how much another seed changes is not known. --seeds 3 says.")
    return lines
