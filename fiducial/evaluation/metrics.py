"""Measures how far points are from the truth: NME, NMAE, EPE, PCK, AUC, failure rate, keypoint accuracy. Numpy only.

Everywhere: predicted and truth [n, k, 2] in px of the image, labelled [n, k] bool, a normaliser [n] in px. Errors are
NaN where a point is not labelled or its instance has no normaliser, and means are taken over the rest; the mean of
nothing is NaN. Shares are fractions, never percent."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from fiducial import files, geometry
from fiducial.errors import UserError
from fiducial.evaluation import coco, keypoint_accuracy
from fiducial.evaluation.keypoint_accuracy import Counts
from fiducial.geometry import Size
from fiducial.types import Instances, Keypoints, Normalizer, Skeleton

HOW_TO_GIVE_SIGMAS = "Give one for all or one a point by --sigmas S,S,.. or in the category's field `sigmas`"
LIMIT = 0.1  # of NME: the end of the AUC's axis, and what counts as a failure


@dataclass(frozen=True)
class PointMetrics:
    """Holds one row of the table of points."""

    name: str
    count: int  # labelled instances
    nme: float
    epe: float  # px, as the next two
    median: float
    p95: float
    pck_10: float  # share nearer than 0.1 longest sides of the truth's box


@dataclass(frozen=True)
class Metrics:
    """Holds what a prediction for n instances is worth. NaN = nothing to measure."""

    count: int  # instances measured
    left_out: int  # crowds, and instances without a labelled point or with a normaliser of zero
    normalizer: str
    nme: float  # mean over instances of the mean over their points
    nmae: float  # |dx| / image width and |dy| / image height, mean over labelled points
    epe: float  # px, mean over labelled points
    pck_05: float  # share of points nearer than 0.05 longest sides of the truth's box; mean over kinds of points
    pck_10: float
    auc: float  # area under the cumulative curve of the instances' NME up to 0.1, over 0.1
    fr_10: float  # share of instances with an NME above 0.1
    points: tuple[PointMetrics, ...]
    instance_nme: np.ndarray = field(repr=False)  # [n], NaN where left out: for galleries of the best and worst
    instance_epe: np.ndarray = field(repr=False)  # [n], px
    counts: Counts | None = None  # of keypoint accuracy
    instance_counts: np.ndarray | None = field(default=None, repr=False)  # [n, 4] TP, TN, FP, FN, 0 where left out
    oks: dict[str, float] | None = None  # COCO's ten numbers, for skeletons with sigmas

    def numbers(self) -> dict[str, float | None]:
        """Gives the figures by their public names, ready for JSON: None where there was nothing to measure."""
        values: dict[str, float] = {
            "nme": self.nme,
            "nmae": self.nmae,
            "epe": self.epe,
            "pck@0.05": self.pck_05,
            "pck@0.1": self.pck_10,
            "auc": self.auc,
            "fr@0.1": self.fr_10,
        }
        if self.counts is not None:
            values["kp_acc"] = self.counts.accuracy
            values |= {name: getattr(self.counts, name) for name in ("tp", "tn", "fp", "fn")}
        values |= self.oks or {}
        return {name: files.finite(value) for name, value in values.items()}

    def per_point_rows(self) -> list[dict[str, Any]]:
        """Gives the table of points, ready for JSON."""
        return [
            {name: files.finite(value) if isinstance(value, float) else value for name, value in asdict(point).items()}
            for point in self.points
        ]


def no_sigmas(skeleton: Skeleton) -> str:
    """Says why there is no AP."""
    return f"no AP: no sigmas for its {len(skeleton.points)} points. {HOW_TO_GIVE_SIGMAS}"


def score(
    instances: Instances,
    keypoints: Keypoints,
    image_to_crop: np.ndarray | None = None,
    crop_size: Size | None = None,
) -> Metrics:
    """Computes all metrics of one prediction an instance: keypoints.xy [n, k, 2] in px of the images, score [n, k].

    image_to_crop [n, 3, 3] and crop_size say what the detector saw: keypoint accuracy is measured on 64x64 cells of
    that crop, else of the truth's box. AP takes the mean of the points' scores as an instance's score."""
    skeleton = instances.skeleton
    if keypoints.xy.shape != instances.xy.shape:
        raise UserError(f"predictions of shape {keypoints.xy.shape} for a truth of shape {instances.xy.shape}")
    broken = np.flatnonzero(~np.isfinite(keypoints.xy).all((1, 2)) | ~np.isfinite(keypoints.score).all(1))
    if len(broken):
        raise UserError(
            f"{instances.where(int(broken[0]))}: the detector returned NaN or infinity, its weights are broken"
        )
    labelled = instances.labelled & ~instances.crowd[:, None]
    size = instances.image_size[instances.image_row]
    metrics = measure(
        keypoints.xy, instances.xy, labelled, box_xywh=instances.box_xywh, image_size=size, skeleton=skeleton
    )

    if image_to_crop is None or crop_size is None:
        crop_size = keypoint_accuracy.GRID
        sides = np.maximum(instances.box_xywh[:, 2:], 1e-3)  # a box of no area must not divide by zero
        boxes = np.concatenate([instances.box_xywh[:, :2], sides], axis=1)
        image_to_crop = np.array([geometry.crop(box, crop_size) for box in boxes]).reshape(-1, 3, 3)
    measured = np.isfinite(metrics.instance_epe)
    rows = keypoint_accuracy.of_points(
        geometry.transform(image_to_crop, keypoints.xy.astype(np.float64))[measured],
        keypoints.score[measured],
        geometry.transform(image_to_crop, instances.xy.astype(np.float64))[measured],
        labelled[measured],
        crop_size,
    )
    instance_counts = np.zeros((len(measured), 4), np.int64)
    instance_counts[measured] = rows
    metrics = replace(metrics, counts=Counts.of(rows), instance_counts=instance_counts)
    if skeleton.sigmas is not None:
        detections = coco.Detections.of(keypoints, instances)
        metrics = replace(metrics, oks=coco.average_precision(instances, detections, np.array(skeleton.sigmas)))
    return metrics


def measure_instances(xy: np.ndarray, truth: Instances) -> Metrics:
    """Computes what needs distances alone, of points [n, k, 2] px of the images and labelled instances."""
    return measure(
        xy,
        truth.xy,
        truth.labelled,
        box_xywh=truth.box_xywh,
        image_size=truth.image_size[truth.image_row],
        skeleton=truth.skeleton,
    )


def measure(
    predicted: np.ndarray,
    truth: np.ndarray,
    labelled: np.ndarray,
    *,
    box_xywh: np.ndarray,
    image_size: np.ndarray,
    skeleton: Skeleton,
) -> Metrics:
    """Computes what needs distances alone. box_xywh [n, 4] of the truth; image_size [n, 2], 0 = unknown, left out of NMAE."""
    normalizer = normalizer_px(skeleton.normalizer, truth, labelled, box_xywh, image_size)
    labelled = labelled & (normalizer > 0)[:, None]
    errors = point_errors(predicted, truth, labelled)
    relative = normalized(errors, normalizer)
    to_box = normalized(errors, box_xywh[:, 2:].max(1))
    pck_10 = pck(to_box, 0.1)
    instance_nme = mean_of_instance(relative)
    kept = instance_nme[~np.isnan(instance_nme)]
    return Metrics(
        count=len(kept),
        left_out=len(truth) - len(kept),
        normalizer=skeleton.normalizer.name,
        nme=mean(kept),
        nmae=mean(coordinate_errors(predicted, truth, labelled, image_size)),
        epe=mean(errors),
        pck_05=mean(pck(to_box, 0.05)),
        pck_10=mean(pck_10),
        auc=auc(kept, LIMIT),
        fr_10=failure_rate(kept, LIMIT),
        points=per_point(errors, relative, pck_10, skeleton.points),
        instance_nme=instance_nme,
        instance_epe=mean_of_instance(errors),
    )


def by_visibility(xy: np.ndarray, truth: Instances) -> list[dict[str, Any]]:
    """Measures visible and hidden points apart, ready for JSON: means over points, not over instances. Nothing where the
    labels don't tell the two from each other."""
    labelled = truth.labelled & ~truth.crowd[:, None]
    kinds = {"visible": labelled & (truth.visibility == 2), "hidden": labelled & (truth.visibility == 1)}
    if not all(which.any() for which in kinds.values()):
        return []
    size = truth.image_size[truth.image_row]
    length = normalizer_px(truth.skeleton.normalizer, truth.xy, labelled, truth.box_xywh, size)
    errors = point_errors(xy, truth.xy, labelled)
    relative = normalized(errors, length)
    return [
        {
            "visibility": name,
            "points": int(which.sum()),
            "nme": files.finite(mean(relative[which])),
            "epe": files.finite(mean(errors[which])),
        }
        for name, which in kinds.items()
    ]


# -------------------------------------------------------------------------------------------------- pure functions


def normalizer_px(
    normalizer: Normalizer, truth: np.ndarray, labelled: np.ndarray, box_xywh: np.ndarray, image_size: np.ndarray
) -> np.ndarray:
    """Measures the length that NME divides by, [n] px; 0 where one of its two points is not labelled."""
    if normalizer.points is not None:
        one, other = normalizer.points
        distance = np.linalg.norm(truth[:, one].astype(np.float64) - truth[:, other], axis=-1)
        return np.where(labelled[:, one] & labelled[:, other], distance, 0.0)
    if normalizer.kind == "box":
        return np.sqrt(box_xywh[:, 2].astype(np.float64) * box_xywh[:, 3])
    return image_size.max(1).astype(np.float64)


def point_errors(predicted: np.ndarray, truth: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Measures the Euclidean distance of each point, [n, k] px. A prediction that is NaN is infinitely wrong, not left out."""
    distance = np.linalg.norm(predicted.astype(np.float64) - truth, axis=-1)
    return np.where(labelled, np.where(np.isnan(distance), np.inf, distance), np.nan)


def coordinate_errors(
    predicted: np.ndarray, truth: np.ndarray, labelled: np.ndarray, size: np.ndarray | float = 1.0
) -> np.ndarray:
    """Computes (|dx| / w + |dy| / h) / 2 of each point, [n, k]; size [n, 2] or one number. Its mean is NMAE; its mean over
    instances' means, with a size of 1, is what FOMM's published evaluation calls AKD."""
    size = np.broadcast_to(np.asarray(size, dtype=np.float64), (len(truth), 2))[:, None]
    known = labelled & (size > 0).all(-1)
    apart = np.abs(predicted.astype(np.float64) - truth) / np.where(size > 0, size, 1.0)
    return np.where(known, np.where(np.isnan(apart), np.inf, apart).mean(-1), np.nan)


def normalized(errors: np.ndarray, normalizer: np.ndarray) -> np.ndarray:
    """Divides errors [n, k] by the normaliser [n]; NaN for instances whose normaliser is zero or less."""
    return errors / np.where(normalizer > 0, normalizer, np.nan)[:, None]


def mean(values: np.ndarray) -> float:
    """Averages all that is not NaN; NaN if nothing is."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else math.nan


def mean_of_instance(errors: np.ndarray) -> np.ndarray:
    """Averages over the labelled points, [n, k] -> [n]; NaN for instances without any."""
    return mean_over(errors, axis=1)


def pck(relative: np.ndarray, threshold: float) -> np.ndarray:
    """Computes the share of instances in which a point is nearer than `threshold` (strictly), for each point: [n, k] -> [k]."""
    return mean_over(np.where(np.isnan(relative), np.nan, relative < threshold), axis=0)


def auc(nme: np.ndarray, limit: float) -> float:
    """Computes the area under the cumulative curve of nme [n] from 0 to `limit`, over `limit`: exact, with no grid and no rule."""
    return mean(np.maximum(0.0, 1.0 - nme / limit))


def failure_rate(nme: np.ndarray, limit: float) -> float:
    """Computes the share of instances with an NME strictly above `limit`."""
    return mean(np.where(np.isnan(nme), np.nan, nme > limit))


def cumulative_errors(nme: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Computes the cumulative error distribution: the share of instances with an NME of at most each value of `at` [m] -> [m]."""
    nme = np.sort(nme[~np.isnan(nme)])
    return np.searchsorted(nme, at, side="right") / max(len(nme), 1)


def per_point(
    errors: np.ndarray, relative: np.ndarray, pck_10: np.ndarray, names: tuple[str, ...]
) -> tuple[PointMetrics, ...]:
    """Makes a row for each point: errors [n, k] px, relative [n, k], pck_10 [k]."""
    rows = []
    for i, name in enumerate(names):
        column = errors[:, i][~np.isnan(errors[:, i])]
        median, p95 = np.percentile(column, [50, 95]) if len(column) else (math.nan, math.nan)
        figures = (mean(relative[:, i]), mean(column), float(median), float(p95), float(pck_10[i]))
        rows.append(PointMetrics(name, len(column), *figures))
    return tuple(rows)


def mean_over(values: np.ndarray, axis: int) -> np.ndarray:
    """numpy.nanmean without its warning for all-NaN slices."""
    there = ~np.isnan(values)
    count = there.sum(axis)
    return np.where(count > 0, np.where(there, values, 0.0).sum(axis) / np.maximum(count, 1), np.nan)
