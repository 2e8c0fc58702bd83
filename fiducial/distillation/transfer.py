"""Attention transfer (Zagoruyko & Komodakis, "Paying more attention to attention", ICLR 2017) between the maps of two
networks.

All losses are un-reduced, one value a *sample*, [b]; the gradient reaches both networks, so teachers are detached by the
caller. Maps of two networks are compared cell by cell: where their grids differ, `Matching` comes first."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
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
    return (attention_difference(student, teacher, power, normalise) ** 2).mean(1)


def attention_difference(student: Tensor, teacher: Tensor, power: float, normalise: bool) -> Float[Tensor, "b n"]:
    """Subtracts the teacher's attention from the student's, each of length one where `normalise` says so."""
    if student.shape[2:] != teacher.shape[2:]:
        grids = [Size(feature.shape[-1], feature.shape[-2]) for feature in (student, teacher)]
        raise UserError(f"a student's map of {grids[0]} cells, a teacher's of {grids[1]}: bring it there by `Matching`")
    both = [attention(feature, power) for feature in (student, teacher)]
    if normalise:
        both = [normalised(of_one) for of_one in both]
    return both[0] - both[1]


class Shape(NamedTuple):
    """Holds the channels and cells of a map."""

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
