"""What a detector says of a crop that another can be taught by: points, Jacobians, distributions, a map of its backbone.

Everything is in frames that do not depend on the input's size, which may differ between student and teacher: both look at
the same part of the image, and the outer edges of their crops coincide."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from fiducial import geometry
from fiducial.distillation.spec import TAUGHT, WITH_HEATMAPS, DistillationSpec
from fiducial.distillation.transfer import Shape
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.models import losses
from fiducial.models.detector import Detector, full_precision
from fiducial.models.resizing import Cells, resized
from fiducial.motion import grids


class Signals(NamedTuple):
    """Holds what a detector says of b crops. None: the detector does not have it, or was not asked for it."""

    xy_unit: Float[Tensor, "b k 2"]
    jacobian: Float[Tensor, "b k 2 2"] | None = None  # of displacements in corner
    maps: Float[Tensor, "b k h w"] | None = None  # the head's distribution, each sums to one
    feature: Float[Tensor, "b c _ _"] | None = None  # the backbone's level whose attention is compared


@dataclass(frozen=True)
class Offer:
    """Describes what a detector can say, and in which shapes."""

    method: str
    size: Size
    points: int
    jacobians: bool
    cells: Cells | None  # of its distributions
    levels: tuple[Shape, ...]  # of its backbone, fine to coarse
    teachable: bool  # a gradient passes from its points to its weights
    sigmas: bool  # it says how sure it is by a spread that it has learnt


def signals_of(
    detector: Detector, image: UInt8[Tensor, "b h w 3"], level: int | None = None, *, frozen: bool = False
) -> Signals:
    """Asks a detector about crops of its size, in its present mode, with gradients where they are on.

    `level` is the backbone's level whose map is wanted too; no gradient goes into a backbone that is `frozen`."""
    with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
        features = detector.features(image)
    raw = full_precision(detector.head(features[detector.backbone.main]))
    size = detector.spec.size
    with torch.autocast(image.device.type, enabled=False):
        points = detector.head.decode(raw)
        maps = detector.head.distribution(raw)
        xy_unit = geometry.px_to_unit(points.xy, size)
        # The other way round the same product gives px to corner: (S A' S^-1)' = S^-1 A S.
        jacobian = None if points.jacobian is None else geometry.corner_linear_to_px(points.jacobian.mT, size).mT
    return Signals(xy_unit, jacobian, maps, None if level is None else features[level].float())


def offer_of(detector: Detector) -> Offer:
    """Finds out what a detector can say, by a black crop in eval mode; the detector is left as it was."""
    size, was_training = detector.spec.size, detector.training
    black = torch.zeros(1, size.h, size.w, 3, dtype=torch.uint8, device=detector.mean.device)
    detector.eval()
    try:
        with torch.no_grad():
            features = detector.features(black)
            sigmas = detector.predict(black).sigma is not None
        with torch.enable_grad():
            signals = signals_of(detector, black)
    finally:
        detector.train(was_training)
    cells = None if signals.maps is None else Cells(size, grids.size_of(signals.maps), detector.head.align)
    levels = tuple(Shape(feature.shape[1], grids.size_of(feature)) for feature in features)
    return Offer(
        method=detector.spec.method,
        size=size,
        points=signals.xy_unit.shape[1],
        jacobians=signals.jacobian is not None,
        cells=cells,
        levels=levels,
        teachable=signals.xy_unit.requires_grad,
        sigmas=sigmas,
    )


# ------------------------------------------------------------------------------------------------------ comparing


def corner_points(signals: Signals, size: Size) -> Float[Tensor, "b k 2"]:
    """Gives the points in the corner frame of crops of `size`."""
    return geometry.px_to_corner(geometry.unit_to_px(signals.xy_unit, size), size)


def squared_errors(student: Signals, teacher: Signals, size: Size) -> dict[str, Float[Tensor, " b"]]:
    """Averages the squared differences of the points, and of the Jacobians where both have them, in the corner frame of crops
    of `size`."""
    errors = {"keypoints": ((corner_points(student, size) - corner_points(teacher, size)) ** 2).mean((1, 2))}
    if student.jacobian is not None and teacher.jacobian is not None:
        errors["jacobians"] = ((student.jacobian - teacher.jacobian) ** 2).mean((1, 2, 3))
    return errors


def distance_px(student: Signals, teacher: Signals, size: Size) -> Float[Tensor, "b k"]:
    """Measures the distance of each point from the teacher's, in px of crops of `size`."""
    apart = geometry.spread_to_px(student.xy_unit - teacher.xy_unit, size)
    return torch.linalg.vector_norm(apart, dim=-1)


def jacobian_error(student: Float[Tensor, "b k 2 2"], teacher: Float[Tensor, "b k 2 2"]) -> Float[Tensor, "b k"]:
    """Averages |1 - J_t^-1 J_s| over the four entries: 0 where the student's local frame is the teacher's, whatever that is."""
    unit = torch.eye(2, dtype=student.dtype, device=student.device)
    return (unit - grids.inverse(teacher) @ student).abs().mean((-2, -1))


def divergence(
    student: Float[Tensor, "b k _ _"], student_cells: Cells, teacher: Float[Tensor, "b k h w"], cells: Cells
) -> Float[Tensor, "b k"]:
    """Computes the Jensen-Shannon divergence of the maps on the teacher's cells, 0 to ln 2."""
    return losses.js(resized(student, student_cells, cells), teacher)


# -------------------------------------------------------------------------------------------------- which losses


@dataclass(frozen=True)
class Terms:
    """Says which quantities are compared for a pair, and what a user must know about it."""

    keypoints: bool
    jacobians: bool
    own_cells: Cells | None = None  # of the student's maps, where heatmaps are compared
    cells: Cells | None = None  # of the teacher's
    student_level: int | None = None  # where attention is compared
    teacher_level: int | None = None
    words: tuple[str, ...] = ()

    @property
    def heatmaps(self) -> bool:
        """Tells whether maps are compared."""
        return self.cells is not None

    @property
    def attention(self) -> bool:
        """Tells whether maps of the backbones are compared."""
        return self.teacher_level is not None

    @property
    def fields(self) -> tuple[str, ...]:
        """Names what of the teacher's `Signals` is compared."""
        compared = {"jacobian": self.jacobians, "maps": self.heatmaps, "feature": self.attention}
        return ("xy_unit", *(name for name, is_compared in compared.items() if is_compared))


def common_fields(student: Offer, teacher: Offer) -> tuple[str, ...]:
    """Names what of `Signals` both have, so that it can be scored."""
    common = {
        "jacobian": student.jacobians and teacher.jacobians,
        "maps": student.cells is not None and teacher.cells is not None,
    }
    return ("xy_unit", *(name for name, is_common in common.items() if is_common))


def terms_of(student: Offer, teacher: Offer, spec: DistillationSpec) -> Terms:
    """Lists what the spec's loss compares for this pair. UserError where the pair can't have it, which names those it can."""
    reasons = why_not(student, teacher, spec)
    if reasons[spec.loss]:
        possible = [loss for loss, reason in reasons.items() if not reason]
        raise UserError(
            f"--loss {spec.loss}",
            f"{reasons[spec.loss]}. Possible for this pair: {', '.join(possible) or 'none of them'}",
        )
    words = []
    jacobians = student.jacobians and teacher.jacobians
    if not jacobians:
        without = [name for name, offer in (("student", student), ("teacher", teacher)) if not offer.jacobians]
        whose = f"the {without[0]} has" if len(without) == 1 else "student and teacher have"
        words.append(f"{whose} no Jacobians: L1 is of points alone")
    if not student.teachable:
        words.append(
            f"the student's decoder lets no gradient pass from its points ({student.method}): it learns by maps"
        )
    if student.sigmas:
        words.append(
            "how sure the student is (its sigma, and the score made of it) is learnt from labels: here it means nothing"
        )
    cells = (student.cells, teacher.cells) if spec.loss in WITH_HEATMAPS else (None, None)
    levels: tuple[int, int] | tuple[None, None] = (None, None)
    if spec.loss == "L3":
        levels = _levels(student, teacher, spec)
        of_student, of_teacher = student.levels[levels[0]], teacher.levels[levels[1]]
        words.append(
            f"attention: the student's level {levels[0]} ({of_student.channels} channels, {of_student.grid} cells) against the teacher's "
            f"{levels[1]} ({of_teacher.channels}, {of_teacher.grid})"
        )
    return Terms(student.teachable, jacobians, *cells, *levels, tuple(words))


def decided(student: Offer, teacher: Offer, spec: DistillationSpec) -> DistillationSpec:
    """Chooses the loss of a pair where the spec left it open: KL where both have heatmaps, else L1."""
    if spec.loss != "auto":
        return spec
    return replace(spec, loss="L1" if why_not(student, teacher, spec)["KL"] else "KL")


def why_not(student: Offer, teacher: Offer, spec: DistillationSpec) -> dict[str, str]:
    """Says of each loss why a pair can't have it, "" where it can."""
    return {loss: _missing(student, teacher, spec, loss) for loss in TAUGHT}


def _missing(student: Offer, teacher: Offer, spec: DistillationSpec, loss: str) -> str:
    """Why a pair can't have a loss, "" where it can."""
    if loss == "L1" and not student.teachable:
        return (
            f"the student's decoder ({student.method}) lets no gradient pass from its points; its head has another "
            "(--set head.decoder=square)"
        )
    if loss in WITH_HEATMAPS:
        without = [name for name, offer in (("student", student), ("teacher", teacher)) if offer.cells is None]
        if without:
            method = student.method if without[0] == "student" else teacher.method
            return f"compares heatmaps, and the {without[0]}'s method {method!r} has none"
    if loss == "L3":
        try:
            _levels(student, teacher, spec)
        except UserError as error:
            return str(error)
    return ""


def _levels(student: Offer, teacher: Offer, spec: DistillationSpec) -> tuple[int, int]:
    """The student's and the teacher's level whose attention is compared, from 0."""
    of_teacher = _index(spec.teacher_level, teacher, "teacher_level", -1)
    grid = teacher.levels[of_teacher].grid

    def fits(shape: Shape) -> bool:
        return shape.grid.w >= grid.w and shape.grid.h >= grid.h

    deepest = max((i for i, shape in enumerate(student.levels) if fits(shape)), default=-1)
    of_student = _index(spec.student_level, student, "student_level", deepest)
    own = student.levels[of_student].grid
    if not fits(student.levels[of_student]):
        raise UserError(
            f"the student's map of {own} cells (distillation.student_level={of_student}) is coarser than the teacher's of "
            f"{grid}; choose a finer level of the student's or a coarser one of the teacher's (distillation.teacher_level)"
        )
    return of_student, of_teacher


def _index(asked: int | None, offer: Offer, name: str, usual: int) -> int:
    count = len(offer.levels)
    number = usual if asked is None else asked
    if not -count <= number < count:
        shapes = ", ".join(f"{i}: {shape.grid}" for i, shape in enumerate(offer.levels))
        raise UserError(f"distillation.{name}={number}: the backbone has {count} levels ({shapes})")
    return number % count
