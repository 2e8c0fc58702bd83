"""`fiducial fit`: a recipe and labelled data in, a run folder out.

    RUN/recipe.json        everything that was chosen, "auto" resolved
    RUN/history.csv        one row an epoch; RUN/tensorboard for TensorBoard
    RUN/checkpoints/       last.ckpt to resume from, best.ckpt by val NME
    RUN/model.safetensors, RUN/model.json      the best weights (averaged) and their card

Everything random is a function of the seed, the epoch and the sample, so a run that was killed and resumed ends
with the weights, bit by bit, of one that was not."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from fiducial import config, files
from fiducial.card import Card, DetectorSpec
from fiducial.data import annotations, augment, loading
from fiducial.data.augment import AugmentSpec
from fiducial.errors import UserError
from fiducial.models import detector as detectors
from fiducial.models.detector import Detector
from fiducial.training import engine, preflight
from fiducial.training.module import PointErrors
from fiducial.training.objective import Objective, Supervised
from fiducial.training.recipe import Recipe
from fiducial.training.watch import CollapseWatch
from fiducial.training.work import Work
from fiducial.types import Batch, Instances, Problem, Skeleton

Echo = Callable[[str], None]


@dataclass(frozen=True)
class Data:
    """The labelled data of a run."""

    train: Instances
    validation: Instances
    problems: list[Problem]

    @property
    def fingerprint(self) -> str:
        """Changes with any label, so that a resumed run can tell that its data are those it began with."""
        digest = hashlib.sha256()
        for part in (self.train, self.validation):
            for data in part.label_bytes():
                digest.update(data)
        return digest.hexdigest()[:16]


def load_data(path: Path, recipe: Recipe, *, images: Path | None = None, category: str | None = None) -> Data:
    """train and val of `path`. Crowds and instances without any labelled point are left out of both."""
    parts, problems = [], []
    for split in ("train", "val"):
        part, wrong = annotations.load(path, split, images, category=category, strict=recipe.strict)
        part = part if recipe.points is None else part.pick_points(recipe.points)
        part = part.select(part.labelled.any(1) & ~part.crowd)
        if len(part) == 0:
            raise UserError(f"{path}: split {split!r} has no instance with a labelled point")
        parts.append(part)
        problems += wrong
    train, validation = parts
    if train.skeleton.points != validation.skeleton.points:
        raise UserError(
            f"{path}: train has {len(train.skeleton.points)} points and val {len(validation.skeleton.points)}, "
            "or they differ in names; both splits must have the same points in the same order"
        )
    return Data(train, validation, problems)


def fit(
    data: Data,
    out: Path,
    recipe: Recipe,
    *,
    resume: bool = False,
    devices: int = 1,
    progress: bool = False,
    echo: Echo = print,
) -> Card:
    """Trains and writes the run folder; returns the card of the best model. Raises TrainingFailure where training
    would be worth nothing, UserError for a user's mistake."""
    first = int(os.environ.get("LOCAL_RANK", "0")) == 0  # further processes of a run on several devices start here too
    if resume or not first:
        recipe = resumed_recipe(out, recipe if first else None, data.fingerprint)
    else:
        refuse_other_run(out)
    augment.flip_probability(
        recipe.augment, data.train.skeleton
    )  # refuses to mirror what can't be, before anything is made
    torch.manual_seed(recipe.seed)
    detector, initialization = build_detector(recipe, data, echo if first else lambda line: None)
    objective = Supervised(detector)
    if first and not resume:
        recipe = _settle(recipe, objective, data, devices, echo)
        out.mkdir(parents=True, exist_ok=True)
        config.write_json(out / "recipe.json", {"recipe": recipe, "data": data.fingerprint})
    work = supervised_work(objective, data, recipe)
    best = engine.run(work, recipe, out, resume=resume, devices=devices, progress=progress, echo=echo)
    metrics = {"val": best.metrics, "epoch": best.epoch, "seed": recipe.seed, "train_instances": len(data.train)}
    card = Card(detector.spec, detector.backbone.licence, initialization, metrics)
    if best.is_main_process:
        objective.load_state_dict(best.weights)
        detectors.save(detector.eval(), out, card)
    return card


def supervised_work(objective: Supervised, data: Data, recipe: Recipe) -> Work:
    """Labelled crops, scored by the error of their points."""
    settings: dict[str, Any] = {"padding": recipe.padding, "workers": engine.worker_count(recipe)}

    def train_loader(rank: int, world: int) -> DataLoader:
        return loading.loader(
            data.train, recipe.size, recipe.batch_size, recipe.augment,
            seed=recipe.seed, rank=rank, world=world, strict=recipe.strict, **settings,
        )  # fmt: skip

    def validation_loader() -> DataLoader:
        return loading.loader(data.validation, recipe.size, recipe.batch_size, None, **settings)

    return Work(
        objective, len(data.train), train_loader, validation_loader, PointErrors(data.validation), data.train.where,
        watches=(CollapseWatch(),),
    )  # fmt: skip


def build_detector(recipe: Recipe, data: Data, echo: Echo) -> tuple[Detector, str]:
    """An untrained detector for the data's points, and where its weights came from."""
    return detector_of(recipe, data.train.skeleton, echo)


def detector_of(recipe: Recipe, skeleton: Skeleton, echo: Echo) -> tuple[Detector, str]:
    """An untrained detector for a skeleton, and where its weights came from."""
    spec = DetectorSpec(recipe.backbone, recipe.method, recipe.head, recipe.size, skeleton, padding=recipe.padding)
    if recipe.init is None:
        detector = detectors.build(spec, recipe.pretrained)
        return detector, detector.backbone.initialization
    detector = detectors.build(spec, "no")
    echo(detectors.initialise_from(detector, Path(recipe.init)))
    return detector, str(recipe.init)


def _settle(recipe: Recipe, objective: Supervised, data: Data, devices: int, echo: Echo) -> Recipe:
    """Checks that the network can learn the data, and replaces every "auto" by what is fastest or best here."""
    device = engine.pick_device()
    plain = AugmentSpec.none()
    probe = next(iter(loading.loader(data.train, recipe.size, recipe.batch_size, plain, padding=recipe.padding)))
    if recipe.preflight:
        few = Batch(*(column[:8] for column in probe))
        lr = 1e-3 if recipe.optimizer.lr == "auto" else min(float(recipe.optimizer.lr), 3e-3)
        echo(preflight.overfit(objective, few, data.train, lr=lr, device=device))
    recipe = with_fastest_step(recipe, objective, probe, device, echo)
    if recipe.optimizer.lr == "auto":
        lr = engine.find_lr(supervised_work(objective, data, recipe), recipe)
        echo(f"learning rate found: {lr:.2g}")
        recipe = replace(recipe, optimizer=replace(recipe.optimizer, lr=lr))
    return recipe


def with_fastest_step(recipe: Recipe, objective: Objective, probe: Any, device: torch.device, echo: Echo) -> Recipe:
    """The recipe with precision and memory format that were timed where they are "auto"; `probe` is a batch."""
    precisions = ["fp32", "bf16"] if recipe.precision == "auto" else [recipe.precision]
    formats = ["channels_last", "contiguous"] if recipe.memory_format == "auto" else [recipe.memory_format]
    variants = [(precision, layout) for precision in precisions for layout in formats]
    if len(variants) > 1:
        (precision, layout), seconds = preflight.fastest_variant(objective, probe, device, variants)
        table = ", ".join(f"{p} {f} {value * 1e3:.0f}" for (p, f), value in seconds.items())
        echo(f"fastest step: {precision} {layout} (ms a step: {table})")
        recipe = replace(recipe, precision=precision, memory_format=layout)  # type: ignore[arg-type]
    return recipe


def refuse_other_run(out: Path) -> None:
    """UserError where a folder holds a run already."""
    if (out / "model.json").exists() or (out / "checkpoints").exists():
        raise UserError(f"{out}: holds a run already. Give another --out, or --resume to continue it")


def resumed_recipe(out: Path, asked: Recipe | None, fingerprint: str) -> Recipe:
    """The recipe that the run began with; refused where what is asked for now, or the data, differ from it."""
    path = out / "recipe.json"
    if not path.exists():
        raise UserError(f"{out}: no run to resume (no recipe.json). Start it without --resume")
    values = files.read_json(path)
    recipe = config.from_dict(Recipe, values["recipe"], str(path))
    if asked is not None:
        now, then = (config.flat(config.to_dict(some)) for some in (asked, recipe))
        differing = [
            f"{name} was {then.get(name)} and is now {now.get(name)}"
            for name in {**then, **now}
            if now.get(name) != then.get(name) and now.get(name) != "auto" and name not in ("workers", "preflight")
        ]
        if differing:
            raise UserError(f"{out}: a run is resumed as it began, but {'; '.join(differing)}")
    if values["data"] != fingerprint:
        raise UserError(f"{out}: the data differ from those that the run began with; resume with the same files")
    return recipe
