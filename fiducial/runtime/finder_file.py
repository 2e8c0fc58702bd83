"""A finder in a file of its own, beside a detector of a runtime whose files can't hold both: ONNX Runtime runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fiducial.card import DetectorSpec
from fiducial.errors import UserError
from fiducial.runtime import export_card
from fiducial.runtime.finder import Finder, found_of
from fiducial.types import Found

ENDING = ".finder.onnx"
OUTPUTS = ("box", "score", "kind")


def beside(model: Path) -> Path:
    """Names the file of the finder of a detector's file."""
    return model.with_name(model.name.partition(".")[0] + ENDING)


def finder_beside(model: Path, threads: int | None) -> Finder | None:
    """Loads the finder that lies beside a detector's exported file; None where there is none."""
    path = beside(model)
    return load(path, threads) if path != model and path.is_file() else None


def load(path: Path, threads: int | None) -> Finder:
    """Loads a finder's own file. Raises UserError where it is none."""
    from fiducial.runtime.runtimes import onnx_runtime

    session = onnx_runtime.session_of(path, threads or 1)
    card = export_card.of_metadata(session.get_modelmeta().custom_metadata_map, path, onnx_runtime.NAME)
    if card.finder is None:
        raise UserError(path, "is no finder; export the run anew")
    return Finder(FinderFile(session, card.finder, path), card.finder)


class FinderFile:
    """A session of a finder; implements `FindingNetwork`."""

    def __init__(self, session: Any, finds: DetectorSpec, path: Path) -> None:
        self.session, self.finds, self.path = session, finds, path

    def find(self, scenes: np.ndarray) -> Found:
        return found_of([self.session.run(list(OUTPUTS), {"scenes": scene[None]}) for scene in scenes], self.path)
