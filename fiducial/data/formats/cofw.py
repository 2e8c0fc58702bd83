"""COFW: COFW_{train,test}[_color].mat, MATLAB's files of HDF5 with faces, their boxes and 29 points, of which some are hidden.

`IsTr` (`IsT` in a test file) refers to the images, inside the file, and `phisTr` has a column a face: 29 x, 29 y, and 29 times
whether the point is hidden (v = 1). `bboxesTr` are x, y, w, h. Coordinates are MATLAB's, so that the centre of the first pixel
is (1, 1). What the points are called stands nowhere; their pairs are those of Burgos-Artizzu et al., ICCV 2013."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import geometry, trial
from fiducial.data import hdf5, skeletons
from fiducial.data.checking import in_columns
from fiducial.data.formats import by_split, mpii, split_in_name
from fiducial.errors import UserError
from fiducial.types import Findings, Instances, Normalizer, Skeleton

TITLE = "COFW: COFW_{train,test}_color.mat"
FILE = "file of COFW's"
KEYS = {"train": "Tr", "test": "T"}  # how the names of what belongs to a split end
COUNT = 29
PAIRS = ((0, 1), (2, 3), (4, 6), (5, 7), (8, 9), (10, 11), (12, 14), (13, 15), (16, 17), (18, 19), (22, 23))
COFW29 = Skeleton(
    name="cofw29",
    points=tuple(skeletons.numbered(COUNT)),
    flip_pairs=PAIRS,
    normalizer=Normalizer("points", "inter-pupil", (16, 17)),
)


@dataclass(frozen=True)
class CellImages:
    """Images to which the cells of a field of MATLAB's refer; implements `Images`."""

    file: Path
    field: str
    rows: Sequence[int]

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, row: int) -> str:
        return f"{self.file}#{self.field}:{self.rows[row]}"

    def read(self, row: int, reduce: int = 1) -> np.ndarray:
        with hdf5.opened(self.file, FILE) as content:
            stored = np.asarray(content[content[self.field][()].ravel()[self.rows[row]]])
        image = stored.T  # MATLAB's first axis is HDF5's last
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (1,), (3,)):
            raise UserError(self.name(row), f"is {image.dtype} {image.shape}, expected uint8 [h, w] or [h, w, 3]")
        grey = image.reshape(*image.shape[:2], -1)
        return np.ascontiguousarray(np.repeat(grey, 3, 2) if grey.shape[2] == 1 else grey)


def find(path: Path) -> dict[str, list[Path]]:
    """The file of each split."""
    if path.is_file():
        return by_split(path, [path]) if is_one(path) else {}
    files = [file for file in sorted(path.glob("*.mat")) if "cofw" in file.name.lower() and is_one(file)]
    colour = [file for file in files if "color" in file.stem.lower()]
    twins = {file.with_name(file.name.lower().replace("_color", "")).name for file in colour}
    return by_split(path, [file for file in files if file in colour or file.name.lower() not in twins])


def is_one(file: Path) -> bool:
    """Tells by name and first bytes whether a file is MATLAB's, since its version 7.3."""
    return file.suffix.lower() == ".mat" and hdf5.is_one(file)


def read(root: Path, files: Sequence[Path], images: Path | None, category: str | None, findings: Findings) -> Instances:
    """One instance an image; the annotation id is its place, from 1."""
    [file] = files
    findings.source = str(file)
    hdf5.library()
    trial.passes(f"{__name__}:read_once", str(file), [file])
    key, others, phis, boxes, sizes = _columns(file)
    if others:
        findings.note(f"the faces of {', '.join(others)} in it are not read: put them into a file called COFW_test.mat")
    usable = np.asarray((sizes > 0).all(1))
    for place in np.flatnonzero(~usable):
        findings.add(f"face {place + 1}", f"Is{key} refers to no image of it; left out")
    rows = np.flatnonzero(usable)
    if len(rows) == 0:
        raise UserError(file, f"none of its {len(usable)} faces has an image; get the file anew")
    xy = geometry.transform(mpii.FROM_ONE_BASED, phis[rows, : 2 * COUNT].reshape(-1, 2, COUNT).transpose(0, 2, 1))
    hidden = phis[rows, 2 * COUNT :]
    visibility = np.where(np.isnan(xy).any(-1), 0, np.where(hidden == 0, 2, np.where(hidden == 1, 1, hidden)))
    corner = geometry.transform(mpii.FROM_ONE_BASED, boxes[rows, :2])
    pictures = CellImages(file, f"Is{key}", rows.tolist())
    return in_columns(
        np.concatenate([xy, visibility[..., None]], -1),
        np.arange(len(rows)),
        COFW29,
        pictures,
        str(file),
        annotation_id=(rows + 1).tolist(),
        boxes=np.concatenate([corner, boxes[rows, 2:]], axis=1),
        image_size=sizes[rows],
    )


def read_once(file: str) -> Iterator[Any]:
    """Reads a file: the task of its trial."""
    _columns(Path(file))
    yield "read"


def _columns(file: Path) -> tuple[str, list[str], np.ndarray, np.ndarray, np.ndarray]:
    """How the names end that are read, and the points of other splits; points [n, 87] and boxes [n, 4], NaN where there
    are none; the sizes of the images [n, 2], 0 where the file has none."""
    with hdf5.opened(file, FILE) as content:
        known = [key for key in KEYS.values() if f"phis{key}" in content]
        if not known:
            raise UserError(file, "holds neither phisTr nor phisT; expected COFW's COFW_train.mat or COFW_test.mat")
        wanted = KEYS.get(split_in_name(file.stem) or "train", KEYS["train"])
        key = wanted if wanted in known else known[0]
        phis = np.asarray(content[f"phis{key}"], np.float64)
        if phis.ndim != 2 or phis.shape[0] != 3 * COUNT:
            raise UserError(file, f"phis{key} is {phis.shape[::-1]}, expected faces of {3 * COUNT} numbers")
        count = phis.shape[1]
        boxes = np.full((count, 4), np.nan)
        if f"bboxes{key}" in content:
            stored = np.asarray(content[f"bboxes{key}"], np.float64)
            if stored.shape != (4, count):
                raise UserError(file, f"bboxes{key} is {stored.shape[::-1]}, expected {(count, 4)} as in phis{key}")
            boxes = stored.T
        cells = content[f"Is{key}"][()].ravel()
        if len(cells) != count:
            raise UserError(file, f"Is{key} has {len(cells)} images, expected {count} as in phis{key}")
        sizes = np.zeros((count, 2), np.int32)
        for row, cell in enumerate(cells):
            if cell and len(shape := content[cell].shape) in (2, 3):
                sizes[row] = shape[-2:]  # MATLAB's [h, w(, 3)], turned round
        return key, [f"phis{other}" for other in known if other != key], phis.T, boxes, sizes
