"""ONNX Runtime: files of `fiducial export --to onnx`, on the CPU. In the base install."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fiducial.data import crops as cutting
from fiducial.deploy import export_card
from fiducial.errors import UserError
from fiducial.types import Keypoints

NAME = "onnxruntime"


def matches(path: Path) -> bool:
    return path.suffix.lower() == ".onnx"


def load(path: Path, threads: int | None = None, flip_test: bool = False) -> OnnxNetwork:
    """`threads`: None = as many as the machine has cores."""
    import onnxruntime

    if flip_test:
        raise UserError(f"{path}: --flip-test needs the run folder; an exported file holds the plain network")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # its warnings are about its own optimisations
    options.intra_op_num_threads = threads or 0
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common class of their own
        reason = str(error).splitlines()[0].rpartition(" : ")[2]
        raise UserError(f"{path}: ONNX Runtime can't load it: {reason}") from error
    card = export_card.of_metadata(session.get_modelmeta().custom_metadata_map, path, NAME)
    return OnnxNetwork(session, card, path)


class OnnxNetwork:
    """A session and its card."""

    runtime = NAME

    def __init__(self, session: Any, export: export_card.ExportCard, path: Path) -> None:
        self.session, self.export, self.card, self.path = session, export, export.card, path
        self._no_image = np.zeros((1, 1, 3), np.uint8)
        self._no_boxes = np.zeros((0, 4), np.float32)

    def predict(self, crops: np.ndarray) -> Keypoints:
        if len(crops) == 0:
            return export_card.no_points(self.export)
        feed = {"crops": crops}
        if self.export.crop == "inside":
            feed |= {"image": self._no_image, "boxes": self._no_boxes}
        return self._answer(feed)

    def full(self, image: np.ndarray, boxes_xywh: np.ndarray | None = None) -> Keypoints | None:
        """Through the crop in the file, in px of the image; None where the file has none."""
        boxes, _ = cutting.checked_boxes(image, boxes_xywh, 1.0)
        if self.export.crop == "outside":
            return None
        if len(boxes) == 0:
            return export_card.no_points(self.export)
        given = self._no_boxes if boxes_xywh is None else boxes.astype(np.float32)
        return self._answer({"image": np.ascontiguousarray(image), "boxes": given})

    def _answer(self, feed: dict[str, np.ndarray]) -> Keypoints:
        found = self.session.run(None, feed)
        return Keypoints(**dict(zip(self.export.outputs, found, strict=True)))
