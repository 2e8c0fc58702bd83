"""What is traced for phones, whose files hold a detector twice: with its decode, and the network alone, which the chips that
run no decode take whole."""

from __future__ import annotations

from torch import Tensor, nn

from fiducial.exporting import onnx_export
from fiducial.models.detector import Detector, full_precision

POINTS, NETWORK = "points", "network"  # what the two are called in a file


class Points(nn.Module):
    """Crops -> the columns of Keypoints, by name."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, crops: Tensor) -> dict[str, Tensor]:
        found = self.detector.decode(full_precision(self.detector(crops)))
        return {name: getattr(found, name) for name in onnx_export.columns_of(found)}


class Raw(nn.Module):
    """Crops -> the parts of the head's raw output that are not empty, by name."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, crops: Tensor) -> dict[str, Tensor]:
        raw = self.detector(crops)
        named = zip(onnx_export.names_of(raw), onnx_export.parts_of(raw), strict=True)
        return {name: part for name, part in named if part.numel() > 0}


class InOrder(nn.Module):
    """The same as a tuple, for files whose outputs are known by their order."""

    def __init__(self, named: Points | Raw) -> None:
        super().__init__()
        self.named = named

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.named(crops).values())
