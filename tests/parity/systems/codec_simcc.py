"""SimCC's vectors of bins: Gaussian and one-hot targets, and what is read from them."""

from __future__ import annotations

from parity.golden import Case, Tolerance
from torch import Tensor

from fiducial.geometry import Size
from fiducial.reference import vector_codecs

TOLERANCE = {
    "*weights": Tolerance(),
    "subset_index": Tolerance(),
    "softmax_max.locs": Tolerance(),
    "standard.*": Tolerance(relative=1e-6),  # of a smoothing spread over hundreds of bins
    "onehot.*": Tolerance(),
    "dark.dec.keypoints": Tolerance(absolute=1e-3),
    "*.keypoints": Tolerance(absolute=1e-5),
    "*": Tolerance(absolute=1e-6),
}


def run(case: Case) -> dict[str, Tensor]:
    size, split = Size(*case.config["input_size"]), case.config["split"]
    sigma = (case.config["sigma"][0], case.config["sigma"][1])
    xy, visible = case.given["keypoints"], case.given["visible"]
    x, y = case.given["pred_x"], case.given["pred_y"]
    subset = case.expected["subset_index"]
    found: dict[str, Tensor] = {"subset_index": subset}
    for name, target in {
        "gaussian": vector_codecs.simcc_encode(xy, visible, size, split, sigma),
        "gaussian_nonorm": vector_codecs.simcc_encode(xy, visible, size, split, sigma, density=False),
        "standard": vector_codecs.simcc_one_hot_encode(xy, visible, size, split, case.config["smooth"]),
        "onehot": vector_codecs.simcc_one_hot_encode(xy, visible, size, split),
    }.items():
        for axis, vectors in (("x", target.x), ("y", target.y)):
            whole = case.expected[f"{name}.keypoint_{axis}_labels"].shape[1] == xy.shape[1]
            found[f"{name}.keypoint_{axis}_labels"] = vectors if whole else vectors[:, subset]
        found[f"{name}.keypoint_weights"] = target.weight

    found["dec.keypoints"], found["dec.scores"] = vector_codecs.simcc_decode(x, y, split)
    found["vis.dec.scores"] = found["dec.scores"]
    found["vis.visibility"] = vector_codecs.simcc_visibility(
        x, y, sigma, case.config.first("beta", "visibility_beta", default=150.0)
    )
    samples = len(case.expected["dark.dec.keypoints"])
    dark = vector_codecs.simcc_dark_decode(x[:samples], y[:samples], split, sigma)
    found |= {"dark.dec.keypoints": dark.xy, "dark.dec.scores": dark.score}
    shown = case.expected["normalized_x"].shape[1]
    found["normalized_x"] = vector_codecs.simcc_normalised(x)[:, :shown]
    at, probability = vector_codecs.simcc_highest(x.softmax(-1), y.softmax(-1))
    return found | {"softmax_max.locs": at, "softmax_max.vals": probability}
