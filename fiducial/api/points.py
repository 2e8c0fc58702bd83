"""Measures points in arrays: no files, no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fiducial.api.arguments import refuse
from fiducial.api.results import Result
from fiducial.data import arrays
from fiducial.data.arrays import NoImages
from fiducial.data.groups import groups_of
from fiducial.errors import UserError
from fiducial.evaluation import coco, floor, intervals, metrics, predictions
from fiducial.types import Instances, Keypoints, Normalizer, Skeleton


def evaluate_points(
    predicted: Any,
    truth: Any,
    *,
    scores: Any = None,
    visibility: Any = None,
    boxes: Any = None,
    areas: Any = None,
    crowd: Any = None,
    image_ids: Any = None,
    predicted_image_ids: Any = None,
    image_size: Any = None,
    normalizer: str | tuple[int, int] | Normalizer | None = None,
    sigmas: Sequence[float] | None = None,
    skeleton: Skeleton | None = None,
    names: Sequence[str] | None = None,
) -> Result:
    """Measures points in arrays: NME, NMAE, EPE, PCK, AUC, the failure rate and, where there are sigmas, AP and AR.

    Args:
        predicted: xy [n, k, 2] px, row i for row i of the truth; with `predicted_image_ids` [d, k, 2] of any instances,
            which are paired by OKS, as those of a results file are.
        truth: xy [n, k, 2] px, NaN where not labelled, or Instances, which have all that follows to image_size.
        scores: of the predicted points [n, k] or instances [n] [all equal].
        visibility [n, k]; boxes [n, 4] xywh px [of the points, enlarged; said]; areas [n] px^2 [the boxes']; crowd [n].
        image_ids: [n] which image each row of the truth is on [one each]; predicted_image_ids: [d] the same of predicted.
        image_size: (w, h) of all images or [n, 2], which NMAE needs.
        normalizer: box, image, interocular or the numbers of two points; sigmas: of OKS [those of known points]."""
    points = _keypoints(predicted, scores)
    if isinstance(truth, Instances):
        columns = {
            "visibility": visibility,
            "boxes": boxes,
            "areas": areas,
            "crowd": crowd,
            "image_ids": image_ids,
            "image_size": image_size,
            "skeleton": skeleton,
            "names": names,
        }
        refuse("Instances", {name: value is not None for name, value in columns.items()})
        instances = truth
        if sigmas is not None or normalizer is not None:
            known = arrays.skeleton_of(points.xy.shape[1], instances.skeleton, None, None, sigmas, normalizer)
            instances = replace(instances, skeleton=known)
        ids = instances.image_id
    else:
        xy = arrays.points_of(truth, "truth")
        ids, row = _images_of(image_ids, len(xy), predicted_image_ids)
        sizes = _sizes(image_size, len(xy), row, len(ids))
        instances = arrays.labels_of(
            xy,
            visibility,
            boxes,
            images=NoImages(len(ids)),
            image_size=sizes,
            image_row=row,
            areas=areas,
            crowd=crowd,
            skeleton=skeleton,
            names=names,
            sigmas=sigmas,
            normalizer=normalizer,
        )
    if points.xy.shape[1:] != instances.xy.shape[1:]:
        found, expected = points.xy.shape[1], instances.xy.shape[1]
        raise UserError("predicted", f"has {found} points an instance, and truth has {expected}")
    weights = None if instances.skeleton.sigmas is None else np.array(instances.skeleton.sigmas)
    notes = [metrics.no_sigmas(instances.skeleton)] if weights is None else []
    if predicted_image_ids is None:
        if len(points) != len(instances):
            raise UserError(
                "predicted",
                f"has {len(points)} rows for {len(instances)} of truth; expected one each, or predicted_image_ids",
            )
        scored = metrics.score(instances, points)
        ground = floor.floor_of(instances)
        figures = {
            "count": scored.count,
            "left_out": scored.left_out,
            "normalizer": scored.normalizer,
            "metrics": scored.numbers(),
            **intervals.of_instances(instances, points, scored.instance_counts, groups_of(instances)),
            "floor": ground.as_json(),
            "per_point": scored.per_point_rows(),
        }
    else:
        detections = coco.Detections(
            _places(predicted_image_ids, ids, len(points)), points.xy, points.score.mean(1), None
        )
        figures = predictions.figures_of(instances, detections, weights, groups=groups_of(instances))
    return Result(figures={**figures, "notes": notes, "problems": []})


def _keypoints(predicted: Any, scores: Any) -> Keypoints:
    """The points that were found, in float64, with a score each."""
    if isinstance(predicted, (list, tuple)) and predicted and all(isinstance(item, Keypoints) for item in predicted):
        predicted = Keypoints.joined(predicted)
    if isinstance(predicted, Keypoints):
        if scores is not None:
            raise UserError("scores", "the Keypoints have their own; leave it out")
        predicted, scores = predicted.numpy().xy, predicted.numpy().score
    xy = arrays.points_of(predicted, "predicted")
    broken = np.flatnonzero(~np.isfinite(xy).all((1, 2)))
    if len(broken):
        raise UserError("predicted", f"row {broken[0]} holds NaN or infinity; expected a place for every point")
    if scores is not None and np.ndim(scores) == 1:
        scores = np.repeat(arrays.column(scores, "scores", (len(xy),), 1.0)[:, None], xy.shape[1], 1)
    score = arrays.column(scores, "scores", xy.shape[:2], 1.0)
    if not np.isfinite(score).all():
        raise UserError("scores", "holds NaN or infinity; expected a number for every point")
    return Keypoints(xy, score)


def _images_of(image_ids: Any, count: int, predicted_image_ids: Any) -> tuple[np.ndarray, np.ndarray]:
    """The images' ids, and [n] the row in them of each instance."""
    if image_ids is None:
        if predicted_image_ids is not None:
            raise UserError("image_ids", "missing; predicted_image_ids need those of the truth beside them")
        return np.arange(1, count + 1), np.arange(count)
    ids = np.asarray(image_ids)
    if ids.shape != (count,):
        raise UserError("image_ids", f"has the shape {list(ids.shape)}; expected [{count}], one for each row of truth")
    return np.unique(ids, return_inverse=True)


def _places(image_ids: Any, known: np.ndarray, count: int) -> np.ndarray:
    """[d] the row of each predicted instance's image."""
    ids = np.asarray(image_ids)
    if ids.shape != (count,):
        raise UserError(
            "predicted_image_ids", f"has the shape {list(ids.shape)}; expected [{count}], one for each row of predicted"
        )
    rows = {value: row for row, value in enumerate(known.tolist())}
    unknown = [value for value in ids.tolist() if value not in rows]
    if unknown:
        raise UserError("predicted_image_ids", f"{unknown[0]!r} is not among image_ids, the truth's")
    return np.array([rows[value] for value in ids.tolist()], np.int64)


def _sizes(image_size: Any, count: int, row: np.ndarray, images: int) -> np.ndarray:
    """[m, 2] px of each image, 0 where it is not known."""
    sizes = np.zeros((images, 2), np.int32)
    if image_size is not None:
        values = np.asarray(image_size)
        values = np.tile(values, (count, 1)) if values.shape == (2,) else values
        sizes[row] = arrays.column(values, "image_size", (count, 2), 0)
    return sizes
