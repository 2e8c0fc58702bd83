"""Which crops show a network the range of its activations: few, and of all poses."""

from __future__ import annotations

import numpy as np

from fiducial import geometry
from fiducial.card import DetectorSpec
from fiducial.data.instance_crops import all_crops
from fiducial.types import Instances

COUNT = 128
CANDIDATES = 4096  # of larger sets so many are looked at, drawn at random
SCALE_SHARE = 0.02  # a picture of twice the size is as far off as all points moved by this share of the crop's sides


def crops_of(instances: Instances, spec: DetectorSpec, count: int = COUNT) -> np.ndarray:
    """The crops [m, h, w, 3] uint8, m <= count, of instances far from each other in pose and scale; cut as for use.
    Pictures that can't be read are left out; UserError where none can."""
    rows = np.flatnonzero(instances.labelled.any(1) & ~instances.crowd & (instances.box_xywh[:, 2:] > 0).all(1))
    if len(rows) > CANDIDATES:
        rows = np.sort(np.random.default_rng(0).choice(rows, CANDIDATES, replace=False))
    chosen = rows[spread(poses_of(instances.select(rows), spec), count)]
    return all_crops(instances.select(chosen), spec).image  # in the order of `spread`: the first lie furthest apart


def poses_of(instances: Instances, spec: DetectorSpec) -> np.ndarray:
    """Where the points lie in the crop, as shares of its sides, and how much it is enlarged: [n, 2 k + 1].

    Points that are not labelled are put at their mean over the instances where they are, so that they tell nothing
    apart."""
    maps = np.array(
        [
            geometry.crop(geometry.fit_aspect(box, spec.size, spec.padding), spec.size)
            for box in instances.box_xywh.astype(np.float64)
        ]
    )
    shares = geometry.px_to_unit(geometry.transform(maps, instances.xy.astype(np.float64)), spec.size)
    there = instances.labelled[..., None]
    mean = np.where(there, shares, 0).sum(0) / np.maximum(there.sum(0), 1)
    shares = np.where(there, shares, mean).reshape(len(shares), -1)
    doublings = np.log2(geometry.scale_of(maps))[:, None]
    return np.concatenate([shares, SCALE_SHARE * np.sqrt(shares.shape[1]) * doublings], axis=1)


def spread(points: np.ndarray, count: int) -> np.ndarray:
    """Rows of `points` [n, d] that lie far apart, min(count, n) of them: the one nearest to the mean, then always the one
    furthest from all chosen (Gonzalez 1985: the largest distance to a chosen one is at most twice the best possible)."""
    first = int(np.linalg.norm(points - points.mean(0), axis=1).argmin())
    chosen = [first]
    distance = np.linalg.norm(points - points[first], axis=1)
    while len(chosen) < min(count, len(points)):
        distance[chosen[-1]] = -1  # equal poses must not be chosen twice
        furthest = int(distance.argmax())
        chosen.append(furthest)
        distance = np.minimum(distance, np.linalg.norm(points - points[furthest], axis=1))
    return np.array(chosen)
