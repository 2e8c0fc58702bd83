"""Attention's distance and knowledge distillation: closed forms and limits."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")
from torch import Tensor  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from fiducial.reference import transfer  # noqa: E402

POWERS = [1.0, 2.0, 3.0]


def maps(channels: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, channels, 4, 5, dtype=torch.float64, generator=generator)


def test_distance_in_closed_form() -> None:
    """Attentions (3, 4) against (4, 3), and (1, 0) against (0, 1): (0.6, 0.8) against (0.8, 0.6), and themselves."""
    student = torch.tensor([[3.0, 4.0], [1.0, 0.0]]).sqrt().view(2, 1, 1, 2)
    teacher = -torch.tensor([[4.0, 3.0], [0.0, 1.0]]).sqrt().view(2, 1, 1, 2)
    torch.testing.assert_close(transfer.attention_distance(student, teacher), torch.tensor([0.08, 2.0]).sqrt())


@pytest.mark.parametrize("power", POWERS)
def test_equal_maps_lose_nothing_whatever_their_strength(power: float) -> None:
    """A factor a sample, channels in another order, each twice: of the same cells, so normalised they are equal."""
    teacher = maps(7)
    same = teacher.clone().requires_grad_()
    each = transfer.attention_distance(same, teacher, power)
    assert each.tolist() == [0, 0, 0]
    assert not torch.autograd.grad(each.sum(), same)[0].any()
    student = torch.cat([teacher, -teacher], 1).flip(1) * torch.tensor([0.5, 2, 30]).view(3, 1, 1, 1)
    apart = transfer.attention_distance(student, teacher, power)
    torch.testing.assert_close(apart, torch.zeros(3).double(), atol=1e-14, rtol=0)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_a_map_of_zeros_is_finite(power: float) -> None:
    """After a ReLU nothing may be left of a sample."""
    student = maps(6).index_fill(0, torch.tensor([1]), 0).requires_grad_()
    each = transfer.attention_distance(student, maps(9), power)
    (gradient,) = torch.autograd.grad(each.sum(), student)
    assert each[1].item() == pytest.approx(1)
    assert gradient.isfinite().all()


LABELS = torch.tensor([2, 0, 6])


def logits(seed: int) -> Tensor:
    return 2 * torch.randn(3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_distillation_in_closed_form() -> None:
    """Logits (0, T ln 3) are (1/4, 3/4) at T; against (1/2, 1/2) the divergence is ln 2 - H(1/4)."""
    temperature = 5.0
    student, teacher = torch.zeros(1, 2), torch.tensor([[0.0, temperature * math.log(3)]])
    entropy = 0.25 * math.log(4) + 0.75 * math.log(4 / 3)
    soft, hard = 25 * (math.log(2) - entropy), math.log(2)
    for alpha in (0.0, 0.3, 1.0):
        found = transfer.knowledge_distillation(student, teacher, torch.tensor([1]), temperature, alpha)
        assert found.item() == pytest.approx(alpha * soft + (1 - alpha) * hard, rel=1e-6)


def test_distillation_is_zero_at_the_teacher_and_cross_entropy_without_it() -> None:
    student, teacher = logits(1).requires_grad_(), logits(2)
    shifted = student.detach() + torch.tensor([[3.0], [-50], [0]])
    none = transfer.knowledge_distillation(student, shifted, LABELS, 4, 1)
    torch.testing.assert_close(none, torch.zeros(3).double(), atol=1e-12, rtol=0)
    assert torch.autograd.grad(none.sum(), student)[0].abs().max() < 1e-12
    hard = F.cross_entropy(student, LABELS, reduction="none")
    torch.testing.assert_close(transfer.knowledge_distillation(student, teacher, LABELS, 4, 0), hard)


def test_distillation_at_a_high_temperature_matches_logits() -> None:
    """Hinton et al., section 2.1: the gradient becomes (z - v) / n for logits of mean zero."""
    student, teacher = logits(1).requires_grad_(), logits(2)
    each = transfer.knowledge_distillation(student, teacher, LABELS, 1e4, 1)
    (gradient,) = torch.autograd.grad(each.sum(), student)
    wrong = (student - teacher).detach()
    wrong = wrong - wrong.mean(1, keepdim=True)
    torch.testing.assert_close(each.detach(), (wrong**2).mean(1) / 2, rtol=2e-3, atol=0)
    torch.testing.assert_close(gradient, wrong / 7, rtol=2e-3, atol=1e-3)


def test_distillation_of_sure_teachers_is_finite() -> None:
    """Probabilities of exactly zero, at either's side."""
    student = torch.tensor([[0.0, 500.0], [500.0, 0.0]], requires_grad=True)
    teacher = torch.tensor([[0.0, 500.0], [0.0, 500.0]])
    each = transfer.knowledge_distillation(student, teacher, torch.tensor([1, 1]), 1, 1)
    assert each.tolist() == [0, 500]
    assert torch.autograd.grad(each.sum(), student)[0].isfinite().all()
