"""The First-Order-Motion model's detector in its published width, with weights by a formula."""

from __future__ import annotations

import torch
from parity.closed_form import fill
from parity.golden import Case, Tolerance
from parity.systems.fomm_kp_detector import evaluate, joined, untrained
from torch import Tensor

TOLERANCE = {"jacobian": Tolerance(absolute=1e-3), "*": Tolerance(absolute=1e-4)}


def run(case: Case) -> dict[str, Tensor]:
    backbone, head = untrained(case.config, case.given["x"])
    fill(joined(backbone, head))
    # The golden's README has these special cases.
    with torch.no_grad():
        for parameter in head.heatmap.parameters():
            parameter.mul_(0.25)
        if head.jacobian is not None and head.jacobian.bias is not None:
            head.jacobian.weight *= 0.1
            head.jacobian.bias += torch.tensor([1.0, 0, 0, 1]).repeat(head.matrices)
    found = evaluate(backbone.eval(), head.eval(), case.given["x"])
    logits = found["logits"]
    found["heatmap_max"] = found["heatmap"].amax((-2, -1))
    found["logits_stats"] = torch.stack([logits.mean(), logits.std(), logits.min(), logits.max()])
    return found
