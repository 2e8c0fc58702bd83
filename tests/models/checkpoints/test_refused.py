"""What is broken, foreign or malicious in a file of weights is one line, and nothing of it is loaded or run."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from models.checkpoints.files import (  # noqa: E402
    ROUND_TRIPS,
    UPRIGHT,
    State,
    assert_refused,
    begun,
    crops,
    made,
    renamed,
    skeleton,
    write,
)
from safetensors.torch import save_file  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from fiducial.card import DetectorSpec  # noqa: E402
from fiducial.errors import UserError  # noqa: E402
from fiducial.geometry import Size  # noqa: E402
from fiducial.models import checkpoints, detector  # noqa: E402
from fiducial.models.checkpoints import _reader  # noqa: E402


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
    assert_refused(tmp_path / "cut.safetensors", "can't be read as safetensors.*; download or copy it again")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 114\n", "Git LFS pointer.*git lfs pull"),
        (b"\n<!DOCTYPE html><html>Sign in</html>", "a web page, not weights"),
        (b"\x89PNG\r\n\x1a\n" + bytes(60), "a picture, not weights"),
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


@pytest.mark.parametrize("read", [detector.load, checkpoints.plan_of])
def test_an_exported_file_is_no_weights(tmp_path: Path, read: Any):
    file = tmp_path / "model.onnx"
    file.write_bytes(b"\x08\x0a")
    assert_refused(file, r"is an exported file \(ONNX\).*give the run folder that it was exported from", read)
    folder = tmp_path if read is detector.load else file
    assert_refused(folder, r"an exported file \(ONNX\)", read)
    network = detector.build(DetectorSpec("unet_resnet18", "deeppose", {}, Size(64, 64), skeleton(2)))
    with pytest.raises(UserError, match=r"holds an exported file \(ONNX\)"):
        detector.initialise_from(network, tmp_path)
