"""Files of the First-Order-Motion model (Siarohin et al., NeurIPS 2019): of its detector alone, or of the whole system,
of which `kp_detector` is taken. Its Gaussian filter is computed here."""

from __future__ import annotations

import re
from dataclasses import replace

from fiducial.card import Normalization
from fiducial.data import skeletons
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.models.backbones.hourglass import HourglassSpec
from fiducial.models.checkpoints._plan import Draft, Plan, Shapes
from fiducial.models.checkpoints._reader import Contents
from fiducial.types import Skeleton

PROJECT = "First-Order-Motion model"
_WIDEST, _PADDING = 1024, 0  # of all published configurations


def recognise(shapes: Shapes) -> bool:
    """Recognises a file by its heatmap convolution and the hourglass in front of it."""
    return "kp.weight" in shapes and "predictor.encoder.down_blocks.0.conv.weight" in shapes


def plan(contents: Contents) -> Plan:
    """Plans the detector. Raises UserError where a part is of another form."""
    shapes = contents.shapes
    spec, points = spec_of(shapes), shapes["kp.weight"][0]
    head = {"padding": _PADDING, "kernel": shapes["kp.weight"][-1], "jacobian": _jacobian_of(contents, points)}
    draft = Draft(contents, PROJECT)
    draft.leave("down.", "its filter is computed")
    for name, tensor in contents.state.items():
        if not name.startswith("down."):
            draft.put(our_name(name), name, tensor)
    side = 64 * spec.reduction
    return draft.finish(
        spec.name,
        method="motion",
        head=head,
        skeleton=Skeleton(f"motion{points}", skeletons.numbered(points), named=False),
        size=Size(side, side),
        size_from="the usual one, the file does not say",
        normalization=Normalization((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    )


def spec_of(shapes: Shapes) -> HourglassSpec:
    """Finds the hourglass from its tensors' shapes: a width that two blocks share is the widest."""
    downs = sorted(name for name in shapes if re.fullmatch(r"predictor\.encoder\.down_blocks\.\d+\.conv\.weight", name))
    widths = [shapes[f"predictor.encoder.down_blocks.{i}.conv.weight"][0] for i in range(len(downs))]
    grown = widths[-1] != 2 * widths[-2] if len(widths) > 1 else False
    side = shapes["down.weight"][-1] if "down.weight" in shapes else 1
    # 2 round(4 (factor - 1) / 2) + 1 taps, read backwards.
    reduction = 1 + (side - 1) // 4
    spec = HourglassSpec(widths[0] // 2, len(widths), _WIDEST, reduction)
    return replace(spec, widest=widths[-1]) if grown else spec


def our_name(theirs: str) -> str:
    """Translates a tensor's name with them into ours."""
    name = re.sub(r"^predictor\.encoder\.down_blocks\.", "backbone.network.down.", theirs)
    name = re.sub(r"^predictor\.decoder\.up_blocks\.", "backbone.network.up.", name)
    return re.sub(r"^kp\.", "head.heatmap.", re.sub(r"^jacobian\.", "head.jacobian.", name))


def _jacobian_of(contents: Contents, points: int) -> str:
    shape = contents.shapes.get("jacobian.weight")
    if shape is None:
        return "none"
    kinds = {4 * points: "own", 4: "shared"}
    if shape[0] not in kinds:
        raise UserError(
            f"{contents.path}: {shape[0]} maps of Jacobians for {points} points; expected {4 * points} or 4"
        )
    return kinds[shape[0]]
