"""Every finished run on the same held-out crops: errors crop by crop, so that runs can be held against each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fiducial.comparison.distillation.arms import Arm, folder_of
from fiducial.data import sampling
from fiducial.distill import scoring
from fiducial.distill.teacher import Teacher, parameters_of
from fiducial.distill.workflow import Shared
from fiducial.evaluation import evaluate
from fiducial.geometry import Size
from fiducial.models import detector as detectors
from fiducial.models.detector import Detector
from fiducial.training import history
from fiducial.types import Batch

BATCH = 32
LOOKED_AT = 64  # crops on which points are judged without a teacher
SHOWN = 6  # crops in the page's pictures


@dataclass(frozen=True)
class Measured:
    """One run, or the teacher."""

    arm: Arm | None  # None = the teacher
    errors: dict[str, np.ndarray]  # [n] each: distance and the like; nothing for points that were found anew
    alone: dict[str, float]  # what can be said without a teacher
    shown_unit: np.ndarray  # [p, k, 2] points on the crops of the pictures
    parameters: int
    history: list[dict[str, float]]
    epoch: int | None = None
    size: Size | None = None


@dataclass(frozen=True)
class HeldOut:
    """The crops that are scored, as the students see them."""

    batches: list[Batch]
    shown: np.ndarray  # [p, h, w, 3] uint8
    shown_rows: np.ndarray  # [p] which of all they are
    looked_at: torch.Tensor  # uint8 [m, h, w, 3]

    @property
    def count(self) -> int:
        return sum(len(batch.row) for batch in self.batches)


def held_out(shared: Shared, size: Size) -> HeldOut:
    batches = list(shared.material.plain_loader(True, size, BATCH))
    images = torch.cat([batch.image for batch in batches])
    shown, looked_at = (sampling.places(len(images), count) for count in (SHOWN, LOOKED_AT))
    return HeldOut(batches, images[shown].numpy(), shown, images[looked_at])


def of_arm(arm: Arm, out: Path, shared: Shared, teacher: Teacher, crops: HeldOut) -> Measured:
    folder = folder_of(out, arm)
    detector, card = detectors.load(folder, evaluate.device_name())
    size = detector.spec.size
    of_own_points = arm.loss == "none" and shared.material.truth is None
    errors = {} if of_own_points else _errors(detector, shared, teacher, crops)
    return Measured(
        arm, errors, _alone(detector, crops, size), _shown(detector, crops), parameters_of(detector),
        history.read(folder / "history.csv"), card.metrics["epoch"], size,
    )  # fmt: skip


def of_teacher(shared: Shared, teacher: Teacher, crops: HeldOut, size: Size) -> Measured:
    """`size` is the students', in whose px it is measured."""
    own = crops if teacher.offer.size == size else held_out(shared, teacher.offer.size)
    errors = {}
    if shared.material.truth is not None:
        errors["nme"] = evaluate.evaluate_detector(teacher.detector, shared.material.truth).metrics.instance_nme
    return Measured(
        None, errors, _alone(teacher.detector, own, size), _shown(teacher.detector, own),
        parameters_of(teacher.detector), [], size=teacher.offer.size,
    )  # fmt: skip


@torch.no_grad()
def _errors(detector: Detector, shared: Shared, teacher: Teacher, crops: HeldOut) -> dict[str, np.ndarray]:
    device, parts = detector.mean.device, []
    distances = scoring.Distances(shared.scored, shared.student, teacher.offer, None)
    for batch in crops.batches:
        each = distances.compared(detector, Batch(*(column.to(device) for column in batch))).parts
        parts.append({name: value.cpu().numpy() for name, value in each.items()})
    errors = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if shared.material.truth is not None:
        errors["nme"] = evaluate.evaluate_detector(detector, shared.material.truth).metrics.instance_nme
    return errors


def _alone(detector: Detector, crops: HeldOut, size: Size) -> dict[str, float]:
    found: dict[str, Any] = scoring.unlabelled_scores(detector, crops.looked_at.to(detector.mean.device))
    found["equivariance_px"] *= size.w / detector.spec.size.w
    return found


def _shown(detector: Detector, crops: HeldOut) -> np.ndarray:
    from fiducial import geometry

    image = torch.from_numpy(crops.shown).to(detector.mean.device)
    return geometry.px_to_unit(detector.predict(image).numpy().xy, detector.spec.size)
