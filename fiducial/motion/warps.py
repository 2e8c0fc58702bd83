"""Random warps of images with their Jacobians, and the losses by which points must follow them (equivariance): First
order motion model, Siarohin et al., NeurIPS 2019, section 3.1 and its supplement.

A warp is a *backward* map T of `xy_corner`: the warped image has at z what the image has at T(z). So points found in
the warped image, taken through T, must be the points found in the image itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from fiducial.errors import expect
from fiducial.geometry import Size
from fiducial.motion import grids

# Inside the logarithm: a control point's own place has a distance of 0.
_TINY = 1e-6


@dataclass(frozen=True)
class WarpSpec:
    """Chooses how strong random warps are; the defaults are the published ones."""

    affine_sigma: float = 0.05  # of each of the six numbers of the affine part, half an image = 1
    spline_sigma: float = 0.005  # of the weights of the spline's control points
    spline_points: int = 5  # control points a side; 0 = affine alone

    def __post_init__(self) -> None:
        expect(self.affine_sigma >= 0, "warp.affine_sigma", self.affine_sigma, "0 or more")
        expect(self.spline_sigma >= 0, "warp.spline_sigma", self.spline_sigma, "0 or more")
        fits = self.spline_points == 0 or self.spline_points >= 2
        expect(fits, "warp.spline_points", self.spline_points, "0, or at least 2 a side")


class Warp(NamedTuple):
    """Maps z to T(z) = A z + b + r(z), with the thin-plate spline r(z) = sum over control points of weight x d^2 ln(d + 1e-6), d
    the sum of |dx| and |dy|. r is one number, added to both x and y: images bend along the diagonal only."""

    affine: Float[Tensor, "b 2 3"]  # A | b
    weights: Float[Tensor, "b 1 c"]
    control_xy_corner: Float[Tensor, "c 2"]

    @staticmethod
    def draw(count: int, spec: WarpSpec, generator: torch.Generator, device: torch.device | str | None = None) -> Warp:
        """Draws `count` warps around the identity.

        They are drawn on the generator's device, so that they are the same on all others, and then taken to `device`."""

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, device=generator.device).to(device)

        affine = normal(count, 2, 3) * spec.affine_sigma
        affine = affine + torch.eye(2, 3, device=affine.device)
        weights = normal(count, 1, spec.spline_points**2) * spec.spline_sigma
        return Warp(affine, weights, control_points(spec.spline_points, affine))

    def points(self, xy_corner: Float[Tensor, "#b k 2"]) -> Float[Tensor, "b k 2"]:
        """Computes T of points."""
        distance = self._offsets(xy_corner).abs().sum(-1)
        radial = distance**2 * (distance + _TINY).log()
        # Over the control points; without a batch of places there is none of the radial functions either.
        bent = torch.einsum("bkc,boc->bko", radial, self.weights)
        return xy_corner @ self.affine[..., :2].mT + self.affine[:, None, :, 2] + bent

    def jacobian(self, xy_corner: Float[Tensor, "#b k 2"]) -> Float[Tensor, "b k 2 2"]:
        """Computes dT/dz at points: rows are x and y of the result, columns those of z."""
        offsets = self._offsets(xy_corner)
        distance = offsets.abs().sum(-1)
        slope = 2 * distance * (distance + _TINY).log() + distance**2 / (distance + _TINY)
        bent = torch.einsum("bkcd,boc->bkd", slope[..., None] * offsets.sign(), self.weights)
        return self.affine[:, None, :, :2] + bent[..., None, :]

    def image(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Warps an image, which keeps its size; beyond its border it is mirrored."""
        size = grids.size_of(image)
        flow = self.points(grids.corner_grid(size, image).flatten(0, 1)[None])
        flow = flow.unflatten(1, (size.h, size.w))
        return grids.sample(image, flow, "reflection")

    def _offsets(self, xy_corner: Float[Tensor, "n k 2"]) -> Float[Tensor, "n k c 2"]:
        return xy_corner[:, :, None] - self.control_xy_corner


def control_points(side: int, like: Tensor) -> Float[Tensor, "c 2"]:
    """Places side x side points over the image, its border included; row by row."""
    return grids.corner_grid(Size(side, side), like).flatten(0, 1)


def value_loss(
    xy_corner: Float[Tensor, "b k 2"], warped_xy_corner: Float[Tensor, "b k 2"], warp: Warp
) -> Float[Tensor, ""]:
    """Averages |p - T(p')| over both coordinates: p the points of an image, p' those of the image warped by T. Both learn
    from it."""
    return (xy_corner - warp.points(warped_xy_corner)).abs().mean()


def jacobian_loss(
    jacobian: Float[Tensor, "b k 2 2"],
    warped_jacobian: Float[Tensor, "b k 2 2"],
    warped_xy_corner: Float[Tensor, "b k 2"],
    warp: Warp,
) -> Float[Tensor, ""]:
    """Averages |1 - J^-1 dT/dz(p') J'| over the four entries: J the Jacobians of an image's points, J' those of the image
    warped by T. The points learn from it too, since dT/dz depends on where they are."""
    expected = warp.jacobian(warped_xy_corner) @ warped_jacobian
    unit = torch.eye(2, dtype=jacobian.dtype, device=jacobian.device)
    return (unit - grids.inverse(jacobian) @ expected).abs().mean()
