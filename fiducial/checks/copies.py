"""The same image twice: by its bytes, and by what it shows where it was saved anew, shrunk, brightened or mirrored.

Images that may be the same are found by thumbnails of 16 x 16, and told apart on such of 32 x 32 after brightness and
contrast are taken out: what was saved anew differs a little everywhere, the next frame of a video much somewhere."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from fiducial import files, geometry
from fiducial.checks.finding import Finding, Labelled
from fiducial.data.images import file_of
from fiducial.data.series import numbered
from fiducial.errors import UserError
from fiducial.geometry import Size

FINE, COMPARED, COARSE = 64, 32, 16  # px of thumbnails: as they are kept, compared, and looked for
ALIKE, NEAREST = 0.9, 5  # correlation of coarse thumbnails, from which the nearest are looked at closely
DARKEST, BRIGHTEST = 6.0, 249.0
SAME_GREY = 11.0  # of 255: what all but few places of fine thumbnails differ by at most
PLACES = 99.5  # percent of them
END_BYTES = 4096  # of files of one length, by which most are told apart
SHIFTED_GREY = 5.0  # the same where edges may lie half a place apart; frames in which little moves come near
SAME_LABELS, SAME_POINTS = (
    0.1,
    0.005,
)  # of an instance's size, that labels of copies, and of certain ones, lie apart at most
DOUBTFUL = 0.4  # confidence of copies whose labels differ
MIRRORED = "one is the other mirrored"
SHIFTED = "they show the same, with the same labels"
FRAMES = "they show the same and have other labels: frames of a video, or one of them is labelled wrongly"
REDUCE = 8  # images are decoded at this fraction where they can be


@dataclass(frozen=True)
class Picture:
    """An image of a split."""

    split: str
    row: int  # of the split's images
    name: str


@dataclass(frozen=True)
class Copy:
    """Two images that are the same."""

    one: Picture
    other: Picture
    how: str  # in words
    confidence: float


def pictures_of(labelled: Labelled) -> list[Picture]:
    """Lists the images that instances are on, of all splits."""
    return [
        Picture(split, int(row), part.images.name(int(row)))
        for split, part in labelled.instances
        for row in np.unique(part.image_row)
    ]


def same_bytes(pictures: Sequence[Picture], labelled: Labelled, *, across: bool = False) -> list[Copy]:
    """Finds images whose files are the same one or hold the same bytes, of which whole files are read of those alone that end
    alike. Files that are not there are compared by their names, and images that are in none not at all. across: of two splits
    only."""
    alike = [[picture for picture in pictures if _file(picture, labelled) != Path()]]
    for told in (_length, _end, _bytes):
        groups: dict[Hashable, list[Picture]] = defaultdict(list)
        for number, several in enumerate(alike):
            for picture in several:
                groups[number, told(_file(picture, labelled))].append(picture)
        alike = [each for each in groups.values() if len({picture.split for picture in each} if across else each) > 1]
    return [
        Copy(several[0], other, "one file in two places" if other.name == several[0].name else "the same bytes", 1.0)
        for several in alike
        for other in several[1:]
        if not across or other.split != several[0].split
    ]


def _file(picture: Picture, labelled: Labelled) -> Path:
    """The file of a picture; an empty path where it is in none."""
    return file_of(labelled.splits[picture.split].images, picture.row) or Path()


def _length(path: Path) -> int | Path:
    return os.stat(path).st_size if os.path.isfile(path) else path


def _end(path: Path) -> bytes | Path:
    if not os.path.isfile(path):
        return path
    with open(path, "rb") as file:
        file.seek(max(0, os.stat(path).st_size - END_BYTES))
        return file.read(END_BYTES)


def _bytes(path: Path) -> str | Path:
    return files.digest([path.read_bytes()]) if os.path.isfile(path) else path


def thumbnails(pictures: Sequence[Picture], labelled: Labelled) -> np.ndarray:
    """Makes grey thumbnails [n, FINE, FINE] float32, NaN for images that can't be read."""
    result = np.full((len(pictures), FINE, FINE), np.nan, np.float32)
    for place, picture in enumerate(pictures):
        try:
            image = labelled.splits[picture.split].images.read(picture.row, REDUCE)
        except UserError:
            continue
        if min(image.shape[:2]) < FINE:
            image = labelled.splits[picture.split].images.read(picture.row)
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        result[place] = cv2.resize(grey, (FINE, FINE), interpolation=cv2.INTER_AREA)
    return result


def coarse(thumbs: np.ndarray) -> np.ndarray:
    """Makes of thumbnails [n, FINE, FINE] unit vectors [n, COARSE^2] whose products are correlations."""
    cells = _pooled(thumbs, COARSE).reshape(len(thumbs), -1)
    cells = np.nan_to_num(cells - cells.mean(1, keepdims=True))
    return cells / np.maximum(np.linalg.norm(cells, axis=1, keepdims=True), 1e-6)


def same_looks(pictures: Sequence[Picture], thumbs: np.ndarray) -> list[Copy]:
    """Finds images that show the same, in whatever size and quality, one of them mirrored or not, of other series
    each; and, `SHIFTED`, those that may be frames of a video as well, unless their labels are the same."""
    found = []
    vectors = coarse(thumbs)
    for is_mirrored in (False, True):
        others = coarse(thumbs[:, :, ::-1]) if is_mirrored else vectors
        for one, other in _near(vectors, others):
            if _of_one_series(pictures[one].name, pictures[other].name):
                continue
            image = thumbs[other, :, ::-1] if is_mirrored else thumbs[other]
            off = difference(thumbs[one], image)
            if off <= SAME_GREY:
                how = MIRRORED if is_mirrored else "they show the same"
                found.append(Copy(pictures[one], pictures[other], how, 0.97 if off <= SAME_GREY / 2 else 0.85))
            elif not is_mirrored and difference(thumbs[one], image, shifted=True) <= SHIFTED_GREY:
                found.append(Copy(pictures[one], pictures[other], SHIFTED, 0.9))
    return found


def _near(vectors: np.ndarray, others: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs (smaller number first) whose correlation is at least `ALIKE`."""
    for start in range(0, len(vectors), 512):
        alike = vectors[start : start + 512] @ others.T
        alike[np.arange(len(alike)), np.arange(start, start + len(alike))] = -1
        nearest = np.argsort(-alike, axis=1)[:, :NEAREST]
        for one, row in enumerate(nearest):
            for other in row[alike[one, row] >= ALIKE]:
                if start + one < other:
                    yield start + one, int(other)


def difference(one: np.ndarray, other: np.ndarray, *, shifted: bool = False) -> float:
    """Measures by how many grey levels two thumbnails differ where they differ most, after brightness and contrast; places
    that are black or white in one of them say nothing. shifted: edges may lie up to half a place apart, as where sizes were rounded."""
    x, y = (_pooled(image, COMPARED).ravel().astype(np.float64) for image in (one, other))
    near = np.pad(other, 1, mode="edge")
    moves = [(row, column) for row in range(3) for column in range(3)] if shifted else [(1, 1)]
    moved = [_pooled(near[row : row + FINE, column : column + FINE], COMPARED).ravel() for row, column in moves]
    low, high = np.min(moved, 0) - y, np.max(moved, 0) - y
    told = (np.minimum(x, y) > DARKEST) & (np.maximum(x, y) < BRIGHTEST)
    if told.mean() < 0.2:
        told = np.ones(len(x), bool)
    low, high = low[told], high[told]
    x, y = x[told] - x[told].mean(), y[told] - y[told].mean()
    if min(x.std(), y.std()) < 1:
        return 255.0
    slope = float((x * y).mean() / (y * y).mean())
    if not 0.5 < slope < 2:
        return 255.0
    off = x - slope * y
    return float(np.percentile(np.abs(off - np.clip(off, slope * low, slope * high)), PLACES))


def _pooled(thumbs: np.ndarray, side: int) -> np.ndarray:
    """The means of squares of pixels of thumbnails [.., FINE, FINE]: [.., side, side]."""
    step = FINE // side
    return thumbs.reshape(*thumbs.shape[:-2], side, step, side, step).mean((-3, -1))


def all_copies(labelled: Labelled, pictures: Sequence[Picture], thumbs: np.ndarray) -> list[Copy]:
    """Finds images that are there twice, by bytes and by looks. Frames of one video by bytes alone: neighbours hardly differ; of
    others that look the same and have other labels it is doubtful."""
    copies = same_bytes(pictures, labelled)
    known = {(copy.one, copy.other) for copy in copies}
    for copy in same_looks(pictures, thumbs):
        if (copy.one, copy.other) in known:
            continue
        apart = 0.0 if copy.how == MIRRORED else _labels_apart(labelled, copy)
        if copy.how == SHIFTED and apart > SAME_POINTS:
            continue
        copies.append(copy if apart <= SAME_LABELS else replace(copy, how=FRAMES, confidence=DOUBTFUL))
    return copies


def _labels_apart(labelled: Labelled, copy: Copy) -> float:
    """How far the instances of one image, that with fewer, are from the nearest of the other's, as shares of their sizes: hardly,
    where one is a copy, in whatever size."""
    fewer, more = sorted((_labels_of(picture, labelled) for picture in (copy.one, copy.other)), key=len)
    return max((min(_apart(one, other) for other in more) for one in fewer), default=0.0)


def _labels_of(picture: Picture, labelled: Labelled) -> list[np.ndarray]:
    """Of each instance [k, 2] in unit, NaN where not labelled; px where the image's size is not known."""
    part = labelled.splits[picture.split]
    rows = np.flatnonzero((part.image_row == picture.row) & part.labelled.any(1))
    size = Size(*part.image_size[picture.row].tolist())
    xy = geometry.px_to_unit(part.xy[rows], size) if all(size) else part.xy[rows]
    return list(np.where(part.labelled[rows][..., None], xy, np.nan))


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    """The median distance of points that both have, as a share of the larger side of the first; 0 where they have none."""
    known = np.isfinite(one).all(-1) & np.isfinite(other).all(-1)
    if not known.any():
        return 0.0
    side = float(np.ptp(one[known], axis=0).max())
    return float(np.median(np.linalg.norm(one[known] - other[known], axis=-1))) / max(side, 1e-6)


def _of_one_series(one: str, other: str) -> bool:
    series = numbered(one).series
    return bool(series) and series == numbered(other).series


def check_copies(copies: Sequence[Copy]) -> list[Finding]:
    """Tells of images that are there twice: of the second, in the split that is learnt from less."""
    findings, told = [], set()
    for copy in copies:
        if copy.other in told:
            continue
        told.add(copy.other)
        across = copy.one.split != copy.other.split
        where = f"of {copy.one.split} too, {copy.one.name}" if across else f"twice in it, also as {copy.one.name}"
        findings.append(
            Finding(
                kind="duplicate",
                split=copy.other.split,
                image=copy.other.name,
                confidence=copy.confidence,
                what=f"the image is {where}: {copy.how}",
                proposal={"leave_out": True},
            )
        )
    return findings
