"""What predict writes about the points it found: COCO results JSON, and a table in CSV.

Both are kept on disk until they are whole, since a camera may run for hours, and appear only then."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from fiducial.data.coco_json.ids import Id
from fiducial.errors import UserError
from fiducial.prediction.boxes import Boxes
from fiducial.prediction.sources import Frame
from fiducial.types import Keypoints, Skeleton, Spread

DECIMALS = 6  # of px and scores: evaluation of the file gives the figures of the model itself
RADIUS, RADII = 0.9, "keypoint_radii_90"  # the share of all cases that is told, and its name in an entry
Entry = dict[str, Any]  # of a COCO results file
Write = Callable[[list[Entry]], None]  # takes the entries of a frame


def entries(frame: Frame, given: Boxes, found: Keypoints) -> list[Entry]:
    """Entries of a COCO results file, one an instance.

    Besides COCO's own: `annotation_id` is that of the box in the boxes file, `file_name` lets `evaluate --predictions` and
    people find the image again, `seconds` its time in the video, `track_id` the
    same instance in other frames, where it is known; `filled` that it was not found in this frame, but before and after. Where
    several kinds are told apart, `category` names the instance's, and its points are those of that kind. Of instances that a
    finder found `bbox_score` says how sure it is, and `score` is that times the mean of the points' scores.
    Where it was measured how far points may be off, `keypoint_sigmas` says so of x and y of
    each, px, `keypoint_correlations` how the two go together where the method tells it, and `keypoint_radii_90` within how many px of it the true point lies in 90 % of all cases.
    Where labels told visible points from hidden ones, `keypoint_visibility` says how likely each is `visible`, `hidden`, `outside`."""
    made = []
    scores, owned, seen = found.instance_score, found.owned, found.visibility
    scores = scores * given.scores if given.scores else scores
    for i in range(len(found.xy)):
        points = np.column_stack([found.xy[i], found.score[i]]).astype(float)[owned[i]]
        entry: Entry = {
            "image_id": given.image_ids[i] if given.image_ids else given.image_id,
            "category_id": given.category_ids[i] if given.category_ids else 1,
            "keypoints": [round(value, DECIMALS) for value in points.ravel().tolist()],
            "score": float(scores[i]),
            "file_name": frame.name,
        }
        if found.kind is not None and found.skeleton is not None:
            entry["category"] = list(found.skeleton.kinds)[int(found.kind[i])]
        if frame.seconds is not None:
            entry["seconds"] = round(float(frame.seconds), 6)
        if given.track_ids and given.track_ids[i] >= 0:
            entry["track_id"] = given.track_ids[i]
        if given.annotation_ids and given.annotation_ids[i] is not None:
            entry["annotation_id"] = given.annotation_ids[i]
        if given.xywh:
            entry["bbox"] = given.xywh[i]
        if given.scores:
            entry["bbox_score"] = round(given.scores[i], DECIMALS)
        if given.filled and given.filled[i]:
            entry["filled"] = True
        if found.sigma is not None:
            entry["keypoint_sigmas"] = [round(float(value), 3) for value in found.sigma[i][owned[i]].ravel()]
        if found.correlation is not None:
            entry["keypoint_correlations"] = [round(float(value), 3) for value in found.correlation[i][owned[i]]]
        for state, share in seen.items():
            entry.setdefault("keypoint_visibility", {})[state] = [
                round(float(value), 4) for value in share[i][owned[i]]
            ]
        if _has_radii(found.spread):
            entry[RADII] = [round(float(value), 3) for value in found.radius(RADIUS)[i][owned[i]]]
        made.append(entry)
    return made


def of_keypoints(points: Keypoints, image_id: Id, file_name: str, boxes: np.ndarray | None) -> list[Entry]:
    """Makes the entries of one image that a program asked about: those that `entries` makes."""
    xy, score = points.xy.reshape(len(points), -1, 2), points.score.reshape(len(points), -1)
    sigma = None if points.sigma is None else points.sigma.reshape(xy.shape)
    correlation = None if points.correlation is None else points.correlation.reshape(score.shape)
    arranged = replace(points, xy=xy, score=score, sigma=sigma, correlation=correlation)
    boxes = points.box_xywh if boxes is None else boxes
    xywh = [] if boxes is None else np.asarray(boxes, np.float64).reshape(-1, 4).tolist()
    sure = [] if points.box_score is None else np.asarray(points.box_score, np.float64).ravel().tolist()
    if boxes is not None and len(xywh) != len(xy):
        raise UserError(
            "boxes", f"{len(xywh)} boxes for {len(xy)} instances; expected those that the points were found in"
        )
    return entries(Frame(file_name, None), Boxes(image_id, xywh, scores=sure), arranged)


@contextmanager
def writing_json(target: Path) -> Iterator[Write]:
    """A list of entries, one a line."""
    with _appearing(target) as file:
        before = "["

        def write(made: list[Entry]) -> None:
            nonlocal before
            for entry in made:
                file.write(before + json.dumps(entry, allow_nan=False))
                before = ",\n"

        yield write
        file.write("]\n" if before != "[" else "[]\n")


@contextmanager
def writing_csv(target: Path, skeleton: Skeleton, spread: Spread | None = None) -> Iterator[Write]:
    """One row an instance: `file_name`, `seconds` (empty for pictures), `image_id`, `track_id` (empty where who is who is
    not known), `category` (of models that tell several apart), `score`, then `NAME_x`, `NAME_y` (px) and `NAME_score` of each
    point, then, where `spread` was measured, `NAME_radius_90` (px) of each."""
    columns = [f"{name}_{what}" for name in skeleton.points for what in ("x", "y", "score")]
    columns += [f"{name}_radius_90" for name in skeleton.points] if _has_radii(spread) else []
    with _appearing(target) as file:
        table = csv.writer(file, lineterminator="\n")
        names = ("file_name", "seconds", "image_id", "track_id", *(["category"] if skeleton.kinds else []), "score")
        table.writerow([*names, *columns])

        def row(entry: Entry) -> list[Any]:
            owned = skeleton.kinds.get(entry.get("category", ""), range(len(skeleton.points)))
            cells: dict[str, Any] = {name: entry.get(name, "") for name in names}
            for place, point in enumerate(skeleton.points[i] for i in sorted(owned)):
                cells |= dict(
                    zip((f"{point}_x", f"{point}_y", f"{point}_score"), entry["keypoints"][3 * place :], strict=False)
                )
                if RADII in entry:
                    cells[f"{point}_radius_90"] = entry[RADII][place]
            return [cells.get(name, "") for name in (*names, *columns)]

        yield lambda made: table.writerows(map(row, made))


def _has_radii(spread: Spread | None) -> bool:
    return spread is not None and spread.knows(RADIUS)


@contextmanager
def _appearing(target: Path) -> Iterator[TextIO]:
    """A file that is there, whole, when the context ends without an error; folders are made only then."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="backslashreplace", newline="") as file:
        yield file
        file.seek(0)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        try:
            with open(partial, "w", encoding="utf-8", newline="") as copy:
                shutil.copyfileobj(file, copy)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
