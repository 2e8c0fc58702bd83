"""Files of HRNet's own code: `pose_hrnet_w32_256x192.pth`, `pose_resnet_50_256x192.pth` (SimpleBaseline as it came with
it), and HRNet's and timm's ImageNet weights of the same trunk.

Names are those of the network without any prefix. Its ResNets were trained on BGR images that were normalised by the
statistics of RGB, its HRNets on RGB."""

from __future__ import annotations

from fiducial.card import Normalization
from fiducial.models.checkpoints import _trunks
from fiducial.models.checkpoints._plan import (
    Draft,
    Plan,
    Shapes,
    heatmap_conventions,
    size_of,
    skeleton_of,
    upsampling_of,
    usual_size,
)
from fiducial.models.checkpoints._reader import Contents

PROJECT = "HRNet's own code"
CLASSIFIER = ("incre_modules.", "downsamp_modules.", "final_layer.", "classifier.")


def recognise(shapes: Shapes) -> bool:
    """Recognises an HRNet without prefix, or a ResNet that goes on with transposed convolutions."""
    trunk = _trunks.trunk_of(shapes)
    if trunk is None:
        return False
    return trunk.name.startswith("hrnet") or (trunk.name.startswith("resnet") and "deconv_layers.0.weight" in shapes)


def plan(contents: Contents) -> Plan:
    """Plans the pose network, or the trunk alone for ImageNet's."""
    shapes = contents.shapes
    trunk = _trunks.trunk_of(shapes)
    assert trunk is not None
    draft = Draft(contents, PROJECT)
    if "classifier.weight" in shapes or "final_layer.weight" not in shapes:
        for prefix in CLASSIFIER:
            draft.leave(prefix, "of the classifier")
        draft.take("", trunk.prefix)
        return draft.finish(trunk.name)
    points, _, kernel, _ = shapes["final_layer.weight"]
    size, size_from = size_of(contents, usual_size(points))
    upsampling = upsampling_of(contents, shapes, trunk.stride)
    head = {**upsampling, "kernel": kernel, **heatmap_conventions(contents, size)}
    draft.take("deconv_layers.", "head.upsample.")
    draft.take("final_layer.", "head.final.")
    normalization = None
    if trunk.name.startswith("resnet"):
        draft.put(f"{trunk.prefix}conv1.weight", "conv1.weight", contents.state["conv1.weight"].flip(1))
        (r, g, b), (std_r, std_g, std_b) = Normalization().mean, Normalization().std
        normalization = Normalization((b, g, r), (std_b, std_g, std_r))
    draft.take("", trunk.prefix)
    return draft.finish(
        trunk.name,
        method="heatmap",
        head=head,
        skeleton=skeleton_of(contents, points),
        size=size,
        size_from=size_from,
        normalization=normalization,
    )
