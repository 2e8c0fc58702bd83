"""LiteRT, which was TensorFlow Lite: files of `fiducial export --to litert`, on the CPU by XNNPACK. Extra `litert`.

The card lies behind the network (`card_behind`), where .tflite files have what belongs to them. Crops go one by one
through a network of a static batch of one, as delegates want it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from fiducial.data import noise
from fiducial.errors import BadAnswer, UserError, first_line
from fiducial.runtime import card_behind, export_card, finder_file
from fiducial.runtime.export_card import ExportCard
from fiducial.types import Keypoints

NAME, TITLE, TARGET = "litert", "LiteRT", "litert"
FILES = (".tflite", finder_file.ENDING)
EXPORT = "fiducial.exporting.litert_export:write"
LACKS = f"{__name__}:lacks"
LAYERS = None
INT8 = "fiducial.exporting.int8.litert_int8:LitertQuantizer"
PACKAGE = "ai-edge-litert"
POINTS = "points"  # the signature with the decode; the other one is `exporting.phone_parts.NETWORK`


def matches(path: Path) -> bool:
    """Other projects' .tflite files have no card of ours behind them."""
    return path.suffix.lower() == ".tflite" and path.is_file() and card_behind.is_there(path)


def lacks() -> str | None:
    """Tells how the interpreter is installed; None where it is."""
    try:
        library()
    except UserError as error:
        return str(error)
    return None


def load(path: Path, threads: int | None = None, flip_test: bool = False) -> LitertNetwork:
    """`threads`: None = the library's own choice. The network must be the one that was exported: LiteRT itself may crash
    on a damaged one."""
    if flip_test:
        raise UserError(f"{path}: --flip-test needs the run folder; an exported file holds the plain network")
    card = card_behind.read(path, NAME)
    return LitertNetwork(library(), card, path, threads)


def library() -> Any:
    """The package's interpreter, or the command that installs it."""
    try:
        from ai_edge_litert import interpreter  # type: ignore[import-not-found]
    except ModuleNotFoundError as error:
        raise UserError(f"{PACKAGE} is not installed: pip install 'fiducial[litert]'") from error
    return interpreter


class LitertNetwork:
    """A loaded network and its card."""

    runtime = NAME

    def __init__(self, interpreter: Any, export: ExportCard, path: Path, threads: int | None) -> None:
        from importlib import metadata

        self.version = metadata.version(PACKAGE)
        self.export, self.card, self.path = export, export.card, path
        self._library, self._threads = interpreter, threads
        self._of_thread = threading.local()
        self._runner()  # what can't be loaded is said now

    def predict(self, crops: np.ndarray) -> Keypoints:
        return export_card.points_of_each(self.export, self._of_one, crops, self.path)

    def _of_one(self, crop: np.ndarray) -> list[np.ndarray]:
        run = self._runner()
        try:
            answer = run(crops=np.ascontiguousarray(crop))
        except (RuntimeError, ValueError) as error:
            raise BadAnswer(self.path, f"LiteRT fails on an image: {first_line(error)}") from error
        return [answer[name] for name in self.export.outputs if name in answer]

    def full(self, image: np.ndarray, boxes_xywh: np.ndarray | None = None) -> Keypoints | None:
        """None: the crop is never in the file."""

    def _runner(self) -> Any:
        """This thread's own: one can't answer two at a time."""
        if not hasattr(self._of_thread, "run"):
            try:
                with noise.taken(str(self.path)):  # it says on stderr which delegate it takes
                    graph = self._library.Interpreter(str(self.path), num_threads=self._threads)
                    graph.allocate_tensors()
                    self._of_thread.graph = graph  # of which the signature is a part
                    self._of_thread.run = graph.get_signature_runner(POINTS)
            except (RuntimeError, ValueError) as error:
                raise UserError(self.path, f"LiteRT can't load it: {first_line(error)}") from error
        return self._of_thread.run
