"""Files in the form of other projects, made of our networks, and what is asked of them in several tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import Tensor, nn  # noqa: E402

from fiducial.card import DetectorSpec  # noqa: E402
from fiducial.data import skeletons  # noqa: E402
from fiducial.errors import UserError  # noqa: E402
from fiducial.geometry import Size  # noqa: E402
from fiducial.models import detector  # noqa: E402
from fiducial.models.detector import Detector  # noqa: E402
from fiducial.types import Skeleton  # noqa: E402

State = dict[str, Tensor]
UPRIGHT = Size(64, 96)  # names of files have height x width: 96x64


def skeleton(points: int) -> Skeleton:
    return Skeleton("test", skeletons.numbered(points))


def made(backbone: str, method: str, head: dict[str, Any], points: int, size: Size = UPRIGHT) -> Detector:
    """Random weights, the norms' statistics those of two pictures, so that what comes out depends on the picture."""
    torch.manual_seed(7)
    network = detector.build(DetectorSpec(backbone, method, head, size, skeleton(points)))
    for module in network.modules():
        if isinstance(module, nn.ConvTranspose2d) or (isinstance(module, nn.Conv2d) and module.bias is not None):
            nn.init.normal_(module.weight, std=0.1)
        elif isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(crops(size))
    return network.eval()


def renamed(state: State, *pairs: tuple[str, str | None]) -> State:
    """Each name with the first of `pairs` (ours, theirs) that it begins with; left out where theirs is None."""
    result = {}
    for name, tensor in state.items():
        ours, theirs = next(pair for pair in pairs if name.startswith(pair[0]))
        if theirs is not None:
            result[theirs + name.removeprefix(ours)] = tensor.clone()
    return result


def crops(size: Size) -> Tensor:
    return torch.from_numpy(np.random.default_rng(3).integers(0, 256, (2, size.h, size.w, 3), dtype=np.uint8))


def assert_same(one: Detector, other: Detector, given: Tensor | None = None) -> None:
    """Equal points and scores, and points that depend on the picture."""
    picture = crops(one.spec.size)
    first, second = one.predict(picture), other.predict(picture if given is None else given)
    assert torch.equal(first.xy, second.xy)
    assert torch.equal(first.score, second.score)
    assert (first.xy[0] - first.xy[1]).abs().max() > 0.01


# Our network, their names for its parts, the file's name, what it is wrapped in.
RESNET = ("backbone.encoder.network.", "backbone.")
SPREAD = ("head.likelihood.", None)  # which only our own training knows
DECONVOLUTION = {"upsampling": "deconvolution", "channels": 16, "stride": 4, "loss": "mse", "sigma_cells": 2.0}
UDP = {"align": "corner", "decoder": "dark_udp", "loss": "mse"}
STRIDE = {"align": "stride", "decoder": "quarter"}
MAPS = {"upsampling": "none", "loss": "mse", "sigma_cells": 2.0}
H3R_HEAD = {"upsampling": "mixing", "two_class": True, "top_k": 9, "align": "stride", "decoder": "softmax"}
SIMCC = {"align": "stride", "decoder": "argmax"}
ROUND_TRIPS = {
    "HRNet's own": (
        ("hrnet_w18", "heatmap", {**MAPS, **STRIDE}, 5),
        [("backbone.", ""), ("head.final.", "final_layer.")],
        "pose_hrnet_w18_96x64.pth",
        lambda state: state,
    ),
    "MMPose 1.x, HRNet, UDP": (
        ("hrnet_w18", "heatmap", {**MAPS, "align": "corner", "decoder": "dark_udp"}, 5),
        [("backbone.", "backbone."), ("head.final.", "head.final_layer.")],
        "td-hm_hrnet-w18_udp-8xb64-210e_coco-96x64-7dbe1c24_20220913.pth",
        lambda state: {"state_dict": state},
    ),
    "MMPose 0.x, ResNet, DARK": (
        ("resnet18", "heatmap", {**DECONVOLUTION, "align": "stride", "decoder": "dark"}, 5),
        [RESNET, ("head.upsample.", "keypoint_head.deconv_layers."), ("head.final.", "keypoint_head.final_layer.")],
        "res18_coco_96x64_dark-8822b0f7_20200812.pth",
        lambda state: {"state_dict": state, "meta": {"epoch": 210}},
    ),
    "MMPose 1.x, CSPNeXt, maps": (
        ("cspnext_tiny", "heatmap", {**DECONVOLUTION, "align": "corner", "decoder": "dark_udp"}, 5),
        [("backbone.", "backbone."), ("head.upsample.", "head.deconv_layers."), ("head.final.", "head.final_layer.")],
        "cspnext-tiny_udp-96x64.pth",
        lambda state: {"state_dict": state},
    ),
    "RTMPose": (
        ("cspnext_tiny", "simcc", {"network": "rtmcc", "kernel": 7, "beta": 10.0, **SIMCC}, 5),
        [("backbone.", "module.backbone."), ("head.network.", "module.head.")],
        "best_coco_AP_epoch_420.pth",
        lambda state: {"state_dict": state, "meta": {}},
    ),
    "RTMW": (
        ("cspnext_tiny_pyramid", "simcc", {"network": "rtmw", "kernel": 7, "beta": 10.0, **SIMCC}, 5),
        [("backbone.neck.", "neck."), ("backbone.", "backbone."), ("head.network.", "head.")],
        "rtmw-t.pth",
        lambda state: {"state_dict": state},
    ),
    "MMPose 1.x, SimCC": (
        ("resnet18", "simcc", {"network": "plain", "split": 3.0, "sigma_bins": (6.0, 6.0), **SIMCC}, 5),
        [RESNET, ("head.network.final.", "head.final_layer."), ("head.network.linear_", "head.mlp_head_")],
        "simcc_res18.pth",
        lambda state: {"state_dict": state},
    ),
    "MMPose 1.x, regression": (
        ("resnet18", "deeppose", {"frame": "share"}, 5),
        [RESNET, ("head.linear.", "head.fc.")],
        "td-reg_res18-96x64.pth",
        lambda state: {"state_dict": state},
    ),
    "MMPose 1.x, RLE": (
        ("resnet18", "rle", {"frame": "share"}, 5),
        [RESNET, ("head.linear.", "head.fc."), ("head.likelihood.flow.", "head.loss_module.flow_model."), SPREAD],
        "td-reg_res18_rle-96x64.pth",
        lambda state: {"state_dict": state},
    ),
    "MMPose 0.x, RLE": (
        ("resnet18", "rle", {"frame": "share"}, 5),
        [
            RESNET,
            ("head.linear.", "keypoint_head.fc."),
            ("head.likelihood.flow.", "keypoint_head.loss.flow_model."),
            SPREAD,
        ],
        "res18_rle_96x64.pth",
        lambda state: {"state_dict": state},
    ),
    "H3R": (
        ("hrnet_w18_concat", "rounding", H3R_HEAD, 5),
        [
            ("backbone.", "backbone."),
            ("head.final.", "heatmap_head.head.layers.3."),
            ("head.upsample.", "heatmap_head.head.layers."),
        ],
        "hrnet18_96x64.pth",
        lambda state: {"model": state, "epoch": 3},
    ),
    "ViTPose": (
        ("vitpose_small", "heatmap", {**DECONVOLUTION, "align": "corner", "decoder": "dark_udp"}, 5, Size(192, 256)),
        [
            ("backbone.", "backbone."),
            ("head.upsample.", "keypoint_head.deconv_layers."),
            ("head.final.", "keypoint_head.final_layer."),
        ],
        "vitpose_small.pth",
        lambda state: {"state_dict": state},
    ),
    "ViTPose, simple decoder": (
        ("vitpose_small", "heatmap", {"upsampling": "resize", "stride": 4, "kernel": 3, **UDP}, 5, Size(192, 256)),
        [("backbone.", "backbone."), ("head.final.", "keypoint_head.final_layer.")],
        "vitpose_small_simple.pth",
        lambda state: {"state_dict": state},
    ),
}


def write(path: Path, state: State) -> Path:
    torch.save({"state_dict": state}, path)
    return path


def assert_refused(path: Path, message: str, load: Callable[[Path], Any] = detector.load_checkpoint) -> None:
    """One line that names the file."""
    with pytest.raises(UserError, match=message) as error:
        load(path)
    assert "\n" not in str(error.value)
    assert path.name in str(error.value)


def begun(
    backbone: str, method: str, points: int, head: dict[str, Any] | None = None, size: Size = UPRIGHT
) -> Detector:
    torch.manual_seed(1)
    return detector.build(DetectorSpec(backbone, method, head or {}, size, skeleton(points)))
