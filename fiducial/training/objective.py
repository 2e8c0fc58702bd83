"""What training minimises: Objective(batch) -> named losses. Supervised here; others join as files."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from fiducial.models.contracts import Head
from fiducial.models.detector import Detector, full_precision
from fiducial.types import Batch, Scenes


class Objective(nn.Module):
    """All that training sees. Its parameters that want a gradient are trained; its detector is what is kept."""

    detector: Detector
    frozen = False  # the detector's backbone is used as it is, its norms too

    @abstractmethod
    def forward(self, batch: Any) -> dict[str, Float[Tensor, ""]]:
        """Named losses; their sum is minimised. `batch.row` has a row for each sample."""

    @abstractmethod
    def each(self, batch: Any) -> Float[Tensor, " b"]:
        """The loss of each sample alone, by the present weights in the present mode."""

    def train(self, mode: bool = True) -> Objective:
        super().train(mode)
        if self.frozen:
            self.detector.backbone.eval()
        return self


class Supervised(Objective):
    """The head's own loss on labelled points."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector
        # Of the last training step, where its maps may collapse: mean peak at labelled points, for the watch.
        self.mean_peak: Tensor | None = None

    def forward(self, batch: Batch | Scenes) -> dict[str, Float[Tensor, ""]]:
        return self.losses_of(self.raw_of(batch.image), batch)

    @torch.no_grad()
    def each(self, batch: Batch | Scenes) -> Tensor:
        return losses_of_rows(self.detector.head, self.raw_of(batch.image), batch)

    def losses_of(self, raw: Any, batch: Batch | Scenes) -> dict[str, Float[Tensor, ""]]:
        """Computes the head's losses of a raw, in full precision, and notes the mean peak."""
        head = self.detector.head
        with torch.autocast(batch.image.device.type, enabled=False):
            if self.training and head.may_collapse and isinstance(batch, Batch):
                self.mean_peak = _mean_peak(head.heatmaps(raw), batch)
            return head.loss(raw, batch)  # type: ignore[arg-type]  # a finder's head takes scenes

    def raw_of(self, image: UInt8[Tensor, "b h w 3"]) -> Any:
        """Runs the detector, its backbone without gradients where it is frozen."""
        detector = self.detector
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features = detector.features(image)
        return full_precision(detector.head.of(features, detector.backbone.main))


def losses_of_rows(head: Head, raw: Any, batch: Batch | Scenes) -> Tensor:
    """[b]: the summed losses of each row of a head's raw alone."""
    losses = []
    for i in range(len(batch.row)):
        rows = slice(i, i + 1)
        row = type(batch)(*(column[rows] for column in batch))
        of_row = head.loss(raw_rows(raw, rows), row)  # type: ignore[arg-type]  # as above
        losses.append(torch.stack(list(of_row.values())).sum())
    return torch.stack(losses)


def raw_rows(raw: Any, rows: slice) -> Any:
    """Picks rows of a head's raw."""
    return raw[rows] if isinstance(raw, Tensor) else type(raw)(*(part[rows] for part in raw))


@torch.no_grad()
def _mean_peak(maps: Float[Tensor, "b k h w"] | None, batch: Batch) -> Float[Tensor, ""] | None:
    """Mean height of the highest cell over the labelled points; None where there are no maps."""
    if maps is None:
        return None
    return (maps.amax((-2, -1)) * batch.labelled).sum() / batch.labelled.sum().clamp_min(1)
