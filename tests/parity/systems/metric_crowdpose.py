"""CrowdPose: 14 points, areas from boxes, and AP by how crowded an image is."""

from __future__ import annotations

import json

import numpy as np
import torch
from parity.golden import Case, Tolerance
from torch import Tensor

from fiducial.evaluation.predictions import evaluate_results

TOLERANCE = {"*": Tolerance(absolute=1e-9)}
SIGMAS = np.array([0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89, 0.79, 0.79]) / 10
NAMES = ("ap", "ap50", "ap75", "ar", "ar50", "ar75")
LEVELS = ("easy", "medium", "hard")


def expected(case: Case) -> dict[str, Tensor]:
    """The tensors, and each table of `stats.json` as one more."""
    stats = json.loads((case.folder / "stats.json").read_text())
    order = [*(name.upper() for name in NAMES), *(f"AP_{level}" for level in LEVELS)]
    tables = {
        f"stats.json {name}": torch.tensor([numbers[key] for key in order], dtype=torch.float64)
        for name, numbers in stats.items()
    }
    return case.expected | tables


def run(case: Case) -> dict[str, Tensor]:
    report = evaluate_results(
        case.folder / "dt.json",
        case.folder / "gt.json",
        sigmas=case.config.first("sigmas", default=SIGMAS.tolist()),
        use_area=False,
    )["metrics"]
    # Both references round the numbers of the levels, and only these, to four places.
    numbers = [report[name] for name in NAMES] + [round(report[f"ap_crowd_{level}"], 4) for level in LEVELS]
    stats = torch.tensor(numbers, dtype=torch.float64)
    return dict.fromkeys(expected(case), stats)
