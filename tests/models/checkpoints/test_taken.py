"""Files of other projects: recognised by their names, taken whole, answering as the network that was saved.

The key lists beside the goldens are what the projects' own networks hold. Without them, names are written out here."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from models.checkpoints.files import (  # noqa: E402
    DECONVOLUTION,
    MAPS,
    ROUND_TRIPS,
    STRIDE,
    UPRIGHT,
    State,
    assert_same,
    crops,
    made,
    renamed,
    skeleton,
)
from safetensors.torch import save_file  # noqa: E402
from torch import nn  # noqa: E402

from fiducial.card import DetectorSpec  # noqa: E402
from fiducial.data import skeletons  # noqa: E402
from fiducial.errors import UserError  # noqa: E402
from fiducial.geometry import Size  # noqa: E402
from fiducial.models import checkpoints, detector  # noqa: E402
from fiducial.models.backbones import timm_family  # noqa: E402
from fiducial.models.checkpoints import Contents, _reader  # noqa: E402
from fiducial.types import Skeleton  # noqa: E402


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
    assert card.terms == "not stated"
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
        "p1.pth",
        "hrnet_w18_concat",
        WFLW,
        Size(256, 256),
    ),
    (
        [(H3R, "keys_hrnet32", "module.backbone."), (H3R, "keys_head98", "module.heatmap_head.head.")],
        "p1.pth",
        "hrnet_w32_concat",
        WFLW,
        Size(256, 256),
    ),
    ([(RTM, "keys_rtmpose_s", "")], "rtmpose-s.pth", "cspnext_s", COCO, Size(192, 256)),
    ([(RTM, "keys_rtmpose_m", "")], "rtmpose-m.pth", "cspnext_m", COCO, Size(192, 256)),
    ([(VIT, "keys_vitpose_small", "")], "vitpose-s.pth", "vitpose_small", COCO, Size(192, 256)),
    ([(VIT, "keys_vitpose_base", "")], "vitpose-b.pth", "vitpose_base", COCO, Size(192, 256)),
]


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


# Backbone -> some of MMPose's names (from its own networks, 1.3.2) and ours; where renaming ours by `KIN` does not do.
POOLED = {
    "layer1.0.downsample.0.weight": "layer1.0.downsample.1.weight",
    "layer2.0.downsample.1.weight": "layer2.0.downsample.1.weight",
}
DEEP = {
    "stem.0.conv.weight": "conv1.0.weight",
    "stem.1.bn.bias": "conv1.4.bias",
    "stem.2.conv.weight": "conv1.6.weight",
    "stem.2.bn.bias": "bn1.bias",
}
LITERAL = {
    "resnet50d": {**DEEP, **POOLED, "layer1.0.conv2.weight": "layer1.0.conv2.weight"},
    "resnest50d": {**DEEP, **POOLED, "layer1.0.conv2.fc1.weight": "layer1.0.conv2.fc1.weight"},
    "resnest101d": {**DEEP, "layer3.22.conv2.conv.weight": "layer3.22.conv2.conv.weight"},
    "resnext152_32x4d": {"layer3.35.conv2.weight": "layer3.35.conv2.weight"},
    "seresnet50": {"layer1.0.se_layer.conv1.conv.weight": "layer1.0.se.fc1.weight", "layer1.0.downsample.0.weight": "layer1.0.downsample.0.weight"},
    "resnext50_32x4d": {"layer1.0.conv2.weight": "layer1.0.conv2.weight"},
    "scnet50": {"layer1.0.scconv.k2.2.weight": "layer1.0.scconv.k2.2.weight", "layer4.2.k1.0.weight": "layer4.2.k1.0.weight"},
    "mobilenetv2_100_whole": {
        "conv1.conv.weight": "conv_stem.weight", "conv2.bn.weight": "bn2.weight",
        "layer1.0.conv.0.conv.weight": "blocks.0.0.conv_dw.weight", "layer1.0.conv.1.bn.weight": "blocks.0.0.bn2.weight",
        "layer7.0.conv.2.conv.weight": "blocks.6.0.conv_pwl.weight", "layer7.0.conv.1.bn.bias": "blocks.6.0.bn2.bias",
    },
}  # fmt: skip
KIN = {
    "resnet50d": [(r"^bn1\.", "stem.2.bn."), (r"^conv1\.([036])\.", lambda m: f"stem.{int(m[1]) // 3}.conv."),
                  (r"^conv1\.([14])\.", lambda m: f"stem.{int(m[1]) // 3}.bn."),
                  (r"^layer1\.0\.downsample\.([12])", lambda m: f"layer1.0.downsample.{int(m[1]) - 1}")],
    "seresnet50": [(r"\.se\.fc([12])\.", r".se_layer.conv\1.conv.")],
    "resnext50_32x4d": [],
    "mobilenetv2_100_whole": [
        (r"^conv_stem\.", "conv1.conv."), (r"^bn1\.", "conv1.bn."), (r"^conv_head\.", "conv2.conv."), (r"^bn2\.", "conv2.bn."),
        (r"^blocks\.0\.0\.(conv_dw|bn1)\.", lambda m: f"layer1.0.conv.0.{'bn' if m[1] == 'bn1' else 'conv'}."),
        (r"^blocks\.0\.0\.(conv_pw|bn2)\.", lambda m: f"layer1.0.conv.1.{'bn' if m[1] == 'bn2' else 'conv'}."),
        (r"^blocks\.(\d)\.(\d)\.(conv_pw|bn1)\.", lambda m: f"layer{int(m[1]) + 1}.{m[2]}.conv.0.{m[3][:4] if m[3] != 'bn1' else 'bn'}."),
        (r"^blocks\.(\d)\.(\d)\.(conv_dw|bn2)\.", lambda m: f"layer{int(m[1]) + 1}.{m[2]}.conv.1.{m[3][:4] if m[3] != 'bn2' else 'bn'}."),
        (r"^blocks\.(\d)\.(\d)\.(conv_pwl|bn3)\.", lambda m: f"layer{int(m[1]) + 1}.{m[2]}.conv.2.{m[3][:4] if m[3] != 'bn3' else 'bn'}."),
    ],
}  # fmt: skip
KIN["resnest50d"] = KIN["resnest101d"] = KIN["resnet50d"]
KIN["scnet50"] = KIN["resnext152_32x4d"] = KIN["resnext50_32x4d"]


@pytest.mark.parametrize("backbone", LITERAL)
def test_kin_of_resnet_and_mobilenet_in_mmpose(backbone: str):
    """Every tensor under our name; the numbers were held against MMPose's own networks once, equal to the last bit."""
    prefix = "backbone.encoder.network."
    with torch.device("meta"):
        network = made_on_meta(backbone)
    theirs = {}
    for name, tensor in network.state_dict().items():
        short = name.removeprefix(prefix)
        if short == name:
            theirs[
                name.replace("head.final.", "head.final_layer.").replace("head.upsample.", "head.deconv_layers.")
            ] = tensor
            continue
        for pattern, replacement in KIN[backbone]:
            renamed_once = re.sub(pattern, replacement, short)
            if renamed_once != short:
                short = renamed_once
                break
        theirs[f"backbone.{short}"] = tensor
    contents = Contents(Path("td-hm_kin-96x64.pth"), theirs)
    source = checkpoints.source_of(contents.shapes)
    assert source is not None
    plan = source.plan(contents)
    assert (plan.backbone, plan.method) == (backbone, "heatmap")
    assert set(plan.names) == set(network.state_dict())
    assert all(network.state_dict()[ours].shape == tensor.shape for ours, tensor in plan.weights.items())
    by_theirs = {theirs: ours for ours, theirs in plan.names.items()}
    for name, ours in LITERAL[backbone].items():
        assert by_theirs[f"backbone.{name}"] == prefix + ours


def made_on_meta(backbone: str) -> nn.Module:
    spec = DetectorSpec(backbone, "heatmap", {**DECONVOLUTION, **STRIDE}, UPRIGHT, skeleton(5))
    return detector.build(spec)


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"cfg": "model = dict(type='BottomupPoseEstimator', head=dict(type='X'))"},
        {"dataset_meta": {"num_keypoints": 17}},
    ],
)
def test_networks_of_whole_pictures_are_not_taken_for_others(meta: dict[str, Any]):
    """Associative embedding, whose maps of points and tags look as maps of twice as many points."""
    with torch.device("meta"):
        network = detector.build(DetectorSpec("hrnet_w18", "heatmap", {**MAPS, **STRIDE}, Size(512, 512), skeleton(34)))
    state = renamed_on_meta(network.state_dict())
    contents = Contents(Path("hrnet_w18_coco_512x512-bcb8c247.pth"), state, meta)
    source = checkpoints.source_of(contents.shapes)
    assert source is not None
    with pytest.raises(UserError, match="all instances of a picture at once"):
        source.plan(contents)
    told = {"cfg": "model = dict(type='TopdownPoseEstimator')"}
    assert len(source.plan(Contents(contents.path, state, told)).skeleton.points) == 34


def renamed_on_meta(state: State) -> State:
    return {name.replace("head.final.", "head.final_layer."): tensor for name, tensor in state.items()}


def test_what_is_said_of_other_networks_of_mmpose(tmp_path: Path):
    state = {"backbone.stage1.0.weight": torch.zeros(3, 3), "head.final_layer.weight": torch.zeros(5, 8, 1, 1)}
    torch.save(
        {
            "state_dict": state,
            "meta": {"cfg": "model = dict(backbone=dict(type='LiteHRNet', x={'a': 1}), head=dict(type='HeatmapHead'))"},
        },
        tmp_path / "a.pth",
    )
    with pytest.raises(UserError, match=r"backbone LiteHRNet, head HeatmapHead, by its configuration"):
        detector.load(tmp_path / "a.pth")
    torch.save({"state_dict": state, "meta": {"cfg": "model = (((" * 500}}, tmp_path / "b.pth")
    with pytest.raises(UserError, match=r"its tensors begin with backbone\.stage1"):
        detector.load(tmp_path / "b.pth")


@pytest.mark.parametrize(
    "names",
    [("head.conv_layers.", "head.final_layer."), ("keypoint_head.final_layer.", "keypoint_head.final_layer.3.")],
)
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
        original.state_dict(),
        ("backbone.patch_embed.proj.", "backbone.patch_embed.projection."),
        ("backbone.last_norm.", "backbone.ln1."),
        ("backbone.", "backbone."),
        ("head.upsample.", "head.deconv_layers."),
        ("head.final.", "head.final_layer."),
    )
    parts = {"norm1": "ln1", "norm2": "ln2", "mlp.fc1": "ffn.layers.0.0", "mlp.fc2": "ffn.layers.1", "attn": "attn"}
    theirs = {}
    for name, tensor in state.items():
        found = re.fullmatch(rf"backbone\.blocks\.(\d+)\.({'|'.join(parts)})\.(.+)", name)
        theirs[f"backbone.layers.{found[1]}.{parts[found[2]]}.{found[3]}" if found else name] = tensor
    theirs["backbone.pos_embed"] = theirs["backbone.pos_embed"][:, 1:]
    torch.save({"state_dict": theirs}, tmp_path / "td-hm_ViTPose-small.pth")
    loaded, *_ = detector.load_checkpoint(tmp_path / "td-hm_ViTPose-small.pth")
    assert_same(original, loaded)


# transformers' names of some tensors (`VitPoseForPoseEstimation` 5.24, whose maps equal those of the loaded network within
# 2e-6 of their largest value: small and base, both decoders, one expert and six), and ours.
BLOCK = "backbone.encoder.layer.11."
OF_TRANSFORMERS = {
    "backbone.embeddings.position_embeddings": "backbone.pos_embed",
    "backbone.embeddings.patch_embeddings.projection.bias": "backbone.patch_embed.proj.bias",
    f"{BLOCK}attention.attention.query.weight": "backbone.blocks.11.attn.qkv.weight",
    f"{BLOCK}attention.output.dense.weight": "backbone.blocks.11.attn.proj.weight",
    f"{BLOCK}mlp.fc1.weight": "backbone.blocks.11.mlp.fc1.weight",
    f"{BLOCK}mlp.fc2.bias": "backbone.blocks.11.mlp.fc2.bias",
    f"{BLOCK}layernorm_before.weight": "backbone.blocks.11.norm1.weight",
    f"{BLOCK}layernorm_after.bias": "backbone.blocks.11.norm2.bias",
    "backbone.layernorm.weight": "backbone.last_norm.weight",
    "head.conv.bias": "head.final.bias",
}


def as_in_transformers(state: State) -> State:
    """Our network of ViTPose under transformers' names, queries, keys and values apart."""
    pairs = [(r"blocks\.", "encoder.layer."), (r"\.norm1\.", ".layernorm_before."), (r"\.norm2\.", ".layernorm_after."),
             (r"attn\.proj", "attention.output.dense"), (r"last_norm", "layernorm"), (r"pos_embed", "embeddings.position_embeddings"),
             (r"patch_embed\.proj", "embeddings.patch_embeddings.projection"), (r"head\.final", "head.conv"),
             (r"head\.upsample\.([03])\.", lambda found: f"head.deconv{int(found[1]) // 3 + 1}."),
             (r"head\.upsample\.([14])\.", lambda found: f"head.batchnorm{int(found[1]) // 3 + 1}.")]  # fmt: skip
    theirs = {}
    for ours, tensor in state.items():
        name = ours
        for pattern, replacement in pairs:
            name = re.sub(pattern, replacement, name)
        if "attn.qkv" in name:
            for part, rows in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                theirs[name.replace("attn.qkv", f"attention.attention.{part}")] = rows.contiguous()
        else:
            theirs[name] = tensor
    return theirs


@pytest.mark.parametrize("decoder", ["ViTPose", "ViTPose, simple decoder"])
def test_vitpose_of_transformers(decoder: str, tmp_path: Path):
    """A folder as transformers writes it stands for its weights; of several experts the first is taken."""
    original = made(*ROUND_TRIPS[decoder][0])
    state = as_in_transformers(original.state_dict())
    for name, ours in OF_TRANSFORMERS.items():
        assert torch.equal(state[name], original.state_dict()[ours][: len(state[name])])
    (tmp_path / "config.json").write_text('{"backbone_config": {"num_attention_heads": 12}, "scale_factor": 4}')
    save_file(state, tmp_path / "model.safetensors")
    loaded, card, report = detector.load_checkpoint(tmp_path)
    assert_same(original, loaded)
    assert f"{len(state)} of {len(state)} tensors taken" in report
    assert card.initialization == str(tmp_path / "model.safetensors")
    again = made("vitpose_small", "heatmap", {}, 5, Size(192, 256))
    assert "recognised as transformers' ViTPose" in detector.initialise_from(again, tmp_path)
    assert torch.equal(again.state_dict()["backbone.pos_embed"], state["backbone.embeddings.position_embeddings"])

    experts = {}
    for name, tensor in state.items():
        if ".mlp.fc2." in name:  # 100 of the 384 rows are the experts'
            experts[name], first = tensor[:284].clone(), tensor[284:].clone()
            experts |= {name.replace("fc2", f"experts.{i}"): first + i for i in range(3)}
        else:
            experts[name] = tensor
    save_file(experts, tmp_path / "model.safetensors")
    loaded, _, report = detector.load_checkpoint(tmp_path / "model.safetensors")
    assert_same(original, loaded)
    assert report.endswith("; not used: 48 tensors (of other data sets than the first)")


def test_the_configuration_of_transformers(tmp_path: Path):
    state = as_in_transformers(made(*ROUND_TRIPS["ViTPose, simple decoder"][0]).state_dict())
    save_file(state, tmp_path / "model.safetensors")

    def configured(text: str) -> Any:
        (tmp_path / "config.json").write_text(text)
        return detector.load_card(tmp_path).spec

    spec = configured('{"scale_factor": 2, "id2label": {"0": "nose", "1": "left eye", "2": "right eye", "3": "tail"}}')
    assert spec.skeleton.points == ("nose", "left eye", "right eye", "tail", "point_4")
    assert spec.skeleton.flip_pairs == ((1, 2),)
    assert spec.head["stride"] == 8
    for text, said in (
        ('{"backbone_config": {"num_attention_heads": 6}}', "6 heads of attention by its config.json; .* has 12"),
        ('{"scale_factor": 3}', "scale_factor 3 in its config.json"),
        ('{"scale_factor": [', "config.json"),
    ):
        with pytest.raises(UserError, match=said):
            configured(text)


# --------------------------------------------------------------------------------------- what is written beside them


def described(points: int) -> dict[str, Any]:
    """What MMPose 1.x writes of a data set, numpy arrays and numbers among it."""
    return {
        "dataset_name": "blobs",
        "num_keypoints": points,
        "flip_indices": [1, 0, *range(2, points)],
        "keypoint_id2name": {i: f"spot {'abcdefgh'[i]}" for i in range(points)},
        "skeleton_links": [(0, 1), (1, 2)],
        "sigmas": np.linspace(0.02, 0.1, points, dtype=np.float32),
        "weight": np.float64(0.5),
        "colours": np.array([[0, 255, 0]] * points, dtype=np.uint8),
        "skeleton_link_colors": np.array([]),
    }


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("spelling", ["numpy._core.multiarray", "numpy.core.multiarray"])
def test_the_data_set_that_a_file_names(rtmpose: State, tmp_path: Path, legacy: bool, spelling: str):
    """Read whatever numpy wrote it, 1 or 2, in torch's zip or its old pickle."""
    file = tmp_path / "epoch_420.pth"
    torch.save(
        {"meta": {"dataset_meta": described(5), "seed": 1}, "state_dict": rtmpose},
        file,
        _use_new_zipfile_serialization=not legacy,
    )
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
            Size(96, 64),
            "stride",
            "dark",
            1.5,
        ),
        "codec = dict(type='UDPHeatmap', input_size=(96, 128), sigma=2)": (Size(96, 128), "corner", "dark_udp", 2.0),
        "data_cfg = dict(\n    image_size=[64, 32])": (Size(64, 32), "stride", "quarter", 2.0),
    }
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
    empty = {"sigmas": np.array([]), "skeleton_links": [], "flip_indices": np.array([], int)}
    bare = _plan.skeleton_of(Contents(Path("a.pth"), state, {"dataset_meta": {**described(5), **empty}}), 5)
    assert (bare.sigmas, bare.edges, bare.points[0]) == (None, (), "spot a")
    once = {"flip_indices": [1, 2, 0, 3, 4]}
    turned = _plan.skeleton_of(Contents(Path("a.pth"), state, {"dataset_meta": {**described(5), **once}}), 5)
    assert turned.flip_pairs is None, "mirroring twice does not give every point back"
    assert _plan.skeleton_of(Contents(Path("a.pth"), state, {"dataset_meta": described(5)}), 5).flip_pairs == ((0, 1),)


def test_without_counters_of_norms(rtmpose: State, tmp_path: Path):
    """torch before 0.4.1 wrote none; other things that are missing are an error."""
    bare = {name: tensor for name, tensor in rtmpose.items() if not name.endswith("num_batches_tracked")}
    save_file(bare, tmp_path / "a.safetensors")
    loaded, _, report = detector.load_checkpoint(tmp_path / "a.safetensors")
    assert f"{len(bare)} of {len(bare)} tensors taken; missing: {len(rtmpose) - len(bare)} counters" in report
    torch.save(rtmpose, tmp_path / "b.pth")
    assert_same(loaded, detector.load_checkpoint(tmp_path / "b.pth")[0])


def test_self_calibrated_convolutions_say_which_images_are_too_small_for_them():
    network = timm_family.build("scnet50", "no").eval()
    assert network(torch.zeros(1, 3, 128, 160))[0].shape == (1, 2048, 4, 5)
    with pytest.raises(UserError, match="have 3x4 cells; give images of 128x128 or more"):
        network(torch.zeros(1, 3, 128, 96))
