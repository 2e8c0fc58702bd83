"""What `fiducial distill --study` trains: losses x initialisations x seeds, and the same student without the teacher,
each cell a run of `fiducial distill`.

    OUT/study.json            what is trained; a study is continued by the same one, or with losses, seeds or an
                              initialisation added
    OUT/pretrained/           the supervised run that transfer begins with, where the study makes it itself
    OUT/teacher, OUT/frames   what all runs share"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fiducial import config, files
from fiducial.comparison import cells
from fiducial.comparison.cells import Cell, Plan, recipe_arguments
from fiducial.comparison.methods import fit_command
from fiducial.data import annotations
from fiducial.data.source import Source
from fiducial.distillation import TAUGHT, DistillationRecipe, Teacher
from fiducial.distillation import recipe_of as recipe_of_run
from fiducial.errors import UserError
from fiducial.models import detector as detectors
from fiducial.training import recipes

FILE = "study.json"
CONTROL = "without the teacher"
STARTS = {"random": "random", "transfer": "transferred"}  # where weights come from: in names of folders, in words


@dataclass(frozen=True, kw_only=True)
class Study:
    """What the command line asks for."""

    teacher: Path
    data: Source
    student: str  # a backbone
    losses: tuple[str, ...] | None = None  # None = all that the pair can have
    seeds: int = 3
    first_seed: int = 0
    transfer: Path | None = None  # weights to start from
    pretrain_on: Path | None = None  # or a labelled set to get them from
    method: str | None = None  # None = the teacher's
    options: Mapping[str, Any] = field(default_factory=dict)  # of every run, as `distill` has them: {"epochs": 60}
    settings: tuple[str, ...] = ()  # of every run: `--set`s

    @property
    def transfers(self) -> bool:
        return self.transfer is not None or self.pretrain_on is not None


def losses_of(text: str | None) -> tuple[str, ...] | None:
    """Reads `L1,KL`; None = all that the pair can have."""
    if text is None:
        return None
    losses = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    wrong = [loss for loss in losses if loss not in TAUGHT]
    if wrong or not losses:
        raise UserError(f"--losses {text!r}: expected some of {', '.join(TAUGHT)}, separated by commas")
    return losses


def plan_of(study: Study, teacher: Teacher, losses: Sequence[str], out: Path, *, with_control: bool) -> Plan:
    """Combines losses and starts, seed by seed, so that a study that is stopped has all kinds."""
    planned = []
    for seed in range(study.first_seed, study.first_seed + study.seeds):
        for loss in losses:
            for start in STARTS if study.transfers else ["random"]:
                planned.append(_cell(study, teacher, loss, start, seed, out))
        planned += [_cell(study, teacher, "none", "random", seed, out)] if with_control else []
    fixed = {
        "teacher": teacher.fingerprint,
        "student": study.student,
        "method": study.method,
        "transfer": None if study.transfer is None else str(study.transfer.resolve()),
        "pretrain_on": None if study.pretrain_on is None else str(study.pretrain_on.resolve()),
    }
    return Plan(
        data=study.data,
        cells=tuple(planned),
        fixed=fixed,
        what="study",
        file=FILE,
        all_stay=False,
    )


def recipe_of(
    study: Study, teacher: Teacher, loss: str, *, init: Path | None = None, seed: int = 0
) -> DistillationRecipe:
    """Gives the recipe of one run: fp32 unless asked otherwise, as none is to be compared with another one's rounding."""
    precision = [] if any(setting.startswith("precision=") for setting in study.settings) else ["precision=fp32"]
    options = {**study.options, "init": None if init is None else str(init), "seed": seed}
    settings = ["pretrained=no", *precision, *study.settings]
    return recipe_of_run(teacher, study.student, loss, study.method, options, settings)


def kind_of(label: str) -> dict[str, str]:
    """Takes a cell's label apart: its loss, and where its weights come from."""
    if label == CONTROL:
        return {"loss": "none", "start": "random"}
    loss, _, words = label.partition(", ")
    return {"loss": loss, "start": next(start for start, word in STARTS.items() if word == words)}


def pretraining_of(study: Study, teacher: Teacher) -> Cell:
    """Makes the run that teaches the student's backbone by labels: only the backbone is taken from it."""
    assert study.pretrain_on is not None
    usual = recipe_of(study, teacher, "L1")
    options = {name: value for name, value in study.options.items() if name in ("epochs", "batch_size")}
    options |= {
        "method": "heatmap" if teacher.detector.head.learns_without_labels else usual.method,
        "backbone": study.student,
        "size": str(usual.size),
        "seed": study.first_seed,
        "pretrained": "no",
        "preflight": False,
    }
    # The others are about the student's head, or about what it learns from.
    of_student = ("head.", "distillation.", "motion.", "padding", "augment.", "optimizer.")
    settings = [setting for setting in study.settings if not setting.startswith(of_student)]
    recipe = recipes.changed(recipes.default(), options, settings)
    command = fit_command(Source(study.pretrain_on), recipe)
    return Cell(label="pretrained", recipe=recipe, folder="pretrained", command=command)


def keep(out: Path, study: Study, teacher: Teacher, plan: Plan) -> None:
    """Writes OUT/study.json; UserError where another study was begun there, unless this one only adds to it."""
    path = out / FILE
    if path.exists():
        then = files.read_json(path)
        if isinstance(then, dict) and "options" in then:
            with files.ours(path):
                whole = _with_cells(then, out, study, teacher, plan)
            config.write_json(path, whole)
    elif (out / "recipe.json").exists():
        raise UserError(f"{out}: holds a run, not a study; give another --out")
    cells.keep(out, plan)


def refuse_useless_weights(study: Study) -> None:
    """Raises UserError before hours are spent on the runs that need no weights."""
    if study.pretrain_on is not None:
        annotations.find(study.pretrain_on)  # raises where there are no labels
    if study.transfer is None:
        return
    if not study.transfer.exists():
        raise UserError(f"--transfer {study.transfer}: no such file or folder")
    if study.transfer.is_dir():
        backbone = detectors.load_card(study.transfer).spec.backbone
        if backbone != study.student.replace("-", "_"):
            raise UserError(
                f"--transfer {study.transfer}: is of backbone {backbone!r}; expected the student's, {study.student!r}"
            )


def link(out: Path, folder: Path) -> None:
    """Puts what is shared into a run's folder; where links can't be made, the run makes its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in [path.name for path in out.iterdir() if path.name == "teacher" or path.name.startswith("frames")]:
        if not (folder / name).exists():
            try:
                (folder / name).symlink_to(os.path.relpath(out / name, folder), target_is_directory=True)
            except OSError:
                return


def _cell(study: Study, teacher: Teacher, loss: str, start: str, seed: int, out: Path) -> Cell:
    init = study.transfer or out / "pretrained" if start == "transfer" else None
    recipe = recipe_of(study, teacher, loss, init=init, seed=seed)
    usual = recipe_of_run(teacher, study.student, loss, study.method, {"init": recipe.init}, [])
    command = (
        *("distill", "--teacher", str(study.teacher), str(study.data), "--student", study.student, "--loss", loss),
        *(["--init", recipe.init] if recipe.init is not None else []),
        *recipe_arguments(recipe, usual),
        *study.data.options(),
    )
    label, name = (CONTROL, "without_teacher") if loss == "none" else (f"{loss}, {STARTS[start]}", f"{loss}-{start}")
    return Cell(label=label, recipe=recipe, folder=f"runs/{name}-s{seed}", command=command)


def _with_cells(then: dict[str, Any], out: Path, study: Study, teacher: Teacher, plan: Plan) -> dict[str, Any]:
    """A study.json that was written before cells had recipes: it has the options as text."""
    texts = {name.replace("-", "_"): value for name, value in then.pop("options").items()}
    options = {name: int(value) if value.isdigit() else value for name, value in texts.items()}
    before = replace(study, student=then["student"], method=then["method"], options=options)
    before = replace(before, settings=tuple(then.pop("settings")))
    losses = list(dict.fromkeys(kind_of(cell.label)["loss"] for cell in plan.cells))
    planned = plan_of(before, teacher, [loss for loss in losses if loss != "none"], out, with_control="none" in losses)
    return {**then, "images": plan.written()["images"], "cells": planned.written()["cells"]}
