"""The generator: pictures move by the px the points say, hidden features are not used, and every size fits or is named."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from torch.nn import functional as F  # noqa: E402

from fiducial import geometry  # noqa: E402
from fiducial.errors import UserError  # noqa: E402
from fiducial.geometry import Size  # noqa: E402
from fiducial.models.heads.motion import Frames  # noqa: E402
from fiducial.motion import official  # noqa: E402
from fiducial.motion.dense_motion import DenseMotionSpec  # noqa: E402
from fiducial.motion.generator import DoublingBlock, Generator, GeneratorSpec  # noqa: E402

POINTS = 3
SIZE = Size(40, 32)
FULL = DenseMotionSpec(width=4, blocks=2, widest=16, reduction=1)  # flows as large as the picture
SMALL = GeneratorSpec(width=4, widest=16, residuals=1, dense_motion=DenseMotionSpec(width=4, blocks=2, widest=16))


def network(spec: GeneratorSpec = SMALL) -> Generator:
    torch.manual_seed(0)
    return Generator(spec, POINTS).eval()


def picture(size: Size = SIZE, seed: int = 1):
    return torch.rand(2, 3, size.h, size.w, generator=torch.Generator().manual_seed(seed))


def frames(seed: int, shift_px: tuple[float, float] = (0.0, 0.0)) -> Frames:
    xy = torch.rand(2, POINTS, 2, generator=torch.Generator().manual_seed(seed)) * 20 + 5
    return Frames(geometry.px_to_corner(xy + torch.tensor(shift_px), SIZE), torch.eye(2).expand(2, POINTS, 2, 2))


def choose(net: Generator, proposal: int) -> Generator:
    """The mask is this proposal everywhere."""
    mask = net.dense_motion.mask
    torch.nn.init.zeros_(mask.weight)
    mask.bias.data = 100 * torch.eye(POINTS + 1)[proposal]
    return net


@pytest.mark.parametrize("size", [SIZE, Size(8, 36), Size(128, 64)])
@torch.no_grad()
def test_picture_of_any_size_that_fits(size):
    made = network()(picture(size), frames(2), frames(3))
    assert made.prediction.shape == made.deformed.shape == (2, 3, size.h, size.w)
    assert 0 < made.prediction.min() < made.prediction.max() < 1


@pytest.mark.parametrize(
    ("size", "spec", "fitting"),
    [
        (Size(42, 32), SMALL, Size(40, 32)),
        (Size(40, 31), SMALL, Size(40, 28)),
        (Size(4, 32), SMALL, Size(8, 32)),
        (Size(3, 5), GeneratorSpec(4, 16, 1, 1, FULL), Size(2, 4)),
    ],
)
@torch.no_grad()
def test_size_that_does_not_fit_is_refused_with_one_that_does(size, spec, fitting):
    net = network(spec)
    with pytest.raises(UserError, match=f"an image of {size} px: .* such as {fitting}$"):
        net(picture(size), frames(2), frames(3))
    assert net(picture(fitting), frames(2), frames(3)).prediction.shape[-2:] == (fitting.h, fitting.w)


@torch.no_grad()
def test_background_does_not_move_and_a_point_moves_the_picture_by_its_px():
    """In the driving picture the points are 3 px to the right of and 2 px above where they were in the source."""
    spec = GeneratorSpec(4, 16, 2, 1, FULL)
    image, motion = picture(), (frames(2), frames(2, (3, -2)))
    still = choose(network(spec), 0)(image, *motion).deformed
    torch.testing.assert_close(still, image, atol=1e-5, rtol=0)
    moved = choose(network(spec), 2)(image, *motion).deformed
    torch.testing.assert_close(moved[..., :-2, 3:], image[..., 2:, :-3], atol=2e-5, rtol=0)


@torch.no_grad()
def test_features_move_with_the_flow():
    """A network of one block and no border: the picture that is made of a moved source moves too."""
    spec = GeneratorSpec(4, 16, 0, 0, FULL)
    net = choose(network(spec), 1)
    assert net.dense_motion.occlusion is not None
    torch.nn.init.zeros_(net.dense_motion.occlusion.weight)
    still = net(picture(), frames(2), frames(2)).prediction
    moved = net(picture(), frames(2), frames(2, (3, -2))).prediction
    inner = (..., slice(8, -8), slice(8, -8))  # the convolutions reach 6 px
    torch.testing.assert_close(moved.roll((2, -3), (-2, -1))[inner], still[inner], atol=1e-5, rtol=0)


@torch.no_grad()
def test_nothing_of_the_source_is_seen_where_it_is_hidden():
    net = network()
    occlusion = net.dense_motion.occlusion
    assert occlusion is not None
    torch.nn.init.zeros_(occlusion.weight)
    occlusion.bias.data.fill_(-200)
    predictions = [net(picture(seed=seed), frames(seed), frames(3)).prediction for seed in (1, 2)]
    torch.testing.assert_close(*predictions)


@torch.no_grad()
def test_doubling_block_is_nearest_neighbour_and_a_convolution():
    torch.manual_seed(0)
    block, x = DoublingBlock(5, 3), torch.randn(2, 5, 4, 7)
    doubled = F.interpolate(x, scale_factor=2, mode="nearest")
    torch.testing.assert_close(block(x), F.relu(block.norm(block.conv(doubled))))


def test_points_and_jacobians_learn_from_the_picture():
    net = network().train()
    given = [Frames(*(part.clone().requires_grad_() for part in frames(seed))) for seed in (2, 3)]
    (net(picture(), *given).prediction - picture(seed=5)).abs().mean().backward()
    for part in (*given[0], *given[1]):
        assert part.grad.isfinite().all()
        assert part.grad.any()


@pytest.mark.parametrize("wrong", [{"width": 0}, {"widest": 8}, {"downs": -1}, {"residuals": -1}])
def test_impossible_settings_are_named(wrong):
    with pytest.raises(UserError, match=f"generator.{next(iter(wrong))}="):
        GeneratorSpec(**{"width": 16, **wrong})


def test_names_of_published_files():
    """Those of the goldens load by them too, without one too many or too few (tests/parity)."""
    state = network().state_dict()
    theirs = {
        "first.conv.weight": "first.conv.weight",
        "down_blocks.1.norm.running_var": "down.1.norm.running_var",
        "bottleneck.r0.conv2.bias": "residuals.0.conv2.bias",
        "up_blocks.0.conv.weight": "up.0.conv.weight",
        "final.bias": "final.bias",
        "dense_motion_network.hourglass.encoder.down_blocks.0.conv.weight": "dense_motion.network.down.0.conv.weight",
        "dense_motion_network.hourglass.decoder.up_blocks.1.norm.bias": "dense_motion.network.up.1.norm.bias",
        "dense_motion_network.mask.weight": "dense_motion.mask.weight",
        "dense_motion_network.occlusion.bias": "dense_motion.occlusion.bias",
    }
    assert {name: official.our_generator_name(name) for name in theirs} == theirs
    assert set(theirs.values()) <= set(state)
    assert official.our_generator_name("dense_motion_network.down.weight") is None


def test_what_does_not_move_and_is_shown_is_the_source_itself():
    """With the source's own pixels shown, nothing moved and no occlusion the picture is the source, border included."""
    spec = GeneratorSpec(8, 16, 1, 1, DenseMotionSpec(8, 2, 16, reduction=4), shows_source=True)
    generator = Generator(spec, points=2).eval()
    assert generator.dense_motion.occlusion is not None
    with torch.no_grad():
        generator.dense_motion.occlusion.weight.zero_()
        generator.dense_motion.occlusion.bias.fill_(30.0)
    source = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(2))
    still = Frames(torch.tensor([[[0.2, -0.3], [-0.5, 0.1]]]), None)
    with torch.no_grad():
        torch.testing.assert_close(generator(source, still, still).prediction, source, atol=2e-5, rtol=0)


def test_showing_the_source_needs_occlusion():
    with pytest.raises(UserError, match="shows_source"):
        GeneratorSpec(shows_source=True, dense_motion=DenseMotionSpec(occlusion=False))
