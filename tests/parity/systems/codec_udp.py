"""UDP's Gaussian maps with DARK's step, and its disc with offsets."""

from __future__ import annotations

from parity.golden import Case, Tolerance
from parity.systems.codec_msra import blur_cells
from torch import Tensor

from fiducial.geometry import Size
from fiducial.reference import codecs

TOLERANCE = {
    "combined.heatmaps": Tolerance(absolute=1e-6, relative=5e-7),  # offsets are of tens of radii
    "*.heatmaps": Tolerance(absolute=1e-6),
    "*.weights": Tolerance(),
    "*.label_sum": Tolerance(),
    "*.offset_sum": Tolerance(of_largest=1e-6),  # of thousands of cells
    "*.roundtrip_index": Tolerance(),
    "*.scores": Tolerance(absolute=1e-6),
    "*": Tolerance(absolute=1e-3),
}


def run(case: Case) -> dict[str, Tensor]:
    size, grid = Size(*case.config["input_size"]), Size(*case.config["heatmap_size"])
    xy, visible = case.given["keypoints"], case.given["visible"]
    radius, blur = case.config["radius_factor"], blur_cells(case)
    went_round = case.expected["gaussian.roundtrip_index"]

    gaussian = codecs.udp_encode(xy, visible, size, grid, case.config["sigma"])
    combined = codecs.udp_combined_encode(xy, visible, size, grid, radius)
    shown = case.expected["combined.heatmaps"].shape[0]
    sums = combined.maps[0].double().sum((-2, -1)).unflatten(0, (-1, 3))
    found = {
        "gaussian.heatmaps": gaussian.maps[0],
        "gaussian.weights": gaussian.weight,
        "gaussian.roundtrip_index": went_round,
        "combined.heatmaps": combined.maps[0, :shown],
        "combined.weights": combined.weight,
        "combined.label_sum": sums[:, 0],
        "combined.offset_sum": sums[:, 1:],
    }
    # The reference multiplies by W where it divided by W - 1; what undoes encoding is our default.
    decoded = {
        "gaussian.dec": codecs.udp_decode(case.given["pred_pos"][None], size, blur, as_mmpose=True),
        "gaussian.dec_roundtrip": codecs.udp_decode(gaussian.maps[:, went_round], size, blur, as_mmpose=True),
        "combined.dec": codecs.udp_combined_decode(
            case.given["pred_combined"][None], size, radius, blur, as_mmpose=True
        ),
    }
    for name, (at, score) in decoded.items():
        found |= {f"{name}.keypoints": at, f"{name}.scores": score}
    return found
