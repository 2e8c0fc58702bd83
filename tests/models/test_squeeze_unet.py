"""`squeeze_unet`: its grids and parameters in closed form, where its multiply-adds are, odd sizes, names.

What holds for all backbones is in `battery/test_backbones.py`."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from torch import Tensor, nn  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from fiducial.errors import UserError  # noqa: E402
from fiducial.models import catalog  # noqa: E402
from fiducial.models.backbones import squeeze_unet  # noqa: E402
from fiducial.models.backbones._grids import doubled, halved  # noqa: E402
from fiducial.models.backbones.squeeze_unet import Fire, SqueezeUNet, SqueezeUNetSpec  # noqa: E402
from fiducial.models.contracts import Level  # noqa: E402


def images(w: int, h: int, count: int = 1) -> Tensor:
    return torch.rand(count, 3, h, w, generator=torch.Generator().manual_seed(w + h))


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def of_fire(inputs: int, squeezed: int, outputs: int) -> int:
    """Weights of the 1x1 to the few, of the 1x1 and the 3x3 to half of what comes out each; BatchNorm's pairs."""
    return inputs * squeezed + squeezed * (outputs // 2) * (1 + 9) + 2 * (squeezed + outputs)


@pytest.fixture(scope="module")
def usual() -> SqueezeUNet:
    torch.manual_seed(1)
    return squeeze_unet.build("squeeze_unet", "no").eval()


def test_grids_of_a_student_of_the_motion_model(usual: SqueezeUNet) -> None:
    """256 px: 64x64 cells and back, 512x4x4 at the bottom; the small image is the last skip."""
    image = images(256, 256)
    with torch.inference_mode():
        main, deepest = usual(image)
        small = usual.reduce(image)
    assert small.shape == (1, 3, 64, 64)
    assert main.shape == (1, 32 + 3, 64, 64)
    assert deepest.shape == (1, 512, 4, 4)
    assert torch.equal(main[:, 32:], small)
    assert usual.levels == (Level(35, 4), Level(512, 64))


@pytest.mark.parametrize(("inputs", "squeezed", "outputs"), [(96, 16, 128), (512, 32, 256), (64, 3, 10)])
def test_parameters_of_a_fire_module(inputs: int, squeezed: int, outputs: int) -> None:
    assert parameters(Fire(inputs, squeezed, outputs)) == of_fire(inputs, squeezed, outputs)


def test_a_fire_module_is_squeezenets() -> None:
    """Its fire2 has 11,920 parameters (table 1), with a bias where ours has BatchNorm's pair."""
    assert parameters(Fire(96, 16, 128)) - (16 + 128) == 11_920


@pytest.mark.parametrize("width", [8, 16, 64])
def test_parameters_of_the_network(width: int) -> None:
    w = width
    first = 3 * 9 * w + 2 * w
    down = [(w, w // 4, 2 * w), (2 * w, w // 4, 2 * w), (2 * w, w // 2, 4 * w), (4 * w, w // 2, 4 * w)]
    down += [(4 * w, w, 8 * w), (8 * w, w, 8 * w)]
    up = [(8 * w, w // 2, 4 * w), (8 * w, w // 4, 2 * w), (4 * w, w // 4, w), (2 * w, w // 4, w // 2)]
    assert parameters(SqueezeUNet(SqueezeUNetSpec(width))) == first + sum(of_fire(*each) for each in down + up)


def multiply_adds(network: nn.Module) -> dict[str, int]:
    """Of one image of 256 px, by module."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(images(256, 256))
    return {name: sum(counts.values()) // 2 for name, counts in counter.get_flop_counts().items()}


def test_it_is_cheap_and_the_finest_grids_are_thin(usual: SqueezeUNet) -> None:
    """A twentieth of the hourglass; the grid with three quarters of the cells has a third of the work."""
    by_module = multiply_adds(usual)
    whole = by_module["Global"]
    hourglass = multiply_adds(catalog.build_backbone("hourglass", "no").eval())["Global"]
    assert hourglass > 20 * whole
    assert by_module["SqueezeUNet.up.3"] < whole / 3
    small = multiply_adds(squeeze_unet.build("squeeze_unet_w32", "no").eval())["Global"]
    assert small < whole / 2.5


@pytest.mark.parametrize("train", [False, True])
def test_squeezing_before_doubling_is_the_same(train: bool) -> None:
    """As a fire module on the doubled map, in value and in what BatchNorm sees."""
    torch.manual_seed(2)
    fire = Fire(12, 5, 8).train(train)
    x, skip = torch.randn(3, 12, 4, 6), torch.randn(3, 7, 8, 12)
    with torch.no_grad():
        torch.testing.assert_close(fire(x, skip), fire(doubled(x, skip)), rtol=1e-5, atol=1e-5)


def test_grids_of_half_and_of_twice_the_cells() -> None:
    x = torch.arange(15.0).view(1, 1, 3, 5)
    assert halved(x).tolist() == [[[[3, 5, 6.5], [10.5, 12.5, 14]]]]
    assert halved(x[..., :2, :4]).tolist() == [[[[3, 5]]]]
    assert doubled(halved(x), x).tolist() == [[[[3, 3, 5, 5, 6.5]] * 2 + [[10.5, 10.5, 12.5, 12.5, 14]]]]


@pytest.mark.parametrize(("w", "h"), [(101, 75), (64, 30), (33, 131), (255, 257)])
@pytest.mark.parametrize("name", ["squeeze_unet_w16", "squeeze_unet_w8_s1", "squeeze_unet_w8_s3"])
def test_any_size_will_do(name: str, w: int, h: int) -> None:
    network = squeeze_unet.build(name, "no").eval()
    with torch.inference_mode():
        found = network(images(w, h))
    for feature, level in zip(found, network.levels, strict=True):
        assert feature.shape == (1, level.channels, -(-h // level.stride), -(-w // level.stride))


def test_cells_lie_where_the_image_has_them(usual: SqueezeUNet) -> None:
    """What changes at one cell of the small image changes the maps around that cell, and most there."""
    image = images(256, 256)
    changed = image.clone()
    changed[..., 156:165, 60:69] = 1 - changed[..., 156:165, 60:69]  # around the cell (16, 40)
    with torch.inference_mode():
        difference = (usual(changed)[0] - usual(image)[0])[0, :32].abs().sum(0)
    y, x = divmod(int(difference.argmax()), 64)
    assert abs(x - 16) <= 2
    assert abs(y - 40) <= 2


def test_names() -> None:
    assert all(squeeze_unet.matches(name) for name in squeeze_unet.names())
    assert not any(squeeze_unet.matches(name) for name in ("squeeze_unet_w", "squeeze_unet_s2_w16", "squeezenet"))
    built = catalog.build_backbone("squeeze-unet-w32-s2", "no")
    assert isinstance(built, SqueezeUNet)
    assert built.spec == SqueezeUNetSpec(width=32, reduction=2)
    for name, expected in (
        ("squeeze_unet_w6", r"_wN\)=6: expected a multiple of 4"),
        ("squeeze_unet_w0", "multiple of 4"),
        ("squeeze_unet_s0", r"_sN\)=0: expected at least 1"),
    ):
        with pytest.raises(UserError, match=expected):
            squeeze_unet.build(name, "no")


def test_it_learns_from_random_weights() -> None:
    """A blob on noise, without warm-up: the mean of its map goes there."""
    torch.manual_seed(3)
    network = squeeze_unet.build("squeeze_unet_w16_s2", "no").train()
    last = nn.Conv2d(network.levels[0].channels, 1, 3, padding=1)
    optimizer = torch.optim.AdamW([*network.parameters(), *last.parameters()], lr=3e-3)
    image, target = images(64, 48, count=4) * 0.3, torch.zeros(4, 1, 24, 32)
    for i, (x, y) in enumerate(((5, 6), (25, 9), (14, 18), (20, 3))):
        image[i, :, 2 * y - 3 : 2 * y + 5, 2 * x - 3 : 2 * x + 5] += 0.7
        target[i, :, y, x] = 1
    losses = []
    for _ in range(40):
        log_probability = last(network(image)[0]).flatten(1).log_softmax(1)
        loss = -(log_probability * target.flatten(1)).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
