"""ONNX Runtime: files of `fiducial export --to onnx`, and of other projects (`foreign/`), on the CPU. In the base install.

Several crops go one by one through the network, as many at a time as there are threads. On a CPU that is quicker than one
batch: the maps of one crop stay in the core's cache, where those of eight don't, and the threads need not meet after every
layer (`benchmarks/export_overhead.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import files
from fiducial.card import DetectorSpec
from fiducial.data import crops as cutting
from fiducial.errors import BadAnswer, UserError
from fiducial.runtime import export_card, finder
from fiducial.runtime.foreign import network_card
from fiducial.runtime.foreign.network import ForeignNetwork
from fiducial.runtime.foreign.network_card import Signature, Tensor
from fiducial.types import Found, Keypoints

NAME, TITLE, TARGET = "onnxruntime", "ONNX Runtime", "onnx"
FILES = (".onnx", network_card.SUFFIX)
EXPORT = "fiducial.exporting.onnx_export:write"
LAYERS = "fiducial.profiling.onnxruntime_nodes:measure"
INT8 = "fiducial.exporting.int8.onnx_int8:OnnxQuantizer"
FOUND = ("box", "box_score", "box_kind")  # outputs of a file with a finder: what it found in an image


def matches(path: Path) -> bool:
    return path.suffix.lower() == ".onnx" and not path.is_dir()


def load(path: Path, threads: int | None = None, flip_test: bool = False) -> OnnxNetwork | ForeignNetwork:
    """`threads`: None = as many as there are cores for this process."""
    if flip_test:
        raise UserError(f"{path}: --flip-test needs the run folder; an exported file holds the plain network")
    threads = threads or files.cores()
    session = session_of(path, threads)
    metadata = session.get_modelmeta().custom_metadata_map
    if export_card.KEY not in metadata:
        return ForeignNetwork(OnnxGraph(session, path), path)
    card = export_card.of_metadata(metadata, path, NAME)
    return OnnxNetwork(session, card, path, threads)


def session_of(path: Path, threads: int) -> Any:
    """onnxruntime's session; UserError where it refuses the file."""
    import onnxruntime

    files.refuse_strange(path, "an ONNX network")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # its warnings are about its own optimisations
    options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common class of their own
        raise UserError(f"{path}: ONNX Runtime can't load it: {reason_of(error)}") from error


def reason_of(error: Exception) -> str:
    """Gives what is said after ONNX Runtime's codes, its first line."""
    return next(iter(str(error).splitlines()), type(error).__name__).rpartition(" : ")[2]


class OnnxGraph:
    """A network of another project; implements `foreign.network.Graph`."""

    runtime: str = NAME
    version: str | None = None

    def __init__(self, session: Any, path: Path) -> None:
        self.session, self.path = session, path
        self.signature = Signature(
            *(tuple(map(_tensor, values)) for values in (session.get_inputs(), session.get_outputs()))
        )

    def __call__(self, values: np.ndarray) -> dict[str, np.ndarray]:
        names = [tensor.name for tensor in self.signature.outputs]
        try:
            found = self.session.run(names, {self.signature.inputs[0].name: values})
        except Exception as error:  # its exceptions have no common class of their own
            raise BadAnswer(self.path, f"ONNX Runtime fails on an image: {reason_of(error)}") from error
        return dict(zip(names, found, strict=True))


def _tensor(value: Any) -> Tensor:
    """Describes an input or output of a session; it names numbers as C does."""
    kind: str = value.type.removeprefix("tensor(").removesuffix(")")
    if kind in ("float", "double"):
        kind = "float32" if kind == "float" else "float64"
    return Tensor(value.name, tuple(side if isinstance(side, int) else 0 for side in value.shape), kind)


class OnnxNetwork:
    """A session and its card."""

    runtime = NAME

    def __init__(self, session: Any, export: export_card.ExportCard, path: Path, threads: int) -> None:
        self.session, self.export, self.card, self.path, self.threads = session, export, export.card, path, threads
        self._no_image = np.zeros((1, 1, 3), np.uint8)
        self._no_boxes = np.zeros((0, 4), np.float32)

    def predict(self, crops: np.ndarray) -> Keypoints:
        if len(crops) == 0:
            return export_card.no_points(self.export)
        if len(crops) == 1:
            return export_card.points_of(self.export, self._of_one(self.session, crops), 1, self.path)
        run = partial(self._of_one, self._for_many)
        mapped = map if self.threads == 1 else self._pool.map
        each = list(mapped(run, np.split(crops, len(crops))))
        columns = [np.concatenate(parts) for parts in zip(*each, strict=True)]
        return export_card.points_of(self.export, columns, len(crops), self.path)

    @property
    def finds(self) -> DetectorSpec | None:
        return self.export.finder

    def find(self, scenes: np.ndarray) -> Found:
        feed = {
            "image": self._no_image,
            "min_score": np.array([2], np.float32),
        }  # nothing counts: the finder alone runs
        names = ["found_box", "found_score", "found_kind"]
        answers = [self._run(self.session, {**feed, "scene": scene[None]}, names) for scene in scenes]
        return finder.found_of(answers, self.path)

    @cached_property
    def _for_many(self) -> Any:
        """The same file for crops side by side, a thread each; made when there are several for the first time."""
        return self.session if self.threads == 1 else session_of(self.path, 1)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads, thread_name_prefix="fiducial-crops")

    def _of_one(self, session: Any, crop: np.ndarray) -> list[np.ndarray]:
        feed = {"crops": crop}
        if self.export.crop == "inside":
            feed |= {"image": self._no_image, "boxes": self._no_boxes}
        return self._run(session, feed)

    def _run(self, session: Any, feed: dict[str, np.ndarray], names: list[str] | None = None) -> list[np.ndarray]:
        try:
            return session.run(names, feed)
        except Exception as error:  # its exceptions have no common class of their own
            raise BadAnswer(self.path, f"ONNX Runtime fails on an image: {reason_of(error)}") from error

    def full(self, image: np.ndarray, boxes_xywh: np.ndarray | None = None) -> Keypoints | None:
        """Through the finder and the crop in the file, in px of the image; None where the file has no crop."""
        boxes, _ = cutting.checked_boxes(image, boxes_xywh, 1.0)
        if self.export.crop == "outside":
            return None
        if len(boxes) == 0:
            return export_card.no_points(self.export)
        given = self._no_boxes if boxes_xywh is None else boxes.astype(np.float32)
        feed = {"image": np.ascontiguousarray(image), "boxes": given}
        names = [*self.export.outputs, *([] if self.export.finder is None else FOUND)]
        found = dict(zip(names, self._run(self.session, feed, names), strict=True))
        return self._placed(found, len(boxes), boxes_xywh is not None)

    def _placed(self, found: Mapping[str, np.ndarray], count: int, is_given: bool) -> Keypoints:
        """The points of an image, of a file's outputs by name: `count` boxes were asked about; where they were not given,
        those that the finder found, where there is one."""
        columns = [found[name] for name in self.export.outputs]
        if self.export.finder is None:
            return export_card.points_of(self.export, columns, count, self.path)
        box, score, kind = (found[name] for name in FOUND)
        points = export_card.points_of(self.export, columns, len(box), self.path)
        if is_given:
            return replace(points, box_xywh=box)
        return replace(points, box_xywh=box, box_score=score, kind=kind if self.card.spec.skeleton.kinds else None)
