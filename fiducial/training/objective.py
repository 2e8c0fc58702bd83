"""What training minimises: Objective(batch) -> named losses. Supervised here; others join as files."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from fiducial.models.detector import Detector, full_precision
from fiducial.types import Batch


class Objective(Protocol):
    """All that training sees."""

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Named losses, scalars; their sum is minimised."""
        ...


class Supervised(nn.Module):
    """The head's own loss on labelled points."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector
        self.frozen = False  # the backbone is used as it is, its norms too
        # Of the last training step, where the method draws maps: mean peak at labelled points, for the watch.
        self.mean_peak: Tensor | None = None

    def train(self, mode: bool = True) -> Supervised:
        super().train(mode)
        if self.frozen:
            self.detector.backbone.eval()
        return self

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        detector = self.detector
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features = detector.features(batch.image)
        raw = full_precision(detector.head(features[detector.backbone.main]))
        with torch.autocast(batch.image.device.type, enabled=False):
            if self.training:
                self.mean_peak = _mean_peak(detector.head.heatmaps(raw), batch)
            return detector.head.loss(raw, batch)


@torch.no_grad()
def _mean_peak(maps: Tensor | None, batch: Batch) -> Tensor | None:
    """Mean height of the highest cell over the labelled points; None where there are no maps."""
    if maps is None:
        return None
    return (maps.amax((-2, -1)) * batch.labelled).sum() / batch.labelled.sum().clamp_min(1)

