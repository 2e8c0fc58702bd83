"""Estimates OKS's constants of the points of a data set: how far careful labels of one point spread.

COCO's definition: sigma_i^2 = E[d_i^2 / s^2], d_i the distance between two people's labels of a point, s the root of the
instance's area (https://cocodataset.org/#keypoints-eval). So it is twice the standard deviation that x, and y, of one label
have (`axis`). Without repeated labels that is what is left of a label's distance from two models that have not seen it
(`unseen`) when the models' own share is taken out: they differ from each other by their errors alone, and the more they
differ in an instance, the harder it is; the labels' spread is where their difference would be nothing. What a point's
distance shares with the instance's other points, as where both models see the whole face too low, is taken for the models'
error: labels of different points are taken to spread independently."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fiducial.data.sampling import places
from fiducial.evaluation.floor import repeated_labels
from fiducial.labels.unseen import Unseen
from fiducial.types import Instances

NORMAL_MEDIAN = 0.6745  # median of |x| of a normal distribution of spread 1
BINS = 8  # of instances that are equally hard
FEWEST = 20  # labels of a point below which nothing is said of it
DRAWS = 100  # of images, for intervals
NEAR = (
    0.15  # of the root of the area: instances on one image whose points are nearer in the mean are one, labelled twice
)
FOLDS, RIDGE = 5, 0.1
CLIPPED = 4.0  # spreads: gross mistakes tell no more than this of other points
SMALLEST = 1e-4  # below it a spread is none


@dataclass(frozen=True, kw_only=True)
class Sigmas:
    """Holds the constants [k] with their intervals of 90 %; NaN where there are too few labels."""

    sigma: np.ndarray
    low: np.ndarray
    high: np.ndarray
    model: np.ndarray  # [k] the models' own share, in the same unit; NaN of repeated labels
    labels: np.ndarray  # [k] how many labels, or pairs of labels, it is of
    repeated: bool

    def told(self) -> Sigmas:
        """Says nothing of points with too few labels."""
        few = self.labels < FEWEST
        figures = {name: np.where(few, np.nan, getattr(self, name)) for name in ("sigma", "low", "high", "model")}
        return replace(self, **figures)

    @property
    def known(self) -> bool:
        """Says whether there is a figure for every point."""
        return bool(np.isfinite(self.sigma).all())


def of_repeated(instances: Instances, seed: int = 0) -> Sigmas | None:
    """Estimates them from instances that were labelled more than once, found by lying on each other; None where too few
    were."""
    first, second = repeated_labels(instances)
    if len(first) < FEWEST:
        return None
    scale = scale_px(instances)
    apart = (instances.xy[first] - instances.xy[second]) / np.sqrt(scale[first] * scale[second])[:, None, None]
    both = instances.labelled[first] & instances.labelled[second]
    apart[~both] = np.nan

    def estimate(chosen: np.ndarray) -> np.ndarray:
        return np.sqrt(2 * _variances(apart[chosen]))  # of two axes

    sigma, low, high = _with_intervals(estimate, instances.image_row[first], seed)
    nothing = np.full(len(sigma), np.nan)
    return Sigmas(sigma=sigma, low=low, high=high, model=nothing, labels=both.sum(0), repeated=True).told()


def of_models(unseen: Unseen, seed: int = 0) -> Sigmas:
    """Estimates them from what models find that have not seen the labels."""
    instances = unseen.instances
    scale = scale_px(instances)[:, None, None]
    away = (instances.xy - unseen.mean) / scale
    apart = (unseen.xy[0] - unseen.xy[1]) / scale
    away[~instances.labelled] = apart[~instances.labelled] = np.nan
    hardness = hardness_of(apart)
    away = of_their_own(away, instances.image_row)

    def estimate(chosen: np.ndarray) -> np.ndarray:
        return 2 * np.sqrt(_at_no_difference(away[chosen], apart[chosen], hardness[chosen]))

    sigma, low, high = _with_intervals(estimate, instances.image_row, seed)
    model = 2 * np.sqrt(_variances(apart) / 4)
    count = instances.labelled.sum(0)
    return Sigmas(sigma=sigma, low=low, high=high, model=model, labels=count, repeated=False).told()


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Computes Spearman's correlation of two lists of numbers [k] without ties."""
    first_rank, second_rank = (np.argsort(np.argsort(values)) for values in (first, second))
    return float(np.corrcoef(first_rank, second_rank)[0, 1])


def as_rows(sigmas: Sigmas, instances: Instances) -> list[dict[str, Any]]:
    """Makes a row for each point: name, sigma, its interval, what one axis has, the models' share, labels."""
    return [
        {
            "point": name,
            "sigma": _number(sigmas.sigma[i]),
            "low": _number(sigmas.low[i]),
            "high": _number(sigmas.high[i]),
            "axis": _number(sigmas.sigma[i] / 2),
            "model": _number(sigmas.model[i]),
            "labels": int(sigmas.labels[i]),
        }
        for i, name in enumerate(instances.skeleton.points)
    ]


def _number(value: float) -> float | None:
    return round(float(value), 5) if np.isfinite(value) else None


def scale_px(instances: Instances) -> np.ndarray:
    """Gives [n] the root of the area, px; of the box where there is none."""
    area = np.where(instances.area > 0, instances.area, instances.box_xywh[:, 2:].prod(1))
    return np.sqrt(np.maximum(area, 1.0)).astype(np.float64)


def hardness_of(apart: np.ndarray) -> np.ndarray:
    """Measures [n, k] how much the models differ in an instance and its point: the mean square of the point itself and of all
    points of the instance, each by what is usual for the point, so that no single difference decides."""
    square = np.square(apart).sum(-1)
    usual = np.nanmedian(square, 0)
    relative = np.minimum(square / np.maximum(usual, SMALLEST**2), 100)
    return np.where(np.isnan(square), np.nan, 0.5 * (relative + np.nanmean(relative, 1, keepdims=True)))


def of_their_own(offsets: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Takes from offsets [n, k, 2] what those of the instance's other points tell of them: by ridge regression on four
    fifths of the images (`image` [n] numbers them) for the rest of them. Offsets that are not there tell nothing."""
    count, points, _ = offsets.shape
    flat = offsets.reshape(count, -1)
    known = np.isfinite(flat)
    centred = flat - np.nanmedian(flat, 0)
    limit = CLIPPED * np.nanmedian(np.abs(centred), 0) / NORMAL_MEDIAN
    values = np.where(known, np.clip(centred, -limit, limit), 0)
    fold = np.unique(image, return_inverse=True)[1] % FOLDS
    result = np.array(centred)
    for number in range(FOLDS):
        fits, told = fold != number, fold == number
        covariance = values[fits].T @ values[fits] / max(fits.sum(), 1)
        ridge = RIDGE * np.trace(covariance) / len(covariance)
        for point in range(points if points > 1 else 0):
            own = np.array([2 * point, 2 * point + 1])
            others = np.setdiff1d(np.arange(2 * points), own)
            weights = np.linalg.solve(
                covariance[np.ix_(others, others)] + ridge * np.eye(len(others)), covariance[np.ix_(others, own)]
            )
            result[np.ix_(told, own)] -= values[np.ix_(told, others)] @ weights
    return result.reshape(offsets.shape)


def _at_no_difference(away: np.ndarray, apart: np.ndarray, hardness: np.ndarray) -> np.ndarray:
    """[k] variance of one axis where the models would not differ: over bins of equally hard instances the distance from
    the label is a line in the models' difference, whose slope is at least the 1/4 of a mean of two."""
    result = np.full(away.shape[1], np.nan)
    for point in range(away.shape[1]):
        bins = equally_hard(hardness[:, point])
        if not bins:
            continue
        of_label, of_models = (np.array([variance_of(of[rows, point]) for rows in bins]) for of in (away, apart))
        weight = np.array([len(rows) for rows in bins]) / np.maximum(of_label, SMALLEST**2) ** 2
        slope = max(0.25, _slope(of_models, of_label, weight))
        rest = np.average(of_label - slope * of_models, weights=weight)
        result[point] = max(rest, SMALLEST**2)
    return result


def equally_hard(hardness: np.ndarray) -> list[np.ndarray]:
    """Parts rows by their hardness [n] into at most 8 bins of at least 10, the easiest first; NaN is left out, and fewer
    than 20 are in none."""
    rows = np.flatnonzero(np.isfinite(hardness))
    if len(rows) < FEWEST:
        return []
    rows = rows[np.argsort(hardness[rows])]
    edges = places(len(rows) + 1, min(BINS, len(rows) // (FEWEST // 2)) + 1)
    return [rows[start:stop] for start, stop in itertools.pairwise(edges)]


def _slope(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    x_mean, y_mean = np.average(x, weights=weight), np.average(y, weights=weight)
    spread = np.average(np.square(x - x_mean), weights=weight)
    return float(np.average((x - x_mean) * (y - y_mean), weights=weight) / spread) if spread > 0 else 0.0


def variance_of(offsets: np.ndarray) -> float:
    """Computes the robust variance of one axis of offsets [m, 2]: by the median, which a fifth of gross errors hardly moves."""
    distance = np.abs(offsets - np.median(offsets, 0))
    return float(np.median(distance) / NORMAL_MEDIAN) ** 2


def _variances(offsets: np.ndarray) -> np.ndarray:
    """[k] those of offsets [n, k, 2]; of a point's labels that are there."""
    result = np.full(offsets.shape[1], np.nan)
    for point in range(len(result)):
        own = offsets[:, point]
        if len(own := own[np.isfinite(own).all(-1)]):
            result[point] = variance_of(own)
    return result


def _with_intervals(estimate: Any, image: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The estimate [k] of all rows, and the 5th and 95th percentile of those of images drawn again."""
    images, own = np.unique(image, return_inverse=True)
    of_image = np.split(np.argsort(own, kind="stable"), np.cumsum(np.bincount(own))[:-1])
    generator = np.random.default_rng(seed)
    drawn = []
    for _ in range(DRAWS):
        chosen = generator.integers(0, len(images), len(images))
        drawn.append(estimate(np.concatenate([of_image[i] for i in chosen])))
    low, high = np.nanpercentile(drawn, (5, 95), axis=0)
    return estimate(np.arange(len(image))), low, high
