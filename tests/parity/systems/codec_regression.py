"""Coordinates as shares of the picture, alone and beside maps that sum to one."""

from __future__ import annotations

from parity.golden import Case, Tolerance
from torch import Tensor

from fiducial.geometry import Size
from fiducial.reference import codecs, vector_codecs

TOLERANCE = {
    "*.weights": Tolerance(),
    "*.keypoints": Tolerance(absolute=1e-6, relative=1e-7),  # hundreds of px in float32
    "*": Tolerance(absolute=1e-6),
}


def run(case: Case) -> dict[str, Tensor]:
    size, grid = Size(*case.config["input_size"]), Size(*case.config["heatmap_size"])
    xy, visible = case.given["keypoints"], case.given["visible"]
    shares = vector_codecs.regression_encode(xy, visible, size)
    found = {"reg.labels": shares.xy_share, "reg.weights": shares.weight}
    for name in ("enc2", "enc4"):
        decoded = vector_codecs.regression_decode(case.given[name], size)
        found |= {f"reg.dec_{name}.keypoints": decoded.xy, f"reg.dec_{name}.scores": decoded.score}
    biased = codecs.msra_encode(xy, visible, size, grid, case.config["sigma"])
    unbiased = codecs.msra_unbiased_encode(xy, visible, size, grid, case.config["sigma"])
    # Beside maps, too, a point's weight is that of its coordinates, which must lie in the picture; the golden's notes
    # name the weights of the maps, its tensors show these.
    for name, maps in (
        ("integral", codecs.integral_maps(biased.maps)),
        ("integral_unbiased", codecs.integral_maps(unbiased.maps)),
        ("integral_nonorm", biased.maps),
    ):
        found |= {f"{name}.heatmaps": maps[0], f"{name}.labels": shares.xy_share, f"{name}.weights": shares.weight}
    return found
