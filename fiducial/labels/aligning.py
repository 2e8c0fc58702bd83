"""`fiducial data align`: another set's labels, moved to where a model of one's own set places the same points.

Two sets that name a point alike may mean two places: a jaw that ends at the skin or at its shadow, a hip at the bone or at the joint.
A model that learnt from the one is asked about the images of the other, and one linear map (`distillation.point_map`) from
its labels to what was found takes the difference out. What the model gets wrong by chance stays out: a map of few numbers from many instances can't
follow it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import files, geometry
from fiducial.api.arguments import path_of, source_of
from fiducial.api.results import Result
from fiducial.data import annotations, conversion
from fiducial.data.source import Source
from fiducial.distillation import point_map
from fiducial.distillation.point_teachers import NetworkTeacher, PointTeacher
from fiducial.errors import UserError, counted
from fiducial.evaluation import metrics
from fiducial.geometry import Size
from fiducial.labels import reading
from fiducial.log import logger
from fiducial.runtime import runtime
from fiducial.runtime.point_map import PointMap, frame_of
from fiducial.types import Instances, Keypoints, Skeleton

FAR = 4.0  # times the median distance of a point, beyond which the model or the label is taken to be wrong


@dataclass(frozen=True)
class Alignment:
    """How the labels of one set become those of another."""

    numbers: np.ndarray  # of the points that both have, in the set that is moved
    map: PointMap  # from all of its points to those

    def __call__(self, labels: Instances) -> Instances:
        """Moves the points that both have, where they are labelled; boxes and all else stay."""
        moved = self.map(_whole(labels, self.map.frame), labels.box_xywh).xy
        xy = labels.xy.astype(np.float64)
        is_moved = labels.labelled[:, self.numbers, None]
        xy[:, self.numbers] = np.where(is_moved, moved, xy[:, self.numbers])
        return replace(labels, xy=xy.astype(labels.xy.dtype))


def learn(labels: Instances, found: Keypoints, model: Skeleton, frame: Size) -> Alignment:
    """Learns where a model places the points of labels, from what it found on the labelled instances: found.xy [n, k, 2] px of their
    images, of a score of 0 where it found nothing. Points are the same by name, or, where no name is, by number.

    Raises UserError where no point is the same, or there are fewer labelled instances than a map needs."""
    places = point_map.places_of(labels.skeleton, model)
    numbers = np.flatnonzero(places >= 0)
    if not len(numbers):
        own, theirs = (", ".join(skeleton.points[:3]) for skeleton in (labels.skeleton, model))
        raise UserError(
            labels.source, f"none of its points, {own}, .., is one of the model's by its name, {theirs}, ..; nothing can be moved"
        )
    common = labels.pick_points(numbers.tolist())
    xy = found.xy[:, places[numbers]]
    used = common.labelled & _plausible(common, xy) & (found.score[:, places[numbers]] > 0)
    if (count := int(used.any(1).sum())) < point_map.LEAST:
        raise UserError(
            labels.source,
            f"{counted(count, 'labelled instance')} that the model finds; expected {point_map.LEAST} or more to learn from",
        )
    truth = replace(common, xy=xy.astype(common.xy.dtype), visibility=np.where(used, common.visibility, 0))
    return Alignment(numbers, point_map.learn(_whole(labels, frame), truth, labels.skeleton, frame))


def _plausible(labels: Instances, xy: np.ndarray) -> np.ndarray:
    """Leaves out what lies so far from its label that one of the two is wrong, [n, k]."""
    length = np.sqrt(np.maximum(labels.box_xywh[:, 2:].astype(np.float64).prod(1), 1e-9))
    distance = metrics.point_errors(xy, labels.xy, labels.labelled) / length[:, None]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # points that nobody labelled
        return distance <= FAR * np.nanmedian(distance, 0)


def _whole(labels: Instances, frame: Size) -> Keypoints:
    """Labels as a map takes them: points that are not labelled are where they lie on average in a box."""
    to_frame = frame_of(labels.box_xywh, frame)
    xy = geometry.transform(to_frame, labels.xy.astype(np.float64))
    count = np.maximum(labels.labelled.sum(0), 1)
    mean = np.where(labels.labelled[..., None], xy, 0.0).sum(0) / count[:, None]
    filled = np.where(labels.labelled[..., None], xy, mean)
    return Keypoints(geometry.transform(geometry.invert(to_frame), filled), np.ones(labels.labelled.shape))
