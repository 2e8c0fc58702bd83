"""How far a model's points may be off: measured on labelled instances that it has not learnt from, and tested on others.

Split conformal prediction (Papadopoulos et al., "Inductive confidence machines for regression", ECML 2002; Lei et al.,
JASA 2018), for images of several points (Lee, Barber & Willett, "Distribution-free inference with hierarchical data",
2023): the radius that holds the true point in a share of all cases is the quantile of the errors on held-out labels,
each divided by what the model said of its own error. It holds whatever the model says, as long as new images are like the
held-out ones; what the model says decides how large the radii are, and which points have the large ones. Numpy only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from fiducial import geometry
from fiducial.evaluation import visibility
from fiducial.types import Instances, Keypoints, Spread

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
PRINTED = (0.5, 0.8, 0.9, 0.95)
FEWEST = 20  # labelled points; with fewer nothing is said
# A point of its own scale weighs as much as the scale of all points where it has so many labels.
LABELS_OF_ALL = 30
MEDIAN_OF_GAUSSIAN = math.sqrt(2 * math.log(2))  # median distance from the centre of one of sigma 1 in the plane
LEAST_PX = 1e-6
FAR = 4.0  # sigmas: errors beyond are blunders, which would outweigh all others
LEAST_TOLD, CHANCE = 1e-3, 2.0  # sum of squares of told correlations; standard errors that a slope must be above 0


@dataclass(frozen=True, kw_only=True)
class Covered:
    """Tells for one nominal share how many true points lay within their radius."""

    share: float  # nominal
    covered: float
    low: float  # 95 % range of `covered`, by its images: points of one image miss together
    high: float
    median_radius_px: float


def uncalibrated(points: int) -> Spread:
    """Makes a spread by which sigma is what the method tells."""
    return Spread(scale=(1.0,) * points, correlation=1.0)


def measured(errors_px: np.ndarray, told_px: np.ndarray, group: np.ndarray) -> Spread | None:
    """Measures how errors depend on what a method tells of them: [n, k] px of the input, NaN where not labelled, and
    [n, k, 2]; group [n], of instances that may fail together. None with too few labels to say anything.

    The power is the slope of log error over log told, a line through all points with an offset for each kind of point;
    where errors don't follow it is 0. The scale makes the median error of each kind of point a Gaussian's."""
    labelled = np.isfinite(errors_px)
    points = int(labelled.sum())
    if points < FEWEST:
        return None
    error = np.log(np.maximum(errors_px, LEAST_PX))
    hint = np.log(np.maximum(geometry.mean_spread(told_px), LEAST_PX))
    power = _slope(hint, error, labelled)
    rest = np.where(labelled, error - power * hint, np.nan)
    of_all = float(np.nanmedian(rest))
    count = labelled.sum(0)
    own = np.array([np.nanmedian(column) if some else of_all for column, some in zip(rest.T, count, strict=True)])
    scale = np.exp((count * own + LABELS_OF_ALL * of_all) / (count + LABELS_OF_ALL)) / MEDIAN_OF_GAUSSIAN
    sigma = geometry.mean_spread(np.maximum(told_px, LEAST_PX) ** power * scale[:, None])
    in_sigmas = errors_px / sigma
    # Of m + 1 images alike the next is as likely to be at any place among them; it weighs as much as each of the m, and its
    # points may be the worst of all.
    images = len(np.unique(group[labelled.any(1)]))
    ranks = [math.ceil(round(points * share * (images + 1) / images, 6)) for share in SHARES]
    factors = np.sort(in_sigmas[labelled])[[rank - 1 for rank in ranks if rank <= points]]
    return Spread(
        power=round(power, 6),
        scale=tuple(float(f"{value:.6g}") for value in scale),
        shares=SHARES[: len(factors)],
        factors=tuple(float(f"{value:.6g}") for value in factors),
        margins=tuple(round(_share(in_sigmas <= factor, labelled, group)[1], 4) for factor in factors),
        instances=int(labelled.any(1).sum()),
        points=points,
    )


def measured_on(keypoints: Keypoints, instances: Instances, image_to_crop: np.ndarray) -> Spread | None:
    """Measures the spread of a model whose sigma is what its method tells, by its points on labelled instances: px of the
    images, and the crops [n, 3, 3] that it saw."""
    enlargement = geometry.scale_of(image_to_crop)
    told = keypoints.mapped(image_to_crop).sigma
    spread = measured(_errors(keypoints, instances) * enlargement[:, None], told, instances.image_row)
    if spread is None:
        return None
    leaning = None
    if keypoints.correlation is not None:
        sigma = np.maximum(told, LEAST_PX) ** spread.power * np.array(spread.scale)[:, None]
        in_sigmas = (keypoints.xy.astype(np.float64) - instances.xy) * enlargement[:, None, None] / sigma
        counted = np.isfinite(_errors(keypoints, instances))
        leaning = leaning_of(in_sigmas[counted], keypoints.correlation[counted])
    return replace(spread, correlation=leaning, sight=visibility.measured_on(keypoints, instances))


def leaning_of(in_sigmas: np.ndarray, told: np.ndarray) -> float | None:
    """Measures by how much of what is told of their correlation [n] errors in x and y [n, 2] go together, 0 to 1: the slope of
    their product over what is told, of errors within `FAR` sigmas. None where that may be chance."""
    near = np.linalg.norm(in_sigmas, axis=1) <= FAR
    square = float((told[near] ** 2).sum())
    if square < LEAST_TOLD:
        return None
    x, y = (in_sigmas[near] / np.sqrt((in_sigmas[near] ** 2).mean(0))).T
    slope = float((x * y * told[near]).sum() / square)
    return round(min(slope, 1.0), 4) if slope > CHANCE / square**0.5 else None


def line(spread: Spread | None, split: str = "val") -> str:
    """Says what was measured, in a sentence."""
    if spread is None:
        return f"how far points may be off can't be told: {split} has fewer than {FEWEST} labelled points"
    about = f"{spread.points} points of {spread.instances} instances of {split}"
    if 0.9 not in spread.shares:
        return f"how far points may be off: measured on {about}, too few for radii of 90 %"
    share, margin = 90, 100 * spread.margins[spread.shares.index(0.9)]
    low, high = share - margin, min(100, share + margin)
    return (
        f"how far points may be off: measured on {about}; radii of 90 % will hold {low:.0f} to {high:.0f} % of new ones"
    )


def coverage(keypoints: Keypoints, instances: Instances) -> list[Covered]:
    """Tests on labelled instances whether radii hold as many true points as they should; nothing where the model was not
    calibrated."""
    if keypoints.spread is None or keypoints.sigma is None:
        return []
    errors = _errors(keypoints, instances)
    labelled = np.isfinite(errors)
    if not labelled.any():
        return []
    found = []
    for share in keypoints.spread.shares:
        radius = keypoints.radius(share)
        covered, margin = _share(errors <= radius, labelled, instances.image_row)
        low, high = max(0.0, covered - margin), min(1.0, covered + margin)
        median = float(np.median(radius[labelled]))
        found.append(Covered(share=share, covered=covered, low=low, high=high, median_radius_px=median))
    return found


def as_json(keypoints: Keypoints, instances: Instances) -> dict[str, Any]:
    """Makes what `--json` writes of radii: what they were measured on, and how many true points they hold here."""
    tested = coverage(keypoints, instances)
    if not tested or keypoints.spread is None:
        return {}
    spread = keypoints.spread
    about = {"calibrated_on": {"instances": spread.instances, "points": spread.points}, "power": spread.power}
    return {"spread": {**about, "coverage": [asdict(each) for each in tested]}}


def lines(summary: Mapping[str, Any]) -> list[str]:
    """Says in a sentence how many true points the usual radii held; nothing where there are none."""
    rows = [row for row in summary.get("spread", {}).get("coverage", []) if row["share"] in PRINTED]
    if not rows:
        return []
    shares, held = ("/".join(f"{100 * row[name]:.0f}" for row in rows) for name in ("share", "covered"))
    margin, radius = (
        f"{value:.3g}" for value in (50 * (rows[-1]["high"] - rows[-1]["low"]), rows[-1]["median_radius_px"])
    )
    last = f"{100 * rows[-1]['share']:.0f} %"
    return [f"radii of {shares} % held {held} % of the points; that of {last} ± {margin}, with a median of {radius} px"]


def by_size(
    keypoints: Keypoints, instances: Instances, share: float = 0.9, groups: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    """Sorts points by their radius into groups of equal number: the median radius of each, and the radius that would have
    held this share of the group, px. Equal where the model knows which of its points are bad."""
    errors, radius = _errors(keypoints, instances), keypoints.radius(share)
    labelled = np.isfinite(errors)
    errors, radius = errors[labelled], radius[labelled]
    parts = [part for part in np.array_split(np.argsort(radius, kind="stable"), groups) if len(part)]
    return np.array([np.median(radius[part]) for part in parts]), np.array(
        [np.quantile(errors[part], share) for part in parts]
    )


def _errors(keypoints: Keypoints, instances: Instances) -> np.ndarray:
    """[n, k] px of the images, NaN where there is nothing to be held against."""
    labelled = instances.labelled & ~instances.crowd[:, None]
    return np.where(labelled, np.linalg.norm(keypoints.xy.astype(np.float64) - instances.xy, axis=-1), np.nan)


def _slope(hint: np.ndarray, error: np.ndarray, labelled: np.ndarray) -> float:
    """Least squares over all labelled places, each column's mean taken out; 0 where hints don't differ, at most 2."""

    def centred(values: np.ndarray) -> np.ndarray:
        mean = np.where(labelled, values, 0).sum(0) / np.maximum(labelled.sum(0), 1)
        return np.where(labelled, values - mean, 0)

    hint, error = centred(hint), centred(error)
    square = float((hint * hint).sum())
    return float(np.clip((hint * error).sum() / square, 0, 2)) if square > 1e-9 * labelled.sum() else 0.0


def _share(hit: np.ndarray, counted: np.ndarray, group: np.ndarray) -> tuple[float, float]:
    """The share of hits among what counts, and how far its 95 % range reaches: the error of a ratio whose groups are
    drawn whole (Cochran, Sampling Techniques, 1977, ch. 6)."""
    number = np.unique(group, return_inverse=True)[1]
    counts = np.bincount(number, weights=counted.sum(1))
    hits = np.bincount(number, weights=(hit & counted).sum(1))
    share = float(hits.sum() / counts.sum())
    groups = int((counts > 0).sum())
    if groups < 2:
        return share, 1.0
    deviation = float(np.sqrt(((hits - share * counts) ** 2).sum() * groups / (groups - 1)) / counts.sum())
    return share, 1.96 * deviation
