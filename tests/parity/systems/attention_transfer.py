"""Attention transfer and knowledge distillation: maps, losses, and their gradients by the student's numbers. Names carry
the power of the attention: `def_loss_unnorm_p4`; the reference's own is of 2 unless the configuration says otherwise."""

from __future__ import annotations

import re

import torch
from parity.golden import Case, Tolerance
from torch import Tensor

from fiducial.distillation import transfer
from fiducial.reference import transfer as others

TOLERANCE = {"*grad*": Tolerance(relative=1e-5, of_largest=1e-6), "*": Tolerance(relative=1e-5)}


def run(case: Case) -> dict[str, Tensor]:
    student, teacher = case.given["student"].requires_grad_(), case.given["teacher"]
    logits, config = case.given["logits_s"].requires_grad_(), case.config
    power = config.first("p", "power", default=2)
    found: dict[str, Tensor] = {}

    def graded(loss_name: str, grad_name: str, each: Tensor, leaf: Tensor) -> None:
        found[loss_name] = each.mean()
        (found[grad_name],) = torch.autograd.grad(each.mean(), leaf)

    found["at_student"], found["at_teacher"] = (
        transfer.normalised(transfer.attention(feature, power)) for feature in (student, teacher)
    )
    graded("at_loss", "at_grad", transfer.attention_mse(student, teacher, power), student)
    for name in case.expected:
        stated = re.fullmatch(r"def_(map|loss)_(?:(norm|unnorm|norm_l2)_)?p([0-9.]+)(?:_student)?", name)
        if stated is None:
            continue
        kind, power = stated[2], float(stated[3])
        if stated[1] == "map":
            found[name] = transfer.attention(student, power)
        elif kind == "norm_l2":
            found[name] = others.attention_distance(student, teacher, power).mean()
        else:
            each = transfer.attention_mse(student, teacher, power, normalise=kind == "norm")
            graded(name, name.replace("def_loss", "def_grad"), each, student)
    kd = others.knowledge_distillation(
        logits, case.given["logits_t"], case.given["labels"], config["Tkd"], config["alpha"]
    )
    graded("kd_loss", "kd_grad", kd, logits)
    return found
