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
    return _hrnet(own) or _resnet(own) or _cspnext(own) or _vit(own)


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
    if shapes.get("conv1.weight") != (64, 3, 7, 7) or shapes.get("layer1.0.conv2.weight") != (64, 64, 3, 3):
        return None
    blocks = tuple(below(shapes, rf"layer{i}\.(\d+)\.") for i in range(1, 5))
    name = RESNETS.get((blocks, "layer1.0.conv3.weight" in shapes))
    return None if name is None else Trunk(name, "backbone.encoder.network.", 32)


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
