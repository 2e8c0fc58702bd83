"""`fit --init`: what is taken from a file for another network, and what it says of that."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from models.checkpoints.files import (  # noqa: E402
    RESNET,
    State,
    assert_refused,
    begun,
    made,
    renamed,
    write,
)
from safetensors.torch import save_file  # noqa: E402

from fiducial.geometry import Size  # noqa: E402
from fiducial.models import detector  # noqa: E402


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


def test_a_run_without_its_card_is_not_told_as_another_backbone_alone(tmp_path: Path):
    save_file(begun("resnet18", "rle", 5).state_dict(), tmp_path / "model.safetensors")
    message = (
        r"does not fit backbone 'cspnext_tiny'.*model\.json, .*is not beside model\.safetensors: copy the whole folder"
    )
    assert_refused(tmp_path, message, lambda path: detector.initialise_from(begun("cspnext_tiny", "rle", 5), path))


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
