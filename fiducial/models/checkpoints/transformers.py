"""Files of Hugging Face's transformers: ViTPose and ViTPose++ (`VitPoseForPoseEstimation`), `model.safetensors` beside a
`config.json`. They are ViTPose's tensors under other names, with queries, keys and values apart.

What shapes can't tell is read from the configuration, where it lies beside the weights: heads of the attention, the
simple decoder's enlargement, the points' names."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fiducial import files
from fiducial.data import skeletons
from fiducial.errors import UserError
from fiducial.models.backbones.vitpose import PATCH, SPECS
from fiducial.models.checkpoints import vitpose
from fiducial.models.checkpoints._plan import Plan, Shapes
from fiducial.models.checkpoints._reader import Contents

PROJECT = "transformers' ViTPose"
BLOCK = r"backbone\.encoder\.layer\.(\d+)\."
QUERY, JOINED = ".attention.attention.query.", (".attention.attention.key.", ".attention.attention.value.")
# How their names begin -> ViTPose's own; of a query, for the matrix of all three.
BEGINNINGS = {
    r"backbone\.embeddings\.position_embeddings": r"backbone.pos_embed",
    r"backbone\.embeddings\.patch_embeddings\.projection\.": r"backbone.patch_embed.proj.",
    BLOCK + r"layernorm_before\.": r"backbone.blocks.\1.norm1.",
    BLOCK + r"layernorm_after\.": r"backbone.blocks.\1.norm2.",
    BLOCK + r"attention\.attention\.query\.": r"backbone.blocks.\1.attn.qkv.",
    BLOCK + r"attention\.output\.dense\.": r"backbone.blocks.\1.attn.proj.",
    BLOCK + r"mlp\.": r"backbone.blocks.\1.mlp.",
    r"backbone\.layernorm\.": r"backbone.last_norm.",
    r"head\.deconv1\.": r"head.deconv_layers.0.",
    r"head\.batchnorm1\.": r"head.deconv_layers.1.",
    r"head\.deconv2\.": r"head.deconv_layers.3.",
    r"head\.batchnorm2\.": r"head.deconv_layers.4.",
    r"head\.conv\.": r"head.final_layer.",
}


def recognise(shapes: Shapes) -> bool:
    """Recognises positions and blocks of their names."""
    return "backbone.embeddings.position_embeddings" in shapes and any(QUERY in name for name in shapes)


def plan(contents: Contents) -> Plan:
    """Plans the network as that of ViTPose's file. Raises UserError where the configuration tells of another one."""
    theirs = {_in_vitpose(name): name for name in contents.state if not any(part in name for part in JOINED)}
    state = {name: _tensor(contents.state, original) for name, original in theirs.items()}
    found = vitpose.plan(Contents(contents.path, state), PROJECT)
    joined = [name for name in contents.state if any(part in name for part in JOINED)]
    found = replace(
        found,
        names={ours: theirs[name] for ours, name in found.names.items()},
        unused={theirs[name]: why for name, why in found.unused.items()},
        joined=(*(theirs[name] for name in found.joined), *joined),
    )
    file = contents.path.parent / "config.json"
    return _configured(found, contents, files.read_object(file)) if file.is_file() else found


def _in_vitpose(name: str) -> str:
    for beginning, own in BEGINNINGS.items():
        if (match := re.match(beginning, name)) is not None:
            return match.expand(own) + name[match.end() :]
    return name


def _tensor(state: dict[str, Tensor], name: str) -> Tensor:
    if QUERY not in name:
        return state[name]
    return torch.cat([state[name.replace(QUERY, part)] for part in (QUERY, *JOINED)])


def _configured(found: Plan, contents: Contents, configuration: dict[str, Any]) -> Plan:
    backbone = configuration.get("backbone_config")
    heads, own = (
        backbone.get("num_attention_heads") if isinstance(backbone, dict) else None,
        SPECS[found.backbone].heads,
    )
    if heads not in (None, own):
        raise UserError(
            contents.path, f"{PROJECT} with {heads} heads of attention by its config.json; {found.backbone} has {own}"
        )
    head, scale = found.head, configuration.get("scale_factor", 4)
    if head.get("upsampling") == "resize":
        if scale not in (2, 4, 8, 16):
            raise UserError(contents.path, f"scale_factor {scale!r} in its config.json; expected 2, 4, 8 or 16")
        head = {**head, "stride": PATCH // scale}
    labels, skeleton = configuration.get("id2label"), found.skeleton
    if skeleton is not None and skeleton != skeletons.COCO17 and isinstance(labels, dict):
        points = [str(labels.get(str(i), point)) for i, point in enumerate(skeleton.points)]
        skeleton, _ = skeletons.complete("unnamed", points, where=str(contents.path))
    return replace(found, head=head, skeleton=skeleton)
