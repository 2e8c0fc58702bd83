"""Integral regression: softmax, mean position, both corrections of its bias, the head with its deconvolutions, and the
loss of DSNT."""

from __future__ import annotations

import re

import torch
from parity.golden import Case, Config, Tolerance
from torch import Tensor, nn

from fiducial.geometry import Size
from fiducial.models import heatmaps, losses
from fiducial.reference import maps as others

TOLERANCE = {
    "*debias*.coords": Tolerance(absolute=1e-4),
    "dsnt.grad": Tolerance(relative=1e-4, of_largest=1e-5),
    "*": Tolerance(absolute=1e-5),
}


def run(case: Case) -> dict[str, Tensor]:
    features = case.given["feats"]
    found: dict[str, Tensor] = {}
    for name in case.expected:
        match = re.fullmatch(r"(?:def_)?b([0-9.]+)\.(.+)", name)
        if match is not None:
            found[name] = of_maps(features, float(match[1]), match[2])
    maps = heatmaps.spatial_softmax(deconvolutions(case.weights)(case.given["feats_conv"]))
    found |= {"deconv.coords": others.expectation_share(maps), "deconv.heatmaps": maps}
    return found | dsnt(case.given, case.config)


def of_maps(features: Tensor, beta: float, what: str) -> Tensor:
    """By the name in the golden: of maps sharpened by `beta`."""
    probability = heatmaps.spatial_softmax(features * beta)
    plain = others.expectation_share(probability)
    if what == "debias.coords":
        # The reference's constant is that of the maps before they are sharpened.
        return others.debiased(plain, others.cell_share(features), plain.new_tensor([0.5, 0.5]))
    if what == "debias_mean.coords":
        centre = others.centre_share(Size(features.shape[-1], features.shape[-2]), plain)
        return others.debiased(plain, others.background_share(features * beta), centre)
    return {"coords": plain, "heatmaps": probability}[what]


def deconvolutions(weights: dict[str, Tensor]) -> nn.Module:
    """SimpleBaseline's head, as wide as its weights say."""
    prefix = "simplebaseline_head."
    own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    layers: list[nn.Module] = []
    # Each of the blocks is a deconvolution, a normalisation and a ReLU: every third layer has a kernel.
    while f"deconv_layers.{len(layers)}.weight" in own:
        inputs, outputs, kernel, _ = own[f"deconv_layers.{len(layers)}.weight"].shape
        padding = (kernel - 1) // 2
        layers += [
            nn.ConvTranspose2d(inputs, outputs, kernel, 2, padding, 2 * padding + 2 - kernel, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        ]
    points, inputs, kernel, _ = own["final_layer.weight"].shape
    head = nn.Sequential()
    head.add_module("deconv_layers", nn.Sequential(*layers))
    head.add_module("final_layer", nn.Conv2d(inputs, points, kernel, padding=kernel // 2))
    head.load_state_dict(own)
    return head.eval()


def dsnt(given: dict[str, Tensor], config: Config) -> dict[str, Tensor]:
    """The two losses, as the reference reduces them, and the gradient of their sum."""
    features, weight = given["feats"].clone().requires_grad_(), given["weights"]
    maps = heatmaps.spatial_softmax(features)
    xy_share = others.expectation_share(maps)
    of_points, of_cells = weight[..., None], weight[..., None, None]
    beta, js_weight = config.first("beta", default=1.0), config.first("js_weight", "loss_weight", default=1.0)
    smooth_l1 = losses.smooth_l1(xy_share * of_points, given["labels"] * of_points, beta).sum() / xy_share.numel()
    js = losses.js(maps * of_cells, given["gt_heatmaps"] * of_cells).sum() / len(maps)
    gradient = torch.autograd.grad(smooth_l1 + js_weight * js, features)[0]
    return {"dsnt_smoothl1.loss": smooth_l1, "dsnt_js.loss": js, "dsnt.grad": gradient}
