"""The annotations of one category as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from fiducial.data.coco_json.categories import choose_category, of_category, skeleton_of
from fiducial.data.coco_json.content import Content, load
from fiducial.data.coco_json.entries import Annotation, Category
from fiducial.data.coco_json.ids import Rows, id_column, track_column
from fiducial.data.coco_json.numbers import Numbers, count_points, length
from fiducial.data.images import FileImages
from fiducial.data.skeletons import BODY_PARTS, COCO17, WHOLEBODY133
from fiducial.errors import UserError
from fiducial.types import Findings, Instances

CROWDPOSE_AREA = 0.53  # CrowdPose has no areas; its own evaluation takes this share of the box


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The instances of one category as they stand in a file, before `checking.check`, and what evaluation needs besides."""

    instances: Instances
    category: Category
    categories: Sequence[Category]  # all of the file
    crowd_index: np.ndarray | None  # [m] CrowdPose's measure of crowding, 0..1; None where an image has none


def read(
    file: Path, category: str | None, findings: Findings, dtype: type = np.float32, *, alike: bool = True
) -> Labels:
    """Reads the instances of one category: the only one with points, or the one named (or numbered) `category`.

    `alike`: of several that have the same points all are read, as one, and points in other fields (COCO-WholeBody's) as well;
    without, as AP goes by category and results have the category's points, one must be named, and has its own.
    `dtype` is that of points, boxes and areas. Raises UserError where nothing in the file can be used."""
    content = load(file, findings)
    chosen = choose_category(content, category, file, findings, alike)
    if alike:
        chosen = _fitted(chosen, of_category(content, chosen), findings)
    elif any(length(getattr(item, name)) for item in of_category(content, chosen) for name, _ in BODY_PARTS):
        findings.note("points of feet, face and hands, in fields of their own, are not counted: the body's alone")
    if count_points(of_category(content, chosen), chosen) == 0:
        raise UserError(
            f"{file}: category {chosen.name!r} has no points; expected their names in its field 'keypoints'"
        )
    instances = columns(content, chosen, file, findings, dtype)
    crowding = [-1.0 if image.crowd_index is None else image.crowd_index for image in content.images]
    crowd_index = np.array(crowding) if crowding and min(crowding) >= 0 else None
    return Labels(
        instances=_with_areas(instances, crowd_index is not None, findings),
        category=chosen,
        categories=content.categories or (),
        crowd_index=crowd_index,
    )


def is_whole_body(category: Category, annotations: Sequence[Annotation]) -> bool:
    """Tells whether the points of feet, face and hands lie in fields of their own, behind those of the body."""
    return tuple(category.keypoints or ()) == WHOLEBODY133.points and not any(
        length(item.keypoints) == 3 * len(WHOLEBODY133.points) for item in annotations
    )


def _fitted(category: Category, annotations: Sequence[Annotation], findings: Findings) -> Category:
    """The category with as many points as its annotations have: COCO-WholeBody's 133, where the file names the body's 17;
    the first ones, where no annotation has as many as it names and all that have points have equally many."""
    body, whole = len(COCO17.points), len(WHOLEBODY133.points)
    named = category.keypoints or []
    lengths = {length(item.keypoints) for item in annotations} - {0}
    has_parts = any(length(getattr(item, name)) for item in annotations for name, _ in BODY_PARTS)
    is_body = len(named) == body or (not named and lengths == {3 * body})
    if is_body and (has_parts or lengths == {3 * whole}):
        findings.note(f"points of feet, face and hands are there too: read as the {whole} of COCO-WholeBody")
        return msgspec.structs.replace(
            category, keypoints=list(WHOLEBODY133.points), skeleton=None, sigmas=None, flip_indices=None
        )
    if len(lengths) == 1 and named:
        [own] = lengths
        count = own // 3
        if own % 3 == 0 and 0 < count < len(named) and own != 2 * len(named):
            findings.note(
                f"its category names {len(named)} points, its annotations have {count}: named by the first {count}"
            )
            edges = [edge for edge in category.skeleton or () if max(edge, default=0) <= count]
            return msgspec.structs.replace(
                category,
                keypoints=named[:count],
                skeleton=edges,
                flip_indices=None,
                sigmas=(category.sigmas or [])[:count] or None,
            )
    return category


def columns(
    content: Content, category: Category, file: Path, findings: Findings, dtype: type = np.float32
) -> Instances:
    """Puts the annotations of one category into columns, as they stand in the file: NaN where there is no number, 0
    sizes where none is declared, pictures named but not looked for. Annotations that don't fit are left out."""
    annotations = of_category(content, category)
    rows = Rows(image.id for image in content.images)
    names = [image.file_name for image in content.images]
    size = np.array([image.size for image in content.images], dtype=np.int32).reshape(-1, 2)
    image_row = np.array([rows.of(item.image_id) for item in annotations], dtype=np.int64)
    for row in np.flatnonzero(image_row < 0).tolist():
        what = f"image id {annotations[row].image_id} is not among the {len(names)} images; left out"
        findings.add(f"annotation {annotations[row].id}", what)
    kept = np.flatnonzero(image_row >= 0).tolist()
    annotations, image_row = [annotations[row] for row in kept], image_row[kept]

    count = count_points(annotations, category) or 1
    parts = BODY_PARTS if is_whole_body(category, annotations) else ()
    count -= sum(points for _, points in parts)
    table = Numbers(len(annotations), lambda row: f"annotation {annotations[row].id}", "v", findings, dtype)
    keypoints = table.keypoints([item.keypoints for item in annotations], count)
    for name, points in parts:
        part = table.keypoints([getattr(item, name) for item in annotations], points)
        part[..., 2] = np.where(part[..., 2] > 0, np.where(np.isin(part[..., 2], (1, 2)), part[..., 2], 2), 0)
        keypoints = np.concatenate([keypoints, part], 1)
    box_xywh = table.read([item.bbox for item in annotations], 4, "bbox")
    area = table.read([item.area for item in annotations], 1, "area")[:, 0]
    crowd = np.array([bool(item.iscrowd) for item in annotations], dtype=bool)
    counted = np.array([item.num_keypoints == 0 for item in annotations], dtype=bool)
    emptied = counted & ~crowd & (keypoints[..., 2] > 0).any(1)
    if emptied.any():
        findings.note(
            f"{emptied.sum()} annotations have labelled points and num_keypoints 0: AP leaves them aside, as pycocotools does"
        )
    instances = Instances(
        skeleton=skeleton_of(category, keypoints.shape[1], file, findings),
        images=FileImages(file.parent, names, size),
        image_id=id_column([image.id for image in content.images]),
        image_size=size,
        image_row=image_row,
        annotation_id=id_column([item.id for item in annotations]),
        xy=keypoints[..., :2],
        visibility=keypoints[..., 2],
        box_xywh=box_xywh,
        area=area,
        crowd=crowd,
        source=str(file),
        licences=content.licences(),
        ignored=crowd | counted,
        track=track_column([item.track_id or item.instance_id for item in annotations]),
    )
    return instances if not table.bad.any() else instances.select(~table.bad)


def _with_areas(instances: Instances, crowdpose: bool, findings: Findings) -> Instances:
    """Says what `checking.check` will put in place of missing boxes and areas; CrowdPose's areas are filled in here."""
    pointed = (instances.visibility > 0).any(1)
    boxless = np.isnan(instances.box_xywh).all(1) & pointed
    if boxless.any():
        findings.note(f"{boxless.sum()} annotations have no bbox: made of their points, a tenth wider on each side")
    missing = ~(np.isfinite(instances.area) & (instances.area > 0)) & (pointed | ~np.isnan(instances.box_xywh).all(1))
    if not missing.any():
        return instances
    share = f"{CROWDPOSE_AREA} w h of the box, as CrowdPose's evaluation has it," if crowdpose else "w h of the box"
    findings.note(f"{missing.sum()} of {len(instances)} annotations have no area above 0: {share} is used there")
    if crowdpose:
        instances.area[missing] = CROWDPOSE_AREA * instances.box_xywh[missing, 2] * instances.box_xywh[missing, 3]
    return instances
