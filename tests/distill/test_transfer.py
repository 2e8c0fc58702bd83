"""One network taught by another: attentions and their losses in closed form, their gradients by hand; distillation's
limits; maps brought to a teacher's grid. The published numbers are in `parity/systems/attention_transfer.py`."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")
from torch import Tensor  # noqa: E402

from fiducial.distillation import transfer  # noqa: E402
from fiducial.distillation.transfer import Matching, Shape  # noqa: E402
from fiducial.errors import UserError  # noqa: E402
from fiducial.geometry import Size  # noqa: E402
from fiducial.models.contracts import Level  # noqa: E402

POWERS = [1.0, 2.0, 3.5]


def maps(channels: int, seed: int = 1) -> Tensor:
    """[3, channels, 4, 5] with no zero."""
    drawn = torch.randn(3, channels, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return drawn + 0.1 * drawn.sign()


# ------------------------------------------------------------------------------------------- attention transfer


def test_attention_is_a_sum_over_channels_row_by_row() -> None:
    feature = torch.tensor([[[[1.0, -2.0, 0.0], [3.0, 0.0, 0.0]], [[-2.0, 2.0, 0.0], [0.0, 0.0, -4.0]]]])
    assert transfer.attention(feature, 1).tolist() == [[3, 4, 0, 3, 0, 4]]
    assert transfer.attention(feature).tolist() == [[5, 8, 0, 9, 0, 16]]
    assert transfer.attention(feature, 4).tolist() == [[17, 32, 0, 81, 0, 256]]
    torch.testing.assert_close(transfer.normalised(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))[0], torch.tensor([0.6, 0.8]))


def test_losses_in_closed_form() -> None:
    """Attentions (3, 4) against (4, 3), and (1, 0) against (0, 1): (0.6, 0.8) against (0.8, 0.6), and themselves."""
    student = torch.tensor([[3.0, 4.0], [1.0, 0.0]]).sqrt().view(2, 1, 1, 2)
    teacher = -torch.tensor([[4.0, 3.0], [0.0, 1.0]]).sqrt().view(2, 1, 1, 2)
    torch.testing.assert_close(transfer.attention_mse(student, teacher), torch.tensor([0.04, 1.0]))
    torch.testing.assert_close(transfer.attention_mse(student, teacher, 2, normalise=False), torch.tensor([1.0, 1.0]))


@pytest.mark.parametrize("power", POWERS)
def test_equal_maps_lose_nothing_and_pull_nowhere(power: float) -> None:
    teacher = maps(7)
    student = teacher.clone().requires_grad_()
    for each in (
        transfer.attention_mse(student, teacher, power),
        transfer.attention_mse(student, teacher, power, normalise=False),
    ):
        assert each.tolist() == [0, 0, 0]
        assert not torch.autograd.grad(each.sum(), student)[0].any()


@pytest.mark.parametrize("power", POWERS)
def test_strength_counts_only_where_it_is_asked_for(power: float) -> None:
    """A factor a sample, channels in another order, each twice: of the same cells, so normalised they are equal."""
    teacher = maps(7)
    student = torch.cat([teacher, -teacher], 1).flip(1) * torch.tensor([0.5, 2, 30]).view(3, 1, 1, 1)
    each = transfer.attention_mse(student, teacher, power)
    torch.testing.assert_close(each, torch.zeros(3).double(), atol=1e-14, rtol=0)
    stronger = 2 * torch.tensor([0.5, 2, 30]).double() ** power - 1
    expected = (stronger[:, None] * transfer.attention(teacher, power)).square().mean(1)
    torch.testing.assert_close(transfer.attention_mse(student, teacher, power, normalise=False), expected)


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("normalise", [False, True])
def test_gradient_by_hand(power: float, normalise: bool) -> None:
    """dL/dF = 2 (F - G) / n. Of normalised attentions f = F / |F| that goes through the part across f, over |F|. Then
    dF/dA = p |A|^(p - 1) sign A, for each channel alike."""
    student, teacher = maps(6).requires_grad_(), maps(9, seed=2)
    loss = transfer.attention_mse(student, teacher, power, normalise)
    (found,) = torch.autograd.grad(loss.sum(), student)
    with torch.no_grad():
        of_student, of_teacher = (x.abs().pow(power).sum(1).flatten(1) for x in (student, teacher))
        length = of_student.norm(dim=1, keepdim=True) if normalise else 1
        f = of_student / length
        pull = 2 * (f - (of_teacher / of_teacher.norm(dim=1, keepdim=True) if normalise else of_teacher)) / 20
        if normalise:
            pull = (pull - f * (f * pull).sum(1, keepdim=True)) / length
        expected = pull.view(3, 1, 4, 5) * power * student.abs() ** (power - 1) * student.sign()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_a_map_of_zeros_is_finite(power: float) -> None:
    """After a ReLU nothing may be left of a sample."""
    student = maps(6).index_fill(0, torch.tensor([1]), 0).requires_grad_()
    each = transfer.attention_mse(student, maps(9), power)
    (gradient,) = torch.autograd.grad(each.sum(), student)
    assert each.isfinite().all()
    assert gradient.isfinite().all()


def test_the_gradient_reaches_both_networks() -> None:
    """To stop it is the caller's: two students may teach each other."""
    student, teacher = maps(6).requires_grad_(), maps(9).requires_grad_()
    transfer.attention_mse(student, teacher).sum().backward()
    assert all(x.grad is not None and x.grad.any() for x in (student, teacher))


def test_maps_of_two_grids_are_refused() -> None:
    """One cell would be broadcast."""
    with pytest.raises(UserError, match=r"of 5x4 cells, a teacher's of 1x1: .*Matching"):
        transfer.attention_mse(maps(3), torch.ones(3, 2, 1, 1))


# ------------------------------------------------------------------------------------------------------- matching


def test_matching_of_a_squeeze_unet_and_an_hourglass() -> None:
    """512x4x4 -> 1024x2x2."""
    student, teacher = Shape.of(Level(512, 64), Size(256, 256)), Shape.of(Level(1024, 128), Size(256, 256))
    assert (student.grid, teacher.grid) == (Size(4, 4), Size(2, 2))
    matching = Matching(student, teacher)
    assert matching(torch.randn(3, 512, 4, 4)).shape == (3, 1024, 2, 2)
    assert sum(parameter.numel() for parameter in matching.parameters()) == 512 * 1024 + 1024


@pytest.mark.parametrize("grid", [Size(2, 3), Size(6, 3), Size(3, 6), Size(1, 1), Size(6, 6), Size(5, 4)])
def test_matching_takes_the_highest_of_each_teachers_cell(grid: Size) -> None:
    """Of all six by six cells, also where the teacher's do not lie on whole ones: then they share some."""
    matching = Matching(Shape(2, Size(6, 6)), Shape(3, grid)).double()
    feature = torch.randn(2, 2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        projected = torch.einsum("dc,bchw->bdhw", matching.project.weight[:, :, 0, 0], feature)
        projected += matching.get_parameter("project.bias").view(1, 3, 1, 1)
        found = matching(feature)
    for y in range(grid.h):
        for x in range(grid.w):
            rows, columns = (slice(i * 6 // n, math.ceil((i + 1) * 6 / n)) for i, n in ((y, grid.h), (x, grid.w)))
            torch.testing.assert_close(found[..., y, x], projected[..., rows, columns].amax((-2, -1)))
    assert found.shape == (2, 3, grid.h, grid.w)


def test_shapes_of_odd_sizes_are_those_of_the_networks() -> None:
    assert Shape.of(Level(7, 64), Size(300, 129)) == Shape(7, Size(5, 3))


@pytest.mark.parametrize("grid", [Size(1, 2), Size(2, 1), Size(1, 1)])
def test_a_student_coarser_than_its_teacher_is_refused(grid: Size) -> None:
    with pytest.raises(UserError, match=f"map of {grid} cells is coarser than its teacher's of 2x2") as error:
        Matching(Shape(4, grid), Shape(5, Size(2, 2)))
    assert "\n" not in str(error.value)


def test_matching_teaches_both_sides() -> None:
    """The student's map behind it, and the projection."""
    matching = Matching(Shape(4, Size(5, 4)), Shape(9, Size(2, 2))).double()
    student = maps(4).requires_grad_()
    teacher = maps(9, seed=2)[..., :2, :2]
    transfer.attention_mse(matching(student), teacher).sum().backward()
    assert student.grad is not None
    assert all(values.grad is not None and values.grad.any() for values in (student, *matching.parameters()))
