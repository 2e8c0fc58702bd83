"""Warps: the Jacobian is autograd's, pictures follow the points, and a detector that follows both has no loss."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
from fiducial.errors import UserError  # noqa: E402
from fiducial.geometry import Size  # noqa: E402
from fiducial.motion import grids, warps  # noqa: E402
from fiducial.motion.warps import Warp, WarpSpec  # noqa: E402

STRONG = WarpSpec(affine_sigma=0.2, spline_sigma=0.03, spline_points=4)
STILL = WarpSpec(affine_sigma=0, spline_sigma=0)


def generator(seed: int = 0):
    return torch.Generator().manual_seed(seed)


def drawn(count: int = 3, spec: WarpSpec = STRONG, seed: int = 0) -> Warp:
    """In float64."""
    warp = Warp.draw(count, spec, generator(seed))
    return Warp(*(part.double() for part in warp))


def points(count: int = 7, batch: int = 3, seed: int = 1):
    return 2 * torch.rand(batch, count, 2, generator=generator(seed), dtype=torch.float64) - 1


def test_jacobian_is_that_of_autograd():
    warp, xy = drawn(), points()
    # [b, k, 2, b, k, 2], of which each point's own part is not zero.
    everything: Any = torch.autograd.functional.jacobian(warp.points, xy)
    own = torch.stack([torch.stack([everything[b, k, :, b, k] for k in range(7)]) for b in range(3)])
    torch.testing.assert_close(warp.jacobian(xy), own, atol=1e-9, rtol=1e-9)
    assert (own - warp.affine[:, None, :, :2]).abs().max() > 0.01


def test_points_by_the_formula():
    """One control point of weight w at the origin, distance 1 + 0.5: 1.5^2 ln 1.5 w on both axes."""
    warp = Warp(torch.eye(2, 3)[None], torch.tensor([[[0.1]]]), torch.zeros(1, 2))
    expected = torch.tensor([[[1.0, -0.5]]]) + 0.1 * 2.25 * torch.tensor(1.5).log()
    torch.testing.assert_close(warp.points(torch.tensor([[[1.0, -0.5]]])), expected)


def test_picture_has_at_z_what_the_picture_had_at_t_of_z():
    """A picture of coordinates, which bilinear sampling reads exactly, and mirroring keeps within the picture."""
    size = Size(40, 28)
    warp = drawn()
    grid = grids.corner_grid(size, warp.affine)
    seen = warp.image(grid.permute(2, 0, 1).expand(3, -1, -1, -1)).permute(0, 2, 3, 1)
    expected = warp.points(grid.flatten(0, 1)[None]).unflatten(1, (size.h, size.w))
    inside = (expected.abs() <= 1).all(-1)
    assert 0.5 < inside.double().mean() < 0.99
    torch.testing.assert_close(seen[inside], expected[inside], atol=1e-9, rtol=0)
    # Mirrored at the border's centres as often as needed: 1 + d has what 1 - d has.
    mirrored = 1 - ((expected + 1) % 4 - 2).abs()
    torch.testing.assert_close(seen, mirrored, atol=1e-9, rtol=0)


@pytest.mark.parametrize("spec", [STILL, WarpSpec(affine_sigma=0, spline_points=0)])
def test_warp_of_no_strength_moves_nothing(spec):
    warp, xy = drawn(spec=spec), points()
    image = torch.rand(3, 2, 5, 8, generator=generator(), dtype=torch.float64)
    torch.testing.assert_close(warp.points(xy), xy)
    torch.testing.assert_close(warp.image(image), image)
    torch.testing.assert_close(warp.jacobian(xy), torch.eye(2, dtype=torch.float64).expand(3, 7, 2, 2))


def test_draws():
    spec = WarpSpec(affine_sigma=0.1, spline_sigma=0.02, spline_points=3)
    warp, again = Warp.draw(4000, spec, generator(5)), Warp.draw(4000, spec, generator(5))
    assert all(torch.equal(a, b) for a, b in zip(warp, again, strict=True))
    assert (warp.affine.shape, warp.weights.shape) == ((4000, 2, 3), (4000, 1, 9))
    torch.testing.assert_close(warp.affine.mean(0), torch.eye(2, 3), atol=0.01, rtol=0)
    assert warp.affine.std(0).mean().item() == pytest.approx(0.1, rel=0.03)
    assert warp.weights.std().item() == pytest.approx(0.02, rel=0.03)
    assert warp.control_xy_corner[1].tolist() == [0, -1]  # row by row


def test_a_perfect_detector_has_no_loss():
    warp, seen, jacobian = drawn(), points(), torch.randn(3, 7, 2, 2, generator=generator(2), dtype=torch.float64)
    of_picture = warp.jacobian(seen) @ jacobian
    assert warps.value_loss(warp.points(seen), seen, warp) == 0
    assert warps.jacobian_loss(of_picture, jacobian, seen, warp).item() == pytest.approx(0, abs=1e-9)
    # The other way round it would have one: T maps from the warped picture.
    assert warps.value_loss(seen, warp.points(seen), warp) > 0.01


def test_losses_by_hand():
    still, xy = drawn(spec=STILL), points()
    off = torch.tensor([0.1, -0.3], dtype=torch.float64)
    assert warps.value_loss(xy + off, xy, still).item() == pytest.approx(0.2)
    # J^-1 J' is (.5 .5, 0 1); the other order would give (.5 1, 0 1).
    jacobian, seen = (
        torch.tensor(m, dtype=torch.float64).expand(3, 7, 2, 2) for m in ([[2, 0], [0, 1]], [[1, 1], [0, 1]])
    )
    assert warps.jacobian_loss(jacobian, seen, xy, still).item() == pytest.approx((0.5 + 0.5) / 4)


def test_gradients_reach_all_inputs():
    warp, xy = drawn(1), points(2, 1)
    jacobians = torch.randn(2, 1, 2, 2, 2, generator=generator(3), dtype=torch.float64)
    inputs = (jacobians[0].requires_grad_(), jacobians[1].requires_grad_(), xy.requires_grad_())
    assert torch.autograd.gradcheck(lambda *given: warps.jacobian_loss(*given, warp), inputs)
    assert torch.autograd.gradcheck(lambda p, q: warps.value_loss(p, q, warp), (xy, points(2, 1, 9).requires_grad_()))
    warps.jacobian_loss(*inputs, warp).backward()
    assert all(given.grad is not None and (given.grad != 0).any() for given in inputs)


@pytest.mark.parametrize("wrong", [{"affine_sigma": -1}, {"spline_sigma": float("nan")}, {"spline_points": 1}])
def test_impossible_settings_are_named(wrong):
    with pytest.raises(UserError, match=f"warp.{next(iter(wrong))}="):
        WarpSpec(**wrong)
