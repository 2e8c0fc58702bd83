"""COCO truth and any tool's COCO results, read into columns by the rules of `data/coco_json/`, without any image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fiducial import text_files
from fiducial.data import checking
from fiducial.data.coco_json import entries
from fiducial.data.coco_json.ids import Id, Rows, id_of, track_column
from fiducial.data.coco_json.labels import CROWDPOSE_AREA, Labels, read
from fiducial.data.coco_json.numbers import Numbers, length
from fiducial.data.file_names import FileNames, agree, parts_of
from fiducial.data.images import FileImages
from fiducial.errors import UserError, shown
from fiducial.evaluation import coco
from fiducial.types import Findings

Where = Callable[[int], str]  # names an entry in messages
NO_IMAGE = "the truth has no such image"
OWN_CATEGORY = 1  # what predict writes where no boxes file says another


class Detection(msgspec.Struct, gc=False):
    image_id: Id
    keypoints: msgspec.Raw
    score: float
    category_id: Id = None
    category: str | None = None  # its name, where the results say it
    file_name: str | None = None
    annotation_id: Id = None
    bbox: msgspec.Raw = msgspec.Raw()
    track_id: msgspec.Raw = msgspec.Raw()

    @property
    def has_own_ids(self) -> bool:
        """Says whether these are points of a whole image, as predict finds them without boxes: image ids of such results
        count the images that were given, and are nobody's."""
        return bool(self.file_name) and self.annotation_id is None and not bytes(self.bbox)


def read_truth(
    file: Path, findings: Findings | None = None, category: str | None = None, use_area: bool = True
) -> Labels:
    """Reads the labelled instances of a truth file, in double precision: AP is a matter of thresholds.

    `category` names one of several. Without `use_area`, CrowdPose's share of the box is taken in place of the areas.
    Raises UserError where no annotation can be used."""
    findings = Findings(str(file)) if findings is None else findings
    labels = read(file, category, findings, np.float64, alike=False)
    instances = checking.check(labels.instances, findings, ignored=True, pictures=False)
    if len(instances) == 0 and findings.wrong:
        raise UserError(f"all its annotations are broken; the first: {findings.wrong[0]}")
    if len(instances) == 0:
        raise UserError(
            f"{file}: none of its annotations is of category {labels.category.name!r}, or has points or boxes"
        )
    if 0 in instances.annotation_id.tolist():
        findings.note(
            "annotation id 0: can be found here; pycocotools never counts it as found, so its AP may be lower"
        )
    if not use_area:
        box_area = instances.box_xywh[:, 2] * instances.box_xywh[:, 3]
        instances = replace(instances, area=CROWDPOSE_AREA * box_area)
    return replace(labels, instances=instances)


def read_detections(file: Path, labels: Labels, findings: Findings | None = None) -> coco.Detections:
    """Reads a results file, as far as it speaks of the truth's category.

    Detections belong to the image of their id; where they know their file's name it must be that of the image, else they
    go by the name. Raises UserError where none can be used."""
    findings = Findings(str(file)) if findings is None else findings
    detections, places = _entries(file, findings)
    read = len(detections)
    if not detections:
        findings.note("no detections")
    chosen = _of_category(detections, labels, file, findings)
    detections, places = [detections[row] for row in chosen], [places[row] for row in chosen]

    def where(row: int) -> str:
        return f"detection [{places[row]}] (image {detections[row].image_id})"

    xy, sound = _keypoints(detections, where, labels, file, findings)
    image_row = _image_rows(detections, where, labels, sound, findings)
    sound &= image_row >= 0
    if read and not sound.any():
        raise UserError(f"all {read} detections are broken; the first: {findings.wrong[0]}")
    truth_row = _truth_rows(detections, labels, image_row)
    score = np.array([item.score for item in detections], dtype=np.float64)
    track = track_column([item.track_id for item in detections])
    boxes = None if track is None else _boxes(detections, where)
    whole = coco.Detections(image_row, xy, score, truth_row, track, boxes)
    return whole if sound.all() else whole.select(sound)


def _entries(file: Path, findings: Findings) -> tuple[list[Detection], Sequence[int]]:
    """Entries and their places in the file, from 0."""
    data = text_files.as_utf8(text_files.read_bytes(file), file)
    try:
        detections = msgspec.json.decode(data, type=list[Detection])
        return detections, range(len(detections))
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        pass
    content = text_files.parse_json(data, file)
    if not isinstance(content, list):
        raise UserError(
            f"{file}: expected COCO results, a list of {{image_id, category_id, keypoints, score}}; the truth comes second"
        )
    detections, places = entries.entries(content, _detection, "detection", findings)
    if content and not detections:
        raise UserError(f"all {len(content)} detections are broken; the first: {findings.wrong[0]}")
    return detections, places


def _detection(value: dict[str, Any]) -> Detection:
    score, name = entries.number_of(value.get("score")), value.get("file_name")
    image_id = id_of(value, "image_id")
    if score is None or image_id is None:
        field = "score" if score is None else "image_id"
        raise ValueError(f"(image {image_id}): {field} is {shown(value.get(field))}, expected a finite number")
    return Detection(
        image_id=image_id,
        keypoints=entries.raw_of(value.get("keypoints")),
        score=score,
        category_id=id_of(value, "category_id"),
        category=value["category"] if isinstance(value.get("category"), str) else None,
        file_name=name if isinstance(name, str) else None,
        annotation_id=id_of(value, "annotation_id"),
        bbox=entries.raw_of(value.get("bbox")),
        track_id=entries.raw_of(value.get("track_id")),
    )


def _of_category(detections: list[Detection], labels: Labels, file: Path, findings: Findings) -> list[int]:
    """Rows of the detections of the truth's category."""
    rows, own = Rows(category.id for category in labels.categories), labels.category
    named = [row for row, item in enumerate(detections) if item.category == own.name]
    if named:  # names are surer than ids, which are the model's own
        if lost := len(detections) - len(named):
            findings.note(f"{lost} detections of other categories left out (wanted {own.name!r})")
        return named
    number = rows.of(own.id)
    ids = {item.category_id for item in detections}
    others = {other for other in ids if other is not None and rows.of(other) != number} if labels.categories else set()
    if others == ids == {OWN_CATEGORY} and all(item.has_own_ids for item in detections):
        findings.note(f"category_id {OWN_CATEGORY} is predict's own: taken for {own}, which has as many points")
        others = set()
    kept = [row for row, item in enumerate(detections) if item.category_id not in others]
    if lost := len(detections) - len(kept):
        numbers = sorted(others, key=str)
        if not kept:
            raise UserError(
                f"{file}: none of its {lost} detections is of category {own.name!r} (id {own.id}); their category ids are "
                f"{numbers}"
            )
        findings.note(f"{lost} detections of other categories left out (ids {numbers}, wanted {own.id})")
    return kept


def _keypoints(
    detections: list[Detection], where: Where, labels: Labels, file: Path, findings: Findings
) -> tuple[np.ndarray, np.ndarray]:
    """[d, k, 2] px, and [d] bool: can be used."""
    count = len(labels.instances.skeleton.points)
    fits = (2 * count, 3 * count)
    if detections and not any(length(item.keypoints) in fits for item in detections):
        first = length(detections[0].keypoints)
        width = 2 if first % 3 else 3
        raise UserError(
            f"{file}: its detections have {first / width:g} points (x, y, score each), the category "
            f"{labels.category.name!r} of the truth has {count}: these are results for other data"
        )
    numbers = Numbers(len(detections), where, "score", findings, np.float64)
    keypoints = numbers.keypoints([item.keypoints for item in detections], count)
    xy = np.ascontiguousarray(keypoints[..., :2])
    finite = np.isfinite(xy.reshape(-1, 2 * count).sum(1))  # a sum is NaN or infinite where one of its numbers is
    for row in np.flatnonzero(~finite & ~numbers.bad).tolist():
        findings.add(where(row), "a coordinate is NaN or infinite, or there are no points; left out")
    return xy, finite & ~numbers.bad


def _boxes(detections: list[Detection], where: Where) -> np.ndarray:
    """[d, 4]; NaN where there is none, or no box of an area, which nothing but identities would miss."""
    unused = Findings("")
    boxes = Numbers(len(detections), where, "score", unused, np.float64).read(
        [item.bbox for item in detections], 4, "bbox"
    )
    return np.where((boxes[:, 2:] > 0).all(1, keepdims=True), boxes, np.nan)


def _image_rows(
    detections: list[Detection], where: Where, labels: Labels, sound: np.ndarray, findings: Findings
) -> np.ndarray:
    """[d] row of the truth's image, -1 where there is none or it isn't clear which; those are listed."""
    ids = Rows(labels.instances.image_id.tolist())
    if not any(item.file_name for item in detections):
        image_row = np.array([ids.of(item.image_id) for item in detections], dtype=np.int64)
        for row in np.flatnonzero((image_row < 0) & sound).tolist():
            findings.add(where(row), f"{NO_IMAGE}; left out")
        return image_row
    finder = _ImageFinder(labels, ids, detections)
    image_row = np.full(len(detections), -1)
    renamed = 0
    for row, item in enumerate(detections):
        image_row[row], problem, by_name = finder.find(item)
        renamed += by_name
        if problem and sound[row]:
            findings.add(where(row), f"{problem}; left out")
    if renamed:
        findings.note(f"image ids of {renamed} detections are not the truth's: they were matched by file_name")
    return image_row


class _ImageFinder:
    """Finds the truth's image of a detection: by id, unless the file names contradict it."""

    def __init__(self, labels: Labels, ids: Rows, detections: list[Detection]) -> None:
        images = labels.instances.images
        assert isinstance(images, FileImages)
        self.names, self.ids = images.names, ids
        self._files = FileNames(self.names)
        self._known: dict[tuple[Id, str | None, bool], tuple[int, str, bool]] = {}
        # Which names of the results mean each image: two that agree with it by their last part alone are two images.
        self._claims: dict[int, set[tuple[str, ...]]] = {}
        for name in {item.file_name for item in detections if item.file_name}:
            rows = self._files.rows_of(name)
            if rows:
                self._claims.setdefault(rows[0], set()).add(parts_of(name))

    def find(self, item: Detection) -> tuple[int, str, bool]:
        """Gives the row or -1, what is wrong, and whether the name was followed against the id."""
        key = (item.image_id, item.file_name, item.has_own_ids)
        if key not in self._known:
            self._known[key] = self._find(item)
        return self._known[key]

    def _find(self, item: Detection) -> tuple[int, str, bool]:
        row = self.ids.of(item.image_id)
        if not item.file_name or (row >= 0 and not self.names[row]):
            return row, "" if row >= 0 else NO_IMAGE, False
        own = parts_of(item.file_name)
        if row >= 0 and not item.has_own_ids and agree(self._files.parts[row], own):
            return row, "", False
        rows = self._files.rows_of(item.file_name)
        if not rows:
            named = f", its image {item.image_id} is {self.names[row]!r}" if row >= 0 else ""
            return -1, f"the truth has no image of its file_name {item.file_name!r}{named}", False
        if row in rows and self._files.is_one_file(rows):
            return row, "", False
        doubtful = not agree(self._files.parts[rows[0]], own) and len(self._claims[rows[0]]) > 1
        if len(rows) > 1 or doubtful:
            names = ", ".join(repr(self.names[other]) for other in rows[:3])
            return -1, f"its file_name {item.file_name!r} doesn't say which image of the truth it is: {names}", False
        return rows[0], "", True


def _truth_rows(detections: list[Detection], labels: Labels, image_row: np.ndarray) -> np.ndarray:
    """[d] row of the truth whose annotation the detection's box was, where it is in the same image; else -1."""
    truth_row = np.full(len(detections), -1)
    if any(item.annotation_id is not None for item in detections):
        rows = Rows(labels.instances.annotation_id.tolist())
        truth_row[:] = [rows.of(item.annotation_id) for item in detections]
        truth_row[labels.instances.image_row[truth_row] != image_row] = -1
    return truth_row
