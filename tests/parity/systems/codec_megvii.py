"""The blurred impulses of CPN and MSPN."""

from __future__ import annotations

from parity.golden import Case, Tolerance
from torch import Tensor

from fiducial.geometry import Size
from fiducial.reference import codecs

TOLERANCE = {
    "heatmaps": Tolerance(absolute=1e-2),  # of 255
    "weights": Tolerance(),
    "dec.keypoints": Tolerance(absolute=1e-4),
    "*": Tolerance(absolute=1e-6),
}


def run(case: Case) -> dict[str, Tensor]:
    size, grid, kernel = (
        Size(*case.config["input_size"]),
        Size(*case.config["heatmap_size"]),
        case.config["kernel_size"],
    )
    target = codecs.megvii_encode(case.given["keypoints"], case.given["visible"], size, grid, kernel)
    decoded = codecs.megvii_decode(case.given["pred_pos"][None], size, kernel)
    return {
        "heatmaps": target.maps[0],
        "weights": target.weight,
        "dec.keypoints": decoded.xy,
        "dec.scores": decoded.score,
    }
