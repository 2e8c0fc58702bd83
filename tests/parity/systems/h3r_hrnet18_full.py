"""H3R's extractor: HRNet whose branches are brought to the finest grid, with weights by a formula."""

from __future__ import annotations

import torch
from parity.closed_form import ends_of_blocks, fill
from parity.golden import Case, Tolerance
from torch import Tensor

from fiducial.models.backbones.hrnet import HRNet, HRNetSpec

TOLERANCE = {"*": Tolerance(of_largest=1e-5)}  # less than 1e-4 of a standard deviation
WIDE = (18, 36, 72, 144)
VARIANTS = {
    "hrnet18": HRNetSpec(channels=WIDE, output="concat"),
    "hrnet18s": HRNetSpec(channels=WIDE, modules=(1, 3, 2), blocks=2, layer1_blocks=2, output="concat"),
    "hrnet32": HRNetSpec(output="concat"),
}


def run(case: Case) -> dict[str, Tensor]:
    network = HRNet(VARIANTS[case.config.get("variant", "hrnet18")]).eval()
    fill(network, ends_of_blocks(network))
    with torch.inference_mode():
        (feature,) = network(case.given["x"])
    step = feature.shape[-1] // case.expected["feature_slice"].shape[-1]
    return {"feature_slice": feature[:, :, ::step, ::step], "feature_mean": feature.mean((2, 3))}
