"""Taught by labels: `fiducial fit DATA`, a recipe and labelled data in, a run folder out (see `run`). Images without labels
may be learnt from beside them (see `unlabelled`)."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from fiducial import config
from fiducial.card import BOX_SHARE, Card, DetectorSpec
from fiducial.checks import bare_points
from fiducial.data import annotations, augment, loading, sampling
from fiducial.data.augment import AugmentSpec
from fiducial.data.facts import Facts, facts_of
from fiducial.data.source import Source
from fiducial.errors import UserError
from fiducial.evaluation import evaluate, floor, spread
from fiducial.log import logger, muted
from fiducial.models import catalog, packaged_weights
from fiducial.models import detector as detectors
from fiducial.models.detector import Detector
from fiducial.report import detector_report
from fiducial.report.run_page import files_of
from fiducial.training import exported_weights, label_check, left_out, plan, preflight, run, unlabelled
from fiducial.training.device import worker_count
from fiducial.training.history import ToBeat
from fiducial.training.nodes import Devices
from fiducial.training.objective import Supervised
from fiducial.training.pace import Pace, pace_of
from fiducial.training.plan import Choice
from fiducial.training.recipe import Recipe
from fiducial.training.scoring import PointErrors
from fiducial.training.unlabelled import Calibration, SelfTaught
from fiducial.training.work import Outcome, Prepare, Rival, Work
from fiducial.types import NOTE, Batch, Instances, Problem, Skeleton

if TYPE_CHECKING:  # Lightning
    from fiducial.training.watch import Teaching

MOST_CALIBRATED = 2000  # instances of val: more would not tell more
PREFLIGHT_SECONDS = 30.0  # with those of timing steps less than a minute, before training starts


@dataclass(frozen=True)
class Data:
    """The data of a run."""

    train: Instances
    validation: Instances
    problems: list[Problem]
    # val with crowds and instances without points, which evaluation ignores but must know; None: as `validation`.
    whole_validation: Instances | None = None
    unlabelled: Instances | None = None  # of the same points, none of them labelled; None: labels alone are learnt from
    by_people: Instances | None = (
        None  # train as people have labelled it, where a teacher labels it too; None: train is
    )

    @property
    def parts(self) -> tuple[Instances, ...]:
        """Lists what is learnt from and what an epoch is chosen by."""
        return (self.train, self.validation, *([] if self.unlabelled is None else [self.unlabelled]))

    @property
    def true_labels(self) -> Instances | None:
        """Gives what people have labelled of train; None where that is nothing."""
        true = self.train if self.by_people is None else self.by_people
        return true if len(true) else None

    @property
    def licences(self) -> tuple[str, ...]:
        """Lists the licences that the data state."""
        return tuple(dict.fromkeys(licence for part in self.parts for licence in part.licences))

    @property
    def fingerprint(self) -> str:
        """Changes with any label, so that a resumed run can tell that its data are those it began with."""
        digest = hashlib.sha256()
        for part in self.parts:
            for data in part.label_bytes():
                digest.update(data)
        return digest.hexdigest()[:16]


def load_data(data: Source | Path, recipe: Recipe, *, unlabelled: bool = False) -> Data:
    """train and val of `data`. Crowds and instances without any labelled point are left out of both; `unlabelled`: those of
    train that have a box stay."""
    parts, problems, whole = [], [], None
    for split in ("train", "val"):
        stays = unlabelled and split == "train"
        ignored = split == "val" or stays
        whole, wrong = annotations.load(data, split, strict=recipe.strict, ignored=ignored)
        whole = whole if recipe.points is None else whole.pick_points(recipe.points)
        part = whole.select((whole.labelled.any(1) | stays) & ~whole.crowd)
        if len(part) == 0:
            raise UserError(f"{data}: split {split!r} has no instance with a labelled point")
        parts.append(part)
        problems += wrong
    train, validation = parts
    if train.skeleton.points != validation.skeleton.points:
        raise UserError(
            f"{data}: {differing(train.skeleton, validation.skeleton)}; both splits must have the same points in the same order"
        )
    problems += bare_points_of(train, validation)
    return Data(train, validation, list(dict.fromkeys(problems)), whole)


def differing(train: Skeleton, validation: Skeleton) -> str:
    """Says where two skeletons' points differ first."""
    pairs = enumerate(zip(train.points, validation.points, strict=False), 1)
    for number, (own, other) in pairs:
        if own != other:
            order = " (the same points in another order)" if set(train.points) == set(validation.points) else ""
            return f"point {number} is {own!r} in train and {other!r} in val{order}"
    longer = "train" if len(train.points) > len(validation.points) else "val"
    more = (*train.points[len(validation.points) :], *validation.points[len(train.points) :])
    return f"train has {len(train.points)} points and val {len(validation.points)}: {more[0]!r} is in {longer} alone"


def bare_points_of(train: Instances, validation: Instances) -> list[Problem]:
    """Notes which points no instance of train labels, and which none of val."""
    parts = {"train": train, "val": validation}.items()
    named = [(part, split, names) for split, part in parts if (names := bare_points.bare_points(part))]
    return [Problem(part.source, NOTE, bare_points.told(split, names)) for part, split, names in named]


def fit(
    data: Data,
    out: Path,
    recipe: Recipe,
    *,
    resume: bool = False,
    devices: Devices = Devices(),  # noqa: B008
    progress: bool = False,
) -> Card:
    """Trains and writes the run folder, without a report; returns the card of the best model. Raises TrainingFailure
    where training would be worth nothing, UserError for a user's mistake."""
    outcome, work = run.train(partial(work_of, data), out, recipe, resume=resume, devices=devices, progress=progress)
    return outcome.card if outcome is not None else Card(work.objective.detector.spec)


# Reads images without labels as instances of a skeleton, whose frames may be kept in OUT; a run's recipe, its folder, and
# whether it begins.
Pool = Callable[[Skeleton, Recipe, Path, bool], Instances]


def preparation(source: Source, given: Collection[str] | None = None, pool: Pool | None = None) -> Prepare:
    """Gives what reads the data of `fiducial fit DATA` and makes the work of a run on them. given: the settings that are
    not to be planned; None = all. pool: what gives the unlabelled images of a recipe with `unlabelled`."""

    def prepare(recipe: Recipe, out: Path, begins: bool) -> Work:
        data = load_data(source, recipe)
        return planned_work(data, recipe, out, begins, source=source, given=given, pool=pool)

    return prepare


def planned_work(
    data: Data,
    recipe: Recipe,
    out: Path,
    begins: bool,
    *,
    source: Source | str,
    given: Collection[str] | None,
    pool: Pool | None = None,
) -> Work:
    """Makes the work of a run, planned where it begins; `given` and `pool` as in `preparation`. source: what the data were read
    from, whose test split is looked at, or only what it is called."""
    choices, facts = plan.read(out), None
    if begins:
        splits = {"train": data.train, "val": data.validation}
        true = {
            name: part for name, part in (("train", data.true_labels), ("val", data.validation)) if part is not None
        }
        label_check.look(splits, recipe, source, true)
    if begins and given is not None:
        recipe, choices, facts = planned(data, recipe, given)
    if pool is not None:  # read in the planned size
        more = pool(data.train.skeleton, recipe, out, begins)
        data = with_note(replace(data, unlabelled=more), more, str(source))
    work = work_of(data, recipe, out, begins, source=str(source))
    if facts is not None:
        plan.tell(facts, recipe, choices)
    return replace(work, beside={"plan": choices} if choices else {})


def with_note(data: Data, unlabelled: Instances, source: str) -> Data:
    """Adds to the data's notes that unlabelled images are val's, where some are."""
    said = label_check.note_of_unlabelled(unlabelled, data.validation)
    return data if said is None else replace(data, problems=[Problem(source, NOTE, said), *data.problems])


def planned(data: Data, recipe: Recipe, given: Collection[str]) -> tuple[Recipe, list[Choice], Facts]:
    """Decides by the data and this machine what nobody has `given`."""
    facts = facts_of(data.train)
    along = exported_weights.along(data.train.skeleton) if plan.may_start_along(facts, recipe, given) else None
    start = starting_network(recipe if along is None else replace(recipe, init=along))
    recipe, choices = plan.plan_of(
        facts, recipe, given, partial(pace_here, data), packaged_weights.here(), start, along
    )
    return recipe, choices, facts


def starting_network(recipe: Recipe) -> DetectorSpec | None:
    """Describes the detector of ours whose weights a run starts from; None where there is none, or another project's."""
    source = Path(recipe.init or "")
    if recipe.init is not None and exported_weights.is_exported(source):
        return exported_weights.network_of(source)
    folder = source.parent if source.name == "model.safetensors" else source
    return detectors.load_card(folder).spec if recipe.init and (folder / "model.json").is_file() else None


def told_plan(data: Data, recipe: Recipe, given: Collection[str]) -> dict[str, Any]:
    """Plans, and gives as JSON has it what was found, what was decided and the recipe."""
    catalog.check(recipe.backbone, recipe.method, recipe.head)
    recipe, choices, facts = planned(data, recipe, given)
    plan.tell(facts, recipe, [])
    return {"facts": facts.as_json(), "plan": config.to_dict(choices), "recipe": config.to_dict(recipe)}


def pace_here(data: Data, recipe: Recipe) -> Pace:
    """Measures how fast this machine trains a recipe, without weights from elsewhere, and which precision and memory
    format it leaves open are the fastest."""
    with torch.random.fork_rng(), muted():
        detector, _ = build_detector(replace(recipe, pretrained="no", init=None), data)
    if recipe.unlabelled is None:
        objective = Supervised(detector)
    else:  # labelled crops show how long unlabelled ones take
        data, objective = replace(data, unlabelled=data.train), _self_taught(detector, recipe)
        object.__setattr__(objective, "teacher", copy.deepcopy(detector).eval())
        objective.sure_from, objective.weight = 0.0, 1.0
    loader = train_loader(data, replace(recipe, workers=0), 0, 1)
    return pace_of(objective, loader, len(data.validation), recipe)


def train_loader(
    data: Data, recipe: Recipe, rank: int, world: int, wanted: Callable[[], bool] = lambda: True
) -> DataLoader:
    """Loads what is learnt from; `wanted` says at the begin of an epoch whether unlabelled images are."""
    options: dict[str, Any] = {"workers": worker_count(recipe), "rank": rank, "world": world}
    if data.unlabelled is not None and recipe.unlabelled is not None:
        return unlabelled.loader(data.train, data.unlabelled, recipe, recipe.unlabelled, wanted=wanted, **options)
    return loading.loader(
        data.train,
        recipe.size,
        recipe.batch_size,
        recipe.augment,
        seed=recipe.seed,
        passes=recipe.passes,
        padding=recipe.padding,
        strict=recipe.strict,
        **options,
    )


def work_of(
    data: Data,
    recipe: Recipe,
    out: Path,
    begins: bool,
    *,
    source: str = "",
    reported: tuple[Instances, str] | None = None,
) -> Work:
    """Makes the work of a run on labelled crops, scored by the error of their points. `reported`: the instances, and the
    name of their split, that the report is about [val's]."""
    # Refuses to mirror what can't be, before anything is made.
    augment.flip_probability(recipe.augment, data.train.skeleton)
    from fiducial.training.watch import CollapseWatch

    detector, initialization = build_detector(recipe, data)
    whole = data.validation if data.whole_validation is None else data.whole_validation
    truth, split = reported or (whole, "val")
    ground = floor.floor_of(data.validation, data.true_labels)
    objective, scoring, teaching = _learnt(detector, data, recipe, ground.nme)

    def validation_loader() -> DataLoader:
        settings: dict[str, Any] = {"padding": recipe.padding, "workers": worker_count(recipe)}
        return loading.loader(data.validation, recipe.size, recipe.batch_size, None, **settings)

    def save(out: Path, card: Card) -> None:
        detectors.save(detector, out, card)

    return Work(
        recipe=recipe,
        objective=objective,
        samples=len(data.train),
        passes=recipe.passes,
        train_loader=partial(train_loader, data, recipe, wanted=lambda: teaching is None or teaching.teaches),
        validation_loader=validation_loader,
        scoring=scoring,
        where=data.train.where,
        watches=(CollapseWatch(), *([] if teaching is None else [teaching])),
        preflight=partial(_preflight, Supervised(detector), data, recipe),
        fingerprint=data.fingerprint,
        problems=data.problems,
        initialization=initialization,
        data_licences=data.licences,
        derived_from=origins_of(recipe, detector),
        card_metrics={
            "train_instances": len(data.train),
            **({} if data.unlabelled is None else {"unlabelled_instances": len(data.unlabelled)}),
            **box_share(data.train),
        },
        floor=lambda metrics: ToBeat(ground.nme, f"the mean shape of {'train' if ground.of == 'train' else 'val'}"),
        rival=None if teaching is None else _labels_alone(data, teaching, source),
        calibrate=partial(calibrate, detector, data.validation),
        save=save,
        report=partial(_report, data=data, truth=truth, split=split, source=source, teaching=teaching),
    )


def _labels_alone(data: Data, teaching: Teaching, source: str) -> Rival | None:
    """The same run without the unlabelled images."""
    alone = replace(data, unlabelled=None)
    work = partial(work_of, alone, begins=True, source=source)
    return Rival(lambda: bool(teaching.began), work, teaching.judge) if teaching.spec.control else None


def _learnt(
    detector: Detector, data: Data, recipe: Recipe, ground: float
) -> tuple[Supervised, PointErrors, Teaching | None]:
    """What is minimised, how an epoch is scored, and what decides about unlabelled images, where there are some."""
    if data.unlabelled is None or recipe.unlabelled is None:
        return Supervised(detector), PointErrors(data.validation), None
    if recipe.optimizer.ema_decay == 0:
        raise UserError(
            "optimizer.ema_decay is 0: on unlabelled images the averaged weights teach, and there are none then; give a "
            "number above 0, or leave --unlabelled out"
        )
    from fiducial.training.watch import Teaching

    objective, scoring = _self_taught(detector, recipe), Calibration(data.validation, ground)
    return objective, scoring, Teaching(objective, scoring, recipe.unlabelled, len(data.unlabelled))


def _self_taught(detector: Detector, recipe: Recipe) -> SelfTaught:
    return SelfTaught(detector, mirrors=augment.flip_probability(recipe.augment, detector.spec.skeleton) > 0)


def calibrate(detector: Detector, instances: Instances) -> None:
    """Measures on labelled instances how far the points may be off, and writes it into the detector's spec."""
    some = instances.select(sampling.places(len(instances), MOST_CALIBRATED))
    detector.spec = replace(detector.spec, spread=spread.uncalibrated(len(detector.spec.skeleton.points)))
    found = evaluate.evaluate_detector(detector, some)
    measured = spread.measured_on(found.keypoints, found.instances, found.image_to_crop)
    detector.spec = replace(detector.spec, spread=measured)
    logger.info(spread.line(measured))


def box_share(instances: Instances) -> dict[str, float]:
    """Measures how much of its image an instance takes, for the card; nothing where the images' sizes are not known."""
    image_px = instances.image_size[instances.image_row].astype(np.float64).prod(1)
    shares = instances.box_xywh[:, 2:].astype(np.float64).prod(1)[image_px > 0] / image_px[image_px > 0]
    shares = shares[np.isfinite(shares)]
    return {BOX_SHARE: round(float(np.median(shares)), 4)} if len(shares) else {}


def usual_recipe() -> Recipe:
    """Gives what a method that learns from labels starts from."""
    return Recipe()


def build_detector(recipe: Recipe, data: Data) -> tuple[Detector, str]:
    """An untrained detector for the data's points, and where its weights came from."""
    detector, initialization = detector_of(recipe, data.train.skeleton)
    if recipe.init is not None and exported_weights.is_exported(Path(recipe.init)):
        exported_weights.renormalise(detector, _plain_crops(data, recipe, exported_weights.CROPS).image)
    return detector, initialization


def detector_of(recipe: Recipe, skeleton: Skeleton) -> tuple[Detector, str]:
    """An untrained detector for a skeleton, and where its weights came from."""
    spec = DetectorSpec(recipe.backbone, recipe.method, recipe.head, recipe.size, skeleton, padding=recipe.padding)
    if recipe.init is None:
        detector = detectors.build(spec, recipe.pretrained)
        return detector, detector.backbone.initialization
    detector = detectors.build(spec, "no")
    source = Path(recipe.init)
    plan = exported_weights.plan_of(source) if exported_weights.is_exported(source) else None
    logger.warning(detectors.initialise_from(detector, source, plan))
    return detector, str(recipe.init)


def origins_of(recipe: Recipe, detector: Detector) -> dict[str, str]:
    """Lists what an untrained detector's weights come from; name -> licence. Random ones come from nothing."""
    if recipe.init is not None:
        source = Path(recipe.init)
        return (exported_weights if exported_weights.is_exported(source) else detectors).origins_of(source)
    backbone = detector.backbone
    return {} if backbone.initialization == "random" else {backbone.initialization: backbone.licence}


def _preflight(objective: Supervised, data: Data, recipe: Recipe, rate: float, device: torch.device) -> str:
    """On eight plain crops."""
    probe = _plain_crops(data, recipe, min(8, recipe.batch_size))
    seconds = PREFLIGHT_SECONDS if recipe.minutes is None else min(PREFLIGHT_SECONDS, 3 * recipe.minutes)  # a twentieth
    return preflight.overfit(objective, probe, data.train, lr=rate, device=device, max_seconds=seconds)


def _plain_crops(data: Data, recipe: Recipe, count: int) -> Batch:
    """A batch of train, not augmented."""
    count = min(count, len(data.train))
    return next(iter(loading.loader(data.train, recipe.size, count, AugmentSpec.none(), padding=recipe.padding)))


def _report(
    outcome: Outcome, *, data: Data, truth: Instances, split: str, source: str, teaching: Teaching | None
) -> dict[str, Any]:
    """Scores the run's model and writes its page; the figures, and where the files are."""
    out = outcome.out
    detector, card = detectors.load(out, evaluate.device_name())
    evaluation = evaluate.evaluate_detector(detector, truth)
    ground = floor.floor_of(evaluation.instances, data.true_labels)
    summary = evaluate.summary_of(evaluation, model=str(out), data=source, split=split, ground=ground)
    known = [*data.problems, *outcome.unread]
    of_data = left_out.lists(known)
    summary |= {"notes": of_data["notes"], "problems": [*of_data["problems"], *evaluation.problems]}
    config.write_json(out / "metrics.json", {**outcome.told(), **summary})
    write = partial(
        detector_report.write,
        out / "report.html",
        evaluation,
        detector_report.about_detector(detector, card, evaluation),
        folder=out,
        title=f"{detector.spec.method} on {detector.spec.backbone}: {out.name}",
        data=source,
        split=split,
        problems=[*map(str, known), *evaluation.problems],
        ground=ground,
    )
    notes = [note for note in (outcome.warning, teaching.said() if teaching else "") if note]
    write(notes=notes)
    if beside := outcome.beside():
        of_finder = beside.get("finder", {}).get("warning")
        write(notes=[*notes, of_finder] if of_finder else notes, in_whole_images=beside.get("found"))
    taught = {} if teaching is None else {"unlabelled": teaching.told()}
    return {**summary, **taught, **beside, "files": files_of(out)}
