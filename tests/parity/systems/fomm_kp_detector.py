"""The First-Order-Motion model's detector: hourglass, heatmaps, points and Jacobians, in evaluation and training."""

from __future__ import annotations

from typing import Any

import torch
from parity.golden import Case, Tolerance
from torch import Tensor, nn

from fiducial.geometry import Size
from fiducial.models.backbones.hourglass import Hourglass, HourglassSpec
from fiducial.models.checkpoints import fomm
from fiducial.models.heads import motion

TOLERANCE = {
    "train*": Tolerance(absolute=1e-4),
    "eval*.value": Tolerance(absolute=2e-5),
    "eval*.heatmap": Tolerance(absolute=2e-5),
    "*": Tolerance(absolute=1e-4),
}


def run(case: Case) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    images = {name.removeprefix("x"): image for name, image in case.given.items()}
    for number, image in images.items():
        backbone, head = build(case.config, image, case.weights)
        values = evaluate(backbone.eval(), head.eval(), image)
        found |= {f"eval{number}.{name}": value for name, value in values.items()}
    last = max(images)
    backbone, head = build(case.config, images[last], case.weights)
    values = evaluate(backbone.train(), head.train(), images[last])
    norm = backbone.network.down[0].norm
    values |= {"rm_encoder_down_blocks_0": norm.running_mean, "rv_encoder_down_blocks_0": norm.running_var}
    found |= {f"train{last}.{name}": value for name, value in values.items()}
    return found


def spec_of(config: dict[str, Any]) -> HourglassSpec:
    return HourglassSpec(
        config["block_expansion"],
        config["num_blocks"],
        config["max_features"],
        round(1 / config.get("scale_factor", 1)),
    )


def build(config: dict[str, Any], image: Tensor, weights: dict[str, Tensor]) -> tuple[Hourglass, motion.Head]:
    """Ours for an image's size, with the reference's weights."""
    backbone, head = untrained(config, image)
    ours = {fomm.our_name(name): value for name, value in weights.items() if name != "down.weight"}
    joined(backbone, head).load_state_dict(ours)
    return backbone, head


def untrained(config: dict[str, Any], image: Tensor) -> tuple[Hourglass, motion.Head]:
    """Ours for an image's size, at random."""
    backbone = Hourglass(spec_of(config))
    single = config.get("single_jacobian_map", False)
    jacobian = "none" if not config.get("estimate_jacobian", True) else "shared" if single else "own"
    spec = motion.Spec(temperature=config["temperature"], padding=config.get("pad", 0), jacobian=jacobian)
    head = motion.Head(spec, backbone.levels[0], config["num_kp"], Size(image.shape[-1], image.shape[-2]))
    return backbone, head


def joined(backbone: Hourglass, head: motion.Head) -> nn.Module:
    """Both in one, with the names and the order of the reference's (test_keys)."""
    return nn.ModuleDict({"backbone": backbone, "head": head})


@torch.no_grad()
def evaluate(backbone: Hourglass, head: motion.Head, image: Tensor) -> dict[str, Tensor]:
    feature = backbone(image)[0]
    raw = head(feature)
    frames = head.frames(raw)
    found = {
        "down": backbone.reduce(image),
        "feature_map": feature,
        "logits": raw.logits,
        "heatmap": head.probability(raw),
        "value": frames.xy_corner,
    }
    if frames.jacobian is not None:
        found |= {"jacobian_map": raw.jacobian.flatten(1, 2), "jacobian": frames.jacobian}
    return found
