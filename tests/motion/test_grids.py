"""Sampling: the image's own grid gives it back, a shifted one moves it; Gaussians and inverses by their formulas."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")
from fiducial import geometry  # noqa: E402
from fiducial.geometry import Size  # noqa: E402
from fiducial.motion import grids  # noqa: E402

SIZE = Size(9, 6)


def picture(size: Size = SIZE, seed: int = 0):
    return torch.rand(2, 3, size.h, size.w, generator=torch.Generator().manual_seed(seed))


def flow_of(matrix, size: Size = SIZE):
    """The flow whose result at px z has what the image has at `matrix` z; [1, h, w, 2]."""
    xy = geometry.corner_to_px(grids.corner_grid(size, torch.zeros(1)).flatten(0, 1), size)
    moved = geometry.transform(torch.as_tensor(matrix, dtype=torch.float32), xy)
    return geometry.px_to_corner(moved, size).view(1, size.h, size.w, 2)


@pytest.mark.parametrize("size", [SIZE, Size(2, 7), Size(64, 48)])
def test_own_grid_gives_the_image_back_border_included(size):
    image = picture(size)
    grid = grids.corner_grid(size, image).expand(2, -1, -1, -1)
    torch.testing.assert_close(grids.sample(image, grid), image, atol=1e-5, rtol=0)


def test_other_frame_does_not():
    """What torch samples unless it is told otherwise, as published code does on a torch newer than 1.2: a darker border."""
    image = torch.ones(1, 1, SIZE.h, SIZE.w)
    grid = grids.corner_grid(SIZE, image)[None]
    assert torch.nn.functional.grid_sample(image, grid, align_corners=False)[0, 0, 0, 0] == pytest.approx(0.25)
    assert grids.sample(image, grid)[0, 0, 0, 0] == pytest.approx(1)


def test_a_shift_by_whole_px_moves_the_picture_by_as_many():
    """Backward: what comes from 2 px to the right and 1 px below moves to the left and up."""
    image = picture()
    moved = grids.sample(image, flow_of(geometry.translation(2, 1)).expand(2, -1, -1, -1))
    torch.testing.assert_close(moved[..., :-1, :-2], image[..., 1:, 2:], atol=1e-5, rtol=0)
    assert moved[..., -1, :].abs().max() < 1e-5
    assert moved[..., -2:].abs().max() < 1e-5


def test_gaussians():
    grid = grids.corner_grid(SIZE, torch.zeros(1))
    xy = torch.stack([grid[4, 1], torch.tensor([0.3, -1.2])])[None]
    maps = grids.gaussians(xy, SIZE, 0.02)
    assert maps.shape == (1, 2, SIZE.h, SIZE.w)
    assert maps[0, 0, 4, 1] == 1
    dx, dy = grid[2, 5, 0] - 0.3, grid[2, 5, 1] + 1.2
    assert maps[0, 1, 2, 5].item() == pytest.approx(math.exp(-(dx**2 + dy**2) / 0.04))


def test_inverse():
    matrices = torch.randn(5, 4, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(grids.inverse(matrices), torch.linalg.inv(matrices))


@pytest.mark.parametrize(
    "matrix", [[[0, 0], [0, 0]], [[1, 2], [2, 4]], [[1, 1], [1, 1 - 1e-7]], [[1, 1], [1, 1 + 1e-7]]]
)
def test_inverse_of_a_singular_matrix_is_finite_and_so_is_its_gradient(matrix):
    matrix = torch.tensor(matrix, dtype=torch.float64, requires_grad=True)
    found = grids.inverse(matrix)
    found.square().sum().backward()
    assert found.isfinite().all()
    assert matrix.grad is not None
    assert matrix.grad.isfinite().all()
    sign = -1 if torch.linalg.det(matrix.detach()) < 0 else 1
    torch.testing.assert_close(found[0, 0], sign * matrix[1, 1] / grids.LEAST_DETERMINANT)


def test_resized():
    maps = picture()
    assert grids.resized(maps, SIZE) is maps
    assert grids.resized(maps, Size(4, 11)).shape == (2, 3, 11, 4)
