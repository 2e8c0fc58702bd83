"""Files of MMPose, 0.x and 1.x: HRNet, ResNet or CSPNeXt under `backbone.` and one of its heads under `head.` (0.x:
`keypoint_head.`): heatmaps with or without transposed convolutions, SimCC, RTMPose's, regression, regression by RLE.

MMPretrain's and MMPose's files of a backbone alone have the same names."""

from __future__ import annotations

import re
from typing import Any

from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.models.backbones import cspnext_pyramid
from fiducial.models.checkpoints import _trunks
from fiducial.models.checkpoints._plan import (
    Draft,
    Plan,
    Shapes,
    configured,
    heatmap_conventions,
    size_of,
    skeleton_of,
    upsampling_of,
    usual_size,
)
from fiducial.models.checkpoints._reader import Contents
from fiducial.models.checkpoints._trunks import Trunk

PROJECT = "MMPose"
ONE_INSTANCE = ("TopdownPoseEstimator", "TopDown", "ImageClassifier")  # of 1.x, 0.x and MMPretrain
TAGGED = tuple(2 * points for points in (14, 16, 17))  # maps of CrowdPose's and AIC's, MHP's, COCO's
HEADS = ("head.", "keypoint_head.")
# By which names a head is known. MMPretrain's classifiers (`head.fc`) come without the pose heads' losses, see `plan`.
KNOWN = ("final_layer.", "deconv_layers.", "conv_layers.", "mlp_head_x.", "cls_x.", "fc.", "loss.", "loss_module.")


def recognise(shapes: Shapes) -> bool:
    """Recognises one of three backbones, and beside it nothing or a head that MMPose has."""
    trunk = _trunks.trunk_of(shapes, "backbone.")
    if trunk is None or trunk.name.startswith("vitpose"):  # its file is another one
        return False
    heads = [name for name in shapes if not name.startswith("backbone.")]
    known = tuple(head + part for head in HEADS for part in KNOWN)
    return not heads or any(name.startswith(known) for name in heads)


def plan(contents: Contents) -> Plan:
    """Plans the network with its head. Raises UserError for a head that Fiducial does not have."""
    shapes = contents.shapes
    if (why := _whole_picture(contents)) is not None:
        raise UserError(contents.path, why)
    trunk = _trunks.trunk_of(shapes, "backbone.")
    assert trunk is not None
    draft = Draft(contents, PROJECT)
    prefix = next((p for p in HEADS if any(name.startswith(p) for name in shapes)), None)
    if prefix is None or _is_classifier(shapes, prefix):
        draft.leave("head.fc.", "of the classifier")
        _take_backbone(draft, trunk)
        return draft.finish(trunk.name)
    own = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    if "cls_x.weight" in own or "mlp_head_x.weight" in own:
        found = _simcc(draft, own, prefix, trunk)
    elif "fc.weight" in own:
        found = _regression(draft, own, prefix)
    else:
        found = _heatmap(draft, own, prefix, trunk)
    _take_backbone(draft, trunk)
    backbone = trunk.name
    if trunk.name.startswith("cspnext") and "neck.reduce_layers.0.conv.weight" in shapes:
        draft.take("neck.", "backbone.neck.")
        backbone += cspnext_pyramid.ENDING
    if found["head"].get("upsampling") == "mixing":
        backbone = backbone.replace("_branches", "_concat")
    return draft.finish(backbone, **found)


def _take_backbone(draft: Draft, trunk: Trunk) -> None:
    for name in [name for name in draft.left if name.startswith("backbone.")]:
        draft.put(trunk.prefix + _trunks.ours(trunk, name.removeprefix("backbone.")), name, draft.left[name])


def refusal(contents: Contents) -> str:
    """Says what a file holds whose backbone, under `backbone.`, is none of ours."""
    if (why := _whole_picture(contents)) is not None:
        return why
    kinds = {part: configured(contents, "model", part, "type") for part in ("backbone", "head", "keypoint_head")}
    told = ", ".join(
        f"{part.removeprefix('keypoint_')} {kind}" for part, kind in kinds.items() if isinstance(kind, str)
    )
    first = next(name for name in contents.state if name.startswith("backbone."))
    by = f"{told}, by its configuration" if told else f"its tensors begin with {first}"
    return f"a network of {PROJECT}'s form with a backbone or head that Fiducial has not ({by}). docs/weights.md lists those that can be read"


def _whole_picture(contents: Contents) -> str | None:
    """Why a network that finds all instances of a picture at once is none of ours; None where it looks at one.

    Associative embedding (Newell et al., NeurIPS 2017) has a map of tags for each map of points; where no configuration
    tells, it is known by the doubled points of its data sets and the large square input that it has alone."""
    kind = configured(contents, "model", "type")
    if isinstance(kind, str) and kind not in ONE_INSTANCE:
        return f"{PROJECT}'s {kind}, which finds all instances of a picture at once; Fiducial reads networks that look at one instance (TopdownPoseEstimator)"
    shapes = [contents.shapes.get(f"{head}final_layer.weight", (0,)) for head in HEADS]
    maps = max(shape[0] for shape in shapes if shape)
    described = contents.meta.get("dataset_meta")
    points = described.get("num_keypoints") if isinstance(described, dict) else None
    doubled = (
        maps == 2 * points
        if isinstance(points, int)
        else maps in TAGGED and min(size_of(contents, Size(1, 1))[0]) >= 512
    )
    if kind is None and doubled:
        return f"{PROJECT}'s associative embedding: {maps // 2} maps of points and as many of tags, for all instances of a picture at once; Fiducial reads networks that look at one instance"
    return None


def _is_classifier(shapes: Shapes, prefix: str) -> bool:
    """A thousand classes, or any number that is no number of coordinates."""
    rows = shapes.get(f"{prefix}fc.weight", (0,))[0]
    alone = not any(name.startswith((f"{prefix}loss", f"{prefix}final_layer")) for name in shapes)
    return rows > 0 and alone and (rows % 2 == 1 or rows >= 1000)


def _simcc(draft: Draft, own: Shapes, prefix: str, trunk: Trunk) -> dict[str, Any]:
    """Bins and cells tell the input's size: with s bins a px, w s x h s bins and (w / stride) (h / stride) cells."""
    rtmcc = "cls_x.weight" in own
    if any(name.startswith("deconv") for name in own):
        raise UserError(
            f"{draft.contents.path}: {PROJECT}'s SimCC head with transposed convolutions; Fiducial has none"
        )
    rtmw = "final_layer2.conv.weight" in own
    last = "final_layer.conv" if rtmw else "final_layer"
    needed = (last, "cls_y", "mlp.1", "gau.uv", "gau.o") if rtmcc else (last, "mlp_head_y")
    missing = [f"{prefix}{name}.weight" for name in needed if f"{name}.weight" not in own]
    if missing:
        raise UserError(f"{draft.contents.path}: {PROJECT}'s SimCC head is not complete: {missing[0]} is missing")
    points, _, kernel, _ = own[f"{last}.weight"]
    bins_x, bins_y = (
        own[f"{name}.weight"][0] for name in (("cls_x", "cls_y") if rtmcc else ("mlp_head_x", "mlp_head_y"))
    )
    cells = own["mlp.1.weight" if rtmcc else "mlp_head_x.weight"][1]
    split = round((bins_x * bins_y / (cells * trunk.stride**2)) ** 0.5, 3)
    size = Size(round(bins_x / split), round(bins_y / split))
    if size.w % trunk.stride or size.h % trunk.stride:
        raise UserError(
            f"{draft.contents.path}: {PROJECT}'s SimCC head whose input size differs between its parts: {bins_x} x "
            f"{bins_y} bins and {cells} cells belong to no size in multiples of {trunk.stride} px"
        )
    head: dict[str, Any] = {"split": split, "kernel": kernel, "align": "stride", "decoder": "argmax"}
    if rtmcc:
        if "gau.w" in own or own["gau.uv.weight"][1] * 2 != own["gau.o.weight"][1]:
            raise UserError(
                f"{draft.contents.path}: architecture differs: a gated attention unit with relative bias or an expansion "
                "other than 2; expected RTMPose's"
            )
        network, hidden = "rtmw" if rtmw else "rtmcc", own["mlp.1.weight"][0] * (2 if rtmw else 1)
        head |= {"network": network, "hidden": hidden, "beta": 10.0}
        draft.take(prefix, "head.network.")
    else:
        width = re.search(r"\bsigma=(\d+(?:\.\d+)?)", draft.contents.said)
        sigma = float(width[1]) if width else 6.0
        head |= {"network": "plain", "sigma_bins": (sigma, sigma)}
        draft.take(f"{prefix}final_layer.", "head.network.final.")
        draft.take(f"{prefix}mlp_head_", "head.network.linear_")
    return {
        "method": "simcc",
        "head": head,
        "skeleton": skeleton_of(draft.contents, points),
        "size": size,
        "size_from": "that of its head",
        "fixed_size": True,
    }


def _regression(draft: Draft, own: Shapes, prefix: str) -> dict[str, Any]:
    """Two numbers a point, or four where a flow shows that their scale was learnt too."""
    flow = next((f"{loss}flow_model." for loss in ("loss_module.", "loss.") if f"{loss}flow_model.mask" in own), None)
    points = own["fc.weight"][0] // (2 if flow is None else 4)
    draft.take(f"{prefix}fc.", "head.linear.")
    if flow is not None:
        draft.take(prefix + flow, "head.likelihood.flow.")
    size, size_from = size_of(draft.contents, usual_size(points))
    return {
        "method": "deeppose" if flow is None else "rle",
        "head": {"frame": "share"},
        "skeleton": skeleton_of(draft.contents, points),
        "size": size,
        "size_from": size_from,
    }


def _heatmap(draft: Draft, own: Shapes, prefix: str, trunk: Trunk) -> dict[str, Any]:
    if re.search(r"udp[_-]regress|combined", draft.contents.said):
        raise UserError(
            f"{draft.contents.path}: {PROJECT}'s maps with offsets (udp-regress), which Fiducial has not; take the file "
            "with plain UDP maps"
        )
    # 0.x has the convolutions before the last one and this one in one sequence.
    nested = _trunks.below(own, r"final_layer\.(\d+)\.") - 1
    last = f"final_layer.{nested}." if nested >= 0 else "final_layer."
    if f"{last}weight" not in own:
        raise UserError(f"{draft.contents.path}: recognised as {PROJECT}, but its head has no final_layer")
    points, _, kernel, _ = own[f"{last}weight"]
    size, size_from = size_of(draft.contents, usual_size(points))
    upsampling = upsampling_of(draft.contents, own, trunk.stride)
    head = {**upsampling, "kernel": kernel, **heatmap_conventions(draft.contents, size)}
    draft.take(f"{prefix}{last}", "head.final.")
    draft.take(f"{prefix}deconv_layers.", "head.upsample.")
    mixing = f"{prefix}final_layer." if nested > 0 else f"{prefix}conv_layers."
    if upsampling["upsampling"] == "none" and f"{mixing}0.weight" in draft.left:
        head["upsampling"] = "mixing"
        _take_mixing(draft, mixing)
    return {
        "method": "heatmap",
        "head": head,
        "skeleton": skeleton_of(draft.contents, points),
        "size": size,
        "size_from": size_from,
    }


def _take_mixing(draft: Draft, prefix: str) -> None:
    """A 1x1 convolution and BatchNorm. Its bias, which ours has not, moves into the norm's mean: (x + b) - m is
    x - (m - b)."""
    bias = draft.left.get(f"{prefix}0.bias")
    if bias is not None:
        name = f"{prefix}1.running_mean"
        draft.put("head.upsample.1.running_mean", name, draft.left[name] - bias)
        draft.leave(f"{prefix}0.bias", "is part of the norm's mean")
    draft.take(prefix, "head.upsample.")
