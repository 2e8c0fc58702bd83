"""`fiducial evaluate`: a model of any runtime on a split of labelled data, in numbers and, if wanted, on a page.

A run folder is scored by torch on the crops of training's loader. An exported file is scored as it is used: pictures are
read in full, `crops.cut` cuts them as `Runtime` does, and nothing imports torch. Both see the same crops to the byte, but
of JPEGs of sets too large to be kept decoded (`loading.CACHE_BYTES`): where a crop shrinks those by two or more, the loader
decodes them at a half, a quarter or an eighth, which moved points by up to 0.5 px and NME by 7e-5 on COCO's pictures."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from fiducial import geometry
from fiducial.card import Card, DetectorSpec
from fiducial.data import annotations, augment, crops
from fiducial.errors import UserError
from fiducial.evaluation import evaluate
from fiducial.evaluation.evaluate import Evaluation, Found
from fiducial.geometry import Size
from fiducial.motion import linear_map, linear_map_report
from fiducial.motion.linear_map import Cut, Predict
from fiducial.report import detector_report
from fiducial.report.detector_report import About
from fiducial.runtime import runtime
from fiducial.runtime.export_card import ExportCard
from fiducial.runtime.runtime import Exported, Network
from fiducial.types import Instances, Problem

BATCH = 16  # crops that go through a network together


class Scorer(Protocol):
    """A loaded model that can be scored."""

    card: Card

    def evaluate(self, instances: Instances, box_jitter: float = 0.0) -> Evaluation:
        """On every instance, cut out by its (jittered) box; pictures that can't be read are left out."""
        ...

    def about(self, evaluation: Evaluation) -> About:
        """What the page says of the model."""
        ...


class TorchScorer:
    """A run folder, or another project's file of weights, on this machine's accelerator or CPU."""

    def __init__(self, model: Path, flip_test: bool = False) -> None:
        from fiducial.models import detector as detectors

        self.detector, self.card = detectors.load(model, evaluate.device_name())
        self.flip_test = flip_test

    def evaluate(self, instances: Instances, box_jitter: float = 0.0) -> Evaluation:
        return evaluate.evaluate_detector(self.detector, instances, flip_test=self.flip_test, box_jitter=box_jitter)

    def about(self, evaluation: Evaluation) -> About:
        return detector_report.about_detector(self.detector, self.card, evaluation)


class ExportScorer:
    """An exported file, in its own runtime."""

    def __init__(self, network: Exported) -> None:
        self.network, self.card = network, network.card

    def evaluate(self, instances: Instances, box_jitter: float = 0.0) -> Evaluation:
        return evaluate.evaluate_found(instances, found_by(self.network, instances, box_jitter), self.card.spec.size)

    def about(self, evaluation: Evaluation) -> About:
        spec, export, name = self.card.spec, self.network.export, self.network.runtime
        facts = {
            "runtime": name, "precision": export.precision, "method": spec.method, "backbone": spec.backbone,
            "input": str(spec.size), "backbone weights before training": self.card.initialization,
        }  # fmt: skip
        return About(facts, f"{name} {metadata.version(name)}")


def scorer_of(model: Path, flip_test: bool = False) -> Scorer:
    """UserError where `model` is none, and where an exported file is to see mirrored pictures, too."""
    if runtime.family_of(model).NAME == "torch":
        return TorchScorer(model, flip_test)
    return ExportScorer(cast(Exported, runtime.load(model, flip_test).network))


def export_of(model: Path) -> ExportCard | None:
    """The card of an exported file; None of what torch runs. UserError where `model` is neither."""
    if runtime.family_of(model).NAME == "torch":
        return None
    return cast(Exported, runtime.load(model).network).export


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
    if report is not None:
        import jinja2  # noqa: F401  # where it is missing, that is said at once
    scorer = scorer_of(model, flip_test)
    if linear_map.is_discovered(scorer.card.spec.skeleton):
        raise UserError(
            f"{model}: its {len(scorer.card.spec.skeleton.points)} points were learnt without labels, so none of them is a "
            f"point of {data}. `fiducial evaluate MODEL DATA --linear-map` measures what they know of the labelled ones"
        )
    instances, skipped = annotations.load(data, split, images=images, category=category, strict=strict)
    instances = evaluate.match_points(instances, scorer.card.spec.skeleton.points, str(data))
    if sigmas is not None:
        instances = replace(instances, skeleton=replace(instances.skeleton, sigmas=sigmas))
    evaluation = scorer.evaluate(instances, box_jitter)
    problems = [str(problem) for problem in skipped] + list(evaluation.problems)
    if strict and evaluation.problems:
        raise UserError(f"{len(evaluation.problems)} pictures can't be read, first {evaluation.problems[0]}")
    if report is not None:
        detector_report.write(
            report,
            evaluation,
            scorer.about(evaluation),
            folder=model,
            title=f"{model.name} on {split} of {data.name}",
            data=str(data),
            split=split,
            problems=problems,
        )
    summary = evaluate.summary_of(evaluation, model=str(model), data=str(data), split=split)
    return {**summary, "problems": problems}


# ------------------------------------------------------------------------------------- points that were not labelled


def evaluate_by_linear_map(
    model: Path,
    data: Path,
    split: str,
    *,
    images: Path | None = None,
    category: str | None = None,
    strict: bool = False,
    report: Path | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """What a model's points know of the labelled ones (`evaluation/linear_map.py`): what `--json` writes, with the printed
    `table` and lines about what was skipped as `problems`. `advance` hears how many crops of how many were looked at."""
    if report is not None:
        import jinja2  # noqa: F401  # where it is missing, that is said at once
    if split == "train":
        raise UserError("--split train: the map is fitted on train, so it is scored on another: --split val or test")
    network = runtime.load(model).network
    spec, by_torch = network.card.spec, runtime.family_of(model).NAME == "torch"
    parts, skipped = zip(*(annotations.load(data, part, images=images, category=category, strict=strict)
                           for part in ("train", split)), strict=True)  # fmt: skip
    train, test = (
        linear_map.usable(evaluate.match_points(part, parts[0].skeleton.points, str(data))) for part in parts
    )
    random, remark = _untrained(spec)
    networks = {linear_map.MODEL: network.predict, **random}
    done, total = itertools.count(1), len(train) + len(test)

    def seen(instances: Instances) -> linear_map.Seen:
        cuts = linear_map.cuts_of(instances, spec) if by_torch else _cuts(instances, spec)
        return linear_map.see(networks, instances, spec.size, _counted(cuts, lambda: advance(next(done), total)))

    train, test = seen(train), seen(test)
    unread = [*train.problems, *test.problems]
    if strict and unread:
        raise UserError(f"{len(unread)} pictures can't be read, first {unread[0]}")
    found = linear_map.scored(train, test)
    problems = [str(problem) for problem in _once(skipped)] + unread + remark
    if report is not None:
        facts = {"method": spec.method, "backbone": spec.backbone, "input": str(spec.size), "runtime": network.runtime}
        linear_map_report.write(
            report,
            found,
            train,
            test,
            model=model,
            data=str(data),
            split=split,
            facts=facts,
            problems=problems,
            device=network.runtime,
        )
    summary = linear_map_report.summary_of(found, train, test, model=str(model), data=str(data), split=split)
    return {
        **summary,
        "table": linear_map_report.table(found),
        "answer": linear_map_report.answer(found, train),
        "problems": problems,
    }


def _untrained(spec: DetectorSpec) -> tuple[dict[str, Predict], list[str]]:
    """The network with random weights, a few times; none, and a line about it, where there is no torch to build it."""
    try:
        device = evaluate.device_name()
    except ModuleNotFoundError:
        return {}, ["no row of random weights: building such networks needs torch: pip install 'fiducial[train]'"]
    seeds = range(linear_map.SEEDS)
    return {f"{linear_map.RANDOM}, seed {seed}": linear_map.untrained(spec, seed, device) for seed in seeds}, []


def _cuts(instances: Instances, spec: DetectorSpec) -> Iterator[Cut]:
    """Crops as `found_by` cuts them, batch by batch."""
    unread: set[int] = set()
    for start in range(0, len(instances), BATCH):
        rows = np.arange(start, min(start + BATCH, len(instances)))
        yield Cut(*_cut(instances, rows, spec, 0.0, unread))


def _counted(cuts: Iterable[Cut], count: Callable[[], None]) -> Iterator[Cut]:
    """Counts each crop once it was looked at."""
    for cut in cuts:
        yield cut
        for _ in cut.row:
            count()


def _once(skipped: Iterable[list[Problem]]) -> list[Problem]:
    """What is wrong in either split, notes about both only once."""
    return list(dict.fromkeys(problem for part in skipped for problem in part))


# --------------------------------------------------------------------------------------------- an exported file's crops


def found_by(network: Network, instances: Instances, box_jitter: float = 0.0) -> Iterator[Found]:
    """What a network finds on all instances, in their order, batch by batch."""
    unread: set[int] = set()
    for start in range(0, len(instances), BATCH):
        rows = np.arange(start, min(start + BATCH, len(instances)))
        row, cut, image_to_crop, problems = _cut(instances, rows, network.card.spec, box_jitter, unread)
        yield Found(row, network.predict(cut).mapped(geometry.invert(image_to_crop)), image_to_crop, problems)


def _cut(
    instances: Instances, rows: np.ndarray, spec: DetectorSpec, box_jitter: float, unread: set[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]:
    """Of rows [b]: those whose pictures can be read [c], their crops [c, h, w, 3], maps [c, 3, 3], and lines about other
    pictures, which join `unread`. A picture is read once for all its instances that come together."""
    size = spec.size
    kept, cuts, maps, problems = [], [np.empty((0, size.h, size.w, 3), np.uint8)], [np.empty((0, 3, 3))], []
    for image_row, group in itertools.groupby(rows.tolist(), key=lambda row: int(instances.image_row[row])):
        if image_row in unread:
            continue
        try:
            picture = _read(instances, image_row)
        except UserError as error:
            unread.add(image_row)
            problems.append(str(error))
            continue
        own = list(group)
        cut, image_to_crop = crops.cut(picture, _boxes(instances, own, box_jitter), size, spec.padding)
        kept += own
        cuts.append(cut)
        maps.append(image_to_crop)
    return np.array(kept, np.int64), np.concatenate(cuts), np.concatenate(maps), tuple(problems)


def _read(instances: Instances, image_row: int) -> np.ndarray:
    picture = instances.images.read(image_row)
    height, width = picture.shape[:2]
    declared = instances.image_size[image_row]
    if declared.all() and tuple(declared) != (width, height):
        name = instances.images.name(image_row)
        raise UserError(f"{name}: the picture is {width}x{height}, but the annotations say {Size(*declared.tolist())}")
    return picture


def _boxes(instances: Instances, rows: list[int], jitter: float) -> np.ndarray:
    """[n, 4]; disturbed as in evaluation by torch, so that all models see the same boxes."""
    boxes = instances.box_xywh[rows]
    if jitter == 0:
        return boxes
    return np.array(
        [
            geometry.jitter_box(box, jitter, augment.generator_of(0, 0, row))
            for box, row in zip(boxes, rows, strict=True)
        ]
    )
