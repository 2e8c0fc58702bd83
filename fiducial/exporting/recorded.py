"""What a file is to answer, recorded for a machine that can run it: crops, and torch's points on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import files


@dataclass(frozen=True)
class Recorded:
    """The crops of a certificate's pictures, and the answers that are expected."""

    cases: tuple[str, ...]  # names of the kinds of pictures
    pictures: tuple[int, ...]  # of each kind
    case: np.ndarray  # [n] the kind of each crop, by its place among `cases`
    crops: np.ndarray  # [n, h, w, 3] uint8
    xy: np.ndarray  # [n, k, 2] px of the crop
    score: np.ndarray  # [n, k]
    sigma: np.ndarray | None  # [n, k, 2] px of the crop
    picture_px: np.ndarray  # [n] how many px of its picture a px of the crop is


def save(recorded: Recorded, path: Path) -> None:
    """Writes it as arrays by their names, packed."""
    arrays: dict[str, Any] = {name: value for name, value in vars(recorded).items() if value is not None}
    with files.replacing(path) as temporary:
        np.savez_compressed(temporary, **arrays)
