"""Measures what the labels of a set say about it before any image is read: how many, how large, how turned, how alike."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fiducial import files, geometry
from fiducial.data import augment
from fiducial.errors import counted
from fiducial.geometry import Size
from fiducial.types import Instances

ROUNDS = 8  # of aligning all shapes to their mean, which moves no more after two or three
UNIT = Size(1, 1)  # shapes are compared in crops of side 1
MOST = 5000  # instances whose shapes are compared, evenly taken from all
ALL_DIRECTIONS_DEGREES = 60.0  # a set that is turned by more has no upright


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Says what is known of a set. NaN where nothing can be known, as the turn of a single instance."""

    instances: int  # with a labelled point and a box, no crowds
    images: int  # that hold them
    points: int
    side_px: tuple[float, float, float]  # 5th percentile, median and 95th of the boxes' longest sides
    aspect: float  # median of the boxes' width over height
    turn_degrees: float  # 95 % of the shapes are turned by no more than this from their mean direction
    scale_spread: float  # 95th percentile over 5th of the shapes' size, as a share of their boxes
    flip_pairs_known: bool
    # Distance of the mean shape from its own image in a mirror, root mean square over its size: near 0 where a mirrored
    # image is one that may be met. NaN where flip pairs are unknown.
    mirrored: float

    def as_json(self) -> dict[str, Any]:
        """Gives the form of `--json`, in which what can't be known is null."""
        values = {**asdict(self), "side_px": [files.finite(value) for value in self.side_px]}
        return {name: files.finite(value) if isinstance(value, float) else value for name, value in values.items()}

    def told(self) -> str:
        """Says it in a line for people."""
        low, middle, high = self.side_px
        turned = "" if np.isnan(self.turn_degrees) else f", 95 % turned by up to {self.turn_degrees:.0f} degrees"
        return (
            f"{counted(self.instances, 'instance')} on {counted(self.images, 'image')}, {counted(self.points, 'point')}, {middle:.0f} px long ({low:.0f} to "
            f"{high:.0f}), {self.aspect:.2f} times as wide as high{turned}"
        )


def facts_of(instances: Instances) -> Facts:
    """Measures a split; crowds and instances without a labelled point or a box do not count."""
    measured = instances.labelled.any(1) & ~instances.crowd & (instances.box_xywh[:, 2:] > 0).all(1)
    taken = instances.select(measured)
    sides = taken.box_xywh[:, 2:].astype(np.float64)
    pairs, few = instances.skeleton.flip_pairs, len(taken) == 0
    low, middle, high = (np.nan,) * 3 if few else np.percentile(sides.max(1), (5, 50, 95))
    shape, turns, scales = mean_shape(taken)
    return Facts(
        instances=len(taken),
        images=len(np.unique(taken.image_row)),
        points=len(instances.skeleton.points),
        side_px=(float(low), float(middle), float(high)),
        aspect=np.nan if few else float(np.median(sides[:, 0] / sides[:, 1])),
        turn_degrees=_spread_degrees(turns),
        scale_spread=np.nan if len(scales) < 2 else float(np.divide(*np.percentile(scales, (95, 5)))),
        flip_pairs_known=pairs is not None,
        mirrored=np.nan if pairs is None else _mirrored(shape, turns, instances.skeleton.flip_order),
    )


def mean_shape(instances: Instances) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Aligns the shapes of instances, each in its box, with their mean by turning, scaling and shifting (generalised
    Procrustes analysis: Gower, Psychometrika 1975).

    Returns the mean shape [k, 2], how much each shape is turned against it, radians [m], and its size as a share of it
    [m]; of the m instances that have two points or more in different places."""
    if len(instances) > MOST:
        instances = instances.select(np.linspace(0, len(instances) - 1, MOST).astype(int))
    weight = instances.labelled.astype(np.float64)
    if len(instances) == 0 or weight.sum(1).max() < 2:
        return np.zeros(instances.xy.shape[1:]), np.empty(0), np.empty(0)
    boxes = np.stack([augment.crop_map(box, UNIT, 1.0) for box in instances.box_xywh])
    xy = geometry.transform(boxes, instances.xy.astype(np.float64))
    first = int(weight.sum(1).argmax())
    mean, seen, size = xy[first], weight[first] > 0, _size(xy[first], weight[first] > 0)
    for _ in range(ROUNDS):
        maps = geometry.similarity(xy, np.broadcast_to(mean, xy.shape), weight * seen)
        usable = np.isfinite(maps).all((1, 2)) & (geometry.scale_of(maps) > 0)
        if not usable.any():
            return mean, np.empty(0), np.empty(0)
        count = weight[usable].sum(0)[:, None]
        total = (geometry.transform(maps[usable], xy[usable]) * weight[usable][..., None]).sum(0)
        mean = np.where(count > 0, total / np.maximum(count, 1), mean)
        seen = seen | (count[:, 0] > 0)
        mean = mean * (size / max(_size(mean, seen), 1e-12))  # else it would shrink from round to round
    maps = geometry.similarity(np.broadcast_to(mean, xy.shape), xy, weight * seen)
    maps = maps[np.isfinite(maps).all((1, 2)) & (geometry.scale_of(maps) > 0)]
    return mean, geometry.turn_of(maps), geometry.scale_of(maps)


def _spread_degrees(turns: np.ndarray) -> float:
    """95th percentile of the turns [n] away from their mean direction, radians in, degrees out."""
    if len(turns) < 2:
        return np.nan
    away = np.angle(np.exp(1j * turns) / np.exp(1j * turns).mean())
    return float(np.degrees(np.percentile(np.abs(away), 95)))


def _mirrored(shape: np.ndarray, turns: np.ndarray, flip_order: np.ndarray) -> float:
    """As `Facts.mirrored`. Where the set has an upright the shape is mirrored in it and not turned back."""
    if len(turns) < 2:
        return np.nan
    upright = geometry.transform(geometry.rotation(float(np.angle(np.exp(1j * turns).mean()))), shape)
    mirrored = geometry.mirror_unit(upright)[flip_order]
    back = geometry.similarity(mirrored, upright, np.ones(len(upright)))
    if _spread_degrees(turns) < ALL_DIRECTIONS_DEGREES:
        x, y = upright.mean(0)
        back = geometry.compose(back, geometry.rotation(-float(geometry.turn_of(back)), (float(x), float(y))))
    size = _size(upright, np.ones(len(upright), dtype=bool))
    return float(np.linalg.norm(geometry.transform(back, mirrored) - upright) / max(size, 1e-12))


def _size(shape: np.ndarray, seen: np.ndarray) -> float:
    """Root of the summed squared distances from the middle of the points that are seen."""
    return float(np.linalg.norm(shape[seen] - shape[seen].mean(0)))
