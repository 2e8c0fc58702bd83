"""What the student minimises: its distance from the teacher's answers, by the losses of `DistillationSpec`."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from fiducial.distillation import transfer
from fiducial.distillation.signals import Signals, Terms, offer_of, signals_of, squared_errors
from fiducial.distillation.spec import DistillationSpec
from fiducial.distillation.teacher import Teacher, TeacherAnswers
from fiducial.distillation.transfer import Matching
from fiducial.errors import UserError
from fiducial.models import losses
from fiducial.models.detector import Detector
from fiducial.models.resizing import resized
from fiducial.training.objective import Objective
from fiducial.types import Batch


class Distillation(Objective):
    """Trains the student, and for L3 what matches its map with the teacher's.

    The teacher is in no checkpoint and gets no gradient."""

    def __init__(
        self, detector: Detector, teacher: Teacher, answers: TeacherAnswers, terms: Terms, spec: DistillationSpec
    ):
        super().__init__()
        self.detector, self.terms, self.spec = detector, terms, spec
        self.answers = answers
        self.matching: Matching | None = None
        if terms.student_level is not None and terms.teacher_level is not None:
            levels, teacher_levels = offer_of(detector).levels, teacher.offer.levels
            self.matching = Matching(levels[terms.student_level], teacher_levels[terms.teacher_level])
        self._leave_out_unused()

    def forward(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        return {name: loss.mean() for name, loss in self.losses_of(batch).items()}

    @torch.no_grad()
    def each(self, batch: Batch) -> Float[Tensor, " b"]:
        return torch.stack(list(self.losses_of(batch).values())).sum(0)

    def losses_of(self, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        """Computes the weighted losses of each sample; one of weight 0 is not there."""
        student = self._of_student(batch.image)
        teacher = self.answers(batch)
        with torch.autocast(batch.image.device.type, enabled=False):
            return self.compared(student, teacher)

    def compared(self, student: Signals, teacher: Signals) -> dict[str, Float[Tensor, " b"]]:
        """Compares a student's signals with its teacher's, as `losses_of` does."""
        spec, terms = self.spec, self.terms
        weights = {"keypoints": terms.keypoints * spec.keypoints, "jacobians": terms.jacobians * spec.jacobians}
        errors = squared_errors(student, teacher, self.detector.spec.size)
        weighted = {name: weights[name] * error for name, error in errors.items() if weights[name]}
        if terms.own_cells is not None and terms.cells is not None and student.maps is not None and spec.heatmaps != 0:
            assert teacher.maps is not None
            maps = resized(student.maps, terms.own_cells, terms.cells)
            if spec.loss == "KL":
                error, usual = losses.kl(teacher.maps, maps).mean(1), 1.0
            else:
                error, usual = ((maps - teacher.maps) ** 2).mean((1, 2, 3)), teacher.maps[0, 0].numel()
            weighted["heatmaps"] = (usual if spec.heatmaps is None else spec.heatmaps) * error
        if self.matching is not None and student.feature is not None and spec.attention:
            assert teacher.feature is not None
            matched = self.matching(student.feature)
            error = transfer.attention_mse(matched, teacher.feature, spec.power, spec.normalise)
            weighted["attention"] = spec.attention * error
        return weighted

    def _of_student(self, image: UInt8[Tensor, "b h w 3"]) -> Signals:
        return signals_of(self.detector, image, self.terms.student_level, frozen=self.frozen)

    def _leave_out_unused(self) -> None:
        """What no term reaches (a likelihood's flow, say) is not trained: a parameter that waits for a gradient stops a run
        on several devices."""
        size, terms, spec = self.detector.spec.size, self.terms, self.spec
        self.eval()
        signals = self._of_student(torch.zeros(1, size.h, size.w, 3, dtype=torch.uint8))
        compared = (
            (signals.xy_unit, terms.keypoints and spec.keypoints),
            (signals.jacobian, terms.jacobians and spec.jacobians),
            (signals.maps, terms.heatmaps and spec.heatmaps != 0),
            (None if self.matching is None else self.matching(signals.feature), spec.attention),
        )
        reached = [value.sum() for value, weight in compared if value is not None and weight]
        if not reached:
            raise UserError("distillation: all weights are 0, so there is nothing to learn; expected one above 0")
        torch.stack(reached).sum().backward()
        for parameter in self.parameters():
            parameter.requires_grad_(parameter.grad is not None)
        self.zero_grad(set_to_none=True)
        self.train()
