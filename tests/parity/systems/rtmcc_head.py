"""RTMPose's head network, with the tensors on the way."""

from __future__ import annotations

import torch
from parity.golden import Case, Tolerance
from torch import Tensor

from fiducial.geometry import Size
from fiducial.reference.rtmcc import Activation, RTMCCVariant

ACTIVATIONS: dict[str, Activation] = {"SiLU": "silu", "ReLU": "relu"}


def tolerance(case: Case) -> dict[str, Tolerance]:
    """The rotary variant's angles are thousands of radians: rounding alone moves the result."""
    return {"*": Tolerance(absolute=5e-3 if case.config.get("pos") else 1e-4, relative=1e-4)}


def run(case: Case) -> dict[str, Tensor]:
    config, feature = case.config, case.given["feat"]
    network = RTMCCVariant(
        config["in_channels"],
        config["K"],
        Size(*config["input_size"]),
        Size(*config["feat"]),
        kernel=config["kernel"],
        hidden=config["hidden"],
        attention=config["s"],
        expansion=config["expansion"],
        activation=ACTIVATIONS[config.get("act", "SiLU")],
        relative_bias=config.get("rel", False),
        rotary=config.get("pos", False),
        split=config.get("split", 2.0),
    )
    network.load_state_dict(case.weights)
    seen: dict[str, Tensor] = {}
    for name, layer in (("final", network.final_layer), ("mlp", network.mlp), ("gau", network.gau)):
        layer.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    with torch.inference_mode():
        x, y = network.eval()(feature)
    return {**seen, "pred_x": x, "pred_y": y}
