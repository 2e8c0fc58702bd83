"""What each run finds on a labelled split: points kept in OUT/predictions, errors an instance and a point, jittered boxes.

All runs see the same instances and the same boxes: the jitter is drawn for each instance by its place in the split."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fiducial import files
from fiducial.comparison.costs import VariantCost
from fiducial.comparison.runs import Run, Variant
from fiducial.comparison.table import NME, Row
from fiducial.data import groups, loading
from fiducial.errors import UserError
from fiducial.evaluation import evaluate, metrics
from fiducial.log import logger
from fiducial.runtime import runtime
from fiducial.types import Instances, Keypoints

JITTERS = (0.0, 0.05, 0.1, 0.2)  # of the boxes' sides
ASIDE = ("kp_acc", "tp", "tn", "fp", "fn")  # measured on each model's own crop


@dataclass(frozen=True)
class Predictions:
    """Points of one run for n instances under each jitter of `JITTERS`, px of the images."""

    row: np.ndarray  # [n] of the split: all but those whose images could not be read
    xy: np.ndarray  # [j, n, k, 2] float32
    score: np.ndarray  # [n, k], of undisturbed boxes
    problems: tuple[str, ...] = ()  # images that could not be read


def predict_all(
    variants: Mapping[str, Variant], instances: Instances, folder: Path, split: str
) -> dict[str, list[Predictions]]:
    """Finds the points of all runs of named variants; each run's are kept in `folder`."""
    digest = digest_of(instances)
    return {
        name: [predict(run, instances, digest, folder / f"{run.name}.{split}.npz") for run in variant.runs]
        for name, variant in variants.items()
    }


def predict(run: Run, instances: Instances, split_digest: str, cache: Path) -> Predictions:
    """Finds the run's points for all instances; from `cache` where the same weights found them on the same split."""
    key = f"{run.digest} {split_digest} {JITTERS}"
    if (kept := _kept(cache, key)) is not None:
        return kept
    network = runtime.load(run.path).network
    evaluations = [evaluate.evaluate_network(network, instances, box_jitter=jitter) for jitter in JITTERS]
    plain = evaluations[0]
    xy = np.stack([evaluation.keypoints.xy for evaluation in evaluations]).astype(np.float32)
    predictions = Predictions(plain.row, xy, plain.keypoints.score, plain.problems)
    with files.replacing(cache) as partial:
        np.savez(
            partial,
            key=np.array(key),
            problems=np.array(plain.problems, dtype=np.str_),
            row=predictions.row,
            xy=predictions.xy,
            score=predictions.score,
        )
    return predictions


def _kept(cache: Path, key: str) -> Predictions | None:
    """The predictions of a file, None where it has others, or none that can be read."""
    if not cache.exists():
        return None
    try:
        with files.ours(cache), np.load(cache) as kept:
            if str(kept["key"]) != key or "row" not in kept:
                return None
            row, xy, score = (kept[name] for name in ("row", "xy", "score"))
            if xy.shape != (len(JITTERS), len(row), *xy.shape[2:]) or score.shape != xy.shape[1:3]:
                raise UserError(cache, "its arrays don't fit each other")
            return Predictions(row, xy, score, tuple(kept["problems"].tolist()))
    except (UserError, OSError, zipfile.BadZipFile, zlib.error) as error:
        logger.warning(f"{cache}: can't be read ({error}); its points are found anew")
        return None


def read_by_all(predictions: Mapping[str, Sequence[Predictions]]) -> np.ndarray:
    """Gives the rows that the predictions of all variants, by name, are of; UserError where they differ."""
    every = [(name, one) for name, of_seeds in predictions.items() for one in of_seeds]
    first_name, first = every[0]
    for name, other in every:
        if not np.array_equal(first.row, other.row):
            only = np.setxor1d(first.row, other.row)
            raise UserError(
                f"{first_name} and {name} were scored on other instances (row {only[0]} of the split is of one alone); "
                "delete the folder `predictions` and give the command again"
            )
    return first.row


def row_of(
    name: str, variant: Variant, predictions: Sequence[Predictions], instances: Instances, cost: VariantCost
) -> Row:
    """Scores what the runs of one row found.

    instances: those that were read, in the order of the predictions. Figures are of all of them, as `evaluate` has it:
    crowds and instances without labelled points absorb detections in AP. Errors and `predicted`, px of the images, are
    of the others."""
    measured = loading.trainable(instances)
    truth = instances.select(measured)
    size = truth.image_size[truth.image_row]
    normalizer = metrics.normalizer_px(truth.skeleton.normalizer, truth.xy, truth.labelled, truth.box_xywh, size)

    def relative(xy: np.ndarray) -> np.ndarray:
        return metrics.normalized(metrics.point_errors(xy[measured], truth.xy, truth.labelled), normalizer)

    errors = [[relative(xy) for xy in of_seed.xy] for of_seed in predictions]  # s x j of [n, k]
    instance = np.array([[metrics.mean_of_instance(of_box) for of_box in of_seed] for of_seed in errors])  # [s, j, n]
    jitter = np.array([[metrics.mean(of_box) for of_box in of_seed] for of_seed in instance]).mean(0)
    point = np.array([[metrics.mean(column) for column in of_seed[0].T] for of_seed in errors]).mean(0)
    export = variant.runs[0].export
    return Row(
        name=name,
        variant=variant,
        errors={NME.name: instance[:, 0]},
        figures=[_figures(of_seed, instances) for of_seed in predictions],
        predicted=np.stack([of_seed.xy[0][measured] for of_seed in predictions]),
        cost=cost,
        groups=groups.groups_of(truth).of(truth),
        about={
            "box_jitter": {f"{j:g}": files.finite(float(nme)) for j, nme in zip(JITTERS, jitter, strict=True)},
            "nme_per_point": [files.finite(float(nme)) for nme in point],
            "method": variant.label,
            "exported": None if export is None else {"runtime": export.runtime, "precision": export.precision},
        },
    )


def digest_of(instances: Instances) -> str:
    """Digests what decides the figures of a split: it changes with any label or box."""
    return files.digest([repr(instances.skeleton.points), *instances.label_bytes()])


def _figures(predictions: Predictions, instances: Instances) -> dict[str, float | None]:
    numbers = metrics.score(instances, Keypoints(predictions.xy[0], predictions.score)).numbers()
    return {name: value for name, value in numbers.items() if name not in ASIDE}
