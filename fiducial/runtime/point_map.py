"""A linear map that makes the points of one's own labels of those that a network finds.

It lies beside the network's file (`NAME.map.json` of `NAME.tflite` or `NAME.onnx`; `fiducial adapt` writes it), and whoever
loads the file gets the mapped points. Both kinds of points are seen in the instance's box, widened to the aspect of `frame`, whose longer
side is 1. The map begins at the network's points of the same names (elsewhere at nothing) and adds a constant and a linear
function of all its points."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import config, geometry, text_files
from fiducial.card import MAP, Card
from fiducial.errors import UserError, expect
from fiducial.geometry import Size
from fiducial.runtime.export_card import ExportCard
from fiducial.runtime.views import Views
from fiducial.types import Keypoints, Skeleton, Spread

LARGEST_MB = 64.0
MOST_VIEWS = 100
DIGITS = 7  # that numbers are written with: a hundredth of a millionth of the box


@dataclass(frozen=True)
class Linear:
    """Corrects points: `offset` plus the inputs' deviations from `centre` times `weights`."""

    centre: np.ndarray  # [2k]
    offset: np.ndarray  # [2m]
    weights: np.ndarray  # [2k, 2m]
    strength: float  # of the ridge that it was fitted with


@dataclass(frozen=True, kw_only=True)
class PointMap:
    """Makes the points of labels from a network's. `cross_validated`: its NME on labels that it was not learnt from."""

    places: np.ndarray  # [m] which of the network's points each is by its name, -1 = none
    by_number: bool = False  # places are those of as many points by their numbers, since no name is the same
    frame: Size
    linear: Linear | None = None  # None: by name alone
    labels: int = 0  # instances that it was learnt from
    cross_validated: float | None = None

    def __call__(self, found: Keypoints, box_xywh: np.ndarray) -> Keypoints:
        """Maps points in images: xy [n, k, 2] -> [n, m, 2]; what can't be had scores 0."""
        named = self.places >= 0
        score = np.where(named, found.score[:, self.places], 0.0)
        if self.linear is None:
            return Keypoints(np.where(named[:, None], found.xy[:, self.places], 0.0), score)
        to_frame = frame_of(box_xywh, self.frame)
        inputs = geometry.transform(to_frame, found.xy.astype(np.float64))
        xy = geometry.transform(geometry.invert(to_frame), corrected(inputs, self.places, self.linear))
        return Keypoints(xy, np.where(named, score, found.score.mean(1, keepdims=True)))

    def told(self) -> str:
        """Says how the points are made."""
        named, same = int((self.places >= 0).sum()), "numbers (no name is the same)" if self.by_number else "names"
        if self.linear is None:
            return f"{named} of {len(self.places)} points by their {same}"
        return f"a linear map from {self.labels} labelled instances" + (
            f", which corrects {named} points of the same {same}" if named else ""
        )


def frame_of(box_xywh: np.ndarray, frame: Size) -> np.ndarray:
    """Makes the maps from images onto boxes [n, 4], widened to the aspect of `frame`, of which the longer side is 1: [n, 3, 3]."""
    shrunk = geometry.scaling(1 / max(frame), 1 / max(frame))
    maps = [geometry.compose(geometry.crop(geometry.fit_aspect(box, frame), frame), shrunk) for box in box_xywh]
    return np.array(maps).reshape(-1, 3, 3)


def start(inputs: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Gives the points that are there by name, and 0 for the others: [n, k, 2] -> [n, m, 2], in the frame."""
    return np.where((places >= 0)[:, None], inputs[:, places], 0.0)


def corrected(inputs: np.ndarray, places: np.ndarray, linear: Linear) -> np.ndarray:
    """Maps points in the frame: [n, k, 2] -> [n, m, 2]."""
    flat = inputs.reshape(len(inputs), 2 * inputs.shape[1])
    change = linear.offset + (flat - linear.centre) @ linear.weights
    return start(inputs, places) + change.reshape(len(inputs), len(places), 2)


# ------------------------------------------------------------------------------------------------------------ the file


@dataclass(frozen=True, kw_only=True)
class MapFile:
    """Holds a map as it is written, and what is known of the points that it makes."""

    skeleton: Skeleton
    network_points: int
    places: tuple[int, ...]
    frame: Size
    views: int = 1  # of a crop that the network is asked about
    centre: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    weights: tuple[tuple[float, ...], ...] = ()  # none: by name alone
    labels: int = 0
    cross_validated: float | None = None
    spread: Spread | None = None  # how far the points may be off; None = not measured
    learnt_from: dict[str, str] = field(default_factory=dict)  # what its labels are -> licence

    def __post_init__(self) -> None:
        k, m = self.network_points, len(self.skeleton.points)
        expect(k >= 1, "network_points", k, "1 or more")
        expect(1 <= self.views <= MOST_VIEWS, "views", self.views, f"1 to {MOST_VIEWS}")
        fits = len(self.places) == m and all(-1 <= place < k for place in self.places)
        expect(fits, "places", f"{len(self.places)} numbers", f"{m} from -1 to {k - 1}, one a point of the skeleton")
        expect(all(side >= 1 for side in self.frame), "frame", self.frame, "sides of 1 or more")
        if self.weights or self.centre or self.offset:
            shapes = (len(self.centre), len(self.offset), len(self.weights), {len(row) for row in self.weights})
            fits = shapes == (2 * k, 2 * m, 2 * k, {2 * m})
            expect(
                fits, "weights", f"{len(self.weights)} rows", f"{2 * k} rows of {2 * m}, as many as points have x and y"
            )
        if self.spread is not None:
            expect(len(self.spread.scale) == m, "spread.scale", len(self.spread.scale), f"{m} numbers")

    @property
    def map(self) -> PointMap:
        """Makes the map."""
        linear = None
        if self.weights:
            linear = Linear(np.array(self.centre), np.array(self.offset), np.array(self.weights), math.nan)
        return PointMap(
            places=np.array(self.places, np.int64),
            frame=self.frame,
            linear=linear,
            labels=self.labels,
            cross_validated=self.cross_validated,
        )


def file_of(learnt: PointMap, skeleton: Skeleton, network: Skeleton, **known: Any) -> MapFile:
    """Makes what is written of a map to the points of `skeleton`; `known`: other fields of `MapFile`."""
    numbers: dict[str, Any] = {}
    if (linear := learnt.linear) is not None:
        numbers = {"centre": _rounded(linear.centre), "offset": _rounded(linear.offset)}
        numbers["weights"] = tuple(map(_rounded, linear.weights))
    return MapFile(
        skeleton=skeleton,
        network_points=len(network.points),
        places=tuple(learnt.places.tolist()),
        frame=learnt.frame,
        labels=learnt.labels,
        cross_validated=learnt.cross_validated,
        **numbers,
        **known,
    )


def beside(model: Path) -> Path:
    """Names the file of the map of a network's file."""
    return model.with_name(model.name.partition(".")[0] + MAP)


def read(path: Path) -> MapFile:
    """Reads a map's file. Raises UserError that names the field where it is none."""
    return config.from_dict(MapFile, text_files.read_json(path, LARGEST_MB), str(path))


def unmapped(network: Any) -> Any:
    """Gives the network behind a map; others as they are."""
    return network.network if isinstance(network, MappedNetwork) else network


class MappedNetwork:
    """A network with a map behind it; implements `runtime.Exported`. `network` is the one that finds its own points."""

    def __init__(self, network: Any, written: MapFile) -> None:
        own: Card = network.card
        count = len(own.spec.skeleton.points)
        if count != written.network_points:
            where = beside(network.path)
            raise UserError(
                where, f"maps {written.network_points} points, and {network.path.name} finds {count}: it is another's"
            )
        self.network, self.map, self._written = network, written.map, written
        self.path, self.runtime = network.path, network.runtime
        spec = replace(own.spec, skeleton=written.skeleton, spread=written.spread)
        licences = {self.path.name: own.licence, **(own.derived_from or {}), **written.learnt_from}
        self.card = replace(own, spec=spec, metrics={}, derived_from=licences)
        self.export: ExportCard = replace(network.export, card=self.card)
        size = own.spec.size
        middle = np.array([0.5, 0.5, 1 / own.spec.padding, 1 / own.spec.padding])
        self._asked = Views(network, written.views)
        self._box = geometry.box_from_unit(middle, size)  # of every instance, on its crop

    def __getattr__(self, name: str) -> Any:
        """Finders, and what else a runtime's network offers."""
        if name == "network":  # before it is there, as when it is copied
            raise AttributeError(name)
        return getattr(self.network, name)

    def with_spread(self, told: Spread) -> MappedNetwork:
        """Gives the same network with another spread."""
        return MappedNetwork(self.network, replace(self._written, spread=told))

    def predict(self, crops: np.ndarray) -> Keypoints:
        """Finds the points in crops [n, h, w, 3] of the card's size."""
        points = self.map(self._asked.predict(crops), np.tile(self._box, (len(crops), 1)))
        columns = (points.xy.astype(np.float32), points.score.astype(np.float32))
        if (told := self._written.spread) is None:
            return Keypoints(*columns)
        # All that is known of a point's error is that of its kind.
        sigma = np.broadcast_to(np.array(told.scale, np.float32)[:, None], (*points.score.shape, 2))
        return Keypoints(*columns, sigma, spread=told)

    def full(self, image: np.ndarray, boxes_xywh: np.ndarray | None = None) -> Keypoints | None:
        """None: the map is behind the crop."""


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(f"{value:.{DIGITS}g}") for value in values)
