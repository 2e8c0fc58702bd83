"""What each run finds on the split: points kept in OUT/predictions, errors an instance and a point, jittered boxes.

All runs see the same instances and the same boxes: the jitter is drawn for each instance by its place in the split."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fiducial.comparison.runs import Run, Variant
from fiducial.errors import UserError
from fiducial.evaluation import metrics, scoring
from fiducial.types import Instances, Keypoints

JITTERS = (0.0, 0.05, 0.1, 0.2)  # of the boxes' sides
ASIDE = ("kp_acc", "tp", "tn", "fp", "fn")  # measured on each model's own crop


@dataclass(frozen=True)
class Predictions:
    """Points of one run for n instances under each jitter of `JITTERS`, px of the images."""

    annotation_id: np.ndarray  # [n]
    xy: np.ndarray  # [j, n, k, 2] float32
    score: np.ndarray  # [n, k], of undisturbed boxes
    problems: tuple[str, ...] = ()  # pictures that could not be read


@dataclass(frozen=True)
class Scores:
    """What a variant's s runs are worth on n instances of k points. Errors are over the skeleton's normaliser."""

    predicted: np.ndarray  # [s, n, k, 2] px of the images
    instance_nme: np.ndarray  # [s, n]; NaN where not measured
    point_nme: np.ndarray  # [s, k], means over the instances
    jitter_nme: np.ndarray  # [s, j] by `JITTERS`
    numbers: tuple[dict[str, float | None], ...]  # s times the public metrics

    @property
    def nme(self) -> np.ndarray:
        """[s]"""
        return self.jitter_nme[:, 0]


def predict(run: Run, instances: Instances, split_digest: str, cache: Path) -> Predictions:
    """The run's points for all instances; from `cache` where they were found by the same weights on the same split."""
    key = f"{run.digest} {split_digest} {JITTERS}"
    if cache.exists():
        with np.load(cache) as kept:
            if str(kept["key"]) == key:
                return Predictions(kept["annotation_id"], kept["xy"], kept["score"], tuple(kept["problems"].tolist()))
    scorer = scoring.scorer_of(run.path)
    found = [scorer.evaluate(instances, box_jitter=jitter) for jitter in JITTERS]
    plain = found[0]
    predictions = Predictions(
        plain.instances.annotation_id,
        np.stack([each.keypoints.xy for each in found]).astype(np.float32),
        plain.keypoints.score,
        plain.problems,
    )
    _write(cache, {"key": np.array(key), "problems": np.array(plain.problems, dtype=np.str_),
                   "annotation_id": predictions.annotation_id, "xy": predictions.xy, "score": predictions.score})  # fmt: skip
    return predictions


def read_by_all(variants: list[list[Predictions]], names: list[str]) -> np.ndarray:
    """Annotation ids that the predictions of all runs are of; refused where they differ."""
    every = [(name, each) for name, own in zip(names, variants, strict=True) for each in own]
    first_name, first = every[0]
    for name, each in every:
        if not np.array_equal(first.annotation_id, each.annotation_id):
            only = np.setxor1d(first.annotation_id, each.annotation_id)
            what = f"annotation {only[0]} is of one alone" if len(only) else "their order differs"
            raise UserError(
                f"{first_name} and {name} were scored on other instances ({what}); delete the folder `predictions` and "
                "give the command again"
            )
    return first.annotation_id


def score(variant: Variant, predictions: list[Predictions], instances: Instances) -> Scores:
    """instances: those that were read, in the order of the predictions."""
    size = instances.image_size[instances.image_row]
    labelled = instances.labelled & ~instances.crowd[:, None]
    normalizer = metrics.normalizer_px(instances.skeleton.normalizer, instances.xy, labelled, instances.box_xywh, size)

    def relative(xy: np.ndarray) -> np.ndarray:
        return metrics.normalized(metrics.point_errors(xy, instances.xy, labelled), normalizer)

    errors = [[relative(xy) for xy in own.xy] for own in predictions]  # s x j of [n, k]
    instance = np.array([[metrics.mean_of_instance(each) for each in own] for own in errors])  # [s, j, n]
    return Scores(
        predicted=np.stack([own.xy[0] for own in predictions]),
        instance_nme=instance[:, 0],
        point_nme=np.array([[metrics.mean(column) for column in own[0].T] for own in errors]),
        jitter_nme=np.array([[metrics.mean(each) for each in own] for own in instance]),
        numbers=tuple(_numbers(own, instances) for own in predictions),
    )


def digest_of(instances: Instances) -> str:
    """Changes with any label or box of the split."""
    digest = hashlib.sha256(repr(instances.skeleton.points).encode())
    for data in instances.label_bytes():
        digest.update(data)
    return digest.hexdigest()[:16]


def _numbers(predictions: Predictions, instances: Instances) -> dict[str, float | None]:
    found = metrics.score(instances, Keypoints(predictions.xy[0], predictions.score)).numbers()
    return {name: value for name, value in found.items() if name not in ASIDE}


def _write(path: Path, arrays: dict[str, Any]) -> None:
    """Beside and renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "wb") as file:
        np.savez(file, **arrays)
    os.replace(temporary, path)
