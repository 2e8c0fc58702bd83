"""Losses of attention transfer (Zagoruyko & Komodakis, ICLR 2017) and knowledge distillation (Hinton et al., arXiv
1503.02531) that `distill` does not use: un-reduced, one value a *sample*, [b]."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from fiducial.distillation.transfer import attention_difference


def attention_distance(
    student: Float[Tensor, "b c h w"], teacher: Float[Tensor, "b d h w"], power: float = 2.0
) -> Float[Tensor, " b"]:
    """Measures the Euclidean distance of the normalised attentions, 0 to the root of 2 (eq. 2). Its gradient does not
    vanish as the two come closer; where they are equal it is 0."""
    return torch.linalg.vector_norm(attention_difference(student, teacher, power, normalise=True), dim=1)


def knowledge_distillation(
    student_logits: Float[Tensor, "b n"],
    teacher_logits: Float[Tensor, "b n"],
    labels: Int[Tensor, " b"],
    temperature: float,
    alpha: float,
) -> Float[Tensor, " b"]:
    """Computes alpha T^2 KL(teacher || student), both softened by the temperature T, + (1 - alpha) cross-entropy of the
    labels at temperature 1 (section 2). T^2 keeps the size of the gradient: for large T the first part is that of
    matching logits, half the variance of their difference."""
    student, teacher = ((logits / temperature).log_softmax(1) for logits in (student_logits, teacher_logits))
    divergence = F.kl_div(student, teacher, reduction="none", log_target=True).sum(1)
    hard = F.cross_entropy(student_logits, labels, reduction="none")
    return alpha * temperature**2 * divergence + (1 - alpha) * hard
