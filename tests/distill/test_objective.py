"""The losses by other means, and that the teacher stays what it was."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from distill.small import SIZE, crops, detector_of, saved, twin
from torch import nn

from fiducial.distillation import teacher as teachers
from fiducial.distillation.objective import Distillation
from fiducial.distillation.signals import Signals, offer_of, signals_of, terms_of
from fiducial.distillation.spec import DistillationSpec
from fiducial.distillation.teacher import Asked, Teacher
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.models.detector import Detector


def objective_of(student: Detector, teacher: Teacher, loss: Any = "L3", **weights: Any) -> Distillation:
    spec = DistillationSpec(loss=loss, **weights)
    terms = terms_of(offer_of(student), teacher.offer, spec)
    return Distillation(student, teacher, Asked(teacher.detector, terms.teacher_level), terms, spec)


def equal_matching(objective: Distillation) -> None:
    """The matching that changes nothing."""
    assert objective.matching is not None
    nn.init.dirac_(objective.matching.project.weight)
    assert objective.matching.project.bias is not None
    nn.init.zeros_(objective.matching.project.bias)


def test_a_students_loss_is_zero_in_all_parts_where_it_is_its_teacher(motion_teacher: Teacher):
    objective = objective_of(twin(motion_teacher.detector), motion_teacher)
    equal_matching(objective)
    losses = objective.eval()(crops(4))
    assert list(losses) == ["keypoints", "jacobians", "heatmaps", "attention"]
    for name, value in losses.items():
        assert float(value.detach()) == pytest.approx(0, abs=1e-12), name
    other = objective_of(detector_of(seed=1), motion_teacher).eval()(crops(4))
    assert all(float(value.detach()) > 1e-6 for value in other.values()), other


@pytest.mark.parametrize(
    ("loss", "names"),
    [
        ("L1", ["keypoints", "jacobians"]),
        ("L2", ["keypoints", "jacobians", "heatmaps"]),
        ("L3", ["keypoints", "jacobians", "heatmaps", "attention"]),
    ],
)
def test_losses_are_mean_squared_errors(motion_teacher: Teacher, loss: str, names: list[str]):
    """Each a plain mean squared error, here by numpy; heatmaps times the number of cells unless asked otherwise."""
    student = detector_of(seed=1)
    objective = objective_of(student, motion_teacher, loss).eval()
    batch = crops(5)
    with torch.no_grad():
        own = signals_of(student, batch.image, objective.terms.student_level)
        theirs = signals_of(motion_teacher.detector, batch.image, objective.terms.teacher_level)
        found = {name: float(value) for name, value in objective(batch).items()}
        matched = None if objective.matching is None else objective.matching(own.feature).numpy()

    def corner(signals: Signals) -> np.ndarray:
        px = signals.xy_unit.numpy() * SIZE - 0.5
        return px * 2 / (np.array(SIZE) - 1) - 1

    assert own.jacobian is not None
    assert theirs.jacobian is not None
    assert own.maps is not None
    assert theirs.maps is not None
    expected = {
        "keypoints": ((corner(own) - corner(theirs)) ** 2).mean(),
        "jacobians": ((own.jacobian.numpy() - theirs.jacobian.numpy()) ** 2).mean(),
        "heatmaps": ((own.maps.numpy() - theirs.maps.numpy()) ** 2).sum((-2, -1)).mean(),
    }
    if matched is not None:
        assert theirs.feature is not None
        maps = [(each**2).sum(1).reshape(5, -1) for each in (matched, theirs.feature.numpy())]
        maps = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in maps]
        expected["attention"] = ((maps[0] - maps[1]) ** 2).mean()
    assert list(found) == names
    assert found == pytest.approx({name: expected[name] for name in names}, rel=1e-4)


def test_weights_multiply_and_the_heatmap_term_of_weight_1_is_a_mean(motion_teacher: Teacher):
    student, batch = detector_of(seed=1), crops(4)
    usual = objective_of(twin(student), motion_teacher, "L2").eval()(batch)
    cells = motion_teacher.offer.cells
    assert cells is not None
    mean_of_cells = objective_of(twin(student), motion_teacher, "L2", heatmaps=1.0, keypoints=3.0).eval()(batch)
    torch.testing.assert_close(mean_of_cells["heatmaps"] * cells.grid.w * cells.grid.h, usual["heatmaps"])
    torch.testing.assert_close(mean_of_cells["keypoints"], 3 * usual["keypoints"])
    without = objective_of(twin(student), motion_teacher, "L2", jacobians=0.0)
    assert list(without.eval()(batch)) == ["keypoints", "heatmaps"]
    with pytest.raises(UserError, match="all weights are 0"):
        objective_of(twin(student), motion_teacher, "L1", jacobians=0.0, keypoints=0.0)


def test_kl_is_the_divergence_of_the_students_maps_from_the_teachers(motion_teacher: Teacher):
    """By numpy, of two networks with the same cells."""
    student, batch = detector_of(seed=1), crops(4)
    found = objective_of(twin(student), motion_teacher, "KL").eval()(batch)
    with torch.no_grad():
        own, theirs = (signals_of(each, batch.image).maps for each in (student, motion_teacher.detector))
    assert own is not None
    assert theirs is not None
    p, q = theirs.numpy().astype(np.float64), own.numpy().astype(np.float64)
    apart = (p * (np.log(p + 1e-30) - np.log(q + 1e-30))).sum((-2, -1)).mean()
    assert float(found["heatmaps"].detach()) == pytest.approx(apart, rel=1e-3)


def test_the_loss_of_each_sample_alone(motion_teacher: Teacher):
    objective, batch = objective_of(detector_of(seed=1), motion_teacher).eval(), crops(4)
    total = torch.stack(list(objective(batch).values())).sum()
    each = objective.each(batch)
    assert each.shape == (4,)
    torch.testing.assert_close(each.mean(), total.detach())
    single = objective.each(type(batch)(*(column[1:2] for column in batch)))
    torch.testing.assert_close(single[0], each[1], rtol=1e-4, atol=1e-7)


def test_the_teacher_gets_no_gradient_and_its_norms_do_not_move(motion_teacher: Teacher):
    before = copy.deepcopy(motion_teacher.detector.state_dict())
    objective = objective_of(detector_of(seed=1), motion_teacher).train()
    optimizer = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=0.1)
    for step in range(3):
        optimizer.zero_grad()
        torch.stack(list(objective(crops(4, seed=step)).values())).sum().backward()
        optimizer.step()
    assert not motion_teacher.detector.training
    assert all(parameter.grad is None for parameter in motion_teacher.detector.parameters())
    for name, value in motion_teacher.detector.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert teachers.fingerprint_of(motion_teacher.detector) == motion_teacher.fingerprint


def test_the_state_is_the_students_and_the_matchings(motion_teacher: Teacher):
    objective = objective_of(detector_of(seed=1), motion_teacher)
    roots = {name.split(".")[0] for name in objective.state_dict()}
    assert roots == {"detector", "matching"}
    trial = copy.deepcopy(objective)
    answers: Any = (trial.answers, objective.answers)
    assert answers[0] is answers[1], "trials share the teacher"


def test_every_parameter_that_is_trained_gets_a_gradient_and_no_other(tmp_path):
    teacher = saved(detector_of("deeppose"), tmp_path / "teacher")
    objective = objective_of(detector_of("integral", loss="rle", seed=1), teacher, "L1").train()
    torch.stack(list(objective(crops(4)).values())).sum().backward()
    for name, parameter in objective.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name
    left = {name.split(".")[2] for name, parameter in objective.named_parameters() if not parameter.requires_grad}
    assert left == {"likelihood", "scale"}, "the flow of the likelihood and its scales have no part in this"


def test_a_frozen_backbone_gets_no_gradient(motion_teacher: Teacher):
    objective = objective_of(detector_of(seed=1), motion_teacher)
    objective.frozen = True
    objective.train()
    torch.stack(list(objective(crops(4)).values())).sum().backward()
    assert all(parameter.grad is None for parameter in objective.detector.backbone.parameters())
    assert any(parameter.grad is not None for parameter in objective.detector.head.parameters())


def test_crops_of_another_size_are_brought_to_the_teachers(tmp_path):
    """The same picture in twice the size: the same answers, up to how sharp it is."""
    teacher = saved(detector_of("integral", size=SIZE), tmp_path / "teacher")
    small, large = crops(3), crops(3, size=Size(2 * SIZE.w, 2 * SIZE.h))
    own, brought = (Asked(teacher.detector)(batch).xy_unit for batch in (small, large))
    torch.testing.assert_close(own, brought, atol=0.01, rtol=0)
    student = detector_of("integral", size=Size(2 * SIZE.w, 2 * SIZE.h), seed=1)
    losses = objective_of(student, teacher, "L2").eval()(large)
    assert all(torch.isfinite(value) for value in losses.values())
