"""What kind of error each point is, and how much NME and AP each kind costs (Ronchi & Perona, "Benchmarking and error
diagnosis in multi-instance pose estimation", ICCV 2017, section 3.1). Numpy only.

How near a point is to a place is COCO's similarity of one point, exp(-d^2 / (2 area (2 sigma)^2)); where there are no
sigmas, one of the same form that is a half at `SHARE_OF_NORMALIZER` of what NME divides by. Beside the kinds of that work
there are points whose true place the model's crop does not hold, and labels that are likely wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fiducial import files, geometry
from fiducial.evaluation import coco, metrics
from fiducial.geometry import Size
from fiducial.types import Instances, Keypoints

GOOD, NEAR = 0.85, 0.5  # similarities from which on a point is right, and from which on it is near a place
SHARE_OF_NORMALIZER = metrics.LIMIT
FAR = 3.0  # radii of `FAR_SHARE` beyond which the model's own word on its error all but rules the label out
FAR_SHARE = 0.95
KINDS = {
    "good": "as near as labels of people are to each other: similarity 0.85 or more",
    "jitter": "near: similarity 0.5 to 0.85",
    "inversion": "near the true place of its mirror partner on the same instance, left for right",
    "swap": "near that point, or its mirror partner, of another instance of the image",
    "box": "near nothing, and the true place is outside of what the model saw: the box is too small or elsewhere",
    "label": "so far off that the model's own radius all but rules the label out: look at the label first",
    "miss": "near no place that it could be taken for",
}
NUMBER = {kind: i for i, kind in enumerate(KINDS)}
WORST = 5  # of each kind that the figures name


@dataclass(frozen=True, kw_only=True)
class Mistakes:
    """Tells the kinds of the points of p found instances."""

    kind: np.ndarray  # [p, k] int8: place in `KINDS`; -1: not labelled, or nothing to judge it by
    distance_px: np.ndarray  # [p, k]
    apart: np.ndarray  # [p, k] the distance over that at which the similarity is a half
    row: np.ndarray  # [p] rows of the truth
    judged_by: str

    def of(self, kind: str) -> np.ndarray:
        """Marks the points of a kind, [p, k]."""
        return self.kind == NUMBER[kind]


def classified(
    xy: np.ndarray,
    row: np.ndarray,
    truth: Instances,
    *,
    image_to_crop: np.ndarray | None = None,
    crop_size: Size | None = None,
    radius: np.ndarray | None = None,
) -> Mistakes:
    """Says of each found point what kind of error it is: xy [p, k, 2] px of the images, found for these rows [p] of the
    truth, whose other instances are what points may be swapped with.

    image_to_crop [p, 3, 3] and crop_size say what the model saw, radius [p, k] px within which it says that 95 % of the
    true points lie; without them no error is one of the box, or of the label."""
    xy, reach = xy.astype(np.float64), reaches(truth)
    labelled = truth.labelled & ~truth.crowd[:, None] & (reach > 0)
    order = truth.skeleton.flip_order if truth.skeleton.flip_pairs else np.arange(xy.shape[1])

    def near(found: np.ndarray, rows: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Similarity with the places that these points have on instances, 0 where they are not labelled."""
        apart = np.linalg.norm(found - truth.xy[rows][:, points], axis=-1) / np.maximum(reach[rows][:, points], 1e-9)
        return np.where(labelled[rows][:, points], np.exp(-math.log(2) * apart**2), 0.0)

    straight = np.arange(xy.shape[1])
    own = near(xy, row, straight)
    partner = np.where(order != straight, near(xy, row, order), 0.0)
    other = np.zeros_like(own)
    found, rows = coco.of_same_image(truth.image_row[row], truth.image_row, len(truth.image_id))
    found, rows = (column[rows != row[found]] for column in (found, rows))
    for start in range(0, len(found), 4096):
        block = slice(start, start + 4096)
        of_other = np.maximum(near(xy[found[block]], rows[block], straight), near(xy[found[block]], rows[block], order))
        np.maximum.at(other, found[block], of_other)

    distance = np.linalg.norm(xy - truth.xy[row], axis=-1)
    kind = np.full(own.shape, NUMBER["miss"], np.int8)
    if image_to_crop is not None and crop_size is not None:
        seen = geometry.inside(geometry.transform(image_to_crop, truth.xy[row].astype(np.float64)), crop_size)
        kind[~seen] = NUMBER["box"]
    kind[(other >= NEAR)] = NUMBER["swap"]
    kind[(partner >= NEAR) & (partner >= other)] = NUMBER["inversion"]
    if radius is not None:
        kind[(distance > FAR * radius) & (kind != NUMBER["box"])] = NUMBER["label"]
    kind[own >= NEAR] = NUMBER["jitter"]
    kind[own >= GOOD] = NUMBER["good"]
    kind[~labelled[row]] = -1
    by_normalizer = f"a half at {SHARE_OF_NORMALIZER:g} of the {truth.skeleton.normalizer.name}"
    return Mistakes(
        kind=kind,
        distance_px=distance,
        apart=distance / np.maximum(reach[row], 1e-9),
        row=row,
        judged_by="OKS sigmas" if truth.skeleton.sigmas is not None else by_normalizer,
    )


def of_model(keypoints: Keypoints, truth: Instances, image_to_crop: np.ndarray, crop_size: Size) -> Mistakes:
    """Says it of a model's points, one found instance for each of the truth."""
    return classified(
        keypoints.xy,
        np.arange(len(truth)),
        truth,
        image_to_crop=image_to_crop,
        crop_size=crop_size,
        radius=keypoints.radius(FAR_SHARE) if doubts_labels(keypoints) else None,
    )


def doubts_labels(keypoints: Keypoints) -> bool:
    """Says whether a model says enough of its own errors to doubt a label."""
    return keypoints.spread is not None and keypoints.spread.knows(FAR_SHARE)


def reaches(truth: Instances) -> np.ndarray:
    """Measures how far from a true place the similarity is a half, [n, k] px; 0 where nothing says."""
    sigmas, points = truth.skeleton.sigmas, truth.xy.shape[1]
    if sigmas is not None:
        root = np.sqrt(np.maximum(truth.area.astype(np.float64), 0))
        return root[:, None] * (2 * np.array(sigmas) * math.sqrt(2 * math.log(2)))
    size = truth.image_size[truth.image_row]
    length = metrics.normalizer_px(truth.skeleton.normalizer, truth.xy, truth.labelled, truth.box_xywh, size)
    return np.repeat(SHARE_OF_NORMALIZER * length[:, None], points, axis=1)


def corrected(xy: np.ndarray, truth_xy: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Puts the points that `which` [p, k] marks onto the truth."""
    return np.where(which[..., None], truth_xy, xy)


Figures = Mapping[str, float | None]


def as_json(
    mistakes: Mistakes, truth: Instances, xy: np.ndarray, measured: Callable[[np.ndarray], Figures]
) -> dict[str, Any]:
    """Makes what `--json` writes: of each kind its points and what it costs, `nme` less and `ap` more where its points
    are put onto the truth and all is scored again by `measured`, which takes points like `xy`."""
    before, judged = measured(xy), int((mistakes.kind >= 0).sum())
    rows = []
    for kind in KINDS:
        which = mistakes.of(kind)
        row: dict[str, Any] = {"kind": kind, "points": int(which.sum()), "share": which.sum() / max(judged, 1)}
        after = measured(corrected(xy, truth.xy[mistakes.row], which)) if which.any() else before
        for name, larger, smaller in (("nme", before, after), ("ap", after, before)):
            high, low = larger.get(name), smaller.get(name)
            if high is not None and low is not None:
                row[f"{name}_worth"] = files.finite(high - low)
        rows.append(row)
    by_point = [
        {"point": name, **{kind: int(mistakes.of(kind)[:, i].sum()) for kind in KINDS}}
        for i, name in enumerate(truth.skeleton.points)
    ]
    worst = [
        _named(mistakes, truth, *place) for kind in KINDS if kind != "good" for place in ranked(mistakes, kind)[:WORST]
    ]
    return {"judged_by": mistakes.judged_by, "kinds": rows, "by_point": by_point, "worst": worst}


def ranked(mistakes: Mistakes, kind: str) -> list[tuple[int, int]]:
    """Lists the points of a kind, (found instance, point), the farthest off first."""
    found, point = np.nonzero(mistakes.of(kind))
    order = np.argsort(-mistakes.apart[found, point], kind="stable")
    return list(zip(found[order].tolist(), point[order].tolist(), strict=True))


def _named(mistakes: Mistakes, truth: Instances, found: int, point: int) -> dict[str, Any]:
    row = int(mistakes.row[found])
    return {
        "kind": list(KINDS)[mistakes.kind[found, point]],
        "image": truth.images.name(int(truth.image_row[row])),
        "annotation_id": truth.annotation_id[row : row + 1].tolist()[0],
        "point": truth.skeleton.points[point],
        "distance_px": round(float(mistakes.distance_px[found, point]), 3),
    }


def table(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Lists the kinds as rows of a printed table; nothing where errors were not explained."""
    return list(figures.get("errors", {}).get("kinds", []))


def notes(truth: Instances, *, crops: bool, radius: bool) -> list[str]:
    """Says which kinds can't be told here, and why."""
    said = []
    if truth.skeleton.flip_pairs is None:
        said.append("no inversions are told: which points are left and right of each other is unknown")
    if not crops:
        said.append("no errors of the box are told: results don't say what the model saw")
    if not radius:
        said.append("no labels are doubted: the model does not say how far its points may be off")
    return said
