"""An image moved as others move: how points are carried over from them (First order motion model: Siarohin et al.,
NeurIPS 2019, section 3.3)."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from fiducial.models.heads.motion import Frames
from fiducial.motion import grids
from fiducial.motion.system import System, repeated


class Moved(NamedTuple):
    """Holds the points of some driving frames and what was made of them."""

    generated: np.ndarray  # [n, h, w, 3] uint8
    driving_xy: np.ndarray  # [n, k, 2] px of the crops
    xy: np.ndarray  # [n, k, 2] px, where the source's points were moved to


class Puppet:
    """Moves the source batch by batch; motion is measured against the first driving frame of all."""

    def __init__(self, system: System, source: np.ndarray, absolute: bool) -> None:
        """`source` is a crop [h, w, 3] of the system's size. `absolute` takes the driving points themselves; else the
        source's points move as they have moved since the first frame, scaled by `hull_scale`."""
        self.system, self.source, self.absolute = system, source, absolute
        self.of_source = system.frames(source[None])
        self.scale: float | None = None
        self._first: Frames | None = None

    def __call__(self, driving: np.ndarray) -> Moved:
        """Moves the source by driving crops [n, h, w, 3], which come in order."""
        system, of_driving = self.system, self.system.frames(driving)
        target = of_driving
        if not self.absolute:
            if self._first is None:
                self._first = repeated(of_driving, 1)
                source_xy, first_xy = (system.px(frames)[0] for frames in (self.of_source, self._first))
                self.scale = hull_scale(source_xy, first_xy)
            target = relative(self.of_source, self._first, of_driving, self.scale or 1.0)
        generated = system.generate(self.source, self.of_source, target)
        return Moved(generated, system.px(of_driving), system.px(target))


def relative(source: Frames, first: Frames, driving: Frames, scale: float) -> Frames:
    """Moves each of the source's points as the driving one has moved since the first frame, times `scale`, and turns its
    local frame likewise: J_d J_d0^-1 J_s. So differences of build between source and driving image do not matter."""
    xy_corner = source.xy_corner + scale * (driving.xy_corner - first.xy_corner)
    if source.jacobian is None or first.jacobian is None or driving.jacobian is None:
        return Frames(xy_corner, None)
    return Frames(xy_corner, driving.jacobian @ grids.inverse(first.jacobian) @ source.jacobian)


def hull_area(xy: np.ndarray) -> float:
    """Measures the convex hull of points [k, 2]; 0 for fewer than three, and for points on a line."""
    return cv2.contourArea(cv2.convexHull(np.asarray(xy, np.float32)))


def hull_scale(source_xy: np.ndarray, driving_xy: np.ndarray) -> float:
    """Computes how much wider the source's points [k, 2] are spread than the driving ones: the root of the ratio of their
    convex hulls' areas (`adapt_movement_scale` of the published code); 1 where one of them has no area."""
    of_source, of_driving = hull_area(source_xy), hull_area(driving_xy)
    return (of_source / of_driving) ** 0.5 if of_source > 0 and of_driving > 0 else 1.0
