"""Attention transfer and knowledge distillation: maps, losses, and their gradients by the student's numbers."""

from __future__ import annotations

import torch
from parity.golden import Case, Tolerance
from torch import Tensor

from fiducial.distill import transfer

TOLERANCE = {"*grad*": Tolerance(relative=1e-5, of_largest=1e-6), "*": Tolerance(relative=1e-5)}


def run(case: Case) -> dict[str, Tensor]:
    student, teacher = case.given["student"].requires_grad_(), case.given["teacher"]
    logits, config = case.given["logits_s"].requires_grad_(), case.config
    found: dict[str, Tensor] = {}

    def graded(loss_name: str, grad_name: str, each: Tensor, leaf: Tensor) -> None:
        found[loss_name] = each.mean()
        (found[grad_name],) = torch.autograd.grad(each.mean(), leaf)

    found["at_student"], found["at_teacher"] = (transfer.normalised(transfer.attention(x)) for x in (student, teacher))
    graded("at_loss", "at_grad", transfer.attention_mse(student, teacher), student)
    for power in (1, 2, 4):
        found[f"def_map_p{power}_student"] = transfer.attention(student, power)
        for name, normalise in (("norm", True), ("unnorm", False)):
            each = transfer.attention_mse(student, teacher, power, normalise)
            graded(f"def_loss_{name}_p{power}", f"def_grad_{name}_p{power}", each, student)
    found["def_loss_norm_l2_p2"] = transfer.attention_distance(student, teacher).mean()
    kd = transfer.knowledge_distillation(
        logits, case.given["logits_t"], case.given["labels"], config["Tkd"], config["alpha"]
    )
    graded("kd_loss", "kd_grad", kd, logits)
    return found
