"""Whole jobs, as the command line offers them: fit with its report, and the demo."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from fiducial import config, files
from fiducial.drawnfaces import procedural_faces
from fiducial.evaluation import evaluate
from fiducial.geometry import Size
from fiducial.models import detector as detectors
from fiducial.motion import fit as motion_fitting
from fiducial.motion import report as motion_report
from fiducial.report import detector_report
from fiducial.report.run_page import files_of
from fiducial.training import fit as fitting
from fiducial.training import recipes
from fiducial.training.recipe import OptimizerSpec, Recipe
from fiducial.types import Instances, Problem

Echo = Callable[[str], None]


def fit_and_report(
    path: Path,
    out: Path,
    recipe: Recipe,
    *,
    resume: bool = False,
    devices: int = 1,
    images: Path | None = None,
    category: str | None = None,
    progress: bool = False,
    echo: Echo = print,
) -> dict[str, Any] | None:
    """Trains, then scores the best weights on val, or on the clips that were held out, and writes RUN/report.html. None
    in the helper processes of a run on several devices."""
    options: dict[str, Any] = {"resume": resume, "devices": devices, "progress": progress, "echo": echo}
    if recipes.learns_without_labels(recipe.method):
        _, clips = motion_fitting.fit(path, out, recipe, images=images, category=category, **options)
        if not is_main():
            return None
        _write_problems(out, clips.problems)
        objective = motion_fitting.load(out, evaluate.device_name())
        settled = motion_fitting.recipe_of(out)
        return motion_report.write(out, settled, clips, objective, data=str(path))
    data = fitting.load_data(path, recipe, images=images, category=category)
    for problem in data.problems[:10] if is_main() else []:
        echo(str(problem))
    if len(data.problems) > 10 and is_main():
        echo(f".. and {len(data.problems) - 10} more, all in {out / 'problems.txt'}")
    fitting.fit(data, out, recipe, **options)
    if not is_main():
        return None
    _write_problems(out, data.problems)
    return _report_of_run(out, data.validation, "val", str(path), [str(problem) for problem in data.problems])


def demo(
    out: Path, *, epochs: int | None = None, seed: int = 0, progress: bool = False, echo: Echo = print
) -> dict[str, Any]:
    """Drawn faces in, a report out: train, choose by val, score on test, which no step has seen."""
    size = Size(128, 128)
    train, validation, test = (
        procedural_faces(count, seed + offset, size)
        for count, offset in ((DEMO_TRAIN, 0), (200, 10_000), (300, 20_000))
    )
    recipe = replace(demo_recipe(), seed=seed, epochs=epochs or demo_recipe().epochs)
    echo(f"{len(train)} drawn faces to train on, {len(validation)} for choosing, {len(test)} for the test")
    fitting.fit(fitting.Data(train, validation, []), out, recipe, progress=progress, echo=echo)
    return _report_of_run(out, test, "test", "drawn faces", [])


DEMO_TRAIN = 2000


def demo_recipe() -> Recipe:
    """What the demo trains: minutes on two cores."""
    return Recipe(
        pretrained="no", epochs=12, batch_size=32, size=Size(128, 128), padding=1.15, optimizer=OptimizerSpec(lr=4e-3)
    )


def is_main() -> bool:
    """Not one of the further processes that a run on several devices starts."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0


def _report_of_run(out: Path, truth: Instances, split: str, data: str, problems: list[str]) -> dict[str, Any]:
    """Scores RUN's model, writes metrics.json and report.html, and says where they are."""
    detector, card = detectors.load(out, evaluate.device_name())
    evaluation = evaluate.evaluate_detector(detector, truth)
    summary = evaluate.summary_of(evaluation, model=str(out), data=data, split=split)
    config.write_json(out / "metrics.json", summary)
    detector_report.write(
        out / "report.html",
        evaluation,
        detector_report.about_detector(detector, card, evaluation),
        folder=out,
        title=f"{detector.spec.method} on {detector.spec.backbone}: {out.name}",
        data=data,
        split=split,
        problems=[*problems, *evaluation.problems],
    )
    return {**summary, "files": files_of(out)}


def _write_problems(out: Path, problems: list[Problem]) -> None:
    if problems:
        files.write_text(out / "problems.txt", "".join(f"{problem}\n" for problem in problems))
