"""Losses of distributions: SimCC's divergence, Jensen-Shannon, binary cross-entropy, RTMO's likelihood."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import cast

import torch
from parity.golden import Case, Config, Tolerance
from torch import Tensor

from fiducial.models import losses
from fiducial.reference import losses as others

TOLERANCE = {"*.loss": Tolerance(absolute=1e-8, relative=1e-5), "*.grad*": Tolerance(relative=1e-4, of_largest=1e-4)}
LEFT_OUT = {"*.grad_nan_per_keypoint": "counts the NaNs in the reference's gradient; ours has none (test_losses)"}
# Constants of the variants, where neither their names nor the configuration state them.
RTMPOSE_BETA = 10.0  # of the logits and of the targets
LABEL_BETA = 2.0  # of the logits of `kl_lb5`; that of the targets is 5
MASKED, MASK = (0, 2), 0.3  # of `kl_mask`: these points count less
FLOOR = 0.1  # of the weights of `js_w`
BCE_WEIGHT = 2.0  # of the whole of `bce_w`


def run(case: Case) -> dict[str, Tensor]:
    results = {}
    for key in case.expected:
        name, _, what = key.rpartition(".")
        if what == "loss":
            inputs, loss = loss_of(name, case.given, case.config)
            inputs = [values.clone().requires_grad_() for values in inputs]
            value = loss(*inputs)
            gradients = torch.autograd.grad(value, inputs)
            results[key] = value
            grads = [f"grad{index}" for index in range(len(inputs))] if len(inputs) > 1 else ["grad"]
            results |= {f"{name}.{grad}": own for grad, own in zip(grads, gradients, strict=True)}
    return results


def loss_of(name: str, given: dict[str, Tensor], config: Config) -> tuple[list[Tensor], Callable[..., Tensor]]:
    """By its name in the golden: what it is a function of, and the loss."""
    kind, _, variant = name.partition("_")
    weight = weight_of(kind, variant, given["weights"], config)
    if kind == "kl":
        beta, target_beta = betas_of(variant, config)
        targets = (given["tx"], given["ty"])

        def kl(*logits: Tensor) -> Tensor:
            each = [
                losses.vector_kl(values, target, beta, target_beta) / target.shape[-1]
                for values, target in zip(logits, targets, strict=True)
            ]
            return (sum(each) * weight).sum() / weight.shape[1]

        return [given["px"], given["py"]], kl
    if kind == "js":
        own = weight[..., None, None]
        return [given["ph"]], lambda maps: losses.js(maps * own, given["gh"] * own).sum() / len(maps)
    if kind == "bce":
        label = given["label"]
        if variant == "prob":
            chances = given["logit"].sigmoid()
            return [chances], lambda p: losses.binary_cross_entropy(p.logit(), label).mean()
        factor = config.first("bce_weight", "loss_weight", default=BCE_WEIGHT) if variant == "w" else 1.0
        return [given["logit"]], lambda logits: factor * (losses.binary_cross_entropy(logits, label) * weight).mean()
    assert kind == "mlecc", name
    axes = [given["px"].softmax(-1), given["py"].softmax(-1)]
    kind_of_mlecc = cast(others.Shortfall, variant)
    tx, ty = (given[key] / given[key].sum(-1, keepdim=True).clamp_min(1e-12) for key in ("tx", "ty"))
    return axes, lambda x, y: (others.mlecc(x, y, tx, ty, kind_of_mlecc) * weight).mean(-1).sum()


def weight_of(kind: str, variant: str, weight: Tensor, config: Config) -> Tensor:
    """Of the points, in this variant."""
    if kind == "kl" and variant == "mask":
        factor = torch.ones_like(weight)
        masked = config.first("mask", "mask_index", default=list(MASKED))
        factor[:, masked] = config.first("mask_weight", "mask_value", default=MASK)
        return weight * factor
    if kind == "js" and variant == "w":
        return weight.clamp_min(config.first("js_floor", "weight_floor", default=FLOOR))
    weighted = kind == "mlecc" or variant in ("w", "w0", "rtmpose") or variant.startswith("lb")
    return weight if weighted else torch.ones_like(weight)


def betas_of(variant: str, config: Config) -> tuple[float, float | None]:
    """Of the logits and of the targets; none where the targets are taken as they are."""
    if variant == "rtmpose":
        beta = config.first("beta", "rtmpose_beta", default=RTMPOSE_BETA)
        return beta, config.first("label_beta", default=beta)
    found = re.fullmatch(r"lb(\d+)", variant)
    return (config.first("lb_beta", default=LABEL_BETA), float(found[1])) if found else (1.0, None)
