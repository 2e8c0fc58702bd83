"""Core ML: files of `fiducial export --to coreml`, which macOS and iOS run and nothing else does.

A file is a folder, `model.mlpackage`, with two functions that share the weights. The card is in the entries that apps may
put into such files. It is run on the CPU, whose float32 is what the certificate compares; apps choose for themselves."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fiducial.errors import BadAnswer, UserError, first_line
from fiducial.log import others_quiet
from fiducial.runtime import export_card, finder_file
from fiducial.runtime.export_card import ExportCard
from fiducial.types import Keypoints

NAME, TITLE, TARGET = "coreml", "Core ML", "coreml"
FILES = (".mlpackage", finder_file.ENDING)
EXPORT = "fiducial.exporting.coreml_export:write"
LACKS = f"{__name__}:lacks"
FINISH = "fiducial.exporting.coreml_finish:written"
LAYERS, INT8 = None, None
PACKAGE, INSTALL = "coremltools", "pip install 'fiducial[coreml]'"


def matches(path: Path) -> bool:
    return path.suffix.lower() == ".mlpackage"


def lacks() -> str | None:
    """Says that this is no Mac, or how the package is installed; None where files can be run."""
    if sys.platform != "darwin":
        return "Core ML runs on macOS and iOS alone"
    try:
        library()
    except UserError as error:
        return str(error)
    return None


def load(path: Path, threads: int | None = None, flip_test: bool = False) -> CoremlNetwork:
    """`threads` are the system's own choice. Raises UserError on anything but a Mac."""
    if flip_test:
        raise UserError(f"{path}: --flip-test needs the run folder; an exported file holds the plain network")
    if (why := lacks()) is not None:
        raise UserError(path, f"can't be run here: {why}. Export the run to another target as well (--to onnx)")
    coremltools = library()
    try:
        with quiet():
            model = coremltools.models.MLModel(str(path), compute_units=coremltools.ComputeUnit.CPU_ONLY)
    except Exception as error:  # of any kind that the system has
        raise UserError(path, f"Core ML can't load it: {first_line(error)}") from error
    return CoremlNetwork(model, export_card.of_metadata(model.user_defined_metadata, path, NAME), path)


def card_of(path: Path) -> ExportCard:
    """Reads the card of a file, on any machine that has the package."""
    coremltools = library()
    try:
        with quiet():
            model = coremltools.models.MLModel(str(path), skip_model_load=True)
    except Exception as error:  # of what is no such folder
        raise UserError(path, f"can't be read as a Core ML package: {first_line(error)}") from error
    return export_card.of_metadata(model.user_defined_metadata, path, NAME)


def library() -> Any:
    """The package, or the command that installs it."""
    try:
        with quiet():
            import coremltools  # type: ignore[import-not-found]
    except ImportError as error:
        raise UserError(f"{PACKAGE} is not installed: {INSTALL}") from error
    return coremltools


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without its bars, and what it says of packages and machines that it was not tried with."""
    with others_quiet(), contextlib.redirect_stderr(io.StringIO()):
        yield


class CoremlNetwork:
    """A loaded package and its card; its default function gives points."""

    runtime = NAME

    def __init__(self, model: Any, export: ExportCard, path: Path) -> None:
        from importlib import metadata

        self.version = metadata.version(PACKAGE)
        self.export, self.card, self.path, self._model = export, export.card, path, model

    def predict(self, crops: np.ndarray) -> Keypoints:
        return export_card.points_of_each(self.export, self._of_one, crops, self.path)

    def _of_one(self, crop: np.ndarray) -> list[np.ndarray]:
        try:
            answer = self._model.predict({"crops": crop.astype(np.float32)})
        except RuntimeError as error:
            raise BadAnswer(self.path, f"Core ML fails on an image: {first_line(error)}") from error
        return [answer[name] for name in self.export.outputs if name in answer]

    def full(self, image: np.ndarray, boxes_xywh: np.ndarray | None = None) -> Keypoints | None:
        """None: the crop is never in the file."""
