"""How far a generated image is from the real one, by what a fixed network sees in both at several sizes (perceptual
loss: Johnson et al., ECCV 2016; the pyramid: First order motion model, Siarohin et al., NeurIPS 2019, eq. 9).

The network is VGG-19 with torchvision's weights, where a file of them is at hand. Nothing is downloaded: without one,
filters that are random but fixed take its place, with the pixels themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from fiducial.card import Normalization
from fiducial.errors import UserError
from fiducial.models import checkpoints
from fiducial.models.antialias import AntiAlias

Features = Callable[[Tensor], list[Tensor]]  # image [b, 3, h, w] in 0..1 -> maps, fine to coarse

SCALES = (1.0, 0.5, 0.25, 0.125)
LAYER_WEIGHTS = (10.0, 10.0, 10.0, 10.0, 10.0)  # of relu1_1 .. relu5_1, at every scale
# Channels of VGG-19's convolutions up to the last that is read, 0 = pooling; see `_layers`.
_VGG19 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512)
_VGG19_CUTS = (1, 6, 11, 20, 29)  # places of relu1_1 .. relu5_1 among torchvision's `features`
_VGG19_UNUSED = ("classifier.", "features.30.", "features.32.", "features.34.")
_HUB_PATTERN = "vgg19-*.pth"


class Pyramid(nn.Module):
    """Shrinks an image to each scale, always from the full size, with anti-aliasing."""

    def __init__(self, channels: int = 3, scales: Sequence[float] = SCALES) -> None:
        super().__init__()
        self.levels = nn.ModuleList(AntiAlias(channels, round(1 / scale)) for scale in scales)

    def forward(self, image: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b c _ _"]]:
        return [level(image) for level in self.levels]


class FeatureNetwork(nn.Module):
    """Gives the maps of a frozen network after some of its layers (`cuts`).

    An image so small that pooling would leave nothing of it gives fewer maps."""

    pixel_weight: float = 0.0  # of `pixel_loss` beside it, in the unit of LAYER_WEIGHTS

    mean: Float[Tensor, "3 1 1"]
    std: Float[Tensor, "3 1 1"]

    def __init__(self, features: nn.Sequential, cuts: Sequence[int]) -> None:
        super().__init__()
        # Channels last: pooling takes half the time on CPUs.
        self.features = features.requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.cuts = frozenset(cuts)
        imagenet = Normalization()
        for name, values in (("mean", imagenet.mean), ("std", imagenet.std)):
            self.register_buffer(name, torch.tensor(values)[:, None, None] / 255, persistent=False)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        x = (image - self.mean) / self.std
        maps = []
        for place, layer in enumerate(self.features):
            if isinstance(layer, nn.MaxPool2d) and min(x.shape[-2:]) < 2:
                break
            x = layer(x)
            if place in self.cuts:
                maps.append(x)
        return maps


class RandomFeatures(FeatureNetwork):
    """Builds five convolutions 3x3 with ReLU and random weights (He et al., ICCV 2015), a max pooling before each but the
    first: VGG-19's depths at a hundredth of its price. The same seed is the same network everywhere.

    Random filters see edges and textures but prefer none, so the pixels are to be compared too (`pixel_weight`)."""

    pixel_weight = 10.0

    def __init__(self, seed: int = 0, widths: Sequence[int] = (16, 0, 32, 0, 32, 0, 64, 0, 64)) -> None:
        features = _layers(widths)
        super().__init__(features, [place for place, layer in enumerate(features) if isinstance(layer, nn.ReLU)])
        generator = torch.Generator().manual_seed(seed)
        for layer in features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)


def feature_network(weights: Path | None = None, seed: int = 0) -> tuple[FeatureNetwork, str]:
    """Builds the best network that can be had without a download, and says which in a line: VGG-19 of the file given or of
    torch hub's cache, else random filters."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = weights if weights is not None else next(iter(sorted(folder.glob(_HUB_PATTERN))), None)
    if path is not None:
        return vgg19(path), f"VGG-19, {path}"
    advice = f"give them by --set motion.features=FILE (torchvision's {_HUB_PATTERN}), or put it into {folder}"
    return RandomFeatures(seed), f"random filters, seed {seed}: no VGG-19 weights were found; {advice}"


def vgg19(weights: Path | None) -> FeatureNetwork:
    """Builds VGG-19 up to relu5_1 (Simonyan & Zisserman, ICLR 2015) with torchvision's file of weights; None = random ones.
    UserError for a file of anything else."""
    network = FeatureNetwork(_layers(_VGG19), _VGG19_CUTS)
    if weights is not None:
        _fill(network, weights)
    return network


def perceptual_loss(
    features: Features,
    generated: Sequence[Float[Tensor, "b 3 _ _"]],
    real: Sequence[Float[Tensor, "b 3 _ _"]],
    layer_weights: Sequence[float] = LAYER_WEIGHTS,
) -> Float[Tensor, ""]:
    """Adds up, over layers and over the levels of both pyramids, the weighted mean absolute differences of the maps. The real
    image's maps are the target and give no gradient."""
    terms = []
    for level, target_level in zip(generated, real, strict=True):
        with torch.no_grad():
            targets = features(target_level)
        pairs = zip(layer_weights, features(level), targets, strict=False)  # small levels have fewer maps
        terms += [weight * F.l1_loss(value, target) for weight, value, target in pairs]
    return torch.stack(terms).sum()


def pixel_loss(
    generated: Sequence[Float[Tensor, "b c _ _"]], real: Sequence[Float[Tensor, "b c _ _"]]
) -> Float[Tensor, ""]:
    """Adds up, over the levels of both pyramids, the mean absolute differences of the pixels and of their steps to the next
    pixel in x and in y: blur costs, and so does a colour that is off everywhere."""
    terms = []
    for level, target in zip(generated, real, strict=True):
        wrong = level - target.detach()
        terms += [part.abs().mean() for part in (wrong, wrong.diff(dim=-1), wrong.diff(dim=-2)) if part.numel()]
    return torch.stack(terms).sum()


@torch.random.fork_rng(devices=[])  # a frozen network must not move the dice of what is trained
def _layers(widths: Sequence[int]) -> nn.Sequential:
    """Convolutions 3x3 of these channels with a ReLU each, and a max pooling for each 0."""
    layers: list[nn.Module] = []
    inputs = 3
    for outputs in widths:
        if outputs == 0:
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
            inputs = outputs
    return nn.Sequential(*layers)


def _fill(network: FeatureNetwork, path: Path) -> None:
    """torchvision's tensors by their names; what is deeper than we read is left out, anything else is refused."""
    state, expected = checkpoints.read(path).state, network.state_dict()
    for name, tensor in expected.items():
        if name not in state or state[name].shape != tensor.shape:
            shape = list(state[name].shape) if name in state else "missing"
            raise UserError(
                f"{path}: not VGG-19 of torchvision: {name} is {shape}, expected {list(tensor.shape)}; give {_HUB_PATTERN}"
            )
    foreign = [name for name in state if name not in expected and not name.startswith(_VGG19_UNUSED)]
    if foreign:
        raise UserError(
            f"{path}: not VGG-19 of torchvision: nothing there is called {foreign[0]!r}; give {_HUB_PATTERN}"
        )
    network.load_state_dict({name: state[name] for name in expected})
