"""Losses of finders: cells that are the middle of an instance, and boxes told from a cell."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def centre_focal(logits: Tensor, target: Tensor) -> Tensor:
    """Computes the focal loss of each cell: -(1 - p)^2 ln p where the target is 1, -(1 - target)^4 p^2 ln(1 - p) elsewhere
    (CornerNet: Law & Deng, ECCV 2018, eq. 1); any shape."""
    p = logits.sigmoid()
    positive = (1 - p) ** 2 * F.softplus(-logits)
    negative = (1 - target) ** 4 * p**2 * F.softplus(logits)
    return torch.where(target == 1, positive, negative)


def sides_giou(predicted: Tensor, target: Tensor) -> Tensor:
    """Computes the generalised IoU of boxes given by the way from one point to their left, top, right and bottom sides
    (Rezatofighi et al., CVPR 2019), -1..1: [b, 4, ..] each -> [b, ..]. A point may lie outside of the target's box."""
    both, hull = torch.minimum(predicted, target), torch.maximum(predicted, target)
    shared = (both[:, 0] + both[:, 2]).clamp_min(0) * (both[:, 1] + both[:, 3]).clamp_min(0)
    around = (hull[:, 0] + hull[:, 2]) * (hull[:, 1] + hull[:, 3])
    areas = [(sides[:, 0] + sides[:, 2]) * (sides[:, 1] + sides[:, 3]) for sides in (predicted, target)]
    union = areas[0] + areas[1] - shared
    return shared / union.clamp_min(1e-9) - (around - union) / around.clamp_min(1e-9)
