"""How well held-out clips are made from their first frames, and how the points keep to what they mark."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fiducial import geometry
from fiducial.geometry import Size
from fiducial.motion import collapse
from fiducial.motion.objective import Motion
from fiducial.motion.pairs import FramePairs
from fiducial.training.objective import Objective


class ReconstructionErrors:
    """Mean absolute errors of pixels in 0..1, over all pairs.

    reconstruction: of the generated frame; copy: of the source taken for it; gain: the share of that which is saved.
    equivariance_px: mean distance between the points of a warped frame, warped back, and the frame's own, px of the
    input. Then what `collapse.Spread` has."""

    metric = "reconstruction"

    def __init__(self, size: Size) -> None:
        self.size = size
        self.rows: list[dict[str, Tensor]] = []
        self.xy: list[np.ndarray] = []

    @torch.no_grad()
    def observe(self, objective: Objective, batch: FramePairs) -> None:
        assert isinstance(objective, Motion)
        found = objective.reconstruct(batch, torch.Generator().manual_seed(0))
        source = batch.source.permute(0, 3, 1, 2) / 255
        back = found.warp.points(found.of_warped.xy_corner)
        there, here = (geometry.corner_to_px(xy, self.size) for xy in (back, found.of_driving.xy_corner))
        self.rows.append({
            "reconstruction": (found.generated.prediction.float() - found.driving).abs().mean((1, 2, 3)),
            "copy": (source - found.driving).abs().mean((1, 2, 3)),
            "equivariance_px": (there - here).norm(dim=-1).mean(-1),
        })  # fmt: skip
        self.xy.append(here.cpu().numpy())

    def scores(self) -> dict[str, float]:
        means = {name: float(torch.cat([row[name] for row in self.rows]).mean()) for name in self.rows[0]}
        spread = collapse.spread_of(np.concatenate(self.xy), self.size)
        self.rows.clear()
        self.xy.clear()
        return means | {"gain": 1 - means["reconstruction"] / max(means["copy"], 1e-9)} | spread._asdict()
