"""Files of H3R (Yu & Tao, PAMI 2021): `backbone.` is an HRNet whose four maps are stacked, `heatmap_head.head.layers.`
two 1x1 convolutions that give two maps a point."""

from __future__ import annotations

from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.models.checkpoints import _trunks
from fiducial.models.checkpoints._plan import Draft, Plan, Shapes, size_of, skeleton_of
from fiducial.models.checkpoints._reader import Contents

PROJECT = "H3R"
HEADS = ("heatmap_head.head.layers.", "head.layers.")  # of released files, and of the network on its own
# Cells on px, classes and decoder as in its code.
CONVENTIONS = {"upsampling": "mixing", "align": "stride", "two_class": True, "top_k": 9, "decoder": "softmax"}


def recognise(shapes: Shapes) -> bool:
    """Recognises a file by the name of its head."""
    return _head_of(shapes) is not None


def plan(contents: Contents) -> Plan:
    """Plans HRNet trunks. Raises UserError for its MobileNets."""
    shapes = contents.shapes
    trunk = _trunks.trunk_of(shapes, "backbone.")
    if trunk is None or not trunk.name.startswith("hrnet"):
        raise UserError(
            f"{contents.path}: {PROJECT}'s head on a backbone that Fiducial has not; those on HRNet of widths 18, 32 "
            "and 48 can be read"
        )
    head = _head_of(shapes)
    assert head is not None
    draft = Draft(contents, PROJECT)
    draft.take(f"{head}3.", "head.final.")
    draft.take(head, "head.upsample.")
    draft.take("backbone.", "backbone.")
    points = shapes[f"{head}3.weight"][0] // 2
    size, size_from = size_of(contents, Size(256, 256))
    return draft.finish(
        trunk.name.replace("_branches", "_concat"),
        method="rounding",
        head=dict(CONVENTIONS),
        skeleton=skeleton_of(contents, points),
        size=size,
        size_from=size_from,
    )


def _head_of(shapes: Shapes) -> str | None:
    return next((head for head in HEADS if f"{head}0.weight" in shapes and f"{head}3.weight" in shapes), None)
