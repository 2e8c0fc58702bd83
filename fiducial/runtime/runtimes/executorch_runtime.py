"""ExecuTorch: files of `fiducial export --to executorch`, on the CPU by XNNPACK. Its package for Python needs torch; what
runs on a phone does not. Crops go one by one through a network of a static batch of one."""

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

NAME, TITLE, TARGET = "executorch", "ExecuTorch", "executorch"
FILES = (".pte", finder_file.ENDING)
EXPORT = "fiducial.exporting.executorch_export:write"
LAYERS = None
INT8 = "fiducial.exporting.int8.executorch_int8:ExecutorchQuantizer"
START_SECONDS = 20  # with torch
METHOD, INSTALL = "forward", "pip install 'executorch==1.5.1'"


def matches(path: Path) -> bool:
    return path.suffix.lower() == ".pte" and not path.is_dir()


def load(path: Path, threads: int | None = None, flip_test: bool = False) -> ExecutorchNetwork:
    """`threads` are the library's own choice: from Python it takes none. The network must be the one that was exported."""
    if flip_test:
        raise UserError(f"{path}: --flip-test needs the run folder; an exported file holds the plain network")
    card = card_behind.read(path, NAME)
    with noise.taken(str(path)):  # its packages say on stderr what they find and lack
        return ExecutorchNetwork(library(), card, path)


def library() -> Any:
    """The package's runtime, or the command that installs it."""
    try:
        from executorch import runtime  # type: ignore[import-not-found]
    except ImportError as error:
        raise UserError(f"executorch is not installed ({error}): {INSTALL}") from error
    return runtime


class ExecutorchNetwork:
    """A loaded program and its card."""

    runtime = NAME

    def __init__(self, library: Any, export: ExportCard, path: Path) -> None:
        self.export, self.card, self.path = export, export.card, path
        self._lock = threading.Lock()  # a method answers one thread at a time
        try:
            self._program = library.Runtime.get().load_program(path.read_bytes())
            self._method = self._program.load_method(METHOD)
        except RuntimeError as error:
            raise UserError(path, f"ExecuTorch can't load it: {error}") from error

    def predict(self, crops: np.ndarray) -> Keypoints:
        return export_card.points_of_each(self.export, self._of_one, crops, self.path)

    def _of_one(self, crop: np.ndarray) -> list[np.ndarray]:
        import torch  # the package's tensors are torch's

        try:
            with self._lock:
                answer = self._method.execute([torch.from_numpy(np.ascontiguousarray(crop))])
                # Copies: the method's own memory is written to by the next crop.
                return [part.numpy().copy() for part in answer]
        except RuntimeError as error:
            raise BadAnswer(self.path, f"ExecuTorch fails on an image: {first_line(error)}") from error

    def full(self, image: np.ndarray, boxes_xywh: np.ndarray | None = None) -> Keypoints | None:
        """None: the crop is never in the file."""
