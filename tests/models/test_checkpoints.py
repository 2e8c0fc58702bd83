"""Files of other projects: recognised by their names, taken whole, answering as the network that was saved; and what is
broken, foreign or malicious is one line.

The key lists beside the goldens are what the projects' own networks hold. Without them, names are written out here."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import save_file  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from fiducial.data import skeletons  # noqa: E402
from fiducial.errors import UserError  # noqa: E402
from fiducial.geometry import Size  # noqa: E402
from fiducial.models import checkpoints, detector  # noqa: E402
from fiducial.models.checkpoints import Contents, _reader  # noqa: E402
from fiducial.models.detector import Detector, DetectorSpec  # noqa: E402
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
STRIDE = {"align": "stride", "decoder": "quarter"}
MAPS = {"upsampling": "none", "loss": "mse", "sigma_cells": 2.0}
H3R_HEAD = {"upsampling": "mixing", "two_class": True, "top_k": 9, "align": "stride", "decoder": "softmax"}
SIMCC = {"align": "stride", "decoder": "argmax"}
ROUND_TRIPS = {
    "HRNet's own": (
        ("hrnet_w18", "heatmap", {**MAPS, **STRIDE}, 5),
        [("backbone.", ""), ("head.final.", "final_layer.")],
        "pose_hrnet_w18_96x64.pth", lambda state: state,
    ),
    "MMPose 1.x, HRNet, UDP": (
        ("hrnet_w18", "heatmap", {**MAPS, "align": "corner", "decoder": "dark_udp"}, 5),
        [("backbone.", "backbone."), ("head.final.", "head.final_layer.")],
        "td-hm_hrnet-w18_udp-8xb64-210e_coco-96x64-7dbe1c24_20220913.pth", lambda state: {"state_dict": state},
    ),
    "MMPose 0.x, ResNet, DARK": (
        ("resnet18", "heatmap", {**DECONVOLUTION, "align": "stride", "decoder": "dark"}, 5),
        [RESNET, ("head.upsample.", "keypoint_head.deconv_layers."), ("head.final.", "keypoint_head.final_layer.")],
        "res18_coco_96x64_dark-8822b0f7_20200812.pth", lambda state: {"state_dict": state, "meta": {"epoch": 210}},
    ),
    "MMPose 1.x, CSPNeXt, maps": (
        ("cspnext_tiny", "heatmap", {**DECONVOLUTION, "align": "corner", "decoder": "dark_udp"}, 5),
        [("backbone.", "backbone."), ("head.upsample.", "head.deconv_layers."), ("head.final.", "head.final_layer.")],
        "cspnext-tiny_udp-96x64.pth", lambda state: {"state_dict": state},
    ),
    "RTMPose": (
        ("cspnext_tiny", "simcc", {"network": "rtmcc", "kernel": 7, "beta": 10.0, **SIMCC}, 5),
        [("backbone.", "module.backbone."), ("head.network.", "module.head.")],
        "best_coco_AP_epoch_420.pth", lambda state: {"state_dict": state, "meta": {}},
    ),
    "MMPose 1.x, SimCC": (
        ("resnet18", "simcc", {"network": "plain", "split": 3.0, "sigma_bins": (6.0, 6.0), **SIMCC}, 5),
        [RESNET, ("head.network.final.", "head.final_layer."), ("head.network.linear_", "head.mlp_head_")],
        "simcc_res18.pth", lambda state: {"state_dict": state},
    ),
    "MMPose 1.x, regression": (
        ("resnet18", "deeppose", {"frame": "share"}, 5), [RESNET, ("head.linear.", "head.fc.")],
        "td-reg_res18-96x64.pth", lambda state: {"state_dict": state},
    ),
    "MMPose 1.x, RLE": (
        ("resnet18", "rle", {"frame": "share"}, 5),
        [RESNET, ("head.linear.", "head.fc."), ("head.likelihood.flow.", "head.loss_module.flow_model."), SPREAD],
        "td-reg_res18_rle-96x64.pth", lambda state: {"state_dict": state},
    ),
    "MMPose 0.x, RLE": (
        ("resnet18", "rle", {"frame": "share"}, 5),
        [RESNET, ("head.linear.", "keypoint_head.fc."), ("head.likelihood.flow.", "keypoint_head.loss.flow_model."), SPREAD],
        "res18_rle_96x64.pth", lambda state: {"state_dict": state},
    ),
    "H3R": (
        ("hrnet_w18_concat", "rounding", H3R_HEAD, 5),
        [("backbone.", "backbone."), ("head.final.", "heatmap_head.head.layers.3."),
         ("head.upsample.", "heatmap_head.head.layers.")],
        "hrnet18_96x64.pth", lambda state: {"model": state, "epoch": 3},
    ),
    "ViTPose": (
        ("vitpose_small", "heatmap", {**DECONVOLUTION, "align": "corner", "decoder": "dark_udp"}, 5, Size(192, 256)),
        [("backbone.", "backbone."), ("head.upsample.", "keypoint_head.deconv_layers."),
         ("head.final.", "keypoint_head.final_layer.")],
        "vitpose_small.pth", lambda state: {"state_dict": state},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_a_file_answers_as_the_network_that_was_saved(name: str, tmp_path: Path):
    arguments, pairs, file, wrap = ROUND_TRIPS[name]
    original = made(*arguments)
    state = renamed(original.state_dict(), *pairs)
    torch.save(wrap(state), tmp_path / file)
    loaded, card, report = detector.load_checkpoint(tmp_path / file)
    assert not loaded.training
    assert loaded.spec.backbone == arguments[0]
    assert loaded.spec.method == arguments[1]
    given = {key: loaded.spec.head[key] for key in arguments[2]}
    assert {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()} == arguments[2]
    assert (loaded.spec.size, len(loaded.spec.skeleton.points)) == (original.spec.size, 5)
    assert_same(original, loaded)
    assert f"{len(state)} of {len(state)} tensors taken" in report
    assert "not used" not in report
    assert card.initialization == str(tmp_path / file)
    assert card.licence == "unknown"
    assert loaded.spec.skeleton.flip_pairs is None
    assert card == replace(detector.load_card(tmp_path / file), spec=loaded.spec)
    assert_same(original, detector.load(tmp_path / file)[0])


# ------------------------------------------------------------------------------------------------------- key lists

COCO, WFLW = skeletons.COCO17, skeletons.WFLW98
POSE, H3R, RTM, VIT = "hrnet_w32_pose_full", "h3r_hrnet18_full", "rtmcc_head", "vitpose_small"
KEY_LISTS: list[tuple[list[tuple[str, str, str]], str, str, Skeleton, Size]] = [
    ([(POSE, "keys_w32", "")], "pose_hrnet_w32_256x192.pth", "hrnet_w32", COCO, Size(192, 256)),
    ([(POSE, "keys_w48", "")], "pose_hrnet_w48_384x288.pth", "hrnet_w48", COCO, Size(288, 384)),
    (
        [(H3R, "keys_hrnet18", "backbone."), (H3R, "keys_head98", "heatmap_head.head.")],
        "p1.pth", "hrnet_w18_concat", WFLW, Size(256, 256),
    ),
    (
        [(H3R, "keys_hrnet32", "module.backbone."), (H3R, "keys_head98", "module.heatmap_head.head.")],
        "p1.pth", "hrnet_w32_concat", WFLW, Size(256, 256),
    ),
    ([(RTM, "keys_rtmpose_s", "")], "rtmpose-s.pth", "cspnext_s", COCO, Size(192, 256)),
    ([(RTM, "keys_rtmpose_m", "")], "rtmpose-m.pth", "cspnext_m", COCO, Size(192, 256)),
    ([(VIT, "keys_vitpose_small", "")], "vitpose-s.pth", "vitpose_small", COCO, Size(192, 256)),
    ([(VIT, "keys_vitpose_base", "")], "vitpose-b.pth", "vitpose_base", COCO, Size(192, 256)),
]  # fmt: skip


def listed(golden: Path, lists: list[tuple[str, str, str]]) -> State:
    """The references' own networks, as tensors without memory."""
    state = {}
    for folder, name, prefix in lists:
        file = golden / folder / f"{name}.json"
        if not file.exists():
            pytest.skip(f"these goldens have no {file.name}")
        for key, shape, dtype, _ in json.loads(file.read_text())["state_dict"]:
            state[prefix + key] = torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
    return state


def widened(state: State, channels: int) -> State:
    """H3R's head, listed for 270 channels, on another backbone."""
    return {
        name: torch.empty(
            [channels if side == 270 else side for side in tensor.shape], dtype=tensor.dtype, device="meta"
        )
        for name, tensor in state.items()
    }


@pytest.mark.parametrize("case", KEY_LISTS, ids=lambda case: f"{case[2]}-{case[1]}")
def test_the_projects_own_networks_are_taken_whole(case: Any, golden: Path):
    lists, file, backbone, known, size = case
    state = listed(golden, lists)
    if backbone == "hrnet_w32_concat":
        state = widened(state, 32 + 64 + 128 + 256)
    contents = _reader.unwrapped(Path(file), {"state_dict": state})
    assert sum(source.recognise(contents.shapes) for source in checkpoints.sources()) == 1
    source = checkpoints.source_of(contents.shapes)
    assert source is not None
    plan = source.plan(contents)
    assert (plan.backbone, plan.skeleton, plan.size) == (backbone, known, size)
    with torch.device("meta"):
        network = detector.build(detector._card_of(plan, Path(file)).spec)
        report = checkpoints.fill(network, plan, Path(file))
    assert sorted(plan.names.values()) == sorted(contents.state), "every name of theirs, once"
    assert plan.names.keys() == network.state_dict().keys(), "and every one of ours"
    assert f"{len(state)} of {len(state)} tensors taken" in report


def test_every_source_is_a_file_of_the_folder():
    names = {source.PROJECT for source in checkpoints.sources()}
    assert len(names) == len(list(Path(checkpoints.__file__).parent.glob("[!_]*.py"))) >= 5
    mine = made("cspnext_tiny", "deeppose", {}, 3).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in mine.items()}
    assert checkpoints.source_of(shapes) is None, "our own files are nobody else's"


# ----------------------------------------------------------------------- tensors that are changed on their way here


def test_resnets_of_hrnets_code_saw_blue_first(tmp_path: Path):
    """The network as it was trained, given BGR with RGB's statistics, and the one that is loaded, given RGB, agree."""
    head = {**DECONVOLUTION, **STRIDE}
    original = made("resnet18", "heatmap", head, 5)
    pairs = [("backbone.encoder.network.", ""), ("head.upsample.", "deconv_layers."), ("head.final.", "final_layer.")]
    torch.save(renamed(original.state_dict(), *pairs), tmp_path / "pose_resnet_18_96x64.pth")
    loaded, *_ = detector.load_checkpoint(tmp_path / "pose_resnet_18_96x64.pth")
    rgb = crops(UPRIGHT)
    with torch.no_grad():
        theirs, ours = original(rgb.flip(-1)), loaded(rgb)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(original(rgb), theirs, rtol=0.01, atol=0.01), "the order of colours does matter"


@pytest.mark.parametrize("names", [("head.conv_layers.", "head.final_layer."), ("keypoint_head.final_layer.", "keypoint_head.final_layer.3.")])  # fmt: skip
def test_mmposes_face_networks(tmp_path: Path, names: tuple[str, str]):
    """HRNet's stacked maps, a 1x1 convolution with a bias (which ours has not), norm, last convolution."""
    original = made("hrnet_w18_concat", "heatmap", {**MAPS, "upsampling": "mixing"}, 5, Size(64, 64))
    mixing = nn.Sequential(nn.Conv2d(270, 270, 1), nn.BatchNorm2d(270), nn.ReLU())
    norm = mixing[1]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    norm.running_mean.normal_()
    last = nn.Conv2d(270, 5, 1)
    backbone = {name: tensor for name, tensor in original.state_dict().items() if name.startswith("backbone.")}
    head = {names[0] + name: tensor for name, tensor in mixing.state_dict().items()}
    head |= {names[1] + name: tensor for name, tensor in last.state_dict().items()}
    torch.save({"state_dict": backbone | head}, tmp_path / "hrnetv2_w18_64x64.pth")
    loaded, _, report = detector.load_checkpoint(tmp_path / "hrnetv2_w18_64x64.pth")
    assert loaded.spec.backbone == "hrnet_w18_concat"
    picture = crops(Size(64, 64))
    with torch.no_grad():
        expected = last(mixing.eval()(original.features(picture)[0]))
        torch.testing.assert_close(loaded(picture), expected, rtol=1e-4, atol=1e-4)
    assert "not used: 1 tensors (is part of the norm's mean)" in report


def test_vitpose_as_mmpose_1_names_it(tmp_path: Path):
    """Names of MMPretrain's transformer, whose positions have no entry for a class token."""
    arguments, *_ = ROUND_TRIPS["ViTPose"]
    original = made(*arguments)
    with torch.no_grad():
        original.backbone.get_parameter("pos_embed")[:, 0] = 0
    state = renamed(
        original.state_dict(), ("backbone.patch_embed.proj.", "backbone.patch_embed.projection."),
        ("backbone.last_norm.", "backbone.ln1."), ("backbone.", "backbone."), ("head.upsample.", "head.deconv_layers."),
        ("head.final.", "head.final_layer."),
    )  # fmt: skip
    parts = {"norm1": "ln1", "norm2": "ln2", "mlp.fc1": "ffn.layers.0.0", "mlp.fc2": "ffn.layers.1", "attn": "attn"}
    theirs = {}
    for name, tensor in state.items():
        found = re.fullmatch(rf"backbone\.blocks\.(\d+)\.({'|'.join(parts)})\.(.+)", name)
        theirs[f"backbone.layers.{found[1]}.{parts[found[2]]}.{found[3]}" if found else name] = tensor
    theirs["backbone.pos_embed"] = theirs["backbone.pos_embed"][:, 1:]
    torch.save({"state_dict": theirs}, tmp_path / "td-hm_ViTPose-small.pth")
    loaded, *_ = detector.load_checkpoint(tmp_path / "td-hm_ViTPose-small.pth")
    assert_same(original, loaded)


# --------------------------------------------------------------------------------------- what is written beside them


@pytest.fixture(scope="module")
def rtmpose() -> State:
    arguments, *_ = ROUND_TRIPS["RTMPose"]
    return renamed(made(*arguments).state_dict(), ("head.network.", "head."), ("", ""))


def described(points: int) -> dict[str, Any]:
    """What MMPose 1.x writes of a data set, numpy arrays and numbers among it."""
    return {
        "dataset_name": "blobs", "num_keypoints": points, "flip_indices": [1, 0, *range(2, points)],
        "keypoint_id2name": {i: f"spot {'abcdefgh'[i]}" for i in range(points)}, "skeleton_links": [(0, 1), (1, 2)],
        "sigmas": np.linspace(0.02, 0.1, points, dtype=np.float32), "weight": np.float64(0.5),
        "colours": np.array([[0, 255, 0]] * points, dtype=np.uint8),
    }  # fmt: skip


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("spelling", ["numpy._core.multiarray", "numpy.core.multiarray"])
def test_the_data_set_that_a_file_names(rtmpose: State, tmp_path: Path, legacy: bool, spelling: str):
    """Read whatever numpy wrote it, 1 or 2, in torch's zip or its old pickle."""
    file = tmp_path / "epoch_420.pth"
    torch.save({"meta": {"dataset_meta": described(5), "seed": 1}, "state_dict": rtmpose}, file,
               _use_new_zipfile_serialization=not legacy)  # fmt: skip
    written = file.read_bytes()
    if spelling == "numpy.core.multiarray":
        import zipfile

        old, new = b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"
        if legacy:
            file.write_bytes(written.replace(old, new))
            assert new in file.read_bytes()
        else:
            with zipfile.ZipFile(file) as source:
                entries = {entry.filename: source.read(entry) for entry in source.infolist()}
            with zipfile.ZipFile(file, "w") as target:
                for name, content in entries.items():
                    target.writestr(name, content.replace(old, new) if name.endswith("data.pkl") else content)
                    assert not name.endswith("data.pkl") or old in content
    loaded, *_ = detector.load_checkpoint(file)
    found = loaded.spec.skeleton
    assert found.points == tuple(f"spot {letter}" for letter in "abcde")
    assert found.name == "blobs"
    assert found.flip_pairs == ((0, 1),)
    assert found.edges == ((0, 1), (1, 2))
    assert found.sigmas == pytest.approx(np.linspace(0.02, 0.1, 5))


def test_the_configuration_says_size_and_decoder(tmp_path: Path):
    (backbone, method, *_), pairs, _, _ = ROUND_TRIPS["MMPose 1.x, HRNet, UDP"]
    state = renamed(made(backbone, method, MAPS, 5).state_dict(), *pairs)
    said = {
        "codec = dict(type='MSRAHeatmap', input_size=(96, 64), heatmap_size=(24, 16), sigma=1.5, unbiased=True)": (
            Size(96, 64), "stride", "dark", 1.5,
        ),
        "codec = dict(type='UDPHeatmap', input_size=(96, 128), sigma=2)": (Size(96, 128), "corner", "dark_udp", 2.0),
        "data_cfg = dict(\n    image_size=[64, 32])": (Size(64, 32), "stride", "quarter", 2.0),
    }  # fmt: skip
    for text, (size, align, decoder, sigma) in said.items():
        torch.save({"meta": {"cfg": text}, "state_dict": state}, tmp_path / "epoch_1.pth")
        spec = detector.load_card(tmp_path / "epoch_1.pth").spec
        assert (spec.size, spec.head["align"], spec.head["decoder"]) == (size, align, decoder)
        assert spec.head["sigma_cells"] == sigma


def test_seventeen_points_are_a_persons():
    state = {"final": torch.zeros(1)}
    contents = Contents(Path("a.pth"), state)
    from fiducial.models.checkpoints import _plan

    assert _plan.skeleton_of(contents, 17) == COCO
    assert _plan.skeleton_of(contents, 106) == skeletons.LAPA106
    assert _plan.skeleton_of(contents, 5).points == ("point_0", "point_1", "point_2", "point_3", "point_4")
    assert _plan.skeleton_of(contents, 5).flip_pairs is None


def test_without_counters_of_norms(rtmpose: State, tmp_path: Path):
    """torch before 0.4.1 wrote none; other things that are missing are an error."""
    bare = {name: tensor for name, tensor in rtmpose.items() if not name.endswith("num_batches_tracked")}
    save_file(bare, tmp_path / "a.safetensors")
    loaded, _, report = detector.load_checkpoint(tmp_path / "a.safetensors")
    assert f"{len(bare)} of {len(bare)} tensors taken; missing: {len(rtmpose) - len(bare)} counters" in report
    torch.save(rtmpose, tmp_path / "b.pth")
    assert_same(loaded, detector.load_checkpoint(tmp_path / "b.pth")[0])


# ----------------------------------------------------------------------------------------------------- what is wrong


def write(path: Path, state: State) -> Path:
    torch.save({"state_dict": state}, path)
    return path


def assert_refused(path: Path, message: str, load: Callable[[Path], Any] = detector.load_checkpoint) -> None:
    """One line that names the file."""
    with pytest.raises(UserError, match=message) as error:
        load(path)
    assert "\n" not in str(error.value)
    assert path.name in str(error.value)


def test_tensors_that_are_missing_wrong_or_too_many(rtmpose: State, tmp_path: Path):
    def changed(**tensors: Tensor | None) -> Path:
        state = {**rtmpose, **{name.replace("__", "."): tensor for name, tensor in tensors.items()}}
        return write(tmp_path / "a.pth", {name: tensor for name, tensor in state.items() if tensor is not None})

    assert_refused(changed(head__mlp__0__g=None), r"not a complete simcc head: head\.network\.mlp\.0\.g \(missing\)")
    assert_refused(
        changed(backbone__stage1__0__bn__bias=None), r"architecture differs from cspnext_tiny: .*bn\.bias \(missing\)"
    )
    wide = torch.zeros(24, 12, 5, 5)
    assert_refused(
        changed(backbone__stem__2__conv__weight=wide),
        r"architecture differs.*\[24, 12, 5, 5\], expected \[24, 12, 3, 3\]",
    )
    assert_refused(
        changed(backbone__neck__weight=wide),
        r"architecture differs from cspnext_tiny: backbone\.neck\.weight \(has no place",
    )
    assert_refused(
        changed(neck__weight=wide), r"architecture differs: 1 tensors have no place in it, such as neck\.weight"
    )
    assert_refused(changed(head__gau__w=torch.zeros(9)), "relative bias")
    assert_refused(changed(head__cls_y__weight=torch.zeros(144, 256)), "input size differs")


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_no_tensor_of_a_head_can_be_missing_or_of_another_shape(name: str):
    arguments, pairs, file, wrap = ROUND_TRIPS[name]
    network = detector.build(DetectorSpec(*arguments[:3], (*arguments, UPRIGHT)[4], skeleton(arguments[3])))
    state = renamed(network.state_dict(), *pairs)
    of_backbone = [name for name in state if "head" not in name and not name.startswith(("final", "head"))]
    theirs = [name for name in state if name not in of_backbone] + of_backbone[:: len(of_backbone) // 9]
    theirs = [name for name in theirs if not name.endswith("num_batches_tracked")]
    for broken in theirs:
        for replacement in ({}, {broken: torch.zeros(*(side + 2 for side in state[broken].shape))}):
            changed = {key: tensor for key, tensor in state.items() if key != broken} | replacement
            contents = _reader.unwrapped(Path(file), wrap(changed))
            source = checkpoints.source_of(contents.shapes)
            if source is not None:
                with pytest.raises(UserError, match=file):
                    checkpoints.fill(network, source.plan(contents), Path(file))


def test_wrong_number_of_points_within_a_file(tmp_path: Path):
    arguments, pairs, file, _ = ROUND_TRIPS["HRNet's own"]
    state = renamed(made(*arguments).state_dict(), *pairs)
    assert_refused(write(tmp_path / file, {**state, "final_layer.bias": torch.zeros(6)}), "number of points differs")
    narrow = {name: tensor[: len(tensor) // 2] if tensor.ndim else tensor for name, tensor in state.items()}
    assert_refused(write(tmp_path / file, narrow), "nobody knows these")


def test_another_input_size(rtmpose: State, tmp_path: Path):
    """A head that has one weight a cell fits one size; maps fit any."""
    file = write(tmp_path / "rtmpose.pth", rtmpose)
    assert_refused(
        file, "input size differs, its head is for 64x96", lambda path: detector.load_checkpoint(path, Size(64, 64))
    )
    arguments, pairs, name, _ = ROUND_TRIPS["HRNet's own"]
    file = write(tmp_path / name, renamed(made(*arguments).state_dict(), *pairs))
    loaded, card, _ = detector.load_checkpoint(file, Size(128, 64))
    assert card.spec.size == Size(128, 64)
    assert loaded.predict(crops(Size(128, 64))).xy.shape == (2, 5, 2)
    short = {"backbone.pos_embed": torch.zeros(1, 145, 384)}
    state = renamed(made(*ROUND_TRIPS["ViTPose"][0]).state_dict(), *ROUND_TRIPS["ViTPose"][1])
    assert_refused(
        write(tmp_path / "vit.pth", state | short), "input size differs: positions of 144 patches; expected 192"
    )


def test_backbones_alone_cannot_predict(tmp_path: Path):
    arguments, *_ = ROUND_TRIPS["RTMPose"]
    state = {name: t for name, t in made(*arguments).state_dict().items() if name.startswith("backbone.")}
    assert_refused(
        write(tmp_path / "cspnext.pth", state), "a backbone without a head; train one: .*--backbone cspnext_tiny --init"
    )


def test_heads_that_are_not_ours(tmp_path: Path):
    arguments, pairs, *_ = ROUND_TRIPS["MMPose 1.x, HRNet, UDP"]
    state = renamed(made(*arguments).state_dict(), *pairs)
    assert_refused(write(tmp_path / "td-hm_hrnet-w18_udp-regress.pth", state), "maps with offsets")
    state = renamed(made(*ROUND_TRIPS["ViTPose"][0]).state_dict(), *ROUND_TRIPS["ViTPose"][1])
    simple = {name: tensor for name, tensor in state.items() if "deconv_layers" not in name}
    assert_refused(write(tmp_path / "vitpose-simple.pth", simple), "simple decoder")
    h3r = {"backbone.features.0.weight": torch.zeros(3)} | {
        f"heatmap_head.head.layers.{i}.weight": torch.zeros(4, 4, 1, 1) for i in (0, 3)
    }
    assert_refused(write(tmp_path / "mobilenet.pth", h3r), "H3R's head on a backbone that Fiducial has not")


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("form", ["zip", "legacy", "bare pickle"])
def test_code_in_a_file_is_not_run(rtmpose: State, tmp_path: Path, form: str):
    file, target = tmp_path / "free_weights.pth", tmp_path / "owned"
    content = {"state_dict": rtmpose, "meta": Evil(target)}
    if form == "bare pickle":
        file.write_bytes(pickle.dumps({"meta": Evil(target)}))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=form == "zip")
    for load in (detector.load_checkpoint, detector.load, detector.load_card):
        assert_refused(file, r"refused: reading it would run `(posix|os)\.system`.*weights_only=False", load)
    assert not target.exists()
    torch.load(file, weights_only=False) if form != "bare pickle" else pickle.loads(file.read_bytes())
    assert target.exists(), "the file does run its command where it is let"


def test_a_whole_pickled_network_is_refused(tmp_path: Path):
    torch.save({"model": nn.Linear(2, 3)}, tmp_path / "whole.pth")
    assert_refused(tmp_path / "whole.pth", r"would run `torch\.nn\.modules\.linear\.Linear`")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kept", [3, 40, 5000, -40])
def test_cut_off_files(rtmpose: State, tmp_path: Path, legacy: bool, kept: int):
    file = tmp_path / "cut.pth"
    torch.save(rtmpose, file, _use_new_zipfile_serialization=not legacy)
    file.write_bytes(file.read_bytes()[:kept])
    assert_refused(file, "cut off, damaged or something else")


def test_a_cut_off_safetensors_file(rtmpose: State, tmp_path: Path):
    save_file(rtmpose, tmp_path / "cut.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "cut.safetensors").read_bytes()[:-40])
    assert_refused(tmp_path / "cut.safetensors", "can't be read as safetensors")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 114\n", "Git LFS pointer.*git lfs pull"),
        (b"\n<!DOCTYPE html><html>Sign in</html>", "a web page, not weights"),
        (b"some text that is no weights at all, and long enough", "cut off, damaged or something else"),
    ],
)
def test_what_is_no_weights_file(content: bytes, message: str, tmp_path: Path):
    (tmp_path / "a.pth").write_bytes(content)
    assert_refused(tmp_path / "a.pth", message)


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), {"epoch": 3}, {"state_dict": {"epoch": 3}}, {}, "text"])
def test_files_without_named_tensors(content: Any, tmp_path: Path):
    torch.save(content, tmp_path / "a.pth")
    assert_refused(tmp_path / "a.pth", "no named tensors in it")


def test_a_network_that_nobody_knows(tmp_path: Path):
    assert_refused(
        write(tmp_path / "a.pth", nn.Linear(2, 3).state_dict()), "nobody knows these 2 tensors, first 'weight'.*MMPose"
    )
    assert_refused(tmp_path / "nowhere.pth", "no trained model here", detector.load)
    assert_refused(
        write(tmp_path / "b.pth", begun("resnet18", "rle", 5).state_dict()), "weights of ours without their model.json"
    )


def test_weights_that_are_not_finite(tmp_path: Path):
    state = nn.Linear(2, 3).state_dict()
    state["bias"][1] = torch.nan
    assert_refused(write(tmp_path / "a.pth", state), "bias holds NaN or infinity")


# --------------------------------------------------------------------------------------------------------- fit --init


def begun(
    backbone: str, method: str, points: int, head: dict[str, Any] | None = None, size: Size = UPRIGHT
) -> Detector:
    torch.manual_seed(1)
    return detector.build(DetectorSpec(backbone, method, head or {}, size, skeleton(points)))


def test_init_takes_the_head_where_it_fits(rtmpose: State, tmp_path: Path):
    file = write(tmp_path / "rtmpose.pth", rtmpose)
    head = {"network": "rtmcc", "kernel": 7}
    same = begun("cspnext_tiny", "simcc", 5, head)
    line = detector.initialise_from(same, file)
    assert f"{len(rtmpose)} of {len(rtmpose)} tensors taken" in line
    assert "random" not in line
    assert torch.equal(same.state_dict()["head.network.cls_x.weight"], rtmpose["head.cls_x.weight"])

    fewer = begun("cspnext_tiny", "simcc", 3, head)
    line = detector.initialise_from(fewer, file)
    assert "random as before: head.network.final_layer.weight, head.network.final_layer.bias;" in line
    assert torch.equal(fewer.state_dict()["head.network.cls_x.weight"], rtmpose["head.cls_x.weight"])
    assert fewer.state_dict()["head.network.final_layer.weight"].shape[0] == 3


def test_init_of_another_method_takes_the_backbone(rtmpose: State, tmp_path: Path):
    file = write(tmp_path / "rtmpose.pth", rtmpose)
    other = begun("cspnext_tiny", "heatmap", 5, size=Size(64, 64))
    before = other.state_dict()["head.final.weight"].clone()
    line = detector.initialise_from(other, file)
    assert "its head is of --method simcc, so that of heatmap starts at random" in line
    assert "trained for --size 64x96 (that of its head), yours is 64x64" in line
    assert torch.equal(other.state_dict()["head.final.weight"], before)
    assert torch.equal(other.state_dict()["backbone.stem.0.conv.weight"], rtmpose["backbone.stem.0.conv.weight"])


def test_init_of_another_backbone_says_what_to_ask_for(rtmpose: State, tmp_path: Path):
    file = write(tmp_path / "rtmpose.pth", rtmpose)
    other = begun("resnet18", "heatmap", 5)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    message = r"does not fit backbone 'resnet18': .*first backbone\..*the file's is cspnext_tiny: use --backbone cspnext_tiny --method simcc --size 64x96"
    assert_refused(file, message, lambda path: detector.initialise_from(other, path))
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items()), "nothing in part"


def test_init_from_imagenet_hrnet(tmp_path: Path):
    """The classifier's parts stay behind; the pose network's single output leaves exchanges unused."""
    branches = made("hrnet_w18_branches", "heatmap", {}, 5).backbone.state_dict()
    state = {**branches, "incre_modules.0.0.conv1.weight": torch.zeros(3), "classifier.weight": torch.zeros(10, 3)}
    file = write(tmp_path / "hrnetv2_w18_imagenet_pretrained.pth", state)
    for name in ("hrnet_w18", "hrnet_w18_branches", "hrnet_w18_concat"):
        network = begun(name, "heatmap", 5)
        line = detector.initialise_from(network, file)
        own = network.backbone.state_dict()
        assert all(torch.equal(tensor, branches[key]) for key, tensor in own.items())
        assert "it has a backbone alone, so the head starts at random" in line
        assert "(the whole head)" in line
        assert "not used: " in line
    assert_refused(file, "a backbone without a head")


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "vit_tiny_patch16_224", "unet_resnet18"])
def test_init_from_timms_own_files(name: str, tmp_path: Path):
    """Networks of timm as timm writes them, whatever their names become where maps are taken from them."""
    from fiducial.models.pretrained import timm_library

    torch.manual_seed(4)
    donor = timm_library().create_model(name.removeprefix("unet_"))
    file = write(tmp_path / "donor.pth", donor.state_dict())
    network = begun(name, "heatmap", 5, size=Size(64, 64))
    line = detector.initialise_from(network, file)
    own = {k: v for k, v in network.backbone.state_dict().items() if k.startswith("encoder.")}
    expected = {key.replace(".", "_"): tensor for key, tensor in donor.state_dict().items()}
    for key, tensor in own.items():
        plain = key.removeprefix("encoder.network.").removeprefix("model.").replace(".", "_")
        assert torch.equal(tensor, expected[plain])
    assert "(the whole head)" in line or name.startswith("unet")


def test_init_from_mmpretrains_backbone(tmp_path: Path):
    state = renamed(made("resnet18", "deeppose", {}, 5).state_dict(), RESNET, ("head.linear.", "head.fc."))
    state |= {"head.fc.weight": torch.zeros(1000, 512), "head.fc.bias": torch.zeros(1000)}
    network = begun("resnet18", "heatmap", 5)
    line = detector.initialise_from(network, write(tmp_path / "resnet18_8xb32_in1k.pth", state))
    assert "recognised as MMPose, resnet18; it has a backbone alone" in line
    assert torch.equal(network.state_dict()["backbone.encoder.network.conv1.weight"], state["backbone.conv1.weight"])
