"""Which backbone it is, told from names and shapes alone."""

from __future__ import annotations

import re
from typing import NamedTuple

from fiducial.models.backbones import cspnext, hrnet, vitpose
from fiducial.models.checkpoints._plan import Shapes

# Blocks of the four layers, and whether they are bottlenecks (He et al., CVPR 2016).
RESNETS: dict[tuple[tuple[int, ...], bool], str] = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}
# Split attention (Zhang et al., CVPR workshops 2022), by the blocks alone: all have bottlenecks and the deep stem.
RESNESTS: dict[tuple[int, ...], str] = {
    (3, 4, 6, 3): "resnest50d",
    (3, 4, 23, 3): "resnest101d",
    (3, 24, 36, 3): "resnest200d",
    (3, 30, 48, 8): "resnest269d",
}
SCNETS = {"resnet50": "scnet50", "resnet101": "scnet101"}  # of self-calibrated convolutions
RESNEXTS = {f"resnet{depth}": f"resnext{depth}_32x4d" for depth in (50, 101, 152)}  # of 32 groups
VITS = {(spec.width, spec.depth): name for name, spec in vitpose.SPECS.items()}
CSPNEXTS = {(spec.channels[0], spec.blocks): name for name, spec in cspnext.SPECS.items()}


class Trunk(NamedTuple):
    """Names a backbone of ours and what its tensors' names begin with there."""

    name: str
    prefix: str
    stride: int  # px a cell of its main map


def trunk_of(shapes: Shapes, prefix: str = "") -> Trunk | None:
    """Finds the backbone whose tensors begin with `prefix`; None where it is none of ours."""
    own = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    return _hrnet(own) or _resnet(own) or _cspnext(own) or _vit(own) or _mobilenet(own)


def below(shapes: Shapes, pattern: str) -> int:
    """Counts how many there are: one more than the highest number that stands where `pattern` has its group."""
    return 1 + max((int(found[1]) for name in shapes if (found := re.match(pattern, name))), default=-1)


def _hrnet(shapes: Shapes) -> Trunk | None:
    first = shapes.get("stage4.0.branches.0.0.conv1.weight")
    if first is None or "transition1.0.0.weight" not in shapes:
        return None
    name = f"hrnet_w{first[0]}"
    modules = below(shapes, r"stage4\.(\d+)\.")
    outputs = below(shapes, rf"stage4\.{modules - 1}\.fuse_layers\.(\d+)\.")
    blocks = below(shapes, r"stage4\.0\.branches\.0\.(\d+)\.")
    if name not in hrnet.WIDTHS or (modules, blocks) != (3, 4):
        return None
    return Trunk(name if outputs == 1 else f"{name}_branches", "backbone.", 4)


def _resnet(shapes: Shapes) -> Trunk | None:
    """A ResNet, or one of its kin that timm has, too: ResNet-D (He et al., CVPR 2019), SE-ResNet, ResNeXt, ResNeSt,
    SCNet."""
    blocks = tuple(below(shapes, rf"layer{i}\.(\d+)\.") for i in range(1, 5))
    name = RESNETS.get((blocks, "layer1.0.conv3.weight" in shapes))
    convolution, is_deep = shapes.get("layer1.0.conv2.weight"), shapes.get("stem.0.conv.weight", ())[1:] == (3, 3, 3)
    if is_deep and "layer1.0.conv2.conv.weight" in shapes:
        name = RESNESTS.get(blocks)
    elif name is None or (not is_deep and shapes.get("conv1.weight") != (64, 3, 7, 7)):
        return None
    elif "layer1.0.scconv.k2.1.weight" in shapes and not is_deep:
        name = SCNETS.get(name)
    elif convolution == (128, 4, 3, 3) and not is_deep:
        name = RESNEXTS.get(name)
    elif convolution != (64, 64, 3, 3):
        return None
    elif is_deep:
        name = f"{name}d"
    elif "layer1.0.se_layer.conv1.conv.weight" in shapes:
        name = f"se{name}"
    return None if name is None else Trunk(name, "backbone.encoder.network.", 32)


def _mobilenet(shapes: Shapes) -> Trunk | None:
    """MobileNetV2 (Sandler et al., CVPR 2018) of full width, by MMPose's names; with its last convolution."""
    fits = shapes.get("conv1.conv.weight") == (32, 3, 3, 3) and shapes.get("conv2.conv.weight") == (1280, 320, 1, 1)
    blocks = tuple(below(shapes, rf"layer{i}\.(\d+)\.") for i in range(1, 8))
    return (
        Trunk("mobilenetv2_100_whole", "backbone.encoder.network.", 32)
        if fits and blocks == (1, 2, 3, 4, 3, 3, 1)
        else None
    )


def _of_mobilenet(theirs: str) -> str:
    """A block is up to three modules of convolution and norm: wider, over space, narrower; the first block has no wider."""
    ends = {"conv1.conv.": "conv_stem.", "conv1.bn.": "bn1.", "conv2.conv.": "conv_head.", "conv2.bn.": "bn2."}
    for start, name in ends.items():
        if theirs.startswith(start):
            return name + theirs.removeprefix(start)
    found = re.fullmatch(r"layer(\d)\.(\d)\.conv\.(\d)\.(conv|bn)\.(.+)", theirs)
    if found is None:
        return theirs
    layer, block, part = (int(found[i]) for i in (1, 2, 3))
    parts = ("conv_dw", "conv_pw") if layer == 1 else ("conv_pw", "conv_dw", "conv_pwl")
    own = parts[part] if found[4] == "conv" else f"bn{part + 1}"
    return f"blocks.{layer - 1}.{block}.{own}.{found[5]}"


def ours(trunk: Trunk, theirs: str) -> str:
    """Translates MMPose's name of a tensor of the trunk into ours, both without what stands before the trunk.

    Its deep stem is three modules of convolution and norm, and where a downsampling does not pool it counts one less."""
    if trunk.prefix != "backbone.encoder.network.":
        return theirs
    if trunk.name.startswith("mobilenet"):
        return _of_mobilenet(theirs)
    name = re.sub(r"^stem\.2\.bn\.", "bn1.", theirs)
    name = re.sub(r"^stem\.(\d)\.(conv|bn)\.", lambda m: f"conv1.{3 * int(m[1]) + (m[2] == 'bn')}.", name)
    if trunk.name in RESNESTS.values() or re.fullmatch(r"resnet\d+d", trunk.name):
        name = re.sub(r"^layer1\.0\.downsample\.(\d)\.", lambda m: f"layer1.0.downsample.{int(m[1]) + 1}.", name)
    return re.sub(r"\.se_layer\.conv(\d)\.conv\.", r".se.fc\1.", name)


def _cspnext(shapes: Shapes) -> Trunk | None:
    stem = shapes.get("stem.2.conv.weight")
    if stem is None or "stage4.2.attention.fc.weight" not in shapes:
        return None
    blocks = tuple(below(shapes, rf"stage{i}\.{2 if i == 4 else 1}\.blocks\.(\d+)\.") for i in range(1, 5))
    name = CSPNEXTS.get((stem[0], blocks))
    return None if name is None else Trunk(name, "backbone.", 32)


def _vit(shapes: Shapes) -> Trunk | None:
    """By the names of ViTPose's own code or, for MMPose 1.x, of MMPretrain."""
    positions = shapes.get("pos_embed")
    depth = below(shapes, r"(?:blocks|layers)\.(\d+)\.")
    name = None if positions is None else VITS.get((positions[-1], depth))
    return None if name is None else Trunk(name, "backbone.", vitpose.PATCH)
