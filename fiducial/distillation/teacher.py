"""The network that is learnt from: frozen, known by a fingerprint of its weights, and asked in one of two ways."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch.nn import functional as F

from fiducial import files
from fiducial.card import Card
from fiducial.distillation.signals import Offer, Signals, offer_of, signals_of
from fiducial.geometry import Size
from fiducial.models import detector as detectors
from fiducial.models.detector import Detector
from fiducial.types import Batch


@runtime_checkable
class TeacherAnswers(Protocol):
    """Gives what a teacher says of a batch, on the batch's device, without gradients."""

    def __call__(self, batch: Batch) -> Signals: ...


@dataclass(frozen=True)
class Teacher:
    """Holds a trained detector and where it came from."""

    path: Path
    detector: Detector
    card: Card
    offer: Offer
    fingerprint: str  # of its weights and of what decodes them

    def told(self) -> dict[str, Any]:
        """Describes the teacher, for recipe.json and the student's card."""
        spec = self.detector.spec
        return {
            "path": str(self.path),
            "fingerprint": self.fingerprint,
            "backbone": spec.backbone,
            "method": spec.method,
            "size": str(spec.size),
            "parameters": parameters_of(self.detector),
            "licence": self.card.licence,
        }


def load(path: Path, device: str = "cpu") -> Teacher:
    """Loads a run folder or another project's file as a frozen teacher."""
    detector, card = detectors.load(path)
    offer = offer_of(detector)
    detector.eval().requires_grad_(False)
    return Teacher(path, detector.to(device), card, offer, fingerprint_of(detector))


def fingerprint_of(detector: Detector) -> str:
    """Digests the weights and what decodes them: other answers, another fingerprint."""
    spec = detector.spec

    def parts() -> Iterator[str | np.ndarray]:
        yield repr((spec.backbone, spec.method, spec.head, spec.size, spec.normalization))
        for name, value in detector.state_dict().items():
            yield name
            yield value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()

    return files.digest(parts())


def parameters_of(detector: Detector) -> int:
    """Counts the parameters that a prediction needs."""
    left_out = tuple(f"head.{name}." for name in detector.head.training_only)
    return sum(value.numel() for name, value in detector.named_parameters() if not name.startswith(left_out))


class Asked:
    """Runs the teacher on every batch.

    Crops of another size than the teacher's are resized to it, outer edges onto outer edges, which is a little less sharp
    than a crop that was cut in that size."""

    def __init__(self, detector: Detector, level: int | None = None) -> None:
        self.detector, self.level = detector, level

    def __deepcopy__(self, memo: Any) -> Asked:
        return self  # frozen: trials of the student share it

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Signals:
        image, size = batch.image, self.detector.spec.size
        self.detector.to(image.device).eval()
        if Size(image.shape[2], image.shape[1]) != size:
            moved = image.permute(0, 3, 1, 2).float()
            moved = F.interpolate(moved, (size.h, size.w), mode="bilinear", antialias=True)
            image = moved.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
        with torch.autocast(image.device.type, enabled=False):
            return signals_of(self.detector, image, self.level)


def settings_of_run(path: Path) -> dict[str, Any]:
    """Reads the recipe that the teacher was trained by, as plain values; {} where its folder has none."""
    file = path / "recipe.json"
    return files.read_part(file, "recipe") if file.is_file() else {}
