"""Files of ViTPose (Xu et al., NeurIPS 2022), from its own code and from MMPose 1.x, which names the same parts
anew.

A file of ViTPose++ (Xu et al., PAMI 2024) holds networks for several data sets that share all but the last rows of each
block (its experts) and the head; the first, COCO's, is taken, and becomes a network without experts."""

from __future__ import annotations

import re

import torch

from fiducial.errors import UserError
from fiducial.models.backbones import vitpose
from fiducial.models.checkpoints import _trunks
from fiducial.models.checkpoints._plan import Draft, Plan, Shapes, skeleton_of, upsampling_of
from fiducial.models.checkpoints._reader import Contents

PROJECT = "ViTPose"
HEADS = ("keypoint_head.", "head.")
CONVENTIONS = {"loss": "mse", "sigma_cells": 2.0, "align": "corner", "decoder": "dark_udp", "blur_cells": 11}
# MMPretrain's names of the parts of a block.
PARTS = {"ln1": "norm1", "ln2": "norm2", "ffn.layers.0.0": "mlp.fc1", "ffn.layers.1": "mlp.fc2", "attn": "attn"}
STRIDE = 4  # px a cell of the simple decoder's maps
OTHERS = "of other data sets than the first"


def recognise(shapes: Shapes) -> bool:
    """Recognises a transformer with learnt positions under `backbone.`, and beside it a head of its names or
    nothing."""
    if "backbone.pos_embed" not in shapes:
        return False
    beside = [name for name in shapes if not name.startswith("backbone.")]
    return not beside or any(f"{head}final_layer.weight" in shapes for head in HEADS)


def plan(contents: Contents, project: str = PROJECT) -> Plan:
    """Plans backbone and head; the positions must be those of 192x256 px."""
    shapes = contents.shapes
    trunk = _trunks.trunk_of(shapes, "backbone.")
    if trunk is None:
        raise UserError(
            f"{contents.path}: {project} of a width and depth that Fiducial has not; small, base, large and huge can "
            "be read"
        )
    draft = Draft(contents, project)
    size = vitpose.SPECS[trunk.name].size
    _take_positions(draft, size.w // vitpose.PATCH * (size.h // vitpose.PATCH))
    draft.leave("backbone.cls_token", "ViTPose has no class token")
    draft.leave("associate_keypoint_heads.", OTHERS)
    if "backbone.layers.0.attn.qkv.weight" in shapes:
        _take_renamed(draft)
    _take_first_experts(draft)
    draft.take("backbone.", "backbone.")
    head = next((prefix for prefix in HEADS if f"{prefix}final_layer.weight" in shapes), None)
    if head is None:
        return draft.finish(trunk.name, size=size)
    points, _, kernel, _ = shapes[f"{head}final_layer.weight"]
    own = {name.removeprefix(head): shape for name, shape in shapes.items() if name.startswith(head)}
    upsampling = upsampling_of(contents, own, trunk.stride)
    if upsampling["upsampling"] == "none":  # the simple decoder, which is nothing but its last convolution
        upsampling = {"upsampling": "resize", "stride": STRIDE}
    draft.take(f"{head}deconv_layers.", "head.upsample.")
    draft.take(f"{head}final_layer.", "head.final.")
    return draft.finish(
        trunk.name,
        method="heatmap",
        head={**upsampling, "kernel": kernel, **CONVENTIONS},
        skeleton=skeleton_of(contents, points),
        size=size,
        size_from="that of its positions",
    )


def _take_first_experts(draft: Draft) -> None:
    """An expert is the last rows of a block's second layer; those before are the same for all data sets."""
    for name in [name for name in draft.left if ".mlp.experts.0." in name]:
        shared = name.replace("experts.0", "fc2")
        draft.stack(shared, shared, name)
    for name in [name for name in draft.left if ".mlp.experts." in name]:
        draft.leave(name, OTHERS)


def _take_positions(draft: Draft, patches: int) -> None:
    """With the entry of the class token, which is zero where the file has none."""
    name = "backbone.pos_embed"
    positions = draft.left[name]
    if positions.shape[1] == patches:
        positions = torch.cat([torch.zeros_like(positions[:, :1]), positions], dim=1)
    if positions.shape[1] != patches + 1:
        raise UserError(
            f"{draft.contents.path}: input size differs: positions of {positions.shape[1] - 1} patches; expected "
            f"{patches}, those of 192x256 px"
        )
    draft.put(name, name, positions)


def _take_renamed(draft: Draft) -> None:
    for name in [name for name in draft.left if name.startswith("backbone.")]:
        found = re.fullmatch(rf"backbone\.layers\.(\d+)\.({'|'.join(map(re.escape, PARTS))})\.(.+)", name)
        if found is not None:
            draft.put(f"backbone.blocks.{found[1]}.{PARTS[found[2]]}.{found[3]}", name, draft.left[name])
    draft.take("backbone.patch_embed.projection.", "backbone.patch_embed.proj.")
    draft.take("backbone.ln1.", "backbone.last_norm.")
