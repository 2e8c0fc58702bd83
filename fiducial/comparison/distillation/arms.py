"""What is tried: losses x initialisations x seeds, and the same student without the teacher. Each is one `fiducial distill`:

    OUT/runs/<arm>/         its run folder, and log.txt
    OUT/pretrained/         the supervised run that transfer begins with, where the study makes it itself
    OUT/teacher, OUT/frames what all runs share

An arm is finished when its folder has a model; one that has a recipe was begun and is resumed exactly."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fiducial import config, files
from fiducial.comparison.processes import Task
from fiducial.comparison.run import is_finished
from fiducial.data import annotations
from fiducial.distill.spec import TAUGHT
from fiducial.errors import UserError
from fiducial.models import detector as detectors

Start = Literal["random", "transfer"]


@dataclass(frozen=True)
class Arm:
    """One run."""

    loss: str  # "none" = without the teacher
    start: Start
    seed: int

    @property
    def kind(self) -> str:
        """What all seeds of it have in common, for people."""
        if self.loss == "none":
            return "without the teacher"
        return f"{self.loss}, {'random' if self.start == 'random' else 'transferred'}"

    @property
    def name(self) -> str:
        """Of its folder."""
        return ("without_teacher" if self.loss == "none" else f"{self.loss}-{self.start}") + f"-s{self.seed}"


@dataclass(frozen=True)
class Study:
    """Everything that decides what is trained. A study is continued by the same or a larger one."""

    teacher: Path
    data: Path
    student: str
    losses: tuple[str, ...]
    seeds: int
    transfer: Path | None = None  # weights to start from
    pretrain_on: Path | None = None  # or a labelled set to get them from
    method: str | None = None
    options: tuple[tuple[str, str], ...] = ()  # of every run: ("epochs", "60"), ..
    settings: tuple[str, ...] = ()
    images: Path | None = None
    category: str | None = None
    first_seed: int = 0

    @property
    def transfers(self) -> bool:
        return self.transfer is not None or self.pretrain_on is not None

    def arms(self, with_control: bool) -> list[Arm]:
        """Seed by seed, so that a study that is stopped has all kinds."""
        starts: list[Start] = ["random", "transfer"] if self.transfers else ["random"]
        found = []
        for seed in range(self.first_seed, self.first_seed + self.seeds):
            found += [Arm(loss, start, seed) for loss in self.losses for start in starts]
            found += [Arm("none", "random", seed)] if with_control else []
        return found

    def written(self, fingerprint: str) -> dict[str, Any]:
        """As study.json has it: what must stay the same."""
        return {
            "teacher": fingerprint, "data": str(self.data.resolve()), "student": self.student, "method": self.method,
            "options": dict(self.options), "settings": list(self.settings), "category": self.category,
            "transfer": None if self.transfer is None else str(self.transfer.resolve()),
            "pretrain_on": None if self.pretrain_on is None else str(self.pretrain_on.resolve()),
            "first_seed": self.first_seed,
        }  # fmt: skip


def losses_of(text: str | None) -> tuple[str, ...] | None:
    """`L1,KL`; None = all that the pair can have."""
    if text is None:
        return None
    losses = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    wrong = [loss for loss in losses if loss not in TAUGHT]
    if wrong or not losses:
        raise UserError(f"--losses {text!r}: expected some of {', '.join(TAUGHT)}, separated by commas")
    return losses


def keep(out: Path, study: Study, fingerprint: str) -> None:
    """Writes OUT/study.json; refused where another study was begun there, unless this one only adds to it."""
    path, now = out / "study.json", study.written(fingerprint)
    if path.exists():
        then = files.read_json(path)
        differing = [
            f"{name} was {_words(then.get(name))} and is now {_words(value)}"
            for name, value in now.items()
            if then.get(name) != value and not (name in ("transfer", "pretrain_on") and then.get(name) is None)
        ]
        if differing:
            raise UserError(
                f"{out}: holds another study: {'; '.join(differing[:4])}. Losses, seeds and an initialisation may be added; "
                "for anything else give another --out"
            )
    elif (out / "recipe.json").exists():
        raise UserError(f"{out}: holds a run, not a study; give another --out")
    config.write_json(path, now)


def refuse_useless_weights(study: Study) -> None:
    """Before hours are spent on the other arms."""
    if study.pretrain_on is not None:
        annotations.find(study.pretrain_on)  # raises where there are no labels
    if study.transfer is None:
        return
    if not study.transfer.exists():
        raise UserError(f"--transfer {study.transfer}: no such file or folder")
    if study.transfer.is_dir():
        own = detectors.load_card(study.transfer).spec.backbone
        if own != study.student.replace("-", "_"):
            raise UserError(
                f"--transfer {study.transfer}: is of backbone {own!r}; expected the student's, {study.student!r}"
            )


def folder_of(out: Path, arm: Arm) -> Path:
    return out / "runs" / arm.name


def task_of(study: Study, out: Path, arm: Arm) -> Task:
    """The arm's command; resumed where it was begun."""
    folder = folder_of(out, arm)
    weights = study.transfer or out / "pretrained"
    arguments = [
        "distill", "--teacher", str(study.teacher), str(study.data), "--student", study.student, "--loss", arm.loss,
        "--out", str(folder), "--seed", str(arm.seed), *(["--method", study.method] if study.method else []),
        *(["--init", str(weights)] if arm.start == "transfer" else []),
        *_common(study, study.settings),
        *(["--images", str(study.images)] if study.images else []),
        *(["--category", study.category] if study.category else []),
    ]  # fmt: skip
    if (folder / "recipe.json").exists():
        arguments.append("--resume")
    return Task(arm.name, folder, tuple(arguments))


def pretraining_of(study: Study, out: Path, size: str, method: str) -> Task:
    """The student's backbone taught by labels, with the method's usual head: only the backbone is taken from it."""
    options = dict(study.options)
    folder = out / "pretrained"
    arguments = [
        "fit", str(study.pretrain_on), "--out", str(folder), "--method", method, "--backbone", study.student,
        "--size", options.pop("size", size), "--seed", str(study.first_seed), "--pretrained", "no",
        "--no-preflight",
        *(part for name in ("epochs", "batch-size") if name in options for part in (f"--{name}", options[name])),
        *(part for setting in _of_any_run(study.settings) for part in ("--set", setting)),
        *(["--resume"] if (folder / "recipe.json").exists() else []),
    ]  # fmt: skip
    return Task("pretrained", folder, tuple(arguments))


def link(out: Path, folder: Path) -> None:
    """What is shared, into an arm's folder; where links can't be made, the arm makes its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in [path.name for path in out.iterdir() if path.name == "teacher" or path.name.startswith("frames")]:
        if not (folder / name).exists():
            try:
                (folder / name).symlink_to(os.path.relpath(out / name, folder), target_is_directory=True)
            except OSError:
                return


def unfinished(out: Path, arms: Sequence[Arm]) -> list[Arm]:
    return [arm for arm in arms if not is_finished(folder_of(out, arm))]


def _common(study: Study, settings: Sequence[str]) -> list[str]:
    """Of every arm. fp32 unless asked otherwise: none is to be compared with another one's rounding."""
    usual = [] if any(setting.startswith("precision=") for setting in settings) else ["precision=fp32"]
    every = ["pretrained=no", *usual, *settings]
    return [*(part for name, value in study.options for part in (f"--{name}", value)),
            *(part for setting in every for part in ("--set", setting))]  # fmt: skip


def _of_any_run(settings: Sequence[str]) -> list[str]:
    """Those that say nothing of the student's head or of what it learns from."""
    own = ("head.", "distillation.", "motion.", "padding", "augment.", "optimizer.")
    return [setting for setting in settings if not setting.startswith(own)]


def _words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
