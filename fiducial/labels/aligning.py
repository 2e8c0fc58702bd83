"""`fiducial data align`: another set's labels, moved to where one's own set would have them.

Two sets that call a point alike may mean two places: a jaw at the edge of the skin or above it, a hip at the joint or at the bone. No
image has both labels, so a model is the ruler: how far its points lie from the labels is measured on images of either
set that it did not learn from, in the frame of the shape (turned, scaled and shifted onto the mean shape). What the model gets wrong
itself is in both and drops out of their difference. Of that, as much is taken as is not chance."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fiducial import distillation, files, geometry
from fiducial.api.arguments import path_of, source_of
from fiducial.api.results import Result, say
from fiducial.data import annotations, conversion
from fiducial.data.facts import mean_shape
from fiducial.data.source import Source
from fiducial.errors import UserError, counted
from fiducial.evaluation import metrics
from fiducial.labels import reading
from fiducial.types import Instances, Keypoints

FORMAT = "coco"  # of what is written
LEAST = 10  # labelled instances of a point in either set, below which it is left where it is
UNSURE = 2.0  # times as wide as on our images, a model's points may spread about these labels; it does not understand them else
FAR = 4.0  # times the median distance of a point, beyond which the model or the label is taken to be wrong


def align(
    data: Any,
    to: Any,
    model: Any,
    out: Any,
    *,
    images: Any = None,
    category: str | None = None,
    progress: bool = False,
) -> Result:
    """Writes a set's labels, moved so that a point's name means the same place as in another set; `fiducial.fit(to, also=[out])` then
    learns both together.

    Args:
        data: the set that is moved, of any format.
        to: the set whose places are meant; its val is measured, or a tenth of train is taken as `fiducial.fit` does.
        model: finds the points of both, and learnt neither from `to`'s val nor from `data`: a run on `to`, a model in a file.
        out: a folder that is empty or not there, for labels as COCO has them; images stay where they are.

    Points are the same by their names. `figures["per_point"]` tells how far each was moved, in the unit of NME. Raises UserError
    where fewer than two points are the same, or hardly any is labelled."""
    source, folder, ruler_path = source_of(data, images, category), path_of(out, "out"), path_of(model, "model")
    _refuse_pupil(ruler_path, source)
    labelled, said = reading.read(source)
    theirs = labelled.splits.get("train", next(iter(labelled.splits.values())))
    ours, problems = annotations.load(source_of(to), "val")
    ruler = distillation.load_point_teacher(ruler_path)
    same_points(theirs, ours)
    order = _order(ours, ruler.skeleton.points)
    found = [ruler.points_of(part, bar=progress) for part in (theirs, ours)]
    shift = learn(theirs, ours, *(Keypoints(one.xy[:, order], one.score[:, order]) for one in found))
    moved = {name: shift(split) for name, split in labelled.splits.items()}
    lost = conversion.write_splits(moved, folder, FORMAT)
    notes = list(dict.fromkeys([*said, *map(str, problems), *shift.left(theirs)]))
    say(notes)
    figures = {
        "data": str(source),
        "to": str(source_of(to)),
        "model": str(model),
        **_figures(shift, theirs),
        "notes": [*notes, *lost],
        "files": {"labels": str(folder)},
    }
    table = [{"point": row["point"], "moved": f"{100 * row['moved']:.2f} %"} for row in figures["per_point"]]
    line = f"moved by {100 * figures['moved']:.2f} % (as NME), by what {len(theirs)} and {len(ours)} instances tell"
    return Result(figures=figures, table=table, lines=[line])


@dataclass(frozen=True)
class Shift:
    """Moves points by constants in the frame of the shape."""

    numbers: np.ndarray  # [m] of the points of the set that is moved
    shape: np.ndarray  # [m, 2] their mean shape, in boxes
    by: np.ndarray  # [m, 2] in its frame
    known: np.ndarray  # [m] bool: both sets have enough labels to tell, and the model is about as sure of both

    def __call__(self, labels: Instances) -> Instances:
        """Moves the points that are labelled; boxes and all else stay, and so do instances that show fewer than two of them."""
        to_shape = _frames(labels, self.numbers, self.shape)
        usable = np.isfinite(to_shape).all((1, 2)) & (geometry.scale_of(to_shape) > 0)
        to_shape[~usable] = np.eye(3)
        by = geometry.transform_vectors(
            geometry.invert(to_shape), np.broadcast_to(self.by, (len(labels), *self.by.shape))
        )
        seen = labels.labelled[:, self.numbers] & usable[:, None]
        xy = labels.xy.astype(np.float64)
        xy[:, self.numbers] += np.where(seen[..., None], by, 0.0)
        return replace(labels, xy=xy.astype(labels.xy.dtype))

    def left(self, labels: Instances) -> list[str]:
        """Says which points stay where they are."""
        moved = self.numbers[self.known].tolist()
        stay = [name for i, name in enumerate(labels.skeleton.points) if i not in moved]
        if not stay:
            return []
        few = ", ".join(stay[:5]) + ", .." * (len(stay) > 5)
        return [
            f"{counted(len(stay), 'point')} stay as they are, without a point of that name, {LEAST} labels, or a model that is sure, in both: {few}"
        ]


class Residuals(NamedTuple):
    """How far a model's points lie from labels, in the frame of the shape."""

    mean: np.ndarray  # [m, 2]
    variance: np.ndarray  # [m] x and y together
    spread: np.ndarray  # [m] median distance from the mean
    labels: np.ndarray  # [m] that it is of

    @property
    def of_mean(self) -> np.ndarray:
        """The variance of the mean, [m]."""
        return self.variance / np.maximum(self.labels, 1)


def learn(theirs: Instances, ours: Instances, found_theirs: Keypoints, found_ours: Keypoints) -> Shift:
    """Learns by how much labels are to be moved, from what one model found on both: xy [n, k, 2] px of the images, the points of
    `ours` in their order; a score of 0 where it found none. UserError where too little is the same, or labelled, or understood by
    the model."""
    own, mine = same_points(theirs, ours)
    shape = mean_shape(ours.pick_points(mine.tolist()))[0]
    there = _residuals(theirs, found_theirs, mine, own, shape)
    here = _residuals(ours, found_ours, mine, mine, shape)
    enough = np.minimum(there.labels, here.labels) >= LEAST
    if not enough.any():
        raise UserError(
            theirs.source,
            f"no point has {LEAST} labels here and in val of {ours.source} that the model comes near to; nothing can be told",
        )
    wider = there.spread / np.maximum(here.spread, 1e-12)
    known = enough & (wider <= UNSURE)
    if 2 * known.sum() < enough.sum():
        raise UserError(
            theirs.source,
            f"the model's points spread {np.median(wider[enough]):.1f} times as widely about these labels as about those of {ours.source}: "
            f"it does not understand these images, and can't be the ruler; expected a model that does (at most {UNSURE:g} times)",
        )
    by = there.mean - here.mean
    # What two means of so many differ by chance is taken off (James and Stein, 1961).
    by *= np.maximum(0.0, 1 - (there.of_mean + here.of_mean) / np.maximum((by**2).sum(1), 1e-24))[:, None]
    return Shift(own, shape, np.where(known[:, None], by, 0.0), known)


def same_points(theirs: Instances, ours: Instances) -> tuple[np.ndarray, np.ndarray]:
    """Numbers the points that two sets have by the same names, [m] in the one and in the other. UserError where they are fewer than two."""
    names = [name for name in theirs.skeleton.points if name in ours.skeleton.points]
    if len(names) < 2:
        raise UserError(
            theirs.source,
            f"has {counted(len(names), 'point')} of {ours.source} by name; its own are {', '.join(theirs.skeleton.points[:3])}, .., "
            f"there they are {', '.join(ours.skeleton.points[:3])}, ..: expected two or more of the same name",
        )
    mine = np.array([ours.skeleton.points.index(name) for name in names])
    own = np.array([theirs.skeleton.points.index(name) for name in names])
    return own, mine


def _residuals(
    labels: Instances, found: Keypoints, of_model: np.ndarray, numbers: np.ndarray, shape: np.ndarray
) -> Residuals:
    """Those of the points `numbers` [m] of labels, which are `of_model` [m] of what was found."""
    xy, is_found = found.xy[:, of_model], found.score[:, of_model] > 0
    to_shape = _frames(labels, numbers, shape)
    usable = np.isfinite(to_shape).all((1, 2)) & labels.labelled.any(1) & ~labels.crowd
    seen = labels.labelled[:, numbers] & is_found & np.isfinite(xy).all(-1) & usable[:, None]
    to_shape[~usable] = np.eye(3)
    away = geometry.transform_vectors(to_shape, xy - labels.xy[:, numbers].astype(np.float64))
    seen &= np.linalg.norm(away, axis=-1) <= FAR * _medians(np.linalg.norm(away, axis=-1), seen)
    count = np.maximum(seen.sum(0), 1)
    mean = np.where(seen[..., None], away, 0.0).sum(0) / count[:, None]
    variance = (np.where(seen[..., None], away - mean, 0.0) ** 2).sum((0, 2)) / count
    return Residuals(mean, variance, _medians(np.linalg.norm(away - mean, axis=-1), seen), seen.sum(0))


def _medians(values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The median of each column [n, m] over what is seen; 0 where nothing is."""
    columns = zip(values.T, seen.T, strict=True)
    return np.array([np.median(column[used]) if used.any() else 0.0 for column, used in columns])


def _frames(labels: Instances, numbers: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """The maps from the images to the frame of the shape, [n, 3, 3]."""
    xy = labels.xy[:, numbers].astype(np.float64)
    return geometry.similarity(xy, np.broadcast_to(shape, xy.shape), labels.labelled[:, numbers].astype(np.float64))


def _refuse_pupil(model: Path, source: Source) -> None:
    """A model that learnt where these labels lie finds them there, which would tell nothing."""
    told = model / "metrics.json"
    known = str(files.read_object(told).get("data", "")) if told.is_file() else ""
    if source.path.resolve() in {Path(name).resolve() for name in known.split(" + ") if name}:
        raise UserError(
            model,
            f"has learnt from {source.path}; expected a model that has not, such as a run on the set of --to alone",
        )


def _order(ours: Instances, points: tuple[str, ...]) -> list[int]:
    """Numbers of a model's points in the order of ours: by name, or all of them as they are where no name is the same."""
    wanted = ours.skeleton.points
    if len(points) == len(wanted) and not set(points) & set(wanted):
        return list(range(len(points)))
    if missing := [name for name in wanted if name not in points]:
        raise UserError(
            ours.source,
            f"the model does not find {', '.join(missing[:5])}; expected one that finds all points of this set",
        )
    return [points.index(name) for name in wanted]


def _figures(shift: Shift, labels: Instances) -> dict[str, Any]:
    """How far labels were moved, together and point by point."""
    numbers = shift.numbers.tolist()
    its = metrics.measure_instances(shift(labels).pick_points(numbers).xy, labels.pick_points(numbers))
    rows = [{"point": point.name, "moved": files.finite(point.nme) or 0.0} for point in its.points]
    return {"moved": files.finite(its.nme) or 0.0, "per_point": rows}
