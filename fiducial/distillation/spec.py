"""What is chosen for a run of `fiducial distill` beyond what every run has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fiducial.errors import expect
from fiducial.motion.recipes import MotionRecipe

Loss = Literal["auto", "L1", "L2", "L3", "KL", "none"]
TAUGHT = ("L1", "L2", "L3", "KL")  # by a teacher
WITH_HEATMAPS = ("L2", "L3", "KL")


@dataclass(frozen=True)
class DistillationSpec:
    """Chooses the losses between student and teacher: mean squared errors, and one divergence, each times its weight."""

    # L1 = keypoints and Jacobians; L2 = L1 and heatmaps; L3 = L2 and attention; KL = L1 and the heatmaps' divergence, which
    # has a gradient also where two peaks do not touch, as a squared error of maps, or of means under peaks, has not.
    # none = without the teacher, by labels or else by motion: what the others are held against. auto = KL where the pair
    # has heatmaps, else L1.
    loss: Loss = "auto"
    keypoints: float = 1.0  # of coordinates in -1..1
    jacobians: float = 1.0  # of displacements in the same frame, so of scales around 1
    # Of maps that sum to one. Their mean over the cells shrinks as the cells multiply (two maps with nothing in common
    # differ by 2 over the number of cells at most), to a thousandth of the other terms. None = as many as the teacher's
    # map has cells: the term is then the sum over the cells, 0 to 2, of the keypoints' size. 1 = the mean. Of KL, in
    # nats, None = 1.
    heatmaps: float | None = None
    attention: float = 1.0  # of maps of length one: 4 over their number of cells at most
    power: float = 2.0  # of the activations, of which attention is the sum over channels
    # Attention maps of length one; without, strength counts too, which is of another order in each
    # pair of networks: then `attention` must be chosen anew for each.
    normalise: bool = True
    # Backbone levels whose attention is compared, fine to coarse, from 0; negative = from the coarsest. None = the
    # teacher's coarsest, and the student's coarsest that has as many cells or more.
    teacher_level: int | None = None
    student_level: int | None = None
    # The teacher's answers to all plain crops are kept on disk. Without, it looks at each augmented crop anew, and crops
    # are moved too: students come nearer to it, in twice the time.
    cache: bool = True

    def __post_init__(self) -> None:
        for name in ("keypoints", "jacobians", "attention"):
            expect(getattr(self, name) >= 0, f"distillation.{name}", getattr(self, name), "0 or more")
        expect(self.heatmaps is None or self.heatmaps >= 0, "distillation.heatmaps", self.heatmaps, "0 or more")
        expect(self.power >= 1, "distillation.power", self.power, "at least 1")


@dataclass(frozen=True)
class DistillationRecipe(MotionRecipe):
    """Holds what `fiducial distill` does: a recipe, how the teacher is followed, and, for a student that learns by what moves,
    what is about frames."""

    distillation: DistillationSpec = DistillationSpec()
