"""Dense motion: proposals move pictures as points say, masks share them out, and singular Jacobians do no harm."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from fiducial import geometry  # noqa: E402
from fiducial.errors import UserError  # noqa: E402
from fiducial.geometry import Size  # noqa: E402
from fiducial.models.heads.motion import Frames  # noqa: E402
from fiducial.motion import dense_motion, grids  # noqa: E402
from fiducial.motion.dense_motion import DenseMotion, DenseMotionSpec  # noqa: E402

POINTS = 3
SIZE = Size(40, 32)
SMALL = DenseMotionSpec(width=4, blocks=2, widest=16)


def generator(seed: int = 0):
    return torch.Generator().manual_seed(seed)


def network(spec: DenseMotionSpec = SMALL, **options) -> DenseMotion:
    torch.manual_seed(0)
    return DenseMotion(spec, POINTS, **options).eval()


def picture(size: Size = SIZE, batch: int = 2):
    return torch.rand(batch, 3, size.h, size.w, generator=generator(1))


def frames(seed: int = 2, batch: int = 2) -> Frames:
    dice = generator(seed)
    xy = torch.rand(batch, POINTS, 2, generator=dice) * 1.6 - 0.8
    return Frames(xy, torch.eye(2) + 0.2 * torch.randn(batch, POINTS, 2, 2, generator=dice))


@pytest.mark.parametrize("occlusion", [True, False])
@torch.no_grad()
def test_parts(occlusion):
    motion = network(DenseMotionSpec(4, 2, 16, occlusion=occlusion))(picture(), frames(2), frames(3))
    assert motion.sparse_motion.shape == (2, POINTS + 1, 8, 10, 2)
    assert motion.sparse_deformed.shape == (2, POINTS + 1, 3, 8, 10)
    assert motion.deformation.shape == (2, 8, 10, 2)
    torch.testing.assert_close(motion.mask.sum(1), torch.ones(2, 8, 10))
    assert motion.mask.min() > 0
    if not occlusion:
        assert motion.occlusion is None
    else:
        assert motion.occlusion is not None
        assert motion.occlusion.shape == (2, 1, 8, 10)
        assert 0 < motion.occlusion.min() < motion.occlusion.max() < 1


@torch.no_grad()
def test_where_nothing_moved_every_proposal_is_the_picture():
    net, image = network(), picture()
    motion = net(image, frames(), frames())
    small = net.reduce(image)
    torch.testing.assert_close(motion.sparse_deformed, small[:, None].expand(-1, POINTS + 1, -1, -1, -1))
    grid = grids.corner_grid(Size(10, 8), image)
    torch.testing.assert_close(motion.deformation, grid.expand(2, -1, -1, -1), atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_point_that_moves_by_whole_px_moves_the_picture_by_as_many():
    """In the driving picture the point is 3 px to the right of and 2 px above where it was in the source."""
    image = picture()
    xy = torch.tensor([[10.0, 12], [20, 8], [5, 30]]).expand(2, -1, -1)
    of_source, of_driving = (
        Frames(geometry.px_to_corner(xy + torch.tensor(shift), SIZE), None) for shift in ([0.0, 0.0], [3.0, -2.0])
    )
    motion = network(DenseMotionSpec(4, 2, 16, reduction=1))(image, of_source, of_driving)
    torch.testing.assert_close(motion.sparse_deformed[:, 0], image, atol=1e-5, rtol=0)
    for proposal in range(1, POINTS + 1):
        moved = motion.sparse_deformed[:, proposal]
        torch.testing.assert_close(moved[..., :-2, 3:], image[..., 2:, :-3], atol=2e-5, rtol=0)
        assert moved[..., :3].abs().max() < 1e-4


@torch.no_grad()
def test_jacobians_turn_the_picture_around_the_point():
    """Source Jacobian a quarter turn, driving the identity: what is to the right of the point comes from below it."""
    size = Size(9, 9)
    image = picture(size)
    turn = torch.tensor([[0.0, -1], [1, 0]]).expand(2, POINTS, 2, 2)
    middle, still = torch.zeros(2, POINTS, 2), torch.eye(2).expand(2, POINTS, 2, 2)
    net = network(DenseMotionSpec(4, 2, 16, reduction=1))
    turned = net(image, Frames(middle, turn), Frames(middle, still)).sparse_deformed[:, 1]
    torch.testing.assert_close(turned[..., 4, 7], image[..., 7, 4], atol=1e-5, rtol=0)
    torch.testing.assert_close(turned, image.rot90(1, (-2, -1)), atol=1e-5, rtol=0)
    # The driving Jacobian undoes what the source's does.
    both = net(image, Frames(middle, turn), Frames(middle, turn)).sparse_deformed[:, 1]
    torch.testing.assert_close(both, image, atol=1e-5, rtol=0)


def test_heat_is_where_points_are_less_where_they_were():
    of_source, of_driving = frames(2), frames(3)
    heat = dense_motion.gaussian_differences(of_source, of_driving, SIZE, 0.01)
    assert heat.shape == (2, POINTS + 1, 1, SIZE.h, SIZE.w)
    assert not heat[:, 0].any()
    back = dense_motion.gaussian_differences(of_driving, of_source, SIZE, 0.01)
    torch.testing.assert_close(heat, -back)
    expected = grids.gaussians(of_driving.xy_corner, SIZE, 0.01) - grids.gaussians(of_source.xy_corner, SIZE, 0.01)
    torch.testing.assert_close(heat[:, 1:, 0], expected)


@torch.no_grad()
def test_a_batch_is_its_samples():
    net, image, of_source, of_driving = network(), picture(), frames(2), frames(3)
    whole = net(image, of_source, of_driving)
    for i in range(2):
        own = [Frames(f.xy_corner[i : i + 1], f.jacobian[i : i + 1]) for f in (of_source, of_driving)]
        torch.testing.assert_close(net(image[i : i + 1], *own).deformation, whole.deformation[i : i + 1])


@pytest.mark.parametrize("singular", [[[0.0, 0], [0, 0]], [[1.0, 2], [2, 4]], [[1.0, 1], [1, 1 + 1e-7]]])
def test_singular_jacobians_do_not_make_nan(singular):
    net = network().train()
    jacobian = torch.tensor(singular).repeat(2, POINTS, 1, 1).requires_grad_()
    motion = net(picture(), frames(2), frames(3)._replace(jacobian=jacobian))
    motion.deformation.mean().backward()
    assert all(part.isfinite().all() for part in motion if part is not None)
    gradients = [parameter.grad for parameter in net.parameters() if parameter.grad is not None] + [jacobian.grad]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("wrong", [{"width": 0}, {"reduction": 0}, {"variance": float("nan")}])
def test_impossible_settings_are_named(wrong):
    with pytest.raises(UserError, match=f"dense_motion.{next(iter(wrong))}="):
        DenseMotionSpec(**wrong)
