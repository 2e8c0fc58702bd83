"""The published hourglass: its parameters block by block, names that say which one, any size."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from fiducial.errors import UserError  # noqa: E402
from fiducial.geometry import Size  # noqa: E402
from fiducial.models import catalog  # noqa: E402
from fiducial.models.antialias import AntiAlias, taps  # noqa: E402
from fiducial.models.backbones.hourglass import Hourglass, HourglassSpec  # noqa: E402
from fiducial.models.heads import motion  # noqa: E402

# As published for the First-Order-Motion model: convolution weight and bias, BatchNorm scale and shift.
DOWN = (1_920, 74_112, 295_680, 1_181_184, 4_721_664)
UP = (4_720_128, 2_360_064, 590_208, 147_648, 36_960)


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters_are_the_published_ones() -> None:
    network = Hourglass(HourglassSpec())
    assert tuple(map(parameters, network.network.down)) == DOWN
    assert tuple(map(parameters, network.network.up)) == UP
    assert parameters(network) == sum(DOWN) + sum(UP) == 14_129_568
    head = motion.Head(motion.Spec(), network.levels[0], 10, Size(256, 256))
    assert network.levels[0].channels == 35
    assert parameters(network) + parameters(head) == 14_215_368  # golden fomm_kp_detector_full, keys.json
    assert head.grid == Size(58, 58)


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("hourglass", HourglassSpec()),
        ("hourglass_w16", HourglassSpec(width=16)),
        ("hourglass_w8_b3_m32_s2", HourglassSpec(8, 3, 32, 2)),
        ("depthwise_hourglass_m256", HourglassSpec(widest=256, depthwise=True)),
    ],
)
def test_names_say_which_network_it_is(name: str, spec: HourglassSpec) -> None:
    assert spec.name == name
    assert catalog.build_backbone(name, "no").spec == spec


@pytest.mark.parametrize("name", ["hourglass_w0", "hourglass_b0", "hourglass_s0"])
def test_nothing_of_nothing(name: str) -> None:
    with pytest.raises(UserError, match=r"_[wbs]N\)=0: expected at least 1"):
        catalog.build_backbone(name, "no")


def test_sizes_that_halve_unevenly() -> None:
    network = Hourglass(HourglassSpec(4, 3, 16, 2)).eval()
    with torch.no_grad():
        fine, deep = network(torch.rand(1, 3, 75, 101))
    assert fine.shape == (1, 7, 38, 51)
    assert deep.shape == (1, 16, 5, 7)


def test_a_depthwise_block_costs_a_ninth() -> None:
    plain, depthwise = (parameters(Hourglass(HourglassSpec(depthwise=depthwise))) for depthwise in (False, True))
    assert 8 < plain / depthwise < 9


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_anti_aliasing_is_the_whole_blur_at_every_nth_pixel(factor: int) -> None:
    """By definition, with the square kernel in float64."""
    image = torch.rand(1, 3, 41, 56, generator=torch.Generator().manual_seed(3))
    row = taps(factor).double()
    square = (row[:, None] * row[None]).expand(3, 1, -1, -1)
    blurred = torch.nn.functional.conv2d(image.double(), square, padding=len(row) // 2, groups=3)
    torch.testing.assert_close(AntiAlias(3, factor)(image), blurred[..., ::factor, ::factor].float())
    assert len(row) == {2: 5, 4: 13, 8: 29}[factor]
