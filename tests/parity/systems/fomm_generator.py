"""The First-Order-Motion model's generator with its dense motion network, with both meanings of sampling."""

from __future__ import annotations

import torch
from parity.golden import Case, Tolerance
from parity.systems.fomm_dense_motion import VARIANTS, frames, parts, sampling
from torch import Tensor

from fiducial.motion.dense_motion import DenseMotionSpec
from fiducial.motion.generator import Generator, GeneratorSpec
from fiducial.motion.official import our_generator_name

TOLERANCE = {"*": Tolerance(absolute=1e-4)}


@torch.no_grad()
def run(case: Case) -> dict[str, Tensor]:
    config, inner = case.config, case.config["dense_motion_params"]
    spec = GeneratorSpec(
        config["block_expansion"],
        config["max_features"],
        config["num_down_blocks"],
        config["num_bottleneck_blocks"],
        DenseMotionSpec(
            inner["block_expansion"],
            inner["num_blocks"],
            inner["max_features"],
            round(1 / inner.get("scale_factor", 1)),
            inner.get("kp_variance", 0.01),
            config.get("estimate_occlusion_map", False),
        ),
    )
    found: dict[str, Tensor] = {}
    for variant, align_corners in VARIANTS.items():
        network = Generator(spec, config["num_kp"], config["num_channels"]).eval()
        names = {name: our_generator_name(name) for name in case.weights}
        network.load_state_dict({ours: case.weights[name] for name, ours in names.items() if ours is not None})
        with sampling(align_corners):
            made = network(case.given["source"], frames(case, "source"), frames(case, "driving"))
        values = parts(made.motion) | {"deformed": made.deformed, "prediction": made.prediction}
        found |= {f"{variant}.{name}": value for name, value in values.items()}
    return found
