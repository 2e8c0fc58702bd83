"""HRNet: parallel branches at 1/4, 1/8, 1/16 and 1/32 of the input that exchange what they see (Sun et al., "Deep
high-resolution representation learning for human pose estimation", CVPR 2019; Wang et al., PAMI 2020).

`hrnet_w32` is the trunk of the pose network: the finest branch alone comes out of the last module.
`hrnet_w32_branches` gives all four; `hrnet_w32_concat` brings them to the finest grid and stacks them, as H3R does
(Yu & Tao, "Heatmap regression via randomized rounding", PAMI 2021). Modules carry the names of the official code,
so that its checkpoints load by key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fiducial.models import pretrained as weights
from fiducial.models.contracts import Backbone, Level
from fiducial.models.pretrained import Pretrained

EXPANSION = 4  # of a bottleneck: it ends with this many times its planes


@dataclass(frozen=True)
class HRNetSpec:
    """Holds the choices of the network; the defaults are those of the pose network with 32 channels."""

    channels: tuple[int, int, int, int] = (32, 64, 128, 256)  # of the branches, fine to coarse
    modules: tuple[int, int, int] = (1, 4, 3)  # exchanges in stages 2, 3 and 4
    blocks: int = 4  # residual blocks of each branch before an exchange
    stem: int = 64  # channels of the two convolutions that bring the image to 1/4
    layer1_blocks: int = 4  # bottlenecks between stem and branches
    layer1_planes: int = 64  # inner channels of these
    output: Literal["finest", "branches", "concat"] = "finest"


WIDTHS = {f"hrnet_w{width}": (width, 2 * width, 4 * width, 8 * width) for width in (18, 32, 48)}
OUTPUTS: dict[str, Literal["finest", "branches", "concat"]] = {
    "": "finest",
    "_branches": "branches",
    "_concat": "concat",
}
EXAMPLES = ("hrnet_w18", "hrnet_w18_branches", "hrnet_w18_concat")


def names() -> list[str]:
    """Lists the names of all members."""
    return [base + suffix for base in WIDTHS for suffix in OUTPUTS]


def matches(name: str) -> bool:
    """Says whether the family has a backbone of this name."""
    return name in names()


def build(name: str, pretrained: Pretrained = "here") -> HRNet:
    """Builds a member by name, from timm's ImageNet weights of the same trunk, or random (He et al. 2015)."""
    base, suffix = next((base, name[len(base) :]) for base in WIDTHS if name.startswith(base))
    network = HRNet(HRNetSpec(channels=WIDTHS[base], output=OUTPUTS[suffix]))
    if pretrained == "no":
        return network
    donor, network.initialization = weights.create(base, pretrained)
    if network.initialization != "random":
        network.licence = weights.licence(base, network.initialization)
        network.normalization = weights.normalization(base)
        # The donor's classifier, and the exchanges that a single finest output does not need, stay behind.
        donated = donor.state_dict()
        network.load_state_dict({key: donated[key] for key in network.state_dict()})
    return network


class HRNet(Backbone):
    """Turns [b, 3, h, w] into one map at 1/4, or four at 1/4 to 1/32. Sides that 32 does not divide are rounded up."""

    def __init__(self, spec: HRNetSpec) -> None:
        super().__init__()
        self.spec = spec
        stem, channels = spec.stem, spec.channels
        self.conv1 = nn.Conv2d(3, stem, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.conv2 = nn.Conv2d(stem, stem, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(stem)
        planes = spec.layer1_planes
        later = [Bottleneck(EXPANSION * planes, planes) for _ in range(spec.layer1_blocks - 1)]
        self.layer1 = nn.Sequential(Bottleneck(stem, planes), *later)
        self.transition1 = transition((EXPANSION * planes,), channels[:2])
        self.stage2 = stage(channels[:2], spec.modules[0], spec.blocks)
        self.transition2 = transition(channels[:2], channels[:3])
        self.stage3 = stage(channels[:3], spec.modules[1], spec.blocks)
        self.transition3 = transition(channels[:3], channels)
        last_outputs = 1 if spec.output == "finest" else 4
        self.stage4 = stage(channels, spec.modules[2], spec.blocks, last_outputs)
        if spec.output == "concat":
            self.levels = (Level(sum(channels), 4),)
        else:
            self.levels = tuple(Level(channels[i], 4 << i) for i in range(last_outputs))
        self.main = 0
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> list[Tensor]:
        x = functional.relu(self.bn1(self.conv1(image)))
        x = functional.relu(self.bn2(self.conv2(x)))
        maps = [self.layer1(x)]
        for change, exchanges in (
            (self.transition1, self.stage2),
            (self.transition2, self.stage3),
            (self.transition3, self.stage4),
        ):
            # A new branch starts from the coarsest one there is.
            maps = [step(maps[min(i, len(maps) - 1)]) for i, step in enumerate(change)]
            maps = exchanges(maps)
        if self.spec.output != "concat":
            return maps
        finest = maps[0].shape[-2:]
        coarser = [functional.interpolate(m, size=finest, mode="bilinear", align_corners=False) for m in maps[1:]]
        return [torch.cat([maps[0], *coarser], dim=1)]


def convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, relu: bool = True) -> nn.Sequential:
    """Builds a convolution without bias, BatchNorm and, unless refused, ReLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


class BasicBlock(nn.Module):
    """Is two 3x3 convolutions and the identity (He et al., CVPR 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + x)


class Bottleneck(nn.Module):
    """Is 1x1, 3x3, 1x1 to `EXPANSION` times `planes`; the shortcut is projected where channels differ."""

    def __init__(self, inputs: int, planes: int) -> None:
        super().__init__()
        outputs = EXPANSION * planes
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Identity() if inputs == outputs else convolution(inputs, outputs, 1, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        return functional.relu(self.bn3(self.conv3(y)) + self.downsample(x))


def transition(before: tuple[int, ...], after: tuple[int, ...]) -> nn.ModuleList:
    """Builds one step a branch: 3x3 convolution where its channels change, stride 2 from the coarsest for the new
    one."""
    steps: list[nn.Module] = []
    for i, outputs in enumerate(after):
        if i >= len(before):  # nested one deeper, as in the official keys
            steps.append(nn.Sequential(convolution(before[-1], outputs, stride=2)))
        else:
            steps.append(nn.Identity() if before[i] == outputs else convolution(before[i], outputs))
    return nn.ModuleList(steps)


def stage(channels: tuple[int, ...], modules: int, blocks: int, last_outputs: int | None = None) -> nn.Sequential:
    """Builds `modules` exchanges in a row; only the last one may leave out its coarser outputs."""
    outputs = [len(channels)] * modules
    outputs[-1] = last_outputs or len(channels)
    return nn.Sequential(*(Exchange(channels, blocks, count) for count in outputs))


class Exchange(nn.Module):
    """Is residual blocks within each branch, then every output is the sum of all branches brought to its grid."""

    def __init__(self, channels: tuple[int, ...], blocks: int, outputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(c) for _ in range(blocks))) for c in channels)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(bridge(channels, source, target) for source in range(len(channels)))
            for target in range(outputs)
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = [branch(m) for branch, m in zip(self.branches, maps, strict=True)]
        results = []
        for target, bridges in enumerate(self.fuse_layers):
            total: Tensor | None = None
            for source, step in enumerate(bridges.children()):
                part = step(maps[source])
                if source > target:
                    # By size and not by factor, so that sides that 32 does not divide meet as well.
                    part = functional.interpolate(part, size=maps[target].shape[-2:], mode="nearest")
                total = part if total is None else total + part
            assert total is not None
            results.append(functional.relu(total))
        return results


def bridge(channels: tuple[int, ...], source: int, target: int) -> nn.Module:
    """Builds the way from one branch to another's channels, and down to its grid; the way up is a resize without
    parameters."""
    if source == target:
        return nn.Identity()
    if source > target:
        return convolution(channels[source], channels[target], 1, relu=False)
    steps = [convolution(channels[source], channels[source], stride=2) for _ in range(target - source - 1)]
    return nn.Sequential(*steps, convolution(channels[source], channels[target], stride=2, relu=False))
