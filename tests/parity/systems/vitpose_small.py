"""ViTPose: the transformer, and the transposed convolutions with the last one of its head."""

from __future__ import annotations

import torch
from parity.golden import Case, Tolerance
from torch import Tensor, nn

from fiducial.geometry import Size
from fiducial.models import upsampling
from fiducial.models.backbones.vitpose import ViTPose, ViTPoseSpec
from fiducial.models.contracts import Level

TOLERANCE = {"*": Tolerance(absolute=1e-4)}


def run(case: Case) -> dict[str, Tensor]:
    config = case.config
    size = Size(config["img"][1], config["img"][0])
    backbone = ViTPose(ViTPoseSpec(config["dim"], config["depth"], config["heads"], size))
    layers: list[nn.Module] = []
    level = backbone.levels[0]
    for channels in config["dec"]:  # each doubling of its own width
        stride = level.stride // 2
        up = upsampling.build("deconvolution", level, size, channels=channels, stride=stride)
        layers += up.layers.children()
        level = Level(up.channels, stride)
    decoder = nn.ModuleDict({"deconv_layers": nn.Sequential(*layers)})
    decoder["final_layer"] = upsampling.final(level.channels, config["K"], config.get("final_kernel", 1))
    network = nn.ModuleDict({"backbone": backbone, "keypoint_head": decoder})
    network.load_state_dict(case.weights)
    with torch.inference_mode():
        (feature,) = network.eval()["backbone"](case.given["x"])
        return {"feat": feature, "heat": decoder["final_layer"](decoder["deconv_layers"](feature))}
