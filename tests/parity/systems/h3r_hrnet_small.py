"""H3R: HRNet's four maps stacked, its head, and the mean position of the highest cells."""

from __future__ import annotations

import torch
from parity.golden import Case, Tolerance
from torch import Tensor, nn

from fiducial.geometry import Size
from fiducial.models.backbones.hrnet import HRNet, HRNetSpec
from fiducial.models.heads import rounding

TOLERANCE = {"coords": Tolerance(absolute=1e-3), "*": Tolerance(absolute=2e-4)}
HEAD = {"head.layers.3.": "head.final.", "head.layers.": "head.upsample."}


def run(case: Case) -> dict[str, Tensor]:
    config = case.config
    channels, modules = config["channels"], config["modules"]
    spec = HRNetSpec(
        channels=(channels[0], channels[1], channels[2], channels[3]),
        modules=(modules[1], modules[2], modules[3]),
        blocks=config["blocks"],
        layer1_blocks=config["l1"],
        layer1_planes=config["planes"],
        output="concat",
    )
    backbone = HRNet(spec)
    size = Size(config["size"][2], config["size"][1])
    options = rounding.Spec(
        upsampling="mixing",
        stride=round(config["stride"]),
        two_class=True,
        top_k=config["topk"],
        decoder="softmax",
        align="stride",
    )
    head = rounding.Head(options, backbone.levels[0], config["landmarks"], size)
    network = nn.ModuleDict({"backbone": backbone, "head": head})
    network.load_state_dict({renamed(name): tensor for name, tensor in case.weights.items()})
    network.eval()
    with torch.inference_mode():
        (features,) = backbone(case.given["x"])
        scores = head(features)
        return {"features": features, "scores": scores, "coords": head.decode(scores).xy}


def renamed(name: str) -> str:
    """Our name of a tensor of the reference."""
    theirs = next((prefix for prefix in HEAD if name.startswith(prefix)), "")
    return HEAD.get(theirs, "") + name.removeprefix(theirs)
