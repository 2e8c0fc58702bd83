"""RLE's loss, its gradients and the flow, against MMPose's RLELoss."""

from __future__ import annotations

import torch
from parity.golden import Case, Tolerance
from torch import Tensor

from fiducial.models.normalizing_flow import RealNVP, negative_log_likelihood

TOLERANCE = {
    "*.loss": Tolerance(absolute=1e-8, relative=2e-5),
    "*.grad_*": Tolerance(relative=1e-3, of_largest=1e-5),
    "*": Tolerance(absolute=1e-4),
}


def run(case: Case) -> dict[str, Tensor]:
    flow = RealNVP(couplings=len(case.weights["flow_model.mask"]), hidden=len(case.weights["flow_model.s.0.0.bias"]))
    flow.load_state_dict({name.removeprefix("flow_model."): value for name, value in case.weights.items()})
    latent, log_determinant = flow.latent(case.given["points"])
    found = {
        "latent": latent,
        "log_det": log_determinant,
        "log_prob": flow.log_probability(case.given["points"]),
    }
    for name in {name.rpartition(".")[0] for name in case.expected if "." in name}:
        found |= {f"{name}.{part}": value for part, value in variant(case, flow, name).items()}
    return {name: value.detach() for name, value in found.items()}


def variant(case: Case, flow: RealNVP, name: str) -> dict[str, Tensor]:
    """By its name: `gaussian` is the base (else a Laplace distribution), `noresidual` leaves it out, `w` multiplies by the
    weights. The reference sums over points and coordinates, after these, and divides by the samples unless `noavg`."""
    parts = name.split("_")
    predicted, scale = (case.given[part].clone().requires_grad_() for part in ("pred", "sigma"))
    base = "gaussian" if "gaussian" in parts else "laplace"
    residual = "noresidual" not in parts
    each = negative_log_likelihood(predicted, scale, case.given["target"], flow, base=base, residual=residual)
    if "w" in parts:
        each = each * case.given["weights"]
    loss = each.sum() / (1 if "noavg" in parts else len(each))
    inputs = [predicted, scale, flow.get_parameter("s.0.0.weight")]
    gradients = torch.autograd.grad(loss, inputs)
    return {"loss": loss, **dict(zip(("grad_pred", "grad_sigma", "grad_flow0"), gradients, strict=True))}
