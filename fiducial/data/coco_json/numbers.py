"""Fields of entries turned into arrays, many entries at a time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from fiducial.data.coco_json.entries import Annotation, Category
from fiducial.errors import UserError, counted, shown
from fiducial.types import Findings

LARGEST = 1e12  # px or px^2: what is beyond is no number of an image, and taken as infinite
MOST_ABSENT = 10_000_000  # numbers that a category speaks of and no annotation has
CHUNK = 2000  # entries whose numbers are parsed at a time
_ABSENT = (b"", b"null", b"[]")


def length(raw: msgspec.Raw) -> int:
    """Counts the numbers of a JSON array by its commas, nested or not; 0 where it is missing, null or empty."""
    text = bytes(raw)
    commas = text.count(b",")
    return commas + 1 if commas or (text not in _ABSENT and text.strip(b"[] \n\r\t")) else 0


def count_points(annotations: Sequence[Annotation], category: Category) -> int:
    """K: as many as the category names, else what most annotations have; 0 where none has any."""
    if category.keypoints:
        return len(category.keypoints)
    lengths = Counter(length(item.keypoints) for item in annotations if length(item.keypoints))
    if not lengths:
        return 0
    [(usual, _)] = lengths.most_common(1)
    first = next(bytes(item.keypoints) for item in annotations if length(item.keypoints) == usual)
    point, nested, _ = first.strip(b" \n\r\t").removeprefix(b"[").partition(b"]")
    width = point.count(b",") + 1 if nested and b"[" in point else 3 if usual % 3 == 0 else 2
    return usual // width


class Numbers:
    """Turns fields of entries into arrays. `bad` marks entries that can't be read; each is listed once.

    `where` names the entries in messages, `third` is what a point has besides x and y."""

    def __init__(self, count: int, where: Callable[[int], str], third: str, findings: Findings, dtype: type) -> None:
        self.where, self.third, self.findings, self.dtype = where, third, findings, dtype
        self.bad = np.zeros(count, dtype=bool)

    def keypoints(self, raws: Sequence[msgspec.Raw], count: int) -> np.ndarray:
        """Reads [n, k, 3]: x, y, v. Points without v are labelled where they are not at (0, 0)."""
        lengths = np.array([length(raw) for raw in raws], dtype=np.int64)
        wanted, there = 3 * count * len(raws), int(lengths.sum())
        if wanted > max(MOST_ABSENT, 20 * there):
            raise UserError(
                self.findings.source,
                f"{count:,} points for each of {len(raws):,} annotations, which have {there:,} numbers in all; expected the "
                "names of their points in the category's field `keypoints`",
            )
        if (lengths == 3 * count).all():
            result = self.read(raws, 3 * count, "keypoints").reshape(-1, count, 3)
        else:
            result = self._of_any_length(raws, lengths, count)
        if np.isnan(result[..., 2]).any():
            result[np.isnan(result).all(-1), 2] = 0  # null, null, null: a point that nobody set
        return result

    def _of_any_length(self, raws: Sequence[msgspec.Raw], lengths: np.ndarray, count: int) -> np.ndarray:
        result = np.zeros((len(raws), count, 3), self.dtype)
        whole = np.flatnonzero(lengths == 3 * count)
        result[whole] = self.read(raws, 3 * count, "keypoints", whole).reshape(-1, count, 3)
        pairs = np.flatnonzero((lengths == 2 * count) & (lengths != 3 * count))
        if len(pairs):
            result[pairs] = _with_visibility(self.read(raws, 2 * count, "keypoints", pairs).reshape(-1, count, 2))
            self.findings.note(
                f"{len(pairs)} entries have x, y of each point without {self.third}: points at (0, 0) are taken as missing"
            )
        for row in np.flatnonzero((lengths > 0) & (lengths != 3 * count) & (lengths != 2 * count)).tolist():
            points = _point_by_point(bytes(raws[row]), count)
            if points is None:
                self._leave_out(
                    row,
                    f"{lengths[row]} numbers in its keypoints, expected {3 * count} "
                    f"(x, y, {self.third} for each of {count} points)",
                )
            else:
                result[row] = points
        return result

    def read(self, raws: Sequence[msgspec.Raw], width: int, name: str, rows: np.ndarray | None = None) -> np.ndarray:
        """Reads JSON arrays of `width` numbers as [rows, width]; absent ones and nulls are NaN."""
        rows = np.arange(len(raws)) if rows is None else rows
        result = np.full((len(rows), width), np.nan, self.dtype)
        absent = b",".join([b"null"] * width)
        for start in range(0, len(rows), CHUNK):
            places = rows[start : start + CHUNK].tolist()
            texts = [bytes(raws[row]) for row in places]
            texts = [absent if text in _ABSENT else text for text in texts]
            fit = {text.count(b",") for text in texts} == {width - 1}
            values = parse_numbers(b",".join(texts)) if fit else None
            if values is not None and len(values) == len(texts) * width:
                result[start : start + len(texts)] = values.reshape(len(texts), width)
                continue
            for place, (row, text) in enumerate(zip(places, texts, strict=True), start):
                alone = _parse_mended(text, name)
                if alone is None or len(alone) != width:
                    what = shown(bytes(raws[row]).decode(errors="replace"))
                    self._leave_out(row, f"{name} is {what}; expected {counted(width, 'number')}")
                else:
                    result[place] = alone
        return result

    def _leave_out(self, row: int, what: str) -> None:
        if not self.bad[row]:
            self.findings.add(self.where(row), f"{what}; left out")
        self.bad[row] = True


def parse_numbers(text: bytes) -> np.ndarray | None:
    """Parses all numbers of a text of JSON arrays, nested or not, null as NaN; None if it holds anything else."""
    flat = b"[" + text.translate(None, b'[] \n\r\t"') + b"]"
    try:
        values = msgspec.json.decode(flat, type=list[float | None])
    except msgspec.MsgspecError:
        return None
    if b"null" in flat:
        values = [math.nan if value is None else value for value in values]
    return _bounded(np.fromiter(values, np.float64, len(values)))


def _bounded(values: np.ndarray) -> np.ndarray:
    values[np.abs(values) > LARGEST] = math.inf
    return values


def _parse_mended(text: bytes, name: str) -> np.ndarray | None:
    """The numbers of one array; of keypoints also where v is true (2) or false (0)."""
    values = parse_numbers(text)
    if values is not None or name != "keypoints":
        return values
    words = text.translate(None, b'[] \n\r\t"').split(b",")
    spelled = {b"true": b"2", b"false": b"0"}
    words[2::3] = [spelled.get(word.lower(), word) for word in words[2::3]]
    return parse_numbers(b",".join(words))


def _with_visibility(xy: np.ndarray) -> np.ndarray:
    """[.., 2] -> [.., 3]"""
    there = np.isfinite(xy).all(-1) & (xy != 0).any(-1)
    return np.concatenate([xy, np.where(there, 2.0, 0.0)[..., None]], -1)


def _point_by_point(text: bytes, count: int) -> np.ndarray | None:
    """[k, 3] from a list of points that are [x, y, v], [x, y] or null; None for anything else."""
    try:
        points = msgspec.json.decode(text, type=list[list[float | None] | None])
    except msgspec.MsgspecError:
        return None
    if len(points) != count or not {len(point) for point in points if point} <= {2, 3}:
        return None
    result = np.zeros((count, 3))
    for place, point in enumerate(points):
        if point:
            values = _bounded(np.array(point, dtype=np.float64))
            result[place] = values if len(point) == 3 else _with_visibility(values)
    return result
