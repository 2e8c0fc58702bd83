"""The perceptual loss: nothing for equal pictures; torchvision's file loads by name, another is refused by name; without
one the substitute says so."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from fiducial.errors import UserError  # noqa: E402
from fiducial.models.pretrained import timm_library  # noqa: E402
from fiducial.motion import perceptual  # noqa: E402
from fiducial.motion.perceptual import FeatureNetwork, Pyramid, RandomFeatures  # noqa: E402


def picture(side: int = 32, seed: int = 1):
    return torch.rand(2, 3, side, side + 8, generator=torch.Generator().manual_seed(seed))


def loss_of(network: FeatureNetwork, generated, real):
    """As in training: the maps', and the pixels' where the network needs them."""
    loss = perceptual.perceptual_loss(network, generated, real)
    return loss + network.pixel_weight * perceptual.pixel_loss(generated, real)


@pytest.fixture(scope="module")
def shapes() -> dict[str, tuple[int, ...]]:
    """Of timm's VGG-19, whose `features` are torchvision's: an oracle that is not ours."""
    with torch.device("meta"):
        network = timm_library().create_model("vgg19")
    return {name: tuple(t.shape) for name, t in network.state_dict().items() if name.startswith("features.")}


def write(path: Path, shapes: dict[str, tuple[int, ...]], **changed: tuple[int, ...] | None) -> Path:
    """A file of these tensors, each of one value, which is stored once: a file of 12 kB has the form of one of 548 MB."""
    wanted = {**shapes, "classifier.6.weight": (1000, 4096), **{k.replace("__", "."): v for k, v in changed.items()}}
    kept = {name: shape for name, shape in wanted.items() if shape is not None}
    torch.save({name: torch.full((1,), i / 1e3).expand(shape) for i, (name, shape) in enumerate(kept.items())}, path)
    return path


def test_pyramid_has_the_picture_and_its_reductions():
    image = picture(48)
    levels = Pyramid()(image)
    assert levels[0] is image
    assert [tuple(level.shape[-2:]) for level in levels] == [(48, 56), (24, 28), (12, 14), (6, 7)]


@pytest.mark.parametrize("network", [RandomFeatures(), perceptual.vgg19(None)], ids=["random", "vgg19"])
def test_maps_and_the_loss_of_equal_pictures(network: FeatureNetwork):
    maps = network(picture())
    assert [tuple(m.shape[2:]) for m in maps] == [(32, 40), (16, 20), (8, 10), (4, 5), (2, 2)]
    assert all(m.min() >= 0 for m in maps)
    levels, others = Pyramid()(picture(64)), Pyramid()(picture(64, seed=2))
    assert loss_of(network, levels, levels) == 0
    assert loss_of(network, levels, others) > 0.1


def test_vgg19_has_torchvisions_names_and_depths(shapes):
    network = perceptual.vgg19(None)
    own = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert own == {name: shape for name, shape in shapes.items() if int(name.split(".")[1]) <= 29}
    assert [m.shape[1] for m in network(picture())] == [64, 128, 256, 512, 512]
    last = [list(network.features)[place] for place in sorted(network.cuts)]
    assert all(isinstance(layer, torch.nn.ReLU) for layer in last)


def test_a_file_of_torchvisions_form_loads_by_name(shapes, tmp_path):
    path = write(tmp_path / "mine.pth", shapes)
    network, said = perceptual.feature_network(path)
    assert said == f"VGG-19, {path}"
    for i, name in enumerate(shapes):
        if name in network.state_dict():
            assert network.state_dict()[name].unique().tolist() == pytest.approx([i / 1e3])
    assert network.pixel_weight == 0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"features__16__weight": None}, r"features\.16\.weight is missing, expected \[256, 256, 3, 3\]"),
        ({"features__0__weight": (64, 1, 3, 3)}, r"features\.0\.weight is \[64, 1, 3, 3\], expected \[64, 3, 3, 3\]"),
        ({"features__1__running_mean": (64,)}, r"nothing there is called 'features\.1\.running_mean'"),
    ],
)
def test_another_file_is_refused_by_name(shapes, tmp_path, changed, said):
    path = write(tmp_path / "vgg19-other.pth", shapes, **changed)
    with pytest.raises(UserError, match=f"vgg19-other.pth: not VGG-19 of torchvision: {said}"):
        perceptual.feature_network(path)
    with pytest.raises(UserError, match="no such file"):
        perceptual.feature_network(tmp_path / "none.pth")


def test_cache_of_torch_hub_is_looked_into_and_nothing_is_downloaded(shapes, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    network, said = perceptual.feature_network()
    assert isinstance(network, RandomFeatures)
    assert said.startswith("random filters, seed 0: no VGG-19 weights were found; give them by ")
    assert str(tmp_path / "checkpoints") in said
    (tmp_path / "checkpoints").mkdir()
    write(tmp_path / "checkpoints" / "vgg19_bn-c79401a0.pth", {})
    assert isinstance(perceptual.feature_network()[0], RandomFeatures)
    path = write(tmp_path / "checkpoints" / "vgg19-dcbb9e9d.pth", shapes)
    assert perceptual.feature_network()[1] == f"VGG-19, {path}"


def test_random_filters_are_the_same_for_a_seed_and_leave_the_dice_alone():
    torch.manual_seed(7)
    first = RandomFeatures(3).state_dict()
    after = torch.rand(4)
    torch.manual_seed(7)
    assert torch.equal(torch.rand(4), after)
    again, other = RandomFeatures(3).state_dict(), RandomFeatures(4).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["features.0.weight"], other["features.0.weight"])


def test_pictures_learn_and_networks_do_not():
    network = RandomFeatures()
    image, real = picture().requires_grad_(), picture(seed=2).requires_grad_()
    pyramid = Pyramid()
    loss_of(network, pyramid(image), pyramid(real)).backward()
    assert image.grad is not None
    assert image.grad.any()
    assert real.grad is None
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_small_pictures_have_fewer_maps():
    network = RandomFeatures()
    assert [tuple(m.shape[2:]) for m in network(picture(4))] == [(4, 12), (2, 6), (1, 3)]
    levels, others = Pyramid()(picture(8)), Pyramid()(picture(8, seed=2))
    assert levels[-1].shape[-2] == 1
    assert loss_of(network, levels, others).isfinite()


def test_losses_by_hand():
    def doubled(image):
        return [2 * image, -image]

    one, two = torch.full((1, 3, 4, 4), 0.5), torch.full((1, 3, 4, 4), 0.7)
    found = perceptual.perceptual_loss(doubled, [one, one], [two, two], layer_weights=(3.0, 5.0))
    assert found.item() == pytest.approx(2 * (3 * 0.4 + 5 * 0.2))
    assert perceptual.pixel_loss([one, one], [two, two]).item() == pytest.approx(0.4)
    # A ramp of 0.1 a px in x, whose mean is 0.15.
    ramp = one + 0.1 * torch.arange(4.0)
    assert perceptual.pixel_loss([ramp], [one]).item() == pytest.approx(0.15 + 0.1)
