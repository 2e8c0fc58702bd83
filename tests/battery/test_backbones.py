"""Every family of backbones, found by folder: what is declared holds, and every weight learns.

A new file in `fiducial/models/backbones/` is tested here by its EXAMPLES."""

from __future__ import annotations

import functools
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from heard import warned

torch = pytest.importorskip("torch")
from safetensors.torch import save_file  # noqa: E402

from fiducial.errors import UserError  # noqa: E402
from fiducial.models import catalog, pretrained  # noqa: E402
from fiducial.models.backbones.hrnet import HRNet, HRNetSpec  # noqa: E402
from fiducial.models.backbones.unet import Shuffle  # noqa: E402
from fiducial.models.contracts import Backbone  # noqa: E402

FAMILIES = list(catalog.families())
EXAMPLES = [name for family in FAMILIES for name in family.EXAMPLES]


@functools.cache
def built(name: str) -> Backbone:
    torch.manual_seed(5)
    return catalog.build_backbone(name, "no").eval()


def images(count: int, w: int, h: int) -> torch.Tensor:
    return torch.randn(count, 3, h, w, generator=torch.Generator().manual_seed(w + h))


def test_families_are_the_files_of_the_folder() -> None:
    assert len(FAMILIES) == len(catalog._modules("backbones")) >= 3
    for family in FAMILIES:
        assert family.EXAMPLES
        assert all(family.matches(name) for name in family.EXAMPLES)
        assert set(family.EXAMPLES) <= set(family.names())
        assert not family.matches("resnet81")


@pytest.mark.parametrize("name", EXAMPLES)
def test_maps_are_as_declared(name: str) -> None:
    network = built(name)
    assert -len(network.levels) <= network.main < len(network.levels)
    assert network.initialization == "random"
    for w, h in ((96, 64), (64, 128)):
        with torch.inference_mode():
            maps = network(images(1, w, h))
        declared = [(1, level.channels, -(-h // level.stride), -(-w // level.stride)) for level in network.levels]
        assert [tuple(feature.shape) for feature in maps] == declared


@pytest.mark.parametrize("name", EXAMPLES)
def test_batched_equals_single(name: str) -> None:
    network, batch = built(name), images(3, 96, 64)
    with torch.inference_mode():
        together = network(batch)
        alone = [network(batch[i : i + 1]) for i in range(3)]
    for level, feature in enumerate(together):
        single = torch.cat([maps[level] for maps in alone])
        torch.testing.assert_close(feature, single, rtol=0, atol=2e-5 * single.abs().max().item())


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_parameter_learns(name: str) -> None:
    """Training over several devices waits for the gradient of each parameter."""
    torch.manual_seed(6)
    network = catalog.build_backbone(name, "no").train()
    with torch.no_grad():
        for parameter in network.parameters():  # residual scales may start at zero, and stop what is behind them
            parameter.add_(0.01 * torch.randn_like(parameter))
    maps = network(images(2, 96, 64))
    assert all(1e-3 < feature.std() < 1e3 for feature in maps)
    sum((feature * torch.randn_like(feature)).mean() for feature in maps).backward()
    dead = [
        name for name, parameter in network.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    assert dead == []
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_seed_fixes_the_weights(name: str) -> None:
    torch.manual_seed(5)
    again = catalog.build_backbone(name, "no").state_dict()
    first = built(name).state_dict()
    assert again.keys() == first.keys()
    assert all(torch.equal(again[key], first[key]) for key in again)


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name.startswith(("hrnet", "unet"))])
def test_own_families_take_any_size(name: str) -> None:
    with torch.inference_mode():
        maps = built(name)(images(1, 101, 75))
    for feature, level in zip(maps, built(name).levels, strict=True):
        assert feature.shape[-2:] == (-(-75 // level.stride), -(-101 // level.stride))


def test_unet_on_resnet18_has_the_published_size() -> None:
    """31.1 M parameters for ResNet18 with the last 1x1 convolution to five points."""
    network = built("unet_resnet18")
    count = sum(parameter.numel() for parameter in network.parameters()) + 5 * (network.levels[0].channels + 1)
    assert count == pytest.approx(31.1e6, abs=0.05e6)


def test_unet_learns_from_random_weights() -> None:
    """A blob on noise, without warm-up: the error falls to a fraction and nothing runs away."""
    torch.manual_seed(7)
    network = catalog.build_backbone("unet_resnet18", "no").train()
    last = torch.nn.Conv2d(network.levels[0].channels, 1, 1)
    optimizer = torch.optim.AdamW([*network.parameters(), *last.parameters()], lr=1e-3)
    image = images(2, 64, 32) * 0.3
    target = torch.zeros(2, 1, 32, 64)
    for i, (x, y) in enumerate(((20, 22), (50, 9))):
        image[i, :, y - 4 : y + 4, x - 4 : x + 4] += 2
        target[i, :, y - 4 : y + 4, x - 4 : x + 4] = 1
    losses = []
    for _ in range(12):
        loss = ((last(network(image)[0]) - target) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    assert max(losses) < 3 * losses[0]


def test_hrnet_is_timms_trunk() -> None:
    """The same weights in timm's implementation give the same four maps, so its ImageNet weights are ours."""
    timm = pretrained.timm_library()
    torch.manual_seed(8)
    donor = timm.create_model("hrnet_w18").eval()
    network = HRNet(HRNetSpec(channels=(18, 36, 72, 144), output="branches")).eval()
    state = donor.state_dict()
    network.load_state_dict({key: state[key] for key in network.state_dict()})
    image = images(1, 64, 96)
    with torch.inference_mode():
        x = donor.act2(donor.bn2(donor.conv2(donor.act1(donor.bn1(donor.conv1(image))))))
        expected = donor.stages(x)
        got = network(image)
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("resnet81", "resnet18"), ("unet_resnet81", "unet_resnet18"), ("hrnet_w18_conct", "hrnet_w18_concat")],
)
def test_unknown_backbones_name_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(UserError, match=f"{wrong}.*Did you mean '{near}'") as error:
        catalog.build_backbone(wrong, "no")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("name", ["xyzzy", "resnet18.no_such_tag", "unet_vit_tiny_patch16_224"])
def test_what_cannot_be_built_is_the_users_error(name: str) -> None:
    with pytest.raises(UserError, match=name):
        catalog.build_backbone(name, "no")


def test_networks_of_one_size_say_so() -> None:
    with pytest.raises(UserError, match="224x224 only, not 96x64"):
        catalog.build_backbone("levit_128s", "no")(images(1, 96, 64))


def test_short_names_and_dashes() -> None:
    network = catalog.build_backbone("mobilenetv3-small", "no")
    assert network.state_dict().keys() == built("mobilenetv3_small_100").state_dict().keys()
    assert isinstance(catalog.build_backbone("hrnet-w18", "no"), HRNet)


def test_methods_are_the_files_of_the_folder() -> None:
    assert catalog.methods() == catalog._modules("heads")
    for method in catalog.methods():
        module = catalog.head_module(method)
        assert hasattr(module, "Spec")
        assert hasattr(module, "Head")
    with pytest.raises(UserError, match="no such name"):
        catalog.head_module("heatmpa")


@pytest.mark.parametrize("name", ["resnet18", "hrnet_w18", "unet_resnet18"])
def test_without_a_network_random_weights_are_announced(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "_cached_file", lambda *_: None)
    monkeypatch.setattr(pretrained, "_hub_failure", lambda: "the hub is asleep")
    with warned(r"random weights: its weights are not on this disk \(--pretrained auto fetches them\).*--init"):
        network = catalog.build_backbone(name)  # which does not ask the hub
    assert network.initialization == "random"
    with warned("random weights: the hub is asleep.*--init"):
        assert catalog.build_backbone(name, "auto").initialization == "random"
    with pytest.raises(UserError, match="no pretrained weights: the hub is asleep"):
        catalog.build_backbone(name, "yes")
    with pytest.raises(UserError, match="expected here, auto, yes, no"):
        catalog.build_backbone(name, "maybe")


@pytest.mark.parametrize("name", ["resnet18", "hrnet_w18", "unet_resnet18"])
def test_weights_in_the_cache_need_no_network(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    base = name.removeprefix("unet_")
    torch.manual_seed(9)
    state = pretrained.timm_library().create_model(base).state_dict()
    save_file(state, tmp_path / "model.safetensors")
    monkeypatch.setattr(pretrained, "_cached_file", lambda *_: str(tmp_path / "model.safetensors"))
    monkeypatch.setattr(pretrained, "_hub_failure", lambda: "the hub is asleep")
    network = catalog.build_backbone(name, "yes")
    assert f"timm/{base}." in network.initialization
    key = next(key for key in network.state_dict() if key.endswith("conv1.weight"))
    assert torch.equal(network.state_dict()[key], state["conv1.weight"])


def test_a_silent_hub_is_given_up_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: time.sleep(3))
    began = time.monotonic()
    assert "no answer" in (pretrained._hub_failure.__wrapped__() or "")
    assert time.monotonic() - began < 1.5


def test_torchvision_can_be_imported_with_timm() -> None:
    """Built for this torch or not; what it does beyond loading is not needed."""
    pytest.importorskip("timm")
    pretrained.timm_library()
    if "torchvision" in sys.modules:
        assert sys.modules["torchvision"].transforms is not None


def test_pixel_shuffle_starts_as_nearest_resizing() -> None:
    """ICNR: each cell becomes four equal ones, so random weights draw no checkerboard."""
    torch.manual_seed(10)
    with torch.inference_mode():
        got = Shuffle(5, 3).eval()(images(2, 6, 4).repeat(1, 2, 1, 1)[:, :5])
    assert got.shape == (2, 3, 8, 12)
    assert got.std() > 0.1
    assert torch.equal(got, got[..., ::2, ::2].repeat_interleave(2, -1).repeat_interleave(2, -2))
