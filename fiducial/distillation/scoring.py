"""How far a student is from its teacher on crops that it did not learn from, and how far both are from labels.

`student_teacher_distance` is an average distance of keypoints, AKD for short. What the First-Order-Motion model's
authors (Siarohin et al., NeurIPS 2019) publish under that name is another thing: it is measured on generated video with
a network for face alignment, and averages |dx| and |dy|."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from fiducial import geometry
from fiducial.distillation.signals import (
    Offer,
    Signals,
    distance_px,
    divergence,
    jacobian_error,
    signals_of,
    squared_errors,
)
from fiducial.distillation.teacher import TeacherAnswers
from fiducial.geometry import Size
from fiducial.models.detector import Detector
from fiducial.models.resizing import Cells
from fiducial.motion.scoring import spread_of
from fiducial.motion.warps import Warp, WarpSpec
from fiducial.training.objective import Objective
from fiducial.training.scoring import validation_scores
from fiducial.types import Batch, Instances

DISTANCE = "student_teacher_distance"
OTHER_MEASURE = "The distance is not the AKD that is published with the First-Order-Motion model."
MEANINGS = {
    DISTANCE: "mean distance of the student's points from the teacher's, px of the student's input",
    "student_teacher_distance_share": "the same as a share of the input's longest side",
    "l1": "mean squared error of points and Jacobians in -1..1, unweighted: the loss L1",
    "jacobian_error": "mean |1 - J_t^-1 J_s| over the entries of the local frames; 0 = the teacher's frame",
    "heatmap_divergence": "Jensen-Shannon divergence of the heatmaps, 0 to 0.69",
    "nme": "the student's error against the labels, over the normaliser",
    "teacher_nme": "the teacher's error against the labels, over the normaliser",
    "epe": "the student's error against the labels, px of the image",
    "equivariance_px": "how far a warped image's points, warped back, lie from the image's own, px of the input",
}


def parts_of(
    student: Signals, teacher: Signals, size: Size, own: Cells | None, theirs: Cells | None
) -> dict[str, Float[Tensor, " b"]]:
    """Measures the differences of each crop, by the names in `MEANINGS`; what one of the two does not have is left out.

    size: the student's input; own, theirs: the cells of the student's and the teacher's maps."""
    parts = {DISTANCE: distance_px(student, teacher, size).mean(1)}
    parts["l1"] = torch.stack(list(squared_errors(student, teacher, size).values())).sum(0)
    if student.jacobian is not None and teacher.jacobian is not None:
        parts["jacobian_error"] = jacobian_error(student.jacobian, teacher.jacobian).mean(1)
    if student.maps is not None and teacher.maps is not None and own is not None and theirs is not None:
        parts["heatmap_divergence"] = divergence(student.maps, own, teacher.maps, theirs).mean(1).clamp_min(0)
    return parts


class Compared(NamedTuple):
    """Holds what student and teacher say of one batch."""

    student: Signals
    teacher: Signals
    parts: dict[str, Float[Tensor, " b"]]  # of `parts_of`


class Distances:
    """Scores a student, or a network that learnt the same points without the teacher. `metric` picks the epoch.

    Implements `training.work.Scoring`."""

    def __init__(
        self, answers: TeacherAnswers, student: Offer, teacher: Offer, truth: Instances | None, metric: str = DISTANCE
    ) -> None:
        self.answers, self.student, self.teacher = answers, student, teacher
        self.truth, self.metric = truth, metric
        self._parts: list[dict[str, Tensor]] = []
        self._points: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []  # row, student's and teacher's xy, matrix

    @torch.no_grad()
    def compared(self, detector: Detector, batch: Batch) -> Compared:
        """Compares student and teacher crop by crop, and remembers nothing."""
        student, teacher = signals_of(detector, batch.image), self.answers(batch)
        parts = parts_of(student, teacher, self.student.size, self.student.cells, self.teacher.cells)
        return Compared(student, teacher, parts)

    def observe(self, objective: Objective, batch: Batch) -> None:
        self.add(batch, self.compared(objective.detector, batch))

    def add(self, batch: Batch, compared: Compared) -> None:
        """Remembers a batch for `scores`."""
        self._parts.append(compared.parts)
        if self.truth is not None:
            both = (compared.student, compared.teacher)
            student_xy, teacher_xy = (geometry.unit_to_px(signals.xy_unit, self.student.size) for signals in both)
            self._points.append((batch.row, student_xy, teacher_xy, batch.image_to_crop))

    def scores(self) -> dict[str, float]:
        means = {name: float(torch.cat([part[name] for part in self._parts]).mean()) for name in self._parts[0]}
        means = {DISTANCE: means[DISTANCE], DISTANCE + "_share": means[DISTANCE] / max(self.student.size), **means}
        if self.truth is not None:
            row, student_xy, teacher_xy, matrix = (torch.cat(column) for column in zip(*self._points, strict=True))
            means |= validation_scores(self.truth, row.cpu().numpy(), student_xy, matrix)
            means["teacher_nme"] = validation_scores(self.truth, row.cpu().numpy(), teacher_xy, matrix)["nme"]
        self._parts.clear()
        self._points.clear()
        return means


@torch.no_grad()
def equivariance_px(detector: Detector, image: UInt8[Tensor, "b h w 3"], seed: int = 0) -> Float[Tensor, " b"]:
    """Measures how well points keep to what they mark, whatever that is: how far a warped crop's points, warped back, lie from
    the crop's own, under one random warp. It can be compared between detectors whose points mean different things."""
    size = detector.spec.size
    warp = Warp.draw(len(image), WarpSpec(), torch.Generator().manual_seed(seed), image.device)
    moved = warp.image(image.permute(0, 3, 1, 2).float()).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    plain, warped = (geometry.px_to_corner(detector.predict(each).xy, size) for each in (image, moved))
    back = geometry.corner_to_px(warp.points(warped), size)
    return torch.linalg.vector_norm(back - geometry.corner_to_px(plain, size), dim=-1).mean(1)


def unlabelled_scores(detector: Detector, image: UInt8[Tensor, "b h w 3"]) -> dict[str, float]:
    """Scores what can be said of any points without a teacher or labels: equivariance, and where they lie."""
    xy = detector.predict(image).numpy().xy
    spread = spread_of(np.asarray(xy), detector.spec.size)
    return {"equivariance_px": float(equivariance_px(detector, image).mean()), **spread._asdict()}
