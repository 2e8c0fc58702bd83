"""Finds instances in whole images, in any runtime: the image is brought to the finder's size as crops are cut, and what is
found comes back in px of the image. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from fiducial import geometry
from fiducial.card import DetectorSpec
from fiducial.data import crops
from fiducial.errors import BadAnswer
from fiducial.geometry import Size
from fiducial.log import logger
from fiducial.types import Found, Skeleton


class FindingNetwork(Protocol):
    """What a runtime's network offers that finds instances."""

    @property
    def finds(self) -> DetectorSpec | None:
        """The finder's spec; None where the model has none."""
        ...

    def find(self, scenes: np.ndarray) -> Found:
        """uint8 RGB [b, h, w, 3] of the spec's size -> boxes [b, n, 4] in px of them, the surest first."""
        ...


def finder_of(network: object) -> Finder | None:
    """Gives the finder of a network, where its runtime's file offers one and the model has it."""
    spec = getattr(network, "finds", None)
    return None if spec is None else Finder(cast(FindingNetwork, network), spec)


@dataclass(frozen=True)
class Finder:
    """A loaded finder that answers in px of the image it is given.

    >>> found = finder(image)  # doctest: +SKIP
    >>> found.box_xywh.shape, found.score.shape  # doctest: +SKIP
    ((3, 4), (3,))"""

    network: FindingNetwork
    spec: DetectorSpec

    @property
    def threshold(self) -> float:
        """Gives the score from which on an instance counts."""
        return float(self.spec.head["threshold"])

    def __call__(self, image: np.ndarray, min_score: float | None = None) -> Found:
        """Finds the instances of an image: uint8 RGB [h, w, 3]; those whose score is `min_score` [`threshold`] or more."""
        scene, image_to_scene = crops.cut(image, None, self.spec.size, 1.0)
        found = self.network.find(scene)
        return placed(
            Found(found.box_xywh[0], found.score[0], found.kind[0]),
            image_to_scene[0],
            Size(image.shape[1], image.shape[0]),
            self.threshold if min_score is None else min_score,
        )


def kinds_of(finder: Finder, skeleton: Skeleton) -> np.ndarray | None:
    """Gives the number in a skeleton's `kinds` of each kind that a finder finds, [kinds]; None where it does not tell them
    apart, and then all points are looked for in all instances, which is said."""
    names, known = finder.spec.skeleton.points, list(skeleton.kinds)
    if not known:
        return None
    if not set(names) <= set(known):
        told = f"the finder finds {', '.join(names)}, and the detector's kinds are {', '.join(known)}"
        logger.warning(f"{told}: which is which is not known, so that all points are looked for in all instances")
        return None
    return np.array([known.index(name) for name in names], np.int64)


def placed(found: Found, image_to_scene: np.ndarray, size: Size, min_score: float) -> Found:
    """Puts what was found in a scene on its image: boxes whose middle lies in it and whose score is high enough."""
    boxes = geometry.map_boxes(geometry.invert(image_to_scene), found.box_xywh.astype(np.float64))
    boxes = geometry.rounded_boxes(boxes)
    kept = (found.score >= min_score) & geometry.inside(geometry.box_middle(boxes), size)
    kept = kept & (boxes[:, 2:] > 0).all(1) & np.isfinite(boxes).all(1)
    return Found(boxes[kept].astype(np.float32), found.score[kept], found.kind[kept])


def found_of(answers: list[Any], path: Path) -> Found:
    """Joins what a graph gave for scenes one by one: boxes [1, m, 4], scores [1, m] and, where it tells several apart, kinds
    [1, m] each."""
    boxes, score, *kinds = (np.concatenate(column) for column in zip(*answers, strict=True))
    if not (np.isfinite(boxes).all() and np.isfinite(score).all()):
        raise BadAnswer(path, "gives boxes that are not finite: its weights are damaged. Export it anew")
    return Found(boxes, score, kinds[0] if kinds else np.zeros(score.shape, np.int64))
