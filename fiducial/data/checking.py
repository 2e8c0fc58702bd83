"""What is wrong in instances as a format file read them: broken ones are left out, each with one clear line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fiducial import geometry
from fiducial.data.file_names import listing
from fiducial.data.images import FileImages, brightest_of_16_bits, file_header, keeps_stored, upright_size
from fiducial.errors import UserError, counted
from fiducial.geometry import Size
from fiducial.types import Findings, Images, Instances, Problem, Skeleton

FARTHEST_PX = 1e9  # of any number in a source; the square of a larger one is soon none in single precision
ABSURD = 10  # longest sides of a picture; no true point lies so far outside of it
# A box made from points is enlarged by this much of itself on each side: points lie on a body, not around it.
BOX_MARGIN = 0.1
LOOKED_AT = 8  # pictures, whether what has 16 bits uses them
DARK = 2**13  # an eighth of what 16 bits hold
FEWEST_MARKS = 2  # points at exactly (0, 0), from which that is no place
FEWEST_SHARES = 5  # points within 0..1, from which these are no px


class Label(NamedTuple):
    """One instance, for formats that are read one at a time."""

    image_row: int
    annotation_id: int
    keypoints: np.ndarray  # [k, 3]
    box_xywh: np.ndarray | None = None


def unchecked(
    labels: Sequence[Label], skeleton: Skeleton, images: Images, source: str, image_size: np.ndarray | None = None
) -> Instances:
    """Puts single labels into columns, as `check` takes them; image ids are their rows."""
    boxes = [np.full(4, np.nan) if label.box_xywh is None else label.box_xywh for label in labels]
    return in_columns(
        [label.keypoints for label in labels],
        [label.image_row for label in labels],
        skeleton,
        images,
        source,
        annotation_id=[label.annotation_id for label in labels],
        boxes=boxes,
        image_size=image_size,
    )


def in_columns(
    keypoints: Sequence[np.ndarray] | np.ndarray,
    image_row: Sequence[int] | np.ndarray,
    skeleton: Skeleton,
    images: Images,
    source: str,
    *,
    annotation_id: Sequence[int] | None = None,
    boxes: Sequence[np.ndarray] | np.ndarray | None = None,
    image_size: np.ndarray | None = None,
    track: np.ndarray | None = None,
) -> Instances:
    """Makes columns, as `check` takes them, of n instances' keypoints [n, k, 3] (x, y px, v); NaN boxes are missing.

    Image ids are their rows, annotations are numbered from 1 where they have no ids. `track` [n]: who each is, below 0 not known."""
    count, points = len(keypoints), len(skeleton.points)
    with np.errstate(over="ignore"):  # infinite in single precision: `check` says so
        columns = np.array(keypoints, dtype=np.float32).reshape(count, points, 3)
        given = np.full((count, 4), np.nan) if boxes is None else boxes
        box_xywh = np.array(given, dtype=np.float32).reshape(count, 4)
    return Instances(
        skeleton=skeleton,
        images=images,
        image_id=np.arange(len(images), dtype=np.int64),
        image_size=np.zeros((len(images), 2), np.int32) if image_size is None else image_size,
        image_row=np.array(image_row, dtype=np.int64),
        annotation_id=np.arange(1, count + 1) if annotation_id is None else np.array(annotation_id, dtype=np.int64),
        xy=columns[..., :2],
        visibility=columns[..., 2],
        box_xywh=box_xywh,
        area=np.full(count, np.nan, np.float32),
        crowd=np.zeros(count, bool),
        source=source,
        track=None if track is None or not (track >= 0).any() else np.maximum(track, -1),
    )


def check(
    instances: Instances, findings: Findings, *, verify: bool = True, ignored: bool = False, pictures: bool = True
) -> Instances:
    """Gives the sound instances, and lists each one that is left out.

    `instances` are as they stand in a source: `visibility` is float, and numbers that are not there are NaN. Left out as
    broken: v other than 0, 1 or 2; a labelled point without finite coordinates, or absurdly far outside of the declared
    picture (one such label can outweigh all others in a loss); a box of no area; a picture that is missing, cut short or
    not of the declared size (the last two only if `verify`, which opens every file; none of them without `pictures`).
    With `ignored`, for evaluation, instances stay that COCO's evaluation counts or ignores: boxes without a labelled
    point, and boxes wholly outside the declared picture. Else both are left out, those without points and crowds without
    a box with one note for all. A missing box is made from the points, and where these lie on one place from what the
    others' boxes are like (`boxes_of_points`); an area that is not above 0 is the box's."""
    instances = _without_marks(instances, findings)
    xy, visibility = instances.xy, instances.visibility
    labelled, finite = visibility > 0, np.isfinite(xy).all(-1)
    doubts = _Doubts(instances, findings)
    valued = np.isin(visibility, (0, 1, 2))
    doubts.leave_out(~valued.all(1), "v is {v} at point {point!r}, expected 0, 1 or 2", ~valued)
    missing = labelled & ~finite
    doubts.leave_out(missing.any(1), "point {point!r} is labelled (v {v}) without finite coordinates", missing)
    far = labelled & _far_outside(instances)
    doubts.leave_out(far.any(1), "point {point!r} lies at {xy}, far outside the picture of {size}", far)

    given = ~np.isnan(instances.box_xywh).all(1)
    no_area = given & ~(np.isfinite(instances.box_xywh).all(1) & (instances.box_xywh[:, 2:] > 0).all(1))
    doubts.leave_out(no_area, "its box {box} has no area, expected [x, y, w, h] with w and h above 0")
    huge = given & (np.abs(instances.box_xywh) > FARTHEST_PX).any(1)
    doubts.leave_out(huge, f"its box {{box}} is no picture's, expected px of at most {FARTHEST_PX:.0e}")
    pointed = labelled.any(1)
    if not ignored:
        doubts.leave_out(given & _outside(instances), "its box {box} lies outside the picture of {size}")
    silent = ~pointed & ~((instances.crowd | ignored) & given)
    unused = silent & ~doubts.bad
    if unused.any():
        findings.note(f"{unused.sum()} of {len(instances)} instances have no labelled point: left out")

    image_size = instances.image_size.copy()
    if pictures:
        doubts.bad |= _on_broken_pictures(instances, ~doubts.bad & ~silent, verify, image_size, findings)
    sized = replace(instances, image_size=image_size)
    box_xywh = _with_boxes(sized, labelled & finite, ~doubts.bad & ~silent, findings, pictures)
    with np.errstate(over="ignore"):  # of what is left out
        of_box = box_xywh[:, 2] * box_xywh[:, 3]
    area = np.where(np.isfinite(instances.area) & (instances.area > 0), instances.area, of_box)
    whole = replace(
        instances,
        image_size=image_size,
        xy=np.where(labelled[..., None], xy, xy.dtype.type(0)),
        box_xywh=box_xywh,
        area=area,
        ignored=instances.ignored | ~pointed,
    ).select(np.flatnonzero(~doubts.bad & ~silent))
    return replace(whole, visibility=whole.visibility.astype(np.uint8))


def marks_of(instances: Instances) -> tuple[np.ndarray, np.ndarray]:
    """Finds labelled points at (-1, -1), and at the exact (0, 0), of px or of the canvas: [n, k] bool each."""
    xy, labelled = instances.xy, instances.visibility > 0
    sizes = instances.image_size[instances.image_row][:, None]
    shares = (sizes > 0).all(-1) & (xy == -sizes - 0.5).all(-1)  # (-1, -1) of the sides
    return labelled & ((xy == -1).all(-1) | shares), labelled & ((xy == 0).all(-1) | (xy == -0.5).all(-1))


def _without_marks(instances: Instances, findings: Findings) -> Instances:
    """Takes as missing what tools write for a point that is not there and the file calls labelled: (-1, -1), and the exact
    (0, 0) where it is there more than once."""
    negative, origin = marks_of(instances)
    marks = negative | origin if origin.sum() >= FEWEST_MARKS else negative
    if not marks.any():
        return instances
    counts = [(negative, "(-1, -1)"), (marks & origin, "exactly (0, 0)")]
    where = " and ".join(f"{own.sum()} at {place}" for own, place in counts if own.any())
    findings.note(f"{marks.sum()} labelled points lie where tools write missing ones, {where}: taken as missing")
    return replace(instances, visibility=np.where(marks, 0, instances.visibility))


def refuse_shares(instances: Instances) -> None:
    """Raises UserError where all labelled points of a source lie within 0..1: these are shares of the image's sides."""
    points = instances.xy[instances.visibility > 0]
    if len(points) >= FEWEST_SHARES and ((points >= -0.05) & (points <= 1.05)).all():
        raise UserError(
            instances.source,
            f"all its {len(points)} labelled points lie within 0..1: they look divided by the image's size; expected px "
            "(multiply x by the width and y by the height)",
        )


class _Doubts:
    """Which instances are left out, each with the first reason that was met."""

    def __init__(self, instances: Instances, findings: Findings) -> None:
        self.instances, self.findings = instances, findings
        self.bad = np.zeros(len(instances), bool)

    def leave_out(self, rows: np.ndarray | np.bool, what: str, point_wise: np.ndarray | None = None) -> None:
        """Marks rows not yet marked; {point}, {v}, {xy}, {box} and {size} are filled in."""
        instances = self.instances
        for row in np.flatnonzero(rows & ~self.bad):
            point = 0 if point_wise is None else int(point_wise[row].argmax())
            size = instances.image_size[instances.image_row[row]]
            text = what.format(
                point=instances.skeleton.points[point],
                v=f"{instances.visibility[row, point]:g}",
                xy=[float(f"{value:.6g}") for value in instances.xy[row, point]],
                box=[round(float(value), 2) for value in instances.box_xywh[row]],
                size=f"{size[0]}x{size[1]}",
            )
            self.findings.add(f"annotation {instances.annotation_id[row]}", f"{text}; left out", instances.source)
        self.bad |= rows


def _on_broken_pictures(
    instances: Instances, used: np.ndarray, verify: bool, image_size: np.ndarray, findings: Findings
) -> np.ndarray:
    """[n] bool: on a picture that can't be used, each of which is listed once; `image_size` is filled in."""
    rows = np.unique(instances.image_row[used])
    broken = _broken_pictures(instances, rows, verify, image_size)
    if verify:
        _note_dark(instances.images, [row for row in rows.tolist() if row not in broken], findings)
    counts = np.bincount(instances.image_row[used], minlength=len(instances.images))
    for row, text in broken.items():
        what = f"{text}; {counted(counts[row], 'annotation')} left out"
        findings.add(f"image {instances.image_id[row]}", what, instances.images.name(row))
    return np.isin(instances.image_row, list(broken))


def _note_dark(images: Images, rows: Sequence[int], findings: Findings) -> None:
    """Notes where the first pictures have 16 bits of which the upper ones are not used, as cameras of 10 or 12 bits write
    them."""
    brightest = -1
    for row in rows[:LOOKED_AT]:
        if isinstance(images, FileImages):
            with suppress(UserError, MemoryError):  # the reading tells of it
                value = brightest_of_16_bits(images.path(row))
                brightest = brightest if value is None else max(brightest, value)
    if 0 <= brightest < DARK:
        findings.note(
            f"16-bit pictures whose brightest value is {brightest}, of the first that were looked at: they are read as nearly "
            f"black, since {2**16 - 1} is white; save them as 8 bits, or scaled to the whole range"
        )


def refuse_if_strict(findings: Findings, what: str, strict: bool) -> None:
    """Raises UserError where `strict`, and something is wrong in `what`."""
    if strict and findings.wrong:
        wrong = findings.wrong
        raise UserError(f"{len(wrong)} broken in {what}: {summary(wrong)}; correct or remove them")


def without_notes(problems: Sequence[Problem]) -> list[Problem]:
    """What is wrong, without what was merely concluded."""
    return [problem for problem in problems if not problem.is_note]


def summary(problems: Sequence[Problem], shown: int = 3, source: str = "") -> str:
    """One line: the first few that say different things, and how many more; without the name of their file where that is
    `source`, which the message names already."""
    first: dict[str, Problem] = {}
    for problem in problems:
        first.setdefault(problem.what, problem)
    different = list(first.values())[:shown]
    lines = "; ".join(str(problem).removeprefix(f"{source}: ") for problem in different)
    rest = len(problems) - len(different)
    return lines + (f"; and {rest} more" if rest > 0 else "")


def _with_boxes(
    instances: Instances, usable: np.ndarray, sound: np.ndarray, findings: Findings, pictures: bool
) -> np.ndarray:
    """The boxes as given, and where none is given the points' own; a note says where these tell no size. sound [n]:
    instances that stay."""
    boxes, bare = boxes_of_points(instances.xy, usable, instances.box_xywh, sound & ~instances.crowd)
    bare &= sound
    if not bare.any():
        return boxes
    sides = boxes[bare, 2:]
    sizeless = f"{bare.sum()} of {sound.sum()} instances have no box and all their labelled points on one place"
    if np.isfinite(sides).all():
        findings.note(
            f"{sizeless}: their box is {sides.max():.4g} px wide and high around it, as the others' longer sides are in the "
            "median; give boxes where sizes differ"
        )
        return boxes
    sizes = {row: _size_of(instances, int(instances.image_row[row]), pictures) for row in np.flatnonzero(bare)}
    for row, size in sizes.items():
        own = geometry.box_of_points(instances.xy[row], usable[row], BOX_MARGIN)
        boxes[row] = own if size is None else geometry.whole_image_box(size)
    if None in sizes.values():
        findings.note(f"{sizeless}, and nothing tells a size: their box is that of a single px; give boxes")
        return boxes
    shared = (np.bincount(instances.image_row[bare]) > 1).sum()
    alike = f"; {counted(shared, 'image')} with several of them can't be learnt from so" if shared else ""
    findings.note(
        f"{sizeless}, and no instance tells a size: their box is the whole image{alike}; give boxes where instances are smaller"
    )
    return boxes


def boxes_of_points(
    xy: np.ndarray, usable: np.ndarray, box_xywh: np.ndarray, sound: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Makes boxes around the usable points (xy [n, k, 2], usable [n, k]) where none is given (NaN in box_xywh [n, 4]).

    Points on one place have no extent: their box is a square around it, as wide as the longer sides of the sound ([n]) others are in the
    median; NaN sides where there is no other. Gives the boxes, and [n] bool which ones these are."""
    boxes, bare = box_xywh.copy(), np.zeros(len(xy), bool)
    for row in np.flatnonzero(np.isnan(boxes).all(1) & usable.any(1)):
        boxes[row] = geometry.box_of_points(xy[row], usable[row], BOX_MARGIN)
        bare[row] = (geometry.box_of_points(xy[row], usable[row])[2:] <= 1).all()
    others = boxes[sound & ~bare & np.isfinite(boxes).all(1), 2:]
    side = float(np.median(others.max(1))) if len(others) else np.nan
    for row in np.flatnonzero(bare):
        boxes[row] = geometry.square_box(geometry.box_middle(boxes[row]), side)
    return boxes, bare


def _size_of(instances: Instances, image_row: int, pictures: bool) -> Size | None:
    """The size of an image, declared or its file's; None where neither tells."""
    width, height = instances.image_size[image_row].tolist()
    if width and height:
        return Size(width, height)
    if pictures and isinstance(instances.images, FileImages):
        with suppress(UserError):
            return upright_size(instances.images.path(image_row))
    return None


def _outside(instances: Instances) -> np.ndarray:
    """[n] bool: the box shares no area with the picture. False where no size is declared."""
    result = np.zeros(len(instances.image_row), bool)
    sizes = instances.image_size[instances.image_row]
    inside = (instances.box_xywh[:, :2] >= 0).all(1) & (instances.box_xywh[:, :2] < sizes).all(1)
    for row in np.flatnonzero(~inside & sizes.all(1)):  # few, so that the exact question may be asked one by one
        result[row] = geometry.box_overlap(instances.box_xywh[row], Size(*sizes[row])) == 0
    return result


def _far_outside(instances: Instances) -> np.ndarray:
    """[n, k] bool: farther from the picture than `ABSURD` times its longest side. False where no size is declared."""
    longest = instances.image_size[instances.image_row].max(1).astype(np.float64)
    distance = np.abs(instances.xy).max(-1)
    return (distance > (ABSURD + 1) * longest[:, None]) & (longest > 0)[:, None]


def _broken_pictures(instances: Instances, rows: np.ndarray, verify: bool, image_size: np.ndarray) -> dict[int, str]:
    """What is wrong with pictures, by image row; sizes that were not declared are filled into `image_size`."""
    images = instances.images
    if not isinstance(images, FileImages):
        return {}
    # One listing a folder instead of one question a picture, and strings, since paths cost more than all the rest here.
    listings: dict[str, set[str]] = {}
    broken = {}
    for row in map(int, rows):
        folder, name = os.path.split(images.names[row])
        if folder not in listings:
            listings[folder] = listing(images.folder / folder)
        if name not in listings[folder]:
            broken[row] = "the picture is missing" if name else "the annotations give it no file_name"
        elif verify:
            path = images.path(row)
            try:
                image_size[row] = _verified_size(path, images.declared_size(row))
            except UserError as error:
                broken[row] = error.about(path)
    return broken


def _verified_size(path: Path, declared: Size | None) -> Size:
    """The size of the picture as it will be read; UserError where it is cut short or not of the declared size."""
    header = file_header(path)
    if declared is None:
        return upright_size(path) if header is None else header.upright
    if header is None or declared == header.upright or keeps_stored(header, declared):
        return declared
    raise UserError(
        f"the picture is {header.upright}, but the annotations say {declared}; expected the one they were made on"
    )
