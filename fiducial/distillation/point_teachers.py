"""Teachers that are asked for points alone: networks that run without torch, other projects' among them (`runtime.foreign`),
and files of results, of whatever program."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fiducial import files, geometry, text_files
from fiducial.card import NOT_STATED
from fiducial.data import skeletons
from fiducial.data.coco_json.ids import Rows
from fiducial.data.file_names import FileNames
from fiducial.data.instance_crops import InstanceCrops
from fiducial.errors import UserError
from fiducial.log import logger
from fiducial.progress import progress
from fiducial.runtime import runtime
from fiducial.runtime.foreign.network import METHOD as FOREIGN
from fiducial.runtime.runtime import Network
from fiducial.runtime.views import Views
from fiducial.types import Instances, Keypoints, Skeleton

VIEWS = 9  # of an instance that a network is asked about, fewer where there are many
ASKED = 15_000  # views in all
SAME_BOX_IOU = 0.5  # a result without an annotation's id is of the instance whose box it overlaps by so much or more


class PointTeacher(Protocol):
    """Gives points for instances."""

    @property
    def name(self) -> str:
        """Names it for people."""
        ...

    @property
    def licence(self) -> str:
        """Says under what licence its answers are, as far as it is known."""
        ...

    @property
    def skeleton(self) -> Skeleton:
        """Names its points."""
        ...

    def points_of(self, instances: Instances, *, bar: bool = False) -> Keypoints:
        """Finds the points of all instances, [n, k, 2] px of their images; score 0 where it found none, or the image can't
        be read."""
        ...

    def told(self) -> dict[str, Any]:
        """Describes the teacher, for recipe.json and the student's card."""
        ...


def is_one(path: Path) -> bool:
    """Tells whether a teacher's path means a teacher of points: a results file, or a network that runs without torch."""
    if path.suffix.lower() == ".json":
        return path.is_file()
    return runtime.is_exported(path)


def load(path: Path) -> PointTeacher:
    """Loads such a teacher. A file that is not known yet runs in a process of its own first."""
    if path.suffix.lower() == ".json":
        return ResultsTeacher.read(path)
    return NetworkTeacher(runtime.load(path).network)


def views(instances: int) -> int:
    """Says how many views of each of so many instances a network is asked about."""
    return int(np.clip(ASKED // max(1, instances), 1, VIEWS))


@dataclass(frozen=True)
class NetworkTeacher:
    """Asks a network about the instances' crops, cut as the network wants them. `views` of each [by how many instances there
    are]. What a score says is known of networks with a card of another project alone; of others all points count as found."""

    network: Network
    views: int | None = None

    @property
    def name(self) -> str:
        return self.network.card.spec.backbone if self._has_scores else self.network.path.name

    @property
    def _has_scores(self) -> bool:
        return self.network.card.spec.method == FOREIGN

    @property
    def licence(self) -> str:
        return self.network.card.licence

    @property
    def skeleton(self) -> Skeleton:
        return self.network.card.spec.skeleton

    def points_of(self, instances: Instances, *, bar: bool = False) -> Keypoints:
        asked = Views(self.network, self.views or views(len(instances)))
        if asked.count > 1:
            logger.info(f"{self.name}: asked about {asked.count} views of each of {len(instances)} instances")
        found = nothing(len(instances), len(self.skeleton.points))
        with progress("asking the teacher", len(instances), "instances", bar=bar) as advance:
            for batch in InstanceCrops(instances=instances, spec=self.network.card.spec):
                points = asked.predict(batch.image).mapped(geometry.invert(batch.image_to_crop))
                found.xy[batch.row] = points.xy
                found.score[batch.row] = points.score if self._has_scores else 1.0
                advance(len(batch.row))
        return found

    def told(self) -> dict[str, Any]:
        path = self.network.path
        digest = files.digest([path.read_bytes()]) if path.is_file() else ""
        return {"path": str(path), "fingerprint": digest, "name": self.name, "licence": self.licence}


@dataclass(frozen=True)
class Result:
    """Holds an entry of a file of results."""

    image_id: Any
    file_name: str
    annotation_id: Any
    xy: np.ndarray  # [k, 2] px
    score: np.ndarray  # [k]
    box_xywh: np.ndarray  # [4]: its own, else around its points


@dataclass(frozen=True)
class ResultsTeacher:
    """Looks points up in COCO results, such as `fiducial predict` writes: by the annotation whose box it was, else by the
    image and the box."""

    path: Path
    results: tuple[Result, ...]
    skeleton: Skeleton
    name: str = "results"
    licence: str = NOT_STATED

    @classmethod
    def read(cls, path: Path) -> ResultsTeacher:
        """Reads a results file. UserError where none of its entries can be used, or they have different numbers of points."""
        content = text_files.read_json(path)
        if not isinstance(content, list) or not content:
            raise UserError(
                path, "expected COCO results, a list of {image_id, keypoints, ..}, as `fiducial predict` writes them"
            )
        results = [result for value in content if (result := _result(value)) is not None]
        if not results:
            raise UserError(
                path, "none of its entries has an image (image_id or file_name) and keypoints of x, y, score each"
            )
        counts = sorted({len(result.xy) for result in results})
        if len(counts) > 1:
            raise UserError(path, f"its entries have {counts[0]} to {counts[-1]} points; expected as many in each")
        if lost := len(content) - len(results):
            logger.warning(f"{path}: {lost} of {len(content)} entries can't be used")
        known = skeletons.match_count(counts[0])
        return cls(path, tuple(results), known or Skeleton("results", skeletons.numbered(counts[0])))

    def points_of(self, instances: Instances, *, bar: bool = False) -> Keypoints:
        found = nothing(len(instances), len(self.skeleton.points))
        by_annotation = Rows(instances.annotation_id.tolist())
        rows_of_image = _rows_of_images(instances)
        image_of = _ImageRows(instances)
        best = np.zeros(len(instances))
        for result in self.results:
            image = image_of(result)
            row = -1 if result.annotation_id is None else by_annotation.of(result.annotation_id)
            overlap = 1.0
            if row < 0 or instances.image_row[row] != image:  # ids of another split may be the same
                rows = rows_of_image.get(image, np.empty(0, int))
                overlaps = geometry.box_iou(instances.box_xywh[rows].astype(np.float64), result.box_xywh)
                row = int(rows[overlaps.argmax()]) if len(rows) else -1
                overlap = float(overlaps.max()) if len(rows) else 0.0
                overlap = max(overlap, SAME_BOX_IOU) if len(rows) == 1 else overlap  # the only one of its image
            if row >= 0 and overlap >= SAME_BOX_IOU and overlap > best[row]:
                found.xy[row], found.score[row], best[row] = result.xy, result.score, overlap
        return found

    def told(self) -> dict[str, Any]:
        digest = files.digest([self.path.read_bytes()])
        return {"path": str(self.path), "fingerprint": digest, "name": self.name, "licence": self.licence}


def nothing(count: int, points: int) -> Keypoints:
    """Makes the answer of a teacher that found nothing, to be filled."""
    return Keypoints(np.zeros((count, points, 2)), np.zeros((count, points)))


def _result(value: Any) -> Result | None:
    """An entry as it can be used; None where it can't."""
    if not isinstance(value, dict):
        return None
    try:
        keypoints = np.array(value.get("keypoints"), np.float64)
        box = np.array(value.get("bbox") or [np.nan] * 4, np.float64)
    except (TypeError, ValueError):
        return None
    name = value.get("file_name")
    has_image = isinstance(name, str) or isinstance(value.get("image_id"), (int, str))
    if (
        keypoints.ndim != 1
        or keypoints.size == 0
        or keypoints.size % 3
        or not np.isfinite(keypoints).all()
        or not has_image
    ):
        return None
    points = keypoints.reshape(-1, 3)
    if box.shape != (4,) or not np.isfinite(box).all() or (box[2:] <= 0).any():
        box = geometry.box_of_points(points[:, :2], np.ones(len(points), bool), margin=0.1)
    score = np.clip(points[:, 2], 0, 1)
    return Result(
        value.get("image_id"),
        name if isinstance(name, str) else "",
        value.get("annotation_id"),
        points[:, :2],
        score,
        box,
    )


def _rows_of_images(instances: Instances) -> dict[int, np.ndarray]:
    return {int(row): np.flatnonzero(instances.image_row == row) for row in np.unique(instances.image_row)}


class _ImageRows:
    """Finds the image of a result: by its file's name where it has one, else by its id."""

    def __init__(self, instances: Instances) -> None:
        count = len(instances.images)
        self._names = FileNames([instances.images.name(row) for row in range(count)])
        self._ids = Rows(instances.image_id.tolist())

    def __call__(self, result: Result) -> int:
        if not result.file_name:
            return self._ids.of(result.image_id)
        rows = self._names.rows_of(result.file_name)
        return rows[0] if len(rows) == 1 else -1
