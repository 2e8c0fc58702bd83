"""Losses of distributions: SimCC's divergence, Jensen-Shannon, binary cross-entropy, RTMO's likelihood."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import cast

import torch
from parity.golden import Case, Tolerance
from torch import Tensor

from fiducial.models import losses

TOLERANCE = {"*.loss": Tolerance(relative=1e-5), "*.grad*": Tolerance(relative=1e-4, of_largest=1e-4)}
LEFT_OUT = {"*.grad_nan_per_keypoint": "counts the NaNs in the reference's gradient; ours has none (test_losses)"}
# Constants of the variants that are in neither names nor configuration.
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
            inputs, loss = loss_of(name, case.given)
            inputs = [values.clone().requires_grad_() for values in inputs]
            value = loss(*inputs)
            gradients = torch.autograd.grad(value, inputs)
            results[key] = value
            grads = [f"grad{index}" for index in range(len(inputs))] if len(inputs) > 1 else ["grad"]
            results |= {f"{name}.{grad}": own for grad, own in zip(grads, gradients, strict=True)}
    return {key: value for key, value in results.items() if key in case.expected}


def loss_of(name: str, given: dict[str, Tensor]) -> tuple[list[Tensor], Callable[..., Tensor]]:
    """By its name in the golden: what it is a function of, and the loss."""
    kind, _, variant = name.partition("_")
    weight = weight_of(kind, variant, given["weights"])
    if kind == "kl":
        beta, target_beta = betas_of(variant)
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
        factor = BCE_WEIGHT if variant == "w" else 1.0
        return [given["logit"]], lambda logits: factor * (losses.binary_cross_entropy(logits, label) * weight).mean()
    assert kind == "mlecc", name
    axes = [given["px"].softmax(-1), given["py"].softmax(-1)]
    kind_of_mlecc = cast(losses.Shortfall, variant)
    tx, ty = (given[key] / given[key].sum(-1, keepdim=True).clamp_min(1e-12) for key in ("tx", "ty"))
    return axes, lambda x, y: (losses.mlecc(x, y, tx, ty, kind_of_mlecc) * weight).mean(-1).sum()


def weight_of(kind: str, variant: str, weight: Tensor) -> Tensor:
    """Of the points, in this variant."""
    if kind == "kl" and variant == "mask":
        factor = torch.ones_like(weight)
        factor[:, list(MASKED)] = MASK
        return weight * factor
    if kind == "js" and variant == "w":
        return weight.clamp_min(FLOOR)
    weighted = kind == "mlecc" or variant in ("w", "w0", "rtmpose") or variant.startswith("lb")
    return weight if weighted else torch.ones_like(weight)


def betas_of(variant: str) -> tuple[float, float | None]:
    """Of the logits and of the targets; none where the targets are taken as they are."""
    if variant == "rtmpose":
        return RTMPOSE_BETA, RTMPOSE_BETA
    found = re.fullmatch(r"lb(\d+)", variant)
    return (LABEL_BETA, float(found[1])) if found else (1.0, None)
