"""The First-Order-Motion model's dense motion network, with both meanings of sampling; and its motions without Jacobians."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from parity.golden import Case, Tolerance
from torch import Tensor
from torch.nn import functional as F

from fiducial.models.heads.motion import Frames
from fiducial.motion import dense_motion, grids
from fiducial.motion.dense_motion import DenseMotion, DenseMotionSpec
from fiducial.motion.official import our_dense_motion_name

VARIANTS = {"ac1": True, "ac0": False}
TOLERANCE = {
    "*.mask": Tolerance(absolute=1e-4),
    "*.occlusion_map": Tolerance(absolute=1e-4),
    "*": Tolerance(absolute=5e-5),
}


@torch.no_grad()
def run(case: Case) -> dict[str, Tensor]:
    config, source = case.config, case.given["source"]
    spec = DenseMotionSpec(
        config["block_expansion"],
        config["num_blocks"],
        config["max_features"],
        round(1 / config.get("scale_factor", 1)),
        config.get("kp_variance", 0.01),
        config.get("estimate_occlusion_map", False),
    )
    of_source, of_driving = frames(case, "source"), frames(case, "driving")
    found: dict[str, Tensor] = {}
    for variant, align_corners in VARIANTS.items():
        network = DenseMotion(spec, config["num_kp"], config["num_channels"]).eval()
        names = {name: our_dense_motion_name(name) for name in case.weights}
        network.load_state_dict({ours: case.weights[name] for name, ours in names.items() if ours is not None})
        with sampling(align_corners):
            motion = network(source, of_source, of_driving)
        found |= {f"{variant}.{name}": value for name, value in parts(motion).items()}
        small = network.reduce(source)
        size = grids.size_of(small)
        heat = dense_motion.gaussian_differences(of_source, of_driving, size, spec.variance)
        without = dense_motion.sparse_motion(
            of_source._replace(jacobian=None), of_driving._replace(jacobian=None), size
        )
        found |= {"down": small, "heatmap_representation": heat, "sparse_motion": motion.sparse_motion}
        found["nojac.sparse_motion"] = without
    return found


@contextmanager
def sampling(align_corners: bool) -> Iterator[None]:
    """Samples as the published code does on torch 1.2 and before (True) or after. The latter takes the numbers, which are of
    the corner frame, for that of the outer edges: an image sampled at its own grid is zoomed towards its centre."""

    def sample(image: Tensor, xy_corner: Tensor, padding: grids.Padding = "zeros") -> Tensor:
        return F.grid_sample(image, xy_corner, padding_mode=padding, align_corners=align_corners)

    with mock.patch.object(grids, "sample", sample):
        yield


def frames(case: Case, picture: str) -> Frames:
    """Of the source or the driving picture."""
    return Frames(case.given[f"kp_{picture}_value"], case.given.get(f"kp_{picture}_jacobian"))


def parts(motion: dense_motion.MotionField) -> dict[str, Tensor]:
    """By the golden's names."""
    found = {"sparse_deformed": motion.sparse_deformed, "mask": motion.mask, "deformation": motion.deformation}
    return found if motion.occlusion is None else {**found, "occlusion_map": motion.occlusion}
