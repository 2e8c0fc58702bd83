"""A detector of random weights whose maps have peaks, as after training: in a new network's flat maps any cell may be the
highest, in each runtime another."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from fiducial.card import DetectorSpec
from fiducial.exporting import onnx_export
from fiducial.geometry import Size
from fiducial.models import detector as detectors
from fiducial.models.detector import Detector
from fiducial.types import Skeleton, Spread

SIZE = Size(64, 96)
SKELETON = Skeleton("five", ("a", "b", "c", "d", "e"), edges=((0, 1),), flip_pairs=((0, 1),))
# As after training: whatever a method is, its files say how far its points may be off.
SPREAD = Spread(
    power=0.7,
    scale=(0.5, 1.0, 1.5, 2.0, 2.5),
    shares=(0.5, 0.9),
    factors=(1.2, 2.2),
    margins=(0.1, 0.1),
    correlation=0.8,
)


def settled(method: str, head: dict[str, Any] | None = None, backbone: str = "test_efficientnet") -> Detector:
    """The head's weights are drawn larger, also those that start at zero; BatchNorms take the statistics of noise."""
    torch.manual_seed(5)
    detector = detectors.build(DetectorSpec(backbone, method, head or {}, SIZE, SKELETON, spread=SPREAD))
    for parameter in detector.head.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter)
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        detector.train()(torch.from_numpy(onnx_export.example_crops(SIZE, 8)))
    return detector.eval()
