"""A graph of another project and its card as a model: crops in, points out, as every model of `runtime`."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from fiducial.card import Card, DetectorSpec
from fiducial.errors import BadAnswer, UserError
from fiducial.log import logger
from fiducial.runtime.export_card import ExportCard
from fiducial.runtime.foreign import outputs
from fiducial.runtime.foreign.network_card import NetworkCard, Signature, card_of
from fiducial.types import Keypoints

METHOD = "foreign"  # of its `Card`: how its points are found is its own affair


class Graph(Protocol):
    """Offers a loaded network of whatever runtime."""

    runtime: str
    signature: Signature
    version: str | None  # of the runtime; None: that of the package of its name

    def __call__(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Runs it on one crop [1, ..] of its only input; outputs by name. UserError where it fails."""
        ...


class ForeignNetwork:
    """Implements `runtime.Exported`."""

    def __init__(self, graph: Graph, path: Path) -> None:
        self.graph, self.path, self.runtime, self.version = graph, path, graph.runtime, graph.version
        self.reading, self.card_from = card_of(path, graph.signature)
        self._check_input()
        size = self.reading.input.size
        self._count = self._find(np.zeros((1, size.h, size.w, 3), np.uint8)).xy.shape[1]
        try:
            skeleton = self.reading.skeleton(self._count)
        except UserError as error:
            raise UserError(self.path, f"card from {self.card_from}: {error}") from error
        spec = DetectorSpec(self.reading.name, METHOD, {}, size, skeleton, padding=self.reading.padding)
        self.card = Card(spec, self.reading.licence, initialization=self.reading.source or path.name, derived_from={})
        self.export = ExportCard(self.card, self.runtime, ("xy", "score"), crop="outside")
        logger.info(f"{path.name}: {self._count} points of {self.reading.name}; card from {self.card_from}")

    def predict(self, crops: np.ndarray) -> Keypoints:
        """Finds the points in crops, one after the other."""
        found = [self._find(crops[i : i + 1]) for i in range(len(crops))]
        if not found:
            return Keypoints(np.zeros((0, self._count, 2), np.float32), np.zeros((0, self._count), np.float32))
        xy, score = (np.concatenate(parts).astype(np.float32) for parts in zip(*found, strict=True))
        if not (np.isfinite(xy).all() and np.isfinite(score).all()):
            raise BadAnswer(self.path, "gives numbers that are not finite: its weights are damaged")
        return Keypoints(xy, score)

    def full(self, image: np.ndarray, boxes_xywh: np.ndarray | None = None) -> Keypoints | None:
        """None: the crop is never in the file."""

    def _find(self, crop: np.ndarray) -> outputs.Found:
        try:
            return outputs.points_of(self.graph(input_of(crop, self.reading, self._kind)), self.reading, len(crop))
        except UserError as error:
            if error.where:
                raise
            raise UserError(self.path, f"card from {self.card_from}: {error}") from error

    def _check_input(self) -> None:
        inputs, spec = self.graph.signature.inputs, self.reading.input
        if len(inputs) != 1 or spec.name not in (None, inputs[0].name):
            names = ", ".join(map(str, inputs))
            raise UserError(self.path, f"has the inputs {names}; expected {spec.name or 'a single one'}, for the crop")
        shape = inputs[0].shape
        if len(shape) != 4 or any(side not in (0, own) for side, own in zip(shape, (1, *spec.shape), strict=True)):
            raise UserError(
                self.path,
                f"takes {inputs[0]}, and its card ({self.card_from}) says {spec.layout} of {spec.size}: "
                f"[1, {', '.join(map(str, spec.shape))}]. Mend the card",
            )
        self._kind = inputs[0].kind


def input_of(crop: np.ndarray, card: NetworkCard, kind: str) -> np.ndarray:
    """Makes a network's input of uint8 RGB crops [n, h, w, 3]. What takes whole numbers gets them rounded."""
    spec = card.input
    values = crop[..., ::-1] if spec.colours == "bgr" else crop
    values = (values.astype(np.float32) - np.array(spec.mean, np.float32)) / np.array(spec.std, np.float32)
    values = values if spec.layout == "nhwc" else values.transpose(0, 3, 1, 2)
    if np.issubdtype(np.dtype(kind), np.integer):
        limits = np.iinfo(kind)
        values = np.rint(values).clip(limits.min, limits.max)
    return np.ascontiguousarray(values.astype(kind))
