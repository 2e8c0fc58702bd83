"""Face alignment: NME between outer eye corners, failure rates, the cumulative curve and the area under it."""

from __future__ import annotations

import numpy as np
import torch
from parity.golden import Case, Tolerance
from torch import Tensor

from fiducial.evaluation import metrics
from fiducial.types import Normalizer

TOLERANCE = {"fr_*": Tolerance(absolute=1e-12), "*": Tolerance(absolute=1e-6)}
CORNERS = {98: (60, 72), 68: (36, 45), 29: (8, 9)}
STEP = 1e-4  # of the scripts' grids, where the case states none


def run(case: Case) -> dict[str, Tensor]:
    truth, predicted = case.given["gt"].numpy(), case.given["pred"].numpy()
    labelled = np.ones(truth.shape[:2], dtype=bool)
    normalizer = Normalizer(
        "points", "inter-ocular", tuple(case.config.first("corners", "eyes", default=CORNERS.get(truth.shape[1])))
    )
    nothing = np.zeros((len(truth), 4))
    corners = metrics.normalizer_px(normalizer, truth, labelled, nothing, nothing[:, :2])
    errors = metrics.point_errors(predicted, truth, labelled)
    nme = metrics.mean_of_instance(metrics.normalized(errors, corners))
    values = {name: figure(name, nme, case.config.first("step", default=STEP)) for name in case.expected}
    return {name: torch.as_tensor(value, dtype=torch.float64) for name, value in values.items()}


def figure(name: str, nme: np.ndarray, step: float) -> float | np.ndarray:
    """The figure of this name: KIND_LIMIT, or the curve `ced_LIMIT_everySTEPS`."""
    if name == "nme":
        return nme
    if name == "nme_mean":
        return metrics.mean(nme)
    if name.startswith("ced_"):
        _, limit, every = name.split("_")
        return curve(nme, float(limit), step)[1][:: int(every.removeprefix("every"))]
    kind, _, text = name.rpartition("_")
    limit = float(text)
    at, share = curve(nme, limit, step)
    return {
        "fr": lambda: metrics.failure_rate(nme, limit),
        "fr_script": lambda: 1 - share[-1],  # what scripts print: one minus the curve's last value
        "auc_exact": lambda: metrics.auc(nme, limit),
        "auc_trapz": lambda: np.trapezoid(share, at) / limit,
        "auc_simpson": lambda: simpson(share, step) / limit,
    }[kind]()


def curve(nme: np.ndarray, limit: float, step: float) -> tuple[np.ndarray, np.ndarray]:
    """The grid of the scripts, and the cumulative curve on it."""
    at = np.arange(0, limit + step, step)
    return at, metrics.cumulative_errors(nme, at)


def simpson(values: np.ndarray, step: float) -> float:
    """Simpson's rule for an odd number of values: weights 1 4 2 4 .. 2 4 1, by step / 3. For an even number the last
    interval is that of the parabola through the last three values."""
    if len(values) % 2 == 0:
        before, middle, last = values[-3:]
        return simpson(values[:-1], step) + step * (5 * last + 8 * middle - before) / 12
    return float(step / 3 * (values[0] + 4 * values[1:-1:2].sum() + 2 * values[2:-1:2].sum() + values[-1]))
