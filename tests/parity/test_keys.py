"""Names and shapes of our networks' weights, and their number, against the references' lists: checkpoints load by key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from parity.systems.fomm_kp_detector import joined, untrained  # noqa: E402
from parity.systems.h3r_hrnet18_full import VARIANTS  # noqa: E402
from parity.systems.hrnet_pose_small import with_final_layer  # noqa: E402
from torch import nn  # noqa: E402

from fiducial.models.backbones.hrnet import WIDTHS, HRNet, HRNetSpec  # noqa: E402
from fiducial.models.checkpoints import fomm  # noqa: E402


def read(file: Path) -> dict[str, Any]:
    """A list that the goldens have; the test is skipped where they do not have it."""
    if not file.is_file():
        pytest.skip(f"these goldens have no {file.parent.name}/{file.name}")
    return json.loads(file.read_text())


def listing(module: nn.Module) -> list[list[Any]]:
    """[name, shape] in stored order, as the goldens list them."""
    return [[name, list(value.shape)] for name, value in module.state_dict().items()]


def parameter_count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


@pytest.mark.parametrize(("name", "count"), [("w32", 28_536_113), ("w48", 63_595_745)])
def test_pose_network_has_the_official_keys(golden: Path, name: str, count: int) -> None:
    reference = read(golden / "hrnet_w32_pose_full" / f"keys_{name}.json")
    with torch.device("meta"):
        network = with_final_layer(HRNet(HRNetSpec(channels=WIDTHS[f"hrnet_{name}"])), 17)
    assert listing(network) == [row[:2] for row in reference["state_dict"]]
    assert parameter_count(network) == count == reference["n_params"]


@pytest.mark.parametrize("name", VARIANTS)
def test_h3r_has_the_official_keys(golden: Path, name: str) -> None:
    folder = golden / "h3r_hrnet18_full"
    reference = read(folder / f"keys_{name}.json")
    with torch.device("meta"):
        network = HRNet(VARIANTS[name])
    assert listing(network) == [row[:2] for row in reference["state_dict"]]
    assert parameter_count(network) == read(folder / "params.json")["backbone"][name]


def test_the_motion_models_detector_has_the_official_keys(golden: Path) -> None:
    folder = golden / "fomm_kp_detector_full"
    reference, (case,) = read(folder / "keys.json"), read(folder / "case.json")["cases"]
    with torch.device("meta"):
        network = joined(*untrained(case["config"], torch.empty(case["config"]["size"])[:, None]))
    theirs = [[fomm.our_name(name), shape] for name, shape, *_ in reference["state_dict"] if name != "down.weight"]
    assert listing(network) == theirs


def test_the_count_that_is_stated_for_hrnet18_with_randomised_rounding() -> None:
    """Five points (H3R: Yu & Tao, "Heatmap regression via randomized rounding", TPAMI 2021): 9,637,050 parameters."""
    with torch.device("meta"):
        network = HRNet(VARIANTS["hrnet18"])
        head = nn.Sequential(
            nn.Conv2d(270, 270, 1, bias=False), nn.BatchNorm2d(270), nn.ReLU(), nn.Conv2d(270, 5, 1, bias=False)
        )
    assert network.levels[0].channels == 270
    assert parameter_count(network, head) == 9_637_050
