"""HRNet against the official pose network and H3R's extractor: keys, counts and outputs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import load_file  # noqa: E402
from torch import nn  # noqa: E402

from fiducial.models.backbones.hrnet import HRNet, HRNetSpec  # noqa: E402

W32, W48 = (32, 64, 128, 256), (48, 96, 192, 384)


def case(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "case.json").read_text())["cases"][0]["config"]


def keys(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / f"keys_{name}.json").read_text())


def listing(module: nn.Module) -> list[list[Any]]:
    """[name, shape] in stored order, as the goldens list them."""
    return [[name, list(value.shape)] for name, value in module.state_dict().items()]


def parameter_count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def with_final_layer(network: HRNet, points: int, kernel: int = 1) -> HRNet:
    """The official network ends in a convolution that is ours to have in a head."""
    network.final_layer = nn.Conv2d(network.levels[0].channels, points, kernel, padding=kernel // 2)
    return network


def closed_form_fill(network: nn.Module) -> None:
    """The weights that the goldens' READMEs define: a hash of tensor and element number."""
    state = network.state_dict()
    for ordinal, (name, tensor) in enumerate(state.items()):
        phase = 12.9898 * np.arange(tensor.numel(), dtype=np.float64) + 78.233 * ordinal
        h = np.sin(phase) * 43758.5453123
        u = h - np.floor(h)
        last = name.rpartition(".")[2]
        if last == "num_batches_tracked":
            values = np.zeros_like(u)
        elif last == "running_mean":
            values = 0.1 * (2 * u - 1)
        elif last == "running_var" or (last == "weight" and tensor.ndim == 1):
            values = 0.75 + 0.5 * u
        elif tensor.ndim >= 2:
            values = (2 * u - 1) * math.sqrt(6 / math.prod(tensor.shape[1:]))
        else:
            values = 0.05 * (2 * u - 1)
        ends_bottleneck = name.startswith("layer1") and name.endswith("bn3.weight")
        if ends_bottleneck or (".branches." in name and name.endswith("bn2.weight")):
            values = values * 0.3
        tensor.copy_(torch.from_numpy(values.reshape(tuple(tensor.shape))).to(tensor.dtype))


def test_pose_network_of_reduced_width(golden: Path) -> None:
    folder = golden / "hrnet_pose_small"
    config = case(folder)
    spec = HRNetSpec(channels=tuple(config["channels"]), modules=tuple(config["modules"]), blocks=config["blocks"])
    network = with_final_layer(HRNet(spec), config["joints"], config["final_kernel"])
    network.load_state_dict(load_file(folder / "weights.safetensors"))
    expected = load_file(folder / "case.safetensors")
    seen: dict[str, Any] = {}
    for name in ("layer1", "stage2", "stage3", "stage4"):
        getattr(network, name).register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    with torch.inference_mode():
        (feature,) = network.eval()(expected["in.x"])
        got = {"out.y": network.final_layer(feature), "out.layer1_mean": seen["layer1"].mean((2, 3))}
    for name in ("stage2", "stage3", "stage4"):
        got |= {f"out.{name}.{i}": tensor for i, tensor in enumerate(seen[name])}
    assert got.keys() == expected.keys() - {"in.x"}
    for name, tensor in got.items():
        scale = expected[name].abs().max().item()
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=3e-6 * scale, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(("name", "channels", "count"), [("w32", W32, 28_536_113), ("w48", W48, 63_595_745)])
def test_pose_network_has_the_official_keys(golden: Path, name: str, channels: tuple, count: int) -> None:
    reference = keys(golden / "hrnet_w32_pose_full", name)
    with torch.device("meta"):
        network = with_final_layer(HRNet(HRNetSpec(channels=channels)), 17)
    assert listing(network) == [row[:2] for row in reference["state_dict"]]
    assert parameter_count(network) == count


def test_pose_network_w32(golden: Path) -> None:
    folder = golden / "hrnet_w32_pose_full"
    expected = load_file(folder / "case.safetensors")
    network = with_final_layer(HRNet(HRNetSpec()), 17).eval()
    with torch.inference_mode():
        closed_form_fill(network)
        got = network.final_layer(network(expected["in.x"])[0])
    torch.testing.assert_close(got, expected["out.y"], rtol=0, atol=1e-4 * expected["out.y"].std().item())


def test_h3r_of_reduced_width(golden: Path) -> None:
    folder = golden / "h3r_hrnet_small"
    config = case(folder)
    spec = HRNetSpec(
        channels=tuple(config["channels"]),
        modules=tuple(config["modules"][1:]),
        blocks=config["blocks"],
        layer1_blocks=config["l1"],
        layer1_planes=config["planes"],
        output="concat",
    )
    network = HRNet(spec)
    state = load_file(folder / "weights.safetensors")
    prefix = "backbone."
    network.load_state_dict({key[len(prefix) :]: state[key] for key in state if key.startswith(prefix)})
    expected = load_file(folder / "case.safetensors")
    with torch.inference_mode():
        (got,) = network.eval()(expected["in.x"])
    torch.testing.assert_close(got, expected["out.features"], rtol=0, atol=2e-4)


SMALL = HRNetSpec(channels=(18, 36, 72, 144), modules=(1, 3, 2), blocks=2, layer1_blocks=2, output="concat")


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("hrnet18", HRNetSpec(channels=(18, 36, 72, 144), output="concat")),
        ("hrnet18s", SMALL),
        ("hrnet32", HRNetSpec(channels=W32, output="concat")),
    ],
)
def test_h3r_has_the_official_keys(golden: Path, name: str, spec: HRNetSpec) -> None:
    folder = golden / "h3r_hrnet18_full"
    with torch.device("meta"):
        network = HRNet(spec)
    assert listing(network) == [row[:2] for row in keys(folder, name)["state_dict"]]
    assert parameter_count(network) == json.loads((folder / "params.json").read_text())["backbone"][name]


def test_h3r_hrnet18(golden: Path) -> None:
    expected = load_file(golden / "h3r_hrnet18_full" / "case.safetensors")
    network = HRNet(HRNetSpec(channels=(18, 36, 72, 144), output="concat")).eval()
    with torch.inference_mode():
        closed_form_fill(network)
        (got,) = network(expected["in.x"])
    assert got.shape == (1, 270, 64, 64)
    tolerance = 1e-4 * expected["out.feature_slice"].std().item()
    torch.testing.assert_close(got[:, :, ::8, ::8], expected["out.feature_slice"], rtol=0, atol=tolerance)
    torch.testing.assert_close(got.mean((2, 3)), expected["out.feature_mean"], rtol=0, atol=tolerance)


def test_the_count_that_article_e_states() -> None:
    """HRNet18 with five points by randomized rounding: 9,637,050 parameters."""
    with torch.device("meta"):
        network = HRNet(HRNetSpec(channels=(18, 36, 72, 144), output="concat"))
        head = nn.Sequential(
            nn.Conv2d(270, 270, 1, bias=False), nn.BatchNorm2d(270), nn.ReLU(), nn.Conv2d(270, 5, 1, bias=False)
        )
    assert network.levels[0].channels == 270
    assert parameter_count(network, head) == 9_637_050
