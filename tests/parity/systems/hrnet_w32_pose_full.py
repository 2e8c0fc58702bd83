"""The official pose network in its published width, with weights by a formula."""

from __future__ import annotations

import torch
from parity.closed_form import ends_of_blocks, fill
from parity.golden import Case, Tolerance
from parity.systems.hrnet_pose_small import with_final_layer
from torch import Tensor

from fiducial.models.backbones.hrnet import WIDTHS, HRNet, HRNetSpec

TOLERANCE = {"*": Tolerance(of_largest=1e-5)}  # less than 1e-4 of a standard deviation


def run(case: Case) -> dict[str, Tensor]:
    channels = WIDTHS[f"hrnet_{case.config['variant']}"]
    network = with_final_layer(HRNet(HRNetSpec(channels=channels)), case.expected["y"].shape[1])
    fill(network, ends_of_blocks(network))
    with torch.inference_mode():
        y = network.eval().get_submodule("final_layer")(network(case.given["x"])[0])
    return {"y": y, "stats": torch.stack([y.mean(), y.std(), y.min(), y.max()])}
