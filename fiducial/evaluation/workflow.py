"""`fiducial evaluate`: a saved model on a split of labelled data, in numbers and, if wanted, on a page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from fiducial import config
from fiducial.data import annotations
from fiducial.errors import UserError
from fiducial.evaluation import detector_report, evaluate
from fiducial.models import detector as detectors


def evaluate_model(
    model: Path,
    data: Path,
    split: str,
    *,
    images: Path | None = None,
    category: str | None = None,
    strict: bool = False,
    flip_test: bool = False,
    box_jitter: float = 0.0,
    report: Path | None = None,
    sigmas: tuple[float, ...] | None = None,
) -> dict[str, Any]:
    """What the command prints and `--json` writes, with the lines about what was skipped as `problems`."""
    card = detectors.load_card(model)
    instances, problems = annotations.load(data, split, images=images, category=category, strict=strict)
    instances = evaluate.match_points(instances, card.spec.skeleton.points, str(data))
    if sigmas is not None:
        instances = replace(instances, skeleton=replace(instances.skeleton, sigmas=sigmas))
    detector, _ = detectors.load(model, evaluate.device_name())
    evaluation = evaluate.evaluate_detector(detector, instances, flip_test=flip_test, box_jitter=box_jitter)
    lines = [str(problem) for problem in problems] + list(evaluation.problems)
    if strict and evaluation.problems:
        raise UserError(f"{len(evaluation.problems)} pictures can't be read, first {evaluation.problems[0]}")
    summary = evaluate.summary_of(evaluation, model=str(model), data=str(data), split=split)
    if report is not None:
        recipe = config.read_json(model / "recipe.json")["recipe"] if (model / "recipe.json").exists() else {}
        page = detector_report.report_of(
            evaluation, detector, title=f"{model.name} on {split} of {data.name}", data=str(data), split=split,
            recipe=recipe, problems=lines,
        )  # fmt: skip
        detector_report.write(report, page)
    return {**summary, "problems": lines}
