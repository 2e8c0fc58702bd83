"""The official pose network, of reduced width."""

from __future__ import annotations

from typing import Any

import torch
from parity.golden import Case, Tolerance
from torch import Tensor, nn

from fiducial.models.backbones.hrnet import HRNet, HRNetSpec

TOLERANCE = {"*": Tolerance(of_largest=3e-6)}


def run(case: Case) -> dict[str, Tensor]:
    config = case.config
    spec = HRNetSpec(channels=tuple(config["channels"]), modules=tuple(config["modules"]), blocks=config["blocks"])
    network = with_final_layer(HRNet(spec), config["joints"], config["final_kernel"])
    network.load_state_dict(case.weights)
    seen: dict[str, Any] = {}
    for name in ("layer1", "stage2", "stage3", "stage4"):
        getattr(network, name).register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    with torch.inference_mode():
        (feature,) = network.eval()(case.given["x"])
        found = {"y": network.get_submodule("final_layer")(feature), "layer1_mean": seen.pop("layer1").mean((2, 3))}
    return found | {f"{name}.{i}": branch for name, branches in seen.items() for i, branch in enumerate(branches)}


def with_final_layer(network: HRNet, points: int, kernel: int = 1) -> HRNet:
    """The official network ends in a convolution that is ours to have in a head."""
    network.final_layer = nn.Conv2d(network.levels[0].channels, points, kernel, padding=kernel // 2)
    return network
