"""One network taught by another: attention transfer (Zagoruyko & Komodakis, "Paying more attention to attention", ICLR
2017) between their maps, and knowledge distillation (Hinton et al., arXiv 1503.02531) between their logits.

All losses are un-reduced, one value a *sample*, [b]; the gradient reaches both networks, so teachers are detached by the
caller. Maps of two networks are compared cell by cell: where their grids differ, `Matching` comes first."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.models.contracts import Level

# ------------------------------------------------------------------------------------------- attention transfer


def attention(feature: Float[Tensor, "b c h w"], power: float = 2.0) -> Float[Tensor, "b n"]:
    """Measures how much a network looks at each cell: the sum over channels of |A|^power, cells row by row (F_sum^p,
    section 3.1). It grows with the number of channels; `power` is at least 1."""
    return feature.abs().pow(power).sum(1).flatten(1)


def normalised(attention: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """Scales each sample to length one; zeros stay zeros. Where a network looks is kept, how strongly is not."""
    return F.normalize(attention, dim=1)


def attention_mse(
    student: Float[Tensor, "b c h w"], teacher: Float[Tensor, "b d h w"], power: float = 2.0, normalise: bool = True
) -> Float[Tensor, " b"]:
    """Averages, over the cells, the squared difference of the attentions, as the paper's published code does.

    Without `normalise` it also asks for the teacher's strength, which is of another order in a network of another width
    and grows with its `power`: the weight that is right for one pair of networks is wrong for the next."""
    return (_difference(student, teacher, power, normalise) ** 2).mean(1)


def attention_distance(
    student: Float[Tensor, "b c h w"], teacher: Float[Tensor, "b d h w"], power: float = 2.0
) -> Float[Tensor, " b"]:
    """Euclidean distance of the normalised attentions, 0 to the root of 2 (eq. 2). Its gradient does not vanish as the
    two come closer; where they are equal it is 0."""
    return torch.linalg.vector_norm(_difference(student, teacher, power, normalise=True), dim=1)


def _difference(student: Tensor, teacher: Tensor, power: float, normalise: bool) -> Float[Tensor, "b n"]:
    """Of the two attentions."""
    if student.shape[2:] != teacher.shape[2:]:
        grids = [Size(feature.shape[-1], feature.shape[-2]) for feature in (student, teacher)]
        raise UserError(f"a student's map of {grids[0]} cells, a teacher's of {grids[1]}: bring it there by `Matching`")
    both = [attention(feature, power) for feature in (student, teacher)]
    if normalise:
        both = [normalised(each) for each in both]
    return both[0] - both[1]


class Shape(NamedTuple):
    """Channels and cells of a map."""

    channels: int
    grid: Size

    @classmethod
    def of(cls, level: Level, size: Size) -> Shape:
        """Computes the shape of a backbone's level for inputs of `size`."""
        return cls(level.channels, Size(-(-size.w // level.stride), -(-size.h // level.stride)))


class Matching(nn.Module):
    """Gives a student's map the channels and the grid of its teacher's: a 1x1 convolution, then the highest of the cells that
    lie in one of the teacher's. It is trained with the student and left out of what ships.

    A loss behind it can fall without the student's map having changed, because this convolution learns too."""

    def __init__(self, student: Shape, teacher: Shape) -> None:
        super().__init__()
        if student.grid.w < teacher.grid.w or student.grid.h < teacher.grid.h:
            raise UserError(
                f"a student's map of {student.grid} cells is coarser than its teacher's of {teacher.grid}: expected as many "
                "cells or more a side. Choose a finer map of the student's or a coarser one of the teacher's"
            )
        self.student, self.teacher = student, teacher
        self.project = nn.Conv2d(student.channels, teacher.channels, 1)

    def forward(self, feature: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d _ _"]:
        grid, to = self.student.grid, self.teacher.grid
        feature = self.project(feature)
        if grid.w % to.w == 0 and grid.h % to.h == 0:
            # The same as below, but the backward pass has the same bits every time on a GPU too.
            return F.max_pool2d(feature, (grid.h // to.h, grid.w // to.w))
        return F.adaptive_max_pool2d(feature, (to.h, to.w))


# ----------------------------------------------------------------------------------------- knowledge distillation


def knowledge_distillation(
    student_logits: Float[Tensor, "b n"], teacher_logits: Float[Tensor, "b n"], labels: Int[Tensor, " b"],
    temperature: float, alpha: float,
) -> Float[Tensor, " b"]:  # fmt: skip
    """alpha T^2 KL(teacher || student), both softened by the temperature T, + (1 - alpha) cross-entropy of the labels at
    temperature 1 (section 2). T^2 keeps the size of the gradient: for large T the first part is that of matching
    logits, half the variance of their difference."""
    student, teacher = ((logits / temperature).log_softmax(1) for logits in (student_logits, teacher_logits))
    divergence = F.kl_div(student, teacher, reduction="none", log_target=True).sum(1)
    hard = F.cross_entropy(student_logits, labels, reduction="none")
    return alpha * temperature**2 * divergence + (1 - alpha) * hard
